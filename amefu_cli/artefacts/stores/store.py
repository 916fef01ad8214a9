"""The contract that frames.zarr, depth.zarr and features.zarr share: one zip archive a video.

    store.zarr/
      zarr.json               a Zarr v3 group: kind, schema, settings, what the whole store was made from, notes
      videos/CLASS/CLIP.zip   one video: a Zarr v3 group, whose attributes (and the archive's comment) are its record
      videos/CLASS/CLIP.bad   one that `amefu verify` found damaged, until it is made again
      .staging/               archives being written (see staging.py)

An archive is written in `.staging`, synced and renamed to its place: a video is wholly there or not there. It is done
if and only if it is there with the fingerprint of the store's settings and of what it is made from now.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Self

from amefu_cli.artefacts.files.atomic import locked, require_writable, write_atomic
from amefu_cli.artefacts.files.fingerprint import Provenance, fingerprint, otherwise_made
from amefu_cli.artefacts.files.names import archive_path
from amefu_cli.artefacts.files.workspace import located
from amefu_cli.artefacts.stores import header as headers
from amefu_cli.artefacts.stores import staging
from amefu_cli.artefacts.stores.header import HEADER, AnyHeader, FramesHeader, UnusableName, VideoRecord, header_of
from amefu_cli.artefacts.stores.reading import StoredVideo, open_video
from amefu_cli.artefacts.stores.staging import archives_below, damaged_path, read_record
from amefu_cli.errors import AmefuError, DamagedFile, UsageError


class VideoStore(Generic[AnyHeader]):
    """One store on disk. Make one with `open_store` (to read) or `prepare_store` (to write). Only inside its context is
    anything written: see `begin`. Its videos are listed once, and each record is read once: what other processes add
    later is seen once this one has written something, what they change not at all."""

    def __init__(
        self, path: Path, header: AnyHeader, *, rebuild: bool = False, frames: VideoStore[FramesHeader] | None = None
    ) -> None:
        self.path, self.header, self.kind = path, header, header.kind
        self._rebuild = rebuild  # whether what is there now is still to be discarded
        self._staging, self._videos, self._frames = staging.Staging(path), str(path / "videos"), frames
        self._archives: dict[str, str] | None = None
        self._records: dict[str, VideoRecord | None] = {}  # those that were read

    def exists(self) -> bool:
        """Whether there is a store already."""
        return (self.path / HEADER).exists()

    def ids(self) -> list[str]:
        """Every video in the store, sorted; but those whose frames were taken out of their store."""
        return list(self._listing())

    def records(self) -> dict[str, VideoRecord]:
        """The record of every video of `ids`, but of those that are marked as damaged and cannot be read. Raises
        DamagedFile where one cannot be read and is not marked."""
        found = {}
        for video, path in self._listing().items():
            if video not in self._records:
                self._records[video] = read_record(path)
            if (record := self._records[video]) is not None:
                found[video] = record
        return found

    def record(self, video: str) -> VideoRecord | None:
        """One video's record, or None where it is not in the store."""
        if self._rebuild:
            return None
        if video not in self._records:
            place = self._place(video)
            self._records[video] = read_record(place) or read_record(damaged_path(place))
        return self._records[video]

    def expected_fingerprint(self, made_from: Mapping[str, Any]) -> str:
        """The fingerprint that a video made from `made_from` has in this store."""
        return fingerprint(self._fingerprint, made_from)

    @functools.cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.header.schema, self.kind, self.header.compared())

    def is_done(self, record: VideoRecord | None, made_from: Mapping[str, Any]) -> bool:
        """Whether the stored video is what making it now would give."""
        return record is not None and not record.damaged and record.fingerprint == self.expected_fingerprint(made_from)

    def read(self, video: str) -> StoredVideo:
        """Open one video for reading. Raises DamagedFile where it is absent, broken or marked as damaged, AmefuError
        where the whole store is gone."""
        place = self._place(video)
        with suppress(FileNotFoundError):
            return open_video(self.path, place, video)
        self._require_present()
        if os.path.exists(damaged_path(place)):
            raise DamagedFile(f"{self.path}: {video!r} is damaged; make it again with `amefu {self.kind}`")
        raise DamagedFile(f"{self.path}: holds no video {video!r}; make it with `amefu {self.kind}`")

    def remove(self, video: str) -> None:
        """Take a video out of the store; who reads it at this moment goes on reading it."""
        self.require_writable()
        for path in (self._place(video), damaged_path(self._place(video))):
            Path(path).unlink(missing_ok=True)
        self.forget(video)

    def require_writable(self) -> None:
        """Raise UsageError where this process may not write into the store, or may not make or replace it."""
        require_writable(self.path.parent if self._rebuild else self.path)

    def begin(self) -> Self:
        """Make the store where there is none, and discard first what it is to replace. Raises UsageError where it
        cannot be made or where another process writes into the store that is to be replaced, SettingsMismatch where
        another process has just made one by other settings."""
        try:
            if self._rebuild:
                staging.discard_store(self.path, self.kind)
                self._rebuild = False
                self._archives, self._records = None, {}
            staging.clear_discarded(self.path)
            there = header_of(self.path, type(self.header))
            self.continue_from(there)
            if self.header != there:
                self.note_provenance({})
            self.sweep()
        except BaseException:
            self.close()
            raise
        return self

    def continue_from(self, there: AnyHeader | None) -> None:
        """Put the header over the one that is there. Raises SettingsMismatch where they differ."""
        if there is None:
            return
        if differences := self.header.mismatch(there):
            how = f"made with other settings or from other weights ({'; '.join(differences)})"
            raise otherwise_made(self.path, how, f"amefu {self.kind}", "OTHER.zarr")
        self.header = self.header.over(there)

    def note_provenance(self, loaded: Mapping[str, Provenance]) -> None:
        """Write the header, and in it, before any video, where the weights of the store's networks (by name) come from.
        Raises SettingsMismatch where the store has videos by other weights of the same name, UsageError where it cannot
        be written."""
        try:
            with locked(self.fresh().parent.with_name("header.lock")):
                there = header_of(self.path, type(self.header))  # to which another process may have added meanwhile
                self.continue_from(there)
                self._note(loaded, there.notes.provenance if there else {})
                if self.header != there:
                    write_atomic(self.path / HEADER, headers.header_json(self.header), temporary=self.fresh())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UsageError(f"{self.path}: cannot be written: {error.strerror}; choose another place") from error

    def _note(self, loaded: Mapping[str, Provenance], before: Mapping[str, Provenance]) -> None:
        for name, now in loaded.items():
            if name in before and before[name].sha256 != now.sha256:
                found = f"sha256:{before[name].sha256} in the file, sha256:{now.sha256} from {now.source} now"
                how = f"made by other weights of {name!r} ({found})"
                raise otherwise_made(self.path, how, f"amefu {self.kind}", "OTHER.zarr")
        self.header = replace(self.header, notes=replace(self.header.notes, provenance={**before, **loaded}))

    def fresh(self) -> Path:
        """A new name in this process's staging area."""
        return self._staging.fresh()

    def publish(self, staged: Path, video: str) -> None:
        """Move a finished, synced archive to its place, over one that is there. Raises AmefuError where the whole store
        is gone, UnusableName where the file system takes two ids for one or finds the path too long."""
        self._require_present()
        place = self._place(video)
        system = f"{self.path}: its file system"
        try:
            with suppress(DamagedFile):
                there = read_record(place)
                if there is not None and there.id != video:
                    raise UnusableName(f"{system} does not tell {video!r} from {there.id!r}; rename one")
            staging.rename_into_place(staged, Path(place), top=self.path)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise UnusableName(f"{system} finds the path of {video!r} too long; shorten the id") from error
        Path(damaged_path(place)).unlink(missing_ok=True)
        self.forget(video)

    def forget(self, video: str) -> None:
        """Read the record of a video again, and list all videos: this process or a worker of it has replaced it."""
        self._archives = None
        self._records.pop(video, None)

    def close(self) -> None:
        """Release this process's staging folder and clear those of dead processes."""
        self._staging.close()
        self.sweep()

    def sweep(self) -> None:
        """Clear what dead processes left."""
        staging.sweep(self.path)

    __enter__ = begin

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_present(self) -> None:
        if not self.exists():
            raise AmefuError(f"{self.path}: is not there any more; run the same command again when it is")

    def _place(self, video: str) -> str:
        return f"{self._videos}/{archive_path(video)}"

    def _listing(self) -> dict[str, str]:
        """The path of every archive by the id of its video, sorted."""
        if self._archives is None:
            found = {} if self._rebuild else archives_below(self._videos)
            frames = self._frames_there()
            self._archives = {video: found[video] for video in sorted(found) if frames is None or video in frames}
        return self._archives

    def _frames_there(self) -> Collection[str] | None:
        """The videos that have frames; None for the store of frames itself, and where the whole of that is gone."""
        noted = getattr(self.header.notes, "frames", None)
        if not noted or not ((store := located(noted, self.path)) / HEADER).exists():
            return None
        if self._frames and self._frames.path.resolve() == store.resolve():
            return self._frames._listing()
        return archives_below(str(store / "videos"))


def open_store(
    path: Path, kind: type[AnyHeader], *, fix: str, frames: VideoStore[FramesHeader] | None = None
) -> VideoStore[AnyHeader]:
    """Open a store for reading; `frames` is that of the frames of its videos, where it is open already. Raises
    UsageError where there is none, naming `fix`, the command that makes one, and as `header_of`."""
    header = header_of(path, kind)
    if header is None:
        raise UsageError(f"{path}: no such store; make it with `{fix}`")
    return VideoStore(path, header, frames=frames)


def prepare_store(
    path: Path, header: AnyHeader, *, rebuild: bool, frames: VideoStore[FramesHeader] | None = None
) -> VideoStore[AnyHeader]:
    """A store that can be written into: as a context, before which nothing is made, replaced or deleted. With `rebuild`
    it counts as empty, whatever is there. Raises SettingsMismatch where the store there was made with other settings or
    from other weights, UsageError where what is there is a store of another kind, or none of ours."""
    store = VideoStore(path, header, rebuild=rebuild and headers.require_kind(path, header.kind), frames=frames)
    store.continue_from(None if rebuild else header_of(path, type(header)))
    return store
