"""What a clip is rendered from, drawn by chance: room, light, camera, colours, textures, clutter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Of float32 where nothing else is said."""

Indices = npt.NDArray[np.intp]

UP = np.array([0, 1, 0], np.float32)


@dataclass(frozen=True)
class Camera:
    """position (frames, 3) metres; rotation (frames, 3, 3), rows right, down and forward; focal pixels."""

    position: Array
    rotation: Array
    focal: float
    height: int
    width: int

    def from_world(self, points: Array) -> Array:
        """Points (frames, count, 3) of the world in camera axes: right, down, along the view; metres."""
        return cast(Array, np.einsum("fij,fnj->fni", self.rotation, points - self.position[:, None]))

    def columns(self, pixel: Indices) -> Array:
        """Slope to the right of the ray through the middle of a pixel column."""
        return ((pixel + 0.5 - self.width / 2) / self.focal).astype(np.float32)

    def rows(self, pixel: Indices) -> Array:
        """Slope downwards of the ray through the middle of a pixel row."""
        return ((pixel + 0.5 - self.height / 2) / self.focal).astype(np.float32)


def looking_at(position: Array, target: Array, *, focal: float, height: int, width: int) -> Camera:
    """A level camera at position (frames, 3) that looks at target (frames, 3); y is up."""
    forward = unit(target - position)
    right = unit(np.cross(UP, forward))
    rotation = np.stack([right, -np.cross(forward, right), forward], axis=1)
    return Camera(position.astype(np.float32), rotation.astype(np.float32), focal, height, width)


def unit(vectors: Array) -> Array:
    """Vectors (..., 3) scaled to length 1."""
    return cast(Array, vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6))


ROOM_MATERIALS = 6
"""First rows of the table of materials: the room's surfaces, low and high one of each axis."""


@dataclass(frozen=True)
class Materials:
    """Two colours (count, 3) 0..1, mixed by sharpness (count,) times a sine along either surface coordinate. frequency
    in radians a metre, phase in radians, both (count, 2)."""

    first: Array
    second: Array
    frequency: Array
    phase: Array
    sharpness: Array


@dataclass(frozen=True)
class Room:
    """A box seen from inside: low and high corner (3,) metres in its own axes, turned about the vertical."""

    low: Array
    high: Array
    turn: float

    def from_world(self) -> Array:
        """Rotation (3, 3) of world vectors into the axes of the room."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


class Solids:
    """Arrays, of which those of three or more axes start with the frames; the others with the solids."""

    def beside(self, others: Self) -> Self:
        """These and others of their kind, in the types of the others."""
        pairs = zip(vars(self).values(), vars(others).values(), strict=True)
        return type(self)(*(np.concatenate(pair, axis=int(pair[0].ndim > 2), dtype=pair[1].dtype) for pair in pairs))


@dataclass(frozen=True)
class Capsules(Solids):
    """Segments with a radius; a ball is one whose ends coincide. start, end (frames, count, 3) metres in the world;
    radius (count,) metres; material (count,): rows of the table."""

    start: Array
    end: Array
    radius: Array
    material: Indices


@dataclass(frozen=True)
class Boxes(Solids):
    """centre (frames, count, 3) and half the size (count, 3) in metres; material (count,) rows of the table. axes
    (frames, count, 3, 3): the directions of its sides, as rows."""

    centre: Array
    axes: Array
    half: Array
    material: Indices


@dataclass(frozen=True)
class Scene:
    """Everything that is seen. light (3,) points to the lamp; ambient 0..1 is light from all sides."""

    room: Room
    capsules: Capsules
    boxes: Boxes
    materials: Materials
    light: Array
    ambient: float
    exposure: float
    noise: float


def draw_materials(count: int, rng: np.random.Generator) -> Materials:
    """Plain, striped, checkered and softly mottled surfaces in any colours, the room's more quietly."""
    first, second = rng.uniform(0.08, 0.95, size=(2, count, 3))
    gray, contrast = rng.uniform(0, 0.8, size=(count, 1)), rng.uniform(0.1, 0.9, size=(count, 1))
    gray[:ROOM_MATERIALS] = 0.5 + 0.5 * gray[:ROOM_MATERIALS]
    contrast[:ROOM_MATERIALS] *= 0.4
    first = gray * first.mean(axis=1, keepdims=True) + (1 - gray) * first
    second = first + contrast * (second - first)
    pattern = rng.integers(4, size=count)
    frequency, phase = rng.uniform(5, 28, size=(count, 2)), rng.uniform(0, 2 * np.pi, size=(count, 2))
    across = rng.integers(2, size=count)
    striped = np.flatnonzero(pattern == 1)
    frequency[striped, across[striped]], phase[striped, across[striped]] = 0, np.pi / 2
    sharpness = np.array([0, 6, 6, 0.5])[pattern]
    return Materials(*(part.astype(np.float32) for part in (first, second, frequency, phase, sharpness)))


