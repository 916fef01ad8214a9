"""The contract that frames.zarr, depth.zarr and features.zarr share: a Zarr v3 group with one group per video.

    store.zarr/
      zarr.json                     kind, schema, recipe and what the whole store was made from
      videos/CLASS/CLIP/zarr.json   what this video was made from, its fingerprint, frames, fps
      videos/CLASS/CLIP/ARRAY/…     the arrays
      .staging/                     videos being written (see staging.py)

A video is written in `.staging`, checked, synced and renamed to its place: it is wholly there or not there. It
is done if and only if it is there with the fingerprint of the store's recipe and of what it is made from now.
Headers are plain JSON of the Zarr specification and are read as such, so a thousand videos are listed without
opening a thousand arrays.
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
from amefu_cli.artefacts.video_names import group_path
from amefu_cli.errors import DamagedFile, RecipeMismatch, UsageError

SCHEMA = 1
HEADER = "zarr.json"
LARGEST_HEADER = 1 << 20  # bytes; ours are a few hundred, so anything near this is not ours


@dataclass(frozen=True)
class VideoRecord:
    """The attributes of one stored video."""

    id: str
    frames: int
    fps: float | None
    source: str
    made_from: Mapping[str, Any]
    fingerprint: str
    partial: bool = False

    @property
    def class_name(self) -> str:
        return self.id.split("/", 1)[0]


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
        found = (_read_record(header) for header in _video_headers(self.path / "videos"))
        return {record.id: record for record in sorted(filter(None, found), key=lambda record: record.id)}

    def record(self, video: str) -> VideoRecord | None:
        """One video's attributes, or None where it is not in the store."""
        return _read_record(self._folder(video) / HEADER)

    def expected_fingerprint(self, made_from: Mapping[str, Any]) -> str:
        """The fingerprint that a video made from `made_from` has in this store."""
        return fingerprint(SCHEMA, self.kind, self.recipe, self.made_from, made_from)

    def is_done(self, record: VideoRecord | None, made_from: Mapping[str, Any]) -> bool:
        """Whether the stored video is what making it now would give."""
        return record is not None and record.fingerprint == self.expected_fingerprint(made_from)

    def read(self, video: str) -> StoredVideo:
        """Open one video for reading; raises DamagedFile where it is absent or incomplete."""
        folder = self._folder(video)
        record = _read_record(folder / HEADER)
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
            write_atomic(self.path / HEADER, _group_json({"amefu": self._header()}))

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
            record = _read_record(place / HEADER)
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
                create_atomic(parent / HEADER, _group_json({}))


@dataclass(frozen=True)
class StoredVideo:
    """One open video: its record, and its arrays behind checks."""

    store: VideoStore
    record: VideoRecord
    arrays: Mapping[str, zarr.Array]

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
    create_atomic(path / HEADER, _group_json({"amefu": wanted}))
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


def read_header(path: Path) -> dict[str, Any] | None:
    """The store's header, or None where nothing is; raises DamagedFile where something else is."""
    attributes = _read_attributes(path / HEADER)
    if attributes is None:
        if path.is_dir() and not any(path.iterdir()):
            return None
        if path.exists():
            raise UsageError(f"{path}: is there, but is not a store of amefu's; choose another path")
        return None
    header = attributes.get("amefu")
    fields = {"kind": str, "schema": int, "recipe": dict, "made_from": dict, "notes": dict}
    if not isinstance(header, dict) or any(
        not isinstance(header.get(name), expected) for name, expected in fields.items()
    ):
        raise DamagedFile(f"{path / HEADER}: not the header of a store of amefu's; choose another path")
    if header["schema"] != SCHEMA:
        raise RecipeMismatch(
            f"{path}: schema {header['schema']}, this version writes {SCHEMA}; "
            f"replace it with `amefu {header['kind']} --rebuild`"
        )
    return header


def record_json(record: VideoRecord) -> dict[str, Any]:
    """The attributes of a video's group."""
    return {
        "id": record.id,
        "frames": record.frames,
        "fps": record.fps,
        "source": record.source,
        "made_from": dict(record.made_from),
        "fingerprint": record.fingerprint,
        "partial": record.partial,
    }


def _group_json(attributes: Mapping[str, Any]) -> bytes:
    return to_json({"attributes": attributes, "zarr_format": 3, "node_type": "group"})


def _read_attributes(header: Path) -> dict[str, Any] | None:
    try:
        with header.open("rb") as file:
            document = json.loads(file.read(LARGEST_HEADER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{header}: not a Zarr header ({error})") from error
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict):
        raise DamagedFile(f"{header}: no 'attributes' object; not a Zarr v3 header")
    return attributes


def _read_record(header: Path) -> VideoRecord | None:
    attributes = _read_attributes(header)
    if attributes is None or "fingerprint" not in attributes:
        return None
    try:
        record = VideoRecord(**attributes)
    except TypeError as error:
        raise DamagedFile(f"{header}: not the attributes of a video ({error})") from error
    if not (
        isinstance(record.id, str)
        and isinstance(record.fingerprint, str)
        and isinstance(record.made_from, dict)
        and isinstance(record.frames, int)
        and record.frames > 0
    ):
        raise DamagedFile(f"{header}: attributes of a video with a field of another type")
    return record


def _video_headers(folder: Path) -> Iterator[Path]:
    """The headers of all video groups: folders whose own sub-folders are arrays are not descended into."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            continue
        header = Path(entry.path, HEADER)
        attributes = _read_attributes(header)
        if attributes is not None and "fingerprint" in attributes:
            yield header
        else:
            yield from _video_headers(Path(entry.path))


def check_chunks(folder: Path, array: zarr.Array) -> None:
    """Zarr reads an absent chunk as zeros; here an absent chunk is damage."""
    grid = [math.ceil(length / chunk) for length, chunk in zip(array.shape, array.chunks, strict=True)]
    for position in itertools.product(*(range(count) for count in grid)):
        key = PurePosixPath("c", *map(str, position))
        if not (folder / key).exists():
            raise ValueError(f"chunk {key} of array {folder.name!r} is missing")
