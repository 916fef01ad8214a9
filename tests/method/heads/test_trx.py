"""TRX: the public code's numbers, the formula as the paper writes it, and which orders matter."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, logits_of, states
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
