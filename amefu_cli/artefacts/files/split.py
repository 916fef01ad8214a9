"""split.json: which classes are base (train), validation (val) and novel (test), and maybe which videos of them; and
what the field has in its place: lists of videos or of classes, and folders called as parts of a split."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from amefu_cli.artefacts.files.atomic import to_json, write_atomic
from amefu_cli.artefacts.files.names import VIDEO_SUFFIXES, class_of, typed_text
from amefu_cli.errors import UsageError
from amefu_cli.settings import BUILT_IN

if TYPE_CHECKING:
    import numpy as np

KEYS = {"train": "base", "val": "validation", "test": "novel"}
FOLDERS = "folders"
_SUFFIX = "|".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
_COLUMN = r"(?:[\s,]+\d+)"
SUFFIX_AND_COLUMNS = re.compile(rf"\.(?:{_SUFFIX}){_COLUMN}*$", re.IGNORECASE)
COLUMNS = re.compile(rf"{_COLUMN}{{1,2}}$")
PARTS = {
    "train": "train", "training": "train", "base": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "novel": "test",
}  # fmt: skip
"""What folders above the classes are called, and the list of a split that each stands for."""
Record = TypeVar("Record")


@dataclass(frozen=True)
class Split:
    """Class names of each part, sorted; disjoint. `videos` are the ids that a list restricts it to; None: all."""

    base: tuple[str, ...]
    validation: tuple[str, ...]
    novel: tuple[str, ...]
    videos: frozenset[str] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names: base, validation, novel."""
        return self.base + self.validation + self.novel

    @cached_property
    def _parts(self) -> dict[str, str]:
        return {name: part for part in KEYS.values() for name in getattr(self, part)}

    def part_of(self, class_name: str) -> str | None:
        """`base`, `validation` or `novel`; None for a class that the split does not name."""
        return self._parts.get(class_name)

    def lists(self, video: str) -> bool:
        """Whether a video belongs to the split: its class, and itself where the split lists videos."""
        return class_of(video) in self._parts and (self.videos is None or video in self.videos)

    def listed(self, records: Mapping[str, Record]) -> dict[str, Record]:
        """What of `records`, by id, belongs to the split."""
        return {video: record for video, record in records.items() if self.lists(video)}

    def spelt_as(self, there: Iterable[str]) -> Split:
        """The split with its names in the form of the videos `there`: of one `é` or of `e` and an accent, with
        or without brackets."""
        videos = set(there)
        classes = {class_of(video) for video in videos}
        known = videos | classes
        composed = {_composed(name): name for name in known}

        def spelt(name: str) -> str:
            return name if name in known else composed.get(_composed(name), name)

        def listed(video: str) -> str:
            found = spelt(video)
            return found if found in videos else f"{spelt(class_of(video))}/{video.partition('/')[2]}"

        parts = [map(spelt, part) for part in (self.base, self.validation, self.novel)]
        return make_split(*parts, source="the split", videos=None if self.videos is None else map(listed, self.videos))

    def missing(self, part: str, there: Iterable[str]) -> list[str]:
        """The listed videos of one part that are not `there`, sorted; none where the split lists no videos."""
        lacking = (self.videos or frozenset()).difference(there)
        return sorted(video for video in lacking if self.part_of(class_of(video)) == part)

    def present(self, part: str, class_names: Iterable[str]) -> tuple[str, ...]:
        """The classes of one part that are among `class_names`."""
        there = set(class_names)
        return tuple(name for name in getattr(self, part) if name in there)

    def crosses(self, videos: Iterable[str]) -> bool:
        """Whether videos of the split stand in two or more classes."""
        return len({class_of(video) for video in videos if self.lists(video)}) > 1


def make_split(
    train: Iterable[str], val: Iterable[str], test: Iterable[str], *, source: str, videos: Iterable[str] | None = None
) -> Split:
    """A split of the three lists; raises UsageError, naming the classes, where two of them share one."""
    parts = {"train": set(train), "val": set(val), "test": set(test)}
    for first, second in itertools.combinations(parts, 2):
        if shared := sorted(parts[first] & parts[second]):
            rule = "base, validation and novel classes must be disjoint: take each out of one of them"
            raise UsageError(f"{source}: {first} and {second} share {', '.join(map(repr, shared))}; {rule}")
    base, validation, novel = (tuple(sorted(part)) for part in parts.values())
    return Split(base, validation, novel, None if videos is None else frozenset(videos))


