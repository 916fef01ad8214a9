"""The names of the public code's tensors and ours: a bijection that keeps the public order."""

from __future__ import annotations

import json

import pytest
from conftest import FIXTURES

from amefu_cli.artefacts.weights.public import expected_shapes, file_names, public_name, roles_by_names, stream_names
from amefu_cli.method.backbones import build_backbone

PUBLIC_STREAM = json.loads((FIXTURES / "amefu_submodel_keys.json").read_text())
NETWORK = build_backbone("resnet50").shapes()
CLASSES = {"rgb": 64, "depth": 64, "fusion": 64}


@pytest.mark.parametrize(
    ("ours", "public"),
    [
        ("conv1.weight", "convnet.0.weight"),
        ("bn1.running_var", "convnet.1.running_var"),
        ("layer1.0.downsample.0.weight", "convnet.4.0.downsample.0.weight"),
        ("layer4.2.bn3.num_batches_tracked", "convnet.7.2.bn3.num_batches_tracked"),
    ],
)
def test_the_children_of_resnet_are_counted_in_the_public_code(ours: str, public: str) -> None:
    assert public_name(ours) == public


def test_a_stream_has_the_names_shapes_and_order_of_a_public_submodel() -> None:
    shapes = expected_shapes(NETWORK, "rgb", dim=2048, classes=CLASSES)

    assert {name: list(shape) for name, shape in shapes.items()} == PUBLIC_STREAM
    assert list(shapes) == list(PUBLIC_STREAM)


def test_a_full_file_holds_two_streams_dgadain_and_an_unused_classifier() -> None:
    shapes = expected_shapes(NETWORK, "full", dim=2048, classes={"rgb": 64, "depth": 32, "fusion": 24})
    names = list(shapes)

    assert len(names) == 646
    assert names[:320] == [f"submodel_rgb.{name}" for name in PUBLIC_STREAM]
    assert names[320:640] == [f"submodel_depth.{name}" for name in PUBLIC_STREAM]
    assert {name: shapes[name] for name in names[640:]} == {
        "instance_norm.affine_scale.weight": (2048, 2048),
        "instance_norm.affine_scale.bias": (2048,),
        "instance_norm.affine_bias.weight": (2048, 2048),
        "instance_norm.affine_bias.bias": (2048,),
        "fc.weight": (24, 2048),
        "fc.bias": (24,),
    }
    assert shapes["submodel_depth.fc.weight"] == (32, 2048)


@pytest.mark.parametrize("role", ["full", "rgb", "depth"])
def test_no_two_tensors_share_a_name_on_either_side(role: str) -> None:
    for names in file_names(NETWORK, role).values():
        assert len(set(names.values())) == len(names)


def test_our_names_of_a_stream_are_those_of_its_checkpoint() -> None:
    assert stream_names(["conv1.weight"], prefix="submodel_rgb.") == {
        "backbone.network.conv1.weight": "submodel_rgb.convnet.0.weight",
        "head.weight": "submodel_rgb.fc.weight",
        "head.bias": "submodel_rgb.fc.bias",
    }


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (["submodel_rgb.convnet.0.weight", "instance_norm.affine_scale.bias"], "full"),
        (["convnet.0.weight"], "stream"),
        (["conv1.weight", "fc.weight"], "other"),
    ],
)
def test_a_file_is_known_by_its_names(names: list[str], role: str) -> None:
    assert roles_by_names(names) == role
