"""The workspace folder: it only names the defaults of where every artefact lives."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from amefu_cli.artefacts.files.names import typed_text
from amefu_cli.errors import UsageError

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


def located(path: str, beside: Path) -> Path:
    """Where the file is that `noted` wrote into the header of `beside`."""
    return beside.resolve().parent / path


SETS = ("preset", "recipe")


@dataclass(frozen=True)
class Config:
    """An amefu.toml: the sets of defaults that it names, and its tables of options, one a command."""

    sets: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def read_config(path: Path) -> Config:
    """Read an `amefu.toml`: options of any command, over which the command line wins. Empty where there is none.

    Raises:
        UsageError: the file cannot be read, is not TOML, or holds something else than tables, `preset` and `recipe`.
    """
    try:
        document = tomllib.loads(typed_text(path))
    except FileNotFoundError:
        return Config()
    except OSError as error:  # the workspace is a file, say
        raise UsageError(f"{path}: cannot be read: {error.strerror}; choose another --workspace") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    sets = {name: value for name, value in document.items() if name in SETS and isinstance(value, str)}
    tables = {name: value for name, value in document.items() if isinstance(value, Mapping)}
    if outside := sorted(document.keys() - sets.keys() - tables.keys()):
        raise UsageError(f"{path}: {outside[0]!r} stands outside of a table; write it below [COMMAND]")
    return Config(sets, tables)
