"""The rendered world as files, and the picture of clips beside their depth."""

from __future__ import annotations

import tomllib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from amefu_cli.artefacts.files.split import read_split
from amefu_cli.demo import clips as mp4
from amefu_cli.demo.actions import WORLD_SPLIT
from amefu_cli.demo.clips import World, render_clip, render_world, write_mp4
from amefu_cli.demo.picture import MARGIN, TITLE_HEIGHT, picture_of_clips, write_picture
from amefu_cli.errors import AmefuError, SettingsMismatch

SMALL = {"frames": 8, "size": 32, "fps": 10, "seed": 3}


def render(folder: Path, *, clips: int = 1, jobs: int = 1, **changes: int):
    heard = []
    outcome = render_world(
        World(**(SMALL | changes)),
        folder / "videos",
        folder / "split.toml",
        clips_per_class=clips,
        jobs=jobs,
        progress=lambda done, total, what: heard.append((done, total, what)),
    )
    return outcome, heard


def read(path: Path) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder, *render(folder)


def test_the_world_is_one_folder_a_class_and_a_split(world):
    folder, outcome, heard = world
    names = [name for part in WORLD_SPLIT.values() for name in part]
    expected = {f"videos/{name}/{name}_000.mp4" for name in names} | {"split.toml"}
    assert set(files(folder)) == expected
    assert sorted(outcome.done) == sorted(f"{name}/{name}_000" for name in names)
    assert outcome.kept == 0
    assert [done for done, _, _ in heard] == list(range(1, 16))
    assert {total for _, total, _ in heard} == {15}
    split = read_split(folder / "split.toml")
    assert split.base == tuple(sorted(WORLD_SPLIT["train"]))
    assert split.validation == tuple(sorted(WORLD_SPLIT["val"]))
    assert split.novel == tuple(sorted(WORLD_SPLIT["test"]))
    assert tomllib.loads((folder / "split.toml").read_text())["world"] == SMALL


def test_a_file_holds_the_clip_of_its_seed_class_and_number(world):
    folder, _, _ = world
    name = WORLD_SPLIT["train"][2]
    clip = render_clip(name, frames=8, height=32, width=32, rng=np.random.default_rng((3, 2, 0)))
    found = read(folder / "videos" / name / f"{name}_000.mp4")
    assert found.shape == (8, 32, 32, 3)
    assert np.abs(found.astype(int) - clip.rgb).mean() < 12  # colour at half the resolution, and coding


def test_clips_that_are_there_are_kept_and_two_processes_make_the_same_world(world, tmp_path):
    whole, _, _ = world
    name = WORLD_SPLIT["test"][0]
    (tmp_path / "videos" / name).mkdir(parents=True)
    there = tmp_path / "videos" / name / f"{name}_000.mp4"
    there.write_bytes(b"mine")
    outcome, _ = render(tmp_path, jobs=2)
    assert (outcome.kept, len(outcome.done)) == (1, 14)
    assert there.read_bytes() == b"mine"
    made, expected = files(tmp_path), files(whole)
    changed = f"videos/{name}/{name}_000.mp4"
    assert {key: value for key, value in made.items() if key != changed} == {
        key: value for key, value in expected.items() if key != changed
    }


def test_a_world_of_another_recipe_is_refused(world):
    folder, _, _ = world
    before = files(folder)
    with pytest.raises(SettingsMismatch) as error:
        render(folder, seed=4)
    assert str(error.value) == (
        f"{folder / 'split.toml'}: the clips there were rendered with seed 3, not 4; "
        "remove them and this file, or give another folder"
    )
    assert files(folder) == before


def test_mp4_keeps_pictures_rate_and_leaves_no_temporary_file(tmp_path):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, None, :, None], (5, 48, 1, 3))
    write_mp4(tmp_path / "deep" / "ramp.mp4", ramp, 12)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["ramp.mp4"]
    with av.open(tmp_path / "deep" / "ramp.mp4") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", 12, 5)
    assert np.abs(read(tmp_path / "deep" / "ramp.mp4").astype(int) - ramp).max() <= 4


def test_mp4_without_libx264_falls_back_to_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(mp4.av, "codecs_available", {"mpeg4"})
    gray = np.full((3, 32, 32, 3), 128, np.uint8)
    write_mp4(tmp_path / "gray.mp4", gray, 10)
    with av.open(tmp_path / "gray.mp4") as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert np.abs(read(tmp_path / "gray.mp4").astype(int) - 128).max() <= 3


def test_mp4_of_an_odd_size_is_refused(tmp_path):
    with pytest.raises(AmefuError, match=r"odd\.mp4: frames of 31×32; an mp4 needs an even height and width"):
        write_mp4(tmp_path / "odd.mp4", np.zeros((1, 31, 32, 3), np.uint8), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_has_a_row_a_clip_with_its_frames_and_their_depth(tmp_path):
    frames = np.zeros((8, 10, 20, 3), np.uint8)
    frames[:, :, :, 0] = 30 * np.arange(8)[:, None, None]  # every frame another red
    disparity = np.tile(np.linspace(0, 255, 10, dtype=np.uint8)[None, :, None], (8, 1, 20))
    picture = picture_of_clips([("one", frames, disparity), ("two", frames[:1], disparity[:1])], tile=10)
    width = 2 * 4 * 21 + MARGIN + 2 * MARGIN
    assert picture.size == (width, 2 * (TITLE_HEIGHT + 10) + 3 * MARGIN)
    top = MARGIN + TITLE_HEIGHT
    shown = [picture.getpixel((MARGIN + 21 * place + 5, top + 5)) for place in range(4)]
    assert shown == [(0, 0, 0), (60, 0, 0), (150, 0, 0), (210, 0, 0)]  # frames 0, 2, 5 and 7
    depth_left = MARGIN + 4 * 21 + MARGIN
    assert picture.getpixel((depth_left, top)) == (0, 0, 3)
    assert picture.getpixel((depth_left, top + 9)) == (251, 252, 191)
    write_picture(tmp_path / "clips.png", [("one", frames, disparity)])
    with Image.open(tmp_path / "clips.png") as written:
        assert written.format == "PNG"
