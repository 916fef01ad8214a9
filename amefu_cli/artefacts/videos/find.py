"""Source videos on disk: which files and folders under VIDEOS are clips, what was passed over, and why.

A clip is a video file `CLASS/…/NAME.mp4` or a folder of pictures `CLASS/…/NAME/img_00001.jpg`. Its id is the path below
the root without the suffix, `/` between the parts, and without `train`, `val` or `test` where these stand above the
classes. The rules, one folder at a time:

- Hidden files, system folders, what a downloader left over and what is no video by its suffix are passed over.
- A folder below a class that holds pictures is one clip: one series of their names (entries.py). What lies beside or
  below them is passed over. Pictures that are named as a video beside them, or lie in a class folder, are no clip.
- Flow, depth, masks and the like, by their name, are passed over beside what they are named after.
- Two containers of one name, or a video and the folder of its frames, are one recording: the largest file is taken.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.files.names import VIDEO_SUFFIXES, archive_path, class_of
from amefu_cli.artefacts.files.split import PARTS
from amefu_cli.artefacts.videos import entries
from amefu_cli.artefacts.videos.entries import AUXILIARY, Above, Choice, choose_series, parted, recording_of, suffix_of
from amefu_cli.errors import UsageError, shown

IN_NO_CLASS = "lies in no class folder; move it to CLASS/"

Files = dict[str, os.stat_result]  # status of files of one folder, by name


class Clip(NamedTuple):
    """One source video, at `place`. `size` in bytes (images: their sum), `mtime_ns` (images: the latest).

    `images` is a fingerprint of the name, size and time of every image, as a sum and a latest time stay the same
    where two of them change places; None for a video file. `source` is the path below the root, `fault` why it cannot
    be told what the clip is: it is refused when it is opened.
    """

    id: str
    class_name: str
    place: str
    kind: Literal["video", "images"]
    size: int
    mtime_ns: int
    images: str | None = None
    source: str = ""
    fault: str | None = None

    @property
    def path(self) -> Path:
        """Its place. Made where it is asked for: making it takes as long as finding the clip."""
        return Path(self.place)


@dataclass(frozen=True)
class Found:
    """Clips sorted by id, and (path, reason) of what was passed over; `beside` is what nobody takes for a clip.
    `in_two_classes` are groups of ids with the same bytes, where these were compared (copies.py)."""

    clips: tuple[Clip, ...]
    skipped: tuple[tuple[Path, str], ...]
    beside: tuple[tuple[Path, str], ...] = ()
    in_two_classes: tuple[tuple[str, ...], ...] = ()


def find_clips(root: Path, *, follow_links: bool) -> Found:
    """Every clip under `root`. Links are followed inside `root`, and anywhere with `follow_links`. Raises UsageError
    where `root` is not a folder that can be read."""
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise UsageError(f"`{shown(root)}` {found}; give the folder that holds CLASS/CLIP.mp4")
    walk = _Walk(root, follow_links=follow_links)
    try:
        walked = walk.clips()
    except OSError as error:
        raise UsageError(f"`{shown(root)}` cannot be read: {error.strerror}; allow reading it") from error
    clips = []
    for clip in sorted(walked, key=lambda clip: clip.id):
        try:
            archive_path(clip.id)
            clips.append(clip)
        except UsageError as error:
            walk.skipped.append((clip.path, str(error)))
    return Found(tuple(clips), tuple(sorted(walk.skipped)), tuple(sorted(walk.beside)))


def find_named(paths: Iterable[Path], *, follow_links: bool) -> Found:
    """The clips that `paths` name: files, and folders with clips at any depth, or with the pictures of one. Their ids
    say nothing. Raises UsageError where a path does not exist, is no file and no folder, or cannot be read."""
    clips, skipped, beside = dict[Path, Clip](), list[tuple[Path, str]](), list[tuple[Path, str]]()
    for path in paths:
        try:
            status = path.stat()
            if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                raise UsageError(f"`{shown(path)}` is neither a file nor a folder; give videos, or a folder of them")
            if stat.S_ISDIR(status.st_mode):
                walk = _Walk(path, follow_links=follow_links)
                clips |= {clip.path: clip for clip in walk.inside()}
                skipped, beside = skipped + walk.skipped, beside + walk.beside
            else:
                clips[path] = Clip(path.name, "", str(path), "video", *_state("video", {path.name: status}), path.name)
        except OSError as error:
            raise UsageError(f"`{shown(path)}` cannot be read: {error.strerror}; give a video or a folder") from error
    return Found(tuple(clips.values()), tuple(sorted(skipped)), tuple(sorted(beside)))


def is_unchanged(clip: Clip) -> bool:
    """Whether a clip's file, or each of its images, is as it was when it was found. Raises OSError."""
    paths = [clip.path] if clip.kind == "video" else image_files(clip.path)
    return _state(clip.kind, {path.name: path.stat() for path in paths}) == (clip.size, clip.mtime_ns, clip.images)


