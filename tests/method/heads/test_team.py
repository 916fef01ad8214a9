"""TEAM: the public code's numbers, with and without adaptation."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, logits_of, states
from torch import Tensor

from amefu_cli.method.heads.team import TEAM


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference("team")


def public(reference: Reference, dtype: torch.dtype, *, adaptation: bool = True) -> TEAM:
    head = TEAM(24, tokens=6, adaptation=adaptation).eval()
    renamed = {"tokens": "tokens", "norm.": "norm.", "mlp.0": "first", "mlp.1": "second"}
    weights = reference.weights(renamed)
    weights["tokens"] = weights["tokens"][0]
    head.load_state_dict(weights)
    return head.to(dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("tag", TAGS)
@torch.no_grad()
def test_the_public_numbers(reference: Reference, tag: str, dtype: torch.dtype):
    head, frames = public(reference, dtype), reference.episode(tag, dtype)
    support, query = states(head, *frames)
    positive, negative = head.distances(support, query)
    reference.check(f"{tag}.logits", head.logits(support, query)[0])
    reference.check(f"{tag}.logits_positive", -positive[0])
    reference.check(f"{tag}.logits_negative", -negative[0])
    plain = public(reference, dtype, adaptation=False)
    support, query = states(plain, *frames)
    reference.check(f"{tag}.no_adaptation.logits", plain.logits(support, query)[0])
    reference.check(f"{tag}.positive_only.logits", -plain.distances(support, query)[0][0])  # neither of the two


def naive(head: TEAM, support: Tensor, query: Tensor) -> Tensor:
    """Logits (queries, way) of one episode's frames, (way, shot, frames, dim) and (queries, frames, dim).

    As written: f on every pattern, class by class, pair by pair.
    """
    tokens, cos = head.tokens, torch.nn.functional.cosine_similarity

    def f(x: Tensor) -> Tensor:
        return (x + head.second(head.first(x).relu())).relu()

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (1 - cos(a, b, dim=-1)).sum()

    classes = [head.read(frames) for frames in support.mean(1)]
    raised, lowered = [f(tokens + o) for o in classes], [f(tokens - o) for o in classes]
    ways = range(len(classes))
    positive, negative = [], []
    for c in ways:
        up = [cos(raised[c], raised[j], dim=-1)[:, None] * (classes[j] - classes[c]) for j in ways if j != c]
        down = [cos(lowered[c], lowered[j], dim=-1)[:, None] * (classes[j] - classes[c]) for j in ways if j != c]
        positive.append(torch.stack([f(tokens + classes[c] - x) for x in up]).mean(0))
        negative.append(torch.stack([f(tokens - classes[c] + x) for x in down]).mean(0))
    rows = []
    for frames in query:
        o = head.read(frames)
        own, other = f(tokens + o), f(tokens - o)
        near = [distance(positive[c], own) for c in ways]
        first = [max(distance(positive[j], other) for j in ways if j != c) for c in ways]
        second = [max(distance(negative[j], own) for j in ways if j != c) for c in ways]
        rows.append(torch.stack([-(n + (a + b) / 2) for n, a, b in zip(near, first, second, strict=True)]))
    return torch.stack(rows)


@pytest.mark.parametrize("shot", [1, 2])
@torch.no_grad()
def test_the_split_adaptation_is_the_formula(reference: Reference, shot: int):
    head = public(reference, torch.float64)
    support, query = reference.episode("signed", torch.float64)
    support = support[:, :, :shot]
    torch.testing.assert_close(logits_of(head, support, query)[0], naive(head, support[0], query[0]))
