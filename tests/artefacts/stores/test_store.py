from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tree
from hypothesis import given
from hypothesis import strategies as st
from small_stores import (
    SOURCE,
    STREAMS,
    begin,
    depth_header,
    features_header,
    frames_header,
    put_depth,
    put_features,
    put_frames,
    store_of,
)

from amefu_cli.artefacts.files.fingerprint import Provenance
from amefu_cli.artefacts.stores import store as store_module
from amefu_cli.artefacts.stores.check import verify_store
from amefu_cli.artefacts.stores.header import (
    HEADER,
    STAGING,
    DepthHeader,
    FeaturesHeader,
    FramesHeader,
    UnusableName,
    header_of,
    read_header,
)
from amefu_cli.artefacts.stores.pictures import read_frames
from amefu_cli.artefacts.stores.reading import StoredVideo
from amefu_cli.artefacts.stores.staging import archives_below, read_record
from amefu_cli.artefacts.stores.store import VideoStore, open_store, prepare_store
from amefu_cli.errors import AmefuError, DamagedFile, SettingsMismatch, UsageError


@pytest.fixture
def store(tmp_path: Path) -> VideoStore[FramesHeader]:
    made = begin(tmp_path / "frames.zarr")
    put_frames(made, "jump/a")
    put_frames(made, "jump/deep/b", seed=2)
    made.close()
    return made


def archive(store: VideoStore[Any], video: str) -> Path:
    return store.path / "videos" / f"{video}.zip"


