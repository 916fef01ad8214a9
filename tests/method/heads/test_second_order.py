"""The second-order relation: the public evaluation's numbers from its descriptors on."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, Reference

from amefu_cli.errors import UsageError
from amefu_cli.method.heads.second_order import SecondOrderRelation


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("arn_relation")


def public(reference: Reference, dtype: torch.dtype) -> SecondOrderRelation:
    head = SecondOrderRelation(24, channels=16, width=8).eval()
    renamed = {f"layer{i + 1}.": f"blocks.{i}." for i in range(4)} | {"fc1.": "hidden.", "fc2.": "score."}
    weights = reference.weights(renamed)
    weights = {name.replace("norm.mean", "norm.running_mean"): tensor for name, tensor in weights.items()}
    weights = {name.replace("norm.var", "norm.running_var"): tensor for name, tensor in weights.items()}
    missing = head.load_state_dict(weights, strict=False).missing_keys
    assert missing == ["project.weight", "project.bias"]  # the reference starts from projected frames
    return head.to(dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@torch.no_grad()
def test_the_public_numbers(reference: Reference, dtype: torch.dtype):
    head = public(reference, dtype)
    fibres = {part: reference.tensors[f"{part}.fibres"].to(dtype).flatten(0, 1) for part in ("support", "query")}
    found = {part: head.descriptor(x) for part, x in fibres.items()}
    for part, descriptors in found.items():
        reference.check(f"{part}.descriptor", descriptors.view(reference.tensors[f"{part}.descriptor"].shape))
    logits = head.logits(found["support"].view(1, 5, 2, 16, 16), found["query"].unsqueeze(0))
    reference.check("relation", logits[0].sigmoid())


@torch.no_grad()
def test_one_video_by_hand():
    """Fibres (1, 0), (1, 2) as columns: X X^T / 2 = [[1, 1], [1, 2]], trace 3."""
    head = SecondOrderRelation(3, channels=16, width=2, sigma=6.0)
    found = head.descriptor(torch.tensor([[[1.0, 1.0], [0.0, 2.0]]]))
    expected = 2 * (6 * torch.tensor([[1.0, 1.0], [1.0, 2.0]]) / 3).sigmoid() - 1
    torch.testing.assert_close(found[0], expected)
    assert not head.descriptor(torch.zeros(1, 2, 3)).any()  # a video of zeros is not a NaN


def test_matrices_that_cannot_be_halved_four_times_are_refused():
    with pytest.raises(UsageError, match="24 channels"):
        SecondOrderRelation(8, channels=24)
