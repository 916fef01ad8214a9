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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amefu_cli.artefacts.files.fingerprint import file_sha256, fingerprint
from amefu_cli.artefacts.files.names import VIDEO_SUFFIXES, archive_path, class_of, suffixes
from amefu_cli.errors import UsageError, shown

IMAGE_SUFFIXES = suffixes(
    """
    bmp jfif jpe jpeg jpg png ppm tif tiff webp
    """
)

# What lies beside videos in real data sets: passed over without a word.
OTHER_SUFFIXES = suffixes(
    """
    7z aac ac3 ass bak bz2 cfg csv db doc docx flac gz h5 hdf5 htm html ini ipynb json jsonl lock
    log m4a mat md md5 mp3 npy npz ogg opus parquet pdf pickle pkl pt pth py rar rst safetensors sh
    sha256 sqlite srt sub tar tgz toml tsv txt url vtt wav xls xlsx xml yaml yml zip zst
    """
)

MAX_DEPTH = 64

STORE_SUFFIX = ".zarr"  # our own stores, where the workspace lies inside VIDEOS

Files = list[tuple[str, os.stat_result]]
"""Names and status of files of one folder."""

Above = tuple[tuple[int, int], ...]
"""(device, inode) of the folders on the way to an entry: meeting one again is a loop."""


@dataclass(frozen=True)
class Clip:
    """One source video. `size` in bytes (images: their sum), `mtime_ns` (images: the latest).

    `images` is a fingerprint of the name, size and time of every image, as a sum and a latest time stay the same
    where two of them change places; None for a video file.
    """

    id: str
    class_name: str
    path: Path
    kind: Literal["video", "images"]
    size: int
    mtime_ns: int
    images: str | None = None


@dataclass(frozen=True)
class Found:
    """Clips sorted by id, and what was passed over: (path, reason)."""

    clips: tuple[Clip, ...]
    skipped: tuple[tuple[Path, str], ...]


def find_clips(root: Path, *, follow_links: bool) -> Found:
    """Every clip under `root`. Links are followed inside `root`, and anywhere with `follow_links`.

    Raises UsageError where `root` is not a folder that can be read.
    """
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise UsageError(f"`{shown(root)}` {found}; give the folder that holds CLASS/CLIP.mp4")
    walk = _Walk(root=root, real_root=os.path.realpath(root), follow_links=follow_links)
    try:
        walk.folder(root, parts=(), above=(), through_link=False)
    except OSError as error:
        raise UsageError(f"`{shown(root)}` cannot be read: {error.strerror}; allow reading it") from error
    clips = []
    for clip in sorted(walk.clips, key=lambda clip: clip.id):
        try:
            archive_path(clip.id)
        except UsageError as error:
            walk.skipped.append((clip.path, str(error)))
        else:
            clips.append(clip)
    return Found(clips=tuple(clips), skipped=tuple(sorted(walk.skipped)))


def is_unchanged(clip: Clip) -> bool:
    """Whether a clip's file, or each of its images, is as it was when it was found. Raises OSError."""
    if clip.kind == "video":
        return clip == _video(clip.id, clip.path, clip.path.stat())
    return clip == _images(clip.id, clip.path, [(path.name, path.stat()) for path in image_files(clip.path)])


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
        files: Files = []
        images: Files = []
        skipped_before = len(self.skipped)
        folders: list[tuple[str, bool]] = []
        for entry, suffix, status in self._entries(path, above, through_link):
            if stat.S_ISDIR(status.st_mode):
                folders.append((entry.name, entry.is_symlink()))
            elif suffix in IMAGE_SUFFIXES:
                images.append((entry.name, status))
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
                self.skipped.append((path, "some of its images are passed over, so it is not a clip"))
            else:
                self._add_images(path, parts, images)

    def _entries(
        self, path: Path, above: Above, through_link: bool
    ) -> Iterator[tuple[os.DirEntry[str], str, os.stat_result]]:
        """Entries worth a look, with suffix and status of what they lead to; the others are noted with a reason."""
        with os.scandir(path) as entries:
            listed = list(entries)
        for entry in listed:
            if entry.name.startswith("."):
                continue
            suffix = _suffix(entry.name)
            try:
                status = entry.stat()
                reason = self._why_not(entry, suffix, status, above, through_link)
            except OSError as error:
                status, reason = None, _why_no_status(entry, error)
            if reason:
                self.skipped.append((path / entry.name, reason))
            elif reason is None and status is not None:
                yield entry, suffix, status

    def _why_not(
        self, entry: os.DirEntry[str], suffix: str, status: os.stat_result, above: Above, through_link: bool
    ) -> str | None:
        """None: take it. Empty: pass it over without a word. Else the reason why it is passed over."""
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
        elif suffix not in VIDEO_SUFFIXES and suffix not in IMAGE_SUFFIXES:
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

    def _add_videos(self, path: Path, parts: tuple[str, ...], files: Files, folders: set[str]) -> None:
        stem_of = {name: os.path.splitext(name)[0] for name, _ in files}
        stems, taken = Counter(stem_of.values()), folders | stem_of.keys()
        for name, status in files:
            if not parts:
                self.skipped.append((path / name, "lies in no class folder; move it to CLASS/"))
                continue
            stem = stem_of[name]
            own = name if stem in taken or stems[stem] > 1 else stem
            self.clips.append(_video("/".join((*parts, own)), path / name, status))

    def _add_images(self, path: Path, parts: tuple[str, ...], images: Files) -> None:
        if len(parts) < 2:
            if parts:
                self.skipped.append((path, "images but no clips; give each clip a folder CLASS/CLIP/"))
            return
        self.clips.append(_images("/".join(parts), path, images))


def _video(clip_id: str, path: Path, status: os.stat_result) -> Clip:
    return Clip(clip_id, class_of(clip_id), path, "video", status.st_size, status.st_mtime_ns)


def _images(clip_id: str, path: Path, files: Files) -> Clip:
    states = sorted((name, status.st_size, status.st_mtime_ns) for name, status in files)
    size = sum(size for _, size, _ in states)
    latest = max((mtime_ns for _, _, mtime_ns in states), default=0)
    return Clip(clip_id, class_of(clip_id), path, "images", size, latest, fingerprint(states))


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


@dataclass(frozen=True)
class Source:
    """Where a video lies (a file, or a folder of images) and its size in bytes; None where that is not recorded."""

    path: Path
    size: int | None


def duplicates(sources: Mapping[str, Source]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Groups of ids with the same bytes, sorted; and the ids of equally large ones that cannot be read any more."""
    groups: list[tuple[str, ...]] = []
    unread: list[str] = []
    for equally_large in _groups((source.size, video) for video, source in sources.items()):
        hashed = [(content_sha256(sources[video].path), video) for video in equally_large]
        groups += _groups(pair for pair in hashed if pair[0] is not None)
        unread += [video for content, video in hashed if content is None]
    return sorted(groups), unread


def content_sha256(path: Path) -> str | None:
    """The SHA-256 of a file, or of a clip's images in their order; None where it cannot be read."""
    try:
        return fingerprint([file_sha256(image) for image in image_files(path)]) if path.is_dir() else file_sha256(path)
    except OSError:
        return None


def _groups(pairs: Iterable[tuple[object, str]]) -> list[tuple[str, ...]]:
    """The ids that share their first item with another one."""
    found: dict[object, list[str]] = {}
    for key, video in pairs:
        found.setdefault(key, []).append(video)
    return [tuple(sorted(videos)) for videos in found.values() if len(videos) > 1]
