"""Which videos one run takes: --only, --shard, SLURM's arrays, and what failed before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeClips, RunAmefu, quiet_session

from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import FramesHeader, FramesNotes
from amefu_cli.artefacts.stores.store import VideoStore, prepare_store
from amefu_cli.artefacts.videos.opening import CorruptVideo
from amefu_cli.engines.workers import WorkerTimeout, parse_shard, shard_of
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.flows.work import Work
from amefu_cli.settings import FramesSettings, WorkRun
from amefu_cli.stages import Outcome

VIDEOS = [f"class {number % 7}/clip_{number}" for number in range(500)]
SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX")


@dataclass(frozen=True)
class Job:
    id: str
    made_from: dict[str, Any]


@pytest.fixture(autouse=True)
def _no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> VideoStore:
    header = FramesHeader(settings=FramesSettings(), notes=FramesNotes(videos="videos"))
    return prepare_store(tmp_path / "s.zarr", header, rebuild=False).begin()


def work(folder: Path, *, timeout: float = 600.0, **run: Any) -> Work:
    return Work(quiet_session(folder), "frames", WorkRun(**run), folder, timeout=timeout)


def chosen(plan: Work, jobs: list[Job], store: VideoStore) -> list[Job]:
    """The jobs that a run takes, of those that there are."""
    return plan.choose([job.id for job in jobs], store, {job.id: job for job in jobs}.get)


def taken(plan: Work, videos: list[str], store: VideoStore) -> list[str]:
    return [job.id for job in chosen(plan, [Job(video, {}) for video in videos], store)]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shares_are_disjoint_complete_and_even(tmp_path: Path, store: VideoStore, count: int) -> None:
    shares = [taken(work(tmp_path, shard=f"{index}/{count}"), VIDEOS, store) for index in range(count)]
    assert Counter(video for share in shares for video in share) == Counter(VIDEOS)
    for share in shares:
        assert len(share) == pytest.approx(len(VIDEOS) / count, rel=0.35)


def test_a_share_depends_on_the_id_alone() -> None:
    """So that added videos do not move the others. The numbers are sha256's, for all time and every machine."""
    assert [shard_of(video, 7) for video in ("archery/v_03", "踊り/歩く", "a/caf\udce9")] == [1, 3, 2]


