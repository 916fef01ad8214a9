"""The state of a training as arrays, and back: what pretrain and meta-train put into a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from amefu_cli.artefacts.training_run import Position, State, TrainingRun


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Weights and optimizer momenta. Rates follow from the epoch, randomness from the position."""
    momentum = {
        f"{index}/{name}": value
        for index, named in optimizer.state_dict()["state"].items()
        for name, value in named.items()
        if isinstance(value, torch.Tensor)
    }
    return {"model": to_numpy(model.state_dict()), "optimizer": to_numpy(momentum)}


def resume(run: TrainingRun, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put the snapshot of this training, if there is one, into model and optimizer; returns where it stands."""
    found = run.resume()
    if found is None:
        return Position()
    state, position = found
    model.load_state_dict(to_torch(state["model"]))
    momentum: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in to_torch(state.get("optimizer", {})).items():
        index, _, key = name.partition("/")
        momentum.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": momentum, "param_groups": optimizer.state_dict()["param_groups"]})
    return position


def to_numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors of any device as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def to_torch(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    """Arrays as CPU tensors."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
