"""`amefu predict`: labels of one's own clips, what is kept of them, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONFIG, amefu, lay_clips, moving_clip, tree
from PIL import Image

from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.demo.clips import write_mp4
from amefu_cli.errors import AmefuError, Interrupted, UsageError
from amefu_cli.flows import own_features, predict
from amefu_cli.stages import Progress

CLASSES = ("clap", "jump", "wave")


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`examples` of three classes, one of them with one example only, `clips`, and a workspace without anything made:
    every clip is a copy of an example's neighbour in time, and so belongs to its class."""
    root = tmp_path_factory.mktemp("predict")
    paths = lay_clips(root / "examples", CLASSES, 3, frames=12)
    lay_clips(root / "clips/deep", ("one",), 2, frames=6)
    for path in paths[-2:]:
        path.unlink()
    (root / "work").mkdir()
    (root / "work/amefu.toml").write_text(CONFIG)
    return root


@pytest.fixture
def place(laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that, where the test runs."""
    shutil.copytree(laid_out, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMEFU_WORKSPACE", "work")
    return tmp_path


def predicted(*words: object, code: int = 0) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(amefu("predict", *words, "--json", "--jobs", "1", code=code).stdout)
    return found


def said(*words: object, code: int = 0) -> str:
    return amefu("predict", *words, "--jobs", "1", code=code).stderr


def features() -> Mapping[str, tuple[int, list[str]]]:
    """How many frames are kept of each clip, and which streams it has."""
    store = open_store(Path("work/predict/features.zarr"), FeaturesHeader, fix="")
    return {video: (record.kept or 0, sorted(record.made_from["streams"])) for video, record in store.records().items()}


def test_a_bare_workspace_labels_clips_and_says_by_what(place: Path) -> None:
    done = amefu("predict", "examples", "clips", "--jobs", "1")
    assert "model rgb (rgb squeezenet1_1 with weights 'none', never pretrained), head prototype-cosine" in done.stderr
    assert "1 of 3 classes have one example, which nothing checks" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines() if ".mp4" in line] == [
        "clips/deep/one/clip_0.mp4", "clips/deep/one/clip_1.mp4",
    ]  # fmt: skip
    assert not list(Path("work").glob("*.zarr"))  # the workspace's own stores are left alone


def test_a_copy_of_an_example_is_of_its_class_and_said_to_be_one(place: Path) -> None:
    shutil.copy("examples/jump/clip_1.mp4", "clips/seen.mp4")
    found = predicted("examples", "clips/seen.mp4", "--top", "3")
    (clip,) = found["clips"]
    assert (clip["clip"], clip["label"]) == ("clips/seen.mp4", "jump")
    assert sum(of["probability"] for of in clip["labels"]) == pytest.approx(1)
    assert found["examples"] == {"clap": 3, "jump": 3, "wave": 1}
    assert found["calibrated"]
    assert "clips/seen.mp4: also an example, byte for byte" in said("examples", "clips/seen.mp4")


def test_only_what_is_new_is_computed_whatever_it_is_called_now(place: Path) -> None:
    first = predicted("examples", "clips")
    before = tree(Path("work/predict"))
    os.rename("examples/jump/clip_0.mp4", "examples/wave/renamed.mp4")
    shutil.copytree("clips", "copied")
    shutil.rmtree("clips")
    text = said("examples", "copied")
    assert "frames: work/predict/frames.zarr is up to date (9 videos)" in text
    assert {
        name: of for name, of in tree(Path("work/predict")).items() if name in before and name != "contents.json"
    } == {name: of for name, of in before.items() if name != "contents.json"}
    lay_clips(Path("copied"), ("two",), 1, frames=7)
    assert "frames: 1 videos to make, 9 already" in said("examples", "copied")
    assert len(first["clips"]) == 2


def test_depth_is_computed_only_for_a_model_that_reads_it_and_joins_what_is_there(place: Path) -> None:
    predicted("examples", "clips")
    kept = features()
    assert {streams for _, (streams,) in kept.values()} == {"rgb"}
    assert all(
        count <= 2 * 2 + 8 for count, _ in kept.values()
    )  # not all frames: 4 of the clip, and one of each eighth
    store = open_store(Path("work/predict/features.zarr"), FeaturesHeader, fix="")
    rgb = {video: store.read(video).array("rgb").copy() for video in kept}

    predicted("examples", "clips", "--model", "depth")
    assert {tuple(streams) for _, streams in features().values()} == {("depth", "rgb")}
    store = open_store(Path("work/predict/features.zarr"), FeaturesHeader, fix="")
    assert all(np.array_equal(store.read(video).array("rgb"), rgb[video]) for video in kept)
    assert "features.zarr is up to date (9 videos)" in said("examples", "clips")
    assert "features.zarr is up to date (9 videos)" in said("examples", "clips", "--model", "depth", "--head", "otam")


def test_features_are_those_of_the_workspace_and_so_is_their_depth(workspace: Path, tmp_path: Path) -> None:
    clip = tmp_path / "videos/spin/clip_1.mp4"
    predicted(tmp_path / "videos", clip, "--workspace", workspace)
    there = open_store(workspace / "features.zarr", FeaturesHeader, fix="").read("spin/clip_1")
    own = open_store(workspace / "predict/features.zarr", FeaturesHeader, fix="")
    (made,) = (own.read(video) for video, record in own.records().items() if record.source == "spin/clip_1.mp4")
    shared, rows, other_rows = np.intersect1d(there.array("frame"), made.array("frame"), return_indices=True)
    assert len(shared) == len(made.array("frame"))
    for stream in ("rgb", "depth"):
        np.testing.assert_allclose(there.array(stream)[0, rows], made.array(stream)[0, other_rows], atol=2e-3)


def test_a_trained_head_is_used_where_it_is_asked_for(workspace: Path, tmp_path: Path) -> None:
    typed = ("--model", "rgb", "--head", "match-linear", "--workspace", workspace)
    amefu("meta-train", *typed, "--epochs", "1")
    lay_clips(tmp_path / "clips", ("any",), 1)
    assert predicted(tmp_path / "videos", tmp_path / "clips", *typed)["head"] == "match-linear"


def test_a_trained_fusion_is_the_default_and_reads_what_it_was_trained_on(workspace: Path, tmp_path: Path) -> None:
    lay_clips(tmp_path / "clips", ("any",), 2)
    words = (tmp_path / "videos", tmp_path / "clips", "--workspace", workspace)
    found = predicted(*words)
    assert (found["model"], found["examples"]["bow"]) == ("amefu", 3)
    for model, head in (("rgb", "logistic"), ("amefu", "chamfer"), ("rgb-basenet", None)):
        predicted(*words, "--model", model, *(("--head", head) if head else ()))


def test_one_bad_clip_costs_one_clip(place: Path) -> None:
    Path("clips/bad.mp4").write_bytes(b"no video")
    Path("examples/jump/bad.mp4").write_bytes(b"none either")
    found = predicted("examples", "clips", "--csv", "labels.csv", code=3)
    assert {*found["failed"]} == {"clips/bad.mp4", "examples/jump/bad.mp4"}
    assert found["examples"]["jump"] == 3
    with Path("labels.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["clip"] for row in rows if row["error"]] == ["examples/jump/bad.mp4", "clips/bad.mp4"]
    assert [row["label"] for row in rows[:2]] == [clip["label"] for clip in found["clips"]]

    for path in Path("examples/clap").iterdir():
        path.write_bytes(b"")
    assert "clap" not in predicted("examples", "clips", code=3)["examples"]


def test_where_too_few_examples_can_be_read_nothing_is_labelled(place: Path) -> None:
    for name in ("clap", "jump"):
        for number, path in enumerate(Path("examples", name).iterdir()):
            path.write_bytes(name.encode() * (number + 1))
    with pytest.raises(AmefuError, match="those of 1 classes are left") as raised:
        amefu("predict", "examples", "clips")
    assert raised.value.exit_code == 1


@pytest.mark.parametrize("name", ["two\nlines.mp4", "踊り 歩く.mp4", "caf\udce9.mp4", "<b>[red]'\".mp4", "-- --.mp4"])
def test_any_name_works(place: Path, name: str) -> None:
    os.rename("clips/deep/one/clip_0.mp4", f"clips/{name}")
    os.rename("examples/wave", f"examples/{name.removesuffix('.mp4')}")
    found = predicted("examples", f"clips/{name}", "--csv", "labels.csv", "--top", "1")
    assert found["clips"][0]["clip"] == f"clips/{name}"
    assert name.removesuffix(".mp4") in found["examples"]
    with Path("labels.csv").open(newline="", errors="surrogateescape") as file:
        assert [row["clip"] for row in csv.DictReader(file)] == [f"clips/{name}"]
    amefu("predict", "examples", "clips")


def test_without_upstream_only_what_is_kept_is_read(place: Path) -> None:
    with pytest.raises(UsageError, match="9 clips were never read"):
        amefu("predict", "examples", "clips", "--no-upstream")
    found = predicted("examples", "clips")
    assert predicted("examples", "clips", "--no-upstream")["clips"] == found["clips"]
    with pytest.raises(UsageError, match="not for this model"):
        amefu("predict", "examples", "clips", "--no-upstream", "--model", "depth")


def test_options_stand_in_the_table_of_the_command(place: Path) -> None:
    with Path("work/amefu.toml").open("a") as file:
        file.write('[predict]\ntop = 1\nhead = "otam"\nreject = "0.2"\n')
    found = predicted("examples", "clips")
    assert (found["head"], found["reject"]["threshold"]) == ("otam", 0.2)
    assert [len(clip["labels"]) for clip in found["clips"]] == [1, 1]


def test_a_damaged_byte_of_what_is_kept_is_found_by_verify_and_made_again(place: Path) -> None:
    found = predicted("examples", "clips")
    for store in ("frames.zarr", "features.zarr"):
        archive = next(Path("work/predict", store, "videos/clips").iterdir())
        content = bytearray(archive.read_bytes())
        content[200] ^= 255
        archive.write_bytes(content)
    assert "`amefu predict` makes them, and only them, again" in amefu("verify", code=3).stderr
    assert "frames: 1 videos to make, 8 already" in said("examples", "clips")
    assert predicted("examples", "clips")["clips"] == found["clips"]


def test_a_clip_that_breaks_off_is_read_where_that_is_allowed_and_said_to(place: Path) -> None:
    Path("clips/pictures").mkdir()
    for number, frame in enumerate(moving_clip(7, frames=4, size=32)):
        Image.fromarray(frame).save(f"clips/pictures/img_{number}.png")
    Path("clips/pictures/img_3.png").write_bytes(b"no picture")
    assert {*predicted("examples", "clips", code=3)["failed"]} == {"clips/pictures"}
    assert "clips/pictures: breaks off midway" in said("examples", "clips", "--allow-partial")


def test_what_was_done_before_an_interruption_is_not_done_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(progress: Progress, names: Mapping[str, str]) -> Progress:
        def tell(done: int, total: int, item: str) -> None:
            assert Path(names[item]).is_file()
            if len(seen) == 9 + 3:  # all frames, and the features of three
                raise Interrupted(signal.SIGINT)
            seen.append(item)

        return tell

    seen: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(own_features, "_by_name", interrupted)
        with pytest.raises(Interrupted):
            amefu("predict", "examples", "clips", "--jobs", "1")
    text = said("examples", "clips")
    assert "frames.zarr is up to date (9 videos)" in text
    assert "features: 5 videos to make, 4 already" in text  # the fourth was stored before it was told of


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(place: Path) -> None:
    before = tree(place)
    done = amefu("predict", "examples", "clips", "--dry-run", "--csv", "labels.csv")
    assert "frames: 9 videos to make" in done.stderr
    assert done.stdout == ""
    assert tree(place) == before
    predicted("examples", "clips")
    assert "features: work/predict/features.zarr is up to date" in said("examples", "clips", "--dry-run")


def test_other_settings_of_the_workspace_make_all_of_it_again(place: Path) -> None:
    predicted("examples", "clips")
    config = Path("work/amefu.toml")
    config.write_text(config.read_text().replace('weights = "none"', 'weights = "none"\nflip = 0.5'))  # changes nothing
    assert "features.zarr is up to date" in said("examples", "clips")
    config.write_text(config.read_text().replace("size = 32", "size = 40"))
    text = said("examples", "clips")
    assert "frames.zarr was made with other settings or by other streams; all of it is made again" in text
    assert "frames: 9 videos to make, 0 already" in text
    assert len(features()) == 9


def test_an_example_that_is_nearer_to_another_class_is_named_before_the_labels(place: Path) -> None:
    os.rename("examples/jump/clip_0.mp4", "examples/clap/stray.mp4")
    names = [of["example"] for of in predicted("examples", "clips")["suspects"]]
    assert all(f"{name}: is nearer to" in said("examples", "clips") for name in names)


def test_below_the_threshold_a_clip_is_none_of_these_and_the_rates_are_said(place: Path) -> None:
    done = amefu("predict", "examples", "clips", "--reject", "1")
    assert done.stdout.count("none of these") == 2
    assert "below 100.0% a clip is none of these: wrong for 100% of the examples" in done.stderr
    found = predicted("examples", "clips", "--reject", "auto")
    assert 0 < found["reject"]["threshold"] < 1
    assert predicted("examples", "clips")["reject"] is None


# Long videos -------------------------------------------------------------------------------------------------


@pytest.fixture
def long_video(place: Path) -> Path:
    """`long.mp4` of 9 s at 8 frames a second: 3 s each of a class's first example, over and over."""
    parts = []
    for label, name in enumerate(CLASSES):
        clip = moving_clip(1000 * label, frames=12, size=32)
        parts += [clip, clip] if name != "wave" else [clip, clip[:12]]
    write_mp4(place / "long.mp4", np.concatenate(parts), fps=8)
    return place / "long.mp4"


def test_a_long_video_becomes_a_timeline_whose_neighbours_are_joined(long_video: Path) -> None:
    words = ("examples", "long.mp4", "--window", "1.5", "--every", "0.75")
    found = predicted(*words, "--csv", "a.csv", "--vtt", "a.vtt", "--picture", "a.png")["clips"]
    assert (found[0]["begin"], found[-1]["end"]) == (0, 9)
    assert all(one["end"] == other["begin"] and one["label"] != other["label"] for one, other in pairwise(found))
    at = {
        time: of["label"] for time in (0.7, 2.2, 3.7, 5.2, 6.7, 8.2) for of in found if of["begin"] <= time < of["end"]
    }
    assert at == {0.7: "clap", 2.2: "clap", 3.7: "jump", 5.2: "jump", 6.7: "wave", 8.2: "wave"}

    cues = Path("a.vtt").read_text().split("\n\n")
    assert cues[0] == "WEBVTT"
    assert cues[1].startswith("00:00:00.000 --> 00:00:0")
    assert len(cues) == 1 + len(found)
    with Path("a.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["label"], float(row["end"])) for row in rows] == [(of["label"], of["end"]) for of in found]
    with Image.open("a.png") as picture:
        assert picture.format == "PNG"
    assert "features.zarr is up to date (8 videos)" in said(*words)
    amefu("predict", *words)


def test_the_windows_of_a_video_are_kept_some_at_a_time(long_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("examples", "long.mp4", "--window", "1", "--every", "0.5")
    whole = predicted(*words)["clips"]
    shutil.rmtree("work/predict/features.zarr")
    monkeypatch.setattr(own_features, "PART", 3)  # 17 windows: 6 parts, beside 7 examples
    monkeypatch.setattr(predict, "WINDOWS_AT_ONCE", 4)
    assert "features: 13 videos to make" in said(*words)
    found = predicted(*words)["clips"]
    assert [of["label"] for of in found] == [of["label"] for of in whole]
    for one, other in zip(found, whole, strict=True):  # networks round otherwise by what else is in a batch
        assert one["labels"][0]["probability"] == pytest.approx(other["labels"][0]["probability"], abs=1e-4)


def test_below_the_threshold_a_stretch_shows_none_of_the_classes(long_video: Path) -> None:
    (found,) = predicted("examples", "long.mp4", "--window", "1", "--reject", "1", "--vtt", "a.vtt")["clips"]
    assert (found["label"], found["begin"], found["end"]) == (None, 0, 9)
    assert "none of these" in Path("a.vtt").read_text()


def test_a_folder_of_pictures_has_no_seconds(place: Path) -> None:
    Path("clips/pictures").mkdir()
    for number, frame in enumerate(moving_clip(7, frames=4, size=32)):
        Image.fromarray(frame).save(f"clips/pictures/img_{number}.png")
    assert predicted("examples", "clips/pictures")["clips"][0]["clip"] == "clips/pictures"
    found = predicted("examples", "clips/pictures", "--window", "1", code=3)
    assert "its frame rate is not known" in found["failed"]["clips/pictures"]


REFUSED = {
    "no such path": (["examples", "absent"], "`absent` cannot be read: No such file"),
    "a FIFO": (["examples", "pipe"], "`pipe` is neither a file nor a folder"),
    "no clip": (["examples", "empty"], "empty: holds no clip"),
    "no examples": (["empty", "clips"], "empty: has 0 classes with examples"),
    "one class": (["lonely", "clips"], "lonely: has 1 classes with examples, and two are needed"),
    "one clip in two classes": (["double", "clips"], "of another class; take one of them out"),
    "a probability": (["examples", "clips", "--reject", "2"], "--reject '2': must be a probability from 0 to 1"),
    "no number": (["examples", "clips", "--reject", "nan"], "--reject 'nan': must be a probability"),
    "auto on two classes": (["pair", "clips", "--reject", "auto"], "takes three classes"),
    "no such model": (["examples", "clips", "--model", "x"], "--model 'x': must be one of amefu, rgb"),
    "no fusion": (["examples", "clips", "--model", "amefu"], "make it with `amefu meta-train`"),
    "a head that was not trained": (["examples", "clips", "--head", "trx"], "meta-train --head trx --model rgb"),
    "a head of base videos": (["examples", "clips", "--head", "segment-augmentation"], "reads videos of base classes"),
    "no device": (["examples", "clips", "--device", "cuda:99"], "--device cuda:99: not present"),
    "labels in a file": (
        ["examples", "clips", "--csv", "examples/wave/clip_0.mp4/x"],
        "clip_0.mp4, a file; name another",
    ),
    "labels over a clip": (["examples", "clips", "--csv", "clips/deep/one/clip_0.mp4"], "would be written over"),
    "every without window": (["examples", "clips", "--every", "2"], "--every 2: is from one --window to the next"),
    "subtitles of whole clips": (["examples", "clips", "--vtt", "a.vtt"], "give --window SECONDS"),
    "subtitles of two": (["examples", "clips", "--vtt", "a.vtt", "--window", "1"], "there are 2; name one"),
    "a window of nothing": (["examples", "clips", "--window", "0"], "--window 0.0: must be at least 0.01"),
    "labels as a folder": (["examples", "clips", "--csv", "clips"], "--csv clips: is a folder"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused_before_any_work(place: Path, case: str) -> None:
    os.mkfifo("pipe")
    Path("empty").mkdir()
    shutil.copytree("examples/jump", "lonely/jump")
    shutil.copytree("examples/jump", "double/jump")
    shutil.copytree("examples/jump", "double/wave")
    shutil.copytree("examples/jump", "pair/jump")
    shutil.copytree("examples/wave", "pair/wave")
    words, message = REFUSED[case]
    with pytest.raises(UsageError) as raised:
        amefu("predict", *words)
    assert message in str(raised.value)
    assert not Path("work/predict/frames.zarr").exists()
