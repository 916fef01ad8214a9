"""Which videos one run takes, making them, and the record of what failed: what frames, depth and features share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer

from amefu_cli.artefacts.stores.failures import latest_failures, read_failures, record_failure
from amefu_cli.commands.console import note, show, warn
from amefu_cli.commands.options import Session
from amefu_cli.engines.shares import parse_shard, shard_of
from amefu_cli.errors import AmefuError, DamagedFile, UsageError, VideoError
from amefu_cli.settings import WorkRun
from amefu_cli.stages import Outcome

if TYPE_CHECKING:
    from amefu_cli.artefacts.stores.store import VideoStore


WHOLE = WorkRun(shard="none")  # what a command that reads all videos has made before it, also in an array task


class Job(Protocol):
    """One video that a stage could make."""

    @property
    def id(self) -> str: ...

    @property
    def made_from(self) -> Mapping[str, Any]: ...


AnyJob = TypeVar("AnyJob", bound=Job)


class Work:
    """The videos of one run of one stage: chosen, made, and what fails written down. `folder` holds failures.jsonl.

    `settings` are what decides, besides the recipe, whether a video fails: attempts with others are counted again.

    Raises:
        UsageError: a --shard that is none.
    """

    def __init__(self, stage: str, run: WorkRun, folder: Path, **settings: Any) -> None:
        self._stage, self._run, self._folder, self._settings = stage, run, folder, settings
        self._shard = parse_shard(run.shard)
        self._before = latest_failures(read_failures(folder), stage)
        self._tried = {video for video, _ in self._before}
        self._unknown = set(run.only or ())
        self._tried_as: dict[str, str] = {}
        self.again = frozenset(run.only or ())
        self.given_up: dict[str, str] = {}

    def takes(self, video: str) -> bool:
        """Whether `--only`, `--only-failed` and `--shard` leave this video to this run."""
        self._unknown.discard(video)
        index, count = self._shard
        if shard_of(video, count) != index:
            return False
        if self.again:
            return video in self.again
        return video in self._tried if self._run.only_failed else True

    def choose(self, jobs: Iterable[AnyJob], store: VideoStore) -> list[AnyJob]:
        """The jobs but those that failed too often, as they are now, to be tried without being asked for.

        Raises:
            UsageError: `--only` names a video that is not there; the store cannot be written.
        """
        if self._unknown:
            raise UsageError(f"--only {min(self._unknown)!r}: there is no such video; an id is CLASS/CLIP")
        chosen = []
        for job in jobs:
            self._tried_as[job.id] = store.expected_fingerprint({**job.made_from, **self._settings})
            failure = self._before.get((job.id, self._tried_as[job.id]))
            asked_for = bool(self.again) or self._run.only_failed
            if failure is not None and failure.attempt >= self._run.max_attempts and not asked_for:
                self.given_up[job.id] = (
                    f"left alone after {failure.attempt} attempts (--max-attempts, --only-failed): {failure.message}"
                )
            else:
                chosen.append(job)
        if chosen:
            store.require_writable()
        return chosen

    def carry_out(
        self,
        store: VideoStore,
        jobs: Sequence[AnyJob],
        kept: int,
        prepare: Callable[[Sequence[AnyJob]], Callable[[], Outcome]],
        *,
        before: Outcome,
        dry_run: bool,
    ) -> Outcome:
        """Do the chosen `jobs` in `store`, where `kept` videos are as they should be.

        `prepare` refuses what can be refused before the store is started or replaced; what it returns does the jobs.
        `before` is what the stages that this one reads have done.
        """
        if jobs:
            note(f"{self._stage}: {len(jobs)} videos to make, {kept} already in {store.path}")
        else:
            note(f"{self._stage}: {store.path} is up to date ({kept} videos)")
        outcome = Outcome(planned=dry_run and (before.planned or bool(jobs)))
        if not dry_run:
            do = prepare(jobs)
            with store:
                outcome = do()
        outcome.kept = kept
        outcome.failed |= self.given_up
        for video, message in outcome.failed.items():
            warn(f"{video}: {message}")
        if outcome.failed:
            warn(f"{len(outcome.failed)} videos failed; {store.path.parent / 'failures.jsonl'} lists every attempt")
        outcome.failed = before.failed | outcome.failed
        return outcome

    def failed(self, video: str, error: AmefuError) -> None:
        """Write down one failed attempt. A damaged input does not count as one: once it is repaired, all is well."""
        before = self._before.get((video, self._tried_as[video]))
        record_failure(
            self._folder, video=video, stage=self._stage, error=error, fingerprint=self._tried_as[video],
            attempt=(before.attempt if before else 0) + (not isinstance(error, DamagedFile)),
        )  # fmt: skip


def started_by(session: Session, header: Mapping[str, Any] | None) -> dict[str, str]:
    """The note on the recipe that a store was started with; `header` is None where it is started now."""
    return {"recipe": (header["notes"] if header else session.chosen).get("recipe") or "paper"}


def unknown_yet(stage: str, path: Path) -> None:
    """One line of a dry run on a stage that reads `path`, where something is still to be made."""
    note(f"{stage}: what more there is to do is known once {path} is up to date")


def report(stage: str, outcome: Outcome, path: Path, *, as_json: bool) -> None:
    """The result of a store's own command; ends with exit code 3 where videos failed."""
    document = {
        "store": str(path),
        "done": len(outcome.done),
        "kept": outcome.kept,
        "failed": outcome.failed,
        "skipped": dict(outcome.skipped),
        "seconds": round(outcome.seconds, 3),
    }
    row = [str(path), *(str(number) for number in (len(outcome.done), outcome.kept, len(outcome.failed)))]
    show(
        document,
        as_json=as_json,
        title=stage,
        rows=[["store", "made", "already there", "failed", "seconds"], [*row, f"{outcome.seconds:.1f}"]],
    )
    if outcome.failed:
        raise typer.Exit(VideoError.exit_code)
