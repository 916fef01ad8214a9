"""The entries of one folder: which are worth a look, what their names say, and which pictures are one series.

The pictures of a folder are one clip only where their names are one series: the same words around a number that grows.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from amefu_cli.artefacts.files.names import VIDEO_SUFFIXES, suffixes
from amefu_cli.errors import shown

IMAGE_SUFFIXES = suffixes("bmp jfif jpe jpeg jpg png ppm tif tiff webp")

# What lies beside videos in real data sets: passed over quietly.
OTHER_SUFFIXES = suffixes(
    """
    7z aac ac3 ass bak bz2 cfg csv db doc docx flac gz h5 hdf5 htm html ini ipynb json jsonl lock log m4a mat md md5 mp3
    npy npz ogg opus parquet pdf pickle pkl pt pth py rar rst safetensors sh sha256 sqlite srt sub tar tgz toml tsv txt
    url vtt wav xls xlsx xml yaml yml zip zst
    """
)

UNFINISHED = re.compile(
    r"(?i)\.(?:(?:part|partial|filepart|crdownload|opdownload|download|ytdl|temp|tmp|aria2|td|xltd|!ut|!qb|bc!)"
    r"|part-frag\d+(?:\.part)?|temp\.[^.]+)$"
)
SYSTEM_FOLDERS = re.compile(
    r"(?i)@eadir|@__thumb|@recycle|@recently-snapshot|@tmp|@sharebin|#recycle|#snapshot|\$recycle\.bin|recycle[rd]"
    r"|recycle\.bin|system volume information|lost\+found|found\.\d{3}|__macosx|__pycache__|\.?ipynb_checkpoints"
    r"|network trash folder|temporary items|_gsdata_|\$extend"
)
AUXILIARY = re.compile(
    r"(?i)(?=[ _acdefghiklmnoprstw-])(?<![a-z])"  # what it may start with: most places of a name are passed at once
    r"(?:(?:optical|tvl1|raft|warp(?:ed)?)?[ _-]?flows?[ _-]?[xyuv]?|(?:mono)?depths?|disp(?:arity|arities)?|masks?"
    r"|masked|mattes?|alpha|segm?s?|segmentations?|labels?|gt|groundtruth|annotations?|normals|thumb(?:nail)?s?"
    r"|previews?|heat|saliency|poses?|skeletons?|keypoints?|edges?|canny|ir|infrared|thermal|overlays?)"
    r"(?:[ _-]?(?:maps?|images?|imgs?|frames?|vis))*(?![a-z])"
)
RGB = re.compile(r"(?i)(?<![a-z])(?:imgs?|images?|(?:raw)?frames?|rgb|colou?r|jpe?gs?|pic(?:ture)?s?|photos?)(?![a-z])")
FORMAT = re.compile(r"\.f[0-9]+(?:-[0-9a-z]+)?$")  # yt-dlp's `vid.f137.mp4`: one format of vid
FRAMES_OF = re.compile(r"(?i)[ _-](?:imgs?|images?|frames?|rgb|jpe?gs?)$")
DECIMALS, DIGITS = r"([0-9]+(?:\.[0-9]+)?)", r"([0-9]+)"
MAX_DEPTH = 64
STORE_SUFFIX = ".zarr"  # our own stores, where the workspace lies inside VIDEOS
LEFT_OVER = "left over from a download that did not end"
KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
Above = tuple[tuple[int, int], ...]  # (device, inode) of the folders above an entry: meeting one again is a loop


def parted(name: str) -> tuple[str, str]:
    """`os.path.splitext` of a name without folders, in a quarter of the time."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem.strip(".") else (name, "")


def suffix_of(name: str) -> str:
    return parted(name)[1].lower()


def recording_of(name: str, *, folder: bool) -> str:
    """What a file or a folder of frames is a recording of: two of one folder that agree are the same one twice.

    >>> recording_of("dive.f137.mp4", folder=False), recording_of("dive_frames", folder=True)
    ('dive', 'dive')
    """
    if folder:
        return FRAMES_OF.sub("", name) or name
    stem, suffix = parted(name)
    while suffix.lower() in VIDEO_SUFFIXES:
        name = FORMAT.sub("", stem) or stem
        stem, suffix = parted(name)
    return name


def without_kind(name: str) -> str:
    """A name without the words for a kind of picture: `dive_depth`, `dive_rgb` and `dive` show the same.

    >>> without_kind("dive_depth"), without_kind("flow_x")
    ('dive', '')
    """
    return RGB.sub("", AUXILIARY.sub("", name)).strip(" _-.")


def natural_key(name: str, numbers: str = DECIMALS) -> tuple[list[str | Decimal], str]:
    """Sorting key under which numbers inside a name count as numbers, decimals too.

    >>> sorted(["img_10", "img_2", "img_0.5"], key=natural_key)
    ['img_0.5', 'img_2', 'img_10']
    """
    parts = re.split(numbers, name.casefold())  # text and numbers take turns, so like always meets like
    return [Decimal(part) if i % 2 else part for i, part in enumerate(parts)], name


