"""Depth models of transformers: each, small and random, beside transformers' own pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from amefu_cli.artefacts.weights.downloads import Cache
from amefu_cli.artefacts.weights.sources import load_depth_weights
from amefu_cli.errors import UsageError
from amefu_cli.method.depth.network import Estimator, build_estimator

transformers = pytest.importorskip("transformers")

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
NECK = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "reassemble_factors": [4, 2, 1, 0.5]}
TINY = {"hidden_size": 16, "num_attention_heads": 2}


def glpn() -> Any:
    """Its files say nothing of a normalisation, and its image processor makes none."""
    widths = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4], "decoder_hidden_size": 16}
    return transformers.GLPNConfig(**widths)


def dpt() -> Any:
    network = {"intermediate_size": 32, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]}
    return transformers.DPTConfig(**TINY, **network, **NECK, image_size=384, patch_size=16, is_hybrid=False)


def depth_anything(**metric: Any) -> Any:
    backbone = transformers.Dinov2Config(
        **TINY, num_hidden_layers=2, image_size=28, patch_size=14, out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
    )  # fmt: skip
    return transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, reassemble_factors=[2, 1], neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8, head_hidden_size=4, patch_size=14, **metric,
    )  # fmt: skip


def zoedepth() -> Any:
    stages = [f"stage{number}" for number in range(1, 5)]
    backbone = transformers.BeitConfig(
        **TINY, num_hidden_layers=4, intermediate_size=32, image_size=384, patch_size=16, out_features=stages,
        reshape_hidden_states=False, use_relative_position_bias=True, use_absolute_position_embeddings=False,
    )  # fmt: skip
    names = ("hidden_size", "intermediate_size", "num_attention_heads")
    return transformers.ZoeDepthConfig(
        backbone_config=backbone, **NECK, bottleneck_features=8, num_relative_features=8, bin_embedding_dim=8,
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        num_attractors=[4, 3, 2, 1], num_patch_transformer_layers=1,
        **{f"patch_transformer_{name}": 2 if name.startswith("num") else 8 for name in names},
    )  # fmt: skip


def depth_pro() -> Any:
    part = transformers.Dinov2Config(**TINY, num_hidden_layers=4, mlp_ratio=2, patch_size=4, image_size=32).to_dict()
    return transformers.DepthProConfig(
        patch_size=32, patch_embeddings_size=4, num_hidden_layers=2, scaled_images_ratios=[0.5, 1.0],
        scaled_images_overlap_ratios=[0.0, 0.2], scaled_images_feature_dims=[8, 8], intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8], fusion_hidden_size=16, use_fov_model=True, num_fov_head_layers=0,
        use_batch_norm_in_fusion_residual=False,
        **{f"{name}_model_config": {**part, "model_type": "dinov2"} for name in ("image", "patch", "fov")},
    )  # fmt: skip


SQUARE = {"size": {"height": 518, "width": 518}, "ensure_multiple_of": 14, "keep_aspect_ratio": True}
MODELS: Mapping[str, tuple[Callable[[], Any], dict[str, Any]]] = {  # with what their files on the hub say
    "glpn": (glpn, {"feature_extractor_type": "GLPNFeatureExtractor", "resample": 2, "size_divisor": 32}),
    "dpt": (dpt, {"feature_extractor_type": "DPTFeatureExtractor", **HALF, "resample": 2, "size": 384}),
    "depth-anything-v1": (
        depth_anything, {**SQUARE, **IMAGENET, "image_processor_type": "DPTImageProcessor", "resample": 3},
    ),
    "depth-anything-v2-metric": (
        lambda: depth_anything(depth_estimation_type="metric", max_depth=20), {**SQUARE, **IMAGENET, "resample": 3},
    ),
    "zoedepth": (
        zoedepth, {**HALF, "do_pad": True, "size": {"height": 384, "width": 512}, "ensure_multiple_of": 32,
                   "image_processor_type": "ZoeDepthImageProcessor", "keep_aspect_ratio": True, "resample": 2},
    ),
    "depth-pro": (
        depth_pro, {**HALF, "image_processor_type": "DepthProImageProcessorFast", "resample": 2,
                    "size": {"height": 64, "width": 64}},
    ),
    "says nothing": (depth_anything, {}),
}  # fmt: skip


def lay_model(folder: Path, name: str) -> Path:
    """The folder of a small random model whose maps are of many values."""
    config, preprocessor = MODELS[name]
    torch.manual_seed(0)
    model = transformers.AutoModelForDepthEstimation.from_config(config()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5)
    if name == "depth-pro":  # inverse depth above 0, and a field of view of about 40 degrees
        torch.nn.init.ones_(model.head.layers[-2].bias)
        torch.nn.init.constant_(model.fov_model.head.layers[-1].bias, 40.0)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def build(folder: Path, *, preprocessor: dict[str, Any] | None = None, farther: bool | None = None) -> Estimator:
    weights, _ = load_depth_weights("hf", str(folder), cache=Cache(folder / "cache", offline=True))
    if preprocessor is not None:
        weights["preprocessor"] = preprocessor
    return build_estimator(
        "hf", weights, device=torch.device("cpu"), precision=torch.float32, threads=1, larger_is_farther=farther,
        imagenet_input=False,
    )  # fmt: skip


def soft_picture(seed: int, height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3): a coarse random texture, enlarged without steps."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_what_its_own_pipeline_gives(tmp_path: Path, name: str) -> None:
    folder = lay_model(tmp_path, name)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForDepthEstimation.from_pretrained(folder)
    pipeline = transformers.pipeline("depth-estimation", model=model, image_processor=processor, device="cpu")
    ours = build(folder, farther=False)
    for seed, size in enumerate(((256, 256), (240, 320))):
        frame = soft_picture(seed, *size)
        found = ours(torch.from_numpy(frame)[None])[0].numpy()
        expected = pipeline(Image.fromarray(frame))["predicted_depth"].numpy()
        assert found.shape == expected.shape == size
        assert expected.std() > 0
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
        assert found.mean() == pytest.approx(expected.mean(), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "farther"),
    [("glpn", True), ("zoedepth", True), ("depth-pro", True), ("depth-anything-v2-metric", True),
     ("depth-anything-v1", False), ("dpt", False)],
)  # fmt: skip
def test_depth_becomes_disparity_and_disparity_stays(tmp_path: Path, name: str, farther: bool) -> None:
    assert build(lay_model(tmp_path, name)).larger_is_farther == farther


def test_resizing_makes_no_depth_that_the_network_did_not_give(tmp_path: Path) -> None:
    """Bicubic resizing falls below 1 beside a step from 1 to 80, and 1 / nearly 0 would be all that is seen."""
    ours = build(lay_model(tmp_path, "depth-anything-v2-metric"), farther=False)
    step = torch.ones(1, 140, 140)
    step[:, :, 70:] = 80
    ours.network.network.forward = lambda **_: transformers.modeling_outputs.DepthEstimatorOutput(predicted_depth=step)
    found = ours(torch.zeros(1, 256, 256, 3, dtype=torch.uint8))
    assert (found.min(), found.max()) == (1, 80)


@pytest.mark.parametrize(
    ("name", "preprocessor", "given", "size"),
    [
        ("dpt", {"size": {"height": 518, "width": 518}}, (256, 256), (518, 518)),
        # factors 518/240 = 2.16 and 518/320 = 1.62; 1.62 is nearer to 1: 388.5 -> 27.75 -> 28 · 14 = 392
        ("dpt", SQUARE, (240, 320), (392, 518)),
        ("dpt", {"size": 384}, (10, 20), (384, 384)),
        ("dpt", {"do_resize": False, "size": {"height": 9, "width": 9}}, (50, 60), (50, 60)),
        ("dpt", {}, (240, 320), (384, 384)),
        ("glpn", {"size_divisor": 32}, (240, 320), (224, 320)),
        ("glpn", {}, (100, 70), (96, 64)),
    ],
)
def test_sizes_are_those_of_the_image_processor(
    tmp_path: Path, name: str, preprocessor: dict[str, Any], given: tuple[int, int], size: tuple[int, int]
) -> None:
    processor = build(lay_model(tmp_path, name), preprocessor=preprocessor).network.processor
    pixels = processor(images=[torch.zeros(3, *given, dtype=torch.uint8)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, "hf glpn: ViTImageProcessor.* is not of a depth model"),
        ({"size": "large"}, "hf glpn: no image processor of transformers: "),
    ],
)
def test_an_image_processor_of_something_else_is_refused(
    tmp_path: Path, preprocessor: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(lay_model(tmp_path, "glpn"), preprocessor=preprocessor)


def test_an_image_processor_brings_no_code(tmp_path: Path) -> None:
    auto_map = {"AutoImageProcessor": "someone/repository--processing.Evil"}
    build(lay_model(tmp_path, "glpn"), preprocessor={"auto_map": auto_map, "size_divisor": 32})
