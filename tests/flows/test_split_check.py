"""Splits by name and by lists, names that are nearly right, and clips that are the same file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import MakeClips, RunAmefu, tree
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.artefacts.files.names import near_names, same_letters
from amefu_cli.artefacts.files.split import (
    Split,
    built_in_split,
    load_split,
    make_split,
    read_list,
    read_split,
    write_split,
)
from amefu_cli.artefacts.videos.copies import Source, duplicates
from amefu_cli.errors import UsageError
from amefu_cli.flows.split_check import ClassCount, check_split, repaired


def sources(folder: Path, **content: bytes) -> dict[str, Source]:
    """Files with a content each: class__name -> class/name."""
    found = {}
    for key, data in content.items():
        path = folder / f"{key}.mp4"
        path.write_bytes(data)
        found[key.replace("__", "/")] = Source(path, len(data))
    return found


def lists(folder: Path, **parts: str) -> Path:
    """Three lists `folder`/x_train.txt and so on; returns their prefix."""
    folder.mkdir(exist_ok=True)
    for part, text in parts.items():
        (folder / f"x_{part}.txt").write_text(text)
    return folder / "x"


# Where a split comes from ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "counts"), [("kinetics100", (64, 12, 24)), ("ucf101", (70, 10, 21)), ("hmdb51", (31, 10, 10))]
)
def test_splits_of_the_field_are_built_in(name: str, counts: tuple[int, int, int]) -> None:
    split = built_in_split(name)
    assert (len(split.base), len(split.validation), len(split.novel)) == counts
    assert split.videos is None
    assert load_split(name) == split


def test_three_lists_make_a_split_however_they_are_named(tmp_path: Path) -> None:
    prefix = lists(tmp_path / "lists", train="run/1\nrun/2.avi 7\n\n", val="jump/a b.mp4\n", test="brush hair/1\n")
    expected = Split(("run",), ("jump",), ("brush hair",), frozenset({"run/1", "run/2", "jump/a b", "brush hair/1"}))

    assert load_split(str(prefix)) == expected
    assert load_split(str(prefix.parent)) == expected
    assert load_split(",".join(f"{prefix}_{part}.txt" for part in ("train", "val", "test"))) == expected


def test_a_list_survives_being_written_down(tmp_path: Path) -> None:
    split = load_split(str(lists(tmp_path, train="run/1", val="jump/1", test="climb/1")))
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert load_split(str(tmp_path / "split.json")) == split


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run/1\njust a name\n", r"x\.txt: line 2 is 'just a name'; a line must be class/video"),
        ("\n", "lists no video"),
    ],
)
def test_a_line_that_is_no_video_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_list(tmp_path / "x.txt")


def test_a_split_that_is_none_is_refused_with_the_ways_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must be kinetics100, ucf101, hmdb51, ssv2-small, a \.json or"):
        load_split(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"0 files are named \*train.txt; exactly one is needed"):
        load_split(str(tmp_path))
    with pytest.raises(UsageError, match=r"a\.txt: no such list of videos"):
        load_split("a.txt,b.txt,c.txt")


def test_a_class_in_two_lists_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="train and test share 'run'; base, validation and novel"):
        load_split(str(lists(tmp_path, train="run/1\n", val="jump/1\n", test="run/2\n")))


def test_a_list_restricts_the_videos() -> None:
    split = make_split(["run"], ["jump"], ["climb"], source="", videos=["run/1", "climb/1", "climb/9"])
    assert split.listed({"run/1": 1, "run/2": 2, "climb/1": 3, "other/1": 4}) == {"run/1": 1, "climb/1": 3}
    assert split.missing("novel", ["run/1", "climb/1"]) == ["climb/9"]
    assert split.missing("base", ["run/1"]) == []


# Names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("brush hairs", "brush_hair"),
        ("swing baseketball", "swing_baseball"),
        ("air drumming", "air_drumming"),
        ("HandstandPushups", "HandStandPushups"),
    ],
)
def test_a_misspelt_name_finds_the_one_that_is_meant(wanted: str, there: str) -> None:
    assert near_names([wanted, "climb"], [there, "climb", "shoot_ball", "shoot_bow"]) == {wanted: there}


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("Unfolding something", "Folding_something"),
        ("Putting something into something", "Putting something onto something"),
        ("playing trumpet", "playing trombone"),
        ("playing bass guitar", "playing guitar"),
        ("Pushing something", "Pulling something"),
    ],
)
def test_another_action_is_no_misspelling(wanted: str, there: str) -> None:
    assert near_names([wanted], [there]) == {}


def test_a_name_that_two_would_become_is_given_to_neither() -> None:
    assert same_letters(["brush hair", "brush-hair"], ["brush_hair"]) == {}


@given(st.sets(st.text("ab _C", min_size=1, max_size=6)), st.sets(st.text("ab _C", min_size=1, max_size=6)))
def test_repairs_lead_from_missing_names_to_free_ones_one_to_one(wanted: set[str], there: set[str]) -> None:
    repairs = near_names(wanted, there)
    assert repairs.keys() <= wanted - there
    assert set(repairs.values()) <= there - wanted
    assert len(set(repairs.values())) == len(repairs)


# Identical clips ---------------------------------------------------------------------------------------------


def test_identical_clips_are_found_by_size_and_bytes(tmp_path: Path) -> None:
    found = sources(tmp_path, run__1=b"same", run__2=b"else", jump__1=b"same", climb__1=b"longer")
    assert duplicates(found) == ([("jump/1", "run/1")], [])
    gone = {**found, "run/3": Source(tmp_path / "gone.mp4", 4)}
    assert duplicates(gone) == ([("jump/1", "run/1")], ["run/3"])


def test_folders_of_images_are_compared_image_by_image(tmp_path: Path) -> None:
    for clip, last in (("a", b"3"), ("b", b"3"), ("c", b"4")):
        (tmp_path / clip).mkdir()
        (tmp_path / clip / "img_1.jpg").write_bytes(b"12")
        (tmp_path / clip / "img_2.jpg").write_bytes(last)
    assert duplicates({f"run/{clip}": Source(tmp_path / clip, 3) for clip in "abc"}) == ([("run/a", "run/b")], [])


# The whole check ---------------------------------------------------------------------------------------------


def test_a_check_counts_proposes_and_repairs(tmp_path: Path) -> None:
    there = sources(tmp_path, brush_hair__v1=b"1", run__V_1=b"12", run__2=b"123", climb__1=b"123", other__1=b"1")
    split = make_split(
        ["run"],
        ["brush hairs"],
        ["climb"],
        source="",
        videos=["run/v-1", "run/2", "run/3", "brush hairs/v1", "climb/1"],
    )
    check = check_split(split, there)

    assert check.classes == (
        ClassCount("base", "run", 3, 1),
        ClassCount("validation", "brush hairs", 1, 0),
        ClassCount("novel", "climb", 1, 1),
    )
    assert [round(count.share, 2) for count in check.classes] == [0.33, 0.0, 1.0]
    assert check.missing_videos == ("brush hairs/v1", "run/3", "run/v-1")
    assert check.class_repairs == {"brush hairs": "brush_hair"}
    assert check.video_repairs == {"brush hairs/v1": "brush_hair/v1", "run/v-1": "run/V_1"}
    assert check.identical == (("brush_hair/v1", "other/1"), ("climb/1", "run/2"))
    assert check.crossing == (("climb/1", "run/2"),)

    fixed = repaired(split, check, there)
    assert fixed == Split(
        ("run",), ("brush_hair",), ("climb",), frozenset({"run/V_1", "run/3", "brush_hair/v1", "climb/1"})
    )
    assert not check_split(fixed, there).class_repairs


def test_a_split_without_lists_is_restricted_only_where_clips_cross_it(tmp_path: Path) -> None:
    there = sources(tmp_path, run__1=b"1", run__2=b"12", climb__1=b"1", other__1=b"3")
    split = make_split(["run"], [], ["climb"], source="")
    check = check_split(split, there)

    assert check.classes[0] == ClassCount("base", "run", None, 2)
    fixed = repaired(split, check, there)
    assert fixed.videos == frozenset({"run/2", "climb/1"})
    again = check_split(fixed, there)
    assert (again.identical, again.crossing) == ((("climb/1", "run/1"),), ())
    only_names = make_split(["Run"], [], ["climb"], source="")
    del there["run/1"]
    assert repaired(only_names, check_split(only_names, there), there) == Split(("run",), (), ("climb",), None)


# The command, and what other commands look at ----------------------------------------------------------------


def test_the_command_reports_repairs_and_fails_on_an_overlap(
    make_clips: MakeClips, run_amefu: RunAmefu, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    make_clips(videos, ("brush_hair", "climb", "jump", "run"), clips=2, frames=3)
    shutil.copy(videos / "run" / "clip_0.mp4", videos / "climb" / "copy.mp4")
    split = {"train": ["run", "brush hairs"], "val": ["jump"], "test": ["climb", "golf"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    check = ("split", "check", videos, "--split", tmp_path / "split.json", "--workspace", tmp_path / "work")

    said = run_amefu(*check, "--json", code=2)
    document = json.loads(said.stdout)
    assert document["class_repairs"] == {"brush hairs": "brush_hair"}
    assert document["crossing"] == [["climb/copy", "run/clip_0"]]
    assert [row["name"] for row in document["classes"] if row["share"] < 1] == ["brush hairs", "golf"]
    assert "1 clips stand in two parts of the split" in said.stderr

    run_amefu(*check, "--repair", tmp_path / "fixed.json")
    fixed = read_split(tmp_path / "fixed.json")
    assert fixed.base == ("brush_hair", "run")
    assert fixed.videos is not None
    assert "run/clip_0" not in fixed.videos
    assert "climb/copy" in fixed.videos
    assert json.loads((tmp_path / "fixed.json").read_text())["classes"] == {"brush hairs": "brush_hair"}


def test_a_clip_in_two_parts_stops_an_evaluation_and_missing_videos_do_not(
    workspace: Path, run_amefu: RunAmefu
) -> None:
    split = read_split(workspace / "split.json")
    ids = [f"{name}/clip_{number}" for name in split.classes for number in range(3)]
    ids += ["spin/clip_7", "spin/clip_8"]
    parts = (split.base, split.validation, split.novel)
    write_split(workspace / "listed.json", make_split(*parts, source="", videos=ids))
    common = ("evaluate", "--workspace", workspace, "--no-upstream", "--split", "listed.json", "--model", "rgb")

    said = run_amefu(*common, "--json", cwd=workspace)
    assert json.loads(said.stdout)["missing_videos"] == 2
    assert "of 23 listed videos these are missing: 0 base, 0 validation, 2 novel" in said.stderr

    write_split(workspace / "listed.json", make_split(*parts, source="", videos=[*ids, "spin/clip_9"]))
    said = run_amefu(*common, "--json", cwd=workspace)
    assert json.loads(said.stdout)["missing_videos"] == 3  # another result than the one of before

    videos = workspace.parent / "videos"
    shutil.copy(videos / "bow" / "clip_0.mp4", videos / "spin" / "clip_0.mp4")
    run_amefu("frames", videos, "--workspace", workspace)
    said = run_amefu(*common, cwd=workspace, code=2)
    assert "bow/clip_0 and spin/clip_0 are the same clip, byte for byte, but stand in different parts" in said.stderr


def test_a_split_that_is_refused_does_not_become_the_workspace_s(workspace: Path, run_amefu: RunAmefu) -> None:
    split = workspace / "split.json"
    given = split.rename(workspace / "given.json")
    videos = workspace.parent / "videos"
    shutil.copy(videos / "bow" / "clip_0.mp4", videos / "spin" / "clip_0.mp4")
    train = ("pretrain", "--modality", "rgb", "--workspace", workspace, "--split")
    evaluate = ("evaluate", "--no-upstream", "--workspace", workspace, "--model", "rgb")
    run_amefu("frames", videos, "--workspace", workspace)
    run_amefu(*train, given, code=2)
    assert not split.exists()
    run_amefu("split", "check", videos, "--split", given, "--repair", workspace / "fixed.json")
    run_amefu("split", "check", videos, "--split", workspace / "fixed.json")
    run_amefu(*evaluate, "--split", workspace / "fixed.json")
    assert read_split(split) == read_split(workspace / "fixed.json")
    (workspace / "frames.zarr").rename(workspace / "moved.zarr")
    said = run_amefu(*evaluate)
    assert "frames.zarr is not there any more, so no clip was checked for standing in two parts" in said.stderr


def test_a_class_under_two_spellings_is_pointed_out(make_clips: MakeClips, run_amefu: RunAmefu, tmp_path: Path) -> None:
    make_clips(tmp_path / "videos", ("throw_ball", "jump"), clips=1, frames=3)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["throw_ball"], "test": ["jump", "throw balls"]}))
    said = run_amefu("split", "check", tmp_path / "videos", "--split", tmp_path / "split.json")
    assert "'throw balls' is not there and looks like 'throw_ball', which the split names too" in said.stderr


def test_what_was_trained_on_is_never_evaluated_on(workspace: Path, run_amefu: RunAmefu) -> None:
    split = read_split(workspace / "split.json")
    swapped = workspace / "swapped.json"
    write_split(swapped, make_split(split.novel, split.validation, split.base, source=""))
    words = ("--workspace", workspace, "--split", swapped, "--episodes", "20")
    before = tree(workspace / "features.zarr")
    for more in ((), ("--no-upstream",)):
        said = run_amefu("evaluate", *words, *more, code=2)
        assert (
            f"fusion.safetensors was trained on {', '.join(split.base)}, which the split names as novel" in said.stderr
        )
    run_amefu("pretrain", "--modality", "rgb", "--workspace", workspace)
    said = run_amefu("features", "--workspace", workspace, "--split", swapped, "--rebuild", code=2)
    assert f"the rgb stream was trained on {', '.join(split.base)}, which the split names as novel" in said.stderr
    assert tree(workspace / "features.zarr") == before
    run_amefu("features", "--workspace", workspace, "--rebuild")
    said = run_amefu("evaluate", *words, "--model", "rgb", "--no-upstream", code=2)
    assert "the rgb stream was trained on" in said.stderr


def test_a_list_keeps_the_other_videos_out_of_the_features(workspace: Path, run_amefu: RunAmefu) -> None:
    split = read_split(workspace / "split.json")
    ids = [f"{name}/clip_{number}" for name in split.classes for number in range(2)]
    write_split(workspace / "two.json", make_split(split.base, split.validation, split.novel, source="", videos=ids))
    said = run_amefu(
        "features", "--workspace", workspace, "--no-upstream", "--split", workspace / "two.json", "--out",
        workspace / "two.zarr", "--json",
    )  # fmt: skip
    assert json.loads(said.stdout)["done"] == 14
    said = run_amefu("evaluate", "--workspace", workspace, "--no-upstream", "--split", workspace / "two.json",
                     "--model", "rgb", "--json")  # fmt: skip
    assert json.loads(said.stdout)["videos"] == 4


def test_a_preset_brings_its_split_and_is_warned_of_on_another_data_set(
    make_clips: MakeClips, run_amefu: RunAmefu, finished_workspace: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_workspace / "work", tmp_path / "work")
    said = run_amefu(
        "pretrain", "--modality", "rgb", "--dry-run", "--no-upstream", "--preset", "ucf101", "--workspace",
        tmp_path / "work",
    )  # fmt: skip
    assert "--preset ucf101 is meant for another data set: 0 of the 7 classes" in said.stderr

    make_clips(tmp_path / "videos", ("Archery", "CricketShot", "YoYo"), clips=1, frames=3)
    fresh = tmp_path / "fresh"
    run_amefu("frames", tmp_path / "videos", "--workspace", fresh, "--jobs", "1")
    words = (
        "pretrain", "--modality", "rgb", "--preset", "ucf101", "--backbone", "squeezenet1_1", "--weights", "none",
        "--crop", "32", "--epochs", "1", "--segments", "1", "--workspace", fresh,
    )  # fmt: skip
    said = run_amefu(*words, "--dry-run")
    assert "70 base, 10 validation and 21 novel classes, of ucf101, to be written to" in said.stderr
    said = run_amefu(*words)
    assert "70 base, 10 validation and 21 novel classes, of ucf101, written to" in said.stderr
    assert "another data set" not in said.stderr
    assert read_split(fresh / "split.json") == built_in_split("ucf101")
