from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import tree
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.artefacts.stores.header import HEADER, STAGING, UnusableName, read_header, read_record
from amefu_cli.artefacts.stores.store import VideoStore, open_store, prepare_store
from amefu_cli.artefacts.stores.writing import VideoWriter
from amefu_cli.errors import AmefuError, DamagedFile, SettingsMismatch, UsageError

SOURCE = {"size": 5, "mtime_ns": 7}


def prepare(path: Path, *, rebuild: bool = False, notes: dict[str, Any] | None = None, **settings: Any) -> VideoStore:
    return prepare_store(
        path,
        "frames",
        settings={"size": 32, **settings},
        made_from={"weights": "w0"},
        notes=notes or {},
        rebuild=rebuild,
    ).begin()


def put(store: VideoStore, video: str, value: int = 1, made_from: dict[str, Any] = SOURCE) -> None:
    """One video of three frames, two arrays, several chunks."""
    with VideoWriter(store, video, {"pixels": 0, "score": 0}, compressed=frozenset({"pixels"})) as writer:
        writer.append("pixels", np.full((3, 1 << 20), value, np.uint8))
        writer.append("score", np.arange(3, dtype=np.float32) * value)
        writer.commit(frames=3, fps=25.0, source=f"{video}.mp4", made_from=made_from)


@pytest.fixture
def store(tmp_path: Path) -> VideoStore:
    made = prepare(tmp_path / "s.zarr")
    put(made, "jump/a")
    put(made, "jump/deep/b", value=2)
    made.close()
    return made


def test_a_video_comes_back_with_its_record(store: VideoStore) -> None:
    opened = open_store(store.path, "frames", fix="amefu frames")
    record = opened.record("jump/a")
    assert record is not None
    assert (record.id, record.frames, record.fps, record.source) == ("jump/a", 3, 25.0, "jump/a.mp4")
    assert (record.made_from, record.partial, record.damaged, record.class_name) == (SOURCE, False, False, "jump")
    assert opened.is_done(record, SOURCE)
    assert opened.records() == {"jump/a": record, "jump/deep/b": opened.record("jump/deep/b")}
    stored = opened.read("jump/deep/b")
    assert stored.shape("pixels") == (3, 1 << 20)
    assert (stored.array("pixels", slice(1, 3)) == 2).all()
    assert stored.array("score").tolist() == [0.0, 2.0, 4.0]
    assert opened.record("jump/absent") is None


def test_any_zarr_reader_can_walk_the_store(store: VideoStore) -> None:
    group = zarr.open_group(store.path, mode="r")
    arrays = {path: array.shape for path, array in group.members(max_depth=None) if isinstance(array, zarr.Array)}
    assert arrays["videos/jump/deep/b/pixels"] == (3, 1 << 20)
    assert len(arrays) == 4
    assert group["videos/jump/a"].attrs["id"] == "jump/a"


def test_nothing_but_the_videos_is_left_by_a_writer(store: VideoStore) -> None:
    assert sorted(path.name for path in store.path.iterdir()) == ["videos", HEADER]
    assert not [path for path in store.path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    "changed", [{"size": 6, "mtime_ns": 7}, {"size": 5, "mtime_ns": 8}, {"sha256": "0"}, {**SOURCE, "more": 1}]
)
def test_a_video_is_done_only_for_the_source_it_was_made_from(store: VideoStore, changed: dict[str, Any]) -> None:
    assert not store.is_done(store.record("jump/a"), changed)
    assert not store.is_done(None, SOURCE)


def test_another_recipe_or_other_weights_are_refused_with_the_difference(store: VideoStore) -> None:
    with pytest.raises(SettingsMismatch) as error:
        prepare(store.path, size=64, quality=95)
    assert str(error.value) == (
        f"{store.path}: made with other settings or from other weights (settings.quality: nothing in the file, 95 "
        "asked for; settings.size: 32 in the file, 64 asked for); keep it and make a second one with `amefu frames --out "
        "OTHER.zarr`, or replace it with `amefu frames --rebuild`"
    )
    with pytest.raises(SettingsMismatch, match=r"made_from\.weights: w0 in the file, w1 asked for"):
        prepare_store(
            store.path, "frames", settings={"size": 32}, made_from={"weights": "w1"}, notes={}, rebuild=False
        )  # fmt: skip
    assert len(store.records()) == 2


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_store_of_another_kind_is_refused_and_never_deleted(store: VideoStore, rebuild: bool) -> None:
    with pytest.raises(UsageError, match=r"holds 'frames', not 'depth'; make one with `amefu depth`"):
        prepare_store(store.path, "depth", settings={}, made_from={}, notes={}, rebuild=rebuild)
    assert len(store.records()) == 2


