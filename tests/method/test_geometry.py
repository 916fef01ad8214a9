"""Stored sizes, crops and normalisation: by hand and by properties."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.errors import UsageError
from amefu_cli.method.backbones.network import normalise
from amefu_cli.method.geometry import crop_corner, stored_size

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("height", "width", "geometry", "expected"),
    [
        (240, 320, "square", (256, 256)),
        (1, 7, "square", (256, 256)),
        (240, 320, "official", (240, 320)),
        (1080, 1920, "official", (240, 427)),  # 426.67
        (480, 641, "official", (240, 321)),  # 320.5 goes up
        (240, 224, "official", (240, 224)),
        (240, 223, "official", (256, 224)),
        (1920, 1080, "official", (256, 224)),  # 135 wide
        (480, 447, "official", (240, 224)),  # 223.5 goes up, just wide enough
    ],
)
def test_stored_size(height, width, geometry, expected):
    assert stored_size(height, width, geometry=geometry, size=256) == expected


def test_the_size_is_that_of_the_square():
    assert stored_size(240, 320, geometry="square", size=128) == (128, 128)


@given(height=st.integers(1, 4000), width=st.integers(1, 4000))
def test_the_official_size_always_holds_its_crop(height, width):
    assert min(stored_size(height, width, geometry="official", size=256)) >= 224


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(256, 256, (16, 16)), (240, 427, (8, 101)), (224, 224, (0, 0))]
)
def test_the_centre_crop_draws_nothing(height, width, expected):
    rng = np.random.default_rng(0)
    assert crop_corner(height, width, crop=224, centre=True, rng=rng) == expected
    assert rng.integers(1 << 30) == np.random.default_rng(0).integers(1 << 30)


def test_random_crops_reach_every_corner():
    rng = np.random.default_rng(0)
    corners = {crop_corner(6, 7, crop=5, centre=False, rng=rng) for _ in range(200)}
    assert corners == {(top, left) for top in (0, 1) for left in (0, 1, 2)}


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize(("height", "width"), [(223, 300), (300, 223)])
def test_a_crop_that_does_not_fit_is_refused(height, width, centre):
    message = f"a crop of 224 does not fit into frames of {height}x{width}; lower the crop"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        crop_corner(height, width, crop=224, centre=centre, rng=np.random.default_rng(0))


def test_normalise_by_hand():
    """255 is 1: (1 - 0.5) / 0.25 = 2; 0 gives -0.5 / 0.25 = -2; 51 is 0.2 and with mean 0.2 it is 0."""
    frames = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    found = normalise(frames, mean=(0.5, 0.5, 0.2), std=(0.25, 0.25, 1), dtype=torch.float32)
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([2, -2, 0], abs=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8)])
def test_a_crop_is_normalised_channels_last(dtype, tolerance):
    whole = torch.randint(0, 256, (3, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = whole.clone()
    crop = whole[:, 2:18, 5:21]
    found = normalise(crop, mean=MEAN, std=STD, dtype=dtype)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = (crop.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    torch.testing.assert_close(found.double(), expected.permute(0, 3, 1, 2), rtol=tolerance, atol=2e-6)
    assert torch.equal(whole, before)
