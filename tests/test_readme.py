"""The README is held to the command line: every command stands in it, and every option it types exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from amefu_cli.commands.app import app

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.sh"))]
GROUP = typer.main.get_command(app)


def command_lines(path: Path) -> list[list[str]]:
    """Every line of a shell block, or of a script, that starts with `amefu`, split into words."""
    text = path.read_text()
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.S) if path.suffix == ".md" else [text]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    stripped = [re.sub(r"\s#.*", "", line.strip().removeprefix("$ ")) for line in lines]
    return [shlex.split(line) for line in stripped if line.startswith("amefu ")]


def known_options(words: list[str]) -> set[str]:
    command = GROUP
    for word in words[1:]:
        if hasattr(command, "commands") and word in command.commands:
            command = command.commands[word]
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_option_that_is_shown_exists(path: Path) -> None:
    for words in command_lines(path):
        if words[1].startswith(("-", "$")):
            continue
        assert words[1] in GROUP.commands, f"{path.name}: {shlex.join(words)}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known_options(words), f"{path.name}: {shlex.join(words)}: {options - known_options(words)}"


def test_every_command_stands_in_the_readme_with_a_line_that_types_it() -> None:
    typed = {words[1] for words in command_lines(ROOT / "README.md")}
    assert set(GROUP.commands) <= typed, set(GROUP.commands) - typed
