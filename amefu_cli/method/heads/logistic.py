"""Logistic regression of every episode, many at a time: the linear probe of AMeFu-Net's public code (arXiv:2010.09982).

It minimises C * sum_n CE(W x_n + b, y_n) + |W|^2 / 2, b not penalised, as scikit-learn's LogisticRegression does, over
mean frames of length 1. The solution is W = A^T X with coefficients A (supports, way), so dot products of the supports
are all that is needed. Newton's steps are solved by conjugate gradients, whose preconditioner is the Hessian at equal
probabilities: there the classes decouple into one small matrix per episode.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import GramHead
from amefu_cli.method.heads.distances import SHORTEST

NEWTON_STEPS = 30
HALVINGS = 20
INNER_STEPS = 200


@dataclass(frozen=True)
class _Problem:
    """Episodes' fits, all float64: gram (episodes, n, n), one-hot labels (n, way), and C."""

    gram: Tensor
    labels: Tensor
    penalty: float

    def extended(self, point: Tensor) -> Tensor:
        """Point (episodes, n + 1, way), coefficients with the bias last, to [gram A; b], for dots with points."""
        return torch.cat((self.gram @ point[:, :-1], point[:, -1:]), 1)

    def objective(self, extended: Tensor, point: Tensor) -> Tensor:
        """(episodes,) of a point and of what `extended` makes of it."""
        logits = extended[:, :-1] + point[:, -1:]
        losses = (logits.logsumexp(-1) - (logits * self.labels).sum(-1)).sum(-1)
        return self.penalty * losses + _dot(point[:, :-1], extended[:, :-1]) / 2

    def gradient(self, extended: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (episodes, n + 1, way), in coefficients, and the probabilities (episodes, n, way)."""
        probability = (extended[:, :-1] + point[:, -1:]).softmax(-1)
        error = self.penalty * (probability - self.labels)
        return torch.cat((point[:, :-1] + error, error.sum(1, keepdim=True)), 1), probability

    def curvature(self, extended: Tensor, point: Tensor, probability: Tensor) -> Tensor:
        """The Hessian times a point, (episodes, n + 1, way)."""
        weighted = probability * (extended[:, :-1] + point[:, -1:])
        change = self.penalty * (weighted - probability * weighted.sum(-1, keepdim=True))
        return torch.cat((point[:, :-1] + change, change.sum(1, keepdim=True)), 1)

    def preconditioner(self) -> Tensor:
        """The inverse (episodes, n + 1, n + 1) of the Hessian where all classes are equally likely."""
        count, scale = self.gram.shape[-1], self.penalty / self.labels.shape[1]
        matrix = scale * functional.pad(self.gram, (0, 1, 0, 1), value=1.0)
        matrix[:, -1, :-1] = matrix[:, :-1, :-1].sum(1)
        matrix[:, -1, -1] = scale * count
        matrix[:, :-1, :-1] += torch.eye(count, dtype=matrix.dtype, device=matrix.device)
        inverse: Tensor = torch.linalg.inv(matrix)
        return inverse


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((1, 2))


def fit_logistic(gram: Tensor, labels: Tensor, *, penalty: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Coefficients A (episodes, n, way) and biases (episodes, way), both float64.

    `gram` (episodes, n, n) of the supports, `labels` (n,) int64 from 0. `tolerance` bounds the length of the gradient
    with respect to W and b. The rows of A and the biases sum to 0 over the classes.
    """
    hot = functional.one_hot(labels).to(torch.float64)
    problem = _Problem(gram.double(), hot, penalty)
    inverse = problem.preconditioner()
    point = gram.new_zeros(len(gram), len(hot) + 1, hot.shape[1], dtype=torch.float64)
    extended = torch.zeros_like(point)
    for _ in range(NEWTON_STEPS):
        gradient, probability = problem.gradient(extended, point)
        if _dot(gradient, problem.extended(gradient)).max() < tolerance**2:
            break
        step = _newton_step(problem, inverse, gradient, probability)
        point, extended = _descend(problem, point, extended, step)
    return point[:, :-1], point[:, -1]


def _newton_step(problem: _Problem, inverse: Tensor, gradient: Tensor, probability: Tensor) -> Tensor:
    """Minus the Hessian's inverse times the gradient, to a hundredth, by preconditioned conjugate gradients."""
    residual = -gradient
    step = torch.zeros_like(residual)
    preconditioned = inverse @ residual
    across = problem.extended(preconditioned)
    direction, along = preconditioned, across
    energy = _dot(residual, across)
    enough = energy * 1e-4
    for _ in range(INNER_STEPS):
        curved = problem.curvature(along, direction, probability)
        rate = energy / _dot(along, curved).clamp_min(torch.finfo(torch.float64).tiny)
        step = step + rate[:, None, None] * direction
        residual = residual - rate[:, None, None] * curved
        preconditioned = inverse @ residual
        across = problem.extended(preconditioned)
        previous, energy = energy, _dot(residual, across)
        if (energy <= enough).all():
            break
        ratio = (energy / previous.clamp_min(torch.finfo(torch.float64).tiny))[:, None, None]
        direction, along = preconditioned + ratio * direction, across + ratio * along
    return step


def _descend(problem: _Problem, point: Tensor, extended: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """The point after the step, which is halved in the episodes where the objective would rise."""
    change = problem.extended(step)
    now = problem.objective(extended, point)
    rate = torch.ones_like(now)[:, None, None]
    for _ in range(HALVINGS):
        there = problem.objective(extended + rate * change, point + rate * step)
        rises = there > now + 1e-12 * now.abs()  # at the minimum, rounding is all that is left
        if not rises.any():
            break
        rate = torch.where(rises[:, None, None], rate / 2, rate)
    return point + rate * step, extended + rate * change


class Logistic(GramHead):
    """W x + b, fitted to the episode's supports. `penalty` is scikit-learn's C. State: the mean frame at length 1."""

    def __init__(self, dim: int, *, penalty: float = 1.0, tolerance: float = 1e-8) -> None:
        super().__init__(dim)
        self.penalty, self.tolerance = penalty, tolerance

    def embed(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to (videos, dim)."""
        return functional.normalize(frames.mean(1), dim=-1, eps=SHORTEST)

    def solve(self, gram: Tensor, cross: Tensor, query_square: Tensor, way: int) -> Tensor:
        labels = torch.arange(way, device=gram.device).repeat_interleave(gram.shape[-1] // way)
        coefficients, bias = fit_logistic(gram, labels, penalty=self.penalty, tolerance=self.tolerance)
        logits = cross.double() @ coefficients + bias.unsqueeze(1)
        return logits.to(cross.dtype)
