"""Coloured disparity: by hand, against matplotlib as the public code uses it, and what cancels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from amefu_cli.method.depth import ENCODINGS
from amefu_cli.method.depth.encoding import encode_disparity
from amefu_cli.method.depth.network import quantise


def coloured_by_matplotlib(disparity: np.ndarray) -> np.ndarray:
    """What the public code writes to disk for one float frame (before JPEG)."""
    norm = Normalize(vmin=disparity.min(), vmax=np.percentile(disparity, 95))
    return (ScalarMappable(norm, "magma").to_rgba(disparity)[..., :3] * 255).astype(np.uint8)


def coloured(disparity: np.ndarray, *, encoding: str = "magma", percentile: float = 95) -> np.ndarray:
    """Colours of float disparity (frames, height, width), by way of the store."""
    value, _, _ = quantise(torch.from_numpy(np.asarray(disparity, np.float32)), percentile)
    return encode_disparity(value, encoding=encoding).numpy()


def test_values_by_hand():
    """Disparities 10 20 30 40 50: percentile 75 is 40, so 0, 1/3, 2/3, 1 and 1 of 256 levels."""
    value, low, high = quantise(torch.tensor([[[10.0, 20, 30, 40, 50]]]), 75)
    assert (value.dtype, value.tolist(), low.tolist(), high.tolist()) == (
        torch.uint8, [[[0, 85, 170, 255, 255]]], [10], [40]
    )  # fmt: skip
    colours = encode_disparity(value, encoding="gray")
    assert (colours.shape, colours[0, 0, :, 0].tolist()) == ((1, 1, 5, 3), [0, 85, 170, 255, 255])
    assert (colours[..., :1] == colours).all()


def test_the_percentile_lies_between_two_ranks():
    """Percentile 95 of 0 and 100 is 95: the value 100 is clipped, and 95 would be as bright."""
    value, _, high = quantise(torch.tensor([[[0.0, 100]]]), 95)
    assert (value.tolist(), high.tolist()) == ([[[0, 255]]], pytest.approx([95]))
    value, _, high = quantise(torch.tensor([[[0.0, 38, 50, 100]]]), 50)
    assert (value[0, 0, 1].item(), high.tolist()) == (int(38 / 44 * 256), [44])


def test_magma_runs_from_black_to_cream():
    values = torch.tensor([[[0, 128, 255]]], dtype=torch.uint8)
    assert encode_disparity(values, encoding="magma")[0, 0].tolist() == [[0, 0, 3], [182, 54, 121], [251, 252, 191]]


@pytest.mark.parametrize("value", [0, 9, 255])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_frame_without_contrast_gets_the_first_colour(encoding, value):
    """Also one whose few brighter pixels lie past the percentile."""
    frame = np.full((2, 10, 10), value, np.float32)
    frame[1, 0, :4] = 300
    assert (coloured(frame, encoding=encoding) == ENCODINGS[encoding].load()[0].numpy()).all()


def test_a_few_near_pixels_do_not_take_the_levels_of_the_others():
    """A ramp whose last pixels are a hundred times nearer: all 256 colours, not the few below its peak."""
    ramp = np.linspace(1, 2, 4096, dtype=np.float32).reshape(1, 64, 64)
    ramp[0, -1, -40:] = 200
    assert len(np.unique(coloured(ramp, encoding="gray"))) == 256


def test_frames_are_scaled_each_by_itself():
    frames = np.random.default_rng(0).random((3, 8, 8), np.float32)
    frames[1] /= 4
    assert np.array_equal(coloured(frames), np.concatenate([coloured(frame[None]) for frame in frames]))


@given(
    height=st.integers(1, 9), width=st.integers(1, 9), low=st.floats(-10, 10), span=st.floats(0.1, 50),
    power=st.integers(1, 9), seed=st.integers(0, 99),
)  # fmt: skip
def test_colours_are_those_of_the_public_code(height, width, low, span, power, seed):
    """At most the next colour of 256, by float32's rounding."""
    disparity = low + span * np.random.default_rng(seed).random((height, width)) ** power
    single = disparity.astype(np.float32)
    if np.percentile(single, 95) - single.min() > 1e-3 * max(1, abs(low)):
        difference = np.abs(coloured(single[None])[0].astype(int) - coloured_by_matplotlib(single.astype(np.float64)))
        assert difference.max() <= 3  # as far as neighbours in magma differ


def test_a_view_of_a_larger_store_is_read_right():
    whole = torch.randint(0, 256, (4, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    part = whole[::2, 1:9, 3:11]
    found = encode_disparity(part, encoding="magma")
    assert torch.equal(found, encode_disparity(part.contiguous(), encoding="magma"))
