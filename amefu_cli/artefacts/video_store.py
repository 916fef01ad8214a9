"""The contract that frames.zarr, depth.zarr and features.zarr share: a Zarr v3 group with one group per video.

    store.zarr/
      zarr.json                     kind, schema, recipe and what the whole store was made from
      videos/CLASS/CLIP/zarr.json   what this video was made from, its fingerprint, frames, fps
      videos/CLASS/CLIP/ARRAY/…     the arrays
      .staging/                     videos being written (see staging.py)

A video is written in `.staging`, checked, synced and renamed to its place: it is wholly there or not there. It
is done if and only if it is there with the fingerprint of the store's recipe and of what it is made from now.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.atomic import create_atomic, to_json, write_atomic
from amefu_cli.artefacts.fingerprint import differences, fingerprint
from amefu_cli.artefacts.publishing import discard, publish, write_group
from amefu_cli.artefacts.staging import Staging, sweep
from amefu_cli.artefacts.store_headers import (
    DAMAGED,
    HEADER,
    SCHEMA,
    VideoRecord,
    group_json,
    read_header,
    read_record,
    video_records,
)
from amefu_cli.artefacts.stored_video import StoredVideo, edition_of, open_video
from amefu_cli.artefacts.video_names import group_path
from amefu_cli.artefacts.workspace import located
from amefu_cli.errors import AmefuError, DamagedFile, RecipeMismatch, UsageError


class VideoStore:
    """One store on disk. Make one with `open_store` (to read) or `prepare_store` (to write)."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.kind: str = header["kind"]
        self.recipe: Mapping[str, Any] = header["recipe"]
        self.made_from: Mapping[str, Any] = header["made_from"]
        self.notes: Mapping[str, Any] = header["notes"]
        self._staging = Staging(path)

    def records(self) -> dict[str, VideoRecord]:
        """Every video in the store, by id, in sorted order; but those whose frames were taken out of their store."""
        found = sorted(video_records(str(self.path / "videos")), key=lambda record: record.id)
        frames = self._frames_folder()
        return {
            record.id: record
            for record in found
            if frames is None or os.path.exists(os.path.join(frames, group_path(record.id), HEADER))
        }

    def _frames_folder(self) -> Path | None:
        """Where the frames of the videos lie; None for frames themselves, and where their whole store is gone."""
        store = located(self.notes, "frames", self.path) if "frames" in self.notes else None
        return store / "videos" if store and (store / HEADER).exists() else None

    def record(self, video: str) -> VideoRecord | None:
        """One video's attributes, or None where it is not in the store."""
        return read_record(self._folder(video))

    def expected_fingerprint(self, made_from: Mapping[str, Any]) -> str:
        """The fingerprint that a video made from `made_from` has in this store."""
        return fingerprint(SCHEMA, self.kind, self.recipe, self.made_from, made_from)

    def is_done(self, record: VideoRecord | None, made_from: Mapping[str, Any]) -> bool:
        """Whether the stored video is what making it now would give."""
        return record is not None and not record.damaged and record.fingerprint == self.expected_fingerprint(made_from)

    def read(self, video: str) -> StoredVideo:
        """Open one video for reading.

        Raises:
            DamagedFile: it is absent or incomplete, or `amefu verify` has found it damaged.
            AmefuError: the whole store is gone.
        """
        folder = self._folder(video)
        edition = edition_of(folder)
        record = read_record(folder)
        if record is None or edition is None:
            self._require_present()
            raise DamagedFile(f"{self.path}: holds no video {video!r}; make it with `amefu {self.kind}`")
        if record.damaged:
            raise DamagedFile(f"{self.path}: {video!r} is damaged; make it anew with `amefu {self.kind}`")
        return open_video(self.path, folder, record, edition)

    def mark_damaged(self, folder: Path, reason: str) -> None:
        """Have the video in `folder` made anew by the next run of its stage; until then it cannot be read."""
        write_atomic(folder / DAMAGED, reason.encode("utf-8", "replace"), temporary=self.fresh_folder())

    def mend_group(self, folder: Path) -> None:
        """Give a folder of videos its header again."""
        write_group(folder, self.fresh_folder)

    def add_notes(self, notes: Mapping[str, Any]) -> None:
        """Record something in the header that is never compared, such as a licence."""
        if any(self.notes.get(name) != value for name, value in notes.items()):
            self.notes = {**self.notes, **notes}
            content = group_json({"amefu": self._header()})
            write_atomic(self.path / HEADER, content, temporary=self.fresh_folder())

    def _header(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "schema": SCHEMA, "recipe": self.recipe, "made_from": self.made_from,
            "notes": self.notes,
        }  # fmt: skip

    def remove(self, video: str) -> None:
        """Take a video out of the store; who reads it at this moment gets an error that names it."""
        self.require_writable()
        discard(self._folder(video), self.fresh_folder)

    def require_writable(self) -> None:
        """Raise UsageError where this process may not write into the store."""
        if not os.access(self.path, os.W_OK):
            raise UsageError(f"{self.path}: may not be written to; make another store with --out")

    def _require_present(self) -> None:
        if not (self.path / HEADER).exists():
            raise AmefuError(f"{self.path}: is not there any more; run the same command again when it is")

    def fresh_folder(self) -> Path:
        """A new folder name in this process's staging area."""
        return self._staging.fresh()

    def publish(self, staged: Path, video: str, expected: str) -> None:
        """Move a finished, synced video folder to its place; another writer's equal one is kept instead.

        Raises:
            AmefuError: the whole store is gone.
            UnusableName: the file system takes two ids for one, or finds the path too long.
        """
        self._require_present()
        publish(
            staged, self._folder(video), video=video, fingerprint=expected, store=self.path, fresh=self.fresh_folder
        )

    def close(self) -> None:
        """Release this process's staging folder and clear those of dead processes."""
        self._staging.close()
        sweep(self.path)

    def __enter__(self) -> VideoStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _folder(self, video: str) -> Path:
        return self.path / "videos" / group_path(video)