def test_what_is_only_planned_writes_and_deletes_nothing(store: VideoStore, tmp_path: Path) -> None:
    before = tree(tmp_path)
    for path, rebuild in ((store.path, True), (store.path, False), (tmp_path / "new.zarr", False)):
        planned = prepare_store(
            path, "frames", settings={"size": 32}, made_from={"weights": "w0"}, notes={"more": 1}, rebuild=rebuild
        )
        planned.require_writable()
        assert planned.records() == ({} if rebuild or path != store.path else store.records())
    assert tree(tmp_path) == before


def test_a_store_that_another_process_writes_into_is_not_replaced(store: VideoStore) -> None:
    with prepare(store.path, rebuild=True) as first:
        put(first, "jump/a")
        with pytest.raises(UsageError, match="another process writes into it at this moment, so it is not replaced"):
            prepare(store.path, rebuild=True)
        put(first, "jump/c")
    assert list(first.records()) == ["jump/a", "jump/c"]
    assert prepare(store.path, rebuild=True).records() == {}


def test_a_store_of_another_schema_is_refused(store: VideoStore) -> None:
    header = json.loads((store.path / HEADER).read_text())
    header["attributes"]["amefu"]["schema"] = 0
    (store.path / HEADER).write_text(json.dumps(header))
    with pytest.raises(SettingsMismatch, match=r"schema 0, this version writes 1; replace it with `amefu frames --reb"):
        open_store(store.path, "frames", fix="amefu frames")


def test_notes_are_kept_and_never_compared(store: VideoStore) -> None:
    assert prepare(store.path, notes={"licence": "MIT"}).notes == {"licence": "MIT"}
    assert prepare(store.path, notes={"videos": "/v"}).notes == {"licence": "MIT", "videos": "/v"}
    assert not (store.path / STAGING).exists() or not list((store.path / STAGING).glob("*/*"))


def test_rebuild_begins_again_and_deletes_nothing_else(store: VideoStore) -> None:
    leftover = store.path.with_name(f".{store.path.name}.discarded-of-a-killed-run")
    leftover.mkdir()
    assert prepare(store.path, rebuild=True, size=64).records() == {}
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["s.zarr"]
    other = store.path.with_name("mine")
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is there, but is not a store of amefu's"):
        prepare(other, rebuild=True)
    assert (other / "thesis.tex").exists()


def test_a_store_that_was_killed_while_it_was_started_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "s.zarr" / STAGING / "dead").mkdir(parents=True)
    store = prepare(tmp_path / "s.zarr")
    put(store, "a/b")
    store.close()
    assert list(store.records()) == ["a/b"]
    assert not (store.path / STAGING).exists()


def test_no_store_and_another_kind_are_said(tmp_path: Path, store: VideoStore) -> None:
    with pytest.raises(UsageError, match=r"no such store; make it with `amefu frames VIDEOS`"):
        open_store(tmp_path / "absent.zarr", "frames", fix="amefu frames VIDEOS")
    with pytest.raises(UsageError, match=r"holds 'frames', not 'depth'; make one with `amefu depth`"):
        open_store(store.path, "depth", fix="amefu depth")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"choose another"):
        prepare(tmp_path / "file")
    with pytest.raises(UsageError, match=r"cannot be written: .*; choose another place"):
        prepare(tmp_path / "file" / "s.zarr")


def lose(chunk: Path) -> None:
    chunk.unlink()


def flip(chunk: Path) -> None:
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0x10
    chunk.write_bytes(content)


def cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-9])


def empty(chunk: Path) -> None:
    chunk.write_bytes(b"")


@pytest.mark.parametrize(
    ("chunk", "damage"),
    [
        *((chunk, damage) for chunk in ("pixels/c/1/0", "score/c/0") for damage in (lose, flip, cut, empty)),
        *(("pixels/zarr.json", damage) for damage in (lose, cut, empty)),
    ],
)
def test_damage_is_an_error_that_names_the_video_and_never_zeros(
    store: VideoStore, chunk: str, damage: Callable[[Path], None]
) -> None:
    damage(store.path / "videos/jump/a" / chunk)
    with pytest.raises(DamagedFile, match=r"s\.zarr: video 'jump/a' is damaged"):
        _read_all(store, "jump/a")
    _read_all(store, "jump/deep/b")


def _read_all(store: VideoStore, video: str) -> None:
    stored = store.read(video)
    for name in ("pixels", "score"):
        stored.array(name)


def test_an_absent_video_and_a_vanished_store_are_told_apart(store: VideoStore) -> None:
    with pytest.raises(DamagedFile, match=r"holds no video 'jump/c'; make it with `amefu frames`"):
        store.read("jump/c")
    shutil.rmtree(store.path)
    with pytest.raises(AmefuError, match="is not there any more") as error:
        store.read("jump/a")
    assert not isinstance(error.value, DamagedFile)  # so that it stops the run, and is no fault of the video


def test_a_marked_video_is_not_done_and_not_read_until_it_is_made_again(store: VideoStore) -> None:
    store.mark_damaged(store.path / "videos/jump/a", "a chunk is lost")
    record = store.records()["jump/a"]
    assert record.damaged
    assert not store.is_done(record, SOURCE)
    with pytest.raises(DamagedFile, match=r"'jump/a' is damaged; make it again with `amefu frames`"):
        store.read("jump/a")
    put(store, "jump/a")
    assert store.is_done(store.records()["jump/a"], SOURCE)
    _read_all(store, "jump/a")


