"""Cosines of frames, in the three conventions that the public codes have."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SHORTEST = 1e-12  # no vector is divided by a smaller norm
SMALLEST_PRODUCT = 1e-8


def cosine(x: Tensor, y: Tensor, *, epsilon: float = 0.0) -> Tensor:
    """Cosines (..., n, m) of vectors (..., n, dim) and (..., m, dim); 0 where a vector is 0.

    `epsilon` is added to the product of the norms. The public code of OTAM, MoLo and the matching functions has
    0.01, which is nothing for features of length 30 but 1% for those of length 1.
    """
    if epsilon == 0:
        return functional.normalize(x, dim=-1, eps=SHORTEST) @ functional.normalize(y, dim=-1, eps=SHORTEST).mT
    return (x @ y.mT) / (_norm_products(x, y) + epsilon)


def floored_cosine(x: Tensor, y: Tensor) -> Tensor:
    """As `cosine`, the product of the norms at least 1e-8: PyTorch's `cosine_similarity`, of TEAM and FSL-Video."""
    return (x @ y.mT) / _norm_products(x, y).clamp_min(SMALLEST_PRODUCT)


def _norm_products(x: Tensor, y: Tensor) -> Tensor:
    of_x, of_y = (torch.linalg.vector_norm(vectors, dim=-1) for vectors in (x, y))
    products: Tensor = of_x.unsqueeze(-1) * of_y.unsqueeze(-2)
    return products