def spoil(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def content_of(stored: StoredVideo) -> dict[str, list[Any]]:
    return {name: stored.array(name).tolist() for name in stored.names()}


def test_a_video_comes_back_with_its_record(store: VideoStore[FramesHeader]) -> None:
    opened = open_store(store.path, FramesHeader, fix="amefu frames")
    record = opened.record("jump/a")
    assert record is not None
    assert (record.id, record.frames, record.fps, record.source) == ("jump/a", 5, 25.0, "a/b.mp4")
    assert (record.made_from, record.partial, record.damaged, record.class_name) == (SOURCE, False, False, "jump")
    assert record.fingerprint == opened.expected_fingerprint(SOURCE)
    assert opened.is_done(record, SOURCE)
    assert opened.records() == {"jump/a": record, "jump/deep/b": opened.record("jump/deep/b")}
    assert opened.ids() == ["jump/a", "jump/deep/b"]
    assert opened.read("jump/deep/b").record == opened.record("jump/deep/b")
    assert opened.record("jump/absent") is None
    assert opened.header == frames_header()


def test_a_store_is_a_file_a_video_and_its_header(store: VideoStore[FramesHeader]) -> None:
    assert sorted(tree(store.path)) == ["videos/jump/a.zip", "videos/jump/deep/b.zip", "zarr.json"]
    assert not [path for path in store.path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    "changed", [{"size": 6, "mtime_ns": 7}, {"size": 5, "mtime_ns": 8}, {"sha256": "0"}, {**SOURCE, "more": 1}]
)
def test_a_video_is_done_only_for_the_source_it_was_made_from(
    store: VideoStore[FramesHeader], changed: dict[str, Any]
) -> None:
    assert not store.is_done(store.record("jump/a"), changed)
    assert not store.is_done(None, SOURCE)


def test_other_settings_or_other_weights_are_refused_with_the_difference(
    store: VideoStore[FramesHeader], tmp_path: Path
) -> None:
    with pytest.raises(SettingsMismatch) as error:
        prepare_store(store.path, frames_header(size=64, quality=50), rebuild=False)
    assert str(error.value) == (
        f"{store.path}: made with other settings or from other weights (settings.quality: 95 in the file, 50 "
        "asked for; settings.size: 32 in the file, 64 asked for); keep it and make a second one with "
        "`amefu frames --out OTHER.zarr`, or replace it with `amefu frames --rebuild`"
    )
    assert len(store.records()) == 2
    store_of(tmp_path, "depth").close()
    with pytest.raises(SettingsMismatch, match=r"made_from\.weights: its own in the file, w1 asked for"):
        prepare_store(tmp_path / "depth.zarr", depth_header(weights="w1"), rebuild=False)


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_store_of_another_kind_is_refused_and_never_deleted(store: VideoStore[FramesHeader], rebuild: bool) -> None:
    with pytest.raises(UsageError, match=r"holds 'frames', not 'depth'; make one with `amefu depth`"):
        prepare_store(store.path, depth_header(), rebuild=rebuild)
    assert len(store.records()) == 2


def test_what_is_only_planned_writes_and_deletes_nothing(store: VideoStore[FramesHeader], tmp_path: Path) -> None:
    before = tree(tmp_path)
    for path, rebuild in ((store.path, True), (store.path, False), (tmp_path / "new.zarr", False)):
        planned = prepare_store(path, frames_header(follow_links=True), rebuild=rebuild)
        planned.require_writable()
        there = store.records() if path == store.path and not rebuild else {}
        assert (planned.records(), planned.ids()) == (there, list(there))
        assert planned.record("jump/a") == there.get("jump/a")
        assert planned.exists() == (path == store.path)
    assert tree(tmp_path) == before


def test_a_store_that_another_process_writes_into_is_not_replaced(store: VideoStore[FramesHeader]) -> None:
    with prepare_store(store.path, frames_header(), rebuild=True) as first:
        put_frames(first, "jump/a")
        with pytest.raises(UsageError, match="another process writes into it at this moment, so it is not replaced"):
            begin(store.path, rebuild=True)
        put_frames(first, "jump/c")
    assert first.ids() == ["jump/a", "jump/c"]
    assert begin(store.path, rebuild=True).records() == {}


def as_of_schema_1(path: Path) -> None:
    header = json.loads((path / HEADER).read_text())
    header["attributes"]["amefu"] |= {"schema": 1, "settings": {}, "made_from": {}}
    (path / HEADER).write_text(json.dumps(header))


def test_a_store_of_another_schema_is_refused_and_can_be_replaced(store: VideoStore[FramesHeader]) -> None:
    as_of_schema_1(store.path)
    for start in (
        lambda: open_store(store.path, FramesHeader, fix="amefu frames"),
        lambda: prepare_store(store.path, frames_header(), rebuild=False),
        lambda: read_header(store.path),
    ):
        with pytest.raises(SettingsMismatch) as error:
            start()
        assert str(error.value) == (
            f"{store.path}: schema 1, this version writes 2; replace it with `amefu frames --rebuild`"
        )
    with prepare_store(store.path, frames_header(), rebuild=True) as again:
        put_frames(again, "jump/c")
    assert open_store(store.path, FramesHeader, fix="").ids() == ["jump/c"]


def test_notes_are_kept_and_never_compared(store: VideoStore[FramesHeader]) -> None:
    with begin(store.path, frames_header(recipe="tuned", videos="elsewhere")) as again:
        assert again.header.notes.recipe == "tuned"
    assert header_of(store.path, FramesHeader) == frames_header(recipe="tuned", videos="elsewhere")


def weights(sha256: str) -> Provenance:
    return Provenance(source="https://example.org/w.pth", sha256=sha256, licence=None)


def test_where_weights_come_from_is_noted_once(tmp_path: Path) -> None:
    with store_of(tmp_path, "depth") as store:
        store.note_provenance({"estimator": weights("0")})
        store.note_provenance({"other": weights("1")})
    found = header_of(store.path, DepthHeader)
    assert found is not None
    assert found.notes.provenance == {"estimator": weights("0"), "other": weights("1")}
    with store_of(tmp_path, "depth") as again, pytest.raises(SettingsMismatch) as error:
        again.note_provenance({"estimator": weights("2")})
    assert str(error.value) == (
        f"{store.path}: made by other weights of 'estimator' (sha256:0 in the file, sha256:2 from "
        "https://example.org/w.pth now); keep it and make a second one with `amefu depth --out OTHER.zarr`, or replace "
        "it with `amefu depth --rebuild`"
    )
    assert header_of(store.path, DepthHeader) == found


def test_writers_that_add_to_one_header_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """Eight add a stream each, at once, and note where its weights come from."""
    names = [f"stream-{number}" for number in range(8)]
    barrier = threading.Barrier(len(names))

    def add(name: str) -> None:
        header = features_header({**STREAMS, name: STREAMS["rgb"]}, weights={name: "none"})
        prepared = prepare_store(tmp_path / "features.zarr", header, rebuild=False)
        barrier.wait()
        with prepared as store:
            store.note_provenance({name: weights(name)})

    run_at_once([lambda name=name: add(name) for name in names])
    found = header_of(tmp_path / "features.zarr", FeaturesHeader)
    assert found is not None
    assert found.streams.keys() == {*STREAMS, *names}
    assert sorted(found.notes.weights) == sorted(found.notes.provenance) == names
    assert not (tmp_path / "features.zarr" / STAGING).exists()


def run_at_once(tasks: list[Any]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_stream_of_the_same_name_must_be_the_same(tmp_path: Path) -> None:
    store_of(tmp_path, "features").close()
    other = {**STREAMS, "rgb": replace(STREAMS["rgb"], network="0123")}
    with pytest.raises(SettingsMismatch, match=r"streams\.rgb\.network: none in the file, 0123 asked for"):
        prepare_store(tmp_path / "features.zarr", features_header(other), rebuild=False)


def test_rebuild_begins_again_and_deletes_nothing_else(store: VideoStore[FramesHeader]) -> None:
    leftover = store.path.with_name(f".{store.path.name}.discarded-of-a-killed-run")
    leftover.mkdir()
    assert begin(store.path, frames_header(size=64), rebuild=True).records() == {}
    assert sorted(path.name for path in store.path.parent.iterdir()) == ["frames.zarr"]
    other = store.path.with_name("mine")
    other.mkdir()
    (other / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is there, but is not a store of amefu's"):
        prepare_store(other, frames_header(), rebuild=True)
    assert (other / "thesis.tex").exists()


def test_a_store_that_was_killed_while_it_was_started_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "s.zarr" / STAGING / "dead").mkdir(parents=True)
    with begin(tmp_path / "s.zarr") as store:
        put_frames(store, "a/b")
    assert store.ids() == ["a/b"]
    assert not (store.path / STAGING).exists()


def test_no_store_and_another_kind_are_said(tmp_path: Path, store: VideoStore[FramesHeader]) -> None:
    with pytest.raises(UsageError, match=r"no such store; make it with `amefu frames VIDEOS`"):
        open_store(tmp_path / "absent.zarr", FramesHeader, fix="amefu frames VIDEOS")
    with pytest.raises(UsageError, match=r"holds 'frames', not 'depth'; make one with `amefu depth`"):
        open_store(store.path, DepthHeader, fix="amefu depth")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"choose another"):
        begin(tmp_path / "file")
    with pytest.raises(UsageError, match=r"cannot be written: .*; choose another place"):
        begin(tmp_path / "file" / "s.zarr")


def test_an_absent_video_and_a_vanished_store_are_told_apart(store: VideoStore[FramesHeader]) -> None:
    with pytest.raises(DamagedFile, match=r"holds no video 'jump/c'; make it with `amefu frames`"):
        store.read("jump/c")
    shutil.rmtree(store.path)
    with pytest.raises(AmefuError, match="is not there any more") as error:
        store.read("jump/a")
    assert not isinstance(error.value, DamagedFile)  # so that it stops the run, and is no fault of the video


def test_a_marked_video_is_not_done_and_not_read_until_it_is_made_again(store: VideoStore[FramesHeader]) -> None:
    before = tree(store.path)
    spoil(archive(store, "jump/a"))
    assert list(verify_store(store, progress=lambda *_: None).damaged) == ["jump/a"]
    assert sorted(tree(store.path)) == ["videos/jump/a.bad", "videos/jump/deep/b.zip", "zarr.json"]
    record = store.record("jump/a")
    assert record is not None
    assert record.damaged
    assert store.records()["jump/a"] == record
    assert not store.is_done(record, SOURCE)
    with pytest.raises(DamagedFile, match=r"'jump/a' is damaged; make it again with `amefu frames`"):
        store.read("jump/a")
    put_frames(store, "jump/a")
    store.close()
    assert tree(store.path) == before
    assert store.is_done(store.records()["jump/a"], SOURCE)


def test_a_broken_record_stops_until_it_is_marked_and_is_then_replaced(store: VideoStore[FramesHeader]) -> None:
    archive(store, "jump/a").write_bytes(archive(store, "jump/a").read_bytes()[:-9])
    with pytest.raises(DamagedFile, match=r"jump/a\.zip: not the archive of a video .* `amefu verify` marks it"):
        store.records()
    verify_store(store, progress=lambda *_: None)
    assert list(store.records()) == ["jump/deep/b"]
    assert store.ids() == ["jump/a", "jump/deep/b"]
    assert store.record("jump/a") is None
    put_frames(store, "jump/a")
    assert list(store.records()) == ["jump/a", "jump/deep/b"]


def test_a_listing_is_kept_until_this_process_writes(
    store: VideoStore[FramesHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    monkeypatch.setattr(store_module, "archives_below", lambda folder: listed.append(folder) or archives_below(folder))
    for _ in range(3):
        assert len(store.records()) == len(store.ids()) == 2
    assert len(listed) == 1
    with begin(store.path) as writer:
        assert len(writer.records()) == 2
        put_frames(writer, "jump/c")
        assert len(writer.records()) == 3
        writer.remove("jump/a")
        assert writer.ids() == ["jump/c", "jump/deep/b"]
        assert not archive(store, "jump/a").exists()
    assert len(listed) == 4


def test_a_reader_goes_on_reading_what_is_replaced_or_removed(store: VideoStore[FramesHeader]) -> None:
    before = [store.read("jump/a"), store.read("jump/a")]
    expected = content_of(store.read("jump/a"))
    put_frames(store, "jump/a", seed=9, made_from={"size": 6, "mtime_ns": 8})
    assert content_of(before[0]) == expected
    assert content_of(store.read("jump/a")) != expected
    store.remove("jump/a")
    assert content_of(before[1]) == expected
    with pytest.raises(DamagedFile, match="holds no video 'jump/a'"):
        store.read("jump/a")


def test_equal_work_gives_an_equal_file_whatever_was_there(store: VideoStore[FramesHeader]) -> None:
    before = tree(store.path)
    put_frames(store, "jump/a")
    spoil(archive(store, "jump/deep/b"))
    put_frames(store, "jump/deep/b", seed=2)
    store.close()
    assert tree(store.path) == before


def test_a_clip_and_a_folder_of_its_name_stand_side_by_side(store: VideoStore[FramesHeader]) -> None:
    for video in ("jump/a/inside", "jump/a.zip/c", "jump/a.zip", "jump.zip/a"):
        put_frames(store, video)
    expected = ["jump.zip/a", "jump/a", "jump/a.zip", "jump/a.zip/c", "jump/a/inside", "jump/deep/b"]
    assert sorted(store.ids()) == expected
    assert [store.read(video).record.id for video in expected] == expected


def test_a_file_system_that_folds_case_is_found_out(store: VideoStore[FramesHeader]) -> None:
    put_frames(store, "jump/A")
    os.replace(archive(store, "jump/A"), archive(store, "jump/a"))  # what such a file system would show
    with pytest.raises(UnusableName, match="does not tell 'jump/a' from 'jump/A'; rename one"):
        put_frames(store, "jump/a", made_from={"other": 1})
    with pytest.raises(DamagedFile, match=r"video 'jump/a' is damaged .*it is that of 'jump/A'"):
        store.read("jump/a")


def test_a_path_that_a_file_system_finds_too_long_costs_its_video(store: VideoStore[FramesHeader]) -> None:
    with pytest.raises(UnusableName, match=r"its file system finds the path of '.*' too long; shorten the id"):
        put_frames(store, "/".join(["x" * 250] * 20))
    with pytest.raises(UnusableName, match=r"the record of .* needs 80\d\d\d of 65535 bytes: rename the clip"):
        put_frames(store, "a/b", made_from={"name": "x" * 80_000})
    store.close()
    assert store.ids() == ["jump/a", "jump/deep/b"]
    assert not (store.path / STAGING).exists()


def test_videos_whose_frames_were_taken_out_are_left_out(tmp_path: Path) -> None:
    frames, depth = store_of(tmp_path, "frames"), store_of(tmp_path, "depth")
    for video in ("a/b", "a/c"):
        put_frames(frames, video)
        put_depth(depth, video)
    frames.remove("a/b")
    depth = open_store(depth.path, DepthHeader, fix="")
    assert depth.ids() == list(depth.records()) == ["a/c"]
    shutil.rmtree(frames.path)  # a store of its own then, as when it was copied without its frames
    assert open_store(depth.path, DepthHeader, fix="").ids() == ["a/b", "a/c"]


def test_frames_that_are_open_already_are_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are those of another store taken for them."""
    frames, depth, other = store_of(tmp_path, "frames"), store_of(tmp_path, "depth"), begin(tmp_path / "other.zarr")
    for store, put in ((frames, put_frames), (depth, put_depth)):
        put(store, "a/b")
    listed: list[str] = []
    monkeypatch.setattr(store_module, "archives_below", lambda folder: listed.append(folder) or archives_below(folder))
    assert frames.ids() == open_store(depth.path, DepthHeader, fix="", frames=frames).ids() == ["a/b"]
    assert prepare_store(depth.path, depth_header(), rebuild=False, frames=frames).ids() == ["a/b"]
    assert listed == [f"{frames.path}/videos", *[f"{depth.path}/videos"] * 2]
    assert open_store(depth.path, DepthHeader, fix="", frames=other).ids() == ["a/b"]


def test_writers_of_one_video_and_readers_beside_them(tmp_path: Path) -> None:
    """Four writers put two versions of one video again and again while two readers read it."""
    path = tmp_path / "frames.zarr"
    with begin(path) as store:
        put_frames(store, "a/b", seed=1)
    versions = {}
    for seed in (1, 2):
        with begin(tmp_path / f"{seed}.zarr") as alone:
            put_frames(alone, "a/b", seed=seed, made_from={"version": seed})
        versions[seed] = read_frames(alone.read("a/b"), range(5))
    stop, faults, reads = threading.Event(), [], []

    def write(seed: int) -> None:
        with begin(path) as store:
            for _ in range(25):
                put_frames(store, "a/b", seed=seed, made_from={"version": seed})

    def read() -> None:
        store = open_store(path, FramesHeader, fix="")
        while not stop.is_set():
            try:
                stored = store.read("a/b")
                found = read_frames(stored, range(5))
                seed = stored.record.made_from.get("version", 1)
                reads.append(seed)
                if not np.array_equal(found, versions[seed]):
                    faults.append("a torn read")
            except AmefuError as error:
                faults.append(str(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    run_at_once([lambda seed=seed: write(seed) for seed in (1, 2, 1, 2)])
    stop.set()
    for thread in readers:
        thread.join()
    assert faults == []
    assert reads
    assert len(open_store(path, FramesHeader, fix="").records()) == 1
    assert not (path / STAGING).exists()


def test_two_stores_started_at_once_are_one(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    outcomes: list[str] = []

    def start(size: int) -> None:
        barrier.wait()
        try:
            begin(tmp_path / "s.zarr", frames_header(size=size)).close()
            outcomes.append("made")
        except SettingsMismatch:
            outcomes.append("refused")

    run_at_once([lambda size=size: start(size) for size in (16, 16, 32, 32)])
    assert sorted(outcomes) == ["made", "made", "refused", "refused"]


def test_a_store_that_may_not_be_written_says_so(
    store: VideoStore[FramesHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.require_writable()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UsageError, match="may not be written to; choose another place with --out"):
        store.require_writable()


def test_a_store_that_needs_no_writing_is_begun_where_nothing_may_be_written(
    store: VideoStore[FramesHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: Any, **options: Any) -> None:
        raise PermissionError(words)

    for name in ("mkdir", "replace", "rename", "unlink", "link", "rmdir"):
        monkeypatch.setattr(os, name, refuse)
    with begin(store.path) as begun:
        assert len(begun.records()) == 2


@given(content=st.binary(max_size=120) | st.recursive(st.none() | st.integers() | st.text(max_size=4), st.lists).map(
    lambda value: json.dumps({"attributes": {"fingerprint": "f", "amefu": value}}).encode()
) | st.fixed_dictionaries({"kind": st.sampled_from(["frames", "depth", "x", 1]), "schema": st.integers(0, 2)}).map(
    lambda header: json.dumps({"attributes": {"amefu": header}}).encode()
))  # fmt: skip
def test_garbage_for_a_header_is_answered_with_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / HEADER).write_bytes(content)
    with pytest.raises((DamagedFile, UsageError)):
        read_header(folder)
    with suppress(DamagedFile):
        read_record(str(folder / HEADER))


def test_a_feature_store_is_written_like_any_other(tmp_path: Path) -> None:
    with store_of(tmp_path, "features") as store:
        put_features(store, "a/b")
    record = store.record("a/b")
    assert record is not None
    assert (record.frames, record.kept) == (5, 3)


def test_what_other_systems_leave_in_a_store_is_no_video(store: VideoStore[FramesHeader]) -> None:
    """A NAS's folder called as an archive, AppleDouble files of macOS, a folder that a file manager made."""
    put_frames(store, "a/b")
    ids, place = store.ids(), store.path / "videos/a"
    for folder in ("b/thumbs", "@eaDir/b.zip", "c.zip", "d.bad"):
        (place / folder).mkdir(parents=True)
    for name in ("._b.zip", ".DS_Store", "Thumbs.db", "@eaDir/b.zip/SYNO@.fileindexdb"):
        (place / name).write_bytes(b"\0\5\26\7")
    fresh = open_store(store.path, FramesHeader, fix="")
    assert [*fresh.records()] == fresh.ids() == ids
    assert read_frames(fresh.read("a/b"), range(5)).shape == (5, 16, 16, 3)
    findings = verify_store(store, progress=lambda *_: None)
    assert (findings.videos, findings.damaged) == (len(ids), {})


def test_a_store_whose_folder_cannot_be_renamed_is_rebuilt_all_the_same(
    store: VideoStore[FramesHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one in the lower layer of an overlay mount."""
    put_frames(store, "a/b")
    store.close()

    def across_devices(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "rename", across_devices)
    with begin(store.path, frames_header(quality=50), rebuild=True) as rebuilt:
        put_frames(rebuilt, "a/c")
    assert open_store(store.path, FramesHeader, fix="").ids() == ["a/c"]
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]