def image_files(folder: Path) -> list[Path]:
    """The images of one clip, in the order of their numbers: img_2 before img_10. Raises OSError."""
    with os.scandir(folder) as listed:
        names = _clip_images(entry.name for entry in listed if entry.is_file())
    return [folder / name for name in choose_series(names).names]


def _clip_images(names: Iterable[str]) -> set[str]:
    """Of the names in a folder, its images that are not named as a video beside them, which are thumbnails."""
    names = set(names)
    videos = {parted(name)[0] for name in names if suffix_of(name) in VIDEO_SUFFIXES}
    images = {name for name in names if suffix_of(name) in entries.IMAGE_SUFFIXES and not name.startswith(".")}
    return {name for name in images if parted(name)[0] not in videos}


@dataclass(frozen=True)
class _Folder:
    """One folder as it was listed: its folders with clips in them maybe (name: is a link), videos and images."""

    path: Path
    above: Above
    through_link: bool
    folders: dict[str, bool]
    videos: Files
    images: Files
    refused: frozenset[str]


class _Walk:
    def __init__(self, root: Path, *, follow_links: bool) -> None:
        self._root = root
        self._listing = entries.Listing(os.path.realpath(root), follow_links)
        self.skipped, self.beside = self._listing.skipped, self._listing.beside

    def clips(self) -> list[Clip]:
        """All clips below the root, whose folders are classes, or parts above the classes. Raises OSError."""
        root = self._listed(self._root, (), through_link=False)
        noted = len(self.skipped), len(self.beside)
        parts = [name for name in root.folders if name.lower() in PARTS]
        if len(parts) > 1 or (parts and len(root.folders) == 1):
            clips = [clip for part in parts for clip in self._below(root, part, ())]
            if clips:
                self._skip(root.path, [*root.videos, *root.images], IN_NO_CLASS)
                others = [name for name in root.folders if name not in parts]
                self._skip(root.path, others, f"lies beside {parts[0]}, which is above the classes: is not a class")
                return self._of_parts(clips)
            del self.skipped[noted[0] :], self.beside[noted[1] :]
        clips = self._decided(root, ())
        kinds = sorted({clip.class_name for clip in clips})
        if len(kinds) > 1 and not any(map(entries.without_kind, kinds)):
            found, fix = ", ".join(kinds), f"give the folder of one kind, such as {shown(self._root / kinds[-1])}"
            raise UsageError(f"`{shown(self._root)}` holds no classes but kinds of pictures: {found}; {fix}")
        return clips

    def inside(self) -> list[Clip]:
        """All clips below the root, as if it lay in a class; the root itself where it holds a clip's pictures. Raises
        OSError."""
        return sorted(self._decided(self._listed(self._root, (), through_link=False), ("", "")), key=lambda c: c.path)

    def _of_parts(self, clips: list[Clip]) -> list[Clip]:
        """Clips of one id in two parts get the part into their ids."""
        times = Counter(clip.id for clip in clips)
        named: dict[str, Clip] = {}
        for clip in clips:
            part = clip.source.split("/", 1)[0]
            own = clip.id.replace("/", f"/{part}/", 1) if times[clip.id] > 1 else clip.id
            if named.setdefault(own, clip._replace(id=own)).place != clip.place:
                self.skipped.append((clip.path, f"has the id of {named[own].source}; rename one of them"))
        return list(named.values())

    def _listed(self, path: Path, above: Above, *, through_link: bool) -> _Folder:
        here = path.stat()
        noted = len(self.skipped)
        folder = _Folder(path, (*above, (here.st_dev, here.st_ino)), through_link, {}, {}, {}, frozenset())
        for entry, status in self._listing.worth_a_look(path, folder.above, through_link):
            if stat.S_ISDIR(status.st_mode):
                folder.folders[entry.name] = entry.is_symlink()
            else:
                (folder.videos if suffix_of(entry.name) in VIDEO_SUFFIXES else folder.images)[entry.name] = status
        return replace(folder, refused=frozenset(where.name for where, _ in self.skipped[noted:]))

    def _below(self, folder: _Folder, name: str, parts: tuple[str, ...]) -> list[Clip]:
        """The clips of a folder inside another; one that cannot be read costs itself alone."""
        path, through_link = folder.path / name, folder.through_link or folder.folders[name]
        try:
            return self._decided(self._listed(path, folder.above, through_link=through_link), parts)
        except OSError as error:
            self.skipped.append((path, f"cannot be read: {error.strerror}"))
            return []

    def _decided(self, folder: _Folder, parts: tuple[str, ...]) -> list[Clip]:
        """The clips of one folder and of those below it. `parts` lead to it: none to the root, one to a class."""
        if len(parts) > 1 and folder.images:
            choice = choose_series(_clip_images([*folder.images, *folder.videos, *folder.refused]))
            if _are_the_clip(choice, folder.videos):
                self._skip(folder.path, [*folder.folders, *folder.videos], "lies in the folder of a clip's pictures")
                return self._image_clip(folder, parts, choice)
        below = {name: self._below(folder, name, (*parts, name)) for name in folder.folders}
        if parts:
            clips = self._one_of_each(folder, parts, below)
        else:
            clips = [clip for clips in below.values() for clip in clips]
            self._skip(folder.path, folder.videos, IN_NO_CLASS)
        if folder.images and len(parts) == 1 and not clips:
            self.skipped.append((folder.path, "images but no clips; give each clip a folder CLASS/CLIP/"))
        elif folder.images:
            self.beside.append((folder.path, "pictures in no clip's folder"))
        return clips

    def _skip(self, folder: Path, names: Iterable[str], reason: str) -> None:
        self.skipped += [(folder / name, reason) for name in names]

    def _image_clip(self, folder: _Folder, parts: tuple[str, ...], choice: Choice) -> list[Clip]:
        if not folder.images.keys() >= set(choice.names):  # the reader lists the folder again, and would take them
            self.skipped.append((folder.path, "some of its images are passed over, so it is not a clip"))
            return []
        others = [other.label for other in choice.others]
        self._skip(folder.path, others, f"another series of pictures than {choice.series.label}")
        images = {name: folder.images[name] for name in choice.names or folder.images}
        return [_clip("/".join(parts), str(folder.path), "images", images, self._source(folder), choice.fault)]

    def _one_of_each(self, folder: _Folder, parts: tuple[str, ...], below: dict[str, list[Clip]]) -> list[Clip]:
        """Of videos and of folders with clips those that no other one stands for."""
        sizes = {name: status.st_size for name, status in folder.videos.items()}
        place, source = f"{folder.path}/", f"{self._source(folder)}/"
        frames = {name for name, clips in below.items() if clips and clips[0].place == place + name}
        kept = self._without_auxiliary(folder.path, [*sizes, *(name for name, clips in below.items() if clips)])
        of = {name: recording_of(name, folder=name in frames) for name in kept if name in sizes or name in frames}
        taken = {f"{name}/": name for name in kept if name not in of}
        stems = {name for name in of if parted(name)[0] == of[name]}  # not one format, nor of two suffixes
        order = of if len(of) == len({*of.values()}) else sorted(
            of, key=lambda name: (name in frames, name not in stems, -sizes.get(name, 0), name)
        )  # fmt: skip
        for name in order:
            if taken.setdefault(of[name], name) != name:
                self._skip(folder.path, [name], f"the same recording as {taken[of[name]]}, by its name")
        folders = {name for name in taken.values() if name in below}
        found = [clip for name in folders for clip in below[name]]
        for name in sizes.keys() & taken.values():
            stem = parted(name)[0]
            own = "/".join((*parts, name if stem in folders else stem))
            found.append(_clip(own, place + name, "video", {name: folder.videos[name]}, source + name))
        return found

    def _without_auxiliary(self, path: Path, names: Sequence[str]) -> list[str]:
        """Names without those of the flow, depth or masks of another one, or of one that is not there."""
        if not any(map(AUXILIARY.search, names)):
            return [*names]
        alike: dict[str, list[str]] = {}
        for name in names:
            alike.setdefault(entries.without_kind(recording_of(name, folder=False)), []).append(name)
        kept: list[str] = []
        for group in alike.values():
            plain = [name for name in group if len(group) == 1 or not AUXILIARY.search(name)]
            of = f"of {plain[0]}" if plain else f"{' or '.join(group[:3])}, of which none can be told to be the clip"
            self._skip(path, {*group} - {*plain}, f"flow, depth, masks or the like, by its name: {of}")
            kept += plain
        return kept

    def _source(self, folder: _Folder) -> str:
        """Where it lies below the root."""
        return str(folder.path.relative_to(self._root))


def _clip(
    clip_id: str, place: str, kind: Literal["video", "images"], files: Files, source: str, fault: str | None = None
) -> Clip:
    return Clip(clip_id, class_of(clip_id), place, kind, *_state(kind, files), source, fault)


def _are_the_clip(choice: Choice, videos: Iterable[str]) -> bool:
    """Whether a folder's pictures are the clip, and not thumbnails of the videos among them."""
    if not choice.names and not choice.fault:
        return False
    others = [name for name in videos if not AUXILIARY.search(name) and suffix_of(name) != ".gif"]
    return not others or not any(choice.series.rank)


def _state(kind: Literal["video", "images"], files: Files) -> tuple[int, int, str | None]:
    """Size, time and fingerprint of a clip of these files."""
    if kind == "video":
        (status,) = files.values()
        return status.st_size, status.st_mtime_ns, None
    states = sorted((name, status.st_size, status.st_mtime_ns) for name, status in files.items())
    size, mtime_ns = sum(size for _, size, _ in states), max((mtime for _, _, mtime in states), default=0)
    return size, mtime_ns, fingerprint(states)
