"""The videos of one run of one stage: chosen, announced, and what failed written down; and what is refused before.

What is refused loads torch only where there is something to look up in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from amefu_cli.artefacts.files.workspace import NO_FILES
from amefu_cli.artefacts.stores.failures import FILE_NAME, latest_failures, read_failures, record_failure
from amefu_cli.artefacts.stores.header import AnyHeader, FramesHeader, StoreHeader
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.videos.find import Found
from amefu_cli.engines.workers import parse_shard, shard_of
from amefu_cli.errors import AmefuError, DamagedFile, UsageError
from amefu_cli.flows.session import Session
from amefu_cli.method.backbones import family_of
from amefu_cli.method.geometry import stored_size
from amefu_cli.settings import WorkRun
from amefu_cli.stages import ClipJob, Outcome, VideoJob


def check_device(device: str) -> None:
    """Raises UsageError where a device that is asked for by name is not there."""
    if device != "auto":
        from amefu_cli.stages.networks import choose_device

        choose_device(device)


def check_backbone(backbone: str, weights: str) -> None:
    """Raises UsageError where there is no such backbone, or no such file of weights."""
    family_of(backbone)
    if weights not in NO_FILES and not Path(weights).is_file():
        raise UsageError(f"--weights {weights}: no such file; give a file, imagenet or none")


def check_crop(frames: VideoStore[FramesHeader], crops: Iterable[int]) -> None:
    """Raises UsageError where a crop is larger than all frames of a store."""
    settings = frames.header.settings
    side = min(stored_size(1, 1, geometry=settings.geometry, size=settings.size))  # no other aspect has a larger one
    if max(crops) > side:
        raise UsageError(
            f"--crop {max(crops)}: the frames in {frames.path} are only {side} pixels high; lower it, or make larger "
            "ones with `amefu frames --rebuild`"
        )


def settled_precision(asked: str, recorded: str | None, device: str, *, training: bool = False) -> str:
    """What `--precision auto` means: as a store or a training was started with, so that every machine that goes on
    with it computes alike; else the faster one here."""
    if known := recorded if asked == "auto" else asked:
        return known
    from amefu_cli.stages.networks import choose_device, choose_precision, precision_name

    return precision_name(choose_precision("auto", choose_device(device), training=training))


WHOLE = WorkRun(shard="none")  # what a command that reads all videos has made before it, also in an array task
AnyJob = TypeVar("AnyJob", ClipJob, VideoJob)  # one video that a stage could make


@dataclass(frozen=True)
class Made(Generic[AnyHeader]):
    """A store after one flow, and what it did; no store where a dry run would only start it. `found` is what lies in
    VIDEOS, where the flow looked."""

    store: VideoStore[AnyHeader] | None
    outcome: Outcome
    found: Found | None = None


class Work:
    """Which videos one run takes. `folder` holds failures.jsonl.

    `settings` are what decides, besides those of the store, whether a video fails: attempts with others count again
    from one.

    Raises:
        UsageError: --shard is not a share.
    """

    def __init__(self, session: Session, stage: str, run: WorkRun, folder: Path, **settings: object) -> None:
        self._say, self._stage, self._run, self._folder, self._settings = session.say, stage, run, folder, settings
        self._index, self._count = parse_shard(run.shard)
        self._failures = latest_failures(read_failures(folder), stage)
        self._tried_as: dict[str, str] = {}
        self._given_up: dict[str, str] = {}
        self._kept = self._chosen = 0
        self.again = frozenset(run.only or ())

    @property
    def is_share(self) -> bool:
        """Whether other runs take other videos of the same folder."""
        return self._count > 1

    def choose(
        self, videos: Collection[str], store: VideoStore[AnyHeader], job_of: Callable[[str], AnyJob | None]
    ) -> list[AnyJob]:
        """The jobs of this run: of its share of `videos`, what `store` lacks and what has not failed too often.

        `job_of` gives None for a video that nothing can be made of now.

        Raises:
            UsageError: `--only` names a video that is not there; the store cannot be written.
        """
        if unknown := self.again.difference(videos):
            raise UsageError(f"--only {min(unknown)!r}: there is no such video; an id is CLASS/CLIP")
        jobs = []
        for job in filter(None, map(job_of, filter(self._takes, videos))):
            video = job.id
            if video not in self.again and store.is_done(store.record(video), job.made_from):
                self._kept += 1
            elif not self._is_given_up(job, store):
                jobs.append(job)
        self._chosen = len(jobs)
        if jobs:
            store.require_writable()
            self._say.note(f"{self._stage}: {len(jobs)} videos to make, {self._kept} already in {store.path}")
        else:
            self._say.note(f"{self._stage}: {store.path} is up to date ({self._kept} videos)")
        return jobs

    def _takes(self, video: str) -> bool:
        """Whether `--shard`, `--only` and `--only-failed` leave this video to this run."""
        if self._count > 1 and shard_of(video, self._count) != self._index:
            return False
        if self.again:
            return video in self.again
        return not self._run.only_failed or any(video == failed for failed, _ in self._failures)

    def _is_given_up(self, job: AnyJob, store: VideoStore[AnyHeader]) -> bool:
        self._tried_as[job.id] = store.expected_fingerprint({**job.made_from, **self._settings})
        failure = self._failures.get((job.id, self._tried_as[job.id]))
        if failure is None or failure.attempt < self._run.max_attempts or self.again or self._run.only_failed:
            return False
        self._given_up[job.id] = (
            f"left alone after {failure.attempt} attempts (--max-attempts, --only-failed): {failure.message}"
        )
        return True

    def failed(self, video: str, error: AmefuError) -> None:
        """Write down one failed attempt. A damaged input does not count as one: once it is repaired, all is well."""
        before = self._failures.get((video, self._tried_as[video]))
        record_failure(
            self._folder, video=video, stage=self._stage, error=error, fingerprint=self._tried_as[video],
            attempt=(before.attempt if before else 0) + (not isinstance(error, DamagedFile)),
        )  # fmt: skip

    def made(self, store: VideoStore[AnyHeader], outcome: Outcome | None, before: Outcome) -> Made[AnyHeader]:
        """What came of it: `outcome` is None in a dry run, `before` what the stages did that this one reads."""
        failed = (outcome.failed if outcome else {}) | self._given_up
        for video, message in failed.items():
            self._say.warn(f"{video}: {message}")
        if failed:
            self._say.warn(f"{len(failed)} videos failed; {self._folder / FILE_NAME} lists every attempt")
        if outcome is None:  # in a dry run nothing failed
            outcome, failed = Outcome(planned=before.planned or self._chosen > 0), {}
        outcome.kept, outcome.failed = self._kept, before.failed | failed
        return Made(store if store.exists() else None, outcome)


def recipe_noted(session: Session, there: StoreHeader | None) -> str:
    """The recipe that a store was started with; `there` is None where it is started now."""
    return there.notes.recipe if there else session.chosen.recipe


def unknown_yet(session: Session, stage: str, path: Path) -> None:
    """One line of a dry run on a stage that reads `path`, where something is still to be made."""
    session.say.note(f"{stage}: what more there is to do is known once {path} is up to date")
