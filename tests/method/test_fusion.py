"""Fusions: eqs. 4-6 by hand, the public code's numbers, and the mean over the frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from safetensors.torch import load_file

from amefu_cli.method.heads import FUSIONS, build_fusion
from amefu_cli.method.heads.fusion import DGAdaIN, video_vector

# Inputs and outputs of the public DGAdaIN: `small.*` alone with its weights, `full.*` inside a full
# checkpoint, of whose outputs every 32nd dimension is kept.
FIXTURE = FIXTURES / "dgadain.safetensors"


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    return load_file(FIXTURE)


def with_public_weights(scale_weight, scale_bias, shift_weight, shift_bias) -> DGAdaIN:
    """The public module multiplies by 1 + scale, ours by scale."""
    fusion = DGAdaIN(len(scale_bias))
    fusion.load_state_dict(
        {
            "scale.weight": scale_weight,
            "scale.bias": scale_bias + 1,
            "shift.weight": shift_weight,
            "shift.bias": shift_bias,
        }
    )
    return fusion.eval()


def weight_by_rule(seed: int, index: int, *shape: int) -> torch.Tensor:
    """The weight rule of the reference: biases 0.1 z, matrices scaled by their fan-in, z standard normal."""
    z = np.random.default_rng([seed, index]).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(0.1 * z if len(shape) == 1 else z * np.float32(0.7 * np.sqrt(2 / shape[1])))


@torch.no_grad()
def test_the_equations_by_hand():
    """r = (1, 3): mean 2, variance 1, so (-1, 1); d = (1, 2); g_s(d) = (1, 2) and g_b(d) = (2+10, 1+10)."""
    fusion = DGAdaIN(2)
    fusion.load_state_dict(
        {
            "scale.weight": torch.eye(2),
            "scale.bias": torch.zeros(2),
            "shift.weight": torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
            "shift.bias": torch.tensor([10.0, 10.0]),
        }
    )
    rgb, depth = torch.tensor([[1.0, 3.0], [3.0, 1.0]]), torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    expected = torch.tensor([[11.0, 13.0], [13.0, 9.0]])
    torch.testing.assert_close(fusion.fuse_frames(rgb, depth), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(fusion(rgb, depth), expected.mean(0), rtol=1e-5, atol=0)


@torch.no_grad()
def test_the_public_module_is_reproduced(reference):
    fusion = with_public_weights(
        *(reference[f"small.{name}"] for name in ("scale.weight", "scale.bias", "bias.weight", "bias.bias"))
    )
    rgb, depth, out = (reference[f"small.{name}"] for name in ("rgb", "depth", "out"))
    torch.testing.assert_close(fusion.fuse_frames(rgb, depth), out, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fusion(rgb, depth), out.mean(1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_full_checkpoint_is_reproduced(reference):
    """Entries 640 to 643 of the full checkpoint's names are the DGAdaIN's two layers."""
    fusion = with_public_weights(
        weight_by_rule(1, 640, 2048, 2048),
        weight_by_rule(1, 641, 2048),
        weight_by_rule(1, 642, 2048, 2048),
        weight_by_rule(1, 643, 2048),
    )
    rgb, depth = reference["full.rgb_features"], reference["full.depth_features"]
    frames = fusion.fuse_frames(rgb, depth)[:, ::32]
    torch.testing.assert_close(frames, reference["full.fused_frames"], rtol=1e-4, atol=1e-4)
    vector = video_vector(fusion, rgb, depth)[::32]
    torch.testing.assert_close(vector, reference["full.video_feature"], rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_is_the_mean_of_its_frames(name):
    torch.manual_seed(0)
    fusion = build_fusion(name, 6)
    rgb, depth = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 6)
    frames = fusion.fuse_frames(rgb, depth)
    assert frames.shape == (2, 3, 5, 6)
    torch.testing.assert_close(fusion(rgb, depth), frames.mean(-2))
    vector = video_vector(fusion, rgb, depth)
    torch.testing.assert_close(vector.norm(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(vector * fusion(rgb, depth).norm(dim=-1, keepdim=True), fusion(rgb, depth))


def test_the_scale_starts_around_one():
    torch.manual_seed(0)
    plain = [torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)]
    torch.manual_seed(0)
    fusion = DGAdaIN(16)
    assert torch.equal(fusion.scale.bias, plain[0].bias + 1)
    assert torch.equal(fusion.scale.weight, plain[0].weight)
    assert torch.equal(fusion.shift.bias, plain[1].bias)


@torch.no_grad()
def test_the_directions_are_mirror_images():
    torch.manual_seed(0)
    both, one, other = (build_fusion(name, 4) for name in ("two-way", "dgadain", "rgb-guides-depth"))
    one.load_state_dict(both.depth_guides.state_dict())
    other.load_state_dict(both.rgb_guides.state_dict())
    rgb, depth = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(both(rgb, depth), (one(rgb, depth) + other(rgb, depth)) / 2)
    one.load_state_dict(other.state_dict())
    torch.testing.assert_close(other.fuse_frames(rgb, depth), one.fuse_frames(depth, rgb))
    assert len(list(both.parameters())) == 8  # two layers each, none shared


@torch.no_grad()
def test_concatenation_by_hand():
    fusion = build_fusion("concat", 1)
    fusion.load_state_dict({"linear.weight": torch.tensor([[2.0, -1.0]]), "linear.bias": torch.tensor([0.5])})
    rgb, depth = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    assert fusion.fuse_frames(rgb, depth).tolist() == [[-0.5], [-0.5]]
    assert fusion(rgb, depth).tolist() == [-0.5]


@torch.no_grad()
def test_one_layer_by_hand_and_what_it_does_not_see():
    """2 r + 1 of RGB alone, of depth alone; and 2 x + 1 of what DGAdaIN gives."""
    rgb, depth = torch.tensor([[1.0, 3.0], [2.0, 5.0]]), torch.tensor([[4.0, 0.0], [6.0, 1.0]])
    layer = {"linear.weight": 2 * torch.eye(2), "linear.bias": torch.ones(2)}
    for name, seen in (("rgb-linear", rgb), ("depth-linear", depth)):
        fusion = build_fusion(name, 2)
        fusion.load_state_dict(layer)
        assert fusion.fuse_frames(rgb, depth).tolist() == (2 * seen + 1).tolist()
        assert fusion(rgb, depth).tolist() == (2 * seen.mean(0) + 1).tolist()
    fusion = build_fusion("dgadain-linear", 2)
    fusion.load_state_dict(layer, strict=False)
    torch.testing.assert_close(fusion.fuse_frames(rgb, depth), 2 * fusion.dgadain.fuse_frames(rgb, depth) + 1)
