"""Where rays meet capsules, balls and boxes, all of them at once.

Rays start at the camera and run along (right, down, 1), so that the distance found is the depth along the
viewing axis. Every function takes flat arrays with one entry a ray, in camera axes unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amefu_cli.method.world.camera import Array, Indices

TINY = np.float32(1e-9)


@dataclass(frozen=True)
class Capsules:
    """Segments with a radius; a ball is one whose ends coincide.

    start, end (frames, count, 3) metres in the world; radius (count,) metres; material (count,): rows of
    the table.
    """

    start: Array
    end: Array
    radius: Array
    material: Indices


@dataclass(frozen=True)
class Boxes:
    """centre (frames, count, 3) and half the size (count, 3) in metres; material (count,) rows of the table.

    axes (frames, count, 3, 3): the directions of its sides, as rows.
    """

    centre: Array
    axes: Array
    half: Array
    material: Indices


def meet_capsules(
    right: Array, down: Array, owner: Indices, start: Array, axis: Array, radius: Array
) -> tuple[Array, Array]:
    """Depth at which each ray meets its capsule (infinity: it misses) and the place 0..1 along the axis.

    right, down, owner (rays,); start, axis (owners, 3): first end and the way from it to the second, in
    camera axes; radius (owners,). Solves |p - start - axis·s| = radius for the infinite cylinder; beyond an
    end, the ball there is met instead.
    """
    length, start_axis = (axis * axis).sum(1), (start * axis).sum(1)
    start_start = (start * start).sum(1) - radius * radius
    ray = right * right + down * down + 1
    ray_axis = right * axis[owner, 0] + down * axis[owner, 1] + axis[owner, 2]
    ray_start = right * start[owner, 0] + down * start[owner, 1] + start[owner, 2]
    long, across = length[owner], start_axis[owner]
    a = long * ray - ray_axis * ray_axis
    b = long * ray_start - across * ray_axis
    root = b * b - a * (length * start_start - start_axis * start_axis)[owner]
    depth = (b - np.sqrt(np.maximum(root, 0))) / np.maximum(a, TINY)
    place = np.clip((depth * ray_axis - across) / np.maximum(long, TINY), 0, 1)
    depth[root < 0] = np.inf
    beyond = np.flatnonzero((root >= 0) & ((place <= 0) | (place >= 1)))
    whose, end = owner[beyond], place[beyond]
    middle = ray_start[beyond] + end * ray_axis[beyond]
    gap = start_start[whose] + end * (2 * start_axis[whose] + length[whose])
    root = middle * middle - ray[beyond] * gap
    depth[beyond] = np.where(root >= 0, (middle - np.sqrt(np.maximum(root, 0))) / ray[beyond], np.inf)
    return np.where(depth > 0, depth, np.float32(np.inf)), place


def meet_boxes(origin: Sequence[Array], ray: Sequence[Array], half: Sequence[Array]) -> tuple[Array, Indices]:
    """Depth at which rays enter boxes (infinity: they miss) and the axis 0, 1 or 2 of the side entered.

    Three arrays each, one for every axis of the box, whose centre is 0: the camera, the ray, half the size.
    """
    enter, leave = [], []
    for place, slope, reach in zip(origin, ray, half, strict=True):
        inverse = 1 / np.where(np.abs(slope) < TINY, TINY, slope)
        middle, spread = -place * inverse, reach * np.abs(inverse)
        enter.append(middle - spread)
        leave.append(middle + spread)
    side = np.where(enter[0] > enter[1], 0, 1)
    depth = np.maximum(enter[0], enter[1])
    side[enter[2] > depth] = 2
    depth = np.maximum(depth, enter[2])
    met = (depth > 0) & (depth < np.minimum(np.minimum(leave[0], leave[1]), leave[2]))
    return np.where(met, depth, np.float32(np.inf)), side
