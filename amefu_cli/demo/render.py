"""Ray casting: every pixel of every frame of a scene, with its depth, in a few passes over flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from amefu_cli.demo.scene import Array, Camera, Indices, Materials, Scene

TINY = np.float32(1e-9)
NEAREST = 0.05
"""Metres: what reaches nearer to the camera's plane than this is taken to cover the whole image."""

SHADOW_CELLS, SHADOW_REACH = 128, 3.2
"""Cells to a side of the map of shadows on the floor, and metres from its middle to its edge."""


class Pictures(NamedTuple):
    """rgb uint8 (frames, height, width, 3); depth float32 (frames, height, width), metres along the view."""

    rgb: npt.NDArray[np.uint8]
    depth: Array


@dataclass(frozen=True)
class Canvas:
    """colour (3, pixels of all frames) 0..1 and depth (pixels of all frames,) metres, filled pass by pass."""

    colour: Array
    depth: Array


def render(scene: Scene, camera: Camera, rng: np.random.Generator) -> Pictures:
    """What the camera sees of the scene, a picture a frame."""
    shape = (len(camera.position), camera.height, camera.width)
    pixels = int(np.prod(shape))
    canvas = Canvas(np.empty((3, pixels), np.float32), np.empty(pixels, np.float32))
    paint_room(canvas, scene, camera)
    paint_boxes(canvas, scene, camera)
    paint_capsules(canvas, scene, camera)
    return Pictures(develop(canvas.colour.reshape(3, *shape), scene, rng), canvas.depth.reshape(shape))


def paint_room(canvas: Canvas, scene: Scene, camera: Camera) -> None:
    """Fill the canvas with the walls, floor and ceiling on which the rays leave the room."""
    turn = scene.room.from_world()
    to_room = np.einsum("ij,fkj->fik", turn, camera.rotation)
    eye = camera.position @ turn.T
    right, down = camera.columns(np.arange(camera.width)), camera.rows(np.arange(camera.height))
    slopes, leave = [], []
    for axis in range(3):
        a, b, c = to_room[:, axis].T[:, :, None]
        slopes.append((a * right)[:, None, :] + (b * down + c)[:, :, None])
        with np.errstate(divide="ignore"):  # a ray along a wall never meets it: infinity
            inverse = 1 / slopes[-1]
        place = eye[:, axis, None, None]
        walls = scene.room.low[axis] - place, scene.room.high[axis] - place
        leave.append(np.maximum(walls[0] * inverse, walls[1] * inverse))
    depth = np.minimum.reduce(leave)
    canvas.depth[:] = depth.ravel()
    shadow = floor_shadows(scene)
    for axis, (one, other) in enumerate(((2, 1), (0, 2), (0, 1))):
        of_axis = np.flatnonzero(leave[axis] == depth)
        upwards = slopes[axis].ravel()[of_axis] > 0
        for high in (False, True):
            seen = of_axis[upwards == high]
            if len(seen) == 0:
                continue
            frame = seen // (camera.height * camera.width)
            away = canvas.depth[seen]
            first = eye[frame, one] + away * slopes[one].ravel()[seen]
            second = eye[frame, other] + away * slopes[other].ravel()[seen]
            lit = max(0.0, float((scene.light @ turn.T)[axis]) * (-1 if high else 1))
            light: Array | float = scene.ambient + (1 - scene.ambient) * lit
            if axis == 1 and not high:
                light = light - (1 - scene.ambient) * lit * look_up(shadow, frame, first, second)
            canvas.colour[:, seen] = colours(scene.materials, 2 * axis + high, first, second) * light


def paint_boxes(canvas: Canvas, scene: Scene, camera: Camera) -> None:
    """Paint the boxes that lie nearer than what the canvas shows."""
    boxes = scene.boxes
    count = len(boxes.half)
    axes = np.einsum("fij,fnkj->fnki", camera.rotation, boxes.axes).reshape(-1, 3, 3)
    centre = camera.from_world(boxes.centre).reshape(-1, 3)
    half = np.tile(boxes.half, (len(boxes.centre), 1))
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T.astype(np.float32)
    corners = centre[:, None] + np.einsum("ck,nk,nkj->ncj", signs, half, axes)
    owner, pixel, right, down = rays_within(camera, *corner_bounds(corners))
    eye = -np.einsum("nkj,nj->nk", axes, centre)
    ray = [axes[owner, k, 0] * right + axes[owner, k, 1] * down + axes[owner, k, 2] for k in range(3)]
    depth, side = meet_boxes(list(eye[owner].T), ray, list(half[owner].T))
    won = nearest(canvas, pixel, depth)
    owner, depth, side = owner[won], depth[won], side[won]
    place = np.stack([eye[owner, k] + depth * ray[k][won] for k in range(3)])
    everyone = np.arange(len(won))
    facing = np.sign(place[side, everyone])
    normal = axes[owner, side] * facing[:, None]
    first, second = place[(side + 1) % 3, everyone], place[(side + 2) % 3, everyone]
    frame, material = np.divmod(owner, count)
    tint = colours(scene.materials, boxes.material[material], first, second)
    canvas.colour[:, pixel[won]] = tint * brightness(scene, camera, frame, normal.T)


