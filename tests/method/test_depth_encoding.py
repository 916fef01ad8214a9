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


def coloured_by_matplotlib(disparity: np.ndarray) -> np.ndarray:
    """What the public code writes to disk for one float frame (before JPEG)."""
    norm = Normalize(vmin=disparity.min(), vmax=np.percentile(disparity, 95))
    return (ScalarMappable(norm, "magma").to_rgba(disparity)[..., :3] * 255).astype(np.uint8)


def test_gray_by_hand():
    """Values 10 20 30 40 50: percentile 75 is 40, so 0, 1/3, 2/3, 1 and 1 of 256 levels."""
    frame = torch.tensor([[[10, 20, 30, 40, 50]]], dtype=torch.uint8)
    colours = encode_disparity(frame, encoding="gray", percentile=75)
    assert colours.shape == (1, 1, 5, 3)
    assert colours.dtype == torch.uint8
    assert colours[0, 0, :, 0].tolist() == [0, 85, 170, 255, 255]
    assert (colours[..., :1] == colours).all()


def test_the_percentile_lies_between_two_ranks():
    """Percentile 95 of 0 and 100 is 95: the value 100 is clipped, and 95 would be as bright."""
    frame = torch.tensor([[[0, 100]]], dtype=torch.uint8)
    assert encode_disparity(frame, encoding="gray", percentile=95)[0, 0, :, 0].tolist() == [0, 255]
    both = torch.tensor([[[0, 38, 50, 100]]], dtype=torch.uint8)  # percentile 50 of these is 44
    assert encode_disparity(both, encoding="gray", percentile=50)[0, 0, 1, 0] == int(38 / 44 * 256)


def test_magma_runs_from_black_to_cream():
    frame = torch.tensor([[[0, 128, 255]]], dtype=torch.uint8)
    colours = encode_disparity(frame, encoding="magma", percentile=100)
    assert colours[0, 0].tolist() == [[0, 0, 3], [182, 54, 121], [251, 252, 191]]


@pytest.mark.parametrize("value", [0, 9, 255])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_frame_without_contrast_gets_the_first_colour(encoding, value):
    """Also one whose few brighter pixels lie past the percentile."""
    frame = torch.full((2, 10, 10), value, dtype=torch.uint8)
    frame[1, 0, :4] = 255
    colours = encode_disparity(frame, encoding=encoding, percentile=95)
    assert (colours == ENCODINGS[encoding].load()[0]).all()


def test_frames_are_scaled_each_by_itself():
    frames = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    frames[1] //= 4
    together = encode_disparity(frames, encoding="magma", percentile=95)
    alone = [encode_disparity(frame[None], encoding="magma", percentile=95)[0] for frame in frames]
    assert torch.equal(together, torch.stack(alone))


@given(
    levels=st.integers(1, 256),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    low=st.floats(-10, 10),
    span=st.floats(0.1, 50),
    seed=st.integers(0, 99),
)
def test_low_and_high_of_the_store_cancel(levels, height, width, low, span, seed):
    """The public code colours the disparities themselves: at most the next colour of 256 by rounding."""
    values = np.random.default_rng(seed).integers(0, levels, (height, width), dtype=np.uint8)
    colours = encode_disparity(torch.from_numpy(values)[None], encoding="magma", percentile=95)[0].numpy()
    if np.percentile(values, 95) > values.min():
        expected = coloured_by_matplotlib(low + values / 255 * span)
        assert np.abs(colours.astype(int) - expected).max() <= 3  # as far as neighbours in magma differ
        expected = coloured_by_matplotlib(values.astype(np.float64))
        assert (colours == expected).all()


def test_a_view_of_a_larger_store_is_read_right():
    whole = torch.randint(0, 256, (4, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    part = whole[::2, 1:9, 3:11]
    found = encode_disparity(part, encoding="magma", percentile=95)
    assert torch.equal(found, encode_disparity(part.contiguous(), encoding="magma", percentile=95))
