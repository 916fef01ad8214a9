"""Backbones of torchvision: every classifier that it lists."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from amefu_cli.method.backbones.network import Backbone
from amefu_cli.method.geometry import IMAGENET_MEAN, IMAGENET_STD

UNUSUAL_OPTIONS: dict[str, dict[str, Any]] = {  # ImageNet weights of these two expect inputs scaled otherwise
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
}

PREFERRED_WEIGHTS = ("IMAGENET1K_V1", "IMAGENET1K_SWAG_LINEAR_V1")


def names() -> list[str]:
    """Its classification models."""
    return [*models.list_models(module=models)]


def build(name: str) -> Backbone:
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


def source(name: str) -> str:
    """The address of its ImageNet weights, whose file name ends in their hash."""
    weights = {entry.name: entry for entry in models.get_model_weights(name)}
    chosen = next((weights[key] for key in PREFERRED_WEIGHTS if key in weights), next(iter(weights.values())))
    return str(chosen.url)
