"""Which network the basenets read: the one that the RGB stream started from."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from amefu_cli.artefacts.files.workspace import noted_weights, weights_identity
from amefu_cli.artefacts.stores.header import Stream
from amefu_cli.artefacts.weights.checkpoint import write_checkpoint
from amefu_cli.artefacts.weights.headers import CheckpointNotes, StreamHeader, StreamTraining
from amefu_cli.errors import UsageError
from amefu_cli.flows.streams import Asked, basenet_of, pretrained_stream
from amefu_cli.settings import ClipSettings, PretrainSettings


def pretrained(folder: Path, weights: str) -> tuple[Asked, Path]:
    """An RGB stream that was trained from `weights`, and its checkpoint."""
    path = folder / "work" / "rgb.safetensors"
    path.parent.mkdir(exist_ok=True)
    header = StreamHeader(
        role="rgb", backbone="squeezenet1_1", crop=32, depth_encoding="magma", classes=("bow",), clip=ClipSettings(),
        training=StreamTraining(PretrainSettings(seed=3), weights_identity(weights), videos=1, data=""),
        notes=CheckpointNotes(weights=noted_weights(weights, path)),
    )  # fmt: skip
    write_checkpoint(path, {"weight": np.zeros(1)}, header)
    return pretrained_stream("rgb", path, header), path


def test_the_basenets_read_the_file_that_the_stream_started_from(tmp_path: Path) -> None:
    weights = tmp_path / "start.pth"
    weights.write_bytes(b"some weights")
    rgb, path = pretrained(tmp_path, str(weights))
    basenet = basenet_of(rgb, path, seed=0)
    assert basenet.weights == str(weights)
    assert basenet.row.network == weights_identity(str(weights))
    assert (basenet.row.novel_only, basenet.row.trained_on, basenet.row.crop) == (True, (), 32)
    message = f"started from {weights}, which is gone or changed, and the basenets read what it started from; put that"
    weights.write_bytes(b"other weights")
    with pytest.raises(UsageError, match=re.escape(message)):
        basenet_of(rgb, path, seed=0)
    weights.unlink()
    with pytest.raises(UsageError, match=re.escape(message)):
        basenet_of(rgb, path, seed=0)


def test_the_basenets_of_weights_that_are_no_file(tmp_path: Path) -> None:
    rgb, path = pretrained(tmp_path, "imagenet")
    assert basenet_of(rgb, path, seed=0)[1] == basenet_of(rgb, path, seed=0).row.network == "imagenet"
    rgb, path = pretrained(tmp_path, "none")
    assert basenet_of(rgb, path, seed=3).weights == "none"
    with pytest.raises(UsageError, match="started from random weights of another --seed than 0"):
        basenet_of(rgb, path, seed=0)


def test_the_basenets_of_a_stream_that_was_never_pretrained(tmp_path: Path) -> None:
    """They read the very network of the RGB stream, whatever `--weights` says elsewhere."""
    rgb = Asked(Stream("frames", "squeezenet1_1", "0123456789abcdef", 32, 32), str(tmp_path / "mine.pth"))
    basenet = basenet_of(rgb, tmp_path / "rgb.safetensors", seed=0)
    assert (basenet.weights, basenet.row.network) == (rgb.weights, rgb.row.network)