def paint_capsules(canvas: Canvas, scene: Scene, camera: Camera) -> None:
    """Paint the capsules and balls that lie nearer than what the canvas shows."""
    capsules = scene.capsules
    count = len(capsules.radius)
    start = camera.from_world(capsules.start).reshape(-1, 3)
    end = camera.from_world(capsules.end).reshape(-1, 3)
    radius = np.tile(capsules.radius, len(capsules.start))
    bounds = [ball_bounds(point, radius) for point in (start, end)]
    low, high = np.minimum(bounds[0][0], bounds[1][0]), np.maximum(bounds[0][1], bounds[1][1])
    owner, pixel, right, down = rays_within(camera, low, high)
    axis = end - start
    depth, place = meet_capsules(right, down, owner, start, axis, radius)
    won = nearest(canvas, pixel, depth)
    owner, depth, place = owner[won], depth[won], place[won]
    hit = np.stack([depth * right[won], depth * down[won], depth])
    normal = (hit - start[owner].T - place * axis[owner].T) / radius[owner]
    frame, which = np.divmod(owner, count)
    length = place * np.sqrt((axis * axis).sum(1))[owner]
    tint = colours(scene.materials, capsules.material[which], length, 0.15 * normal[0])
    canvas.colour[:, pixel[won]] = tint * brightness(scene, camera, frame, normal)


def ball_bounds(centre: Array, radius: Array) -> tuple[Array, Array]:
    """Lowest and highest slope (..., 2), right and down, of the rays that touch balls in camera axes. A ball seen from
    the side at distance c covers the angles atan2(x, z) ± asin(radius / c)."""
    depth = centre[..., 2:]
    middle = np.arctan2(centre[..., :2], depth)
    spread = np.arcsin(np.clip(radius[..., None] / np.hypot(centre[..., :2], depth), 0, 1))
    limit = np.float32(1.4)
    return np.tan(np.clip(middle - spread, -limit, limit)), np.tan(np.clip(middle + spread, -limit, limit))


def corner_bounds(corners: Array) -> tuple[Array, Array]:
    """Lowest and highest slope (..., 2) of the rays to corners (..., 8, 3) in camera axes."""
    behind = corners[..., 2].min(axis=-1)[..., None] < NEAREST
    slopes = corners[..., :2] / np.maximum(corners[..., 2:], NEAREST)
    everything = np.float32(10)
    return np.where(behind, -everything, slopes.min(axis=-2)), np.where(behind, everything, slopes.max(axis=-2))


