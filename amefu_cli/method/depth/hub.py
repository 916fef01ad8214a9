"""Depth models of Hugging Face transformers, such as Depth Anything (arXiv:2401.10891)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from amefu_cli.errors import UsageError, import_extra
from amefu_cli.method.depth.network import ready

# Settings of a configuration that would make transformers run or fetch what nobody asked for.
CODE_SETTINGS = {"auto_map", "attn_implementation", "use_pretrained_backbone", "quantization_config"}
UNUSED_TENSORS = {"backbone.embeddings.mask_token"}  # for training only
METRIC_MODELS = {"zoedepth", "glpn", "depth_pro", "prompt_depth_anything"}  # depth, not disparity
INVERTED_MODELS = {"depth_pro"}  # whose network gives inverse depth, which its image processor inverts at last


class HubDepth:
    """A depth model of Hugging Face transformers, built from its configuration; no code of the hub is run.

    How pictures become its input, and its output a map of their size, is left to its own image processor, whose
    defaults are those of the code that it was trained with.
    """

    def __init__(
        self, weights: Mapping[str, Any], *, device: torch.device, precision: torch.dtype, **_: object
    ) -> None:
        transformers = import_extra("transformers", extra="transformers", needed_by="the estimator 'hf'")
        config, self.precision = weights["config"], precision
        model: Any = _hub_model(transformers, config, weights["tensors"])
        self.processor = _image_processor(transformers, weights["preprocessor"], model)
        self.network = ready(model, device=device, precision=precision)
        kind = model.config.model_type
        self.larger_is_farther = kind in METRIC_MODELS or config.get("depth_estimation_type") == "metric"
        self.overshoots = self.larger_is_farther and kind not in INVERTED_MODELS

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width  # its image processor resizes

    def __call__(self, images: Tensor) -> Tensor:
        pictures = images.mul(255).round().to(torch.uint8)
        pixels = self.processor(images=[*pictures], return_tensors="pt")["pixel_values"]
        output = self.network(pixel_values=pixels.to(images.device, self.precision))
        for name in ("predicted_depth", "field_of_view"):
            if output.get(name) is not None:
                output[name] = output[name].float()
        sizes = [tuple(picture.shape[1:]) for picture in pictures]
        found = self.processor.post_process_depth_estimation(output, sizes)
        maps = torch.stack([one["predicted_depth"] for one in found])
        if self.overshoots:  # at edges, by bicubic resizing: beside 1 / nearly 0 all other disparity would be alike
            low, high = torch.aminmax(output["predicted_depth"].flatten(1), dim=1)
            maps = maps.clamp(low[:, None, None], high[:, None, None])
        return maps


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


def _image_processor(transformers: Any, preprocessor: Mapping[str, Any], model: Any) -> Any:
    """The image processor of a model, with what its file does not say as transformers has it for such a model."""
    with tempfile.TemporaryDirectory() as folder:  # transformers reads files only, and of them what it may
        with open(f"{folder}/preprocessor_config.json", "w") as file:
            json.dump(harmless(preprocessor), file)
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(
                folder, config=model.config, trust_remote_code=False, local_files_only=True
            )
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise UsageError(f"hf {model.config.model_type}: no image processor of transformers: {error}") from error
    if not hasattr(processor, "post_process_depth_estimation"):
        raise UsageError(f"hf {model.config.model_type}: {type(processor).__name__} is not of a depth model")
    return processor


def harmless(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without private settings and without those that bring code along, at every depth."""
    return {
        key: harmless(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if not key.startswith("_") and key not in CODE_SETTINGS
    }
