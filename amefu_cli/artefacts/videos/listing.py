"""The entries of one folder that are worth a look, and why each of the others is passed over."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from amefu_cli.artefacts.files.names import VIDEO_SUFFIXES
from amefu_cli.artefacts.videos.series import IMAGE_SUFFIXES, OTHER_SUFFIXES, SYSTEM_FOLDERS, UNFINISHED, suffix_of
from amefu_cli.errors import shown

MAX_DEPTH = 64

STORE_SUFFIX = ".zarr"  # our own stores, where the workspace lies inside VIDEOS

LEFT_OVER = "left over from a download that did not end"

Above = tuple[tuple[int, int], ...]
"""(device, inode) of the folders on the way to an entry: meeting one again is a loop."""


@dataclass
class Listing:
    """Lists folders below `real_root`. Keeps (path, reason) of what is passed over: `skipped` is what a user may have
    meant as a clip, `beside` what nobody takes for one."""

    real_root: str
    follow_links: bool
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    beside: list[tuple[Path, str]] = field(default_factory=list)

    def worth_a_look(
        self, path: Path, above: Above, through_link: bool
    ) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """Entries worth a look, with the status of what they lead to; the others are noted with a reason."""
        with os.scandir(path) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        names = {entry.name for entry in listed}
        for entry in listed:
            if entry.name.startswith("."):
                self.beside.append((path / entry.name, "hidden"))
                continue
            try:
                status = entry.stat()
                reason = self._why_not(entry, status, above, through_link)
            except OSError as error:
                status, reason = None, _why_no_status(entry, error)
            if f"{entry.name}.aria2" in names:
                reason = LEFT_OVER
            if reason:
                self.skipped.append((path / entry.name, reason))
            elif reason is None and status is not None:
                yield entry, status
            else:
                self.beside.append((path / entry.name, "no video by its suffix"))

    def _why_not(self, entry: os.DirEntry[str], status: os.stat_result, above: Above, through_link: bool) -> str | None:
        """None: take it. Empty: pass it over quietly. Else the reason why it is passed over."""
        suffix = suffix_of(entry.name)
        if stat.S_ISDIR(status.st_mode):
            if suffix == STORE_SUFFIX:
                return ""
            if SYSTEM_FOLDERS.fullmatch(entry.name):
                return "a folder of the system, not of yours"
            if suffix in VIDEO_SUFFIXES:
                return f"a folder named as a video ({suffix}); rename it if it holds a clip's images"
            if len(above) > MAX_DEPTH:
                return f"nested deeper than {MAX_DEPTH} folders"
            if (status.st_dev, status.st_ino) in above:
                return "a link that leads back to a folder above it"
        elif not stat.S_ISREG(status.st_mode):
            return f"not a regular file but {_kind(status.st_mode)}"
        elif suffix in OTHER_SUFFIXES:
            return ""
        elif UNFINISHED.search(entry.name):
            return LEFT_OVER
        elif suffix not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            return f"no video by its suffix {shown(suffix)!r}" if suffix else "a file without a suffix"
        return self._why_not_link(entry, status, through_link) if entry.is_symlink() else None

    def _why_not_link(self, entry: os.DirEntry[str], status: os.stat_result, through_link: bool) -> str | None:
        if self.follow_links:
            return None
        target = os.path.realpath(entry.path)
        if os.path.commonpath((self.real_root, target)) != self.real_root:
            return "a link that leaves the videos folder; --follow-links follows it"
        if through_link and stat.S_ISDIR(status.st_mode):
            return "a folder link inside a linked folder; --follow-links follows it"  # bounds the walk
        return None


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _why_no_status(entry: os.DirEntry[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a link that leads to itself"
    if error.errno == errno.ENOENT and entry.is_symlink():
        return "a link to nothing"
    return f"cannot be read: {error.strerror}"
