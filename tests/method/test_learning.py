"""Losses by hand, and the steps of a meta-training episode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from amefu_cli.method.heads import FUSIONS, LOSSES, build_fusion, prototypes
from amefu_cli.method.heads.fusion import DGAdaIN, video_vector
from amefu_cli.method.heads.prototypes import EpisodeClips, Temperature, episode_logits, meta_train_episode

WAY, SHOT, FRAMES, DIM = 3, 2, 4, 8
COSINE = {"classifier": "cosine", "loss": "cross_entropy"}


def episode(num_aug: int, *, targets: Sequence[int] = (0, 0, 1, 1, 2, 2)) -> EpisodeClips:
    rng = torch.Generator().manual_seed(1)
    rgb = torch.randn(WAY * SHOT + len(targets), FRAMES, DIM, generator=rng)
    return EpisodeClips(rgb, torch.randn(1 + num_aug, *rgb.shape, generator=rng), WAY, torch.tensor(targets))


def fusion_and_optimizer(lr: float = 0.1) -> tuple[DGAdaIN, torch.optim.SGD]:
    torch.manual_seed(0)
    fusion = DGAdaIN(DIM)
    return fusion, torch.optim.SGD(fusion.parameters(), lr=lr, momentum=0.9)


def test_losses_by_hand():
    """Logits (ln 3, 0), target 0: softmax (3/4, 1/4); a second softmax over these gives 1 / (1 + e^-0.5)."""
    logits, targets = torch.tensor([[math.log(3), 0.0]]), torch.tensor([0])
    assert LOSSES["cross_entropy"].load()(logits, targets).item() == pytest.approx(math.log(4 / 3))
    assert LOSSES["double_softmax"].load()(logits, targets).item() == pytest.approx(math.log(1 + math.exp(-0.5)))


@pytest.mark.parametrize("num_aug", [0, 1, 2, 5])
def test_a_step_per_depth_clip(monkeypatch, num_aug):
    fusion, optimizer = fusion_and_optimizer()
    steps, entropies = [], []
    optimizer.register_step_post_hook(lambda *_: steps.append(fusion.scale.bias.detach().clone()))
    counted = lambda *given: entropies.append(1) or functional.cross_entropy(*given)  # noqa: E731
    monkeypatch.setattr(prototypes, "cross_entropy", counted)
    losses = meta_train_episode(
        fusion, optimizer, episode(num_aug), temperature=Temperature(1, learned=False), **COSINE
    )
    assert losses.shape == (1 + num_aug,)
    assert not losses.requires_grad
    assert len(steps) == len(entropies) == 1 + num_aug
    assert all(not torch.equal(one, next_) for one, next_ in pairwise(steps))


@pytest.mark.parametrize("targets", [(0, 0, 1, 1, 2, 2), (0,)], ids=["queries of each class", "one query"])
@pytest.mark.parametrize("classifier", ["cosine", "euclidean"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", FUSIONS)
def test_the_episode_is_the_plain_loop(name, loss, classifier, targets):
    """Frame by frame, query by query, as the equations read: same losses and same weights after the steps."""
    torch.manual_seed(0)
    fusion, plain = build_fusion(name, DIM), build_fusion(name, DIM)
    plain.load_state_dict(fusion.state_dict())
    clips = episode(2, targets=targets)
    optimizer = torch.optim.SGD(fusion.parameters(), lr=0.1, momentum=0.9)
    losses = meta_train_episode(
        fusion,
        optimizer,
        clips,
        classifier=classifier,
        temperature=Temperature(5, learned=False),
        loss=loss,
    )
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    for depth, found in zip(clips.depth, losses, strict=True):
        vectors = functional.normalize(plain.fuse_frames(clips.rgb, depth).mean(1), dim=-1)
        prototypes = vectors[: WAY * SHOT].view(WAY, SHOT, DIM).mean(1)
        each = []
        for way, query in zip(targets, vectors[WAY * SHOT :], strict=True):
            if classifier == "cosine":
                logits = functional.cosine_similarity(query, prototypes, dim=-1)
            else:
                logits = -(query - prototypes).square().sum(-1)
            logits = 5 * logits
            probability = logits.softmax(0)
            if loss == "double_softmax":
                probability = probability.softmax(0)
            each.append(-probability[way].log())
        expected = torch.stack(each).mean()
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(found, expected.detach())
    for ours, theirs in zip(fusion.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_matched_clip_comes_first_and_features_stay():
    clips = episode(2)
    before = clips.rgb.clone(), clips.depth.clone()
    fusion, optimizer = fusion_and_optimizer()
    with torch.no_grad():
        vectors = video_vector(fusion, clips.rgb, clips.depth[0])
        logits = episode_logits(vectors[:6].view(WAY, SHOT, DIM), vectors[6:], "cosine")
        expected = functional.cross_entropy(logits, torch.tensor([0, 0, 1, 1, 2, 2]))
    losses = meta_train_episode(fusion, optimizer, clips, temperature=Temperature(1, learned=False), **COSINE)
    torch.testing.assert_close(losses[0], expected)
    assert torch.equal(clips.rgb, before[0])
    assert torch.equal(clips.depth, before[1])


def test_learning_lowers_the_loss():
    fusion, optimizer = fusion_and_optimizer()
    clips, temperature = episode(0), Temperature(10, learned=False)
    first, *_, last = (
        meta_train_episode(fusion, optimizer, clips, temperature=temperature, **COSINE).item() for _ in range(30)
    )
    assert last < 0.5 * first


@pytest.mark.parametrize("learned", [True, False])
def test_temperature_multiplies_and_may_be_learned(learned):
    temperature = Temperature(10, learned=learned)
    assert temperature(torch.tensor([-1.0, 0.0, 0.5])).tolist() == pytest.approx([-10, 0, 5])
    fusion, _ = fusion_and_optimizer()
    optimizer = torch.optim.SGD([*fusion.parameters(), *temperature.parameters()], lr=0.1)
    meta_train_episode(fusion, optimizer, episode(0), temperature=temperature, **COSINE)
    assert (temperature(torch.ones(1)).item() != pytest.approx(10)) == learned


def test_a_temperature_of_one_changes_no_bit():
    logits = torch.linspace(-1, 1, 7)
    assert torch.equal(Temperature(1, learned=False)(logits), logits)
