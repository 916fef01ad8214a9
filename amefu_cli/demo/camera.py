"""A pinhole camera: where it stands, what it sees, and which pixels a thing may cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Of float32 where nothing else is said."""
Indices = npt.NDArray[np.intp]

NEAREST = 0.05
"""Metres: what reaches nearer to the camera's plane than this is taken to cover the whole image."""


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
        turned: Array = np.einsum("fij,fnj->fni", self.rotation, points - self.position[:, None])
        return turned

    def columns(self, pixel: Indices) -> Array:
        """Slope to the right of the ray through the middle of a pixel column."""
        slope: Array = (pixel + 0.5 - self.width / 2) / self.focal
        return slope.astype(np.float32)

    def rows(self, pixel: Indices) -> Array:
        """Slope downwards of the ray through the middle of a pixel row."""
        slope: Array = (pixel + 0.5 - self.height / 2) / self.focal
        return slope.astype(np.float32)


def looking_at(position: Array, target: Array, *, focal: float, height: int, width: int) -> Camera:
    """A level camera at position (frames, 3) that looks at target (frames, 3); y is up."""
    forward = unit(target - position)
    right = unit(np.cross(np.array([0, 1, 0], np.float32), forward))
    rotation = np.stack([right, -np.cross(forward, right), forward], axis=1)
    return Camera(position.astype(np.float32), rotation.astype(np.float32), focal, height, width)


def unit(vectors: Array) -> Array:
    """Vectors (..., 3) scaled to length 1."""
    length: Array = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return vectors / length


def ball_bounds(centre: Array, radius: Array) -> tuple[Array, Array]:
    """Lowest and highest slope (..., 2), right and down, of the rays that touch balls in camera axes.

    A ball seen from the side at distance c covers the angles atan2(x, z) ± asin(radius / c).
    """
    depth = centre[..., 2:]
    middle = np.arctan2(centre[..., :2], depth)
    spread = np.arcsin(np.clip(radius[..., None] / np.hypot(centre[..., :2], depth), 0, 1))
    low, high = middle - spread, middle + spread
    limit = np.float32(1.4)
    return np.tan(np.clip(low, -limit, limit)), np.tan(np.clip(high, -limit, limit))


def corner_bounds(corners: Array) -> tuple[Array, Array]:
    """Lowest and highest slope (..., 2) of the rays to corners (..., 8, 3) in camera axes."""
    behind = corners[..., 2].min(axis=-1) < NEAREST
    slopes = corners[..., :2] / np.maximum(corners[..., 2:], NEAREST)
    everything = np.float32(10)
    low = np.where(behind[..., None], -everything, slopes.min(axis=-2))
    high = np.where(behind[..., None], everything, slopes.max(axis=-2))
    return low, high


def covered_pixels(camera: Camera, low: Array, high: Array) -> tuple[Indices, Indices, Indices]:
    """Owner, row and column of every pixel within the bounds (owners, 2), right and down, of each owner."""
    size = np.array([camera.width, camera.height])
    first = np.clip(np.floor(low * camera.focal + size / 2), 0, size).astype(np.intp)
    last = np.clip(np.ceil(high * camera.focal + size / 2), 0, size).astype(np.intp)
    width, height = np.maximum(last - first, 0).T
    count = width * height
    owner = np.repeat(np.arange(len(count)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(place.astype(np.int32), width.astype(np.int32)[owner])
    return owner, row + first[owner, 1], column + first[owner, 0]
