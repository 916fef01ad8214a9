"""The rendered world of the demonstration: an articulated figure that acts among things in a room.

A class is what moves how and where. Colours, textures, light, camera, phase and proportions are drawn alike
for every class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from amefu_cli.demo.actions import ACTIONS, WORLD_SPLIT
from amefu_cli.demo.figure import FIGURE_MATERIALS, Body, Motion, draw_body, limbs_of
from amefu_cli.demo.render import render
from amefu_cli.demo.scene import (
    ROOM_MATERIALS,
    Array,
    Boxes,
    Capsules,
    Scene,
    draw_camera,
    draw_clutter,
    draw_light,
    draw_materials,
    draw_places,
    draw_room,
)

__all__ = ["ACTIONS", "WORLD_SPLIT", "RenderedClip", "render_clip"]

CAMERA_YAW = 0.4
"""Radians to either side of the view from which the action is best seen."""


@dataclass(frozen=True)
class RenderedClip:
    """rgb uint8 (frames, height, width, 3); depth float32 (frames, height, width), metres along the view."""

    rgb: npt.NDArray[np.uint8]
    depth: Array


def render_clip(action: str, *, frames: int, height: int, width: int, rng: np.random.Generator) -> RenderedClip:
    """One clip of an action (a name in ACTIONS); everything else about it is drawn from rng."""
    choice = ACTIONS[action]
    body = draw_body(rng)
    cycles = rng.uniform(*choice.cycles)
    phase = (rng.uniform() + cycles * np.arange(frames) / frames).astype(np.float32)
    motion = choice.move(body, phase, rng)
    turn = np.deg2rad(choice.facing + rng.uniform(-12, 12))
    to_world = figure_axes(turn, mirrored=bool(rng.integers(2)))
    camera = draw_camera(frames, height, width, CAMERA_YAW, rng)
    capsules, boxes = solids_of(body, motion, to_world)
    used = ROOM_MATERIALS + FIGURE_MATERIALS + len(motion.balls) + len(motion.bars) + len(motion.boxes)
    places = draw_places(int(rng.integers(6)), camera, rng)
    clutter = draw_clutter(frames, places, used, rng)
    scene = Scene(
        room=draw_room(camera.position, rng),
        capsules=join_capsules(capsules, clutter[0]),
        boxes=join_boxes(boxes, clutter[1]),
        materials=draw_materials(used + len(places), rng),
        light=draw_light(rng),
        ambient=rng.uniform(0.35, 0.65),
        exposure=rng.uniform(0.8, 1.2),
        noise=rng.uniform(0, 0.03),
    )
    return RenderedClip(*render(scene, camera, rng))


def figure_axes(turn: float, *, mirrored: bool) -> Array:
    """Matrix (3, 3) from figure axes (left, up, forward) to the world; turn 0 faces the camera, radians."""
    c, s = np.cos(turn), np.sin(turn)
    axes = np.array([[c, 0, s], [0, 1, 0], [s, 0, -c]], np.float32)
    return axes * np.array([[-1], [1], [1]], np.float32) if mirrored else axes


def solids_of(body: Body, motion: Motion, to_world: Array) -> tuple[Capsules, Boxes]:
    """The figure and what it handles as solids in the world."""
    limbs = limbs_of(body, motion.pose)
    parts = [(start, end, radius, ROOM_MATERIALS + material) for start, end, radius, material in limbs]
    material = ROOM_MATERIALS + FIGURE_MATERIALS
    bars = [(centre, centre, radius) for centre, radius in motion.balls] + motion.bars
    parts += [(*bar, material + index) for index, bar in enumerate(bars)]
    starts, ends, radii, materials = zip(*parts, strict=True)
    capsules = Capsules(
        np.stack(starts, axis=1) @ to_world.T,
        np.stack(ends, axis=1) @ to_world.T,
        np.array(radii, np.float32),
        np.array(materials),
    )
    frames, count = len(motion.pose.pelvis), len(motion.boxes)
    centres = np.array([centre for centre, _ in motion.boxes], np.float32).reshape(count, frames, 3)
    boxes = Boxes(
        centres.transpose(1, 0, 2) @ to_world.T,
        np.broadcast_to(to_world.T, (frames, count, 3, 3)),
        np.array([half for _, half in motion.boxes], np.float32).reshape(count, 3),
        material + len(bars) + np.arange(count),
    )
    return capsules, boxes


def join_capsules(*parts: Capsules) -> Capsules:
    """All of them as one."""
    return Capsules(
        np.concatenate([part.start for part in parts], axis=1, dtype=np.float32),
        np.concatenate([part.end for part in parts], axis=1, dtype=np.float32),
        np.concatenate([part.radius for part in parts], dtype=np.float32),
        np.concatenate([part.material for part in parts]),
    )


def join_boxes(*parts: Boxes) -> Boxes:
    """All of them as one."""
    return Boxes(
        np.concatenate([part.centre for part in parts], axis=1, dtype=np.float32),
        np.concatenate([part.axes for part in parts], axis=1, dtype=np.float32),
        np.concatenate([part.half for part in parts], dtype=np.float32),
        np.concatenate([part.material for part in parts]),
    )
