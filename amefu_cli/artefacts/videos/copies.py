"""The same recording twice, byte for byte: found by size and hash, and one of each class left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import file_sha256, fingerprint
from amefu_cli.artefacts.videos.find import Clip, Found, image_files

HEAD = 1 << 16  # bytes that tell most files of equal size apart


@dataclass(frozen=True)
class Source:
    """Where a video lies (a file, or a folder of images) and its size in bytes; None where that is not recorded."""

    path: Path
    size: int | None


def one_of_each(found: Found) -> Found:
    """Of clips of one class that are the same, byte for byte, the oldest. Those of two classes are noted: nothing tells
    which class they show."""
    clips = {clip.id: clip for clip in found.clips}
    skipped, in_two_classes = list(found.skipped), []
    for group in duplicates({clip.id: clip for clip in found.clips if clip.size and not clip.fault})[0]:
        oldest: dict[str, str] = {}
        for video in sorted(group, key=lambda video: (clips[video].mtime_ns, video)):
            kept = oldest.setdefault(clips[video].class_name, video)
            if kept != video:
                skipped.append((clips.pop(video).path, f"the same bytes as {kept}"))
        if len(oldest) > 1:
            in_two_classes.append(tuple(sorted(oldest.values())))
    one_each, passed_over = tuple(clips.values()), tuple(sorted(skipped))
    return replace(found, clips=one_each, skipped=passed_over, in_two_classes=tuple(in_two_classes))


def duplicates(sources: Mapping[str, Source] | Mapping[str, Clip]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Groups of ids with the same bytes, sorted; and the ids of equally large ones that cannot be read any more."""
    groups: list[tuple[str, ...]] = []
    unread: list[str] = []
    for equally_large in _groups((source.size, video) for video, source in sources.items()):
        heads = [(_head(sources[video].path), video) for video in equally_large]
        for alike in _groups(pair for pair in heads if pair[0] is not None):
            hashed = [(content_sha256(sources[video].path), video) for video in alike]
            groups += _groups(pair for pair in hashed if pair[0] is not None)
            unread += [video for content, video in hashed if content is None]
        unread += [video for head, video in heads if head is None]
    return sorted(groups), unread


def content_sha256(path: Path) -> str | None:
    """The SHA-256 of a file, or of a clip's images in their order; None where it cannot be read."""
    try:
        return fingerprint([file_sha256(image) for image in image_files(path)]) if path.is_dir() else file_sha256(path)
    except OSError:
        return None


def _head(path: Path) -> bytes | None:
    try:
        with (image_files(path)[0] if path.is_dir() else path).open("rb") as file:
            return file.read(HEAD)
    except (OSError, IndexError):
        return None


def _groups(pairs: Iterable[tuple[object, str]]) -> list[tuple[str, ...]]:
    """The ids that share their first item with another one."""
    found: dict[object, list[str]] = {}
    for key, video in pairs:
        found.setdefault(key, []).append(video)
    return [tuple(sorted(videos)) for videos in found.values() if len(videos) > 1]
