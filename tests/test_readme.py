"""README, examples and `--help` are held to the command line: every command stands there, every line works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import commands
from typer.testing import CliRunner

from amefu_cli.cli import app

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.sh"))]
TOP = {words[0] for words in commands() if words}


def command_lines(path: Path) -> list[list[str]]:
    """Every line of a shell block, or of a script, that runs `amefu`, by itself or by a function, split into words."""
    text = path.read_text()
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.S) if path.suffix == ".md" else [text]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [re.sub(r"^(\$ |step\w* )", "", re.sub(r"^run ", "amefu ", line.strip())) for line in lines]
    stripped = [re.sub(r"\s#.*", "", line) for line in typed]
    return [shlex.split(line) for line in stripped if line.startswith("amefu ")]


def known_options(words: list[str]) -> set[str]:
    command = max((some for some in commands() if words[1 : 1 + len(some)] == [*some]), key=len)
    parameters = commands()[command].params
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_option_that_is_shown_exists(path: Path) -> None:
    for words in command_lines(path):
        if words[1].startswith(("-", "$")):
            continue
        assert words[1] in TOP, f"{path.name}: {shlex.join(words)}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known_options(words), f"{path.name}: {shlex.join(words)}: {options - known_options(words)}"


def test_every_command_stands_in_the_readme_with_a_line_that_types_it() -> None:
    typed = {words[1] for words in command_lines(ROOT / "README.md")}
    assert not TOP - typed


@pytest.mark.parametrize("words", [*commands()], ids=lambda words: " ".join(words) or "amefu")
def test_help_shows_every_name_text_and_default_on_a_terminal_of_80_columns(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).stdout
    folded = "".join(said.split())  # as a line may break anywhere
    assert max(map(len, said.splitlines())) <= 80
    for parameter in commands()[words].params:
        for text in (*parameter.opts, *parameter.secondary_opts, parameter.help or ""):
            assert "".join(text.split()) in folded, text
        if parameter.show_default and parameter.default not in (None, False, True):
            assert f"default:{parameter.default}" in folded, parameter.name


def test_the_list_of_commands_breaks_no_sentence_off() -> None:
    assert "..." not in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout.replace("[ARGS]...", "")
