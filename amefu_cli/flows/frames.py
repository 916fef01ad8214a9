"""`amefu frames`: which clips are to be decoded into frames.zarr, and which are gone."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.files.split import part_above
from amefu_cli.artefacts.files.workspace import located, noted
from amefu_cli.artefacts.stores.header import FramesHeader, FramesNotes, header_of
from amefu_cli.artefacts.stores.store import VideoStore, open_store, prepare_store
from amefu_cli.artefacts.videos.copies import content_sha256, one_of_each
from amefu_cli.artefacts.videos.find import Clip, Found, find_clips
from amefu_cli.engines.workers import usable_cores
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.flows.session import Session
from amefu_cli.flows.work import WHOLE, Made, Work, recipe_noted
from amefu_cli.settings import FramesRun, FramesSettings, WorkRun
from amefu_cli.stages import ClipJob, Outcome

FIX = "amefu frames VIDEOS"
COPIES = "copies.json"
SHOWN = 5  # paths named in one message; --json has all


@dataclass(frozen=True)
class FramesOrder:
    """Which frames are asked for; without `videos` or `settings`, those that the store was started with."""

    out: Path
    videos: Path | None = None
    settings: FramesSettings | None = None
    run: FramesRun | None = None
    work: WorkRun = WHOLE
    prune: bool = False
    rebuild: bool = False


def make_frames(session: Session, order: FramesOrder) -> Made[FramesHeader]:
    """Bring frames.zarr up to date with the clips of VIDEOS."""
    there = header_of(order.out, FramesHeader)
    folder = order.videos or _noted_folder(session, order, there)
    if folder is None:
        return Made(open_store(order.out, FramesHeader, fix=FIX), Outcome())
    run = order.run or session.settings(FramesRun, "frames")
    says = order.run is not None and order.videos is not None  # `amefu frames VIDEOS` does; other lines do as the last
    follow_links = run.follow_links or (not says and there is not None and there.notes.follow_links)
    clips = _find(session, folder, follow_links=follow_links)
    continued = None if order.rebuild else there
    recipe = recipe_noted(session, continued)
    header = FramesHeader(
        settings=order.settings or (there.settings if there else session.settings(FramesSettings, "frames")),
        notes=FramesNotes(videos=noted(folder, order.out), follow_links=follow_links, recipe=recipe),
    )
    store = prepare_store(order.out, header, rebuild=order.rebuild)
    if continued is None:
        session.note_protocol("frames", header.settings)
    gone = _gone(store, folder, clips, continued) if continued else []
    asked = {"timeout": run.timeout, "allow_partial": run.allow_partial}
    work = Work(session, "frames", order.work, order.out.parent, **asked)
    by_id = {clip.id: clip for clip in clips.clips}
    sources = Sources(store)
    jobs = work.choose(by_id, store, lambda video: ClipJob(by_id[video], sources.made_from(by_id[video])))
    if gone:
        _say_gone(session, order, gone, folder)
    outcome = None
    if not session.dry_run:
        with store:
            sources.note_copies()
            for video in gone if order.prune else ():
                store.remove(video)
            outcome = _extract(session, store, jobs, run, work, folder) if jobs else Outcome()
    made = work.made(store, outcome, before=Outcome())
    made.outcome.skipped = [(str(skipped), reason) for skipped, reason in clips.skipped]
    return replace(made, found=clips)


def source_identity(clip: Clip, checksum: bool) -> dict[str, object]:
    """What tells that a source is still the same: size and modification time of each file, or the SHA-256 of all; and
    why it is refused, so that it is tried again once that has changed."""
    if clip.fault is not None:
        return {"size": clip.size, "images": clip.images, "fault": clip.fault}
    if not checksum:
        identity: dict[str, object] = {"size": clip.size, "mtime_ns": clip.mtime_ns}
        return identity if clip.images is None else identity | {"images": clip.images}
    # Of one that is unreadable the worker that opens it says what is wrong, as that video's failure.
    return {"sha256": content_sha256(clip.path) or "unreadable"}


class Sources:
    """What clips are made from. Where the time alone is not that of a record, as after `cp -r`, the bytes are compared
    with its SHA-256, once: COPIES notes what they told. Without `compare` only what stands there is known."""

    def __init__(self, store: VideoStore[FramesHeader], *, compare: bool = True) -> None:
        self._store, self._compare, self._path = store, compare, store.path / COPIES
        self._checksum, self._found = store.header.settings.checksum, set[str]()
        with suppress(FileNotFoundError, ValueError):
            self._found.update(json.loads(self._path.read_bytes()))
        self._noted = len(self._found)

    def made_from(self, clip: Clip) -> Mapping[str, object]:
        """What identifies its source: as the store has it where that is the same."""
        record, now = self._store.record(clip.id), source_identity(clip, self._checksum)
        made = record.made_from if record else {}
        if self._checksum or clip.fault or made.get("size") != clip.size or "sha256" not in made:
            return now
        if {**now, "sha256": made["sha256"]} == made:
            return made
        pair = fingerprint(clip.id, made, now)
        if pair not in self._found and self._compare and content_sha256(clip.path) == made["sha256"]:
            self._found.add(pair)
        return made if pair in self._found else now

    def note_copies(self) -> None:
        """Write down which copies were recognised, if some were."""
        if len(self._found) > self._noted:
            with suppress(OSError):  # a store that is read-only: compared again the next time
                write_atomic(self._path, json.dumps(sorted(self._found)).encode("ascii"))


def _noted_folder(session: Session, order: FramesOrder, there: FramesHeader | None) -> Path | None:
    """The folder that the store was made from; None where it is gone, as on a machine that has the stores alone."""
    if there is None:
        raise UsageError(f"{order.out}: no such store; name the folder of videos: `{FIX}`")
    folder = located(there.notes.videos, order.out)
    if folder.is_dir():
        return folder
    if order.prune:
        raise UsageError(f"{folder}: is not there, so nothing says which of its clips are gone; name VIDEOS")
    session.say.warn(f"{folder} is not there any more; going on with the frames in {order.out}")
    return None


def _find(session: Session, folder: Path, *, follow_links: bool) -> Found:
    found = one_of_each(find_clips(folder, follow_links=follow_links))
    say_skipped(session, found)
    for group in found.in_two_classes:
        same = f"{first_of(group)} are the same clip, byte for byte, in two classes"
        session.say.warn(f"{same}: a split may name one of them")
    if session.command == "frames" and any(part_above(clip.id, clip.source) for clip in found.clips):
        parts = f"{folder} holds train, val or test above the classes"
        session.say.note(f"{parts}; `--split folders` takes them as the split")
    if not found.clips:
        raise UsageError(f"{folder}: holds no clip; CLASS/clip.mp4 or CLASS/clip/image.jpg is looked for")
    return found


def say_skipped(session: Session, found: Found) -> None:
    """Warn of what a user may have meant as a clip, by the reason why it is none."""
    for reason, paths in _by_reason(found.skipped).items():
        session.say.warn(f"skipped {first_of(paths)}: {reason}")


def _by_reason(skipped: Iterable[tuple[Path, str]]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for path, reason in skipped:
        found[reason].append(str(path))
    return found


def first_of(paths: Sequence[str]) -> str:
    """The first of some paths, and how many more there are."""
    return ", ".join(paths[:SHOWN]) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")


def described(found: Found) -> tuple[dict[str, object], list[list[str]]]:
    """What a dry run shows of VIDEOS: clips by kind, counts by class, all that is passed over."""
    kinds, classes = Counter(clip.kind for clip in found.clips), Counter(clip.class_name for clip in found.clips)
    refused = {clip.id: clip.fault for clip in found.clips if clip.fault}
    skipped = sorted((*found.skipped, *found.beside))
    document = {
        "clips": {"videos": kinds["video"], "folders of pictures": kinds["images"]}, "classes": classes,
        "refused": refused, "in two classes": found.in_two_classes,
        "skipped": {str(path): reason for path, reason in skipped},
    }  # fmt: skip
    rows = [["video files", str(kinds["video"]), ""], ["folders of pictures", str(kinds["images"]), ""]]
    rows += [[f"class {name}", str(count), ""] for name, count in sorted(classes.items())]
    rows += [["refused", clip, str(fault)] for clip, fault in refused.items()]
    rows += [["the same clip in two classes", str(len(group)), first_of(group)] for group in found.in_two_classes]
    passed_over = _by_reason(skipped).items()
    rows += [[f"passed over: {reason}", str(len(paths)), first_of(paths)] for reason, paths in passed_over]
    return document, [["VIDEOS", "clips", ""], *rows]


def _gone(store: VideoStore[FramesHeader], folder: Path, found: Found, there: FramesHeader) -> list[str]:
    """The videos of a store whose clip is not among those of `folder`, sorted.

    Raises:
        UsageError: that is all of them, and the store was made from another folder.
    """
    videos = store.ids()
    gone = sorted(set(videos) - {clip.id for clip in found.clips})
    if gone and len(gone) == len(videos) and noted(folder, store.path) != there.notes.videos:
        raise UsageError(
            f"{folder}: holds none of the {len(videos)} videos of {store.path}, which is made from "
            f"{there.notes.videos}; take another --workspace, or replace the store with `{FIX} --rebuild`"
        )
    return gone


def _say_gone(session: Session, order: FramesOrder, gone: Sequence[str], folder: Path) -> None:
    first = ", ".join(gone[:3]) + (", …" if gone[3:] else "")
    some = f"{len(gone)} videos of {order.out} are no longer in {folder} ({first})"
    if order.prune:
        session.say.note(f"frames: {some}; they {'would be' if session.dry_run else 'are'} taken out")
    else:
        session.say.warn(f"{some}, but are still used; take them out with `amefu frames --prune`")


def _extract(
    session: Session, store: VideoStore[FramesHeader], jobs: Sequence[ClipJob], run: FramesRun, work: Work, folder: Path
) -> Outcome:
    from amefu_cli.stages.frames import extract_frames

    def failed(video: str, error: AmefuError) -> None:
        if not (folder.is_dir() and any(folder.iterdir())):  # all that are still to come would fail
            raise AmefuError(f"{folder}: is not there any more; run the same command again when it is")
        work.failed(video, error)

    processes = max(1, min(run.jobs or usable_cores(), len(jobs)))
    with session.say.progress("frames") as progress:
        return extract_frames(
            store, jobs, processes=processes, timeout=run.timeout, allow_partial=run.allow_partial, failed=failed,
            progress=progress,
        )  # fmt: skip