def open_store(path: Path, kind: str, *, mend: str) -> VideoStore:
    """Open a store for reading.

    Raises:
        UsageError: there is none; the message names `mend`, the command that makes one.
        DamagedFile: the header is not that of a store of this kind and schema.
    """
    header = read_header(path)
    if header is None:
        raise UsageError(f"{path}: no such store; make it with `{mend}`")
    if header["kind"] != kind:
        raise UsageError(f"{path}: holds {header['kind']!r}, not {kind!r}; make one with `{mend}`")
    return VideoStore(path, header)


def prepare_store(
    path: Path,
    kind: str,
    *,
    recipe: Mapping[str, Any],
    made_from: Mapping[str, Any],
    notes: Mapping[str, Any],
    rebuild: bool,
) -> VideoStore:
    """Open a store for writing, making it where there is none. `notes` are recorded but never compared.

    Raises:
        RecipeMismatch: the store there was made by another recipe or from other weights.
    """
    if rebuild and path.exists():
        discard_store(path)
    _clear_discarded(path)
    wanted = {"kind": kind, "schema": SCHEMA, "recipe": recipe, "made_from": made_from, "notes": notes}
    if read_header(path) is None:
        _create(path, group_json({"amefu": wanted}))
    header = read_header(path)
    assert header is not None
    _require_same(path, header, wanted)
    store = VideoStore(path, header)
    store.add_notes(notes)
    sweep(path)
    return store


def plan_store(
    path: Path,
    kind: str,
    *,
    recipe: Mapping[str, Any],
    made_from: Mapping[str, Any],
    notes: Mapping[str, Any],
    rebuild: bool,
) -> VideoStore:
    """What `prepare_store` would give, for a dry run: nothing is written, now or later.

    Raises:
        RecipeMismatch: the store there was made by another recipe or from other weights.
    """
    wanted = {"kind": kind, "schema": SCHEMA, "recipe": recipe, "made_from": made_from, "notes": notes}
    header = read_header(path)
    if header is None or rebuild:
        return _PlannedStore(path, json.loads(to_json(wanted)), begun=False)
    _require_same(path, header, wanted)
    return _PlannedStore(path, header, begun=True)


class _PlannedStore(VideoStore):
    """A store that is only looked at; where it is not begun, it holds nothing."""

    def __init__(self, path: Path, header: Mapping[str, Any], *, begun: bool) -> None:
        super().__init__(path, header)
        self._begun = begun

    def records(self) -> dict[str, VideoRecord]:
        return super().records() if self._begun else {}

    def require_writable(self) -> None:
        if self._begun:
            super().require_writable()

    def close(self) -> None:
        pass


def _require_same(path: Path, header: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    compared = ("kind", "schema", "recipe", "made_from")
    found, asked = ({key: side[key] for key in compared} for side in (header, json.loads(to_json(wanted))))
    if found != asked:
        kind = wanted["kind"]
        raise RecipeMismatch(
            f"{path}: made by another recipe or from other weights ({'; '.join(differences(found, asked))}); "
            f"keep it and make a second one with `amefu {kind} --out OTHER.zarr`, "
            f"or replace it with `amefu {kind} --rebuild`"
        )


def _create(path: Path, header: bytes) -> None:
    staging = Staging(path)
    try:
        create_atomic(path / HEADER, header, temporary=staging.fresh())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"{path}: cannot be written: {error.strerror}; choose another place") from error
    finally:
        staging.close()
        sweep(path)


def discard_store(path: Path) -> None:
    """Delete a whole store of ours: renamed away first, so that it is never seen half removed."""
    if read_header(path) is None:
        raise UsageError(f"{path}: not a store of amefu's, so it is not deleted")
    os.rename(path, path.with_name(f".{path.name}.discarded-{uuid.uuid4().hex}"))
    _clear_discarded(path)


def _clear_discarded(path: Path) -> None:
    """Delete what `discard_store` renamed away, now or before it was killed."""
    for away in path.parent.glob(f".{glob.escape(path.name)}.discarded-*"):
        shutil.rmtree(away, ignore_errors=True)
