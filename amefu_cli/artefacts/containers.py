"""What a container's own bytes say, beside what FFmpeg makes of them: kind, promised size, encryption."""

from __future__ import annotations

import os
from typing import BinaryIO

_MAX_BOXES = 100_000  # an hour of one-second fragments has 7,200
_MAX_SCAN = 1 << 20  # bytes of header searched for an encrypted sample entry


def known_container(file: BinaryIO) -> bool:
    """Whether the first bytes are those of a common video container, whatever else is wrong with the file."""
    head = _at(file, 0, 12)
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"GIF8", b"OggS", b"\x00\x00\x01\xba", b"0&\xb2u"))
    )


def promised_size(file: BinaryIO) -> int | None:
    """How many bytes the container says that it has; None for kinds that do not say (streams, recordings).

    MP4 and QuickTime: the end of the last box. AVI: the RIFF header. Matroska and WebM: the segment header.
    """
    head = _at(file, 0, 12)
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _matroska_size(file)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return int.from_bytes(head[4:8], "little") + 8
    return _boxes_end(file) if known_container(file) and head[4:8].isalpha() else None


def names_encryption(file: BinaryIO) -> bool:
    """Whether an MP4 header describes its video as encrypted (sample entry `encv`, ISO/IEC 23001-7)."""
    return known_container(file) and b"encv" in _at(file, 0, _MAX_SCAN)


def _boxes_end(file: BinaryIO) -> int | None:
    size, position = os.fstat(file.fileno()).st_size, 0
    for _ in range(_MAX_BOXES):
        header = _at(file, position, 16)
        if len(header) < 8 or not header[4:8].isascii() or not header[4:8].isalnum():
            return position  # some writers leave a few bytes of padding behind the last box
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # "to the end of the file": no promise
            return None
        if length < 8:
            return position
        position += length
        if position >= size:
            return position
    return None


def _matroska_size(file: BinaryIO) -> int | None:
    header = _at(file, 0, 128)
    length, position = _vint(header, 4)
    if length is None:
        return None
    segment = position + length
    header = _at(file, segment, 12)
    if header[:4] != b"\x18S\x80g":
        return None
    length, position = _vint(header, 4)
    return None if length is None else segment + position + length


def _vint(data: bytes, start: int) -> tuple[int | None, int]:
    """An EBML size at `start` and where it ends (RFC 8794 §4); None where it means "unknown"."""
    if start >= len(data) or data[start] == 0:
        return None, start
    width = 9 - data[start].bit_length()
    value = int.from_bytes(data[start : start + width], "big") & ((1 << 7 * width) - 1)
    unknown = len(data) < start + width or value == (1 << 7 * width) - 1
    return (None if unknown else value), start + width


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    """`count` bytes at `position` (fewer at the end of the file), the file's own position untouched."""
    return os.pread(file.fileno(), count, position)
