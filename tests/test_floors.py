"""The floors of the house (design, §2): who may import whom, when, and what starts light."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import commands, fresh_python

PACKAGE = Path(__file__).parent.parent / "amefu_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "torchvision", "av", "zarr", "sklearn", "matplotlib", "numpy")

# floor: what it may import of the package, besides itself, errors and interruption
ALLOWED = {
    "__init__": (),
    "__main__": ("cli",),
    "cli": ("commands",),
    "commands": ("flows", "demo", "report", "settings"),
    "flows": ("stages", "engines", "method", "artefacts", "settings"),
    "stages": ("engines", "method", "artefacts", "settings"),
    "demo": ("stages", "engines", "method", "artefacts", "settings"),
    "report": ("method", "artefacts", "settings"),
    "engines": ("artefacts.files", "settings"),
    "artefacts": ("settings",),
    "settings": ("method",),
    "method": (),
    "errors": (),
    "interruption": (),
}
BESIDE_FLOWS = ("demo", "report")  # each imported by the flow of its name too
ROOMS_OF_ARTEFACTS = {
    "files": ("files",),
    "videos": ("files", "videos"),
    "stores": ("files", "stores"),
    "weights": ("files", "videos", "stores", "weights"),
}
SHARED_BY_STAGES = ("", "computing", "training", "networks", "scoring")
DEFERRED = {
    "cli": ("commands",), "commands": ("flows", "demo", "report", "rich"), "flows": ("stages", "torch", "scipy"),
}  # fmt: skip
NEVER_SEEN = {
    "flows": ("rich", "typer"),
    "stages": ("rich", "typer"),
    "artefacts": ("rich", "typer", "torch.nn"),
    "method": ("rich", "typer", "pathlib", "os", "shutil"),
}


@dataclass(frozen=True)
class Import:
    """One module that another imports; what is of the package is named without `amefu_cli.`."""

    path: Path
    name: str
    is_own: bool
    is_deferred: bool

    @property
    def floor(self) -> str:
        return self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE)} imports {self.name}"


def is_below(name: str, above: tuple[str, ...]) -> bool:
    """Whether a module is one of `above` or lies inside it."""
    return any(name == one or name.startswith(f"{one}.") for one in above)


def names_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        package = PACKAGE.parent.joinpath(*(node.module or "").split("."))
        modules = [alias.name for alias in node.names if package.joinpath(f"{alias.name}.py").exists()]
        yield from (f"{node.module}.{name}" for name in modules)
        if len(modules) < len(node.names):
            yield node.module or ""


def imports_of(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    deferred = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        for name in names_of(node):
            own = name.split(".")[0] == "amefu_cli"
            yield Import(
                path, name.removeprefix("amefu_cli").removeprefix(".") if own else name, own, id(node) in deferred
            )


IMPORTS = [found for path in MODULES for found in imports_of(path)]


def allowed_to(found: Import) -> tuple[str, ...]:
    beside = (found.path.stem,) if found.floor == "flows" and found.path.stem in BESIDE_FLOWS else ()
    return (*ALLOWED[found.floor], *beside, found.floor, "errors", "interruption")


def listed(imports: list[Import]) -> str:
    return "\n".join(sorted({*map(str, imports)}))


def test_imports_go_down_the_floors_only() -> None:
    wrong = [found for found in IMPORTS if found.is_own and found.name and not is_below(found.name, allowed_to(found))]
    assert not wrong, listed(wrong)


def test_rooms_of_artefacts_build_on_one_another_in_one_direction() -> None:
    wrong = [
        found
        for found in IMPORTS
        if found.is_own and found.floor == "artefacts" and found.name.startswith("artefacts.")
        and found.name.split(".")[1] not in ROOMS_OF_ARTEFACTS[found.path.relative_to(PACKAGE).parts[1]]
    ]  # fmt: skip
    assert not wrong, listed(wrong)


def test_stages_never_import_one_another() -> None:
    inside = [
        found for found in IMPORTS if found.is_own and found.floor == "stages" and is_below(found.name, ("stages",))
    ]
    wrong = [found for found in inside if found.name.partition(".")[2] not in SHARED_BY_STAGES]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize("floor", NEVER_SEEN)
def test_what_a_floor_never_sees(floor: str) -> None:
    wrong = [found for found in IMPORTS if found.floor == floor and is_below(found.name, NEVER_SEEN[floor])]
    assert not wrong, listed(wrong)


def test_only_commands_and_flows_defer_imports_and_only_what_is_heavy() -> None:
    def is_allowed(found: Import) -> bool:
        beside = BESIDE_FLOWS if found.floor == "flows" and found.path.stem in BESIDE_FLOWS else ()
        return is_below(found.name, (*DEFERRED.get(found.floor, ()), *beside))

    wrong = [found for found in IMPORTS if found.is_deferred and not is_allowed(found)]
    assert not wrong, listed(wrong)


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import json, sys\n"
        "from amefu_cli.cli import main\n"
        "for words in json.loads(sys.argv.pop()):\n"
        "    sys.argv[1:] = [*words, '--help']\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        assert not end.code, words\n"
        "    print(words, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    ).replace("{HEAVY}", repr(HEAVY))
    every = [*commands()]
    done = fresh_python("-c", program, json.dumps(every))
    assert done.stderr.splitlines() == [f"{[*words]} []" for words in every]
    assert done.stdout.count("Usage: ") == len(every)


def test_what_decides_and_the_tables_load_no_torch() -> None:
    light = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] in ("commands", "flows", "settings.py")]
    light += [PACKAGE / "method" / name for name in ("backbones.py", "depth/__init__.py", "heads/__init__.py")]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in light]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
        "    if 'torch' in sys.modules:\n        sys.exit(f'{name} loads torch')\n"
    )
    done = fresh_python("-c", program, *names)
    assert done.returncode == 0, done.stderr
