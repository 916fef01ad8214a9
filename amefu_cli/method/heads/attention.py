"""What the heads with attention over frames share: tables of positions, and attention among a video's frames.

The tables are those of the public code of TRX (arXiv:2101.06184) and TEAM, and of HyRSM (arXiv:2204.13423) and MoLo.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from amefu_cli.errors import UsageError


def trx_positions(like: Tensor) -> Tensor:
    """0.1 sin(p / 10000^(2i/dim)) at element 2i, 0.1 cos of the same at 2i + 1, for `like` (..., frames, dim).

    (frames, dim); p counts the frames from 0.
    """
    frames, dim = like.shape[-2:]
    even = torch.arange(0, dim, 2, dtype=torch.float64)
    return (0.1 * _waves(frames, even / dim, even / dim))[:, :dim].to(like)


def hyrsm_positions(like: Tensor) -> Tensor:
    """sin(p / 10000^(2e/dim)) at an even element e, cos(p / 10000^(2(e+1)/dim)) at e + 1, for (..., frames, dim).

    (frames, dim). The exponent is twice that of Vaswani et al., and differs between sine and cosine: an error of
    the public code, kept because every published number has it.
    """
    frames, dim = like.shape[-2:]
    even = torch.arange(0, dim, 2, dtype=torch.float64)
    return _waves(frames, 2 * even / dim, 2 * (even + 1) / dim)[:, :dim].to(like)


def _waves(frames: int, sine: Tensor, cosine: Tensor) -> Tensor:
    """sin(p / 10000^sine) and cos(p / 10000^cosine) in turn, for n exponents of each: (frames, 2n) float64."""
    place = torch.arange(frames, dtype=torch.float64).unsqueeze(-1)
    return torch.stack(((place / 10000**sine).sin(), (place / 10000**cosine).cos()), -1).flatten(-2)


def check_heads(dim: int, heads: int) -> None:
    """Raise UsageError where features `dim` wide cannot be shared out among `heads` attention heads."""
    if dim % heads:
        raise UsageError(f"{heads} attention heads need features whose width {heads} divides, not {dim}")


class FrameAttention(nn.Module):
    """Wo MSA(LN(x)) + bo among the frames of each video; queries, keys and values have no bias.

    Scores are scaled by (dim / heads)^-1/2. Dropout is on the result.
    """

    def __init__(self, dim: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        check_heads(dim, heads)
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """(videos, frames, dim) to the same shape."""
        parts = torch.unflatten(
            self.qkv(self.norm(frames)), -1, (3, self.heads, -1)
        )  # (videos, frames, 3, heads, dim/heads)
        query, key, value = parts.transpose(1, 3).unbind(2)  # each (videos, heads, frames, dim/heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.dropout(self.out(mixed.transpose(1, 2).flatten(-2)))
        return result
