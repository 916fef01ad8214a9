from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import pytest
from conftest import MakeClips, RunAmefu
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.artefacts.files.names import group_path, video_id
from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.errors import UsageError

# What a file system can give as a name: any bytes but / and NUL, decoded with surrogates for what is not UTF-8.
names = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, ord("/")}).map(os.fsdecode)
ids = st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize(
    ("video", "path"),
    [
        ("archery/v_03", "archery/v_03"),
        ("archery/v_03 (left)", "archery/v_03 (left)"),
        ("踊り/歩く", "踊り/歩く"),
        ("a/50%", "a/50%25"),
        ("a/two\nlines", "a/two%0Alines"),
        ("a/back\\slash", "a/back%5Cslash"),
        ("a/caf\udce9", "a/caf%E9"),
        ("a/.hidden", "a/%2Ehidden"),
        ("a/__zarr", "a/%5F_zarr"),
        ("zarr.json/c", "%7Aarr.json/c"),
    ],
)
def test_an_id_is_a_path_that_can_be_read(video: str, path: str) -> None:
    assert str(group_path(video)) == path
    assert video_id(PurePosixPath(path)) == video


@given(ids)
def test_every_id_comes_back(video: str) -> None:
    assert video_id(group_path(video)) == video


@given(st.lists(ids, min_size=2, max_size=2, unique=True))
def test_two_ids_never_share_a_path(pair: list[str]) -> None:
    assert group_path(pair[0]) != group_path(pair[1])


@given(st.text(max_size=60) | ids)
def test_no_id_leaves_the_store(video: str) -> None:
    try:
        path = group_path(video)
    except UsageError:
        return
    place = os.path.normpath(Path("/store/videos", path))
    assert place.startswith("/store/videos/")
    assert len(path.parts) == len(video.split("/"))
    for part in path.parts:
        assert part not in (".", "..", "zarr.json")
        assert not part.startswith((".", "__"))
        assert len(part.encode()) <= 255
        assert part.isprintable()


@pytest.mark.parametrize("video", ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", "./a", "a/b\0c"])
def test_an_id_that_is_no_relative_path_is_refused(video: str) -> None:
    with pytest.raises(UsageError, match="is not a relative path below a class folder"):
        group_path(video)


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    assert len(str(group_path("a/" + "x" * 255))) == 257
    with pytest.raises(UsageError, match="needs 256 bytes as a file name; the limit is 255: rename the clip"):
        group_path("a/" + "x" * 256)
    with pytest.raises(UsageError, match="needs 258 bytes"):
        group_path("a/" + "%" * 86)


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
