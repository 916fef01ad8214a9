"""Monodepth2 gives the public program's numbers for weights and an image that anyone can make again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FIXTURES
from safetensors.numpy import load_file
from torch import Tensor

from amefu_cli.method.depth.monodepth2 import Monodepth2

FIXTURE = FIXTURES / "monodepth2.safetensors"


def by_the_rule(name: str, shape: tuple[int, ...], *, seed: int, index: int) -> Tensor:
    """Tensor `index` of a state dict of weights made from `seed`."""
    z = np.random.default_rng([seed, index]).standard_normal(shape, dtype=np.float32)
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if name.endswith("running_var"):
        return torch.from_numpy(0.5 + np.abs(z))
    if len(shape) >= 2:
        return torch.from_numpy(np.float32(0.7 * np.sqrt(2 / np.prod(shape[1:]))) * z)
    if name.endswith(".weight"):
        return torch.from_numpy(1 + np.float32(0.1) * z)
    return torch.from_numpy(np.float32(0.1) * z)


@pytest.fixture(scope="module")
def network() -> Monodepth2:
    network = Monodepth2().eval()
    state = network.state_dict()
    for seed, part in ((3, "encoder."), (4, "decoder.")):
        names = [name for name in state if name.startswith(part)]
        for index, name in enumerate(names):
            state[name] = by_the_rule(name, tuple(state[name].shape), seed=seed, index=index)
    network.load_state_dict(state)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.from_numpy(np.random.default_rng([3, 1000000]).random((2, 3, 64, 192), dtype=np.float32))


def test_public_programs_numbers_are_reproduced(network: Monodepth2, image: Tensor) -> None:
    expected = load_file(FIXTURE)  # every 16th row and column of scale 0; every 2nd and 4th of scale 3
    disparities = network(image)
    scaled = 1 / 100 + (1 / 0.1 - 1 / 100) * disparities[0]  # of the nearest depth 0.1 and the farthest 100
    found = {
        "disp_0": disparities[0][:, :, ::16, ::16],
        "disp_3": disparities[3][:, :, ::2, ::4],
        "scaled_disp": scaled[:, :, ::16, ::16],
        "depth": 1 / scaled[:, :, ::16, ::16],
    }
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-4, err_msg=name)


def test_each_scale_halves_the_size_and_one_alone_is_the_same(network: Monodepth2, image: Tensor) -> None:
    every = network(image)
    sizes = {scale: tuple(disparity.shape) for scale, disparity in every.items()}
    assert sizes == {0: (2, 1, 64, 192), 1: (2, 1, 32, 96), 2: (2, 1, 16, 48), 3: (2, 1, 8, 24)}
    alone = network(image, scales=(2,))
    assert list(alone) == [2]
    torch.testing.assert_close(alone[2], every[2], rtol=0, atol=0)


def test_names_are_those_of_the_public_files() -> None:
    names = list(Monodepth2().state_dict())
    assert names[0] == "encoder.conv1.weight"
    assert names[-2:] == ["decoder.13.conv.weight", "decoder.13.conv.bias"]
    assert "decoder.9.conv.conv.weight" in names
    assert not any(".fc." in name for name in names)
    assert (len([n for n in names if n.startswith("encoder.")]), len(names)) == (120, 148)
