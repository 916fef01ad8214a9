"""The workspace folder: it only names the defaults of where every artefact lives."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amefu_cli.errors import DamagedFile, UsageError

CONFIG = "amefu.toml"


@dataclass(frozen=True)
class Workspace:
    """Default paths below one folder; every one of them can be given by an option instead."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / CONFIG

    @property
    def frames(self) -> Path:
        return self.folder / "frames.zarr"

    @property
    def depth(self) -> Path:
        return self.folder / "depth.zarr"

    @property
    def features(self) -> Path:
        return self.folder / "features.zarr"

    @property
    def split(self) -> Path:
        return self.folder / "split.json"

    @property
    def fusion(self) -> Path:
        return self.folder / "fusion.safetensors"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def stream(self, modality: str) -> Path:
        """The checkpoint of one stream: `rgb.safetensors` or `depth.safetensors`."""
        return self.folder / f"{modality}.safetensors"


def noted(path: Path, beside: Path) -> str:
    """How the header of `beside` names another file: from their common folder, so that a workspace can be moved."""
    path, folder = path.resolve(), beside.resolve().parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def located(notes: Mapping[str, Any], name: str, beside: Path) -> Path:
    """Where the file is that `noted` wrote, under `name`, into the notes of the header of `beside`.

    Raises:
        DamagedFile: the notes hold no such path.
    """
    path = notes.get(name)
    if not isinstance(path, str) or "\0" in path:
        raise DamagedFile(f"{beside}: its header does not say where its {name!r} is; make it again with --rebuild")
    return beside.resolve().parent / path


SETS = ("preset", "recipe")


def read_config(path: Path) -> dict[str, Any]:
    """The tables of an `amefu.toml`; empty where there is none.

    Raises:
        UsageError: the file cannot be read, is not TOML, or holds something else than tables, `preset` and `recipe`.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:  # the workspace is a file, say
        raise UsageError(f"{path}: cannot be read: {error.strerror}; choose another --workspace") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    for name, value in document.items():
        if not isinstance(value, Mapping) and not (name in SETS and isinstance(value, str)):
            raise UsageError(f"{path}: {name!r} stands outside of a table; write it below [COMMAND]")
    return document