def test_a_broken_header_stops_until_it_is_marked_and_is_then_replaced(store: VideoStore) -> None:
    (store.path / "videos/jump/a" / HEADER).write_bytes(b'{"attributes": {"finger')
    with pytest.raises(DamagedFile, match=r"jump/a/zarr\.json: not a Zarr header .* `amefu verify` marks it"):
        store.records()
    store.mark_damaged(store.path / "videos/jump/a", "its header is broken")
    assert list(store.records()) == ["jump/deep/b"]
    put(store, "jump/a")
    assert list(store.records()) == ["jump/a", "jump/deep/b"]


def test_of_two_equal_videos_the_first_stays(store: VideoStore) -> None:
    before = store.read("jump/a")
    put(store, "jump/a")
    assert before.array("score").tolist() == [0.0, 1.0, 2.0]
    store.close()
    assert not (store.path / STAGING).exists()


def test_a_video_that_is_made_again_replaces_one_that_only_says_it_is_the_same(store: VideoStore) -> None:
    put(store, "jump/a", value=3)
    assert store.read("jump/a").array("score").tolist() == [0.0, 3.0, 6.0]
    flip(store.path / "videos/jump/a/score/c/0")
    put(store, "jump/a", value=3)
    _read_all(store, "jump/a")


def test_a_video_that_is_replaced_while_it_is_read_is_never_mixed(store: VideoStore) -> None:
    before = store.read("jump/a")
    put(store, "jump/a", value=9, made_from={"size": 6, "mtime_ns": 8})
    with pytest.raises(DamagedFile, match=r"'jump/a' was replaced while it was read; run the same command again"):
        before.array("score")
    assert store.read("jump/a").array("score").tolist() == [0.0, 9.0, 18.0]


def test_a_clip_that_becomes_a_folder_of_clips_gives_way(store: VideoStore) -> None:
    put(store, "jump/a/inside")
    assert list(store.records()) == ["jump/a/inside", "jump/deep/b"]
    put(store, "jump/a")
    assert list(store.records()) == ["jump/a", "jump/deep/b"]


def test_a_file_system_that_folds_case_is_found_out(store: VideoStore) -> None:
    put(store, "jump/A")
    shutil.rmtree(store.path / "videos/jump/a")
    os.rename(store.path / "videos/jump/A", store.path / "videos/jump/a")  # what such a file system would show
    with pytest.raises(UnusableName, match="does not tell 'jump/a' from 'jump/A'; rename one"):
        put(store, "jump/a", made_from={"other": 1})


def test_writers_of_one_video_and_a_reader_beside_them(tmp_path: Path) -> None:
    """Four writers put two versions of one video again and again while two readers read it."""
    path = tmp_path / "s.zarr"
    with prepare(path) as store:
        put(store, "a/b", value=1)
    stop, seen, faults = threading.Event(), set(), []

    def write(value: int) -> None:
        with prepare(path) as store:
            for _ in range(25):
                put(store, "a/b", value=value, made_from={"version": value})

    def read() -> None:
        store = open_store(path, "frames", fix="")
        while not stop.is_set():
            try:
                stored = store.read("a/b")
                pixels, score = stored.array("pixels"), stored.array("score")
            except DamagedFile as error:
                if not any(known in str(error) for known in ("was replaced", "holds no video", "is damaged (")):
                    faults.append(str(error))
                continue
            seen.add(int(pixels[0, 0]))
            if not (pixels == pixels[0, 0]).all() or score[1] != pixels[0, 0]:
                faults.append("a torn read")

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(value,)) for value in (1, 2, 1, 2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert faults == []
    assert seen <= {1, 2}
    assert len(open_store(path, "frames", fix="").records()) == 1
    assert not (path / STAGING).exists()


def test_two_stores_started_at_once_are_one(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    outcomes: list[str] = []

    def begin(size: int) -> None:
        barrier.wait()
        try:
            prepare(tmp_path / "s.zarr", size=size).close()
            outcomes.append("made")
        except SettingsMismatch:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin, args=(size,)) for size in (1, 1, 2, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "made", "refused", "refused"]


def test_a_store_that_may_not_be_written_says_so(store: VideoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.require_writable()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="may not be written to; choose another place with --out"):
        store.require_writable()


@given(content=st.binary(max_size=120) | st.recursive(st.none() | st.integers() | st.text(max_size=4), st.lists).map(
    lambda value: json.dumps({"attributes": {"fingerprint": "f", "amefu": value}}).encode()
))  # fmt: skip
def test_garbage_for_a_header_is_answered_with_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / HEADER).write_bytes(content)
    for read in (read_header, read_record):
        with suppress(DamagedFile, UsageError):
            read(folder)
