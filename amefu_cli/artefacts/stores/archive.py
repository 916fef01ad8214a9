"""Zip archives, read a member at a time: small, since `zipfile` takes longer to open one than to read all of it.

Every member is read whole and held to its CRC-32. What is not as `writing.py` or any other writer of uncompressed zip
archives makes it raises ValueError.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple

TAIL = 1 << 17  # bytes that are read at once from the end: all of a small archive, else its directory and comment
RECORD_TAIL = 1 << 12  # bytes that hold most comments
END = struct.Struct("<4s6xHLLH")  # members, size and place of their directory, length of the comment
MEMBER = struct.Struct("<4s6xH4x3L3H8xL")  # method, CRC-32, two sizes, lengths of name, extra and comment, place
LOCAL = struct.Struct("<4s22x2H")  # lengths of name and extra
IN_ZIP64 = (0xFFFF, 0xFFFFFFFF)  # a number that is too large for its field says so


class Member(NamedTuple):
    """Where one member stands, its bytes and their CRC-32."""

    place: int
    size: int
    crc: int


class Archive:
    """One open archive: its members by name, and its comment. It stays as it is, whatever becomes of its name."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size
        self._tail_at = max(0, self.size - TAIL)
        self._tail = os.pread(self._descriptor, TAIL, self._tail_at)
        self.comment, self.members = self._directory()

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @property
    def inode(self) -> int:
        """What tells the file from another of the same name."""
        return os.fstat(self._descriptor).st_ino

    def read(self, name: str) -> memoryview:
        """The bytes of one member. Raises ValueError where it is missing or is not what was written."""
        member = self.members.get(name)
        if member is None:
            raise ValueError(f"{name!r} is missing")
        encoded = name.encode()
        head = self._bytes(member.place, LOCAL.size + len(encoded) + member.size)
        content = memoryview(b"")
        if len(head) >= LOCAL.size:
            mark, name_length, extra = LOCAL.unpack_from(head)
            begin = LOCAL.size + name_length
            if mark == b"PK\3\4" and head[LOCAL.size : begin] == encoded:
                content = head[begin:] if not extra else self._bytes(member.place + begin + extra, member.size)
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise ValueError(f"{name!r} is not what was written: its checksum differs")
        return content

    def _bytes(self, begin: int, length: int) -> memoryview:
        length = max(0, min(length, self.size - begin))  # no allocation for what a damaged directory says
        if begin >= self._tail_at:
            return memoryview(self._tail)[begin - self._tail_at :][:length]
        return memoryview(os.pread(self._descriptor, length, begin))

    def _directory(self) -> tuple[bytes, Mapping[str, Member]]:
        end, comment = _end_of(self._tail)
        _, count, size, place, _ = end
        if count in IN_ZIP64 or size in IN_ZIP64 or place in IN_ZIP64:
            return comment, self._by_zipfile()
        directory = self._bytes(place, size)
        members, at = {}, 0
        for _ in range(count):
            if at + MEMBER.size > len(directory):
                raise ValueError("its directory is cut")
            mark, method, crc, stored, full, name, extra, note, begin = MEMBER.unpack_from(directory, at)
            if mark != b"PK\1\2" or method != zipfile.ZIP_STORED or stored != full:
                raise ValueError("its directory is not one of uncompressed members")
            if stored in IN_ZIP64 or begin in IN_ZIP64:
                return comment, self._by_zipfile()
            at += MEMBER.size
            members[str(directory[at : at + name], "utf-8", "replace")] = Member(begin, stored, crc)
            at += name + extra + note
        return comment, members

    def _by_zipfile(self) -> dict[str, Member]:
        """An archive of over 2 GiB or 65,535 members, where the time to open it does not count."""
        try:
            with os.fdopen(os.dup(self._descriptor), "rb") as file, zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, struct.error) as error:
            raise ValueError(str(error)) from error
        return {entry.filename: Member(entry.header_offset, entry.file_size, entry.CRC) for entry in entries}


def read_comment(path: str) -> bytes:
    """The comment of the archive at `path`, read alone. Raises ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, RECORD_TAIL, max(0, size - RECORD_TAIL))
        if size > RECORD_TAIL and b"PK\5\6" not in tail:
            tail = os.pread(descriptor, TAIL, max(0, size - TAIL))
    finally:
        os.close(descriptor)
    return _end_of(tail)[1]


def _end_of(tail: bytes) -> tuple[tuple[bytes, int, int, int, int], bytes]:
    """The end record of an archive, and its comment, which holds no control characters."""
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + END.size > len(tail):
        raise ValueError("it is cut, or not an archive")
    end = END.unpack_from(tail, at)
    comment = tail[at + END.size :]
    if len(comment) != end[-1]:
        raise ValueError("it does not end where it says")
    return end, comment
