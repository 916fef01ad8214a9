"""What the figure does: the table of action classes, and how each moves the body and what it handles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amefu_cli.demo.figure import LEFT, RIGHT, Body, Pose, along, in_turn, path, shoulders, swing, there_and_back
from amefu_cli.demo.scene import Array

Move = Callable[[Body, Pose, Array, np.random.Generator], None]
"""Moves a standing figure, by the phase (frames,) in cycles and a source of chance for sizes and reach."""


@dataclass(frozen=True)
class Action:
    """move makes the motion; facing in degrees (0: the camera, 90: aside); cycles (least, most) a clip."""

    move: Move
    facing: float
    cycles: tuple[float, float]


WORLD_SPLIT = {
    "train": ("jumping_jack", "squat", "kick", "bow", "push_box", "throw_ball", "march", "sit_up"),
    "val": ("lunge", "dribble"),
    "test": ("push_up", "lift_box", "wave", "sit_down", "swing_bat"),
}
"""Base, validation and novel classes of the demonstration. The tiny depth network saw no novel action."""


def jumping_jack(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Arms and legs out to the sides and up, then together."""
    open_ = there_and_back(phase)
    hop = 0.1 * np.abs(swing(phase))
    pose.pelvis[:, 1] += hop - 0.12 * open_
    pose.feet[:, :, 1] += hop[:, None]
    pose.spread_feet(body.hip + rng.uniform(0.3, 0.45) * open_)
    angle = 0.25 + rng.uniform(2.4, 2.8) * open_
    arm = 0.97 * body.arm
    middle = path(0, shoulders(body, pose)[:, 1] - arm * np.cos(angle), 0.03)
    pose.reach_with_both(middle, body.shoulder + arm * np.sin(angle))
    pose.elbows = along(0, 0, -1)


