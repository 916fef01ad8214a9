"""HyRSM and HyRSM++: the public code's numbers, and the formula without the split into videos and episodes."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, logits_of, states

from amefu_cli.method.heads.attention import hyrsm_positions
from amefu_cli.method.heads.hyrsm import HyRSM, HyRSMPlusPlus, ShotRule

POSITIONS = {"position_24_0.01": (24.0, 0.01), "position_10_1": (10.0, 1.0)}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("hyrsm")


def public(reference: Reference, dtype: torch.dtype, kind: type[HyRSM] = HyRSM, **options) -> HyRSM:
    head = kind(24, base_classes=7, **options).eval()
    weights = reference.weights({name: name for name in ("intra.", "inter.", "merge.", "classes.")})
    weights["merge.weight"] = weights["merge.weight"].squeeze(-1)
    head.load_state_dict(weights)
    return head.to(dtype)


def test_positions(reference: Reference):
    table = hyrsm_positions(torch.empty(20, 24, dtype=torch.float64))
    torch.testing.assert_close(table, reference.tensors["position"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("shots", ["frame_prototype", "mean_of_distances"])
@torch.no_grad()
def test_the_public_numbers(reference: Reference, shots: ShotRule, name: str, tag: str, dtype: torch.dtype):
    divisor, position = POSITIONS[name]
    head = public(reference, dtype, shots=shots, divisor=divisor, position=position)
    support, query = states(head, *reference.episode(tag, dtype))
    reference.check(f"{tag}.{shots}.{name}.logits", head.logits(support, query)[0])
    if shots == "frame_prototype":
        reference.check(f"{tag}.{shots}.{name}.class_logits", head.class_logits(support, query)[0])


@pytest.mark.parametrize(("window", "balance"), [(3, 23.0), (1, 51.0)])
@torch.no_grad()
def test_the_temporal_loss_of_the_public_code(reference: Reference, window: int, balance: float):
    head = public(reference, torch.float64, HyRSMPlusPlus, divisor=24.0, position=0.01)
    assert isinstance(head, HyRSMPlusPlus)
    head.window, head.balance, head.temporal_weight = window, balance, 1.0
    support, query = states(head, *reference.episode("positive", torch.float64))
    reference.check(f"positive.plusplus.window_{window}.logits", head.logits(support, query)[0])
    loss = head.temporal_loss(*head.merged(support, query))
    reference.check(f"positive.plusplus.window_{window}.temporal_loss", loss.reshape(1))
