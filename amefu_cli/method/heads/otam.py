"""OTAM: Cao, Ji, Cao, Chang, Niebles, "Few-shot video classification via temporal alignment", CVPR 2020.

arXiv:1906.11415. Its authors published no code; the soft alignment is that of tobyperrett/few-shot-action-recognition,
the hard one that of MCG-NJU/FSL-Video (arXiv:2110.12358). On frozen features the metric is exact and nothing learns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from amefu_cli.method.heads.frame_metric import FrameMetric


def alignment_cost(distance: Tensor, smoothing: float) -> Tensor:
    """The soft least cost (*pairs,) of matching every column, in order, to one row: distance (rows, columns, *pairs).

    From one column to the next the row stays or goes up by one; the first and the last row are free. `smoothing` is
    the paper's lambda; 0 is the hard minimum. The published recursion counts two equal predecessors at every row's
    start, a bias of -lambda * log 2 there, which is kept.
    """
    return _hard_cost(distance) if smoothing == 0 else -smoothing * _log_weight(distance / -smoothing)


def _log_weight(gain: Tensor) -> Tensor:
    """log of the summed exp(path) of the recursion, gain (rows, columns, *pairs) = -distance / lambda."""
    columns, start = gain.shape[1], math.log(2)
    row = list(gain[0].cumsum(0))
    end: Tensor = row[-1]
    for gains in gain[1:]:
        first = gains[0] + torch.logaddexp(row[0], row[0].new_tensor(start))  # C[l-1, 0] = C[l, 0] = 0
        above, row = row, [first]
        for column in range(1, columns):
            row.append(gains[column] + torch.logaddexp(above[column - 1], row[-1]))
        end = torch.logaddexp(torch.logaddexp(above[-1], end), row[-1])
    return end


def _hard_cost(distance: Tensor) -> Tensor:
    columns = distance.shape[1]
    row = list(distance[0].cumsum(0))
    end: Tensor = row[-1]
    for costs in distance[1:]:
        above, row = row, [costs[0] + row[0].clamp_max(0)]
        for column in range(1, columns):
            row.append(costs[column] + torch.minimum(above[column - 1], row[-1]))
        end = torch.minimum(torch.minimum(above[-1], end), row[-1])
    return end


class OTAM(FrameMetric):
    """Minus the soft alignment costs of both directions, averaged over the shots. `smoothing` is the paper's lambda."""

    def __init__(
        self, dim: int, *, smoothing: float = 0.1, epsilon: float = 0.0, tuple_n: int = 1, width: int = 0
    ) -> None:
        super().__init__(dim, epsilon=epsilon, tuple_n=tuple_n, width=width)
        self.smoothing = smoothing

    def reduce(self, cosines: Tensor) -> Tensor:
        distance = 1 - cosines
        return -alignment_cost(distance, self.smoothing) - alignment_cost(distance.transpose(0, 1), self.smoothing)


class HardOTAM(FrameMetric):
    """The cosines along the best path, summed, of both directions; averaged over the shots (FSL-Video).

    Its cosine is PyTorch's, which differs from the one here only for frames shorter than 1e-4.
    """

    def reduce(self, cosines: Tensor) -> Tensor:
        distance = 1 - cosines
        steps = sum(cosines.shape[:2])
        return steps - alignment_cost(distance, 0) - alignment_cost(distance.transpose(0, 1), 0)
