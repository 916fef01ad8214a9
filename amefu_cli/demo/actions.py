"""The table of action classes, what moves how and the side from which it is seen; and those that handle things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from amefu_cli.demo.exercises import bow, jumping_jack, kick, lunge, march, punch, push_up, sit_up, squat, wave
from amefu_cli.demo.figure import (
    LEFT,
    RIGHT,
    Body,
    Motion,
    Move,
    along,
    path,
    reach_with_both,
    shoulders,
    spread_feet,
    standing,
    stride,
    swing,
    there_and_back,
    travel,
)
from amefu_cli.demo.scene import Array


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
"""Base, validation and novel classes of the demonstration; the tiny depth network has seen the others too."""


def some_box(rng: np.random.Generator, low: float, high: float) -> Array:
    """Half sizes (3,) of a box with sides of about 2·low to 2·high metres."""
    return rng.uniform(low, high, size=3).astype(np.float32)


def push_box(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Leaning into a big box that slides over the floor."""
    pose = standing(body, len(phase))
    half = some_box(rng, 0.25, 0.4)
    half[1] = rng.uniform(0.3, 0.5)
    stride(pose, phase, 0.3, 0.12)
    pose.feet[:, :, 2] -= 0.25
    pose.lean += rng.uniform(0.5, 0.75)
    pose.pelvis[:, 1] -= 0.1
    front = shoulders(body, pose)[:, 2] + 0.75 * body.arm
    reach_with_both(pose, path(0, 1.75 * half[1], front), 0.18)
    box = path(0, half[1], front + half[2])
    way = rng.uniform(0.5, 0.7) * (phase - phase.mean())
    return travel(Motion(pose, boxes=[(box, half)]), path(0, 0, way - 0.5))


