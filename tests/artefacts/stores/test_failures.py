from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import RunAmefu
from hypothesis import given
from hypothesis import strategies as st
from small_stores import PUT, begin, frames_header, store_of

from amefu_cli.artefacts.files.workspace import Workspace
from amefu_cli.artefacts.stores.failures import FILE_NAME, Failure, latest_failures, read_failures, record_failure
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.opening import EmptyFile
from amefu_cli.errors import DamagedFile
from amefu_cli.flows.status import describe


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    error = EmptyFile("a/v.mp4: holds 0 bytes; fetch it again or delete it")
    recorded = record_failure(tmp_path, video="a/v", stage="frames", error=error, fingerprint="f0", attempt=1)
    assert recorded == Failure("a/v", "frames", "EmptyFile", str(error), "f0", 1)
    assert (tmp_path / FILE_NAME).read_text() == (
        '{"video": "a/v", "stage": "frames", "error": "EmptyFile", '
        '"message": "a/v.mp4: holds 0 bytes; fetch it again or delete it", "fingerprint": "f0", "attempt": 1}\n'
    )
    assert read_failures(tmp_path) == [recorded]


def test_no_file_is_no_failure(tmp_path: Path) -> None:
    assert read_failures(tmp_path) == []


def test_odd_names_stay_on_one_ascii_line_and_come_back(tmp_path: Path) -> None:
    video = 'two\nlines/caf\udce9 "踊り"\x1b\u2028'
    record_failure(tmp_path, video=video, stage="frames", error=ValueError(f"{video}\r\n"), fingerprint="f0", attempt=3)
    content = (tmp_path / FILE_NAME).read_bytes()
    assert content.isascii()
    assert content.splitlines(keepends=True) == [content]
    assert read_failures(tmp_path) == [Failure(video, "frames", "ValueError", f"{video}\r\n", "f0", 3)]


def test_the_latest_failure_counts_of_each_video_as_it_was() -> None:
    failures = [
        Failure("a/v", "frames", "EmptyFile", "", "f0", 1),
        Failure("a/v", "depth", "NotFinite", "", "f0", 1),
        Failure("a/v", "frames", "EmptyFile", "last", "f0", 3),
        Failure("a/v", "frames", "EmptyFile", "", "f0", 2),
        Failure("a/v", "frames", "CorruptVideo", "of another source", "f1", 1),
    ]
    latest = latest_failures(failures, "frames")
    assert {key: failure.attempt for key, failure in latest.items()} == {("a/v", "f0"): 3, ("a/v", "f1"): 1}
    assert latest["a/v", "f0"].message == "last"


@pytest.mark.parametrize("kept", [1, 12, 60, -1])
def test_a_line_torn_by_a_kill_is_passed_over_and_the_next_one_is_whole(tmp_path: Path, kept: int) -> None:
    first = record_failure(tmp_path, video="a/1", stage="frames", error=ValueError("x"), fingerprint="f0", attempt=1)
    record_failure(tmp_path, video="a/2", stage="frames", error=ValueError("y"), fingerprint="f0", attempt=1)
    whole, torn = (tmp_path / FILE_NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE_NAME).write_bytes(whole + torn[:kept])
    complete = [Failure("a/2", "frames", "ValueError", "y", "f0", 1)] if kept == -1 else []  # but for its line end
    assert read_failures(tmp_path) == [first, *complete]
    last = record_failure(tmp_path, video="a/3", stage="frames", error=ValueError("z"), fingerprint="f0", attempt=1)
    assert read_failures(tmp_path) == [first, *complete, last]


def _write_many(folder: Path, writer: int) -> None:
    for number in range(200):
        error = ValueError("m" * (number * 7 % 900))
        record_failure(folder, video=f"{writer}/{number}", stage="frames", error=error, fingerprint="f0", attempt=1)


def test_writers_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(tmp_path, writer)) for writer in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = {failure.video for failure in read_failures(tmp_path)}
    assert found == {f"{writer}/{number}" for writer in range(3) for number in range(200)}


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b"null",
        b'{"video": "a"}',
        b'{"video": "a", "stage": "b", "error": "c", "message": "d", "fingerprint": "f", "attempt": true}',
        b'{"video": 1, "stage": "b", "error": "c", "message": "d", "fingerprint": "f", "attempt": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: bytes) -> None:
    record_failure(tmp_path, video="a/1", stage="frames", error=ValueError("x"), fingerprint="f0", attempt=1)
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(DamagedFile, match=r"failures\.jsonl: line 2 is not a failure record; delete the file"):
        read_failures(tmp_path)


