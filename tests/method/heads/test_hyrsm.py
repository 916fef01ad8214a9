"""HyRSM and HyRSM++: the public code's numbers, and the formula without the split into videos and episodes."""

from __future__ import annotations

import pytest
import torch
from reference_heads import PRECISIONS, TAGS, Reference, logits_of, states
from torch import Tensor
from torch.nn import functional

from amefu_cli.method.heads.attention import hyrsm_positions
from amefu_cli.method.heads.hyrsm import HyRSM, HyRSMPerShot, HyRSMPlusPlus

SHOTS: dict[str, type[HyRSM]] = {"frame_prototype": HyRSM, "mean_of_distances": HyRSMPerShot}
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
@pytest.mark.parametrize("shots", SHOTS)
@torch.no_grad()
def test_the_public_numbers(reference: Reference, shots: str, name: str, tag: str, dtype: torch.dtype):
    divisor, position = POSITIONS[name]
    head = public(reference, dtype, SHOTS[shots], divisor=divisor, position=position)
    support, query = states(head, *reference.episode(tag, dtype))
    reference.check(f"{tag}.{shots}.{name}.logits", head.logits(support, query)[0])
    if shots == "frame_prototype":
        reference.check(f"{tag}.{shots}.{name}.class_logits", head.class_logits(support, query)[0])


@pytest.mark.parametrize(("window", "balance"), [(3, 23.0), (1, 51.0)])
@torch.no_grad()
def test_the_temporal_loss_of_the_public_code(reference: Reference, window: int, balance: float):
    options = {"divisor": 24.0, "position": 0.01, "window": window, "balance": balance, "temporal_weight": 1.0}
    head = public(reference, torch.float64, HyRSMPlusPlus, **options)
    support, query = states(head, *reference.episode("positive", torch.float64))
    reference.check(f"positive.plusplus.window_{window}.logits", head.logits(support, query)[0])
    loss = head.temporal_loss(*head.merged(support, query))
    reference.check(f"positive.plusplus.window_{window}.temporal_loss", loss.reshape(1))


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """8 heads of dim / 8 among (tokens, dim)."""
    parts = [x.unflatten(-1, (8, -1)).transpose(0, 1) for x in (query, key, value)]
    weights = (parts[0] @ parts[1].mT / (query.shape[-1] // 8) ** 0.5).softmax(-1)
    return (weights @ parts[2]).transpose(0, 1).flatten(1)


def naive(head: HyRSM, support: Tensor, query: Tensor) -> Tensor:
    """Logits (queries, way) of one episode's frames, query by query, the token beside every frame before merging."""

    def intra(frames: Tensor) -> Tensor:
        placed = frames * head.scale + head.position * hyrsm_positions(frames)
        mixed = attended(*head.intra.qkv(head.intra.norm(placed)).chunk(3, -1))
        return (placed + head.intra.out(mixed)).relu()

    by_class = [[intra(video) for video in videos] for videos in support]
    if not isinstance(head, HyRSMPerShot):
        by_class = [[torch.stack(videos).mean(0)] for videos in by_class]
    rows = []
    for frames in query:
        videos = [unit for units in by_class for unit in units] + [intra(frames)]
        tokens, inter = torch.stack([video.mean(0) for video in videos]), head.inter
        mixed = inter.out(attended(inter.query(tokens), inter.key(tokens), inter.value(tokens)))
        tokens = inter.norm(mixed + tokens).relu()
        merged = [head.merge(torch.cat((v, t.expand_as(v)), -1)) for v, t in zip(videos, tokens, strict=True)]
        units = [functional.normalize(video, dim=-1) for video in merged]
        distances = [1 - units[-1] @ unit.T for unit in units[:-1]]
        scores = torch.stack([-(d.amin(0).sum() + d.amin(1).sum()) for d in distances])
        rows.append(scores.unflatten(0, (len(by_class), -1)).mean(-1))
    return torch.stack(rows)


@pytest.mark.parametrize("shot", [1, 2])
@pytest.mark.parametrize("shots", SHOTS)
@torch.no_grad()
def test_the_split_is_the_formula(reference: Reference, shots: str, shot: int):
    head = public(reference, torch.float64, SHOTS[shots])
    support, query = reference.episode("signed", torch.float64)
    found = logits_of(head, support[:, :, :shot], query)[0]
    torch.testing.assert_close(found, naive(head, support[0, :, :shot], query[0]))


@torch.no_grad()
def test_the_shot_rules_agree_at_one_shot(reference: Reference):
    support, query = reference.episode("signed", torch.float64)
    heads = [public(reference, torch.float64, kind) for kind in SHOTS.values()]
    torch.testing.assert_close(*(logits_of(head, support[:, :, :1], query) for head in heads))


@torch.no_grad()
def test_the_temporal_loss_by_hand():
    """Window 1: neighbours cost D / 2, the pair at distance 2 costs 10 (1 - e^-1 - D) where D is smaller."""
    head = HyRSMPlusPlus(8, window=1, balance=1.0)
    frames = torch.zeros(1, 3, 8)
    frames[0, 0, 0] = frames[0, 1, 1] = frames[0, 2, 0] = 1  # the first and last alike, the middle at right angles
    margin = 1 - torch.tensor(-1.0).exp()
    torch.testing.assert_close(head.smoothness(frames), (4 * 0.5 + 2 * 10 * margin) / 9)


@torch.no_grad()
def test_the_loss_tells_base_classes_apart_in_every_frame(reference: Reference):
    """Class c of the episode is base class (3 + c) mod 7; 10 supports, then 10 queries, 8 frames each."""
    head = public(reference, torch.float64, class_weight=0.25)
    support, query = states(head, *reference.episode("positive", torch.float64))
    targets = torch.arange(5).repeat_interleave(2)
    base = torch.tensor([3, 4, 5, 6, 0])
    loss, logits = head.loss(support, query, targets.unsqueeze(0), base.unsqueeze(0))
    of_frames = reference.tensors["positive.frame_prototype.position_10_1.class_logits"].flatten(0, 1)
    labels = torch.cat((base[targets], base[targets])).repeat_interleave(8)
    expected = functional.cross_entropy(logits[0], targets) + 0.25 * functional.cross_entropy(of_frames, labels)
    torch.testing.assert_close(loss, expected)
    reference.check("positive.frame_prototype.position_10_1.logits", logits[0])
