"""Lists of videos and of classes as the field writes them, and folders called as parts of a split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from amefu_cli.artefacts.files.names import VIDEO_SUFFIXES, class_of, typed_text
from amefu_cli.errors import UsageError

_SUFFIX = "|".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
_COLUMN = r"(?:[\s,]+\d+)"
SUFFIX_AND_COLUMNS = re.compile(rf"\.(?:{_SUFFIX}){_COLUMN}*$", re.IGNORECASE)
COLUMNS = re.compile(rf"{_COLUMN}{{1,2}}$")
PARTS = {
    "train": "train", "training": "train", "base": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test", "novel": "test",
}  # fmt: skip
"""What folders above the classes are called, and the list of a split that each stands for."""


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
