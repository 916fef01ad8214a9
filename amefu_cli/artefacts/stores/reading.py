"""Reading one video of a store: every read is checked, so that damage is an error that names the video, never zeros."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import zarr

from amefu_cli.artefacts.stores.header import HEADER, VideoRecord
from amefu_cli.errors import AmefuError, DamagedFile

CHECKSUM_BYTES = 4  # CRC-32C, little-endian, after the bytes of every chunk

Edition = tuple[int, int]
"""Inode and time of a video's header: they change when another writer puts a new video in its place."""


@dataclass(frozen=True)
class StoredVideo:
    """One open video: the store's path, the video's folder and record, and its arrays behind checks."""

    store: Path
    folder: Path
    record: VideoRecord
    arrays: Mapping[str, zarr.Array[Any]]
    edition: Edition

    def array(self, name: str, selection: Any = ...) -> Any:
        """A NumPy array of what `selection` takes of the array `name`; checksums are verified on the way."""
        with damage_named(self.store, self.record.id):
            content: Any = self.arrays[name][selection]
            if isinstance(selection, slice) and len(content) != selection.stop - selection.start:
                raise ValueError(f"array {name!r} ends before row {selection.stop}")
        if edition_of(self.folder) != self.edition:
            raise DamagedFile(
                f"{self.store}: {self.record.id!r} was replaced while it was read; run the same command again"
            )
        return content

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name`, from its header."""
        with damage_named(self.store, self.record.id):
            return tuple(self.arrays[name].shape)


def open_video(store: Path, folder: Path, record: VideoRecord, edition: Edition) -> StoredVideo:
    """The video at `folder`; `edition` is that of before its record was read. Raises DamagedFile."""
    with damage_named(store, record.id):
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
        arrays = {name: zarr.open_array(folder / name, mode="r", zarr_format=3) for name in names}
        for name, array in arrays.items():
            check_chunks(folder / name, array)
    return StoredVideo(store, folder, record, arrays, edition)


def edition_of(folder: Path) -> Edition | None:
    """The edition of the video at `folder`; None while there is none."""
    try:
        status = (folder / HEADER).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def damage_named(store: Path, video: str) -> Iterator[None]:
    """Turn what Zarr raises over a lost, cut or flipped chunk into an error that names the video."""
    try:
        yield
    except AmefuError:
        raise
    except Exception as error:  # a damaged header of an array can raise almost anything
        raise DamagedFile(
            f"{store}: video {video!r} is damaged ({type(error).__name__}: {error}); "
            f"`amefu verify` finds all such videos, and the command that made them makes them again"
        ) from error


def check_chunks(folder: Path, array: zarr.Array[Any]) -> None:
    """Zarr reads an absent chunk as zeros; here an absent chunk is damage."""
    for chunk in chunk_files(folder, array.shape, array.chunks):
        if not chunk.exists():
            raise ValueError(f"chunk {chunk.relative_to(folder)} of array {folder.name!r} is missing")


def chunk_files(folder: Path, shape: Sequence[int], chunks: Sequence[int]) -> Iterator[Path]:
    """Where the chunks of the array at `folder` lie."""
    grid = [math.ceil(length / chunk) for length, chunk in zip(shape, chunks, strict=True)]
    for position in itertools.product(*(range(count) for count in grid)):
        yield chunk_file(folder, position)


def chunk_file(folder: Path, position: Sequence[int]) -> Path:
    """Where one chunk of the array at `folder` lies, by its place in the grid of chunks."""
    return folder / PurePosixPath("c", *map(str, position))
