"""TSL, two-stage learning: Xian, Korbar, Douze, Torresani, Schiele, Akata, arXiv:2007.04755.

"Generalized few-shot video classification with video retrieval and feature generation"; code
xianyongqin/few-shot-video-classification.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.base import SeededHead

START = 0.02  # standard deviation of the first weights
RATE = 0.01
BETAS = (0.5, 0.999)
ADAM_EPSILON = 1e-8


class TSL(SeededHead):
    """A linear layer per episode, trained with Adam on every support frame; a query's frames vote with probabilities.

    Logits are the logarithm of the mean probability over the query's frames. State: the frames.
    """

    def __init__(self, dim: int, *, epochs: int = 10, seed: int = 0) -> None:
        super().__init__(dim)
        self.epochs, self.seed = epochs, seed

    def logits(self, support: Tensor, query: Tensor, numbers: Tensor | None = None) -> Tensor:
        numbers = torch.arange(len(support)) if numbers is None else numbers
        shape = (support.shape[1], self.dim)
        streams = [np.random.default_rng([self.seed, number]) for number in numbers.tolist()]
        weight = np.stack([START * rng.standard_normal(shape, dtype=np.float32) for rng in streams])
        return self.scores(support, query, torch.from_numpy(weight).to(support))

    def scores(self, support: Tensor, query: Tensor, weight: Tensor) -> Tensor:
        """As `logits`, from these first weights (episodes, way, dim)."""
        weight, bias = self._fit(support.flatten(1, 3), weight)
        of_frames = query.flatten(1, 2) @ weight.mT + bias  # (episodes, queries * frames, way)
        shares = of_frames.log_softmax(-1).view(*query.shape[:3], -1)
        return shares.logsumexp(2) - float(np.log(query.shape[2]))

    def _fit(self, frames: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (episodes, way, dim) and biases (episodes, 1, way) of frames (episodes, n, dim), class by class."""
        way, count = weight.shape[1], frames.shape[1]
        hot = functional.one_hot(torch.arange(way, device=frames.device).repeat_interleave(count // way), way)
        parameters = [weight, weight.new_zeros(len(weight), 1, way)]
        moments = [(torch.zeros_like(x), torch.zeros_like(x)) for x in parameters]
        for step in range(1, self.epochs + 1):
            error = ((frames @ parameters[0].mT + parameters[1]).softmax(-1) - hot) / count
            gradients = (error.mT @ frames, error.sum(1, keepdim=True))
            triples = zip(parameters, gradients, moments, strict=True)
            parameters = [_adam(value, gradient, moment, step) for value, gradient, moment in triples]
        return parameters[0], parameters[1]


def _adam(value: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], step: int) -> Tensor:
    """The value after a step of PyTorch's Adam; the moments are updated in place."""
    first, second = moments
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    spread = (second / (1 - BETAS[1] ** step)).sqrt_().add_(ADAM_EPSILON)
    return value.addcdiv(first, spread, value=-RATE / (1 - BETAS[0] ** step))
