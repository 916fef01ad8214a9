"""A linear or cosine layer trained on every episode's supports by stochastic gradient descent, from a seeded start.

Chen, Liu, Kira, Wang, Huang, "A closer look at few-shot classification", ICLR 2019, arXiv:1904.04232 (Baseline,
Baseline++); Zhu, Wang, Guo, Wu, "A closer look at few-shot video classification: a new baseline and benchmark", 2021,
arXiv:2110.12358 (Baseline Plus, which is not Baseline++).

Every gradient is a sum of supports, so a layer is followed by its values on the supports and the queries: a step adds
rows of the Gram matrix to them, and no weight is ever written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import SeededHead
from amefu_cli.method.heads.distances import SHORTEST

EPOCHS = 100
BATCH = 4
RATE = 0.01
MOMENTUM = 0.9  # and as much dampening
DECAY = 1e-3
COSINE_SCALE = 2.0
NORM_FLOOR = 1e-5  # added to the length of what Baseline++ scores


@dataclass(frozen=True)
class Start:
    """What an episode's training starts from: drawn, or given by a test.

    weight (episodes, way, dim), bias (episodes, way), and the order (episodes, epochs, supports) int64 in which every
    epoch goes through the supports.
    """

    weight: Tensor
    bias: Tensor
    order: Tensor


def draw_start(numbers: Tensor, *, seed: int, way: int, dim: int, supports: int, like: Tensor) -> Start:
    """A start for the episodes of these numbers (episodes,), whatever their chunk.

    The weights are uniform within 1 / sqrt(dim), as PyTorch starts a linear layer.
    """
    bound = dim**-0.5
    weights, biases, orders = [], [], []
    for number in numbers.tolist():
        rng = np.random.default_rng([seed, number])
        weights.append(rng.random((way, dim), dtype=np.float32))
        biases.append(rng.random(way, dtype=np.float32))
        orders.append(rng.random((EPOCHS, supports), dtype=np.float32).argsort(1))
    weight, bias = (torch.from_numpy(np.stack(x)).to(like) * (2 * bound) - bound for x in (weights, biases))
    return Start(weight, bias, torch.from_numpy(np.stack(orders)).to(like.device))


class _Descent:
    """PyTorch's SGD with momentum, dampening and weight decay, on parameters that are tensors of any shape."""

    def __init__(self, *values: Tensor) -> None:
        self.values = list(values)
        self.momenta: list[Tensor] = []

    def step(self, *gradients: Tensor) -> None:
        decayed = [gradient.add(value, alpha=DECAY) for gradient, value in zip(gradients, self.values, strict=True)]
        if self.momenta:
            pairs = zip(self.momenta, decayed, strict=True)
            self.momenta = [m.mul(MOMENTUM).add_(gradient, alpha=1 - MOMENTUM) for m, gradient in pairs]
        else:
            self.momenta = decayed  # PyTorch does not dampen the first
        self.values = [value.sub(m, alpha=RATE) for value, m in zip(self.values, self.momenta, strict=True)]


