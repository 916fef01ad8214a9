"""TRX: the public code's numbers, the formula as the paper writes it, and which orders matter."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, logits_of
from torch import Tensor

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.attention import trx_positions
from amefu_cli.method.heads.trx import TRX


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("trx")


def public(reference: Reference, dtype: torch.dtype, cardinalities: tuple[int, ...] = (2, 3)) -> TRX:
    head = TRX(24, width=16, cardinalities=cardinalities).eval()
    head.load_state_dict(reference.weights({f"tuple_{n}.": f"tuples.{n}." for n in cardinalities}))
    return head.to(dtype)


def test_positions(reference: Reference):
    torch.testing.assert_close(
        trx_positions(torch.empty(12, 24, dtype=torch.float64)), reference.tensors["position"], rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tag", TAGS)
@torch.no_grad()
def test_the_public_numbers(reference: Reference, tag: str, dtype: torch.dtype):
    support, query = reference.episode(tag, dtype)
    for cardinalities, name in (((2,), "tuple_2.logits"), ((3,), "tuple_3.logits"), ((2, 3), "logits")):
        head = public(reference, dtype, cardinalities)
        reference.check(f"{tag}.{name}", logits_of(head, support, query)[0])


def naive(head: TRX, support: Tensor, query: Tensor) -> Tensor:
    """Logits (queries, way) of one episode's frames, tuple by tuple and without either split."""
    by_cardinality = []
    for n, layers in head.tuples.items():

        def tuples(frames: Tensor, n: int = int(n)) -> Tensor:
            placed = frames + trx_positions(frames)
            return torch.stack([placed[list(at)].flatten() for at in combinations(range(len(frames)), n)])

        rows = []
        for frames in query:
            of_query, row = tuples(frames), []
            for videos in support:
                of_class = torch.cat([tuples(video) for video in videos])
                scores = layers.norm(layers.key(of_query)) @ layers.norm(layers.key(of_class)).T
                mixed = (scores / math.sqrt(head.width)).softmax(-1) @ layers.value(of_class)
                row.append(-(layers.value(of_query) - mixed).square().sum(-1).mean())
            rows.append(torch.stack(row))
        by_cardinality.append(torch.stack(rows))
    return torch.stack(by_cardinality).mean(0)


@pytest.mark.parametrize(("shot", "frames"), [(1, 8), (2, 5), (2, 3)])
@torch.no_grad()
def test_the_splits_are_the_formula(reference: Reference, shot: int, frames: int):
    head = public(reference, torch.float64)
    support, query = (x[..., :frames, :] for x in reference.episode("positive", torch.float64))
    found = logits_of(head, support[:, :, :shot], query)[0]
    torch.testing.assert_close(found, naive(head, support[0, :, :shot], query[0]))


@torch.no_grad()
def test_float32_keeps_small_differences_of_large_features(reference: Reference):
    """Distances are differences of squares; features far from 0 that differ little must not drown in rounding."""
    head, exact = public(reference, torch.float32), public(reference, torch.float64)
    support, query = (30 + 0.3 * x for x in reference.episode("signed", torch.float64))
    found = logits_of(head, support.float(), query.float()).double()
    torch.testing.assert_close(found, logits_of(exact, support, query), rtol=1e-3, atol=1e-3)


def test_too_few_frames_are_refused(reference: Reference):
    with pytest.raises(UsageError, match="tuples of 3 frames, and a video has 2"):
        public(reference, torch.float32).embed(torch.zeros(1, 2, 24))
