"""The contract that frames.zarr, depth.zarr and features.zarr share: a Zarr v3 group with one group per video.

    store.zarr/
      zarr.json                     kind, schema, settings and what the whole store was made from
      videos/CLASS/CLIP/zarr.json   what this video was made from, its fingerprint, frames, fps
      videos/CLASS/CLIP/ARRAY/…     the arrays
      .staging/                     videos being written (see staging.py)

A video is written in `.staging`, checked, synced and renamed to its place: it is wholly there or not there. It
is done if and only if it is there with the fingerprint of the store's settings and of what it is made from now.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from amefu_cli.artefacts.files.atomic import create_atomic, require_writable, to_json, write_atomic
from amefu_cli.artefacts.files.fingerprint import differences, fingerprint
from amefu_cli.artefacts.files.names import group_path
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores.header import (
    DAMAGED,
    HEADER,
    SCHEMA,
    STAGING,
    VideoRecord,
    group_json,
    header_of,
    read_record,
    video_records,
)
from amefu_cli.artefacts.stores.reading import StoredVideo, edition_of, open_video
from amefu_cli.artefacts.stores.staging import Staging, discard, publish, sweep, write_group
from amefu_cli.errors import AmefuError, DamagedFile, SettingsMismatch, UsageError


class VideoStore:
    """One store on disk. Make one with `open_store` (to read) or `prepare_store` (to write).

    Only inside its context is anything written: see `begin`.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, rebuild: bool = False) -> None:
        self.path = path
        self._rebuild = rebuild  # whether what is there now is still to be discarded
        self.kind: str = header["kind"]
        self.settings: Mapping[str, Any] = header["settings"]
        self.made_from: Mapping[str, Any] = header["made_from"]
        self.notes: Mapping[str, Any] = header["notes"]
        self._staging = Staging(path)

    def records(self) -> dict[str, VideoRecord]:
        """Every video in the store, by id, in sorted order; but those whose frames were taken out of their store."""
        there = () if self._rebuild else video_records(str(self.path / "videos"))
        found = sorted(there, key=lambda record: record.id)
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
        return fingerprint(SCHEMA, self.kind, self.settings, self.made_from, made_from)

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
            raise DamagedFile(f"{self.path}: {video!r} is damaged; make it again with `amefu {self.kind}`")
        return open_video(self.path, folder, record, edition)

    def mark_damaged(self, folder: Path, reason: str) -> None:
        """Have the video in `folder` made again by the next run of its stage; until then it cannot be read."""
        write_atomic(folder / DAMAGED, reason.encode("utf-8", "replace"), temporary=self.fresh_folder())

    def fix_group(self, folder: Path) -> None:
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
            "kind": self.kind, "schema": SCHEMA, "settings": self.settings, "made_from": self.made_from,
            "notes": self.notes,
        }  # fmt: skip

    def remove(self, video: str) -> None:
        """Take a video out of the store; who reads it at this moment gets an error that names it."""
        self.require_writable()
        discard(self._folder(video), self.fresh_folder)

    def require_writable(self) -> None:
        """Raise UsageError where this process may not write into the store, or may not make or replace it."""
        require_writable(self.path.parent if self._rebuild else self.path)

    def begin(self) -> VideoStore:
        """Make the store where there is none, and discard first what it is to replace.

        Raises:
            UsageError: it cannot be made; another process writes into the store that is to be replaced.
            SettingsMismatch: another process has just made one by another settings.
        """
        try:
            if self._rebuild:
                discard_store(self.path, self.kind)
                self._rebuild = False
            _clear_discarded(self.path)
            if header_of(self.path, self.kind) is None:
                self._create()
            header = header_of(self.path, self.kind)
            assert header is not None
            _require_same(self.path, header, self._header())
            wanted, self.notes = self.notes, header["notes"]
            self.add_notes(wanted)
            sweep(self.path)
        except BaseException:
            self.close()
            raise
        return self

    def _create(self) -> None:
        """Write the header. The staging folder stays, so that others see that this process is about to write."""
        try:
            create_atomic(self.path / HEADER, group_json({"amefu": self._header()}), temporary=self.fresh_folder())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UsageError(f"{self.path}: cannot be written: {error.strerror}; choose another place") from error

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
        return self.begin()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _folder(self, video: str) -> Path:
        return self.path / "videos" / group_path(video)


def open_store(path: Path, kind: str, *, fix: str) -> VideoStore:
    """Open a store for reading.

    Raises:
        UsageError: there is none; the message names `fix`, the command that makes one.
        DamagedFile: the header is not that of a store of this kind and schema.
    """
    header = header_of(path, kind)
    if header is None:
        raise UsageError(f"{path}: no such store; make it with `{fix}`")
    return VideoStore(path, header)


def prepare_store(
    path: Path,
    kind: str,
    *,
    settings: Mapping[str, Any],
    made_from: Mapping[str, Any],
    notes: Mapping[str, Any],
    rebuild: bool,
) -> VideoStore:
    """A store that can be written into: as a context, before which nothing is made, replaced or deleted.

    `notes` are recorded but never compared. With `rebuild` the store counts as empty, whatever is there.

    Raises:
        SettingsMismatch: the store there was made with other settings or from other weights.
        UsageError: what is there is a store of another kind, or none of ours.
    """
    asked = {"kind": kind, "schema": SCHEMA, "settings": settings, "made_from": made_from, "notes": notes}
    header = json.loads(to_json(asked))
    there = header_of(path, kind)
    if there is not None and not rebuild:
        _require_same(path, there, header)
    return VideoStore(path, header, rebuild=rebuild and there is not None)


def _require_same(path: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise SettingsMismatch where the header that is there is not the one that is asked for."""
    found, wanted = ({key: side[key] for key in ("schema", "settings", "made_from")} for side in (there, asked))
    if found != wanted:
        raise SettingsMismatch(
            f"{path}: made with other settings or from other weights ({'; '.join(differences(found, wanted))}); "
            f"keep it and make a second one with `amefu {asked['kind']} --out OTHER.zarr`, "
            f"or replace it with `amefu {asked['kind']} --rebuild`"
        )


def discard_store(path: Path, kind: str) -> None:
    """Delete a whole store of one kind, if it is there: renamed away first, so that it is never seen half removed.

    Raises:
        UsageError: it is of another kind, or none of ours; another process writes into it.
    """
    if header_of(path, kind) is None:
        return
    sweep(path)
    if (path / STAGING).exists():
        raise UsageError(
            f"{path}: another process writes into it at this moment, so it is not replaced; wait for it, or choose "
            "another --out"
        )
    with suppress(FileNotFoundError):  # another process has just done it
        os.rename(path, path.with_name(f".{path.name}.discarded-{uuid.uuid4().hex}"))
    _clear_discarded(path)


def _clear_discarded(path: Path) -> None:
    """Delete what `discard_store` renamed away, now or before it was killed."""
    for away in path.parent.glob(f".{glob.escape(path.name)}.discarded-*"):
        shutil.rmtree(away, ignore_errors=True)
