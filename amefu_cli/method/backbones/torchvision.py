"""Backbones of torchvision: every classifier that it lists."""

from __future__ import annotations

from torch import nn
from torchvision import models

from amefu_cli.method.backbones.network import Backbone
from amefu_cli.method.geometry import IMAGENET_MEAN, IMAGENET_STD

RESCALED = ("googlenet", "inception_v3")  # their ImageNet weights expect inputs scaled otherwise
RESCALING = {"aux_logits": False, "init_weights": True, "transform_input": True}
PREFERRED_WEIGHTS = ("IMAGENET1K_V1", "IMAGENET1K_SWAG_LINEAR_V1")


def names() -> list[str]:
    """Its classification models."""
    return [*models.list_models(module=models)]


def build(name: str) -> Backbone:
    """The model with its last linear layer, the classifier, taken away."""
    network = models.get_model(name, weights=None, **(RESCALING if name in RESCALED else {}))
    if name.startswith("squeezenet"):  # classifies by a convolution, then pools
        network.classifier[1], network.classifier[2], dim = nn.Identity(), nn.Identity(), 512
    else:
        linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
        dim = network.get_submodule(linear).in_features
        network.set_submodule(linear, nn.Identity())
    return Backbone(network, dim=dim, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def input_size(name: str) -> int:
    """The crop that its ImageNet weights were tested with."""
    return int(_weights(name).transforms().crop_size[0])


def source(name: str) -> str:
    """The address of its ImageNet weights, whose file name ends in their hash."""
    return str(_weights(name).url)


def _weights(name: str) -> models.WeightsEnum:
    weights = {entry.name: entry for entry in models.get_model_weights(name)}
    return next((weights[key] for key in PREFERRED_WEIGHTS if key in weights), next(iter(weights.values())))