def _batches(order: Tensor, way: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Supports (episodes, batch) and their one-hot classes (episodes, batch, way), step by step."""
    shot = order.shape[-1] // way
    for epoch in order.unbind(1):
        for first in range(0, epoch.shape[1], BATCH):
            batch = epoch[:, first : first + BATCH]
            yield batch, functional.one_hot(batch // shot, way)


def _rows(matrix: Tensor, batch: Tensor) -> Tensor:
    """Rows (episodes, batch, columns) of a matrix (episodes, n, columns)."""
    return matrix.gather(1, batch.unsqueeze(-1).expand(-1, -1, matrix.shape[-1]))


def linear_scores(support: Tensor, query: Tensor, start: Start) -> Tensor:
    """Scores (episodes, queries, way) of a linear layer trained on supports (episodes, n, dim), class by class."""
    count, way = support.shape[1], start.weight.shape[1]
    points = torch.cat((support, query), 1)
    gram = support @ points.mT  # (episodes, n, n + queries)
    descent = _Descent(points @ start.weight.mT, start.bias.unsqueeze(1))  # values without the bias; the bias
    for batch, hot in _batches(start.order, way):
        values, bias = descent.values
        error = ((_rows(values, batch) + bias).softmax(-1) - hot) / batch.shape[1]
        descent.step(_rows(gram, batch).mT @ error, error.sum(1, keepdim=True))
    values, bias = descent.values
    return values[:, count:] + bias


class _CosineLayer:
    """Scores scale * g_c * (v_c . x) / |v_c|, with v followed by its values and by three dot products.

    Those are of v and of its momentum u (which is a vector like v): v . v, v . u and u . u, all (episodes, way).
    """

    def __init__(self, values: Tensor, square: Tensor, gram: Tensor) -> None:
        self.gram = gram
        self.length = square.sqrt()
        self.scale = _Descent(self.length.unsqueeze(1))
        self.values, self.square = values, square
        self.momentum: Tensor | None = None
        self.cross = self.momentum_square = torch.zeros_like(square)

    def scores(self, values: Tensor) -> Tensor:
        return COSINE_SCALE * self.scale.values[0] * values / self.length.unsqueeze(1)

    def step(self, batch: Tensor, hot: Tensor) -> None:
        rows, of_batch = _rows(self.gram, batch), _rows(self.values, batch)
        error = (self.scores(of_batch).softmax(-1) - hot) / batch.shape[1]
        to_scale = COSINE_SCALE * (error * of_batch).sum(1) / self.length  # the gradient of g, (episodes, way)
        weight = COSINE_SCALE * error * self.scale.values[0] / self.length.unsqueeze(1)
        shrink = DECAY - self.scale.values[0].squeeze(1) * to_scale / self.square
        self._move(rows, batch, weight, shrink)
        self.scale.step(to_scale.unsqueeze(1))
        self.length = self.square.sqrt()

    def _move(self, rows: Tensor, batch: Tensor, weight: Tensor, shrink: Tensor) -> None:
        """The gradient of v_c is h = sum_b weight[b, c] x_b + shrink[c] v_c; then as `_Descent` does it."""
        of_batch = _rows(self.values, batch)
        block = rows.gather(2, batch.unsqueeze(1).expand(-1, batch.shape[1], -1))
        along = (weight * of_batch).sum(1)  # sum_b weight x_b . v
        to_values = along + shrink * self.square  # h . v
        square = (weight * (block @ weight)).sum(1) + shrink * (2 * along + shrink * self.square)  # h . h
        gradient = rows.mT @ weight + shrink.unsqueeze(1) * self.values
        if self.momentum is None:
            self.momentum, self.cross, self.momentum_square = gradient, to_values, square
        else:
            to_momentum = (weight * _rows(self.momentum, batch)).sum(1) + shrink * self.cross  # h . u
            new = 1 - MOMENTUM
            self.momentum = MOMENTUM * self.momentum + new * gradient
            self.cross = MOMENTUM * self.cross + new * to_values
            squares = MOMENTUM**2 * self.momentum_square + new**2 * square
            self.momentum_square = squares + 2 * MOMENTUM * new * to_momentum
        self.values = self.values - RATE * self.momentum
        self.square = self.square - 2 * RATE * self.cross + RATE**2 * self.momentum_square
        self.cross = self.cross - RATE * self.momentum_square


def cosine_scores(support: Tensor, query: Tensor, start: Start) -> Tensor:
    """As `linear_scores`, of a layer of cosines with a learned length per class (weight normalisation) and no bias."""
    count, way = support.shape[1], start.weight.shape[1]
    points = torch.cat((support, query), 1)
    points = points / (points.norm(dim=-1, keepdim=True) + NORM_FLOOR)
    square = start.weight.square().sum(-1)
    layer = _CosineLayer(points @ start.weight.mT, square, points[:, :count] @ points.mT)
    for batch, hot in _batches(start.order, way):
        layer.step(batch, hot)
    return layer.scores(layer.values[:, count:])


class Baseline(SeededHead):
    """Baseline: a linear layer on mean frames, which are not scaled to length 1. State: the mean frame."""

    def __init__(self, dim: int, *, seed: int = 0) -> None:
        super().__init__(dim)
        self.seed = seed

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        return frames.mean(1)

    def logits(self, support: Tensor, query: Tensor, numbers: Tensor | None = None) -> Tensor:
        start = self.start(support, torch.arange(len(support)) if numbers is None else numbers)
        return self.scores(support.flatten(1, 2), query, start)

    def start(self, support: Tensor, numbers: Tensor) -> Start:
        """What the episodes (episodes, way, shot, dim) of these numbers (episodes,) start from."""
        way, shot = support.shape[1:3]
        return draw_start(numbers, seed=self.seed, way=way, dim=self.dim, supports=way * shot, like=support)

    def scores(self, support: Tensor, query: Tensor, start: Start) -> Tensor:
        """Scores (episodes, queries, way) of supports (episodes, n, dim) and queries (episodes, queries, dim)."""
        return linear_scores(support, query, start)


class BaselinePlusPlus(Baseline):
    """Baseline++: a layer of scaled cosines instead."""

    def scores(self, support: Tensor, query: Tensor, start: Start) -> Tensor:
        return cosine_scores(support, query, start)


class BaselinePlus(Baseline):
    """Baseline Plus of FSL-Video: a linear layer that starts at the class means, rectified and scaled to length 1.

    As in the public code, supports are rectified and scaled for training but queries are scored as they are.
    """

    def start(self, support: Tensor, numbers: Tensor) -> Start:
        drawn = super().start(support, numbers)
        return Start(_rectified(support.mean(2)), torch.zeros_like(drawn.bias), drawn.order)

    def scores(self, support: Tensor, query: Tensor, start: Start) -> Tensor:
        return linear_scores(_rectified(support), query, start)


def _rectified(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors.relu(), dim=-1, eps=SHORTEST)
