"""The table of action classes: what moves how, and the side from which it is seen."""

from __future__ import annotations

from dataclasses import dataclass

from amefu_cli.method.world import exercises, handling
from amefu_cli.method.world.motion import Move


@dataclass(frozen=True)
class Action:
    """move makes the motion; facing in degrees (0: the camera, 90: aside); cycles (least, most) a clip."""

    move: Move
    facing: float
    cycles: tuple[float, float]


ACTIONS: dict[str, Action] = {
    "bow": Action(exercises.bow, 80, (1, 1.8)),
    "carry_on_head": Action(handling.carry_on_head, 80, (1.5, 2.5)),
    "climb_ladder": Action(handling.climb_ladder, 140, (2, 3)),
    "dribble": Action(handling.dribble, 50, (2.5, 4)),
    "jumping_jack": Action(exercises.jumping_jack, 0, (1.5, 2.5)),
    "kick": Action(exercises.kick, 80, (1.2, 2.2)),
    "lift_box": Action(handling.lift_box, 60, (1, 1.8)),
    "lunge": Action(exercises.lunge, 70, (1, 1.8)),
    "march": Action(exercises.march, 50, (1.5, 2.5)),
    "punch": Action(exercises.punch, 70, (1.5, 3)),
    "push_box": Action(handling.push_box, 85, (1.5, 2.5)),
    "push_up": Action(exercises.push_up, 80, (1.2, 2.2)),
    "roll_ball": Action(handling.roll_ball, 75, (1, 1.8)),
    "sit_down": Action(handling.sit_down, 70, (1, 1.8)),
    "sit_up": Action(exercises.sit_up, 80, (1, 1.8)),
    "squat": Action(exercises.squat, 60, (1.2, 2)),
    "swing_bat": Action(handling.swing_bat, 20, (1.2, 2.2)),
    "throw_ball": Action(handling.throw_ball, 80, (1.2, 2)),
    "wave": Action(exercises.wave, 0, (2, 3.5)),
}

WORLD_SPLIT = {
    "train": ("jumping_jack", "squat", "kick", "bow", "push_box", "throw_ball", "march", "sit_up"),
    "val": ("lunge", "dribble"),
    "test": ("push_up", "lift_box", "wave", "sit_down", "swing_bat"),
}
"""Base, validation and novel classes of the demonstration; the tiny depth network has seen the others too."""