def rays_within(camera: Camera, low: Array, high: Array) -> tuple[Indices, Indices, Array, Array]:
    """Owner, pixel of the canvas and slopes, right and down, of every ray (rays,) within the bounds of each owner. The
    bounds low and high (owners, 2) are slopes too; as many owners stand in every frame."""
    size = np.array([camera.width, camera.height])
    first = np.clip(np.floor(low * camera.focal + size / 2), 0, size).astype(np.intp)
    last = np.clip(np.ceil(high * camera.focal + size / 2), 0, size).astype(np.intp)
    width, height = np.maximum(last - first, 0).T
    count = width * height
    owner = np.repeat(np.arange(len(count)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(place.astype(np.int32), width.astype(np.int32)[owner])
    row, column = row + first[owner, 1], column + first[owner, 0]
    frame = owner // max(1, len(low) // len(camera.position))
    return owner, (frame * camera.height + row) * camera.width + column, camera.columns(column), camera.rows(row)


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
    """Depth at which rays enter boxes (infinity: they miss) and the axis 0, 1 or 2 of the side entered. Three arrays
    each, one for every axis of the box, whose centre is 0: the camera, the ray, half the size."""
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
    met = (depth > 0) & (depth < np.minimum.reduce(leave))
    return np.where(met, depth, np.float32(np.inf)), side


def nearest(canvas: Canvas, pixel: Indices, depth: Array) -> Indices:
    """Enter depths at pixels into the canvas; which of them are now the ones seen."""
    met = np.flatnonzero(np.isfinite(depth))
    np.minimum.at(canvas.depth, pixel[met], depth[met])
    return cast(Indices, met[depth[met] == canvas.depth[pixel[met]]])


def brightness(scene: Scene, camera: Camera, frame: Indices, normal: Array) -> Array:
    """Light 0..1 (points,) on surfaces of normals (3, points) in camera axes: ambient and Lambert's law."""
    light = (camera.rotation @ scene.light)[frame]
    lit = normal[0] * light[:, 0] + normal[1] * light[:, 1] + normal[2] * light[:, 2]
    return cast(Array, scene.ambient + (1 - scene.ambient) * np.maximum(lit, 0))


def colours(materials: Materials, material: Indices | int, first: Array, second: Array) -> Array:
    """Colours (3, points) of one material, or of one a point, at surface coordinates (points,) in metres."""
    frequency, phase = materials.frequency[material].T, materials.phase[material].T
    wave = np.sin(frequency[0] * first + phase[0]) * np.sin(frequency[1] * second + phase[1])
    share = np.clip(0.5 + materials.sharpness[material] * wave, 0, 1)
    start, end = np.atleast_2d(materials.first[material]).T, np.atleast_2d(materials.second[material]).T
    return cast(Array, start + share * (end - start))


def floor_shadows(scene: Scene) -> Array:
    """Share of the lamp 0..1 that is kept from cells (frames, cells, cells) of the floor, in the room's axes. Points of
    the capsules and boxes are thrown to the floor, away from the lamp, and blurred."""
    turn, share = scene.room.from_world(), np.linspace(0, 1, 7, dtype=np.float32)
    capsules, boxes = scene.capsules, scene.boxes
    frames = len(capsules.start)
    limbs = capsules.start[:, :, None] + share[:, None] * (capsules.end - capsules.start)[:, :, None]
    grid = np.stack(np.meshgrid(2 * share - 1, 2 * share - 1, 2 * share - 1), axis=-1).reshape(-1, 3)
    inside = np.einsum("ck,nk,fnkj->fncj", grid, boxes.half, boxes.axes) + boxes.centre[:, :, None]
    points = np.concatenate([limbs.reshape(frames, -1, 3), inside.reshape(frames, -1, 3)], axis=1)
    points = (points - points[..., 1:2] / scene.light[1] * scene.light) @ turn.T
    cell = np.clip(shadow_cells(points[..., [0, 2]]).astype(np.intp), 2, SHADOW_CELLS - 3)
    dark = np.zeros((frames, SHADOW_CELLS, SHADOW_CELLS), np.float32)
    frame = np.arange(frames)[:, None]
    for step in ((-1, 0), (0, 0), (1, 0), (0, -1), (0, 1)):
        dark[frame, cell[..., 0] + step[0], cell[..., 1] + step[1]] = 1
    dark[:, 1:-1] = (dark[:, :-2] + dark[:, 1:-1] + dark[:, 2:]) / 3
    dark[:, :, 1:-1] = (dark[:, :, :-2] + dark[:, :, 1:-1] + dark[:, :, 2:]) / 3
    return dark


def look_up(shadow: Array, frame: Indices, first: Array, second: Array) -> Array:
    """Shadow 0..1 (points,) at the floor coordinates first and second (points,) in metres."""
    i, j = (np.clip(shadow_cells(place), 0, SHADOW_CELLS - 1).astype(np.intp) for place in (first, second))
    return shadow[frame, i, j]


def shadow_cells(place: Array) -> Array:
    """Floor coordinates in metres as cells of the map of shadows, not yet whole."""
    return (place / SHADOW_REACH + 1) * (SHADOW_CELLS / 2)


def develop(colour: Array, scene: Scene, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Colours (3, frames, height, width) as pictures: exposure, and the grain of the sensor."""
    height, width = colour.shape[2:]
    grain = rng.normal(0, 255 * scene.noise, size=(height, width, 3)).astype(np.float32)
    picture = (255 * scene.exposure) * colour.transpose(1, 2, 3, 0)
    for image in picture:
        image += np.roll(grain, rng.integers(height, size=2), axis=(0, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)
