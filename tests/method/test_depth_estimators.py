"""Depth estimators: uint8 frames in, disparity at the frames' own size out, larger = nearer."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image
from torch import Tensor

from amefu_cli.artefacts.files.fingerprint import path_identity
from amefu_cli.artefacts.weights.downloads import Cache
from amefu_cli.artefacts.weights.sources import DEPTH_LOADERS, load_depth_weights
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.method.depth import ESTIMATORS, parse_estimator
from amefu_cli.method.depth.monodepth2 import Monodepth2
from amefu_cli.method.depth.network import Estimator, build_estimator, depth_to_disparity, resize
from amefu_cli.method.depth.tiny import TinyDepth

PYDNET = SHARED / "weights" / "mobile_pydnet.onnx"


def build(name: str, weights: Any, **options: Any) -> Estimator:
    """An estimator on the CPU, one thread, float32 unless said otherwise."""
    settings: dict[str, Any] = {
        "device": torch.device("cpu"),
        "precision": torch.float32,
        "threads": 1,
        "larger_is_farther": None,
        "imagenet_input": False,
    }
    return build_estimator(name, weights, **(settings | options))


def flat_frames(*grays: int, height: int = 32, width: int = 48) -> Tensor:
    """One frame of a single gray for each value."""
    return torch.tensor(grays, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, height, width, 3)


def noise(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


# The table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("monodepth2", ("monodepth2", None)),
        ("onnx:C:/models/depth.onnx", ("onnx", "C:/models/depth.onnx")),
        ("hf:depth-anything/Small@main", ("hf", "depth-anything/Small@main")),
        ("tiny:", ("tiny", None)),
    ],
)
def test_an_estimator_is_written_name_or_name_and_source(text: str, parsed: tuple[str, str | None]) -> None:
    assert parse_estimator(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("monodepth", "depth estimator 'monodepth' is not known; did you mean 'monodepth2'?"),
        ("xyz", "depth estimator 'xyz' is not known; there are monodepth2, onnx, hf, tiny"),
        ("onnx", "depth estimator 'onnx' has no weights of its own; write onnx:FILE"),
    ],
)
def test_a_wrong_estimator_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        parse_estimator(text)


def test_every_row_has_a_loader_of_its_kind_of_weights() -> None:
    assert {row.weights for row in ESTIMATORS.values()} <= DEPTH_LOADERS.keys()


@pytest.mark.parametrize(("name", "network"), [("monodepth2", Monodepth2), ("tiny", TinyDepth)])
def test_weights_of_another_network_are_refused(name: str, network: Any) -> None:
    tensors = network().state_dict()
    first = next(iter(tensors))
    with pytest.raises(UsageError, match=f"{name}: weights of another network: 1 missing, '{first}' first"):
        build(name, {key: value for key, value in tensors.items() if key != first})
    with pytest.raises(UsageError, match=f"{name}: weights of another network: size mismatch for {first}"):
        build(name, tensors | {first: torch.zeros(1)})


# Depth and disparity --------------------------------------------------------------------------------------


def test_disparity_is_one_over_depth_and_bounded_where_depth_is_zero() -> None:
    depth = torch.tensor([[[2.0, 4.0], [0.0, 0.5]], [[1.0, 1.0], [1.0, 10.0]]])
    expected = torch.tensor([[[0.5, 0.25], [250.0, 2.0]], [[1.0, 1.0], [1.0, 0.1]]])  # 4 / 1000 -> 250
    torch.testing.assert_close(depth_to_disparity(depth), expected)


def test_what_is_nowhere_above_zero_is_no_depth() -> None:
    message = "the network gave no value above 0, so they are no depths; drop 'larger is farther'"
    with pytest.raises(AmefuError, match=message):
        depth_to_disparity(torch.tensor([[[1.0]], [[-1.0]]]))


def test_resize_averages_where_it_shrinks() -> None:
    stripes = torch.tensor([0.0, 1.0]).repeat(64).expand(1, 1, 8, 128)
    torch.testing.assert_close(resize(stripes, (8, 8))[..., 1:-1], torch.full((1, 1, 8, 6), 0.5), atol=0.02, rtol=0)


# Networks in torch ----------------------------------------------------------------------------------------


def test_monodepth2_is_fed_640_by_192_and_answers_at_the_frames_size() -> None:
    torch.manual_seed(0)
    network = Monodepth2().eval()
    frames = noise(2, 60, 100)
    found = build("monodepth2", network.state_dict())(frames)
    with torch.inference_mode():
        images = resize(frames.permute(0, 3, 1, 2), (192, 640)) / 255
        expected = resize(network(images, scales=(0,))[0], (60, 100))[:, 0]
    assert (found.dtype, found.shape) == (torch.float32, (2, 60, 100))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_monodepth2_is_fed_the_size_that_its_weights_name() -> None:
    torch.manual_seed(0)
    network, frames = Monodepth2().eval(), noise(1, 60, 100)
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    found = build("monodepth2", tensors | {"height": torch.tensor(320), "width": torch.tensor(1024)})(frames)
    with torch.inference_mode():
        images = resize(frames.permute(0, 3, 1, 2), (320, 1024)) / 255
        expected = resize(network(images, scales=(0,))[0], (60, 100))[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    for height in (0, 100, 1 << 20):
        with pytest.raises(UsageError, match=rf"monodepth2: weights for 640×{height} pixels; multiples of 32"):
            build("monodepth2", tensors | {"height": torch.tensor(height)})


def test_monodepth2_in_bfloat16_agrees_to_a_hundredth() -> None:
    torch.manual_seed(0)
    weights, frames = Monodepth2().state_dict(), noise(1, 64, 64)
    fine = build("monodepth2", weights)(frames)
    coarse = build("monodepth2", weights, precision=torch.bfloat16)(frames)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, fine, rtol=1e-2, atol=0)


def test_tiny_answers_at_the_frames_size() -> None:
    found = build("tiny", TinyDepth().state_dict())(noise(3, 90, 110))
    assert (found.dtype, found.shape) == (torch.float32, (3, 90, 110))
    assert (found > 0).all()


# ONNX -----------------------------------------------------------------------------------------------------

Shape = list[int | str]


def onnx_mean(
    shape: Shape, *, channel_axis: int = 1, keep: bool = True, kind: str = "FLOAT", batch_sum: bool = False
) -> bytes:
    """A model whose map is the mean of the three channels, and, if asked, the sum over the batch too."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["frames"], ["real"], to=types.FLOAT),
        helper.make_node("Constant", [], ["axes"], value_ints=[channel_axis]),
        helper.make_node("ReduceMean", ["real", "axes"], ["map"], keepdims=int(keep)),
    ]
    if batch_sum:
        nodes[2].output[0] = "each"
        nodes.append(helper.make_node("Constant", [], ["first"], value_ints=[0]))
        nodes.append(helper.make_node("ReduceSum", ["each", "first"], ["map"], keepdims=1))
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("frames", getattr(types, kind), shape)],
        [helper.make_tensor_value_info("map", types.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture(autouse=True)
def _onnx_only_where_installed(request: pytest.FixtureRequest) -> None:
    if "onnx" in request.node.name:
        pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    "model",
    [
        {"shape": ["batch", 3, 16, 16]},
        {"shape": ["batch", 3, "height", "width"]},
        {"shape": [1, 3, 16, 16]},
        {"shape": [2, 3, 16, 16]},
        {"shape": ["batch", 3, 16, 16], "keep": False},
        {"shape": ["batch", 16, 16, 3], "channel_axis": 3},
        {"shape": ["batch", 16, 16, 3], "channel_axis": 3, "keep": False},
        {"shape": ["batch", 3, 16, 16], "kind": "FLOAT16"},
    ],
)
def test_onnx_models_of_every_layout_give_one_map_per_frame(model: dict[str, Any]) -> None:
    found = build("onnx", onnx_mean(**model))(flat_frames(0, 51, 255))
    assert (found.dtype, found.shape) == (torch.float32, (3, 32, 48))
    expected = torch.tensor([0.0, 0.2, 1.0]).view(3, 1, 1).expand(3, 32, 48)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_onnx_model_of_bytes_is_given_0_to_255() -> None:
    found = build("onnx", onnx_mean(["batch", 3, 16, 16], kind="UINT8"))(flat_frames(0, 51, 255))
    assert found.mean(dim=(1, 2)).tolist() == [0, 51, 255]


def test_onnx_map_stands_upright_and_in_place() -> None:
    frames = torch.zeros(1, 32, 48, 3, dtype=torch.uint8)
    frames[:, :16, :24] = 255  # the top left quarter
    found = build("onnx", onnx_mean(["batch", 3, 16, 16]))(frames)[0]
    assert found[0, 0] == 1
    assert (found[-1, 0], found[0, -1], found[-1, -1]) == (0, 0, 0)


def test_onnx_depth_is_turned_into_disparity() -> None:
    found = build("onnx", onnx_mean(["batch", 3, 16, 16]), larger_is_farther=True)(flat_frames(51, 255))
    torch.testing.assert_close(found.mean(dim=(1, 2)), torch.tensor([5.0, 1.0]))


def test_onnx_input_may_be_normalised_as_imagenet() -> None:
    found = build("onnx", onnx_mean(["batch", 3, 16, 16]), imagenet_input=True)(flat_frames(0))
    expected = -np.mean(np.array([0.485, 0.456, 0.406]) / np.array([0.229, 0.224, 0.225]))
    np.testing.assert_allclose(found, np.full((1, 32, 48), expected), rtol=1e-5)


def test_onnx_free_sizes_become_multiples_of_224() -> None:
    network = build("onnx", onnx_mean(["batch", 3, "height", "width"])).network
    assert [network.size(256, 256), network.size(480, 854), network.size(16, 16)] == [
        (224, 224),
        (448, 896),
        (224, 224),
    ]


def test_onnx_weights_may_lie_in_a_file_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exporters write them now: the map is 3 × the mean of the channels, and the 3 is in the second file."""
    path = lay_onnx_with_data(tmp_path / "model", factor=3.0)
    monkeypatch.chdir(tmp_path)
    cache = Cache(tmp_path / "cache", offline=True)
    for source in (path, Path("model/model.onnx")):
        content, first = load_depth_weights("onnx", str(source), cache=cache)
        found = build("onnx", content)(flat_frames(0, 51, 255))
        torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.0, 0.6, 3.0]))
    identity = path_identity(path)
    moved = path.parent.rename(tmp_path / "moved") / "model.onnx"
    assert path_identity(moved) == identity
    (moved.parent / "model.onnx.data").write_bytes(np.full(256, 2, np.float32).tobytes())
    assert path_identity(moved) != identity
    assert load_depth_weights("onnx", str(moved), cache=cache)[1].sha256 != first.sha256
    (moved.parent / "model.onnx.data").unlink()
    for read in (path_identity, lambda path: load_depth_weights("onnx", str(path), cache=cache)):
        with pytest.raises(UsageError, match=r"has its weights in 'model\.onnx\.data', which is not beside it"):
            read(moved)


def lay_onnx_with_data(folder: Path, *, factor: float) -> Path:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(onnx_mean(["batch", 3, 16, 16]))
    nodes = model.graph.node
    nodes[2].output[0] = "mean"
    nodes.append(onnx.helper.make_node("Mul", ["mean", "factor"], ["map"]))
    values = np.full((1, 1, 16, 16), factor, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, "factor"))
    folder.mkdir()
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )
    return folder / "model.onnx"


def test_onnx_models_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="onnx: not a model that onnxruntime can load: "):
        build("onnx", b"no model")
    with pytest.raises(UsageError, match=r"onnx: input 'frames' has shape \[1, 4, 8, 8\]; one batch of RGB"):
        build("onnx", onnx_mean([1, 4, 8, 8]))
    with pytest.raises(UsageError, match=r"onnx: input 'frames' is tensor\(int32\); it must be tensor\(float\)"):
        build("onnx", onnx_mean([1, 3, 8, 8], kind="INT32"))
    one_for_all = build("onnx", onnx_mean(["batch", 3, 8, 8], batch_sum=True))
    with pytest.raises(UsageError, match=r"onnx: 2 images gave an output of shape \(1, 8, 8\); one map per image"):
        one_for_all(flat_frames(1, 2))


def test_onnx_on_a_device_that_it_cannot_use_is_an_error_not_a_fall_back() -> None:
    with pytest.raises(UsageError, match="onnx: this onnxruntime does not run on mps; use --device cpu"):
        build("onnx", onnx_mean([1, 3, 8, 8]), device=torch.device("mps"))


def test_onnx_model_of_real_weights_gives_a_smooth_map_of_the_road() -> None:
    if not PYDNET.is_file():
        pytest.skip("the real network is not beside the project")
    weights, provenance = load_depth_weights("onnx", str(PYDNET), cache=Cache(Path("unused"), offline=True))
    assert provenance.sha256 == "ebbb41ff8605f83ac80bc3020dfa46ce30dbfd120936c153ca1775e5cc1eb472"
    # Sky above, road below: the road at the bottom is nearer than the horizon.
    rows = torch.linspace(0, 1, 96).view(1, 96, 1, 1)
    frames = (torch.where(rows < 0.5, 220 - 60 * rows, 90 + 40 * rows).expand(1, 96, 128, 3)).to(torch.uint8)
    found = build("onnx", weights)(frames)[0]
    assert found.shape == (96, 128)
    assert found[-16:].mean() > found[32:48].mean()


# Hugging Face ---------------------------------------------------------------------------------------------

PREPROCESSOR = {
    "do_normalize": True,
    "size": {"height": 28, "width": 28},
    "keep_aspect_ratio": True,
    "ensure_multiple_of": 14,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.25, 0.5],
    "resample": 2,
}


def depth_anything(transformers: Any, **settings: Any) -> Any:
    """A Depth Anything of a few thousand random weights."""
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        patch_size=14,
        **settings,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForDepthEstimation.from_config(config).eval()
    for parameter in model.parameters():  # its own initial weights give a map of zeros
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.ones_(model.head.conv3.bias)
    return model


def saved(model: Any, folder: Path) -> dict[str, Any]:
    """What a folder of the model holds, read by our own loader."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return load_depth_weights("hf", str(folder), cache=Cache(folder / "cache", offline=True))[0]


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers")


def test_hub_model_gives_what_transformers_gives(transformers: Any, tmp_path: Path) -> None:
    model = depth_anything(transformers)
    frames = noise(2, 56, 84)
    found = build("hf", saved(model, tmp_path))(frames)
    with torch.inference_mode():
        images = resize(frames.permute(0, 3, 1, 2), (28, 42)).round() / 255
        mean, std = (torch.tensor(PREPROCESSOR[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
        expected = model(pixel_values=(images - mean) / std).predicted_depth
    assert expected.std() > 0
    enlarged = torch.nn.functional.interpolate(expected[:, None], (56, 84), mode="bicubic")[:, 0]
    torch.testing.assert_close(found, enlarged, rtol=1e-3, atol=1e-5)


def test_hub_model_of_metric_depth_is_turned_into_disparity(transformers: Any, tmp_path: Path) -> None:
    model = depth_anything(transformers, depth_estimation_type="metric", max_depth=20)
    weights, frames = saved(model, tmp_path), noise(1, 28, 28)
    depth = build("hf", weights, larger_is_farther=False)(frames)
    torch.testing.assert_close(build("hf", weights)(frames), depth_to_disparity(depth), rtol=1e-3, atol=1e-6)


def test_hub_model_of_other_weights_or_kinds_is_refused(transformers: Any, tmp_path: Path) -> None:
    weights = saved(depth_anything(transformers), tmp_path)
    first = "head.conv1.weight"
    rest = {key: value for key, value in weights["tensors"].items() if key != first}
    with pytest.raises(UsageError, match=f"hf depth_anything: weights of another network: 1 missing, '{first}'"):
        build("hf", weights | {"tensors": rest})
    with pytest.raises(UsageError, match="hf depth_anything: weights of another network: "):
        build("hf", weights | {"tensors": rest | {first: torch.zeros(2)}})
    with pytest.raises(UsageError, match="hf: transformers has no depth model of type 'telepathy'"):
        build("hf", weights | {"config": {"model_type": "telepathy"}})
    with pytest.raises(UsageError, match="hf: transformers has no depth model of type 'bert'"):
        build("hf", weights | {"config": {"model_type": "bert"}})


def test_hub_configuration_cannot_bring_code(transformers: Any, tmp_path: Path) -> None:
    weights = saved(depth_anything(transformers), tmp_path)
    weights["config"] |= {
        "auto_map": {"AutoModelForDepthEstimation": "someone/repository--model.Evil"},
        "_attn_implementation": "someone/kernel",
        "quantization_config": {"quant_method": "bitsandbytes"},
    }
    weights["config"]["backbone_config"] |= {"attn_implementation": "someone/kernel"}
    assert build("hf", weights)(noise(1, 28, 28)).shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("hf", "transformers", "transformers")],
)
def test_without_an_extra_the_line_that_installs_it_is_given(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = f"the estimator '{name}' needs {module}, which is not installed: `pip install 'amefu[{extra}]'`"
    with pytest.raises(UsageError, match=re.escape(message)):
        build(name, b"")


def test_lanczos_is_pillows() -> None:
    """Frames reach the network as the public code brings them to its size; without it bilinear."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 30, 3), np.uint8)
    seen = []

    class Network:
        larger_is_farther = False

        def size(self, height: int, width: int) -> tuple[int, int]:
            return 16, 48

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images[:, 0]

    for lanczos in (True, False):
        disparity = Estimator(Network(), False, lanczos)(torch.from_numpy(frames))
        assert disparity.shape == (2, 24, 30)
    pictures = [Image.fromarray(frame).resize((48, 16), Image.Resampling.LANCZOS) for frame in frames]
    expected = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(seen[0], expected)
    assert not torch.equal(seen[1], expected)