@given(content=st.binary(max_size=200) | st.recursive(st.none(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_garbage_is_answered_with_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / FILE_NAME).write_bytes(content)
    with contextlib.suppress(DamagedFile):
        assert read_failures(folder) == []


def frames_of(folder: Path, *, checksum: bool = False, follow_links: bool = False) -> VideoStore[Any]:
    header = frames_header(follow_links=follow_links)
    return begin(folder / "frames.zarr", replace(header, settings=replace(header.settings, checksum=checksum)))


def put(store: VideoStore[Any], video: str, made_from: dict[str, Any]) -> str:
    """Store a video; returns its fingerprint."""
    PUT[store.kind](store, video, made_from=made_from)
    return store.expected_fingerprint(made_from)


def fail(folder: Path, video: str, stage: str, *, attempt: int = 1) -> None:
    error = EmptyFile(f"attempt {attempt}")
    record_failure(folder, video=video, stage=stage, error=error, fingerprint="whatever", attempt=attempt)


def status_of(folder: Path) -> tuple[list[tuple[str, str, int]], dict[str, tuple[int, int, int]]]:
    """The failed videos (stage, video, attempt), and by store how many are done, failed and missing."""
    status = describe(Workspace(folder))
    failed = [(failure.stage, failure.video, failure.attempt) for failure in status.failed]
    counts = {Path(store.path).stem: (store.done, store.failed, store.missing) for store in status.stores}
    return failed, counts


def lay(clip: Path) -> Path:
    clip.parent.mkdir(parents=True, exist_ok=True)
    clip.write_bytes(clip.name.encode())  # other bytes in each
    return clip


@pytest.mark.parametrize("checksum", [False, True])
def test_status_lists_the_last_failure_of_every_clip_that_is_not_there(tmp_path: Path, checksum: bool) -> None:
    for name in ("bad", "new", "sound"):
        lay(tmp_path / f"videos/a/{name}.mp4")
    status = (tmp_path / "videos/a/sound.mp4").stat()
    store = frames_of(tmp_path, checksum=checksum)
    put(store, "a/sound", {"size": status.st_size, "mtime_ns": status.st_mtime_ns})
    for attempt in (1, 2):
        fail(tmp_path, "a/bad", "frames", attempt=attempt)
    fail(tmp_path, "a/sound", "frames")  # before it was fixed
    fail(tmp_path, "a/deleted", "frames")
    failed, counts = status_of(tmp_path)
    assert failed == [("frames", "a/bad", 2)]
    assert counts["frames"] == (1, 1, 1)


def test_status_lists_a_failed_clip_behind_a_link_that_was_followed(tmp_path: Path) -> None:
    clip = lay(tmp_path / "elsewhere/bad.mp4")
    (tmp_path / "videos/a").mkdir(parents=True)
    os.symlink(clip, tmp_path / "videos/a/bad.mp4")
    frames_of(tmp_path, follow_links=True)
    fail(tmp_path, "a/bad", "frames")
    assert status_of(tmp_path)[0] == [("frames", "a/bad", 1)]


def test_status_lists_what_failed_while_the_videos_are_not_mounted(tmp_path: Path) -> None:
    put(frames_of(tmp_path), "a/sound", {})
    for video in ("a/bad", "a/sound"):
        fail(tmp_path, video, "frames")
    failed, counts = status_of(tmp_path)
    assert failed == [("frames", "a/bad", 1)]
    assert counts["frames"] == (1, 1, 0)


def test_status_lists_failures_of_features(tmp_path: Path) -> None:
    frames = put(frames_of(tmp_path), "a/bad", {})
    put(store_of(tmp_path, "depth"), "a/bad", {"frames": frames})
    store_of(tmp_path, "features")
    fail(tmp_path, "a/bad", "features")
    failed, counts = status_of(tmp_path)
    assert failed == [("features", "a/bad", 1)]
    assert counts == {"frames": (1, 0, 0), "depth": (1, 0, 0), "features": (0, 1, 0)}


@pytest.mark.parametrize("content", ["{", "[1]", '{"fingerprints": {}}', '{"fingerprints": {}, "accuracy": "high"}'])
def test_status_lives_on_beside_foreign_files(tmp_path: Path, run_amefu: RunAmefu, content: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/notes.json").write_text(content)
    (tmp_path / "foreign.safetensors").write_text(content)
    done = run_amefu("status", "--workspace", tmp_path)
    for name, state in (("notes.json", "not a result"), ("foreign.safetensors", "not a checkpoint")):
        assert state in next(line for line in done.stdout.splitlines() if name in line)
