"""From settings to command-line options, and from the command line, `amefu.toml` and presets back to settings.

A command is a function of a `Session`, an `Answer`, of groups of settings, and of options of its own. Here every
field of a group becomes an option. A value is taken from the command line, else from `amefu.toml` in the workspace,
else from `--recipe`, else from `--preset`, else it is the field's own default, which is the paper's.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeGuard, TypeVar, get_args, get_type_hints

import typer

from amefu_cli.commands.console import Answer, Terminal
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import (
    DETERMINISTIC,
    Config,
    Session,
    Workspace,
    chosen_sets,
    config_of,
    defaults_of,
    fix_arithmetic,
    protocol_of,
)
from amefu_cli.settings import BUILT_IN, LEARNED, PRESETS, RECIPES, Settings, check_type

SplitOption = Annotated[Path | None, typer.Option(
    metavar="NAME|FILE|LISTS",
    help=f"{', '.join(BUILT_IN)}; a .json or .toml file of class names; or lists of class/video or of classes: a "
    "folder, a prefix, or train.txt,val.txt,test.txt; or folders, for train/ val/ test/ above the classes "
    "[WORKSPACE/split.json, else that of --preset]",
)]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Place:
    """A path that is the workspace's where it is not typed. One that `decides` sets defaults of other options."""

    help: str
    of: Callable[[Workspace], Path]
    decides: bool = False


FramesPath = Annotated[Path, Place("frame store to read", lambda workspace: workspace.frames)]
DepthPath = Annotated[Path, Place("depth store to read", lambda workspace: workspace.depth)]
FeaturesPath = Annotated[Path, Place("feature store to read", lambda workspace: workspace.features)]
RgbPath = Annotated[Path, Place("RGB stream", lambda workspace: workspace.stream("rgb"), decides=True)]
DepthStreamPath = Annotated[Path, Place("depth stream", lambda workspace: workspace.stream("depth"))]
FusionPath = Annotated[Path, Place("fusion", lambda workspace: workspace.fusion)]
Rebuild = Annotated[bool, "throw what is there away and make it again"]
DryRun = Annotated[Session, "that of a command with --dry-run"]

LONGEST = 60  # characters of choices beside an option's name, on a terminal of 80

Value = TypeVar("Value")

OPTIONS: dict[str, dict[str, object]] = {}
"""The options of every command with their types, as `command` below finds them."""

VARIANTS = {"pretrain-rgb": "pretrain", "pretrain-depth": "pretrain"}
VARIANTS |= {f"meta-train-{head}": "meta-train" for head in LEARNED}
"""Tables of `amefu.toml` that hold for one variant of a command."""


@dataclasses.dataclass
class Known:
    """What is known of a command line while it is read, from the options that decide over the defaults of others."""

    workspace: Path | None = None
    preset: str | None = None
    recipe: str | None = None
    rgb: Path | None = None
    modality: str | None = None
    head: str | None = None
    config: Config = dataclasses.field(default_factory=Config)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a function of (session, answer, settings, options) into a typer command with one option for every field.

    A path at a Place is that of the workspace where it is not typed; a text is the help of a plain option.
    """
    hints = get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if _is_group(hint)}
    places = {name: place for name, hint in hints.items() for place in get_args(hint) if isinstance(place, Place)}

    @functools.wraps(function)
    def run(
        *, context: typer.Context, workspace: Path, preset: str | None, recipe: str | None, upstream: bool, json: bool,
        dry_run: bool = False, **typed: object,
    ) -> None:  # fmt: skip
        command, config = name_of(function), context.meta["amefu"].config
        session = Session(command, Workspace(workspace), config, Terminal(), preset, recipe, upstream, dry_run)
        for name, kind in groups.items():
            typed[name] = group = kind(**{field.name: typed.pop(field.name) for field in dataclasses.fields(kind)})
            if getattr(group, "deterministic", False) or DETERMINISTIC in os.environ:
                fix_arithmetic()
        for name, place in places.items():
            typed[name] = typed[name] or place.of(session.workspace)
        function(session=session, answer=Answer(json), **typed)

    parameters = [_keyword("context", typer.Context), *_options_of(function, hints), *SESSION]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    decides = ("workspace", "preset", "recipe")  # over what a table holds
    kinds = {parameter.name: get_args(parameter.annotation)[0] for parameter in parameters[1:]}
    OPTIONS[name_of(function)] = {name: kind for name, kind in kinds.items() if name not in decides}
    return run


def name_of(function: Callable[..., None]) -> str:
    """What the command of a function is called; `import_` only makes way for Python's own word."""
    return function.__name__.strip("_").replace("_", "-")


def _is_group(hint: object) -> TypeGuard[type[Settings]]:
    return isinstance(hint, type) and issubclass(hint, Settings)


