"""Losses by hand, and the steps of a meta-training episode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from conftest import FIXTURES
from safetensors.torch import load_file
from test_fusion import with_public_weights
from torch.nn import functional

from amefu_cli.method.heads import FUSIONS, LOSSES, build_fusion, prototypes
from amefu_cli.method.heads.fusion import DGAdaIN, video_vector
from amefu_cli.method.heads.prototypes import EpisodeClips, Temperature, episode_logits, meta_train_episode
from amefu_cli.settings import RECIPES, MetaTrainSettings

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


@pytest.mark.parametrize("label", [0, 3])
def test_one_query_of_official_is_the_public_step(label):
    """5 supports and 1 query, a batch of 6 videos of 16 frames, as the public code computes it, in float64: (1 + scale)
    of the depth times the normalised RGB frame, plus bias; the mean of the frames to length 1; cosine similarities;
    softmax, then a cross entropy with its own; an SGD step for the matched and for each asynchronous clip."""
    public = {name: tensor.double() for name, tensor in load_file(FIXTURES / "dgadain.safetensors").items()}
    names = [f"small.{layer}.{part}" for layer in ("scale", "bias") for part in ("weight", "bias")]
    weights = [public[name].clone().requires_grad_() for name in names]
    settings = {**vars(MetaTrainSettings()), **RECIPES["official"]["meta-train"], "learning_rate": 0.05}
    rng = torch.Generator().manual_seed(label)
    rgb = torch.randn(6, 16, 24, generator=rng, dtype=torch.float64)
    depth_clips = torch.randn(3, 6, 16, 24, generator=rng, dtype=torch.float64)

    expected, momenta = [], [torch.zeros_like(weight) for weight in weights]
    for depth in depth_clips:
        scale_weight, scale_bias, shift_weight, shift_bias = weights
        centred = rgb - rgb.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        frames = (1 + depth @ scale_weight.T + scale_bias) * normal + depth @ shift_weight.T + shift_bias
        vectors = frames.mean(1) / frames.mean(1).norm(dim=-1, keepdim=True)
        probability = torch.exp(vectors[:5] @ vectors[5])
        probability = torch.exp(probability / probability.sum())
        loss = -(probability[label] / probability.sum()).log()
        gradients = torch.autograd.grad(loss, weights)
        momenta = [0.9 * momentum + gradient for momentum, gradient in zip(momenta, gradients, strict=True)]
        steps = zip(weights, momenta, strict=True)
        weights = [(weight - 0.05 * momentum).detach().requires_grad_() for weight, momentum in steps]
        expected.append(loss.detach())

    fusion = with_public_weights(*(public[name].float() for name in names))
    optimizer = torch.optim.SGD(fusion.parameters(), settings["learning_rate"], settings["momentum"])
    losses = meta_train_episode(
        fusion, optimizer, EpisodeClips(rgb.float(), depth_clips.float(), 5, torch.tensor([label])),
        classifier=settings["classifier"], temperature=Temperature(settings["temperature"], learned=False),
        loss=settings["loss"],
    )  # fmt: skip
    assert (settings["queries"], settings["loss"], len(losses)) == ("one", "double_softmax", 1 + settings["num_aug"])
    torch.testing.assert_close(losses.double(), torch.stack(expected), rtol=0, atol=1e-6)
    found = [tensor.detach().double() for tensor in fusion.parameters()]
    found[1] -= 1  # ours holds the 1 of 1 + scale
    for ours, theirs, before in zip(found, weights, names, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-6)
        assert (ours - public[before]).abs().max() > 1e-5  # it learned


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
