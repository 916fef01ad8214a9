"""The rendered world: clips of a figure that acts among things in a room, an mp4 each, and the split of its classes.

A class is what moves how and where. Colours, textures, light, camera, phase and proportions are drawn alike
for every class.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.demo import scene
from amefu_cli.demo.actions import ACTIONS, WORLD_SPLIT
from amefu_cli.demo.figure import FIGURE_MATERIALS, Body, Pose, draw_body, limbs_of, standing
from amefu_cli.demo.render import Pictures, render
from amefu_cli.demo.scene import ROOM_MATERIALS, Array, Boxes, Capsules
from amefu_cli.errors import AmefuError, SettingsMismatch
from amefu_cli.stages import Outcome, Progress

ENCODERS = {
    "libx264": {"crf": "18", "preset": "superfast"},  # slower presets are not repeatable on tiny frames
    "mpeg4": {"qmin": "2", "qmax": "4"},  # every build of FFmpeg has it; not every one may have libx264
}
"""Encoder -> options of high quality, the best first."""

CAMERA_YAW = 0.4
"""Radians to either side of the view from which the action is best seen."""


WantedClip = tuple[str, tuple[int, int, int], Path]
"""Action, seed of its random state, and the file that it is rendered to."""


@dataclass(frozen=True)
class World:
    """What one rendered world differs from another in: seed, frames of a clip, height and width in pixels, rate."""

    seed: int
    frames: int
    size: int
    fps: int


def render_clip(action: str, *, frames: int, height: int, width: int, rng: np.random.Generator) -> Pictures:
    """One clip of an action (a name in ACTIONS); everything else about it is drawn from rng."""
    choice, body = ACTIONS[action], draw_body(rng)
    cycles, pose = rng.uniform(*choice.cycles), standing(body, frames)
    phase = (rng.uniform() + cycles * np.arange(frames) / frames).astype(np.float32)
    choice.move(body, pose, phase, rng)
    turn = np.deg2rad(choice.facing + rng.uniform(-12, 12))
    c, s = np.cos(turn), np.sin(turn)
    to_world = np.array([[c, 0, s], [0, 1, 0], [s, 0, -c]], np.float32)  # from (left, up, forward) of the figure
    if rng.integers(2):  # mirrored
        to_world[0] *= -1
    camera = scene.draw_camera(frames, height, width, CAMERA_YAW, rng)
    capsules, boxes = solids_of(body, pose, to_world)
    used = ROOM_MATERIALS + FIGURE_MATERIALS + len(pose.balls) + len(pose.bars) + len(pose.boxes)
    places = scene.draw_places(int(rng.integers(6)), camera, rng)
    posts, crates = scene.draw_clutter(frames, places, used, rng)
    seen = scene.Scene(
        room=scene.draw_room(camera.position, rng), capsules=capsules.beside(posts), boxes=boxes.beside(crates),
        materials=scene.draw_materials(used + len(places), rng), light=scene.draw_light(rng),
        ambient=rng.uniform(0.35, 0.65), exposure=rng.uniform(0.8, 1.2), noise=rng.uniform(0, 0.03),
    )  # fmt: skip
    return render(seen, camera, rng)


def solids_of(body: Body, pose: Pose, to_world: Array) -> tuple[Capsules, Boxes]:
    """The figure and what it handles as solids in the world."""
    limbs = limbs_of(body, pose)
    parts = [(start, end, radius, ROOM_MATERIALS + material) for start, end, radius, material in limbs]
    material = ROOM_MATERIALS + FIGURE_MATERIALS
    bars = [(centre, centre, radius) for centre, radius in pose.balls] + pose.bars
    parts += [(*bar, material + index) for index, bar in enumerate(bars)]
    starts, ends, radii, materials = zip(*parts, strict=True)
    start, end = (np.stack(points, axis=1) @ to_world.T for points in (starts, ends))
    capsules = Capsules(start, end, np.array(radii, np.float32), np.array(materials))
    frames, count = len(pose.pelvis), len(pose.boxes)
    centres = np.array([centre for centre, _ in pose.boxes], np.float32).reshape(count, frames, 3)
    half = np.array([half for _, half in pose.boxes], np.float32).reshape(count, 3)
    return capsules, Boxes(
        centres.transpose(1, 0, 2) @ to_world.T, np.broadcast_to(to_world.T, (frames, count, 3, 3)), half,
        material + len(bars) + np.arange(count),
    )  # fmt: skip


def render_world(
    world: World, folder: Path, split_file: Path, *, clips_per_class: int, jobs: int, progress: Progress
) -> Outcome:
    """Render `folder`/CLASS/CLASS_000.mp4 and so on, and write `split_file` (TOML).

    Clips that are there are kept. Every clip has its own random state (seed, class, clip), so that the world
    is the same whatever was rendered before and by how many processes. Raises SettingsMismatch where the split file
    says that the clips there were rendered otherwise.
    """
    started = time.monotonic()
    write_split_file(split_file, world)
    wanted = [
        (name, (world.seed, index, clip), folder / name / f"{name}_{clip:03d}.mp4")
        for index, name in enumerate(name for names in WORLD_SPLIT.values() for name in names)
        for clip in range(clips_per_class)
    ]
    missing = [clip for clip in wanted if not clip[2].exists()]
    rendered = Outcome(kept=len(wanted) - len(missing))
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
    lines = [
        "# The classes of the rendered world: base, validation, novel.",
        *(f"{part} = {json.dumps(names)}" for part, names in WORLD_SPLIT.items()),  # strings are as in JSON
        *("", "[world]", *(f"{name} = {value}" for name, value in asdict(world).items()), ""),
    ]
    write_atomic(path, "\n".join(lines).encode())


def render_all(clips: Sequence[WantedClip], world: World, jobs: int) -> Iterator[Path]:
    """Render and write clips, here or in spawned processes; yields their files."""
    if jobs <= 1:
        yield from map(partial(render_one, world), clips)
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(partial(render_one, world), clips)


def render_one(world: World, clip: WantedClip) -> Path:
    """One clip, rendered and written."""
    action, entropy, path = clip
    rng = np.random.default_rng(entropy)
    pictures = render_clip(action, frames=world.frames, height=world.size, width=world.size, rng=rng)
    write_mp4(path, pictures.rgb, world.fps)
    return path


def write_mp4(path: Path, frames: npt.NDArray[np.uint8], fps: int) -> None:
    """Write RGB frames uint8 (frames, height, width, 3) to `path`, wholly or not at all. Raises AmefuError for an odd
    height or width, which 4:2:0 colour cannot hold."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise AmefuError(f"{path.name}: frames of {height}×{width}; an mp4 needs an even height and width")
    encoder = next(name for name in ENCODERS if name in av.codecs_available)
    content = io.BytesIO()
    with av.open(content, "w", format="mp4") as container:
        stream = cast(VideoStream, container.add_stream(encoder, rate=fps, options=ENCODERS[encoder]))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1  # the clips are encoded side by side instead
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    write_atomic(path, content.getvalue())
