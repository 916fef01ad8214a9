"""The rendered world as files: an mp4 for every clip, and the split of its classes."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from amefu_cli.artefacts.files.atomic import sync, temporary_beside, write_atomic
from amefu_cli.demo.world import WORLD_SPLIT, render_clip
from amefu_cli.errors import AmefuError, SettingsMismatch

ENCODERS = {
    "libx264": {"crf": "18", "preset": "superfast"},  # slower presets are not repeatable on tiny frames
    "mpeg4": {"qmin": "2", "qmax": "4"},  # every build of FFmpeg has it; not every one may have libx264
}
"""Encoder -> options of high quality, the best first."""


@dataclass(frozen=True)
class World:
    """What one rendered world differs from another in: seed, frames of a clip, height and width in pixels, rate."""

    seed: int
    frames: int
    size: int
    fps: int


@dataclass
class Rendered:
    """What one run rendered: ids of clips, how many were there before, and how long it took."""

    done: list[str] = field(default_factory=list)
    kept: int = 0
    seconds: float = 0.0


def render_world(
    world: World,
    folder: Path,
    split_file: Path,
    *,
    clips_per_class: int,
    jobs: int,
    progress: Callable[[int, int, str], None],
) -> Rendered:
    """Render `folder`/CLASS/CLASS_000.mp4 and so on, and write `split_file` (TOML).

    Clips that are there are kept. Every clip has its own random state (seed, class, clip), so that the world
    is the same whatever was rendered before and by how many processes.

    Raises:
        SettingsMismatch: the split file says that the clips there were rendered otherwise.
    """
    started = time.monotonic()
    write_split_file(split_file, world)
    wanted = [
        (name, (world.seed, index, clip), folder / name / f"{name}_{clip:03d}.mp4")
        for index, name in enumerate(name for names in WORLD_SPLIT.values() for name in names)
        for clip in range(clips_per_class)
    ]
    missing = [clip for clip in wanted if not clip[2].exists()]
    rendered = Rendered(kept=len(wanted) - len(missing))
    for path in render_all(missing, world, min(jobs, len(missing))):
        rendered.done.append(f"{path.parent.name}/{path.stem}")
        progress(len(rendered.done), len(missing), rendered.done[-1])
    rendered.seconds = time.monotonic() - started
    return rendered


def write_split_file(path: Path, world: World) -> None:
    """The classes of the world as train, val and test, and how it is rendered as [world]."""
    if path.exists():
        found: Any = tomllib.loads(path.read_text(encoding="utf-8")).get("world", {})
        for name, value in asdict(world).items():
            if found.get(name) != value:
                raise SettingsMismatch(
                    f"{path}: the clips there were rendered with {name} {found.get(name)}, not {value}; "
                    "remove them and this file, or give another folder"
                )
    lines = ["# The classes of the rendered world: base, validation, novel."]
    for part, names in WORLD_SPLIT.items():
        lines.append(f"{part} = {json.dumps(names)}")  # a list of plain strings is the same in JSON and TOML
    lines += ["", "[world]", *(f"{name} = {value}" for name, value in asdict(world).items()), ""]
    write_atomic(path, "\n".join(lines).encode())


def render_all(clips: list[tuple[str, tuple[int, int, int], Path]], world: World, jobs: int) -> Iterator[Path]:
    """Render clips (action, seed of its random state, path), here or in spawned processes, as they end."""
    if jobs <= 1:
        yield from (render_one(*clip, world) for clip in clips)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        for future in as_completed([pool.submit(render_one, *clip, world) for clip in clips]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def render_one(action: str, entropy: tuple[int, int, int], path: Path, world: World) -> Path:
    """One clip, rendered and written."""
    rng = np.random.default_rng(entropy)
    clip = render_clip(action, frames=world.frames, height=world.size, width=world.size, rng=rng)
    write_mp4(path, clip.rgb, world.fps)
    return path


def write_mp4(path: Path, frames: npt.NDArray[np.uint8], fps: int) -> None:
    """Write RGB frames uint8 (frames, height, width, 3) to `path`, wholly or not at all.

    Raises:
        AmefuError: an odd height or width, which 4:2:0 colour cannot hold.
    """
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise AmefuError(f"{path.name}: frames of {height}×{width}; an mp4 needs an even height and width")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    encoder = next(name for name in ENCODERS if name in av.codecs_available)
    try:
        with av.open(temporary, "w", format="mp4") as container:
            stream = cast(VideoStream, container.add_stream(encoder, rate=fps, options=ENCODERS[encoder]))
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.thread_count = 1  # the clips are encoded side by side instead
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
