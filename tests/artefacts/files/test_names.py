from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import MakeClips, RunAmefu
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.artefacts.files.names import ARCHIVE, DAMAGED, archive_path, video_id
from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.errors import UsageError

# What a file system can give as a name: any bytes but / and NUL, decoded with surrogates for what is not UTF-8.
names = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, ord("/")}).map(os.fsdecode)
ids = st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize(
    ("video", "path"),
    [
        ("archery/v_03", "archery/v_03.zip"),
        ("archery/v_03 (left)", "archery/v_03 (left).zip"),
        ("踊り/歩く", "踊り/歩く.zip"),
        ("a/50%", "a/50%25.zip"),
        ("a/two\nlines", "a/two%0Alines.zip"),
        ("a/back\\slash", "a/back%5Cslash.zip"),
        ("a/caf\udce9", "a/caf%E9.zip"),
        ("a/.hidden", "a/%2Ehidden.zip"),
        ("a/b.zip", "a/b.zip.zip"),
        ("b.zip/c", "b%2Ezip/c.zip"),
        ("b.BAD/c.bad", "b%2EBAD/c.bad.zip"),
        ("é.zip/c", "é%2Ezip/c.zip"),
        ("zarr.json/c", "zarr.json/c.zip"),
    ],
)
def test_an_id_is_a_path_that_can_be_read(video: str, path: str) -> None:
    assert archive_path(video) == path
    assert video_id(path) == video


@given(ids)
def test_every_id_comes_back(video: str) -> None:
    path = archive_path(video)
    assert video_id(path) == video
    assert video_id(path.removesuffix(ARCHIVE) + DAMAGED) == video


@given(st.lists(ids, min_size=2, max_size=2, unique=True))
def test_two_ids_never_share_a_path_and_none_lies_inside_another(pair: list[str]) -> None:
    """Sound or damaged: an archive is a file, so that no folder may be called as one is."""
    first, second = map(archive_path, pair)
    for path in (first, first.removesuffix(ARCHIVE) + DAMAGED):
        assert path != second
        assert not f"{second}/".startswith(f"{path}/")


@given(st.text(max_size=60) | ids)
def test_no_id_leaves_the_store(video: str) -> None:
    try:
        path = archive_path(video)
    except UsageError:
        return
    place = os.path.normpath(Path("/store/videos", path))
    assert place.startswith("/store/videos/")
    parts = path.split("/")
    assert len(parts) == len(video.split("/"))
    for part in parts:
        assert part not in (".", "..")
        assert not part.startswith(".")
        assert len(part.encode()) <= 255
        assert part.isprintable()


@pytest.mark.parametrize("video", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a/b\0c"])
def test_an_id_that_is_no_relative_path_is_refused(video: str) -> None:
    with pytest.raises(UsageError, match="is not a relative path below a class folder"):
        archive_path(video)


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    assert len(archive_path("a/" + "x" * 251)) == 257
    with pytest.raises(UsageError, match="needs 256 bytes as a file name; the limit is 255: rename the clip"):
        archive_path("a/" + "x" * 252)
    with pytest.raises(UsageError, match="needs 256 bytes"):
        archive_path("x" * 256 + "/a")
    with pytest.raises(UsageError, match="needs 262 bytes"):
        archive_path("a/" + "%" * 86)


def test_a_name_that_the_file_system_of_a_store_refuses_costs_its_clip(
    tmp_path: Path, make_clips: MakeClips, run_amefu: RunAmefu
) -> None:
    """As bytes that are not UTF-8 take three times their room, a path that VIDEOS may have is too long for a store."""
    first, deep, _ = make_clips(tmp_path / "videos", ("jump",), 3)
    first.rename(first.with_name(os.fsdecode(b"\xe9" * 100 + b".mp4")))
    folder = deep.parent.joinpath(*[os.fsdecode(b"\xe9" * 80)] * 17)
    folder.mkdir(parents=True)
    deep.rename(folder / "deep.mp4")
    options = ("frames", tmp_path / "videos", "--workspace", tmp_path / "work", "--size", "32", "--json")
    done = run_amefu(*options, code=3)
    result = json.loads(done.stdout)
    assert (result["done"], len(result["failed"]), len(result["skipped"])) == (1, 1, 1)
    (failure,) = read_failures(tmp_path / "work")
    assert failure.error == "UnusableName"
    assert failure.message.endswith("too long; shorten the id")
