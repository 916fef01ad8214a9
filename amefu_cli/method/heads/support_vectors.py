"""A support vector machine fitted to every episode, as in AMeFu-Net's public code (arXiv:2010.09982).

Chang, Lin, "LIBSVM: a library for support vector machines", ACM TIST 2011, through scikit-learn.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from sklearn.svm import SVC  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import Head
from amefu_cli.method.heads.distances import SHORTEST


class SupportVectors(Head):
    """scikit-learn's SVC of the episode's supports: its decision function for one class against the rest.

    The public code's kernel is `rbf`, exp(-g |x - y|^2) with g = 1 / (dim *
    variance of all numbers of the supports). State: the mean frame at length 1.
    """

    def __init__(self, dim: int, *, kernel: Literal["rbf", "linear"] = "rbf", penalty: float = 10.0) -> None:
        super().__init__(dim)
        self.kernel, self.penalty = kernel, penalty

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        return functional.normalize(frames.mean(1), dim=-1, eps=SHORTEST)

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        flat = support.flatten(1, 2).double()
        gram, cross = self._kernels(flat, query.double())
        labels = np.arange(support.shape[1]).repeat(support.shape[2])
        fit = SVC(C=self.penalty, kernel="precomputed", decision_function_shape="ovr")
        decisions = [
            fit.fit(trained, labels).decision_function(asked)
            for trained, asked in zip(gram.cpu().numpy(), cross.cpu().numpy(), strict=True)
        ]
        scores = torch.from_numpy(np.stack(decisions)).to(query)
        # of two classes scikit-learn gives one number, positive for the second
        return torch.stack((-scores, scores), -1) if support.shape[1] == 2 else scores

    def _kernels(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """(episodes, n, n) and (episodes, queries, n) of supports (episodes, n, dim) and queries."""
        if self.kernel == "linear":
            return support @ support.mT, query @ support.mT
        variance = support.var((1, 2), correction=0)
        gamma = torch.where(variance > 0, 1 / (self.dim * variance), 1.0)  # 1 is scikit-learn's where all are equal
        gram, cross = (torch.cdist(x, support).square().mul(-gamma[:, None, None]).exp() for x in (support, query))
        return gram, cross
