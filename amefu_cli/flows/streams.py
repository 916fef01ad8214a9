"""By which streams features are made: those of the pretrained checkpoints, else of ImageNet, and any further ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from amefu_cli.artefacts.files.fingerprint import file_sha256
from amefu_cli.artefacts.files.workspace import NO_FILES, located_weights, weights_identity
from amefu_cli.artefacts.stores.header import FeaturesHeader, Stream
from amefu_cli.artefacts.weights.checkpoint import open_stream
from amefu_cli.artefacts.weights.headers import StreamHeader
from amefu_cli.errors import UsageError
from amefu_cli.flows.work import check_backbone
from amefu_cli.method.backbones import input_size
from amefu_cli.settings import FallbackSettings, StreamSettings

IMAGENET = "imagenet"  # the RGB stream's network without pretraining, of novel videos: what the paper's basenets read
NAME = re.compile(r"[a-z][a-z0-9_-]*")
FORM = "--stream NAME=BACKBONE, NAME=depth:BACKBONE for one that reads disparity, and @WEIGHTS for others than imagenet"


class Asked(NamedTuple):
    """One stream: its row in the header of features.zarr, and the weights: `imagenet`, `none`, a file or checkpoint."""

    row: Stream
    weights: str


def streams_of(
    checkpoints: Mapping[str, Path], fallback: FallbackSettings, there: FeaturesHeader | None, beside: Path, *,
    recorded: bool,
) -> dict[str, Asked]:  # fmt: skip
    """The streams `rgb` and `depth`: of `checkpoints`, else, where `recorded`, as the store that is `there` has them,
    else of `fallback`.

    Raises:
        UsageError: no such backbone, or no such file of weights.
    """
    pretrained = {name: open_stream(path, name) for name, path in checkpoints.items() if path.is_file()}
    others = [header.stream for header in pretrained.values()]
    sees = fallback.settled(others[0] if others else StreamSettings())  # so that both features are equally wide
    asked = {}
    for name, path in checkpoints.items():
        if name in pretrained:
            asked[name] = pretrained_stream(name, path, pretrained[name])
        elif recorded and (stream := _recorded(name, there, beside)):
            asked[name] = stream
        else:
            if there is None or name not in there.streams or there.streams[name].backbone != sees.backbone:
                check_backbone(sees.backbone, sees.weights)  # which loads the backbone's library
            asked[name] = Asked(_row(name, sees, weights_identity(sees.weights)), sees.weights)
    return asked


def pretrained_stream(name: str, path: Path, header: StreamHeader) -> Asked:
    row = _row(name, header.stream, file_sha256(path)[:16])
    return Asked(replace(row, trained_on=header.classes), str(path))


def _row(name: str, sees: StreamSettings, network: str) -> Stream:
    reads, encoding = ("frames", None) if name == "rgb" else ("depth", sees.depth_encoding)
    return Stream(reads, sees.backbone, network, crop=sees.crop, size=sees.crop, encoding=encoding)


def _recorded(name: str, there: FeaturesHeader | None, beside: Path) -> Asked | None:
    """A stream as the store has it, by the weights that lie there now; None where they came from a checkpoint."""
    if there is None or name not in there.streams or name not in there.notes.weights:
        return None
    weights = located_weights(there.notes.weights[name], beside)
    return Asked(replace(there.streams[name], network=weights_identity(weights)), weights)


def further_streams(
    texts: Iterable[str], rgb: Stream, *, basenet: Asked | None, there: FeaturesHeader | None, beside: Path
) -> dict[str, Asked]:
    """The streams besides `rgb` and `depth`: those of `--stream`, `basenet`, and those that the store has already.

    Raises:
        UsageError: a text that is not of the form of --stream, or a name that is taken; no such backbone or weights.
    """
    asked = {name: _further(source, rgb) for name, source in map(_parsed, texts)}
    if basenet is not None:
        asked[IMAGENET] = basenet
    new = {"rgb", "depth", *asked}
    kept = {name: _recorded(name, there, beside) for name in (there.streams if there else ()) if name not in new}
    return asked | {name: stream for name, stream in kept.items() if stream}


def basenet_of(rgb: Asked, checkpoint: Path, *, seed: int) -> Asked:
    """The stream of the basenets: the RGB stream's network as it was before pretraining. `checkpoint` is that stream's,
    if it was pretrained; `seed` that of the features, by which random weights are drawn.

    Raises:
        UsageError: the weights that it started from cannot be had any more.
    """
    weights, identity = rgb.weights, rgb.row.network
    if weights == str(checkpoint):
        header = open_stream(checkpoint, "rgb")
        training, weights = header.training, located_weights(header.notes.weights or "imagenet", checkpoint)
        identity = training.weights if training else "imagenet"  # from which the public code starts
        there = weights in NO_FILES or (Path(weights).exists() and weights_identity(weights) == identity)
        if not there or (weights == "none" and training and training.settings.seed != seed):
            which = f"random weights of another --seed than {seed}" if there else f"{weights}, which is gone or changed"
            raise UsageError(
                f"{checkpoint}: started from {which}, and the basenets read what it started from; put that back, or "
                "start again with `amefu pretrain --modality rgb --rebuild`"
            )
    return Asked(replace(rgb.row, network=identity, novel_only=True, trained_on=()), weights)


def _parsed(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    if not (equals and source and NAME.fullmatch(name)):
        raise UsageError(f"--stream {text!r}: must be {FORM}; a name is of lower-case letters, digits, - and _")
    if name in ("rgb", "depth", "frame", IMAGENET):
        raise UsageError(f"--stream {text!r}: the name {name!r} is taken; choose another one")
    return name, source


def _further(source: str, rgb: Stream) -> Asked:
    """A frozen network that sees what the RGB stream sees, at its own input size."""
    backbone, _, weights = source.partition("@")
    reads, encoding = ("depth", "magma") if backbone.startswith("depth:") else ("frames", None)
    backbone, weights = backbone.removeprefix("depth:"), weights or "imagenet"
    check_backbone(backbone, weights)
    row = Stream(reads, backbone, weights_identity(weights), rgb.crop, input_size(backbone), encoding)
    return Asked(row, weights)
