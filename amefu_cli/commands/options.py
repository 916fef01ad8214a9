"""From settings to command-line options, and from the command line, `amefu.toml` and presets back to settings.

A command is a function of a `Session`, maybe an `Answer`, of groups of settings, and of options of its own. Here every
field of a group becomes an option. A value is taken from the command line, else from `amefu.toml` in the workspace,
else from `--recipe`, else from `--preset`, else it is the field's own default, which is the paper's.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar, get_args, get_type_hints

import typer

from amefu_cli.commands.console import Answer, Terminal
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Config, Session, Workspace, chosen_sets, config_of, defaults_of
from amefu_cli.settings import BUILT_IN, LEARNED, PRESETS, RECIPES, Settings, check_type

SplitOption = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME|FILE|LISTS",
        help=f"{', '.join(BUILT_IN)}; a .json or .toml file of class names; or lists of class/video or of "
        "classes: a folder, a prefix, or train.txt,val.txt,test.txt; or folders, for train/ val/ test/ above the "
        "classes [WORKSPACE/split.json, else that of --preset]",
    ),
]


@dataclasses.dataclass(frozen=True)
class Place:
    """A path that is the workspace's where it is not typed."""

    help: str
    of: Callable[[Workspace], Path]


FramesPath = Annotated[Path, Place("frame store to read", lambda workspace: workspace.frames)]
DepthPath = Annotated[Path, Place("depth store to read", lambda workspace: workspace.depth)]
FeaturesPath = Annotated[Path, Place("feature store to read", lambda workspace: workspace.features)]
RgbPath = Annotated[Path, Place("RGB stream", lambda workspace: workspace.stream("rgb"))]
DepthStreamPath = Annotated[Path, Place("depth stream", lambda workspace: workspace.stream("depth"))]
FusionPath = Annotated[Path, Place("fusion", lambda workspace: workspace.fusion)]
Rebuild = Annotated[bool, typer.Option("--rebuild", help="throw what is there away and make it again")]
DryRun = Annotated[Session, typer.Option("--dry-run", help="only say what would be done")]
"""The session of a command that can be run dry."""

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
    modality: str | None = None
    head: str | None = None
    config: Config = dataclasses.field(default_factory=Config)


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a function of (session, answer, settings, options) into a typer command with one option for every field.

    A path at a Place is that of the workspace where it is not typed.
    """
    hints = get_type_hints(function, include_extras=True)
    options = OPTIONS[function.__name__.strip("_").replace("_", "-")] = {"upstream": bool, "json": bool}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    groups: dict[str, type[Settings]] = {}
    places: dict[str, Place] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, Settings):
            groups[name] = hint
            options |= get_type_hints(hint)
            parameters += _options_of(hint)
        elif hint not in (Session, DryRun, Answer):
            kind, option = get_args(hint)
            options[name] = kind
            if isinstance(option, Place):
                places[name] = option
                text = f"{option.help} [{option.of(Workspace(Path('WORKSPACE')))}]"
                hint = Annotated[kind | None, typer.Option(help=text)]
            default = None if name in places else parameter.default
            parameters.append(_keyword(name, hint, default))
    if hints["session"] == DryRun:
        options["dry_run"] = bool
        parameters.append(_keyword("dry_run", Annotated[bool, get_args(DryRun)[1]], False))
    parameters += SESSION

    @functools.wraps(function)
    def run(*, context: typer.Context, **typed: object) -> None:
        values = dict(typed)
        session, answer = _session_of(context, values)
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
        for name, place in places.items():
            values[name] = values[name] or place.of(session.workspace)
        values |= {name: value for name, value in (("session", session), ("answer", answer)) if name in hints}
        function(**values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _keyword(name: str, hint: object, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _options_of(kind: type[Settings]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        metavar = "|".join(field.metadata["choices"]) or None
        if metavar and len(metavar) > LONGEST:
            metavar = "NAME"  # the help text says which
        option = typer.Option(help=field.metadata["help"], metavar=metavar, show_default=True)
        yield _keyword(field.name, Annotated[hints[field.name], option], field.default)


def _session_of(context: typer.Context, values: dict[str, object]) -> tuple[Session, Answer]:
    """The session of a command line; takes what it knows out of `values`."""
    known: Known = context.meta["amefu"]
    assert known.workspace is not None
    for name in ("workspace", "preset", "recipe"):
        del values[name]
    session = Session(
        command=_name_of(context), workspace=Workspace(known.workspace), config=known.config, say=Terminal(),
        preset=known.preset, recipe=known.recipe, upstream=bool(values.pop("upstream")),
        dry_run=bool(values.pop("dry_run", False)),
    )  # fmt: skip
    return session, Answer(as_json=bool(values.pop("json")))


def _remember(context: typer.Context, option: typer.CallbackParam, value: Value) -> Value:
    """Of an eager option: note its value, and renew the defaults of the options that come after."""
    known: Known = context.meta.setdefault("amefu", Known())
    setattr(known, str(option.name), value)
    if option.name == "workspace":
        workspace = Workspace(Path(str(value)))
        known.config = config_of(workspace)
        check_tables(known.config, workspace.config)
    if known.workspace is not None:
        command = _name_of(context)
        chosen = chosen_sets(known.config, known.preset, known.recipe)
        defaults = defaults_of(command, known.config, chosen, known.modality or known.head)
        context.default_map = {key: value for key, value in defaults.items() if key in OPTIONS[command]}
    return value


def _name_of(context: typer.Context) -> str:
    return "-".join(context.command_path.split()[1:])  # without the program's own


FROM_CONFIG = "that of amefu.toml, else paper"
Modality = Annotated[str, typer.Option(help="the stream to train: rgb or depth", is_eager=True, callback=_remember)]
LearnedHead = Annotated[str | None, typer.Option(
    help=f"a head to train in place of the fusion, by defaults of its own for queries, rate and optimizer: "
    f"{', '.join(LEARNED)}", is_eager=True, callback=_remember, metavar="NAME",
)]  # fmt: skip
SESSION = [
    _keyword("workspace", Annotated[Path, typer.Option(
        help="folder of the defaults of all paths", envvar="AMEFU_WORKSPACE", is_eager=True, callback=_remember,
    )], Path("amefu-workspace")),
    _keyword("preset", Annotated[str | None, typer.Option(
        help="set of defaults", metavar="|".join(PRESETS), is_eager=True, callback=_remember, show_default=FROM_CONFIG,
    )], None),
    _keyword("recipe", Annotated[str | None, typer.Option(
        help="paper, its public code, or ours: set of defaults that wins over --preset", metavar="|".join(RECIPES),
        is_eager=True, callback=_remember, show_default=FROM_CONFIG,
    )], None),
    _keyword("upstream", Annotated[bool, typer.Option(
        "--upstream/--no-upstream", help="first bring what this command reads up to date",
    )], True),
    _keyword("json", Annotated[bool, typer.Option("--json", help="print the result as one JSON document")], False),
]  # fmt: skip
"""What every command takes. An option with a callback decides over the defaults of others."""


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
