"""The articulated figure: proportions, a pose over time, and the capsules that they make."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from amefu_cli.demo.scene import Array, unit

FIGURE_MATERIALS = 5
SKIN, SHIRT, TROUSERS, SHOES, HAIR = range(FIGURE_MATERIALS)
"""Rows of the table of materials that the figure wears; what it handles comes after."""

LEFT, RIGHT = 0, 1


@dataclass(frozen=True)
class Body:
    """Lengths in metres. shoulder and hip are half widths; girth is a factor on every radius."""

    thigh: float
    shin: float
    torso: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    head: float
    girth: float

    @property
    def ankle_height(self) -> float:
        return 0.075 * self.girth

    @property
    def hip_height(self) -> float:
        """Height of the pelvis when the figure stands with all but straight knees."""
        return self.thigh + self.shin + self.ankle_height - 0.01

    @property
    def arm(self) -> float:
        return self.upper_arm + self.forearm

    @property
    def shoulder_height(self) -> float:
        return self.hip_height + self.torso


def draw_body(rng: np.random.Generator) -> Body:
    """Proportions of a person of 1.45 to 1.95 m, lean or stout."""
    size = rng.uniform(0.88, 1.1)
    legs, arms, width = rng.uniform(0.94, 1.06, size=3) * size
    return Body(
        thigh=0.44 * legs, shin=0.43 * legs, torso=0.5 * size, shoulder=0.19 * width, hip=0.1 * width,
        upper_arm=0.3 * arms, forearm=0.29 * arms, head=0.11 * rng.uniform(0.93, 1.12), girth=rng.uniform(0.8, 1.3),
    )  # fmt: skip


def along(*direction: float) -> Array:
    """A direction in figure axes: to its left, up, forward."""
    return np.array(direction, np.float32)


@dataclass
class Pose:
    """Where a figure has its limbs over time, and what it handles, in figure axes (left, up, forward), metres, radians.

    pelvis (frames, 3); hands, feet (frames, 2, 3), left one first: what the limb's end reaches for; lean
    forward, tilt and twist to the left of the torso (frames,); nod of the head (frames,); knees, elbows (3,):
    the side to which they bend. Balls (centre, radius), bars (start, end, radius) and boxes (centre, half sizes
    (3,)) move along paths (frames, 3).
    """

    pelvis: Array
    hands: Array
    feet: Array
    lean: Array
    tilt: Array
    twist: Array
    nod: Array
    knees: Array = field(default_factory=lambda: along(0, 0, 1))
    elbows: Array = field(default_factory=lambda: along(0, -0.6, -1))
    balls: list[tuple[Array, float]] = field(default_factory=list)
    bars: list[tuple[Array, Array, float]] = field(default_factory=list)
    boxes: list[tuple[Array, Array]] = field(default_factory=list)

    def reach_with_both(self, middle: Array, apart: Array | float) -> None:
        """Set both hands to middle (frames, 3), each `apart` metres from it to its own side."""
        self.hands[:, LEFT] = middle + path(apart, 0, 0)
        self.hands[:, RIGHT] = middle - path(apart, 0, 0)

    def spread_feet(self, apart: Array | float) -> None:
        """Set the feet `apart` metres to each side of the pelvis."""
        self.feet[:, LEFT, 0], self.feet[:, RIGHT, 0] = apart, -np.asarray(apart)

    def stride(self, phase: Array, length: float, lift: float) -> None:
        """Walk on the spot: the feet go to and fro in turn, the one that comes forward lifted (metres)."""
        for side, _, turn in in_turn(phase):
            self.feet[:, side, 2] += length * swing(turn)
            self.feet[:, side, 1] += lift * np.maximum(0, swing(turn + 0.25))

    def travel(self, way: Array) -> None:
        """Move all of it, what is handled too, along way (frames, 3)."""
        self.pelvis = self.pelvis + way
        self.hands = self.hands + way[:, None]
        self.feet = self.feet + way[:, None]
        self.balls = [(centre + way, radius) for centre, radius in self.balls]
        self.bars = [(start + way, end + way, radius) for start, end, radius in self.bars]
        self.boxes = [(centre + way, half) for centre, half in self.boxes]


def standing(body: Body, frames: int) -> Pose:
    """Upright, feet under the hips, arms hanging."""
    sides = np.array([1, -1], np.float32)
    height = body.shoulder_height - 0.96 * body.arm
    pelvis = np.tile(along(0, body.hip_height, 0), (frames, 1))
    hands = np.tile(path(sides * (body.shoulder + 0.09), height, 0.04), (frames, 1, 1))
    feet = np.tile(path(sides * 1.2 * body.hip, body.ankle_height, 0), (frames, 1, 1))
    return Pose(pelvis, hands, feet, *np.zeros((4, frames), np.float32))


def torso_axes(lean: Array, tilt: Array, twist: Array) -> tuple[Array, Array, Array]:
    """Directions (frames, 3) to the left, up the spine and out of the chest of a torso."""
    none = np.zeros_like(lean)
    up = np.stack([np.sin(tilt) * np.cos(lean), np.cos(tilt) * np.cos(lean), np.sin(lean)], axis=1)
    front = np.stack([none, -np.sin(lean), np.cos(lean)], axis=1)
    left = unit(np.cross(up, front))
    front = np.cross(left, up)
    turn = twist[:, None]
    return np.cos(turn) * left - np.sin(turn) * front, up, np.cos(turn) * front + np.sin(turn) * left


def bend(root: Array, target: Array, upper: float, lower: float, pole: Array) -> tuple[Array, Array]:
    """Middle and end joint (frames, 3) of a limb of two bones that reaches from root towards target. The law of cosines
    in the triangle of upper, lower and the distance gives the middle joint, which lies towards pole."""
    way = target - root
    reach = np.linalg.norm(way, axis=1, keepdims=True)
    direction = way / np.maximum(reach, 1e-6)
    reach = np.clip(reach, abs(upper - lower) + 0.05, upper + lower - 1e-3)
    forth = (upper**2 + reach**2 - lower**2) / (2 * reach)
    aside = np.sqrt(np.maximum(upper**2 - forth**2, 0)) * square_to(direction, pole)
    return root + forth * direction + aside, root + reach * direction


def square_to(direction: Array, pole: Array) -> Array:
    """Unit vectors (frames, 3) that point as much towards pole as what is square to direction can."""
    return unit(pole - (pole * direction).sum(1, keepdims=True) * direction)


Limb = tuple[Array, Array, float, int]
"""A capsule: start and end (frames, 3) in figure axes, radius in metres, material."""


def limbs_of(body: Body, pose: Pose) -> list[Limb]:
    """The whole figure as capsules: head, hair, neck, shoulders, spine and hips, then its sides, the left one first."""
    left, up, front = torso_axes(pose.lean, pose.tilt, pose.twist)
    hip_left, _, _ = torso_axes(pose.lean, pose.tilt, 0.4 * pose.twist)
    g = body.girth
    chest, neck = (pose.pelvis + (body.torso + above) * up for above in (-0.05, 0.04))
    gaze = unit(np.cos(pose.nod)[:, None] * up + np.sin(pose.nod)[:, None] * front)
    head = neck + (body.head + 0.05) * gaze
    crown = head + 0.035 * unit(gaze - 0.9 * front)
    across, hips = 0.6 * body.shoulder * left, 0.5 * body.hip * hip_left
    trunk = [
        (head, head, body.head, SKIN), (crown, crown, 1.02 * body.head, HAIR),
        (neck - 0.05 * up, head, 0.055 * g, SKIN), (chest - across, chest + across, 0.11 * g, SHIRT),
        (pose.pelvis + 0.12 * up, chest - 0.04 * up, 0.135 * g, SHIRT),
        (pose.pelvis - hips, pose.pelvis + hips, 0.125 * g, TROUSERS),
    ]  # fmt: skip
    return trunk + arms_and_legs(body, pose, left, hip_left, up)


def arms_and_legs(body: Body, pose: Pose, left: Array, hip_left: Array, up: Array) -> list[Limb]:
    """Upper arm, forearm, hand, thigh, shin and foot of either side, with the axes of the torso given."""
    g, parts = body.girth, []
    for index, side in enumerate((1, -1)):
        shoulder = pose.pelvis + (body.torso - 0.02) * up + side * body.shoulder * left
        hip = pose.pelvis - 0.04 * up + side * body.hip * hip_left
        elbows, knees = pose.elbows + along(0.4 * side, 0, 0), pose.knees + along(0.15 * side, 0, 0)
        elbow, hand = bend(shoulder, pose.hands[:, index], body.upper_arm, body.forearm, elbows)
        knee, ankle = bend(hip, pose.feet[:, index], body.thigh, body.shin, knees)
        low, square = ankle[:, 1:2] < 1.6 * body.ankle_height, square_to(unit(ankle - knee), pose.knees)
        toe = ankle + 0.17 * np.where(low, along(0, 0, 1), square)  # flat near the floor, else square to the shin
        parts += [
            (shoulder, elbow, 0.055 * g, SHIRT), (elbow, hand, 0.045 * g, SKIN), (hand, hand, 0.058 * g, SKIN),
            (hip, knee, 0.085 * g, TROUSERS), (knee, ankle, 0.06 * g, TROUSERS), (ankle, toe, 0.055 * g, SHOES),
        ]  # fmt: skip
    return parts


def there_and_back(phase: Array) -> Array:
    """0 at whole phases, 1 halfway between, smooth."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * phase)).astype(np.float32)


def swing(phase: Array) -> Array:
    """-1..1, once a cycle."""
    return np.sin(2 * np.pi * phase).astype(np.float32)


def in_turn(phase: Array) -> tuple[tuple[int, int, Array], ...]:
    """Either side with the sign of the way to it and its phase: half a cycle lies between them."""
    return (LEFT, 1, phase), (RIGHT, -1, phase + 0.5)


def path(left: Array | float, up: Array | float, forward: Array | float) -> Array:
    """Three coordinates, numbers or (frames,), as one path (frames, 3)."""
    return np.stack(np.broadcast_arrays(*np.atleast_1d(left, up, forward)), axis=1).astype(np.float32)


def shoulders(body: Body, pose: Pose) -> Array:
    """Middle of the shoulder line (frames, 3)."""
    return pose.pelvis + (body.torso - 0.02) * torso_axes(pose.lean, pose.tilt, pose.twist)[1]
