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

import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import zarr

from amefu_cli.artefacts.atomic import create_atomic, sync, to_json, write_atomic
from amefu_cli.artefacts.fingerprint import differences, fingerprint
from amefu_cli.artefacts.staging import Staging, sweep
from amefu_cli.artefacts.store_headers import (
    HEADER,
    SCHEMA,
    VideoRecord,
    group_json,
    read_header,
    read_record,
    video_headers,
)
from amefu_cli.artefacts.video_names import group_path
from amefu_cli.errors import DamagedFile, RecipeMismatch, UsageError


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
        """Every video in the store, by id, in sorted order."""
        found = (read_record(header) for header in video_headers(self.path / "videos"))
        return {record.id: record for record in sorted(filter(None, found), key=lambda record: record.id)}

    def record(self, video: str) -> VideoRecord | None:
        """One video's attributes, or None where it is not in the store."""
        return read_record(self._folder(video) / HEADER)

    def expected_fingerprint(self, made_from: Mapping[str, Any]) -> str:
        """The fingerprint that a video made from `made_from` has in this store."""
        return fingerprint(SCHEMA, self.kind, self.recipe, self.made_from, made_from)

    def is_done(self, record: VideoRecord | None, made_from: Mapping[str, Any]) -> bool:
        """Whether the stored video is what making it now would give."""
        return record is not None and record.fingerprint == self.expected_fingerprint(made_from)

    def read(self, video: str) -> StoredVideo:
        """Open one video for reading; raises DamagedFile where it is absent or incomplete."""
        folder = self._folder(video)
        record = read_record(folder / HEADER)
        if record is None:
            raise DamagedFile(f"{self.path}: holds no video {video!r}; make it with `amefu {self.kind}`")
        with self._damage_named(video):
            group = zarr.open_group(folder, mode="r", zarr_format=3)
            arrays = dict(group.arrays())
            for name, array in arrays.items():
                check_chunks(folder / name, array)
        return StoredVideo(self, record, arrays)

    @contextmanager
    def _damage_named(self, video: str) -> Iterator[None]:
        """Turn what Zarr raises over a lost, cut or flipped chunk into an error that names the video."""
        try:
            yield
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            raise DamagedFile(
                f"{self.path}: video {video!r} is damaged ({type(error).__name__}: {error}); "
                f"find all such videos with `amefu verify` and run `amefu {self.kind}` again"
            ) from error

    def add_notes(self, notes: Mapping[str, Any]) -> None:
        """Record something in the header that is never compared, such as a licence."""
        if any(self.notes.get(name) != value for name, value in notes.items()):
            self.notes = {**self.notes, **notes}
            write_atomic(self.path / HEADER, group_json({"amefu": self._header()}))

    def _header(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "schema": SCHEMA, "recipe": self.recipe, "made_from": self.made_from,
            "notes": self.notes,
        }  # fmt: skip

    def fresh_folder(self) -> Path:
        """A new folder name in this process's staging area."""
        return self._staging.fresh()

    def publish(self, staged: Path, video: str, expected: str) -> None:
        """Move a finished, synced video folder to its place; another writer's equal one is kept instead."""
        place = self._folder(video)
        self._make_parents(place)
        while True:
            try:
                os.rename(staged, place)
                break
            except OSError:
                if not place.is_dir():
                    raise
            record = read_record(place / HEADER)
            if record is not None and record.fingerprint == expected:
                shutil.rmtree(staged)
                return
            self.remove(video)
        sync(place.parent)

    def remove(self, video: str) -> None:
        """Take a video out of the store: renamed away first, so that it is never seen half removed."""
        old = self.fresh_folder()
        try:
            os.rename(self._folder(video), old)
        except FileNotFoundError:
            return
        shutil.rmtree(old, ignore_errors=True)

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

    def _make_parents(self, place: Path) -> None:
        """Every folder on the way is a Zarr group too, so that any Zarr reader can walk the store."""
        for parent in reversed([*itertools.takewhile(lambda folder: folder != self.path, place.parents)]):
            parent.mkdir(exist_ok=True)
            if not (parent / HEADER).exists():
                create_atomic(parent / HEADER, group_json({}))


@dataclass(frozen=True)
class StoredVideo:
    """One open video: its record, and its arrays behind checks."""

    store: VideoStore
    record: VideoRecord
    arrays: Mapping[str, zarr.Array[Any]]

    def array(self, name: str, selection: Any = ...) -> Any:
        """A NumPy array of what `selection` takes of the array `name`; checksums are verified on the way."""
        with self.store._damage_named(self.record.id):
            return self.arrays[name][selection]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name`, from its header."""
        with self.store._damage_named(self.record.id):
            return tuple(self.arrays[name].shape)


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
    path.mkdir(parents=True, exist_ok=True)
    wanted = {"kind": kind, "schema": SCHEMA, "recipe": recipe, "made_from": made_from, "notes": notes}
    create_atomic(path / HEADER, group_json({"amefu": wanted}))
    header = read_header(path)
    assert header is not None
    compared = ("kind", "schema", "recipe", "made_from")
    found, asked = ({key: side[key] for key in compared} for side in (header, json.loads(to_json(wanted))))
    if found != asked:
        raise RecipeMismatch(
            f"{path}: made by another recipe or from other weights ({'; '.join(differences(found, asked))}); "
            f"keep it and make a second one with `amefu {kind} --out OTHER.zarr`, "
            f"or replace it with `amefu {kind} --rebuild`"
        )
    store = VideoStore(path, header)
    store.add_notes(notes)
    sweep(path)
    return store


def discard_store(path: Path) -> None:
    """Delete a whole store of ours: renamed away first, so that it is never seen half removed."""
    if read_header(path) is None:
        raise UsageError(f"{path}: not a store of amefu's, so it is not deleted")
    away = path.with_name(f".{path.name}.discarded-{os.getpid()}")
    os.rename(path, away)
    shutil.rmtree(away)


def check_chunks(folder: Path, array: zarr.Array[Any]) -> None:
    """Zarr reads an absent chunk as zeros; here an absent chunk is damage."""
    grid = [math.ceil(length / chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    for position in itertools.product(*(range(count) for count in grid)):
        key = PurePosixPath("c", *map(str, position))
        if not (folder / key).exists():
            raise ValueError(f"chunk {key} of array {folder.name!r} is missing")