@dataclass(frozen=True)
class Series:
    """Pictures whose names differ in their number alone, in its order; `label` is their name with `*` for it."""

    label: str
    names: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """The lower, the likelier it is the clip: numbered; not flow, depth or masks; called frame or img."""
        stem = os.path.splitext(self.label)[0]
        return len(self.names) < 2, bool(AUXILIARY.search(stem)), not RGB.search(stem)


@dataclass(frozen=True)
class Choice:
    """The one series of a folder's pictures that is its clip, and the others; or why it cannot be told."""

    series: Series = Series("", ())
    others: tuple[Series, ...] = ()
    fault: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.series.names


def choose_series(names: Iterable[str]) -> Choice:
    """Which of a folder's pictures are its clip, in their order. `names` in any order."""
    series = sorted(_all_series(names), key=lambda one: (one.rank, -len(one.names), one.label))
    if not series:
        return Choice()
    first, rivals = series[0], [one for one in series[1:] if one.rank[:2] == series[0].rank[:2]]
    if all(one.rank > first.rank and len(one.names) <= len(first.names) for one in rivals):
        return Choice(first, tuple(series[1:]))
    told = [f"{one.label} ({len(one.names)})" for one in (first, *rivals)]
    shown = ", ".join(told[:4]) + (f" and {len(told) - 4} more" if told[4:] else "")
    return Choice(fault=f"holds several series of pictures: {shown}; which is the clip cannot be told: keep one")


def _all_series(names: Iterable[str]) -> list[Series]:
    stems = {name: os.path.splitext(name)[0] for name in names}
    numbers = _number_pattern(stems.values())
    alike: dict[tuple[str | Decimal, ...], dict[str, list[str | Decimal]]] = {}
    for name, stem in sorted(stems.items(), key=lambda pair: natural_key(pair[1], numbers)):
        parts, _ = natural_key(stem, numbers)
        alike.setdefault(tuple(parts[::2]), {})[name] = parts[1::2]
    return [Series(_label(some), some) for rows in alike.values() for some in _told_apart(rows)]


def _number_pattern(stems: Iterable[str]) -> str:
    """Whether `1.5` is a decimal: not where `1.10` counts on from `1.9`."""
    fractions = {part for stem in stems for part in re.findall(r"[0-9]\.([0-9]+)", stem)}
    counts_on = len({len(part) for part in fractions}) > 1 and any(part[1:].endswith("0") for part in fractions)
    return DIGITS if counts_on else DECIMALS


def _told_apart(rows: Mapping[str, Sequence[str | Decimal]]) -> list[tuple[str, ...]]:
    """Names of like words, by their numbers and in that order: one series where the first number that differs is its
    own in each, as a frame's number before its time; else (`cam1_01`, `cam1_02`, `cam2_01`) one for each value of the
    other numbers."""
    columns = list(zip(*rows.values(), strict=True))
    varying = next((column for column in columns if len(set(column)) > 1), ())
    if len(rows) == 1 or len(set(varying)) == len(rows):
        return [tuple(rows)]
    counter = max(range(len(columns)), key=lambda i: (len(set(columns[i])), i), default=0)
    apart: dict[Hashable, list[str]] = {}
    for name, values in rows.items():
        apart.setdefault((suffix_of(name), *values[:counter], *values[counter + 1 :]), []).append(name)
    if len(apart) == 1:  # img_1.jpg and img_01.jpg
        return [(name,) for name in rows]
    return [tuple(some) for some in apart.values()]


def _label(names: Sequence[str]) -> str:
    """`img_*.jpg`: what the names share before and after the number that tells them apart.

    >>> _label(["img_1.jpg", "img_12.jpg"])
    'img_*.jpg'
    """
    if len(names) < 2:
        return names[0] if names else ""
    shared = os.path.commonprefix
    before = shared(names).rstrip("0123456789.")
    after = shared([name[: len(before) - 1 if before else None : -1] for name in names])[::-1]
    return f"{before}*{after.lstrip('0123456789')}"


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
        unfinished = {name for entry in listed if (name := entry.name).endswith(".aria2")}
        for entry in listed:
            if entry.name.startswith("."):
                self.beside.append((path / entry.name, "hidden"))
                continue
            try:
                status = entry.stat()
                reason = self._why_not(entry, status, above, through_link)
            except OSError as error:
                status, reason = None, _why_no_status(entry, error)
            if unfinished and f"{entry.name}.aria2" in unfinished:
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
            return f"not a regular file but {KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}"
        elif suffix in OTHER_SUFFIXES:
            return ""
        elif UNFINISHED.search(entry.name):
            return LEFT_OVER
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


def _why_no_status(entry: os.DirEntry[str], error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a link that leads to itself"
    if error.errno == errno.ENOENT and entry.is_symlink():
        return "a link to nothing"
    return f"cannot be read: {error.strerror}"
