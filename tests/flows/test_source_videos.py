"""From a folder of videos as people have it to the frames, and to the split: what is read, and what is said."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import amefu, lay_clips, moving_clip, quiet_session
from PIL import Image

from amefu_cli.artefacts.files.split import read_split
from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import FramesHeader
from amefu_cli.artefacts.stores.pictures import read_frames
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.errors import UsageError
from amefu_cli.flows.splits import SplitOrder, resolve_split


def pictures(folder: Path, name: str, count: int = 6, *, level: int = 100) -> None:
    """Pictures of one gray each: `level`, `level + 1` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (32, 32), level + number).save(folder / name.replace("#", str(number)))


def framed(videos: Path, *, code: int = 0) -> VideoStore[FramesHeader]:
    work = videos.parent / "work"
    amefu("frames", videos, "--workspace", work, "--size", "32", "--jobs", "1", code=code)
    return open_store(work / "frames.zarr", FramesHeader, fix="")


def levels(store: VideoStore[FramesHeader], video: str) -> list[int]:
    count = store.records()[video].frames
    return [round(float(frame.mean())) for frame in read_frames(store.read(video), np.arange(count))]


def test_no_picture_of_one_series_becomes_a_frame_of_another(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    pictures(videos / "a" / "public", "image_#.png")
    pictures(videos / "a" / "public" / "monodepth", "image_#_disp.jpeg", level=10)
    pictures(videos / "a" / "flow", "img_#.png", 12, level=40)
    pictures(videos / "a" / "flow", "flow_x_#.png", level=200)
    pictures(videos / "b" / "nas", "#.png", 3, level=60)
    pictures(videos / "b" / "nas" / "@eaDir" / "0.png", "SYNOPHOTO_#.jpg", level=200)
    pictures(videos / "b" / "two", "left_#.png")
    pictures(videos / "b" / "two", "right_#.png", level=50)
    pictures(videos / "#recycle" / "gone", "#.png")
    store = framed(videos, code=3)
    assert {video: levels(store, video) for video in store.ids()} == {
        "a/flow": [*range(40, 52)], "a/public": [*range(100, 106)], "b/nas": [60, 61, 62],
    }  # fmt: skip
    (failure,) = read_failures(tmp_path / "work")
    assert (failure.video, failure.error) == ("b/two", "AmbiguousClip")
    assert "left_*.png (6), right_*.png (6)" in failure.message
    shutil.rmtree(videos / "b" / "two")  # with one series it is tried again
    pictures(videos / "b" / "two", "left_#.png")
    assert levels(framed(videos), "b/two") == [*range(100, 106)]


def test_a_dry_run_shows_clips_by_kind_and_class_and_all_that_is_passed_over(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    lay_clips(videos, ("jump", "run"), clips=2, frames=2)
    shutil.copy(videos / "run" / "clip_0.mp4", videos / "run" / "copy.mp4")
    shutil.copy(videos / "run" / "clip_1.mp4", videos / "jump" / "copy.mp4")
    pictures(videos / "jump" / "clip_0", "img_#.png", 2)
    pictures(videos / "jump" / "3", "img_#.png", 2)
    pictures(videos / "jump" / "3", "mask_#.png", 2)
    pictures(videos / "jump" / "4", "left_#.png", 2)
    pictures(videos / "jump" / "4", "right_#.png", 2)
    (videos / "jump" / ".hidden").touch()
    (videos / "run" / "notes.txt").touch()
    words = ("frames", videos, "--workspace", tmp_path / "work", "--dry-run")
    shown = json.loads(amefu(*words, "--json").stdout)
    assert shown["clips"] == {"videos": 5, "folders of pictures": 2}
    assert shown["classes"] == {"jump": 5, "run": 2}
    assert shown["in two classes"] == [["jump/copy", "run/clip_1"]]
    assert list(shown["refused"]) == ["jump/4"]
    assert {str(Path(path).relative_to(videos)): reason for path, reason in shown["skipped"].items()} == {
        "jump/clip_0": "the same recording as clip_0.mp4, by its name", "jump/.hidden": "hidden",
        "jump/3/mask_*.png": "another series of pictures than img_*.png", "run/notes.txt": "no video by its suffix",
        "run/copy.mp4": "the same bytes as run/clip_0",
    }  # fmt: skip
    table = amefu(*words).stdout
    for word in ("video files", "folders of pictures", "class jump", "passed over: hidden"):
        assert word in table
    assert not (tmp_path / "work").exists()


def test_of_the_same_recording_one_is_stored(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    lay_clips(videos, ("run",), clips=2, frames=4)
    shutil.copy(videos / "run" / "clip_0.mp4", videos / "run" / "again.mp4")
    shutil.copy(videos / "run" / "clip_1.mp4", videos / "run" / "clip_1.f137.mp4")
    for number, frame in enumerate(moving_clip(1, frames=4, size=32)):
        (videos / "run" / "clip_1").mkdir(exist_ok=True)
        Image.fromarray(frame).save(videos / "run" / "clip_1" / f"img_{number}.png")
    assert framed(videos).ids() == ["run/clip_0", "run/clip_1"]


def test_folders_above_the_classes_serve_as_the_split(tmp_path: Path) -> None:
    made = tmp_path / "made"
    lay_clips(made, ("jump", "run", "swim"), clips=2, frames=2)
    for part, name in (("train", "run"), ("val", "jump"), ("test", "swim")):
        (tmp_path / "videos" / part).mkdir(parents=True)
        (made / name).rename(tmp_path / "videos" / part / name)
    store = framed(tmp_path / "videos")
    assert store.ids() == [f"{name}/clip_{number}" for name in ("jump", "run", "swim") for number in range(2)]
    assert store.records()["run/clip_1"].source == "train/run/clip_1.mp4"
    split = resolve_split(quiet_session(tmp_path / "work"), SplitOrder(Path("folders")), store, {})
    assert (split.base, split.validation, split.novel) == (("run",), ("jump",), ("swim",))
    assert read_split(tmp_path / "work" / "split.json") == split
    shown = json.loads(amefu("split", "check", tmp_path / "videos", "--split", "folders", "--json").stdout)
    assert [(row["part"], row["name"], row["present"]) for row in shown["classes"]] == [
        ("base", "run", 2), ("validation", "jump", 2), ("novel", "swim", 2),
    ]  # fmt: skip


def test_a_split_that_matches_nothing_is_refused_and_not_written_down(tmp_path: Path) -> None:
    lay_clips(tmp_path / "videos", ("jump", "run"), clips=1, frames=2)
    store, session = framed(tmp_path / "videos"), quiet_session(tmp_path / "work")
    (tmp_path / "other.json").write_text('{"train": ["walk"], "test": ["fly"]}')
    order = SplitOrder(tmp_path / "other.json")
    with pytest.raises(UsageError, match=r"matches none of the videos .* it names fly, walk and there are jump/clip_0"):
        resolve_split(session, order, store, {})
    assert resolve_split(session, order, store, {}, share=True).base == ("walk",)
    assert not session.workspace.split.exists()


@pytest.mark.parametrize(("typed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_split_finds_names_composed_otherwise(tmp_path: Path, typed: str, on_disk: str) -> None:
    name = unicodedata.normalize(on_disk, "théâtre")
    lay_clips(tmp_path / "videos", (name, "run"), clips=1, frames=2)
    store, session = framed(tmp_path / "videos"), quiet_session(tmp_path / "work")
    split = json.dumps({"train": ["run"], "test": [unicodedata.normalize(typed, name)]}, ensure_ascii=False)
    (tmp_path / "typed.json").write_bytes(split.encode("utf-8-sig"))
    resolved = resolve_split(session, SplitOrder(tmp_path / "typed.json"), store, {})
    assert resolved.novel == (name,)
    assert read_split(session.workspace.split) == resolved


def test_the_same_clip_in_two_classes_stops_what_reads_classes(tmp_path: Path) -> None:
    lay_clips(tmp_path / "videos", ("jump", "run", "swim"), clips=1, frames=2)
    shutil.copy(tmp_path / "videos" / "run" / "clip_0.mp4", tmp_path / "videos" / "jump" / "clip_0.mp4")
    store, session = framed(tmp_path / "videos"), quiet_session(tmp_path / "work")
    (tmp_path / "s.json").write_text('{"train": ["jump", "run"], "test": ["swim"]}')
    with pytest.raises(UsageError, match=r"jump/clip_0 and run/clip_0 are the same clip, .* in different classes"):
        resolve_split(session, SplitOrder(tmp_path / "s.json"), store, {})
    amefu("split", "check", tmp_path / "videos", "--split", tmp_path / "s.json", "--repair", tmp_path / "fixed.json")
    assert read_split(tmp_path / "fixed.json").videos == {"swim/clip_0"}
