"""README, examples and `--help` are held to the command line: every command stands there, every line works."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import CONFIG, ROOT, amefu, commands, lay_clips

TEXTS = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.sh"))]
TOP = {words[0] for words in commands() if words}


def shell_blocks(path: Path) -> list[str]:
    """The shell blocks of a page, or a whole script."""
    text = path.read_text()
    return re.findall(r"```(?:sh|console)\n(.*?)```", text, re.S) if path.suffix == ".md" else [text]


def command_lines(*blocks: str) -> list[list[str]]:
    """Every line that runs `amefu`, by itself or by a function of the script, split into words."""
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = [re.sub(r"^(\$ |step\w* )", "", re.sub(r"^run ", "amefu ", line.strip())) for line in lines]
    stripped = [re.sub(r"\s#.*", "", line) for line in typed]
    return [shlex.split(line) for line in stripped if line.startswith("amefu ")]


def known_options(words: list[str]) -> set[str]:
    command = max((some for some in commands() if words[1 : 1 + len(some)] == [*some]), key=len)
    parameters = commands()[command].params
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


README_LINES = [lines for block in shell_blocks(ROOT / "README.md") if (lines := command_lines(block))]
BASE, NOVEL = ("bow", "clap", "dive", "jump", "kick"), ("lift", "push", "roll", "spin", "wave")
TESTED_ELSEWHERE = ("import", "export", "demo")  # on hundreds of megabytes, and for minutes


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_option_that_is_shown_exists(path: Path) -> None:
    for words in command_lines(*shell_blocks(path)):
        if words[1].startswith(("-", "$")):
            continue
        assert words[1] in TOP, f"{path.name}: {shlex.join(words)}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known_options(words), f"{path.name}: {shlex.join(words)}: {options - known_options(words)}"


def test_every_command_stands_in_the_readme_with_a_line_that_types_it() -> None:
    typed = {words[1] for words in command_lines(*shell_blocks(ROOT / "README.md"))}
    assert not TOP - typed


@pytest.mark.slow
@pytest.mark.parametrize("lines", README_LINES, ids=lambda lines: lines[0][1])
def test_the_lines_of_the_readme_work_one_after_the_other(
    lines: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "amefu-workspace/amefu.toml"
    config.parent.mkdir()
    lay_clips(tmp_path / "videos", (*BASE, *NOVEL), 6)  # enough for 5 ways and 5 shots
    lay_clips(tmp_path / "examples", BASE, 2)
    for name, path in zip("ab", lay_clips(tmp_path / "clips", ("deep",), 4), strict=False):
        path.rename(tmp_path / f"clips/{name}.mp4")
    (config.parent / "split.json").write_text(json.dumps({"train": BASE[:3], "val": BASE[3:], "test": NOVEL}))
    for words in lines:
        if words[1] != "init":  # small settings, in the place of what it wrote
            config.write_text(f"{CONFIG}\n[ablate]\nepisodes = 50\n")
        if words[1] == "compare":
            for model in ("rgb", "amefu"):
                amefu("evaluate", "--way", "5", "--model", model, "--out", f"{model}.json")
        if words[1] not in TESTED_ELSEWHERE:
            amefu(*words[1:])


@pytest.mark.parametrize("words", [*commands()], ids=lambda words: " ".join(words) or "amefu")
def test_help_shows_every_name_text_and_default_on_a_terminal_of_80_columns(words: tuple[str, ...]) -> None:
    said = amefu(*words, "--help", COLUMNS="80", TERMINAL_WIDTH="80").stdout
    folded = "".join(said.split())  # as a line may break anywhere
    assert max(map(len, said.splitlines())) <= 80
    for parameter in commands()[words].params:
        for text in (*parameter.opts, *parameter.secondary_opts, parameter.help or ""):
            assert "".join(text.split()) in folded, text
        if parameter.show_default and parameter.default not in (None, False, True):
            assert f"default:{parameter.default}" in folded, parameter.name


def test_the_list_of_commands_breaks_no_sentence_off() -> None:
    assert "..." not in amefu("--help", COLUMNS="80").stdout.replace("[ARGS]...", "")