def draw_camera(frames: int, height: int, width: int, yaw: float, rng: np.random.Generator) -> Camera:
    """A camera 2.8 to 4.5 m away, up to `yaw` radians aside, that drifts a little and sees a whole figure."""
    distance, angle = rng.uniform(2.8, 4.5), rng.uniform(-yaw, yaw)
    eye = np.array([distance * np.sin(angle), rng.uniform(0.7, 1.9), -distance * np.cos(angle)])
    target = np.array([rng.uniform(-0.2, 0.2), rng.uniform(0.65, 0.9), 0])
    when = np.linspace(-1, 1, frames)[:, None]
    shake = np.sin(2 * np.pi * (when * rng.uniform(0.5, 2, size=3) + rng.uniform(size=3)))
    drift = when * rng.uniform(-0.15, 0.15, size=3) + rng.uniform(0, 0.015) * shake
    focal = rng.uniform(0.5, 0.64) * height * distance / 1.7
    return looking_at(eye + drift, target + 0.4 * drift, focal=focal, height=height, width=width)


def draw_room(eye: Array, rng: np.random.Generator) -> Room:
    """Walls at 1.5 to 5 m around the origin, wide enough to hold the eye (frames, 3)."""
    low, high = -rng.uniform(1.5, 5, size=3), rng.uniform(1.5, 5, size=3)
    low[1], high[1] = 0, rng.uniform(2.4, 4.5)
    room = Room(low, high, rng.uniform(-0.45, 0.45))
    inside = eye @ room.from_world().T
    low[[0, 2]] = np.minimum(low, inside.min(axis=0) - 0.5)[[0, 2]]
    high = np.maximum(high, inside.max(axis=0) + 0.5)
    return Room(low.astype(np.float32), high.astype(np.float32), room.turn)


def draw_light(rng: np.random.Generator) -> Array:
    """Direction (3,) to a lamp somewhere above, never quite at the side."""
    around, above = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.4)
    return np.array([np.cos(above) * np.cos(around), np.sin(above), np.cos(above) * np.sin(around)], np.float32)


def draw_places(count: int, camera: Camera, rng: np.random.Generator) -> Array:
    """Places (count, 3) on the floor that leave the figure and the view of it free."""
    forward = camera.rotation[0, 2] * np.array([1, 0, 1])
    forward /= np.linalg.norm(forward)
    right = camera.rotation[0, 0]
    aside = rng.uniform(1.3, 3, size=count) * rng.choice([-1, 1], size=count)
    beyond = rng.uniform(-1.2, 3, size=count)
    behind = beyond > 1.2
    aside[behind] *= rng.uniform(0, 1, size=behind.sum())
    return cast(Array, (aside[:, None] * right + beyond[:, None] * forward).astype(np.float32))


def draw_clutter(frames: int, places: Array, material: int, rng: np.random.Generator) -> tuple[Capsules, Boxes]:
    """Boxes, balls and posts that stand still at places (count, 3); materials count up from `material`."""
    kind = rng.integers(3, size=len(places))
    materials = material + np.arange(len(places))
    boxed = kind == 0
    half = rng.uniform(0.12, 0.5, size=(boxed.sum(), 3)).astype(np.float32)
    turn = rng.uniform(0, np.pi, size=boxed.sum())
    c, s, no, one = np.cos(turn), np.sin(turn), np.zeros_like(turn), np.ones_like(turn)
    axes = np.array([[c, no, s], [no, one, no], [-s, no, c]], np.float32).transpose(2, 0, 1)
    centre = places[boxed] + UP * half[:, 1:2]
    radius = rng.uniform(0.08, 0.3, size=(~boxed).sum()).astype(np.float32)
    start = places[~boxed] + UP * radius[:, None]
    tall = (kind[~boxed] == 2) * rng.uniform(0.3, 2.2, size=(~boxed).sum())
    end = start + tall[:, None].astype(np.float32) * UP

    def still(array: Array) -> Array:
        return np.broadcast_to(array, (frames, *array.shape))

    posts = Capsules(still(start), still(end), radius, materials[~boxed])
    return posts, Boxes(still(centre), still(axes), half, materials[boxed])
