"""Where a split comes from: built in by name, a file of class names, or lists of videos in the field's form.

A list holds one `class/video` a line, as the lists of Kinetics-100, HMDB51 and UCF101 do; a suffix and a label after it
(`ApplyEyeMakeup/v_01.avi 1`) are passed over. Three lists make a split: they name its classes and restrict its videos.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.clips import VIDEO_SUFFIXES
from amefu_cli.artefacts.split import KEYS, Split, make_split, read_split
from amefu_cli.errors import UsageError

BUILT_IN = ("kinetics100", "ucf101", "hmdb51")
_SUFFIX = "|".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
SUFFIX_AND_LABEL = re.compile(rf"\.(?:{_SUFFIX})(?:\s+\d+)?$", re.IGNORECASE)


def load_split(source: str) -> Split:
    """The split of a built-in name, a .json or .toml file, a folder or prefix of three lists, or `A.txt,B.txt,C.txt`.

    `lists` stands for `lists/*train.txt`, `lists/*val.txt` and `lists/*test.txt`; `lists/ucf101` for
    `lists/ucf101_train.txt` and so on.

    Raises:
        UsageError: none of these; a line that is no `class/video`; a class that stands in two lists.
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
            f"--split {source}: must be {', '.join(BUILT_IN)}, a .json or .toml file, a folder or prefix of lists, or "
            "three lists: train.txt,val.txt,test.txt"
        )
    return read_lists(paths)


def built_in_split(name: str) -> Split:
    """A split of the field by name: its classes, with whatever videos are there."""
    document: Any = json.loads((files("amefu_cli.artefacts") / "data" / "splits.json").read_text(encoding="utf-8"))
    return make_split(*(document[name][key] for key in KEYS), source=name)


def read_lists(paths: list[Path]) -> Split:
    """The split of three lists: train, val, test."""
    videos = [read_list(path) for path in paths]
    classes = [{video.split("/", 1)[0] for video in some} for some in videos]
    source = ", ".join(str(path) for path in paths)
    return make_split(*classes, source=source, videos=[video for some in videos for video in some])


def read_list(path: Path) -> list[str]:
    """The ids of one list, in its order."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such list of videos") from error
    ids = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = SUFFIX_AND_LABEL.sub("", line.strip())
        if not entry:
            continue
        if not all(entry.partition("/")):
            raise UsageError(f"{path}: line {number} is {line.strip()!r}; a line must be class/video")
        ids.append(entry)
    if not ids:
        raise UsageError(f"{path}: lists no video")
    return ids


def _only_list(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise UsageError(
            f"--split {folder}: {len(found)} files are named {pattern}; exactly one is needed: give a prefix, such as "
            f"{folder}/ucf101, or the lists, train.txt,val.txt,test.txt"
        )
    return found[0]
