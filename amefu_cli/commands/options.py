"""From recipes to command-line options, and from the command line, `amefu.toml` and presets back to recipes.

A command is a function of a `Session`, of recipes, and of options of its own. Here every field of a recipe becomes
an option. A value is taken from the command line, else from `amefu.toml` in the workspace, else from `--recipe`, else
from `--preset`, else it is the field's own default, which is the paper's.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from amefu_cli.artefacts.files.workspace import SETS, Workspace, read_config
from amefu_cli.errors import UsageError
from amefu_cli.settings import DEPTH_PRETRAIN, PRESETS, RECIPES, Settings, check_type, preset_defaults, recipe_defaults

AnySettings = TypeVar("AnySettings", bound=Settings)

OPTIONS: dict[str, dict[str, Any]] = {}
"""The options of every command with their types, as `command` below finds them."""

VARIANTS = {"pretrain-rgb": "pretrain", "pretrain-depth": "pretrain"}
"""Tables of `amefu.toml` that hold for one variant of a command."""


@dataclass(frozen=True)
class Session:
    """What every command knows: the workspace, the sets of defaults (None: those of amefu.toml, else the paper's),
    whether to bring inputs up to date, and how to answer."""

    workspace: Workspace
    preset: str | None
    upstream: bool
    json: bool
    recipe_name: str | None = None

    @property
    def chosen(self) -> dict[str, str]:
        """The preset and the recipe in force, as artefacts note them."""
        return chosen_sets(self.workspace, self.preset, self.recipe_name)

    def settings(self, kind: type[AnySettings], command: str, variant: str | None = None) -> AnySettings:
        """The recipe that `command` would use if it were typed without options."""
        defaults = settings_of(command, self.workspace, self.preset, self.recipe_name, variant)
        hints = get_type_hints(kind)
        as_typed = {name: str(value) if hints.get(name) is str else value for name, value in defaults.items()}
        try:
            return kind(**{name: value for name, value in as_typed.items() if name in hints})
        except UsageError as error:
            raise UsageError(f"{self.workspace.config}: [{command}] {error}") from error


def settings_of(
    command: str, workspace: Workspace, preset: str | None, recipe: str | None, variant: str | None = None
) -> dict[str, Any]:
    """What variant, preset, recipe and `amefu.toml` (later wins) set for one command; `variant` is pretrain's
    modality."""
    config = read_config(workspace.config)
    chosen = chosen_sets(workspace, preset, recipe)
    layers: list[Mapping[str, Any]] = [DEPTH_PRETRAIN if (command, variant) == ("pretrain", "depth") else {}]
    for name in (command, f"{command}-{variant}"):
        layers += [preset_defaults(chosen["preset"], name), recipe_defaults(chosen["recipe"], name)]
        layers += [config.get(name, {})]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged |= {key.replace("-", "_"): value for key, value in layer.items()}
    return merged


def chosen_sets(workspace: Workspace, preset: str | None, recipe: str | None) -> dict[str, str]:
    """The preset and the recipe: those of the command line, else of `amefu.toml`, else the paper's."""
    config = read_config(workspace.config)
    return {
        "preset": preset or config.get("preset") or "paper",
        "recipe": recipe or config.get("recipe") or "paper",
    }


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn a function of (session, recipes, options) into a typer command with one option for every recipe field."""
    hints = get_type_hints(function, include_extras=True)
    options = OPTIONS[function.__name__.strip("_").replace("_", "-")] = {"upstream": bool, "json": bool}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    groups: dict[str, type[Settings]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if hint is Session:
            continue
        if isinstance(hint, type) and issubclass(hint, Settings):
            groups[name] = hint
            options |= get_type_hints(hint)
            parameters += [_option_of(field, hint) for field in dataclasses.fields(hint)]  # type: ignore[arg-type]
        else:
            options[name] = get_args(hint)[0]
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
    parameters += _session_options()

    @functools.wraps(function)
    def run(*, context: typer.Context, **values: Any) -> None:
        session = Session(
            Workspace(values.pop("workspace")),
            values.pop("preset"),
            values.pop("upstream"),
            values.pop("json"),
            values.pop("recipe_name"),
        )
        for name, kind in groups.items():
            fields = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
            values[name] = kind(**{field: values.pop(field) for field in fields})
        function(session=session, **values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def variant_option(help: str) -> Any:
    """An option whose value picks the defaults of the others (pretrain's --modality)."""
    return typer.Option(help=help, is_eager=True, callback=_remember("variant"))


def _option_of(field: dataclasses.Field[Any], kind: type[Settings]) -> inspect.Parameter:
    metadata = field.metadata
    metavar = "|".join(metadata["choices"]) or None
    hint = get_type_hints(kind)[field.name]
    annotation: Any = Annotated[hint, typer.Option(help=metadata["help"], metavar=metavar, show_default=True)]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotation)


def _session_options() -> list[inspect.Parameter]:
    workspace = typer.Option(
        help="folder of the defaults of all paths", envvar="AMEFU_WORKSPACE", is_eager=True,
        callback=_remember("workspace"),
    )  # fmt: skip
    preset = typer.Option(
        help="set of defaults", metavar="|".join(PRESETS), is_eager=True, callback=_remember("preset"),
        show_default="that of amefu.toml, else paper",
    )  # fmt: skip
    recipe = typer.Option(
        "--recipe", help="paper, its public code, or ours: set of defaults that wins over --preset",
        metavar="|".join(RECIPES), is_eager=True, callback=_remember("recipe"),
        show_default="that of amefu.toml, else paper",
    )  # fmt: skip
    upstream = typer.Option("--upstream/--no-upstream", help="first bring what this command reads up to date")
    as_json = typer.Option("--json", help="print the result as one JSON document")
    rows: list[tuple[str, Any, Any, Any]] = [
        ("workspace", Path, workspace, Path("amefu-workspace")),
        ("preset", str | None, preset, None),
        ("recipe_name", str | None, recipe, None),
        ("upstream", bool, upstream, True),
        ("json", bool, as_json, False),
    ]
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
        for name, kind, option, default in rows
    ]


def _remember(name: str) -> Callable[[typer.Context, Any], Any]:
    """A callback of an eager option: note its value, and renew the defaults of the options that come after."""

    def callback(context: typer.Context, value: Any) -> Any:
        known = context.meta.setdefault("amefu", {})
        known[name] = value
        if "workspace" in known:
            context.default_map = _checked_defaults(context, known)
        return value

    return callback


def _checked_defaults(context: typer.Context, known: Mapping[str, Any]) -> dict[str, Any]:
    workspace = Workspace(Path(known["workspace"]))
    check_tables(workspace.config)
    name = "-".join(context.command_path.split()[1:])  # without the program's own
    defaults = settings_of(name, workspace, known.get("preset"), known.get("recipe"), known.get("variant"))
    return {key: value for key, value in defaults.items() if key in OPTIONS[name]}


def check_tables(path: Path) -> None:
    """Hold every table of an `amefu.toml` against the options of its command, whichever command is typed.

    Raises:
        UsageError: a table or a key that no command has; a value of another type; or a path, which would hold for
            one command alone while others bring the same store up to date, or read it.
    """
    for table, values in read_config(path).items():
        if table in SETS:
            continue
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


def _is_path(hint: Any) -> bool:
    return hint is Path or any(map(_is_path, get_args(hint)))


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
