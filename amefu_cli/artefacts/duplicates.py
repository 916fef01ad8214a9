"""Source videos that are byte for byte the same: by size first, then by the hash of what is equally large."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.clips import image_files
from amefu_cli.artefacts.fingerprint import file_sha256, fingerprint
from amefu_cli.artefacts.store_headers import VideoRecord


@dataclass(frozen=True)
class Source:
    """Where a video lies (a file, or a folder of images) and its size in bytes; None where that is not recorded."""

    path: Path
    size: int | None


def recorded_sources(records: Mapping[str, VideoRecord], folder: Path) -> dict[str, Source]:
    """The sources of the videos of a frame store that was made from `folder`."""
    return {video: Source(folder / record.source, record.made_from.get("size")) for video, record in records.items()}


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
