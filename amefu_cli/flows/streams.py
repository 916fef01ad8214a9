"""By which streams features are made: those of the pretrained checkpoints, else of ImageNet, and any further ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import file_sha256
from amefu_cli.artefacts.files.workspace import located_weights, weights_identity
from amefu_cli.artefacts.stores.header import FeaturesHeader, Stream
from amefu_cli.artefacts.weights.checkpoint import StreamHeader, open_stream
from amefu_cli.errors import UsageError
from amefu_cli.flows.session import Session
from amefu_cli.flows.work import check_backbone
from amefu_cli.method.backbones import input_size
from amefu_cli.settings import FallbackSettings, StreamSettings

IMAGENET = "imagenet"  # the RGB stream's network without pretraining, of novel videos: what the paper's basenets read
NAME = re.compile(r"[a-z][a-z0-9_-]*")
FORM = "--stream NAME=BACKBONE, NAME=depth:BACKBONE for one that reads disparity, and @WEIGHTS for others than imagenet"


@dataclass(frozen=True)
class Asked:
    """One stream: its row in the header of features.zarr, and the weights: `imagenet`, `none`, a file or checkpoint."""

    row: Stream
    weights: str


def streams_of(
    session: Session,
    checkpoints: Mapping[str, Path],
    fallback: FallbackSettings | None,
    there: FeaturesHeader | None,
    beside: Path,
) -> dict[str, Asked]:
    """The streams `rgb` and `depth`: of `checkpoints`, else of `fallback`, else as the store that is `there` has them.

    Raises:
        UsageError: no such backbone, or no such file of weights.
    """
    pretrained = {name: open_stream(path, name) for name, path in checkpoints.items() if path.is_file()}
    asked = {}
    for name, path in checkpoints.items():
        if name in pretrained:
            asked[name] = pretrained_stream(name, path, pretrained[name])
            continue
        stream = _recorded(name, there, beside) if there and fallback is None else None
        if stream is None:
            sees = _settled(session, fallback, pretrained)
            if there is None or name not in there.streams or there.streams[name].backbone != sees.backbone:
                check_backbone(sees.backbone, sees.weights)  # which loads the backbone's library
            stream = _untrained(name, sees)
        asked[name] = stream
        session.say.warn(
            f"the {name} stream was never pretrained ({path} is not there): {asked[name].row.backbone} is used with "
            f"weights {asked[name].weights!r}"
        )
    return asked


def _settled(
    session: Session, fallback: FallbackSettings | None, pretrained: Mapping[str, StreamHeader]
) -> StreamSettings:
    """What is not said is taken from the other stream, so that the features of both are equally wide."""
    fallback = fallback or session.settings(FallbackSettings, "features")
    others = [header.stream for header in pretrained.values()]
    return fallback.settled(others[0] if others else StreamSettings())


def pretrained_stream(name: str, path: Path, header: StreamHeader) -> Asked:
    sees = header.stream
    row = Stream(
        reads="frames" if name == "rgb" else "depth", backbone=header.backbone, network=file_sha256(path)[:16],
        crop=sees.crop, size=sees.crop, encoding=None if name == "rgb" else sees.depth_encoding,
        trained_on=header.classes,
    )  # fmt: skip
    return Asked(row, str(path))


def _untrained(name: str, sees: StreamSettings) -> Asked:
    row = Stream(
        reads="frames" if name == "rgb" else "depth", backbone=sees.backbone, network=weights_identity(sees.weights),
        crop=sees.crop, size=sees.crop, encoding=None if name == "rgb" else sees.depth_encoding,
    )  # fmt: skip
    return Asked(row, sees.weights)


def _recorded(name: str, there: FeaturesHeader, beside: Path) -> Asked | None:
    """A stream as the store has it, by the weights that lie there now; None where they came from a checkpoint."""
    weights = there.notes.weights.get(name)
    if weights is None or name not in there.streams:
        return None
    weights = located_weights(weights, beside)
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
    if there is None:
        return asked
    kept = {name: _recorded(name, there, beside) for name in there.streams.keys() - {"rgb", "depth", *asked}}
    return asked | {name: stream for name, stream in kept.items() if stream}


def basenet_of(rgb: Asked, fallback: StreamSettings) -> Asked:
    """The stream of the basenets: the RGB stream's network as it was before pretraining."""
    row = replace(rgb.row, network=weights_identity(fallback.weights), novel_only=True, trained_on=())
    return Asked(row, fallback.weights)


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
    reads = "depth" if backbone.startswith("depth:") else "frames"
    backbone, weights = backbone.removeprefix("depth:"), weights or "imagenet"
    check_backbone(backbone, weights)
    row = Stream(
        reads=reads, backbone=backbone, network=weights_identity(weights), crop=rgb.crop, size=input_size(backbone),
        encoding="magma" if reads == "depth" else None,
    )  # fmt: skip
    return Asked(row, weights)