def carry_on_head(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Walking with a box held on the head by both hands."""
    pose = standing(body, len(phase))
    stride(pose, phase, 0.3, 0.12)
    half = some_box(rng, 0.12, 0.2)
    top = shoulders(body, pose) + path(0, 0.16 + 2 * body.head, 0)
    reach_with_both(pose, top + path(0, 0.05, 0), half[0])
    pose.elbows = along(0, -0.3, 0.2)
    way = rng.uniform(0.4, 0.6) * (phase - phase.mean())
    return travel(Motion(pose, boxes=[(top + path(0, half[1], 0), half)]), path(0, 0, way))


def lift_box(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """A box taken from the floor up over the head and put back."""
    up = there_and_back(phase)
    pose = standing(body, len(phase))
    spread_feet(pose, 1.8 * body.hip)
    half = some_box(rng, 0.14, 0.24)
    low = np.clip(1 - 1.8 * up, 0, 1)
    pose.pelvis += path(0, -0.33 * low, -0.18 * low)
    pose.lean = 0.95 * low
    top = body.shoulder_height + rng.uniform(0.2, 0.35)
    height = (half[1] + 0.03) * (1 - up) + top * up
    centre = path(0, height, 0.18 + half[2] + 0.12 * np.sin(np.pi * up))
    reach_with_both(pose, centre, half[0] + 0.02)
    return Motion(pose, boxes=[(centre, half)])


def sit_down(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """From standing down onto a box, and up again."""
    down = there_and_back(phase)
    down = np.clip(1.3 * down, 0, 1)
    pose = standing(body, len(phase))
    half = some_box(rng, 0.2, 0.32)
    half[1] = rng.uniform(0.2, 0.25)
    seat = 2 * half[1] + 0.11 * body.girth
    pose.pelvis += path(0, (seat - body.hip_height) * down, -0.42 * down)
    pose.lean = 0.75 * np.sin(np.pi * down) + 0.05
    knees = pose.pelvis + path(0, -0.05 + 0.12 * down, 0.1 + 0.3 * down)
    reach_with_both(pose, knees, body.shoulder)
    box = path(0, half[1], np.full_like(down, -0.42))
    return Motion(pose, boxes=[(box, half)])


def roll_ball(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Crouching, a ball is rolled away over the floor and comes back."""
    away = there_and_back(phase)
    pose = standing(body, len(phase))
    radius = rng.uniform(0.11, 0.17)
    pose.feet[:, LEFT, 2] += 0.25
    pose.feet[:, RIGHT, 2] -= 0.3
    pose.pelvis += path(0, -0.47 * body.hip_height / 0.9, np.full_like(away, -0.1))
    pose.lean = 0.75 + 0.2 * there_and_back(phase + 0.5)
    ball = path(0, radius, 0.55 + rng.uniform(1.0, 1.4) * away)
    hand = path(0, radius + 0.1, 0.5 + 0.25 * np.minimum(1, 3 * away))
    reach_with_both(pose, hand, radius)
    return travel(Motion(pose, balls=[(ball, radius)]), path(0, 0, np.full_like(away, -0.5)))


def throw_ball(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """A ball thrown far from behind the head with one arm; the next one follows."""
    pose = standing(body, len(phase))
    radius = rng.uniform(0.07, 0.12)
    pose.feet[:, LEFT, 2] += 0.28
    pose.feet[:, RIGHT, 2] -= 0.28
    turn = phase % 1
    release = 0.5
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
    return Motion(pose, balls=[(pose.hands[:, RIGHT] + flying + path(0, radius, 0), radius)])


def dribble(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """A ball bounced on the floor by one hand."""
    pose = standing(body, len(phase))
    radius = rng.uniform(0.11, 0.15)
    pose.lean += 0.35
    pose.pelvis += path(0, -0.14, np.full_like(phase, -0.1))
    pose.feet[:, LEFT, 2] += 0.2
    drop = np.abs(np.cos(np.pi * phase))
    top = rng.uniform(0.75, 0.95)
    ball = path(-body.shoulder - 0.08, radius + (top - 2 * radius) * drop, 0.38)
    pose.hands[:, RIGHT] = path(-body.shoulder - 0.08, top + 0.04 - 0.25 * (1 - drop), 0.36)
    return Motion(pose, balls=[(ball, radius)])


def swing_bat(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """A bat held in both hands swung level from one side to the other."""
    pose = standing(body, len(phase))
    spread_feet(pose, rng.uniform(0.25, 0.35))
    pose.pelvis[:, 1] -= 0.08
    angle = rng.uniform(1.5, 1.9) * swing(phase)
    pose.twist = 0.6 * angle
    grip = shoulders(body, pose) + path(0.4 * np.sin(angle), -0.2, 0.16 + 0.28 * np.cos(angle))
    reach_with_both(pose, grip, 0.05)
    ahead = path(np.sin(1.15 * angle), 0.12, np.cos(1.15 * angle))
    pose.elbows = along(0, -1, -0.2)
    return Motion(pose, bars=[(grip - 0.08 * ahead, grip + rng.uniform(0.6, 0.8) * ahead, 0.04)])


def climb_ladder(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Up a ladder and down again, hand over hand."""
    pose = standing(body, len(phase))
    gap, ahead = rng.uniform(0.26, 0.32), 0.34
    level = (0.3 + 0.3 * np.sin(0.5 * np.pi * phase)).astype(np.float32)
    pose.pelvis[:, 1] += level
    for side, turn in ((LEFT, phase), (RIGHT, phase + 0.5)):
        away = 0.16 if side == LEFT else -0.16
        shift = 0.5 * gap * swing(turn)
        pose.hands[:, side] = shoulders(body, pose) + path(away, 0.28 + 1.2 * shift, ahead)
        pose.feet[:, side] = path(away * 0.8, level + 0.22 - 1.2 * shift, ahead - 0.06)
    pose.lean += 0.05
    still = np.zeros_like(phase)
    rails = [(path(x, still, ahead), path(x, still + 2.6, ahead), 0.03) for x in (-0.24, 0.24)]
    heights = [still + gap * step for step in range(1, 10)]
    rungs = [(path(-0.24, height, ahead), path(0.24, height, ahead), 0.02) for height in heights]
    return Motion(pose, bars=rails + rungs)


ACTIONS: dict[str, Action] = {
    "bow": Action(bow, 80, (1, 1.8)),
    "carry_on_head": Action(carry_on_head, 80, (1.5, 2.5)),
    "climb_ladder": Action(climb_ladder, 140, (2, 3)),
    "dribble": Action(dribble, 50, (2.5, 4)),
    "jumping_jack": Action(jumping_jack, 0, (1.5, 2.5)),
    "kick": Action(kick, 80, (1.2, 2.2)),
    "lift_box": Action(lift_box, 60, (1, 1.8)),
    "lunge": Action(lunge, 70, (1, 1.8)),
    "march": Action(march, 50, (1.5, 2.5)),
    "punch": Action(punch, 70, (1.5, 3)),
    "push_box": Action(push_box, 85, (1.5, 2.5)),
    "push_up": Action(push_up, 80, (1.2, 2.2)),
    "roll_ball": Action(roll_ball, 75, (1, 1.8)),
    "sit_down": Action(sit_down, 70, (1, 1.8)),
    "sit_up": Action(sit_up, 80, (1, 1.8)),
    "squat": Action(squat, 60, (1.2, 2)),
    "swing_bat": Action(swing_bat, 20, (1.2, 2.2)),
    "throw_ball": Action(throw_ball, 80, (1.2, 2)),
    "wave": Action(wave, 0, (2, 3.5)),
}
