"""How a video's id becomes the path of its archive inside a store, and how alike two names are."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from amefu_cli.errors import UsageError

ARCHIVE, DAMAGED = ".zip", ".bad"  # of equal length, so that a damaged archive can always be renamed
LONGEST_COMPONENT = 255  # bytes: the limit of a file name on the common file systems
ALIKE = 0.8  # of two words: 2 * letters in common / letters of both
PLAIN = re.compile(r"[A-Za-z0-9_ ()-][A-Za-z0-9_ ().,+&-]*")
PLAIN_ID = re.compile(r"(?:[A-Za-z0-9_ ()-][A-Za-z0-9_ (),+&-]*/)*" + PLAIN.pattern)  # a folder's dot may need a look


def archive_path(video: str) -> str:
    """The path of a video's archive below `videos/`; raises UsageError if the id could leave the store.

    Letters, digits and most punctuation stay as they are. What a file system may not take (control characters, `%`,
    `\\`, bytes that are not UTF-8, a leading dot) is percent-encoded, and so is the dot of a folder that is called as
    an archive could be.

    >>> archive_path("archery/v_03 (left)")
    'archery/v_03 (left).zip'
    >>> archive_path("a.zip/50%")
    'a%2Ezip/50%25.zip'
    """
    if len(video) <= LONGEST_COMPONENT - len(ARCHIVE) and PLAIN_ID.fullmatch(video):
        return video + ARCHIVE
    components = video.split("/")
    if any(component in ("", ".", "..") for component in components) or "\0" in video:
        raise UsageError(f"video id {video!r} is not a relative path below a class folder")
    names = [*map(_encode_folder, components[:-1]), _encode(components[-1]) + ARCHIVE]
    for component, name in zip(components, names, strict=True):
        if len(name.encode()) > LONGEST_COMPONENT:
            needs = f"needs {len(name.encode())} bytes as a file name; the limit is {LONGEST_COMPONENT}"
            raise UsageError(f"video id part {component[:40]!r}… {needs}: rename the clip")
    return "/".join(names)


def class_of(video: str) -> str:
    """The class of a video: the first part of its id.

    >>> class_of("archery/outdoors/v_03")
    'archery'
    """
    return video.split("/", 1)[0]


def video_id(path: str) -> str:
    """The id whose archive stands at `path`, sound or damaged: the inverse of `archive_path`."""
    encoded = path[: -len(ARCHIVE)]
    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape") if "%" in encoded else encoded


def _encode_folder(component: str) -> str:
    encoded = _encode(component)
    if encoded.lower().endswith((ARCHIVE, DAMAGED)):  # also on a file system that folds case
        encoded = "%2E".join(encoded.rsplit(".", 1))
    return encoded


def _encode(component: str) -> str:
    if PLAIN.fullmatch(component):
        return component
    encoded = "".join(
        character if character.isprintable() and character not in "%\\"
        else quote(character.encode("utf-8", "surrogateescape"), safe="")
        for character in component
    )  # fmt: skip
    return f"%2E{encoded[1:]}" if component.startswith(".") else encoded


def typed_text(path: Path) -> str:
    """Text as an editor wrote it: UTF-8, or what its byte order mark says. Bytes of other kinds become surrogates.
    Raises OSError, or ValueError where it is not text."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    return content.decode("utf-8-sig", errors="surrogateescape")


def suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


VIDEO_SUFFIXES = suffixes(
    """
    266 3g2 3gp 3gpp amv asf av1 avc avi avs dav dif divx dv f4v flv gif h261 h263 h264 264 h265 265 hevc h266 h26l
    ismv ivf m1v m2p m2t m2ts m2v m4v mj2 mjpeg mjpg mk3d mkv mod mov mp4 mp4v mpe mpeg mpeg4 mpg mpv mts mxf nut
    obu ogm ogv ogx qt rm rmvb swf tod ts trp ty vc1 vid viv vob vvc webm wmv wtv xvid y4m
    """
)


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
    if not words or [word[0] for word in words] != [word[0] for word in others]:
        return 0.0
    return min(SequenceMatcher(None, *pair).ratio() for pair in zip(words, others, strict=True))


def _words(name: str) -> list[str]:
    """Words in lower case; a capital inside a word starts one: `PlayingDaf` is playing, daf."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).casefold())


def _one_to_one(proposed: dict[str, str]) -> dict[str, str]:
    """Without the names that two others would both become."""
    count = Counter(proposed.values())
    return {name: other for name, other in proposed.items() if count[other] == 1}