def _options_of(function: Callable[..., None], hints: Mapping[str, object]) -> Iterator[inspect.Parameter]:
    """What a command takes besides SESSION: every field of its groups, and what it names itself."""
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if _is_group(hint):
            kinds = get_type_hints(hint)
            yield from (_option_of(field, kinds[field.name]) for field in dataclasses.fields(hint))
        elif name not in ("session", "answer"):
            yield _option(name, hint, parameter.default)
    if hints["session"] == DryRun:
        yield _option("dry_run", Annotated[bool, "only say what would be done"], False)


def _option_of(field: dataclasses.Field[object], kind: object) -> inspect.Parameter:
    metavar = "|".join(field.metadata["choices"]) or None
    if metavar and len(metavar) > LONGEST:
        metavar = "NAME"  # the help text says which
    option = typer.Option(help=field.metadata["help"], metavar=metavar, show_default=True)
    return _keyword(field.name, Annotated[kind, option], field.default)


def _option(name: str, hint: object, default: object) -> inspect.Parameter:
    kind, option = get_args(hint)
    if isinstance(option, Place):
        kind, default = kind | None, None
        made = _deciding if option.decides else typer.Option
        option = made(help=f"{option.help} [{option.of(Workspace(Path('WORKSPACE')))}]")
    elif isinstance(option, str):
        only_yes = [f"--{name.replace('_', '-')}"] if kind is bool else []  # and no --no-…
        option = typer.Option(*only_yes, help=option)
    return _keyword(name, Annotated[kind, option], default)


def _keyword(name: str, hint: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _remember(context: typer.Context, option: typer.CallbackParam, value: Value) -> Value:
    """Of an eager option: note its value, and renew the defaults of the options that come after."""
    known: Known = context.meta.setdefault("amefu", Known())
    setattr(known, str(option.name), value)
    if option.name == "workspace":
        workspace = Workspace(Path(str(value)))
        known.config = config_of(workspace)
        check_tables(known.config, workspace.config)
    if known.workspace is not None:
        command = "-".join(context.command_path.split()[1:])  # without the program's own
        chosen = chosen_sets(known.config, known.preset, known.recipe)
        protocol = protocol_of(Workspace(known.workspace), known.config, known.recipe, known.rgb)
        defaults = defaults_of(command, known.config, chosen, known.modality or known.head, protocol)
        context.default_map = {key: value for key, value in defaults.items() if key in OPTIONS[command]}
    return value


FROM_CONFIG = "that of amefu.toml, else paper"
_deciding = functools.partial(typer.Option, is_eager=True, callback=_remember)  # over the defaults of others
Modality = Annotated[str, _deciding(help="the stream to train: rgb or depth")]
LearnedHead = Annotated[str | None, _deciding(metavar="NAME", help=(
    "a head to train in place of the fusion, by defaults of its own for queries, rate and optimizer: "
    f"{', '.join(LEARNED)}"
))]  # fmt: skip
SESSION = [
    _option("workspace", Annotated[Path, _deciding(
        help="folder of the defaults of all paths", envvar="AMEFU_WORKSPACE",
    )], Path("amefu-workspace")),
    _option("preset", Annotated[str | None, _deciding(
        help="set of defaults", metavar="|".join(PRESETS), show_default=FROM_CONFIG,
    )], None),
    _option("recipe", Annotated[str | None, _deciding(
        help="paper, its public code, or ours: set of defaults that wins over --preset", metavar="|".join(RECIPES),
        show_default=FROM_CONFIG,
    )], None),
    _option("upstream", Annotated[bool, typer.Option(help="first bring what this command reads up to date")], True),
    _option("json", Annotated[bool, "print the result as one JSON document"], False),
]  # fmt: skip
"""What every command takes."""


def check_tables(config: Config, path: Path) -> None:
    """Hold every table of an `amefu.toml` against the options of its command, whichever command is typed.

    Raises:
        UsageError: a table or a key that no command has; a value of another type; or a path, which would hold for
            one command alone while others bring the same store up to date, or read it.
    """
    for table, values in config.tables.items():
        options = OPTIONS.get(VARIANTS.get(table, table))
        if options is None:
            raise UsageError(f"{path}: there is no command {table!r}{_near(table, [*OPTIONS, *VARIANTS])}")
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in options:
                raise UsageError(f"{path}: [{table}] has no option {key!r}{_near(name, options)}")
            if _is_path(options[name]):
                raise UsageError(
                    f"{path}: [{table}] {key!r} is a path, and commands that read or update the same file would not "
                    f"see it here; type it on the command line"
                )
            check_type(f"{path}: [{table}] {key} =", value, options[name])


def _is_path(hint: object) -> bool:
    return hint is Path or any(map(_is_path, get_args(hint)))


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
