"""features.zarr of examples and of clips -> a label for each clip (method/prediction.py has the maths)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.method import prediction
from amefu_cli.method.heads import HEADS
from amefu_cli.method.heads.base import Head
from amefu_cli.method.prediction import HeldOut, Rejection, Scores
from amefu_cli.method.sampling import Window, clip_by_rule
from amefu_cli.settings import ClipSettings
from amefu_cli.stages.scoring import embedded

AT_ONCE = 64  # clips that are scored together


@dataclass(frozen=True)
class Labeller:
    """What has seen the examples: a head, their states by class, how they fare when they are held out, and what scores
    are multiplied by to be probabilities; `calibrated` where held-out examples told it."""

    head: str
    scorer: Head
    examples: Sequence[torch.Tensor]
    found: HeldOut
    factor: float
    device: torch.device

    @property
    def calibrated(self) -> bool:
        return len(self.found.inside) > 0

    def mistaken(self) -> list[tuple[int, int, int]]:
        """Class, number in it, and the class that it is nearer to, of each held-out example that is of another one."""
        nearest = self.found.inside.argmax(1)
        wrong = np.flatnonzero(nearest != self.found.own)
        return sorted((int(self.found.own[i]), int(self.found.place[i]), int(nearest[i])) for i in wrong)

    def rejection(self, threshold: float | None) -> Rejection:
        """As `measure_rejection`. Raises ValueError where the examples do not tell a threshold that is not given."""
        return prediction.measure_rejection(self.found, self.factor, threshold)

    @torch.inference_mode()
    def probabilities(self, vectors: NDArray[np.float32]) -> Scores:
        """Probabilities (clips, way) of clips by what `model_vectors` gives of them."""
        states = _states(self.head, self.scorer, vectors, self.device)
        scores = [
            prediction.class_scores(self.scorer, self.examples, states[begin : begin + AT_ONCE])
            for begin in range(0, len(states), AT_ONCE)
        ]
        return prediction.probabilities(torch.cat(scores).cpu().double().numpy(), self.factor)


def windows_in(
    table: FeatureTable, windows: Sequence[Sequence[Window]], test_frames: str, clip: ClipSettings
) -> FeatureTable:
    """A table of which each video is a window, of a table of the videos, or parts, that have the windows: of each the
    frames that testing reads."""
    size, each = vars(clip), [(video, window) for video, of in enumerate(windows) for window in of]
    frames = [np.unique(clip_by_rule(test_frames, window.frames, **size)) for _, window in each]
    rows = np.concatenate(
        [table.rows(video, window.begin + read) for (video, window), read in zip(each, frames, strict=True)]
    )
    return replace(
        table, ids=tuple(f"{table.ids[video]} {window.begin}" for video, window in each),
        labels=table.labels[[video for video, _ in each]], frame=np.concatenate(frames),
        frames=np.array([window.frames for _, window in each], np.int64),
        start=np.cumsum([0, *map(len, frames)]).astype(np.int64),
        streams={name: stream[:, rows] for name, stream in table.streams.items()},
    )  # fmt: skip


@torch.inference_mode()
def learn_examples(
    head: str, scorer: Head, vectors: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device
) -> Labeller:
    """A labeller of the examples' vectors, or frames, of one row of HEADS; `labels` (videos,) int64 are 0, 1, …, way -
    1."""
    states = _states(head, scorer, vectors, device)
    examples = [states[torch.from_numpy(np.flatnonzero(labels == way)).to(device)] for way in range(labels.max() + 1)]
    found = prediction.held_out(scorer, examples)
    return Labeller(head, scorer, examples, found, prediction.fit_factor(found), device)


def _states(head: str, scorer: Head, vectors: NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """What the head scores: of prototypes the models' own vectors, as `amefu evaluate` has them."""
    if HEADS[head].classifier:
        return torch.from_numpy(vectors).to(device)
    return embedded(scorer, vectors, device)
