"""What a container says of itself, read from its bytes: its kind, its size, whether the chain of its pieces holds."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO

from amefu_cli.artefacts.files.names import suffixes

MAX_BOXES = 100_000  # an hour of one-second fragments has 7,200
MAX_SCAN = 1 << 20  # bytes of header searched for an encrypted sample entry
MATROSKA, FLV, GIF, PACK = b"\x1aE\xdf\xa3", b"FLV\x01", b"GIF8", b"\0\0\x01\xba"
END = -1  # what comes behind is of no concern
Step = Callable[[BinaryIO, int], int | None]  # where the piece at a place ends; None where no piece starts there


def known_container(file: BinaryIO) -> bool:
    """Whether the first bytes are those of a common video container, whatever else is wrong with the file."""
    head = _at(file, 0, 12)
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"wide", b"free", b"skip")
        or _is_avi(head)
        or head.startswith((MATROSKA, FLV, GIF, PACK, b"OggS", b"0&\xb2u"))
    )


def cut_at(file: BinaryIO) -> str:
    """Where a file ends before its container says, in words; empty for one that does not."""
    size, promised = size_of(file), _promised_size(file)
    return f"the file ends at byte {size:,} of {promised:,}" if promised > size else ""


def names_encryption(file: BinaryIO) -> bool:
    """Whether an MP4 header describes its video as encrypted (sample entry `encv`, ISO/IEC 23001-7)."""
    return known_container(file) and b"encv" in _at(file, 0, MAX_SCAN)


def broken_at(file: BinaryIO) -> int | None:
    """The byte at which the chain of a container's pieces breaks, each of which says how long it is; past the end of
    the file where the last one is cut. None for a chain that holds, and for containers that are none (MP4)."""
    step = _step_of(file)
    end = deque(_places(file, step), maxlen=1).pop() if step else END
    return None if end in (END, size_of(file)) else end


def empty_chunks(file: BinaryIO, stream: int) -> int:
    """How many chunks of an AVI's video stream hold nothing, as capture programs write for a frame that was lost."""
    empty = (b"%02ddc\0\0\0\0" % stream, b"%02ddb\0\0\0\0" % stream)
    return sum(_at(file, place, 8) in empty for place in _places(file, _after_chunk))


def size_of(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _promised_size(file: BinaryIO) -> int:
    """How many bytes the container says that it has; 0 for kinds that do not say (streams, recordings). MP4 and
    QuickTime: the end of the last box. AVI: the RIFF header. Matroska and WebM: the segment header."""
    head = _at(file, 0, 12)
    if head.startswith(MATROSKA):
        segment = _after_element(file, 0) or 0
        (length, after), is_segment = _vint(_at(file, segment, 12), 4), _at(file, segment, 4) == b"\x18S\x80g"
        return segment + after + length if is_segment and length is not None else 0
    if _is_avi(head):
        return int.from_bytes(head[4:8], "little") + 8
    if known_container(file) and head[4:8].isalpha():
        return deque(islice(_places(file, _after_box), MAX_BOXES + 1), maxlen=1).pop()
    return 0


def _places(file: BinaryIO, step: Step) -> Iterator[int]:
    """Where the pieces start, and last where the chain ends: the end of the file, past it, a place of no piece, END."""
    size, place = size_of(file), 0
    yield place
    while END < place < size and (after := step(file, place)) is not None:
        place = after
        yield place


def _step_of(file: BinaryIO) -> Step | None:
    head = _at(file, 0, 12 + 2 * 192)
    if head.startswith(MATROSKA):
        return _after_element
    if _is_avi(head):
        return _after_chunk
    for offset, stride in ((0, 188), (4, 192)):
        if head[offset::stride][:3] == b"GGG":
            return lambda file, place: place + stride if _at(file, place + offset, 1) == b"G" else None
    steps: dict[bytes, Step] = {FLV: _after_tag, GIF: _after_block, PACK: _after_pack}
    return steps.get(head[:4])


def _is_avi(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"AVI "


def _after_box(file: BinaryIO, position: int) -> int | None:
    """MP4 and QuickTime; some writers leave a few bytes of padding behind the last box."""
    header = _at(file, position, 16)
    length = int.from_bytes(header[:4], "big")
    if length == 1:
        length = int.from_bytes(header[8:16], "big")
    if len(header) < 8 or not header[4:8].isalnum() or 0 < length < 8:
        return None
    return position + length if length else END  # 0 is "to the end of the file": no promise


def _after_element(file: BinaryIO, position: int) -> int | None:
    """Matroska and WebM (RFC 9559): what lies in the segment and in its clusters."""
    header = _at(file, position, 12)
    width = 9 - header[0].bit_length() if header else 9
    name = header[:width].hex()
    if f".{name}" not in ELEMENTS:
        return None
    length, after = _vint(header, width)
    if name in ("18538067", "1f43b675"):  # a segment, a cluster: their children are next
        return position + after
    return None if length is None else position + after + length


ELEMENTS = suffixes(
    "1a45dfa3 18538067 1f43b675 114d9b74 1549a966 1654ae6b 1c53bb6b 1254c367 1043a770 1941a469 "
    "ec bf e7 a3 a0 a1 ab a7 af 5854"
)


def _after_chunk(file: BinaryIO, position: int) -> int | None:
    """AVI: the chunks in its lists."""
    header = _at(file, position, 12)
    if header[:4] == b"RIFF" or (header[:4] == b"LIST" and header[8:12] in (b"movi", b"rec ")):
        return position + 12
    length = int.from_bytes(header[4:8], "little")
    return position + 8 + length + length % 2 if header[:4].strip(b" _").isalnum() else None


def _after_tag(file: BinaryIO, position: int) -> int | None:
    """FLV: its header, then tags of sound, video and script, each with its length behind it."""
    header = _at(file, position, 11)
    if position == 0:
        return int.from_bytes(header[5:9], "big") + 4
    return position + 15 + int.from_bytes(header[1:4], "big") if header[:1] in (b"\x08", b"\x09", b"\x12") else None


def _after_pack(file: BinaryIO, position: int) -> int | None:
    """MPEG program streams: pack headers and packets."""
    header = _at(file, position, 14)
    if header[:4] == b"\0\0\x01\xb9":
        return position + 4
    if header[:4] == PACK:
        return position + (14 + (header[13] & 7) if len(header) == 14 and header[4] >> 6 == 1 else 12)
    return position + 6 + int.from_bytes(header[4:6], "big") if header[:3] == b"\0\0\x01" else None


def _after_block(file: BinaryIO, position: int) -> int | None:
    """GIF: its header, extensions and images, which end with an empty part."""
    header = _at(file, position, 13)
    if position == 0:
        return 13 + _palette(header, 10)
    if header[:1] == b";":
        return END
    if header[:1] not in (b"!", b","):
        return None
    position += 2 if header[:1] == b"!" else 11 + _palette(header, 9)
    while part := _at(file, position, 1):
        position += 1 + part[0]
        if part == b"\0":
            break
    return position


def _palette(header: bytes, at: int) -> int:
    return 3 << 1 + (header[at] & 7) if len(header) > at and header[at] & 0x80 else 0


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
