"""The bi-directional mean Hausdorff metric of HyRSM, without its learned relations.

Wang, Zhang, Qing, Tang, Zuo, Gao, Jin, Sang, "Hybrid relation guided set matching for few-shot action recognition",
CVPR 2022, arXiv:2204.13423, section 3.3. As in the public code (alibaba-mmai-research/HyRSM) the sums are not divided
by the number of frames, as they are in the paper.
"""

from __future__ import annotations

from torch import Tensor

from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.distances import SHORTEST
from amefu_cli.method.heads.frame_metric import FrameMetric


def hausdorff_score(cosines: Tensor) -> Tensor:
    """Scores (*pairs,) of cosines c (query frames, support frames, *pairs).

    Minus the distance sum_i min_j (1 - c_ij) + sum_j min_i (1 - c_ij).
    """
    return cosines.amax(1).sum(0) + cosines.amax(0).sum(0) - sum(cosines.shape[:2])


class BiMHM(Head):
    """A class's frame j is the mean of its shots' frames j: the public code's head for 2 to 5 shots.

    The frames are averaged before they are scaled to length 1. With one shot this is `BiMHMPerShot`. State: the frames.
    """

    averages_shots = True

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        units = support.mean(2)  # (episodes, way, frames, dim)
        cosines = query.flatten(1, 2) @ units.flatten(1, 2).mT
        lengths = [x.norm(dim=-1).clamp_min(SHORTEST) for x in (query, units)]
        cosines = cosines.view(*query.shape[:3], *units.shape[1:3])  # (episodes, queries, frames, way, frames)
        cosines = cosines / lengths[0][..., None, None] / lengths[1][:, None, None]
        return hausdorff_score(cosines.permute(2, 4, 0, 1, 3))


class BiMHMPerShot(FrameMetric):
    """A class's distance is the mean over its shots: the public code's head for 1 shot."""

    def reduce(self, cosines: Tensor) -> Tensor:
        return hausdorff_score(cosines)
