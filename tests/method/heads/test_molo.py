"""MoLo's base branch: the public code's numbers."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, states
from torch.nn import functional

from amefu_cli.method.heads.molo import MoLoBase


def public(reference: Reference, dtype: torch.dtype) -> MoLoBase:
    head = MoLoBase(24, hidden=32, divisor=24.0).eval()
    renamed = {
        "token": "token",
        "transformer.mlp.0": "mlp.0",
        "transformer.mlp.1": "mlp.2",
        "transformer.": "attention.",
    }
    weights = reference.weights(renamed)
    weights["token"] = weights["token"].flatten()
    assert head.load_state_dict(weights, strict=False).missing_keys == ["contrast_scale"]
    return head.to(dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tag", TAGS)
@torch.no_grad()
def test_the_public_numbers(tag: str, dtype: torch.dtype):
    reference = Reference("molo_base")
    head = public(reference, dtype)
    support, query = states(head, *reference.episode(tag, dtype))
    reference.check(f"{tag}.logits", head.logits(support, query)[0])
    to_query, to_support = head.contrasts(support, query)
    reference.check(f"{tag}.support_frames_to_query_token", to_query[0])
    reference.check(f"{tag}.query_frames_to_support_token", to_support[0])


@torch.no_grad()
def test_the_loss_has_both_contrasts():
    reference = Reference("molo_base")
    head = public(reference, torch.float64)
    head.contrast_scale.fill_(2)
    targets = torch.arange(5).repeat_interleave(2)
    support, query = states(head, *reference.episode("signed", torch.float64))
    loss, logits = head.loss(support, query, targets.unsqueeze(0), torch.arange(5).unsqueeze(0))
    contrasts = ("signed.support_frames_to_query_token", "signed.query_frames_to_support_token")
    expected = functional.cross_entropy(logits[0], targets)
    for name in contrasts:
        expected += 0.05 * functional.cross_entropy(2 * reference.tensors[name], targets)
    torch.testing.assert_close(loss, expected)