def test_every_array_task_takes_its_share(tmp_path: Path, store: VideoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_shard("auto") == (0, 1)
    for name, value in zip(SLURM, ("2", "4", "0", "3"), strict=True):
        monkeypatch.setenv(name, value)
    assert parse_shard("auto") == (2, 4)
    assert parse_shard("none") == (0, 1)
    assert parse_shard("1/3") == (1, 3)
    assert taken(work(tmp_path), VIDEOS, store) == [video for video in VIDEOS if shard_of(video, 4) == 2]
    monkeypatch.delenv("SLURM_ARRAY_TASK_MIN")
    monkeypatch.delenv("SLURM_ARRAY_TASK_MAX")
    assert parse_shard("auto") == (2, 4)


@pytest.mark.parametrize(
    ("first", "last", "count"), [("1", "4", "4"), ("0", "6", "4"), ("0", "9", "2"), ("5", "5", "1")]
)
def test_an_array_that_would_leave_a_share_out_is_refused_by_every_task(
    monkeypatch: pytest.MonkeyPatch, first: str, last: str, count: str
) -> None:
    for name, value in zip(SLURM, (first, count, first, last), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=rf"SLURM's array has {count} tasks from {first} to {last}: submit it as 0-"):
        parse_shard("auto")
    assert parse_shard("none") == (0, 1)


@pytest.mark.parametrize("shard", ["", "1", "a/b", "1/2/3", "0/", "/4", "0.5/2"])
def test_a_shard_of_another_form_is_refused(shard: str) -> None:
    with pytest.raises(UsageError, match=f"--shard '{shard}': must be i/n, such as 0/4; auto; or none"):
        parse_shard(shard)


@pytest.mark.parametrize("shard", ["4/4", "-1/4", "0/0", "1/0"])
def test_a_share_that_is_none_is_refused(shard: str) -> None:
    with pytest.raises(UsageError, match=f"--shard {shard}: i must be from 0 to n - 1"):
        parse_shard(shard)


def test_a_failure_is_tried_again_until_it_failed_too_often(tmp_path: Path, store: VideoStore) -> None:
    job, other = Job("a/v", {"size": 1}), Job("a/w", {"size": 1})
    for attempt in (1, 2, 3):
        plan = work(tmp_path)
        assert chosen(plan, [job, other], store) == [job, other]
        plan.failed("a/v", CorruptVideo("a/v.mp4: decoding fails"))
        assert read_failures(tmp_path)[-1].attempt == attempt
    plan = work(tmp_path)
    assert chosen(plan, [job, other], store) == [other]
    assert plan.made(store, Outcome(), Outcome()).outcome.failed == {
        "a/v": "left alone after 3 attempts (--max-attempts, --only-failed): a/v.mp4: decoding fails"
    }
    outcome = plan.made(store, None, Outcome()).outcome
    assert (outcome.failed, outcome.planned) == ({}, True)  # in a dry run, in which nothing fails
    assert chosen(work(tmp_path, max_attempts=4), [job], store) == [job]
    assert chosen(work(tmp_path, only=["a/v"]), [job, other], store) == [job]


def test_only_failed_takes_what_failed_before_however_often(tmp_path: Path, store: VideoStore) -> None:
    plan = work(tmp_path, max_attempts=1)
    job = Job("a/v", {"size": 1})
    chosen(plan, [job], store)
    plan.failed("a/v", CorruptVideo("x"))
    again = work(tmp_path, max_attempts=1, only_failed=True)
    assert chosen(again, [job, Job("a/w", {"size": 1})], store) == [job]
    assert again.made(store, Outcome(), Outcome()).outcome.failed == {}
    depth = Work(quiet_session(tmp_path), "depth", WorkRun(only_failed=True), tmp_path)
    assert chosen(depth, [job], store) == []


def test_a_fixed_source_counts_from_the_beginning(tmp_path: Path, store: VideoStore) -> None:
    for _ in range(3):
        plan = work(tmp_path)
        chosen(plan, [Job("a/v", {"size": 1})], store)
        plan.failed("a/v", CorruptVideo("x"))
    fixed = Job("a/v", {"size": 2})
    plan = work(tmp_path)
    assert chosen(plan, [fixed], store) == [fixed]
    assert plan.made(store, Outcome(), Outcome()).outcome.failed == {}
    plan.failed("a/v", CorruptVideo("x"))
    assert read_failures(tmp_path)[-1].attempt == 1


def test_a_longer_timeout_counts_from_the_beginning(tmp_path: Path, store: VideoStore) -> None:
    job = Job("a/v", {"size": 1})
    for _ in range(3):
        plan = work(tmp_path)
        chosen(plan, [job], store)
        plan.failed("a/v", WorkerTimeout("raise --timeout"))
    assert chosen(work(tmp_path), [job], store) == []
    assert chosen(work(tmp_path, timeout=900.0), [job], store) == [job]


def test_a_damaged_input_is_no_attempt(tmp_path: Path, store: VideoStore) -> None:
    job = Job("a/v", {"frames": "f0"})
    for error in (DamagedFile("x"), CorruptVideo("x"), DamagedFile("x"), DamagedFile("x"), CorruptVideo("x")):
        plan = work(tmp_path, max_attempts=2)
        assert chosen(plan, [job], store) == [job]
        plan.failed("a/v", error)
    assert [failure.attempt for failure in read_failures(tmp_path)] == [0, 1, 1, 1, 2]
    assert chosen(work(tmp_path, max_attempts=2), [job], store) == []


def test_only_takes_the_named_videos_again_and_refuses_a_name_that_is_not_there(
    tmp_path: Path, store: VideoStore
) -> None:
    plan = work(tmp_path, only=["a/v", "b/w"])
    assert taken(plan, ["a/v", "a/x", "b/w"], store) == ["a/v", "b/w"]
    assert plan.again == {"a/v", "b/w"}
    with pytest.raises(UsageError, match=r"--only 'a/z': there is no such video; an id is CLASS/CLIP"):
        taken(work(tmp_path, only=["a/v", "a/z"]), ["a/v"], store)


def test_nothing_is_started_on_a_store_that_may_not_be_written(
    tmp_path: Path, store: VideoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert chosen(work(tmp_path), [], store) == []  # a finished store on a read-only disk is fine
    with pytest.raises(UsageError, match="may not be written to"):
        chosen(work(tmp_path), [Job("a/v", {})], store)


def test_allow_partial_is_tried_on_what_was_given_up(
    tmp_path: Path, make_clips: MakeClips, run_amefu: RunAmefu
) -> None:
    (clip,) = make_clips(tmp_path / "videos", ("jump",), clips=1)
    clip.write_bytes(clip.read_bytes()[:-200])
    words = ("frames", tmp_path / "videos", "--workspace", tmp_path / "work", "--size", "32", "--max-attempts", "1")
    run_amefu(*words, code=3)
    assert "left alone after 1 attempts" in run_amefu(*words, code=3).stderr
    again = run_amefu(*words, "--allow-partial", code=3).stderr  # in vain: its index was at the end
    assert "1 videos to make" in again
    assert "left alone" not in again