def read_split(path: Path) -> Split:
    """A split file: TOML or JSON with the keys train, val and test, lists of class names, and maybe `videos`, of ids.
    Raises UsageError where it is absent, not TOML or JSON, of another shape, or has a class in two lists."""
    kind = "TOML" if path.suffix == ".toml" else "JSON"
    try:
        text = typed_text(path)
        document: Any = tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such split file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a {kind} split file: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: must hold the keys train, val and test, each a list of class names")
    kinds = {**dict.fromkeys(KEYS, "class names"), "videos": "ids, class/video"}
    lists: dict[str, Any] = {"val": [], "videos": None, **document}
    for key, kind in kinds.items():
        names = lists.get(key)
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not is_list and (key != "videos" or names is not None):
            raise UsageError(f"{path}: {key!r} must be a list of {kind}")
    return make_split(*(lists[key] for key in KEYS), source=str(path), videos=lists["videos"])


def write_split(path: Path, split: Split, **notes: Any) -> None:
    """Write a split as JSON, with notes on how it was made."""
    document: dict[str, Any] = {key: list(getattr(split, part)) for key, part in KEYS.items()}
    if split.videos is not None:
        document["videos"] = sorted(split.videos)
    write_atomic(path, to_json(document | notes))


def draw_split(class_names: Sequence[str], *, ratio: str, rng: np.random.Generator) -> Split:
    """Deal class names out at random, in the shares of `ratio` ("64:12:24", largest remainders first). The same names,
    ratio and state of `rng` give the same split, whatever the order of the names. Raises UsageError where the ratio is
    not three whole numbers, or leaves no class to train on or to evaluate."""
    shares = _parse_ratio(ratio)
    names = sorted(set(class_names))
    counts = _deal(len(names), shares)
    if counts[0] == 0 or counts[2] == 0:
        given = f"{len(names)} classes give {counts[0]} base, {counts[1]} validation and {counts[2]} novel ones"
        raise UsageError(f"--split-ratio {ratio}: {given}; at least one base and one novel class are needed")
    order = [names[index] for index in rng.permutation(len(names))]
    first, second = counts[0], counts[0] + counts[1]
    return make_split(order[:first], order[first:second], order[second:], source="--split-ratio")


def _parse_ratio(ratio: str) -> tuple[int, int, int]:
    try:
        base, validation, novel = (int(part) for part in ratio.split(":"))
    except ValueError as error:
        raise UsageError(f"--split-ratio {ratio!r}: must be three whole numbers, such as 64:12:24") from error
    if min(base, validation, novel) < 0 or base + validation + novel == 0:
        raise UsageError(f"--split-ratio {ratio!r}: must be three whole numbers from 0, not all 0")
    return base, validation, novel


def _deal(count: int, shares: tuple[int, int, int]) -> list[int]:
    """Whole numbers that sum to `count`, as near to the shares as they get.

    >>> _deal(15, (64, 12, 24))
    [9, 2, 4]
    """
    exact = [count * share / sum(shares) for share in shares]
    dealt = [int(value) for value in exact]
    by_remainder = sorted(range(3), key=lambda part: dealt[part] - exact[part])
    for part in by_remainder[: count - sum(dealt)]:
        dealt[part] += 1
    return dealt


def load_split(source: str) -> Split:
    """The split of a built-in name, a .json or .toml file, a folder or prefix of three lists, or `A.txt,B.txt,C.txt`.

    The folder `lists` stands for `lists/*train.txt`, `lists/*val.txt` and `lists/*test.txt`; `lists/ucf101` for
    `lists/ucf101_train.txt` and so on. Raises UsageError where it is none of these, for a line that is no
    `class/video` nor a class name, and for a class that stands in two lists.
    """
    if source in BUILT_IN:
        return built_in_split(source)
    path = Path(source)
    if path.suffix in (".json", ".toml"):
        return read_split(path)
    if path.is_dir():
        paths = [_only_list(path, f"*{key}.txt") for key in KEYS]
    elif Path(f"{source}_train.txt").is_file():
        paths = [Path(f"{source}_{key}.txt") for key in KEYS]
    elif source.count(",") == 2:
        paths = [Path(part) for part in source.split(",")]
    else:
        raise UsageError(
            f"--split {source}: must be {', '.join(BUILT_IN)}, a .json or .toml file, {FOLDERS}, a folder or prefix of "
            "lists, or three lists: train.txt,val.txt,test.txt"
        )
    lists = [read_list(path) for path in paths]
    shown, entries = ", ".join(map(str, paths)), [entry for some in lists for entry in some]
    if len({"/" in entry for entry in entries}) > 1:
        raise UsageError(f"{shown}: some list videos and some class names alone; give all in one form")
    classes = [{class_of(entry) for entry in some} for some in lists]
    return make_split(*classes, source=shown, videos=entries if "/" in entries[0] else None)


