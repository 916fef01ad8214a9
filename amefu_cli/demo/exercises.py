"""Actions of the body alone."""

from __future__ import annotations

import numpy as np

from amefu_cli.demo.figure import (
    LEFT,
    RIGHT,
    Body,
    Motion,
    along,
    path,
    reach_with_both,
    shoulders,
    spread_feet,
    standing,
    swing,
    there_and_back,
    travel,
)
from amefu_cli.demo.scene import Array


def jumping_jack(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Arms and legs out to the sides and up, then together."""
    open_ = there_and_back(phase)
    pose = standing(body, len(phase))
    hop = 0.1 * np.abs(swing(phase))
    pose.pelvis[:, 1] += hop - 0.12 * open_
    pose.feet[:, :, 1] += hop[:, None]
    spread_feet(pose, body.hip + rng.uniform(0.3, 0.45) * open_)
    angle = 0.25 + rng.uniform(2.4, 2.8) * open_
    arm = 0.97 * body.arm
    middle = path(0, shoulders(body, pose)[:, 1] - arm * np.cos(angle), 0.03)
    reach_with_both(pose, middle, body.shoulder + arm * np.sin(angle))
    pose.elbows = along(0, 0, -1)
    return Motion(pose)


def squat(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Down on bent knees, arms stretched forward."""
    down = there_and_back(phase)
    pose = standing(body, len(phase))
    spread_feet(pose, rng.uniform(1.5, 2.2) * body.hip)
    pose.pelvis += path(0, -rng.uniform(0.42, 0.52) * body.hip_height / 0.9 * down, -0.25 * down)
    pose.lean = 0.65 * down
    arm = 0.95 * body.arm
    reach_with_both(pose, shoulders(body, pose) + path(0, -arm * (1 - down), arm * down), body.shoulder)
    return Motion(pose)


def wave(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """One hand raised, swaying from side to side."""
    pose = standing(body, len(phase))
    pose.tilt = rng.uniform(-0.05, 0.1) * swing(phase)
    sway = rng.uniform(0.18, 0.28) * swing(phase)
    pose.hands[:, LEFT] = shoulders(body, pose) + path(body.shoulder + 0.17 + sway, 0.78 * body.arm, 0.12)
    return Motion(pose)


def kick(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """One leg swings from behind high to the front."""
    pose = standing(body, len(phase))
    high = there_and_back(phase)
    angle = -0.5 + rng.uniform(1.9, 2.3) * high
    leg = 0.96 * (body.thigh + body.shin)
    pose.lean = 0.15 - 0.4 * high
    pose.feet[:, RIGHT] = pose.pelvis + path(-body.hip, -leg * np.cos(angle), leg * np.sin(angle))
    guard = shoulders(body, pose) + path(0, -0.2, 0.3)
    reach_with_both(pose, guard, 0.15)
    return Motion(pose)


def bow(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """The torso folds forward over straight legs."""
    down = there_and_back(phase)
    pose = standing(body, len(phase))
    pose.lean = rng.uniform(1.35, 1.75) * down
    pose.pelvis[:, 2] -= 0.2 * down
    hang = shoulders(body, pose) + path(0, -0.95 * body.arm, 0.04)
    reach_with_both(pose, hang, body.shoulder + 0.04)
    return Motion(pose)


def march(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """On the spot, the knees drawn high in turn, arms swinging."""
    pose = standing(body, len(phase))
    height = rng.uniform(0.38, 0.5)
    for side, turn in ((LEFT, phase), (RIGHT, phase + 0.5)):
        up = np.maximum(0, swing(turn))
        pose.feet[:, side] += path(0, height * up, 0.22 * up)
        arm = swing(turn + 0.5)
        away = (1 if side == LEFT else -1) * (body.shoulder + 0.06)
        hand = path(away, -0.75 * body.arm + 0.12 * arm, 0.1 + 0.3 * arm)
        pose.hands[:, side] = shoulders(body, pose) + hand
    return Motion(pose)


def lunge(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """A long step forward and down on the front knee, hands on the hips."""
    down = there_and_back(phase)
    pose = standing(body, len(phase))
    step = rng.uniform(0.5, 0.62)
    pose.feet[:, LEFT, 2] += step * (0.4 + 0.6 * down)
    pose.feet[:, RIGHT] += path(0, 0.08 * down, -step * (0.4 + 0.6 * down))
    pose.pelvis[:, 1] -= 0.06 + 0.36 * down
    reach_with_both(pose, pose.pelvis + path(0, 0.08, 0.08), body.shoulder + 0.02)
    pose.elbows = along(0, 0, -1)
    return Motion(pose)


def punch(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Fists thrust forward in turn at the height of the shoulders."""
    pose = standing(body, len(phase))
    pose.feet[:, LEFT, 2] += 0.25
    pose.feet[:, RIGHT, 2] -= 0.2
    pose.pelvis[:, 1] -= rng.uniform(0.06, 0.12)
    pose.twist = -0.5 * swing(phase)
    for side, turn in ((LEFT, phase), (RIGHT, phase + 0.5)):
        out = np.maximum(0, swing(turn))
        away = (1 if side == LEFT else -1) * 0.14
        ahead = 0.22 + (1.02 * body.arm - 0.12) * out
        pose.hands[:, side] = shoulders(body, pose) + path(away * (1 - out), -0.08, ahead)
    pose.elbows = along(0, -1, 0)
    return Motion(pose)


def push_up(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """Straight body over the floor, lowered and raised by the arms."""
    down = there_and_back(phase)
    pose = standing(body, len(phase))
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
    reach_with_both(pose, path(0, 0.06, np.full_like(rise, 0.02)), body.shoulder + 0.08)
    pose.feet[:, :, 1], pose.feet[:, :, 2] = 0.11, start
    pose.knees, pose.elbows = along(0, -1, 0), along(0, 0.4, -1)
    return travel(Motion(pose), path(0, 0, np.full_like(rise, 0.55)))


def sit_up(body: Body, phase: Array, rng: np.random.Generator) -> Motion:
    """On the back with drawn-up knees; the torso rises from the floor to the knees."""
    rise = there_and_back(phase)
    pose = standing(body, len(phase))
    pose.pelvis = path(0, 0.13 * body.girth + 0.03, np.zeros_like(rise))
    pose.lean = -1.45 + rng.uniform(1.5, 1.8) * rise
    pose.nod += 0.2
    pose.feet[:, :, 2] = rng.uniform(0.4, 0.55)
    temples = pose.pelvis + (shoulders(body, pose) - pose.pelvis) * (1 + 0.22 / body.torso)
    reach_with_both(pose, temples, 0.13)
    pose.knees, pose.elbows = along(0, 1, 0), along(0, 0.5, 1)
    return Motion(pose)
