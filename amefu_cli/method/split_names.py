"""Names that a list means but does not spell as the disk does: `brush hairs` for `brush_hair`. Names in, names out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher

ALIKE = 0.8  # of two words: 2 * letters in common / letters of both


def letters(name: str) -> str:
    """A name without case, spaces and punctuation.

    >>> letters("Brush_hair")
    'brushhair'
    """
    return "".join(character for character in name.casefold() if character.isalnum())


def same_letters(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """For names that are not there, the one that differs in case, spaces and punctuation alone, if there is just one.

    >>> same_letters(["brush hair", "climb"], ["brush_hair", "run"])
    {'brush hair': 'brush_hair'}
    """
    wanted, there = set(wanted), set(there)
    spelled: dict[str, list[str]] = {}
    for name in there - wanted:
        spelled.setdefault(letters(name), []).append(name)
    found = {name: spelled.get(letters(name), []) for name in sorted(wanted - there)}
    return _one_to_one({name: names[0] for name, names in found.items() if len(names) == 1})


def near_names(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """As `same_letters`, and besides the name there with as many words, each alike and with the same first letter
    (`unfolding` is not `folding`).

    >>> near_names(["brush hairs", "swing baseketball", "golf"], ["brush_hair", "swing_baseball", "shoot_ball"])
    {'brush hairs': 'brush_hair', 'swing baseketball': 'swing_baseball'}
    """
    wanted, there = set(wanted), set(there)
    found = same_letters(wanted, there)
    free = sorted(there - wanted - set(found.values()))
    nearest = {}
    for name in sorted(wanted - there - found.keys()):
        ranked = sorted(((_likeness(name, other), other) for other in free), reverse=True)
        if ranked and ranked[0][0] >= ALIKE and (len(ranked) == 1 or ranked[0][0] > ranked[1][0]):
            nearest[name] = ranked[0][1]
    return dict(sorted({**found, **_one_to_one(nearest)}.items()))


def _likeness(name: str, other: str) -> float:
    """How alike the least alike words of two names are; 0 where their number or their first letters differ."""
    words, others = _words(name), _words(other)
    if len(words) != len(others) or not words:
        return 0.0
    pairs = list(zip(words, others, strict=True))
    if any(word[0] != with_word[0] for word, with_word in pairs):
        return 0.0
    return min(SequenceMatcher(None, *pair).ratio() for pair in pairs)


def _words(name: str) -> list[str]:
    """Words in lower case; a capital inside a word begins one: `PlayingDaf` is playing, daf."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).casefold())


def _one_to_one(proposed: dict[str, str]) -> dict[str, str]:
    """Without the names that two others would both become."""
    count = Counter(proposed.values())
    return {name: other for name, other in proposed.items() if count[other] == 1}
