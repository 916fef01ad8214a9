"""What every flow knows: the workspace, the settings in force, whether to work at all, and how to say things."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar, get_type_hints

from amefu_cli.artefacts.files.atomic import create_atomic
from amefu_cli.artefacts.files.workspace import Config, Workspace, imported_protocol, read_config
from amefu_cli.errors import UsageError
from amefu_cli.method.heads import HEADS
from amefu_cli.method.heads.training import Training
from amefu_cli.settings import DEPTH_PRETRAIN, LEARNED, Settings, preset_defaults, recipe_defaults
from amefu_cli.stages import Progress

AnySettings = TypeVar("AnySettings", bound=Settings)
NOTHING: Mapping[str, object] = MappingProxyType({})


class Say(Protocol):
    """How a flow says something to its user: never to stdout, which carries the result only."""

    def note(self, message: str) -> None:
        """One line of information."""

    def warn(self, message: str) -> None:
        """One line that the user should not miss."""

    def progress(self, what: str) -> AbstractContextManager[Progress]:
        """Shows what is done of a long work, while the context lasts."""


DETERMINISTIC = "AMEFU_DETERMINISTIC"
FIXED = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2"), "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell", "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """The preset and the recipe in force, as artefacts note them."""

    preset: str
    recipe: str


@dataclass(frozen=True)
class Session:
    """One command as it was typed. `config` is amefu.toml, read once; `upstream` says whether inputs are brought up to
    date first; in a `dry_run` nothing is written."""

    command: str
    workspace: Workspace
    config: Config
    say: Say
    preset: str | None = None
    recipe: str | None = None
    upstream: bool = True
    dry_run: bool = False

    @property
    def chosen(self) -> Chosen:
        """The sets of defaults: those of the command line, else of amefu.toml, else the paper's."""
        return chosen_sets(self.config, self.preset, self.recipe)

    @property
    def protocol(self) -> Mapping[str, object]:
        """What `protocol_of` the workspace is."""
        return protocol_of(self.workspace, self.config, self.recipe)

    def note_protocol(self, stage: str, settings: Settings) -> None:
        """Say where the settings of a new store are those of an imported checkpoint."""
        taken = [f"{name} {value}" for name, value in self.protocol.items() if vars(settings).get(name) == value]
        if taken:
            self.say.note(f"{stage}: {', '.join(taken)}, as the imported checkpoint was trained and tested")

    def settings(self, kind: type[AnySettings], command: str, variant: str | None = None) -> AnySettings:
        """The settings that `command` would use if it were typed without options but that of a `variant`."""
        defaults, hints = defaults_of(command, self.config, self.chosen, variant, self.protocol), get_type_hints(kind)
        known = {name: value for name, value in defaults.items() if name in hints}
        try:
            return kind(**{name: str(value) if hints[name] is str else value for name, value in known.items()})
        except UsageError as error:
            raise UsageError(f"{self.workspace.config}: [{command}] {error}") from error


def config_of(workspace: Workspace) -> Config:
    """The amefu.toml of a workspace; empty where there is none. Raises UsageError for anything else."""
    return read_config(workspace.config)


def chosen_sets(config: Config, preset: str | None, recipe: str | None) -> Chosen:
    """The sets that are named, else those of amefu.toml, else the paper's."""
    return Chosen(preset or config.sets.get("preset", "paper"), recipe or config.sets.get("recipe", "paper"))


def protocol_of(
    workspace: Workspace, config: Config, recipe: str | None, rgb: Path | None = None
) -> Mapping[str, object]:
    """How the imported streams of a workspace (or `rgb`, in place of its RGB stream) were trained and tested: what
    `frames`, `depth` and `features` do where nothing else is said. Nothing where a recipe is asked for by name."""
    if recipe or "recipe" in config.sets:
        return {}
    return imported_protocol((rgb or workspace.stream("rgb"), workspace.stream("depth")))


def defaults_of(
    command: str, config: Config, chosen: Chosen, variant: str | None = None, protocol: Mapping[str, object] = NOTHING
) -> dict[str, object]:
    """What variant (pretrain's modality, meta-train's head), preset, protocol, recipe and amefu.toml set for one
    command; the later one wins."""
    layers: list[Mapping[str, object]] = [DEPTH_PRETRAIN if (command, variant) == ("pretrain", "depth") else {}]
    for name in (command, f"{command}-{variant}"):
        of_import = protocol if name in ("frames", "depth", "features") else NOTHING
        layers += [preset_defaults(chosen.preset, name), of_import, recipe_defaults(chosen.recipe, name)]
        layers += [_of_head(variant)] if name == "meta-train" and variant is not None and variant in LEARNED else []
        layers += [config.tables.get(name, {})]
    return {key.replace("-", "_"): value for layer in layers for key, value in layer.items()}


def _of_head(head: str) -> dict[str, object]:
    """What a head's training does where nothing else is said: its own values win over those that suit a fusion."""
    training: Training = HEADS[head].load().training_defaults
    same = ("optimizer", "momentum", "nesterov", "weight_decay", "accumulation")
    same_named = {name: getattr(training, name) for name in same}
    return same_named | {"learning_rate": training.rate, "queries": str(training.queries)}


def write_config(session: Session, text: str, *, replace: bool) -> None:
    """Write an amefu.toml into the workspace. Raises UsageError where there is one and it is not to be replaced."""
    path = session.workspace.config
    path.parent.mkdir(parents=True, exist_ok=True)
    if replace:
        path.unlink(missing_ok=True)
    if not create_atomic(path, text.encode()):
        raise UsageError(f"{path}: is there already; edit it, or replace it with --force")


def fix_arithmetic() -> None:
    """Have this process, and those that it starts, compute alike on whatever x86 CPU: with as many threads, since a sum
    depends on how it is cut up, and with vectors as wide (AVX2), for torch, its libraries and numpy's. Heard when they
    are loaded, so raises UsageError where torch is there already."""
    if "torch" in sys.modules and os.environ.get(DETERMINISTIC) is None:
        raise UsageError("--deterministic: torch was loaded before; set AMEFU_DETERMINISTIC=1 for the whole process")
    os.environ.update({DETERMINISTIC: "1"} | FIXED)
