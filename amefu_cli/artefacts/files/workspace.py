"""Where files lie: the defaults that the workspace folder names, and what the header of one file calls another."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import path_identity
from amefu_cli.artefacts.files.names import typed_text
from amefu_cli.errors import UsageError

CONFIG = "amefu.toml"
SETS = ("preset", "recipe")
LARGEST_TEXT = 1 << 22  # bytes of a header of safetensors; ours are below 100,000
NO_FILES = ("imagenet", "none")  # what --weights may say instead of a file


class Workspace:
    """Default paths below one folder; every one of them can be given by an option instead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / CONFIG
        self.frames, self.depth, self.features = (folder / f"{kind}.zarr" for kind in ("frames", "depth", "features"))
        self.split = folder / "split.json"
        self.fusion = folder / "fusion.safetensors"
        self.results = folder / "results"

    def stream(self, modality: str) -> Path:
        """The checkpoint of one stream: `rgb.safetensors` or `depth.safetensors`."""
        return self.folder / f"{modality}.safetensors"


def imported_protocol(checkpoints: Iterable[Path]) -> Mapping[str, object]:
    """What the first imported stream among some checkpoints notes of how it was trained and tested, a `Protocol` as
    plain values; nothing where none was imported.

    Every command asks for it while it reads its options, so that it takes no library. What a checkpoint is that cannot
    be read is said where its weights are.
    """
    for path in checkpoints:
        with suppress(OSError, LookupError, TypeError, ValueError, RecursionError), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = json.loads(file.read(min(length, LARGEST_TEXT)))["__metadata__"]["amefu"]
            return dict(json.loads(text)["imported"]["protocol"])
    return {}


def noted(path: Path, beside: Path) -> str:
    """How the header of `beside` names another file: from its own folder where it lies in that or beside that, so that
    a workspace can be moved, and a project with its videos."""
    path, folder = path.resolve(), beside.resolve().parent
    if path.is_relative_to(folder):
        return str(path.relative_to(folder))
    project = folder.parent
    return str(Path("..", path.relative_to(project))) if path.is_relative_to(project) and project.name else str(path)


def located(path: str, beside: Path) -> Path:
    """Where the file is that `noted` wrote into the header of `beside`."""
    return Path(os.path.normpath(beside.resolve().parent / path))


def weights_identity(weights: str) -> str:
    """`imagenet` (held to its hash by `note_provenance`) and `none` stand for themselves; a file by its bytes' hash."""
    return weights if weights in NO_FILES else path_identity(Path(weights))


def noted_weights(weights: str, beside: Path) -> str:
    """How the header of `beside` notes where weights are, so that it can be continued from any folder."""
    return weights if weights in NO_FILES else noted(Path(weights), beside)


def located_weights(noted_as: str, beside: Path) -> str:
    """What `noted_weights` gave, as --weights takes it."""
    return noted_as if noted_as in NO_FILES else str(located(noted_as, beside))


def noted_estimator(estimator: str, beside: Path) -> str:
    """As `noted_weights`, of `onnx:FILE` or `hf:FOLDER`."""
    name, _, source = estimator.partition(":")
    return f"{name}:{noted(Path(source), beside)}" if source and Path(source).exists() else estimator


def located_estimator(noted_as: str, beside: Path) -> str:
    """What `noted_estimator` gave, as --estimator takes it."""
    name, _, source = noted_as.partition(":")
    return f"{name}:{located(source, beside)}" if source and located(source, beside).exists() else noted_as


@dataclass(frozen=True)
class Config:
    """An amefu.toml: the sets of defaults that it names, and its tables of options, one a command."""

    sets: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def read_config(path: Path) -> Config:
    """Read an `amefu.toml`: options of any command, over which the command line wins. Empty where there is none. Raises
    UsageError where it cannot be read, is not TOML, or holds something else than tables, `preset` and `recipe`."""
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
