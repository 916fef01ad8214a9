"""The multi-saliency embedding: the public code's numbers and its start."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, states
from torch.nn import functional

from amefu_cli.method.heads.cmn import CMNEmbedding, CMNNearest


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("cmn_embedding")


def with_weights(reference: Reference, kind: str) -> CMNEmbedding:
    head = CMNEmbedding(24)
    if kind == "random":
        head.load_state_dict(reference.weights({"": "embedding."}))
    else:  # where the public code starts; the layer is as it is here
        torch.nn.init.constant_(head.embedding.hidden, 1e-8)
    return head


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("kind", ["random", "initial"])
@torch.no_grad()
def test_the_public_numbers(reference: Reference, kind: str, tag: str, dtype: torch.dtype):
    head = with_weights(reference, kind).to(dtype)
    support, query = states(head, *reference.episode(tag, dtype))
    reference.check(f"{tag}.{kind}.support.embedding", support[0])
    reference.check(f"{tag}.{kind}.query.embedding", query[0].unflatten(0, (5, 2)))
    reference.check(f"{tag}.{kind}.logits", head.logits(support, query)[0])


@torch.no_grad()
def test_at_the_public_start_it_is_the_unit_mean_frame(reference: Reference):
    head = with_weights(reference, "initial").double()
    frames = reference.episode("positive", torch.float64)[1][0]
    torch.testing.assert_close(head.embed(frames), 8 * functional.normalize(frames.mean(1), dim=-1), rtol=1e-6, atol=0)


def test_hidden_vectors_start_apart_and_stay_apart():
    torch.manual_seed(0)
    head = CMNEmbedding(6, saliencies=3)
    head.embed(torch.rand(2, 4, 6)).square().sum().backward()
    for vectors in (head.embedding.hidden, head.embedding.hidden.grad):
        assert len(torch.unique(vectors, dim=0)) == 3


@torch.no_grad()
def test_nearest_is_the_best_cosine_of_the_shots(reference: Reference):
    head = CMNNearest(24)
    head.load_state_dict(reference.weights({"": "embedding."}))
    head = head.double()
    support, query = states(head, *reference.episode("signed", torch.float64))
    found = head.logits(support, query)[0]
    embeddings = [reference.tensors[f"signed.random.{part}.embedding"].flatten(0, 1) for part in ("query", "support")]
    cosines = functional.cosine_similarity(embeddings[0][:, None], embeddings[1], dim=-1)
    torch.testing.assert_close(found, cosines.view(10, 5, 2).amax(-1))
