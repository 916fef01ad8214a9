"""Depth models of Hugging Face transformers, such as Depth Anything (arXiv:2401.10891)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from amefu_cli.errors import UsageError, import_extra
from amefu_cli.method.depth.network import nearest_multiple, per_channel, ready
from amefu_cli.method.geometry import IMAGENET_MEAN, IMAGENET_STD

CODE_SETTINGS = {"auto_map", "attn_implementation", "use_pretrained_backbone", "quantization_config"}
"""Settings of a configuration that would make transformers run or fetch what nobody asked for."""

UNUSED_TENSORS = {"backbone.embeddings.mask_token"}  # for training only
METRIC_MODELS = {"zoedepth", "glpn", "depth_pro", "prompt_depth_anything"}  # depth, not disparity


class HubDepth:
    """A depth model of Hugging Face transformers, built from its configuration; no code of the hub is run."""

    def __init__(
        self, weights: Mapping[str, Any], *, device: torch.device, precision: torch.dtype, **_: object
    ) -> None:
        transformers = import_extra("transformers", extra="transformers", needed_by="the estimator 'hf'")
        config, self.preprocessor, self.precision = weights["config"], weights["preprocessor"], precision
        kind = config.get("model_type")
        model = _hub_model(transformers, config, weights["tensors"])
        self.network = ready(model, device=device, precision=precision)
        self.larger_is_farther = kind in METRIC_MODELS or config.get("depth_estimation_type") == "metric"
        mean, std = (0, 0, 0), (1, 1, 1)
        if self.preprocessor.get("do_normalize", True):
            mean = self.preprocessor.get("image_mean", IMAGENET_MEAN)
            std = self.preprocessor.get("image_std", IMAGENET_STD)
        self.mean, self.std = per_channel(mean, device), per_channel(std, device)

    def size(self, height: int, width: int) -> tuple[int, int]:
        return hub_size(self.preprocessor, height, width)

    def __call__(self, images: Tensor) -> Tensor:
        pixels = ((images - self.mean) / self.std).to(self.precision)
        return cast(Tensor, self.network(pixel_values=pixels).predicted_depth)


def _hub_model(transformers: Any, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model of a configuration with these weights, whose names transformers may have to modernise."""
    kind = config.get("model_type")
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()  # what is missing is raised below
    try:
        known = transformers.AutoConfig.for_model(**harmless(config))
        blank = transformers.AutoModelForDepthEstimation.from_config(known, trust_remote_code=False)
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"hf: transformers has no depth model of type {kind!r}: {error}") from error
    try:
        model, report = type(blank).from_pretrained(
            None, config=known, state_dict=dict(tensors), output_loading_info=True
        )
    except RuntimeError as error:
        raise UsageError(f"hf {kind}: weights of another network: {error}") from error
    if missing := sorted(set(report["missing_keys"]) - UNUSED_TENSORS):
        raise UsageError(f"hf {kind}: weights of another network: {len(missing)} missing, {missing[0]!r} first")
    return cast(nn.Module, model)


def harmless(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without private settings and without those that bring code along, at every depth."""
    return {
        key: harmless(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not key.startswith("_") and key not in CODE_SETTINGS
    }


def hub_size(preprocessor: Mapping[str, Any], height: int, width: int) -> tuple[int, int]:
    """The size that a transformers image processor brings images of (height, width) to.

    >>> size = {"height": 518, "width": 518}
    >>> hub_size({"size": size, "keep_aspect_ratio": True, "ensure_multiple_of": 14}, 240, 320)
    (392, 518)
    """
    step = int(preprocessor.get("ensure_multiple_of") or preprocessor.get("size_divisor") or 1)
    size = preprocessor.get("size")
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if not size or not preprocessor.get("do_resize", True):
        return nearest_multiple(height, step), nearest_multiple(width, step)
    if "shortest_edge" in size:
        high = wide = size["shortest_edge"] / min(height, width)
    else:
        high, wide = size["height"] / height, size["width"] / width
        if preprocessor.get("keep_aspect_ratio"):  # the change nearer to 1 for both
            high = wide = min(high, wide, key=lambda factor: abs(1 - factor))
    return nearest_multiple(high * height, step), nearest_multiple(wide * width, step)
