"""Videos through a network: what one of them costs, and what float16 keeps of its features."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import run, run_python

from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.errors import AmefuError, NotFinite
from amefu_cli.method.backbones import build_backbone
from amefu_cli.stages.features import storable
from amefu_cli.stages.public import write_tensors

SHORT = """
import sys
from amefu_cli.stages import {stage} as stage
read = stage.read_frames
def short_of_memory(video, numbers):
    if video.record.id == "bow/clip_1":
        raise {error}
    return read(video, numbers)
stage.read_frames = short_of_memory
sys.argv = ["amefu", {stage!r}, "--workspace", {work!r}]
from amefu_cli.cli import main
main()
"""


@pytest.mark.parametrize("stage", ["depth", "features"])
@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('CUDA out of memory')", "ZeroDivisionError('what?')"])
def test_what_nobody_foresaw_costs_the_one_video(workspace: Path, tmp_path: Path, stage: str, error: str) -> None:
    for video in ("bow/clip_0", "bow/clip_1"):
        (workspace / f"{stage}.zarr/videos/{video}.zip").unlink()
    program = tmp_path / "short.py"
    program.write_text(SHORT.format(stage=stage, error=error, work=str(workspace)))
    done = run_python(program)
    assert done.returncode == 3, done.stderr
    (failure,) = read_failures(workspace)
    assert (failure.video, failure.stage, failure.error, failure.attempt) == ("bow/clip_1", stage, "VideoFault", 1)
    assert failure.message.startswith(f"bow/clip_1: {error.partition('(')[0]}")
    counts = json.loads(run(stage, "--workspace", workspace, "--json").stdout)
    assert (counts["done"], counts["kept"], counts["failed"]) == (1, 20, {})


@pytest.mark.parametrize("largest", [6.2e-5, 1.0, 65504.0])
def test_features_within_float16_keep_three_digits(largest: float) -> None:
    features = torch.tensor([[largest, -largest / 3, 0.0], [0.0, 0.0, 0.0]])
    kept = storable(features, "rgb features of a/b", "resnet18")
    assert kept.dtype == torch.float16
    torch.testing.assert_close(kept[0, 0].double(), torch.tensor(largest).double(), rtol=1e-3, atol=0)
    assert (kept[1] == 0).all()  # of an image that no channel answers to


@pytest.mark.parametrize(("largest", "said"), [(3e5, "reach 3e+05"), (-1e6, "reach 1e+06"), (1e-6, "reach 1e-06")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_beyond_float16_are_refused_with_the_cause(largest: float, said: str, dtype: torch.dtype) -> None:
    features = torch.tensor([[1.0, 1.0], [largest, 0.0]], dtype=dtype)
    with pytest.raises(AmefuError) as raised:
        storable(features, "features.zarr: rgb features of a/b", "resnet18")
    message = str(raised.value)
    assert type(raised.value) is AmefuError
    assert message.startswith("features.zarr: rgb features of a/b ")
    assert "float16, in which they are stored, keeps the digits of 6.1e-05 to 65504 alone" in message
    assert "for resnet18" in message
    if dtype == torch.float32:
        assert said in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_called_so(value: float) -> None:
    with pytest.raises(NotFinite, match="rgb features of a/b are not finite"):
        storable(torch.tensor([[1.0, value]]), "rgb features of a/b", "resnet18")


def test_a_network_whose_features_leave_float16_is_refused_by_the_command(workspace: Path) -> None:
    tensors = build_backbone("resnet18").network.state_dict()
    tensors["layer4.1.bn2.weight"] = tensors["layer4.1.bn2.weight"] * 3e6
    weights, out = workspace / "large.pth", workspace / "large.zarr"
    write_tensors(weights, tensors)
    words = ("features", "--workspace", workspace, "--backbone", "resnet18", "--weights", weights, "--out", out)
    said = run(*words, code=1).stderr
    assert "rgb features of bow/clip_0 reach " in said
    assert "for resnet18" in said
    assert open_store(out, FeaturesHeader, fix="").ids() == []
