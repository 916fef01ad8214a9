"""Logistic regression of every episode, many at a time: the linear probe of AMeFu-Net's public code (arXiv:2010.09982).

It minimises C * sum_n CE(W x_n + b, y_n) + |W|^2 / 2, b not penalised, as scikit-learn's LogisticRegression does, over
mean frames of length 1. The solution is W = A^T X with coefficients A (supports, way), so dot products of the supports
are all that is needed. Newton's steps are solved by conjugate gradients, whose preconditioner is the Hessian at equal
probabilities: there the classes decouple, and in the supports' principal axes so does all but the bias.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import GramHead
from amefu_cli.method.heads.distances import SHORTEST

NEWTON_STEPS = 50
HALVINGS = 20
INNER_STEPS = 200
FORCING = 0.01  # how far, of its first length, a Newton step's residual is brought down


class _Problem:
    """Episodes' fits, all float64: a point is (episodes, n + 1, way), weights in n principal axes and then the bias."""

    def __init__(self, gram: Tensor, hot: Tensor, penalty: float) -> None:
        """gram (episodes, n, n) of the supports, their one-hot classes (n, way), and C."""
        squares, axes = torch.linalg.eigh(gram)
        self.squares = squares.clamp_min(0)  # (episodes, n)
        supports = axes * self.squares.sqrt().unsqueeze(1)  # (episodes, n, n), a row for each
        self.rows = functional.pad(supports, (0, 1), value=1.0)
        self.hot, self.penalty = hot, penalty

    def logits(self, point: Tensor) -> Tensor:
        """Of the supports, (episodes, n, way)."""
        return self.rows @ point

    def objective(self, point: Tensor, logits: Tensor) -> Tensor:
        losses = (logits.logsumexp(-1) - (logits * self.hot).sum(-1)).sum(-1)
        return self.penalty * losses + point[:, :-1].square().sum((1, 2)) / 2

    def gradient(self, point: Tensor, probability: Tensor) -> Tensor:
        return self._penalised(point, probability - self.hot)

    def curvature(self, direction: Tensor, probability: Tensor) -> Tensor:
        """The Hessian times a direction."""
        weighted = probability * self.logits(direction)
        return self._penalised(direction, weighted - probability * weighted.sum(-1, keepdim=True))

    def _penalised(self, point: Tensor, change: Tensor) -> Tensor:
        result = self.penalty * (self.rows.mT @ change)
        result[:, :-1] += point[:, :-1]
        return result

    def precondition(self, residual: Tensor) -> Tensor:
        """The inverse of the Hessian at equal probabilities, times a residual: diagonal but for the bias's row."""
        scale = self.penalty / self.hot.shape[1]
        diagonal = (1 + scale * self.squares).unsqueeze(-1)
        border = scale * self.rows[..., :-1].sum(1).unsqueeze(-1)
        corner = scale * len(self.hot) - (border.square() / diagonal).sum(1, keepdim=True)
        weights, bias = residual[:, :-1], residual[:, -1:]
        bias = (bias - (border * weights / diagonal).sum(1, keepdim=True)) / corner
        return torch.cat(((weights - border * bias) / diagonal, bias), 1)


def fit_logistic(gram: Tensor, labels: Tensor, *, penalty: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Coefficients A (episodes, n, way) and biases (episodes, way), both float64.

    `gram` (episodes, n, n) of the supports, `labels` (n,) int64 from 0. `tolerance` bounds the length of the gradient
    with respect to W and b. The rows of A and the biases sum to 0 over the classes.
    """
    hot = functional.one_hot(labels).double()
    problem = _Problem(gram.double(), hot, penalty)
    point = torch.zeros(len(gram), len(hot) + 1, hot.shape[1], dtype=torch.float64, device=gram.device)
    for _ in range(NEWTON_STEPS):
        probability = problem.logits(point).softmax(-1)
        gradient = problem.gradient(point, probability)
        if _dot(gradient, gradient).max() < tolerance**2:
            break
        point = _descend(problem, point, _newton_step(problem, gradient, probability))
    # where the gradient is 0, W is exactly this sum of supports
    coefficients = penalty * (hot - problem.logits(point).softmax(-1))
    return coefficients, point[:, -1] - point[:, -1].mean(-1, keepdim=True)


def _newton_step(problem: _Problem, gradient: Tensor, probability: Tensor) -> Tensor:
    """Minus the Hessian's inverse times the gradient, by preconditioned conjugate gradients.

    An episode that is done stands still while others go on: from there on it would divide by roundings.
    """
    residual = -gradient
    step = torch.zeros_like(residual)
    direction = problem.precondition(residual)
    energy = _dot(residual, direction)
    enough = energy * FORCING**2
    active = energy > 0
    for _ in range(INNER_STEPS):
        curved = problem.curvature(direction, probability)
        rate = torch.where(active, energy / _dot(direction, curved), 0.0)[:, None, None]
        step, residual = step + rate * direction, residual - rate * curved
        preconditioned = problem.precondition(residual)
        previous, energy = energy, _dot(residual, preconditioned)
        active = active & (energy > enough)
        if not active.any():
            break
        direction = preconditioned + torch.where(active, energy / previous, 0.0)[:, None, None] * direction
    return step


def _descend(problem: _Problem, point: Tensor, step: Tensor) -> Tensor:
    """The point after the step, which is halved in the episodes where the objective would rise."""
    logits, change = problem.logits(point), problem.logits(step)
    now = problem.objective(point, logits)
    rate = torch.ones_like(now)[:, None, None]
    for _ in range(HALVINGS):
        there = problem.objective(point + rate * step, logits + rate * change)
        rises = there > now + 1e-12 * now.abs()  # at the minimum, rounding is all that is left
        if not rises.any():
            break
        rate = torch.where(rises[:, None, None], rate / 2, rate)
    return point + rate * step


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum((1, 2))


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