def built_in_split(name: str) -> Split:
    """A split of the field by name: its classes, with whatever videos are there."""
    text = (files("amefu_cli.artefacts.files") / "data" / "splits.json").read_text(encoding="utf-8")
    document: Any = json.loads(text)
    return make_split(*(document[name][key] for key in KEYS), source=name)


def split_of_folders(sources: Mapping[str, str]) -> Split:
    """The split that the folders above the classes are. `sources` are paths below VIDEOS, by id. Raises UsageError for
    a video that lies below none, and for a class in two of them."""
    classes: dict[str, set[str]] = {key: set() for key in KEYS}
    for video, source in sources.items():
        part = part_above(video, source)
        if part is None:
            raise UsageError(f"--split {FOLDERS}: {source} lies in no train/, val/ or test/ above its class")
        classes[part].add(class_of(video))
    return make_split(*classes.values(), source=f"--split {FOLDERS}")


def _composed(name: str) -> str:
    """A name without its brackets: Something-Something writes `Holding [something]`, its lists `Holding something`."""
    return unicodedata.normalize("NFC", name).replace("[", "").replace("]", "")


def _only_list(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern)) or sorted(folder.glob(pattern.replace(".", "*.")))
    if len(found) != 1:
        raise UsageError(
            f"--split {folder}: {len(found)} files are named {pattern}; exactly one is needed: give a prefix, such as "
            f"{folder}/ucf101, or the lists, train.txt,val.txt,test.txt"
        )
    return found[0]


def part_above(video: str, source: str) -> str | None:
    """Which list of a split (train, val, test) the folder above a video's class stands for; None where there is none.

    >>> part_above("run/1", "train/run/1.mp4"), part_above("train/run/1", "train/run/1.mp4")
    ('train', None)
    """
    part, _, below = source.partition("/")
    is_above = class_of(below) == class_of(video) and not video.startswith(f"{part}/{class_of(video)}/")
    return PARTS.get(part.lower()) if is_above else None


def read_list(path: Path) -> list[str]:
    """The ids of one list, in its order: `class/video`, maybe with a suffix and with a count of frames and a label
    behind it; or its class names, where each line is one."""
    try:
        text = typed_text(path)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such list of videos") from error
    except ValueError as error:
        raise UsageError(f"{path}: not a text file: {error}") from error
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), start=1) if line.strip()}
    if not lines:
        raise UsageError(f"{path}: lists no video")
    if not any("/" in line or SUFFIX_AND_COLUMNS.search(line) for line in lines.values()):
        return _without_numbers([*lines.values()])
    for number, line in lines.items():
        if not all(line.partition("/")):
            raise UsageError(f"{path}: line {number} is {line!r}; a line must be class/video")
    ids = _without_columns(lines.values())
    above = {class_of(video) for video in ids}
    if len(above) == 1 and above <= PARTS.keys() and all(video.count("/") > 1 for video in ids):
        return [video.partition("/")[2] for video in ids]  # train/class/video, from the folder of all parts
    return ids


def _without_columns(lines: Iterable[str]) -> list[str]:
    """Entries without suffix, count of frames and label. Where there is no suffix, numbers at the end are columns if
    the last of them is the same in all lines of a class and another in each class: else `run/clip 1` is a name."""
    found = {line: SUFFIX_AND_COLUMNS.sub("", line) for line in lines}
    bare = {line: COLUMNS.search(line) for line, entry in found.items() if entry == line}
    labels = {(class_of(line), columns[0].split()[-1]) for line, columns in bare.items() if columns}
    counts = {len(columns[0].replace(",", " ").split()) for columns in bare.values() if columns}
    told_apart = len({name for name, _ in labels}) == len(labels) == len({label for _, label in labels})
    if all(bare.values()) and told_apart and (len(bare) > len(labels) or counts == {2}):
        found |= {line: line[: -len(columns[0])] for line, columns in bare.items() if columns}
    return list(found.values())


def _without_numbers(names: list[str]) -> list[str]:
    """Class names without the number that a list of classes gives to each, before or behind it."""
    for number in (re.compile(r"^\d+[\s,]+"), re.compile(r"[\s,]+\d+$")):
        found = [match[0].strip(" \t,") for name in names if (match := number.search(name))]
        if len(names) > 1 and len(set(found)) == len(names):
            names = [number.sub("", name) for name in names]
    return names
