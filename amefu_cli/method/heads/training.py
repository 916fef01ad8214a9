"""How a learned head is trained when nothing else is said: its paper's values, or what suits a head alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Training:
    """Defaults of a head's training. A step is `accumulation` episodes, whose mean loss it lowers.

    `why` says where the values come from; most papers' rates are for a backbone that learns as well.
    """

    why: str
    optimizer: Literal["sgd", "adam"] = "sgd"
    rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    queries: int = 5  # of each class
    accumulation: int = 16
