"""`tarn`: Temporal Attentive Relation Network ("TRAN" in Table 1 of AMeFu-Net).

M. Bishay, G. Zoumpourlis, I. Patras, "TARN: Temporal Attentive Relation Network for Few-Shot and Zero-Shot Action
Recognition", BMVC 2019, arXiv:1907.09021, §3. There is no official code; numbers follow the unofficial Seleucia/TARN,
but for the axis of the softmax.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.method.heads.base import PairHead
from amefu_cli.method.heads.training import Training

SMALLEST_PRODUCT = 1e-6  # of two norms in the cosine
PAIRS_AT_ONCE = 256  # whose gates lie in the processor's cache from one step of the GRU to the next

Comparison = Literal["mult", "subt", "euccos"]
SoftmaxAxis = Literal["support", "query"]


class TARN(PairHead):
    """The support's frames are mixed to resemble each of the query's, and a GRU reads how the two compare.

    e = a bidirectional GRU of the frames. h_t = sum_s A[s, t] e^S_s for a query's frame t, with A the softmax of
    (Wa e^S_s + ba) . e^Q_t. `comparison`: mult e^Q_t * h_t, subt e^Q_t - h_t, euccos [cosine, distance]. The score
    of a query and a support video is sigmoid(linear(last state of a GRU over t)); a class's, the mean over shots.

    `softmax_over` the support's frames makes h_t a mixture, as in compare-aggregate, which the paper follows; the
    unofficial code has it over the query's. (Over the support's, ba shifts all scores of a t alike and has no effect.)
    """

    training_defaults: ClassVar[Training] = Training(
        "the paper's optimizer and rate; queries and tasks a step are this project's",
        optimizer="adam",
        rate=1e-4,
        weight_decay=5e-4,
        queries=5,
        accumulation=4,
    )

    def __init__(
        self,
        dim: int,
        *,
        comparison: Comparison = "mult",
        softmax_over: SoftmaxAxis = "support",
        width: int = 256,
        relation_width: int = 256,
    ) -> None:
        super().__init__(dim)
        self.comparison, self.softmax_over = comparison, softmax_over
        self.frames = nn.GRU(dim, width, batch_first=True, bidirectional=True)
        self.align = nn.Linear(2 * width, 2 * width)
        self.compare = nn.GRU(2 if comparison == "euccos" else 2 * width, relation_width)
        self.score = nn.Linear(relation_width, 1)
        nn.init.ones_(self.align.bias)

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to e and Wa e + ba side by side: (videos, frames, 4 * width)."""
        encoded = self.frames(frames)[0]
        return torch.cat((encoded, self.align(encoded)), -1)

    def pair_scores(self, query: Tensor, support: Tensor) -> Tensor:
        few = zip(torch.split(query, PAIRS_AT_ONCE), torch.split(support, PAIRS_AT_ONCE), strict=True)
        return torch.cat([self.relation_logits(*pairs) for pairs in few]).sigmoid()

    def loss(self, support: Tensor, query: Tensor, targets: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Binary cross entropy of every pair's score against whether the two are of one class."""
        way, shot, queries = *support.shape[1:3], query.shape[1]
        of_query = query[:, :, None].expand(-1, -1, way * shot, -1, -1).flatten(0, 2)
        of_support = support.flatten(1, 2)[:, None].expand(-1, queries, -1, -1, -1).flatten(0, 2)
        relations = self.relation_logits(of_query, of_support).view(*query.shape[:2], way, shot)
        same = functional.one_hot(targets, way).unsqueeze(-1).expand_as(relations).to(relations)
        return functional.binary_cross_entropy_with_logits(relations, same), self.combine(relations.sigmoid())

    def relation_logits(self, query: Tensor, support: Tensor) -> Tensor:
        """The scores (pairs,) before the sigmoid, of states (pairs, frames, 4 * width)."""
        width = query.shape[-1] // 2
        encoded, of_support, keys = query[..., :width], support[..., :width], support[..., width:]
        scores = encoded @ keys.mT  # (pairs, query frames, support frames)
        aligned = scores.softmax(-1 if self.softmax_over == "support" else -2) @ of_support
        compared = self._compared(encoded, aligned).transpose(0, 1)  # (query frames, pairs, features)
        score: Tensor = self.score(last_state(self.compare, compared))
        return score.squeeze(-1)

    def _compared(self, query: Tensor, aligned: Tensor) -> Tensor:
        if self.comparison == "mult":
            return query * aligned
        if self.comparison == "subt":
            return query - aligned
        norms = (query.norm(dim=-1) * aligned.norm(dim=-1)).clamp_min(SMALLEST_PRODUCT)
        return torch.stack(((query * aligned).sum(-1) / norms, (query - aligned).norm(dim=-1)), -1)


def last_state(gru: nn.GRU, steps: Tensor) -> Tensor:
    """The state (batch, width) of a one-layer GRU after `steps` (time, batch, features)."""
    state: Tensor = gru(steps)[1]
    return state[0]
