"""TARN: the unofficial code's numbers for both axes of the softmax and all comparisons."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, logits_of, states

from amefu_cli.method.heads.tarn import TARN

KINDS = {"mult": "Mult", "subt": "Subt", "euccos": "EucCos"}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("tarn")


def public(reference: Reference, dtype: torch.dtype, comparison: str, softmax_over: str) -> TARN:
    head = TARN(24, comparison=comparison, softmax_over=softmax_over, width=6, relation_width=5)
    kind = KINDS[comparison]
    renamed = {"embed.": "frames.", "align.": "align.", f"{kind}.": ""}
    weights = {}
    for name, tensor in reference.weights(renamed).items():
        module, *_, last = name.split(".")
        recurrent = {"frames": "_l0_reverse" if ".backward." in name else "_l0", "compare": "_l0"}.get(module, "")
        weights[f"{module}.{last}{recurrent}"] = tensor
    head.load_state_dict(weights)
    return head.to(dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("softmax_over", ["support", "query"])
@pytest.mark.parametrize("comparison", KINDS)
@torch.no_grad()
def test_the_public_numbers(reference: Reference, comparison: str, softmax_over: str, tag: str, dtype: torch.dtype):
    head = public(reference, dtype, comparison, softmax_over)
    support, query = states(head, *reference.episode(tag, dtype))
    relation = head.block_scores(query[0], support[0].flatten(0, 1)).view(10, 5, 2)
    name = f"{tag}.{KINDS[comparison]}.softmax_over_{softmax_over}"
    reference.check(f"{name}.relation", relation)
    torch.testing.assert_close(head.logits(support, query)[0], relation.mean(-1))
    if f"{name}.support.embedding" in reference.tensors:
        reference.check(f"{name}.support.embedding", support[0, ..., :12].flatten(0, 1))


@torch.no_grad()
def test_over_the_supports_frames_the_bias_of_the_alignment_has_no_effect(reference: Reference):
    frames = reference.episode("signed", torch.float64)
    for softmax_over, alike in (("support", True), ("query", False)):
        head = public(reference, torch.float64, "mult", softmax_over)
        before = logits_of(head, *frames)
        head.align.bias.add_(3)
        assert torch.allclose(before, logits_of(head, *frames), rtol=1e-12) == alike


@torch.no_grad()
def test_the_logits_of_training_are_those_of_evaluation(reference: Reference):
    head = public(reference, torch.float64, "mult", "support")
    support, query = states(head, *reference.episode("positive", torch.float64))
    targets = torch.arange(5).repeat_interleave(2).unsqueeze(0)
    loss, logits = head.loss(support, query, targets, torch.arange(5).unsqueeze(0))
    torch.testing.assert_close(logits, head.logits(support, query))
    relation = reference.tensors["positive.Mult.softmax_over_support.relation"]
    same = torch.eye(5, dtype=torch.float64)[targets[0]].unsqueeze(-1).expand(-1, -1, 2)
    torch.testing.assert_close(loss, torch.nn.functional.binary_cross_entropy(relation, same))


@torch.no_grad()
def test_how_many_pairs_are_scored_at_once_does_not_matter(reference: Reference, monkeypatch: pytest.MonkeyPatch):
    head = public(reference, torch.float64, "subt", "support")
    support, query = states(head, *reference.episode("signed", torch.float64))
    together = head.logits(support, query)
    monkeypatch.setattr("amefu_cli.method.heads.tarn.PAIRS_AT_ONCE", 3)
    torch.testing.assert_close(head.logits(support, query), together)
