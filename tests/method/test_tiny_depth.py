"""The tiny depth network and the weights that the package carries."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import torch
from safetensors import safe_open

from amefu_cli.demo.actions import ACTIONS
from amefu_cli.demo.clips import render_clip
from amefu_cli.method.depth.tiny import TINY_SIZE, TinyDepth

WEIGHTS = importlib.resources.files("amefu_cli.artefacts.files") / "data" / "tiny_depth.safetensors"


def embedded() -> tuple[TinyDepth, dict[str, str]]:
    network = TinyDepth().eval()
    with safe_open(str(WEIGHTS), "pt") as file:
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        return network, file.metadata()


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values, axis=None, kind="stable")) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


@pytest.mark.parametrize("size", [(128, 128), (100, 131), (33, 64)])
def test_disparity_has_the_size_of_the_picture_and_is_positive(size):
    torch.manual_seed(0)
    with torch.inference_mode():
        disparity = TinyDepth().eval()(torch.rand(2, 3, *size))
    assert disparity.shape == (2, *size)
    assert disparity.dtype == torch.float32
    assert disparity.min() > 0


def test_a_batch_gives_what_its_pictures_give_alone():
    network, _ = embedded()
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together, alone = network(pictures), torch.cat([network(one[None]) for one in pictures])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_the_embedded_weights_are_small_and_say_what_they_are():
    _, card = embedded()
    assert WEIGHTS.stat().st_size <= 2_000_000
    assert card["script"] == "examples/train_tiny_depth.py"
    assert card["licence"] == "MIT"
    assert "trained on rendered scenes only" in card["what"]
    assert float(card["rank_correlation_mean"]) > 0.8


def test_the_embedded_weights_rank_the_depth_of_unseen_scenes():
    """24 acting figures in rooms that training never saw; limits are what was measured, less a margin."""
    network, _ = embedded()
    scores = []
    for index in range(24):
        action = sorted(ACTIONS)[index % len(ACTIONS)]
        rng = np.random.default_rng([777, index])
        clip = render_clip(action, frames=1, height=TINY_SIZE, width=TINY_SIZE, rng=rng)
        with torch.inference_mode():
            disparity = network(torch.from_numpy(clip.rgb).permute(0, 3, 1, 2) / 255)
        scores.append(rank_correlation(disparity[0].numpy(), 1 / clip.depth[0]))
    assert np.mean(scores) > 0.85
    assert min(scores) > 0.4
