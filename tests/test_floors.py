"""The floors of the house: who may import whom, and that the command line stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import commands

PACKAGE = Path(__file__).parent.parent / "amefu_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "torchvision", "av", "zarr", "sklearn", "matplotlib")

# floor -> what it may import from the package, besides itself, errors and interruption
ALLOWED = {
    "cli": {"commands"},
    "__main__": {"cli"},
    "commands": {"flows", "stages", "engines", "method", "artefacts", "settings", "demo"},
    "flows": {"stages", "engines", "method", "artefacts", "settings"},
    "stages": {"engines", "method", "artefacts", "settings"},
    "engines": set(),
    "demo": {"artefacts", "engines", "settings"},
    "method": set(),
    "artefacts": set(),
    "settings": {"method"},
    "errors": set(),
    "interruption": set(),
    "__init__": set(),
}
SHARED_BY_STAGES = {
    "", "networks", "pending", "pipeline", "training", "vectors",
}  # fmt: skip


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def own_imports(path: Path) -> list[str]:
    names = imports_of(ast.parse(path.read_text()))
    return [name.removeprefix("amefu_cli").removeprefix(".") for name in names if name.split(".")[0] == "amefu_cli"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_floors_only(path: Path) -> None:
    floor = floor_of(path)
    allowed = ALLOWED[floor] | {floor, "errors", "interruption", ""}
    above = [name for name in own_imports(path) if name.split(".")[0] not in allowed]
    assert not above, f"{path.name} is on the floor {floor!r} and imports {above}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_stages_never_import_one_another(path: Path) -> None:
    stages = [name.partition(".")[2] for name in own_imports(path) if name.split(".")[0] == "stages"]
    assert set(stages) <= SHARED_BY_STAGES


@pytest.mark.parametrize(
    ("floor", "banned"),
    [
        ("method", {"pathlib", "rich", "typer", "os", "shutil"}),
        ("artefacts", {"rich", "typer", "torch.nn"}),
        ("stages", {"rich", "typer"}),
    ],
)
def test_what_a_floor_never_sees(floor: str, banned: set[str]) -> None:
    for path in (PACKAGE / floor).rglob("*.py"):
        names = set(imports_of(ast.parse(path.read_text())))
        found = {name for name in names if name in banned or name.split(".")[0] in banned}
        assert not found, f"{path.relative_to(PACKAGE)} imports {found}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_commands_defer_imports(path: Path) -> None:
    if floor_of(path) in ("commands", "cli"):  # cli: theirs, so that signals are heard while they are imported
        return
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    deferred = [name for function in functions for name in imports_of(function)]
    assert not deferred, f"{path.name} defers {deferred}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_say_what_lives_there(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc", "manager"}


@pytest.mark.parametrize("words", [*commands()], ids=lambda words: " ".join(words) or "amefu")
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    program = (
        "import sys; sys.argv = ['amefu', *sys.argv[1:], '--help']\n"
        "from amefu_cli.cli import main\n"
        "try:\n    main()\n"
        f"finally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    assert ended.stderr.strip().endswith("[]"), ended.stderr
    assert "Usage" in ended.stdout
