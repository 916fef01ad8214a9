"""Source videos on disk: which files and folders under VIDEOS are clips, what was passed over, and why.

A clip is a video file `CLASS/…/NAME.mp4` or a folder of images `CLASS/…/NAME/img_00001.jpg`. Its id is the
path below the root without the suffix, `/` between the parts. A suffix stays where the bare id is taken, so
that no two clips share an id and no id is a folder on the way to another.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amefu_cli.artefacts.video_errors import shown
from amefu_cli.errors import UsageError


def _suffixes(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


VIDEO_SUFFIXES = _suffixes(
    """
    266 3g2 3gp 3gpp amv asf av1 avc avi avs dav dif divx dv f4v flv gif h261 h263 h264 264 h265 265 hevc h266 h26l
    ismv ivf m1v m2p m2t m2ts m2v m4v mj2 mjpeg mjpg mk3d mkv mod mov mp4 mp4v mpe mpeg mpeg4 mpg mpv mts mxf nut
    obu ogm ogv ogx qt rm rmvb swf tod ts trp ty vc1 vid viv vob vvc webm wmv wtv xvid y4m
    """
)
IMAGE_SUFFIXES = _suffixes(
    """
    bmp jfif jpe jpeg jpg png ppm tif tiff webp
    """
)
# What lies beside videos in real data sets: passed over without a word.
OTHER_SUFFIXES = _suffixes(
    """
    7z aac ac3 ass bak bz2 cfg csv db doc docx flac gz h5 hdf5 htm html ini ipynb json jsonl lock
    log m4a mat md md5 mp3 npy npz ogg opus parquet pdf pickle pkl pt pth py rar rst safetensors sh
    sha256 sqlite srt sub tar tgz toml tsv txt url vtt wav xls xlsx xml yaml yml zip zst
    """
)
MAX_DEPTH = 64
STORE_SUFFIX = ".zarr"  # our own stores, where the workspace lies inside VIDEOS


Above = tuple[tuple[int, int], ...]
"""(device, inode) of the folders on the way to an entry: meeting one again is a loop."""


@dataclass(frozen=True)
class Clip:
    """One source video. `size` in bytes (images: their sum), `mtime_ns` (images: the latest)."""

    id: str
    class_name: str
    path: Path
    kind: Literal["video", "images"]
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Found:
    """Clips sorted by id, and what was passed over: (path, reason)."""

    clips: tuple[Clip, ...]
    skipped: tuple[tuple[Path, str], ...]


def find_clips(root: Path, *, follow_links: bool) -> Found:
    """Every clip under `root`. Links are followed inside `root`, and anywhere with `follow_links`.

    Raises UsageError where `root` is no readable folder.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise UsageError(f"`{shown(root)}` {found}; give the folder that holds CLASS/CLIP.mp4")
    walk = _Walk(root=root, real_root=os.path.realpath(root), follow_links=follow_links)
    try:
        walk.folder(root, parts=(), above=(), through_link=False)
    except OSError as error:
        raise UsageError(f"`{shown(root)}` cannot be read: {error.strerror}; allow reading it") from error
    clips = tuple(sorted(walk.clips, key=lambda clip: clip.id))
    return Found(clips=clips, skipped=tuple(sorted(walk.skipped)))


def image_files(folder: Path) -> list[Path]:
    """The images of one clip, in natural order: img_2 before img_10. Raises OSError."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if _suffix(entry.name) in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        ]
    return [folder / name for name in sorted(names, key=natural_key)]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorting key under which numbers inside a name count as numbers.

    >>> sorted(["img_10", "img_2"], key=natural_key)
    ['img_2', 'img_10']
    """
    parts = re.split(r"([0-9]+)", name)  # text and digits take turns, so like always meets like
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


@dataclass
class _Walk:
    root: Path
    real_root: str
    follow_links: bool
    clips: list[Clip] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)

    def folder(self, path: Path, *, parts: tuple[str, ...], above: Above, through_link: bool) -> None:
        """Walk one folder and those below it. Raises OSError if it cannot be listed."""
        here = path.stat()
        above = (*above, (here.st_dev, here.st_ino))
        files: list[tuple[str, os.stat_result]] = []
        images: list[os.stat_result] = []
        skipped_before = len(self.skipped)
        folders: list[tuple[str, bool]] = []
        for entry, status in self._entries(path, above, through_link):
            suffix = _suffix(entry.name)
            if stat.S_ISDIR(status.st_mode):
                folders.append((entry.name, entry.is_symlink()))
            elif suffix in IMAGE_SUFFIXES:
                images.append(status)
            elif suffix in VIDEO_SUFFIXES:
                files.append((entry.name, status))
        refused = any(_suffix(where.name) in IMAGE_SUFFIXES for where, _ in self.skipped[skipped_before:])
        before = len(self.clips)
        self._add_videos(path, parts, files, {name for name, _ in folders})
        for name, is_link in folders:
            try:
                self.folder(path / name, parts=(*parts, name), above=above, through_link=through_link or is_link)
            except OSError as error:
                self.skipped.append((path / name, f"cannot be read: {error.strerror}"))
        if images and len(self.clips) == before:
            if refused:  # the reader lists the folder again, and would take all of them
                self.skipped.append((path, "some of its images are passed over, so that it is no clip"))
            else:
                self._add_images(path, parts, images)

    def _entries(
        self, path: Path, above: Above, through_link: bool
    ) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """Entries worth a look, with the status of what they lead to; the others are noted with a reason."""
        with os.scandir(path) as entries:
            listed = list(entries)
        for entry in listed:
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat()
                reason = self._why_not(entry, status, above, through_link)
            except OSError as error:
                status, reason = None, _why_no_status(entry, error)
            if reason:
                self.skipped.append((path / entry.name, reason))
            elif reason is None and status is not None:
                yield entry, status

    def _why_not(self, entry: os.DirEntry[str], status: os.stat_result, above: Above, through_link: bool) -> str | None:
        """None: take it. Empty: pass it over without a word. Else the reason why it is passed over."""
        suffix = _suffix(entry.name)
        if stat.S_ISDIR(status.st_mode):
            if suffix == STORE_SUFFIX:
                return ""
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

    def _add_videos(
        self, path: Path, parts: tuple[str, ...], files: list[tuple[str, os.stat_result]], folders: set[str]
    ) -> None:
        stems = Counter(os.path.splitext(name)[0] for name, _ in files)
        taken = folders | {name for name, _ in files}
        for name, status in files:
            if not parts:
                self.skipped.append((path / name, "lies in no class folder; move it to CLASS/"))
                continue
            stem = os.path.splitext(name)[0]
            own = name if stem in taken or stems[stem] > 1 else stem
            clip_id = "/".join((*parts, own))
            self.clips.append(Clip(clip_id, parts[0], path / name, "video", status.st_size, status.st_mtime_ns))

    def _add_images(self, path: Path, parts: tuple[str, ...], images: list[os.stat_result]) -> None:
        if len(parts) < 2:
            if parts:
                self.skipped.append((path, "images but no clips; give each clip a folder CLASS/CLIP/"))
            return
        size, mtime_ns = sum(s.st_size for s in images), max(s.st_mtime_ns for s in images)
        self.clips.append(Clip("/".join(parts), parts[0], path, "images", size, mtime_ns))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


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
