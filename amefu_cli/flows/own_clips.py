"""One's own clips, examples and others: found, and known by their bytes alone, so that one that is renamed, moved,
copied or given to another class is computed once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import fingerprint
from amefu_cli.artefacts.videos.copies import content_sha256
from amefu_cli.artefacts.videos.find import Clip, find_clips, find_named
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.flows.frames import first_of, say_skipped
from amefu_cli.flows.session import Session

CLASS = "clips"  # of every id
CONTENTS = "contents.json"


@dataclass(frozen=True)
class OwnClip:
    """A clip, what it is made of, and the id by which its frames and features are kept: equal bytes, equal id."""

    clip: Clip
    made_from: Mapping[str, object]

    @property
    def id(self) -> str:
        return f"{CLASS}/{fingerprint(self.made_from)}"

    @property
    def path(self) -> str:
        return str(self.clip.path)


def by_content(session: Session, folder: Path, clips: Sequence[Clip]) -> list[OwnClip]:
    """The clips by their bytes, each of which is read once, until its size or time is another one."""
    path, known, own = folder / CONTENTS, dict[str, str](), list[OwnClip]()
    with suppress(OSError, ValueError):
        known.update(json.loads(path.read_bytes()))
    before = len(known)
    with session.say.progress("reading") as progress:
        for number, clip in enumerate(clips):
            made_from: dict[str, object] = {"fault": clip.fault, "path": str(clip.path.absolute())}
            if clip.fault is None:
                key = fingerprint(str(clip.path.absolute()), clip.size, clip.mtime_ns, clip.images)
                if key not in known and (content := content_sha256(clip.path)):
                    known[key] = content
                # of one that is unreadable the worker that opens it says what is wrong
                made_from = {"sha256": known[key]} if key in known else {**made_from, "fault": "unreadable"}
            own.append(OwnClip(clip, made_from))
            progress(number + 1, len(clips), str(clip.path))
    if len(known) > before and not session.dry_run:
        with suppress(OSError):  # a workspace that is read-only, which is said where there is work to do
            write_atomic(path, json.dumps(known).encode("ascii"))
    return own


def find_own(
    session: Session, folder: Path, examples_in: Path, paths: Sequence[Path], *, follow_links: bool
) -> tuple[list[OwnClip], list[OwnClip]]:
    """The examples in a folder of classes, and the clips that `paths` name; what is known of them lies in `folder`. Of
    examples of one class with equal bytes one is taken.

    Raises:
        UsageError: no such path, no clip, fewer than two classes, or an example that is in two.
    """
    of_examples, named = (
        find_clips(examples_in, follow_links=follow_links),
        find_named(paths, follow_links=follow_links),
    )
    for found in (of_examples, named):
        say_skipped(session, found)
    if not named.clips:
        raise UsageError(f"{', '.join(map(str, paths))}: holds no clip; give videos, or a folder of them")
    own = by_content(session, folder, [*of_examples.clips, *named.clips])
    examples, clips = own[: len(of_examples.clips)], own[len(of_examples.clips) :]
    examples = _one_of_each(session, examples)
    require_classes(examples_in, examples, len(examples))
    known = {example.id for example in examples}
    if shared := [clip.path for clip in clips if clip.id in known]:
        session.say.warn(f"{first_of(shared)}: also an example, byte for byte")
    return examples, clips


def _one_of_each(session: Session, examples: Sequence[OwnClip]) -> list[OwnClip]:
    first: dict[str, OwnClip] = {}
    for example in examples:
        other = first.setdefault(example.id, example)
        if other.clip.class_name != example.clip.class_name:
            raise UsageError(f"{example.path}: is {other.path}, byte for byte, of another class; take one of them out")
        if other is not example:
            session.say.warn(f"skipped {example.path}: the same bytes as {other.path}")
    return [*first.values()]


def require_classes(folder: Path, examples: Iterable[OwnClip], asked: int) -> Counter[str]:
    """How many examples each class has. Raises UsageError where there are fewer than two classes, AmefuError where
    there were examples of others that failed."""
    counts = Counter(example.clip.class_name for example in examples)
    if len(counts) >= 2:
        return counts
    if counts.total() < asked:
        raise AmefuError(f"{folder}: too many examples failed: those of {len(counts)} classes are left, of two needed")
    raise UsageError(f"{folder}: has {len(counts)} classes with examples, and two are needed: CLASS/clip.mp4")
