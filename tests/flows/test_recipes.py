"""Defaults: which layer wins, what a value may be, and what the paper, its code and ours set."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunAmefu
from typer.testing import CliRunner

from amefu_cli.artefacts.files.workspace import Workspace, read_config
from amefu_cli.artefacts.stores.header import FramesHeader, Stream, VideoRecord, header_of
from amefu_cli.artefacts.weights.checkpoint import open_fusion
from amefu_cli.commands.app import app
from amefu_cli.commands.console import Terminal
from amefu_cli.commands.workspace import config_text
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Chosen, Session, chosen_sets, defaults_of
from amefu_cli.settings import (
    DEPTH_PRETRAIN,
    PRESETS,
    RECIPES,
    TABLES,
    DepthSettings,
    FeaturesSettings,
    MetaTrainSettings,
    PretrainSettings,
    preset_defaults,
    recipe_defaults,
)
from amefu_cli.stages import VideoJob
from amefu_cli.stages.features import crop_views


def settings(
    tmp_path: Path, command: str, *, toml: str = "", variant: str | None = None, **sets: str
) -> dict[str, object]:
    (tmp_path / "amefu.toml").write_text(toml)
    config = read_config(tmp_path / "amefu.toml")
    return defaults_of(command, config, chosen_sets(config, sets.get("preset"), sets.get("recipe")), variant)


# Layers ------------------------------------------------------------------------------------------------------


def test_without_any_set_nothing_is_other_than_the_paper(tmp_path: Path) -> None:
    assert settings(tmp_path, "meta-train") == {}
    assert MetaTrainSettings() == MetaTrainSettings(
        num_aug=2, way=5, shot=1, queries=1, epochs=6, episodes=2000, learning_rate=2e-5, temperature=1.0,
        loss="cross_entropy",
    )  # fmt: skip


def test_a_recipe_wins_over_a_preset_and_the_file_over_both(tmp_path: Path) -> None:
    assert settings(tmp_path, "meta-train", preset="ucf101") == {
        "episodes": 1000, "learning_rate": 1e-5, "decay_after": 3,
    }  # fmt: skip
    both = settings(tmp_path, "meta-train", preset="ucf101", recipe="tuned")
    assert (both["episodes"], both["learning_rate"]) == (1000, RECIPES["tuned"]["meta-train"]["learning_rate"])

    toml = "[meta-train]\nlearning-rate = 0.5\n"
    assert settings(tmp_path, "meta-train", preset="ucf101", recipe="tuned", toml=toml)["learning_rate"] == 0.5


def test_the_file_names_both_sets_and_the_command_line_wins_over_it(tmp_path: Path) -> None:
    toml = 'preset = "hmdb51"\nrecipe = "official"\n'
    assert settings(tmp_path, "meta-train", toml=toml)["loss"] == "double_softmax"
    assert settings(tmp_path, "meta-train", toml=toml)["decay_after"] == 3
    assert "loss" not in settings(tmp_path, "meta-train", toml=toml, recipe="paper")
    config = read_config(tmp_path / "amefu.toml")
    assert chosen_sets(config, None, None) == Chosen(preset="hmdb51", recipe="official")


def test_the_depth_stream_has_a_schedule_of_its_own_below_all_sets(tmp_path: Path) -> None:
    assert settings(tmp_path, "pretrain", variant="depth") == dict(DEPTH_PRETRAIN)
    official = settings(tmp_path, "pretrain", variant="depth", recipe="official")
    assert (official["epochs"], official["flip"]) == (60, 0.5)
    assert settings(tmp_path, "pretrain", variant="depth", toml="[pretrain-depth]\nepochs = 7\n")["epochs"] == 7


def test_the_command_line_wins_over_everything(workspace: Path, run_amefu: RunAmefu) -> None:
    config = workspace / "amefu.toml"
    config.write_text(config.read_text().replace("[meta-train]", '[meta-train]\nloss = "double_softmax"'))
    out = workspace / "other.safetensors"
    run_amefu(
        "meta-train", "--workspace", workspace, "--no-upstream", "--out", out, "--recipe", "official",
        "--way", "2", "--epochs", "1", "--episodes", "2", "--loss", "cross_entropy",
    )  # fmt: skip
    header = open_fusion(out)
    assert header.training is not None
    assert header.training.settings.loss == "cross_entropy"
    assert header.notes.recipe == "official"


# What each set holds -----------------------------------------------------------------------------------------


def test_official_is_the_public_code() -> None:
    assert recipe_defaults("official", "frames") == {"geometry": "official"}
    assert recipe_defaults("official", "features") == {"flip": 0.5, "test_frames": "start"}
    assert recipe_defaults("official", "pretrain") == {"flip": 0.5}
    assert recipe_defaults("official", "meta-train") == {"loss": "double_softmax"}


@pytest.mark.parametrize("sets", [PRESETS, RECIPES])
def test_every_value_of_every_set_is_one_that_its_command_takes(sets: dict[str, dict[str, dict[str, object]]]) -> None:
    for commands in sets.values():
        for command, values in commands.items():
            taken: set[str] = set()
            for kind in TABLES.get(command, ()):
                names = set(kind.__dataclass_fields__)
                kind(**{name: value for name, value in values.items() if name in names})
                taken |= names
            assert set(values) <= taken


def test_the_commented_file_shows_the_values_of_both_sets() -> None:
    text = config_text("ucf101", "official")
    assert 'preset = "ucf101"\nrecipe = "official"\n' in text
    assert "# episodes = 1000  #" in text
    assert '# loss = "double_softmax"  #' in text


# Messages ----------------------------------------------------------------------------------------------------


def test_unknown_sets_are_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="--recipe 'fast': must be one of paper, official, tuned"):
        recipe_defaults("fast", "frames")
    with pytest.raises(UsageError, match="--preset 'ucf': must be one of paper, kinetics100, ucf101, hmdb51, tiny"):
        preset_defaults("ucf", "frames")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "hinge"}, "--loss 'hinge': must be one of cross_entropy, double_softmax"),
        ({"way": 1}, "--way 1: must be at least 2"),
        ({"momentum": 1.5}, "--momentum 1.5: must be at most 1"),
        ({"learning_rate": float("nan")}, "--learning-rate nan: must be a finite number"),
        ({"way": "five"}, "--way 'five': must be a whole number"),
        ({"fusion": None}, "--fusion None: must be text"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_rule(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MetaTrainSettings(**values)  # type: ignore[arg-type]


def test_a_probability_lies_in_0_to_1() -> None:
    for kind in (FeaturesSettings, PretrainSettings):
        with pytest.raises(UsageError, match=r"--flip 1\.1: must be at most 1"):
            kind(flip=1.1)


def test_another_word_outside_the_tables_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'receipt' stands outside of a table"):
        settings(tmp_path, "frames", toml='receipt = "official"\n')


# The whole file, whichever command is typed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[framess]\nsize = 64", "there is no command 'framess'; did you mean 'frames'?"),
        ("[frames]\nsizee = 64", "[frames] has no option 'sizee'; did you mean 'size'?"),
        ("[pretrain-rbg]\nepochs = 1", "there is no command 'pretrain-rbg'; did you mean 'pretrain-rgb'?"),
        ("[pretrain-rgb]\nepoch = 1", "[pretrain-rgb] has no option 'epoch'; did you mean 'epochs'?"),
        ("[split-check]\nfollow-link = true", "[split-check] has no option 'follow-link'; did you mean 'follow_links'"),
        ('[features]\nviews = "x"', "[features] views = 'x': must be a whole number"),
        ("[features]\nviews = true", "[features] views = True: must be a whole number"),
        ("[frames]\ntimeout = [1]", "[frames] timeout = [1]: must be a number"),
        ('[frames]\nallow-partial = "no"', "[frames] allow-partial = 'no': must be true or false"),
        ('[depth]\nonly = "jump/1"', "[depth] only = 'jump/1': must be a list of texts"),
        ("[depth]\nestimator = false", "[depth] estimator = False: must be text"),
        ('[depth]\nweights = "w.zip"', "[depth] 'weights' is a path, and commands that read or update the same file"),
        ('[depth]\nout = "other.zarr"', "[depth] 'out' is a path"),
        ('[frames]\nvideos = "videos"', "[frames] 'videos' is a path"),
        ('[verify]\npaths = ["a.zarr"]', "[verify] 'paths' is a path"),
    ],
)
def test_a_fault_in_any_table_is_named_by_every_command(toml: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "amefu.toml").write_text(toml)
    for words in (["status"], ["pretrain", "--modality", "depth"]):
        done = CliRunner().invoke(app, [*words, "--workspace", str(tmp_path)])
        assert isinstance(done.exception, UsageError)
        assert str(done.exception).startswith(f"{tmp_path / 'amefu.toml'}: {message}")


def test_a_value_that_a_step_of_another_command_cannot_take_is_named_with_its_table(tmp_path: Path) -> None:
    (tmp_path / "amefu.toml").write_text("[features]\nviews = -1\n[depth]\nestimator = 5\n")
    session = Session("status", Workspace(tmp_path), read_config(tmp_path / "amefu.toml"), Terminal())
    with pytest.raises(UsageError, match=r"amefu\.toml: \[features\] --views -1: must be at least 0"):
        session.settings(FeaturesSettings, "features")
    assert session.settings(DepthSettings, "depth").estimator == "5"


@pytest.mark.parametrize(("preset", "recipe"), [("paper", "paper"), ("tiny", "official"), ("hmdb51", "tuned")])
def test_every_line_of_the_commented_file_works_or_is_a_placeholder(preset: str, recipe: str, tmp_path: Path) -> None:
    lines = [
        line.removeprefix("# ") if re.match(r"# [a-z-]+ = ", line) else line
        for line in config_text(preset, recipe).splitlines()
    ]
    taken = [line for line in lines if " = ...  #" not in line]
    undecided = [
        field.name
        for name, kinds in TABLES.items()
        for kind in kinds
        for field in dataclasses.fields(kind)
        if field.default is None
        and field.name not in {**preset_defaults(preset, name), **recipe_defaults(recipe, name)}
    ]
    assert [line.split()[0] for line in lines if line not in taken] == undecided != []
    (tmp_path / "amefu.toml").write_text("\n".join(taken))
    for name in TABLES:
        words = ["--modality", "rgb"] if name == "pretrain" else []
        done = CliRunner().invoke(app, [name, *words, "--workspace", str(tmp_path), "--no-upstream"])
        assert "make it with" in str(done.exception) or "name the folder of videos" in str(done.exception)


# Recorded ----------------------------------------------------------------------------------------------------


def test_a_store_notes_the_recipe_that_it_was_started_with(
    make_clips: object, run_amefu: RunAmefu, tmp_path: Path
) -> None:
    make_clips(tmp_path / "videos", ("jump", "run"), clips=1, frames=3)  # type: ignore[operator]
    common = (tmp_path / "videos", "--workspace", tmp_path / "work", "--jobs", "1")
    run_amefu("frames", *common, "--recipe", "official")

    header = header_of(tmp_path / "work" / "frames.zarr", FramesHeader)
    assert header is not None
    assert (header.notes.recipe, header.settings.geometry) == ("official", "official")
    said = run_amefu("frames", *common, code=2)
    assert "geometry: official in the file, square asked for" in said.stderr


def test_a_result_says_by_which_recipes_it_was_made(finished_workspace: Path) -> None:
    (path,) = (finished_workspace / "work" / "results").glob("amefu-*.json")
    result = json.loads(path.read_text())
    assert result["recipe"] == {"features": "paper", "fusion": "paper"}
    assert result["switches"] == {
        "flip": 0.0, "test_frames": "middle", "geometry": "square", "loss": "cross_entropy", "temperature": 1.0,
        "learning_rate": 2e-5,
    }  # fmt: skip


# The flip ----------------------------------------------------------------------------------------------------


def views_of(images: torch.Tensor, mirrored: Collection[int], views: int = 9) -> torch.Tensor:
    record = VideoRecord("jump/1", len(images), None, "jump/1.mp4", {}, "0" * 16)
    row = Stream(reads="frames", backbone="resnet18", network="none", crop=6, size=6)
    return crop_views(images, VideoJob(record, {"mirrored": mirrored}, np.arange(len(images)), views), row, 0)


def test_random_views_are_mirrored_alike_in_all_frames_and_both_streams_and_the_centre_never() -> None:
    rgb = torch.arange(2 * 8 * 8 * 3, dtype=torch.uint8).view(2, 8, 8, 3)
    plain, mirrored, some = (views_of(rgb, views) for views in ((), range(1, 9), [2, 5]))

    assert torch.equal(plain[0], mirrored[0])
    assert torch.equal(plain[1:].flip(3), mirrored[1:])
    flips = [not torch.equal(one, other) for one, other in zip(plain, some, strict=True)]
    assert [view for view, flipped in enumerate(flips) if flipped] == [2, 5]
    depth = 255 - rgb
    assert torch.equal(views_of(depth, [2, 5]), 255 - some)
    assert torch.equal(views_of(rgb, (), views=3), plain[:3])  # fewer views are the first of them


def test_a_flip_that_no_view_takes_part_in_is_warned_of(workspace: Path) -> None:
    words = ["features", "--out", str(workspace / "other.zarr"), "--dry-run", "--no-upstream", "--flip", "0.5"]
    said = [CliRunner().invoke(app, [*words, "--views", views, "--workspace", str(workspace)]).stderr for views in "01"]
    assert ["--views 0 makes none: no feature is mirrored" in text for text in said] == [True, False]


def test_a_workspace_that_is_no_folder_is_refused(tmp_path, run_amefu):
    (tmp_path / "file").touch()
    said = run_amefu("status", "--workspace", tmp_path / "file", code=2).stderr
    assert "cannot be read: Not a directory; choose another --workspace" in said
    assert "is there, but is not a folder" in run_amefu("demo", tmp_path / "file", code=2).stderr
