"""What an action is made of: a pose over time and the things that are handled, in figure axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from amefu_cli.method.world.camera import Array
from amefu_cli.method.world.figure import Body, Pose, torso_axes

LEFT, RIGHT = 0, 1


@dataclass
class Motion:
    """A pose and props: balls (centre, radius), bars (start, end, radius), boxes (centre, half sizes (3,)).

    Paths are (frames, 3) metres in figure axes: to its left, up from the floor, forward.
    """

    pose: Pose
    balls: list[tuple[Array, float]] = field(default_factory=list)
    bars: list[tuple[Array, Array, float]] = field(default_factory=list)
    boxes: list[tuple[Array, Array]] = field(default_factory=list)


Move = Callable[[Body, Array, np.random.Generator], Motion]
"""Body, phase (frames,) in cycles and a source of chance for sizes and reach; returns the motion."""


def there_and_back(phase: Array) -> Array:
    """0 at whole phases, 1 halfway between, smooth."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * phase)).astype(np.float32)


def swing(phase: Array) -> Array:
    """-1..1, once a cycle."""
    return np.sin(2 * np.pi * phase).astype(np.float32)


def path(left: Array | float, up: Array | float, forward: Array | float) -> Array:
    """Three coordinates, numbers or (frames,), as one path (frames, 3)."""
    return np.stack(np.broadcast_arrays(*np.atleast_1d(left, up, forward)), axis=1).astype(np.float32)


def shoulders(body: Body, pose: Pose) -> Array:
    """Middle of the shoulder line (frames, 3)."""
    return pose.pelvis + (body.torso - 0.02) * torso_axes(pose.lean, pose.tilt, pose.twist)[1]


def reach_with_both(pose: Pose, middle: Array, apart: Array | float) -> None:
    """Set both hands to middle (frames, 3), each `apart` metres from it to its own side."""
    pose.hands[:, LEFT] = middle + path(apart, 0, 0)
    pose.hands[:, RIGHT] = middle - path(apart, 0, 0)


def spread_feet(pose: Pose, apart: Array | float) -> None:
    """Set the feet `apart` metres to each side of the pelvis."""
    pose.feet[:, LEFT, 0], pose.feet[:, RIGHT, 0] = apart, -np.asarray(apart)


def stride(pose: Pose, phase: Array, length: float, lift: float) -> None:
    """Walk on the spot: the feet go to and fro in turn, the one that comes forward lifted (metres)."""
    for side, turn in ((LEFT, phase), (RIGHT, phase + 0.5)):
        pose.feet[:, side, 2] += length * swing(turn)
        pose.feet[:, side, 1] += lift * np.maximum(0, swing(turn + 0.25))


def travel(motion: Motion, way: Array) -> Motion:
    """The whole motion, props too, moved along way (frames, 3)."""
    pose = motion.pose
    pose.pelvis = pose.pelvis + way
    pose.hands = pose.hands + way[:, None]
    pose.feet = pose.feet + way[:, None]
    motion.balls = [(centre + way, radius) for centre, radius in motion.balls]
    motion.bars = [(start + way, end + way, radius) for start, end, radius in motion.bars]
    motion.boxes = [(centre + way, half) for centre, half in motion.boxes]
    return motion