def squat(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Down on bent knees, arms stretched forward."""
    down = there_and_back(phase)
    pose.spread_feet(rng.uniform(1.5, 2.2) * body.hip)
    pose.pelvis += path(0, -rng.uniform(0.42, 0.52) * body.hip_height / 0.9 * down, -0.25 * down)
    pose.lean = 0.65 * down
    arm = 0.95 * body.arm
    pose.reach_with_both(shoulders(body, pose) + path(0, -arm * (1 - down), arm * down), body.shoulder)


def wave(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """One hand raised, swaying from side to side."""
    pose.tilt = rng.uniform(-0.05, 0.1) * swing(phase)
    sway = rng.uniform(0.18, 0.28) * swing(phase)
    pose.hands[:, LEFT] = shoulders(body, pose) + path(body.shoulder + 0.17 + sway, 0.78 * body.arm, 0.12)


def kick(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """One leg swings from behind high to the front."""
    high = there_and_back(phase)
    angle = -0.5 + rng.uniform(1.9, 2.3) * high
    leg = 0.96 * (body.thigh + body.shin)
    pose.lean = 0.15 - 0.4 * high
    pose.feet[:, RIGHT] = pose.pelvis + path(-body.hip, -leg * np.cos(angle), leg * np.sin(angle))
    pose.reach_with_both(shoulders(body, pose) + path(0, -0.2, 0.3), 0.15)


def bow(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """The torso folds forward over straight legs."""
    down = there_and_back(phase)
    pose.lean = rng.uniform(1.35, 1.75) * down
    pose.pelvis[:, 2] -= 0.2 * down
    pose.reach_with_both(shoulders(body, pose) + path(0, -0.95 * body.arm, 0.04), body.shoulder + 0.04)


def march(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """On the spot, the knees drawn high in turn, arms swinging."""
    height = rng.uniform(0.38, 0.5)
    for side, sign, turn in in_turn(phase):
        up = np.maximum(0, swing(turn))
        pose.feet[:, side] += path(0, height * up, 0.22 * up)
        arm = swing(turn + 0.5)
        hand = path(sign * (body.shoulder + 0.06), -0.75 * body.arm + 0.12 * arm, 0.1 + 0.3 * arm)
        pose.hands[:, side] = shoulders(body, pose) + hand


def lunge(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """A long step forward and down on the front knee, hands on the hips."""
    down = there_and_back(phase)
    step = rng.uniform(0.5, 0.62)
    pose.feet[:, LEFT, 2] += step * (0.4 + 0.6 * down)
    pose.feet[:, RIGHT] += path(0, 0.08 * down, -step * (0.4 + 0.6 * down))
    pose.pelvis[:, 1] -= 0.06 + 0.36 * down
    pose.reach_with_both(pose.pelvis + path(0, 0.08, 0.08), body.shoulder + 0.02)
    pose.elbows = along(0, 0, -1)


def punch(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Fists thrust forward in turn at the height of the shoulders."""
    pose.feet[:, :, 2] += (0.25, -0.2)  # the left one ahead
    pose.pelvis[:, 1] -= rng.uniform(0.06, 0.12)
    pose.twist = -0.5 * swing(phase)
    for side, sign, turn in in_turn(phase):
        out = np.maximum(0, swing(turn))
        ahead = 0.22 + (1.02 * body.arm - 0.12) * out
        pose.hands[:, side] = shoulders(body, pose) + path(sign * 0.14 * (1 - out), -0.08, ahead)
    pose.elbows = along(0, -1, 0)


def push_up(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Straight body over the floor, lowered and raised by the arms."""
    down = there_and_back(phase)
    legs = body.thigh + body.shin + 0.035  # stretched: the hips lie 0.04 below the pelvis
    length = legs + body.torso
    top = 0.96 * body.arm + 0.05
    height = top - rng.uniform(0.6, 0.75) * (top - 0.2) * down
    rise = np.arcsin((height - 0.1) / length)
    start = -length * np.cos(np.arcsin((top - 0.1) / length))
    forward, up = np.cos(rise), np.sin(rise)
    pose.pelvis = path(0, 0.1 + legs * up, start + legs * forward)
    pose.lean = (np.pi / 2 - rise).astype(np.float32)
    pose.nod -= 0.4
    pose.reach_with_both(path(0, 0.06, 0.02), body.shoulder + 0.08)
    pose.feet[:, :, 1], pose.feet[:, :, 2] = 0.11, start
    pose.knees, pose.elbows = along(0, -1, 0), along(0, 0.4, -1)
    pose.travel(path(0, 0, 0.55))


def sit_up(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """On the back with drawn-up knees; the torso rises from the floor to the knees."""
    rise = there_and_back(phase)
    pose.pelvis = path(0, 0.13 * body.girth + 0.03, np.zeros_like(rise))
    pose.lean = -1.45 + rng.uniform(1.5, 1.8) * rise
    pose.nod += 0.2
    pose.feet[:, :, 2] = rng.uniform(0.4, 0.55)
    temples = pose.pelvis + (shoulders(body, pose) - pose.pelvis) * (1 + 0.22 / body.torso)
    pose.reach_with_both(temples, 0.13)
    pose.knees, pose.elbows = along(0, 1, 0), along(0, 0.5, 1)


def some_box(rng: np.random.Generator, low: float, high: float) -> Array:
    """Half sizes (3,) of a box with sides of about 2·low to 2·high metres."""
    return rng.uniform(low, high, size=3).astype(np.float32)


def push_box(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Leaning into a big box that slides over the floor."""
    half = some_box(rng, 0.25, 0.4)
    half[1] = rng.uniform(0.3, 0.5)
    pose.stride(phase, 0.3, 0.12)
    pose.feet[:, :, 2] -= 0.25
    pose.lean += rng.uniform(0.5, 0.75)
    pose.pelvis[:, 1] -= 0.1
    front = shoulders(body, pose)[:, 2] + 0.75 * body.arm
    pose.reach_with_both(path(0, 1.75 * half[1], front), 0.18)
    pose.boxes = [(path(0, half[1], front + half[2]), half)]
    pose.travel(path(0, 0, rng.uniform(0.5, 0.7) * (phase - phase.mean()) - 0.5))


def carry_on_head(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Walking with a box held on the head by both hands."""
    pose.stride(phase, 0.3, 0.12)
    half = some_box(rng, 0.12, 0.2)
    top = shoulders(body, pose) + path(0, 0.16 + 2 * body.head, 0)
    pose.reach_with_both(top + path(0, 0.05, 0), half[0])
    pose.elbows = along(0, -0.3, 0.2)
    pose.boxes = [(top + path(0, half[1], 0), half)]
    pose.travel(path(0, 0, rng.uniform(0.4, 0.6) * (phase - phase.mean())))


def lift_box(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """A box taken from the floor up over the head and put back."""
    up = there_and_back(phase)
    pose.spread_feet(1.8 * body.hip)
    half = some_box(rng, 0.14, 0.24)
    low = np.clip(1 - 1.8 * up, 0, 1)
    pose.pelvis += path(0, -0.33 * low, -0.18 * low)
    pose.lean = 0.95 * low
    top = body.shoulder_height + rng.uniform(0.2, 0.35)
    height = (half[1] + 0.03) * (1 - up) + top * up
    centre = path(0, height, 0.18 + half[2] + 0.12 * np.sin(np.pi * up))
    pose.reach_with_both(centre, half[0] + 0.02)
    pose.boxes = [(centre, half)]


def sit_down(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """From standing down onto a box, and up again."""
    down = np.clip(1.3 * there_and_back(phase), 0, 1)
    half = some_box(rng, 0.2, 0.32)
    half[1] = rng.uniform(0.2, 0.25)
    seat = 2 * half[1] + 0.11 * body.girth
    pose.pelvis += path(0, (seat - body.hip_height) * down, -0.42 * down)
    pose.lean = 0.75 * np.sin(np.pi * down) + 0.05
    pose.reach_with_both(pose.pelvis + path(0, -0.05 + 0.12 * down, 0.1 + 0.3 * down), body.shoulder)
    pose.boxes = [(path(0, half[1], np.full_like(down, -0.42)), half)]


def roll_ball(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Crouching, a ball is rolled away over the floor and comes back."""
    away = there_and_back(phase)
    radius = rng.uniform(0.11, 0.17)
    pose.feet[:, :, 2] += (0.25, -0.3)  # the left one ahead
    pose.pelvis += path(0, -0.47 * body.hip_height / 0.9, -0.1)
    pose.lean = 0.75 + 0.2 * there_and_back(phase + 0.5)
    pose.reach_with_both(path(0, radius + 0.1, 0.5 + 0.25 * np.minimum(1, 3 * away)), radius)
    pose.balls = [(path(0, radius, 0.55 + rng.uniform(1.0, 1.4) * away), radius)]
    pose.travel(path(0, 0, -0.5))


def throw_ball(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """A ball thrown far from behind the head with one arm; the next one follows."""
    radius = rng.uniform(0.07, 0.12)
    pose.feet[:, :, 2] += (0.28, -0.28)  # the left one ahead
    turn, release = phase % 1, 0.5
    wind = np.clip(turn / release, 0, 1)
    after = np.clip((turn - release) / (1 - release), 0, 1)
    angle = -1.9 + 2.6 * wind**2 + 0.9 * np.sin(np.pi * after)
    pose.lean = -0.25 + 0.5 * wind - 0.25 * after
    pose.twist = -0.6 + 1.1 * wind - 0.5 * after
    arm = 0.85 * body.arm
    shoulder = shoulders(body, pose) - path(body.shoulder, 0, 0)
    pose.hands[:, RIGHT] = shoulder + path(-0.05, arm * np.cos(angle), arm * np.sin(angle))
    flight = np.maximum(0, turn - release)
    flying = path(0, 1.6 * flight - 4 * flight**2, rng.uniform(3.5, 5) * flight)
    pose.balls = [(pose.hands[:, RIGHT] + flying + path(0, radius, 0), radius)]


def dribble(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """A ball bounced on the floor by one hand."""
    radius = rng.uniform(0.11, 0.15)
    pose.lean += 0.35
    pose.pelvis += path(0, -0.14, -0.1)
    pose.feet[:, LEFT, 2] += 0.2
    drop = np.abs(np.cos(np.pi * phase))
    top = rng.uniform(0.75, 0.95)
    pose.hands[:, RIGHT] = path(-body.shoulder - 0.08, top + 0.04 - 0.25 * (1 - drop), 0.36)
    pose.balls = [(path(-body.shoulder - 0.08, radius + (top - 2 * radius) * drop, 0.38), radius)]


def swing_bat(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """A bat held in both hands swung level from one side to the other."""
    pose.spread_feet(rng.uniform(0.25, 0.35))
    pose.pelvis[:, 1] -= 0.08
    angle = rng.uniform(1.5, 1.9) * swing(phase)
    pose.twist = 0.6 * angle
    grip = shoulders(body, pose) + path(0.4 * np.sin(angle), -0.2, 0.16 + 0.28 * np.cos(angle))
    pose.reach_with_both(grip, 0.05)
    ahead = path(np.sin(1.15 * angle), 0.12, np.cos(1.15 * angle))
    pose.elbows = along(0, -1, -0.2)
    pose.bars = [(grip - 0.08 * ahead, grip + rng.uniform(0.6, 0.8) * ahead, 0.04)]


def climb_ladder(body: Body, pose: Pose, phase: Array, rng: np.random.Generator) -> None:
    """Up a ladder and down again, hand over hand."""
    gap, ahead = rng.uniform(0.26, 0.32), 0.34
    level = (0.3 + 0.3 * np.sin(0.5 * np.pi * phase)).astype(np.float32)
    pose.pelvis[:, 1] += level
    for side, sign, turn in in_turn(phase):
        away, shift = 0.16 * sign, 0.5 * gap * swing(turn)
        pose.hands[:, side] = shoulders(body, pose) + path(away, 0.28 + 1.2 * shift, ahead)
        pose.feet[:, side] = path(away * 0.8, level + 0.22 - 1.2 * shift, ahead - 0.06)
    pose.lean += 0.05
    still = np.zeros_like(phase)
    pose.bars = [(path(x, still, ahead), path(x, still + 2.6, ahead), 0.03) for x in (-0.24, 0.24)]
    for height in (still + gap * step for step in range(1, 10)):
        pose.bars.append((path(-0.24, height, ahead), path(0.24, height, ahead), 0.02))


ACTIONS: dict[str, Action] = {
    move.__name__: Action(move, facing, cycles)
    for move, facing, cycles in (
        (bow, 80, (1, 1.8)), (carry_on_head, 80, (1.5, 2.5)), (climb_ladder, 140, (2, 3)), (dribble, 50, (2.5, 4)),
        (jumping_jack, 0, (1.5, 2.5)), (kick, 80, (1.2, 2.2)), (lift_box, 60, (1, 1.8)), (lunge, 70, (1, 1.8)),
        (march, 50, (1.5, 2.5)), (punch, 70, (1.5, 3)), (push_box, 85, (1.5, 2.5)), (push_up, 80, (1.2, 2.2)),
        (roll_ball, 75, (1, 1.8)), (sit_down, 70, (1, 1.8)), (sit_up, 80, (1, 1.8)), (squat, 60, (1.2, 2)),
        (swing_bat, 20, (1.2, 2.2)), (throw_ball, 80, (1.2, 2)), (wave, 0, (2, 3.5)),
    )
}  # fmt: skip
