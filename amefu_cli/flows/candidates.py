"""What is evaluated, or gives a head its frames: a row of MODELS or a further stream, a head, and their checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from amefu_cli.artefacts.files.fingerprint import differences
from amefu_cli.artefacts.stores.header import FeaturesHeader, header_of
from amefu_cli.artefacts.stores.store import VideoStore
from amefu_cli.artefacts.weights.checkpoint import FIXES, open_fusion, open_head
from amefu_cli.artefacts.weights.headers import FusionHeader, HeadHeader
from amefu_cli.errors import SettingsMismatch, UsageError
from amefu_cli.flows.session import Session
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.method.heads import HEADS, MODELS, Model


@dataclass(frozen=True)
class Candidate:
    """What is evaluated: a model by its name, the head that scores its videos, and where it fuses streams its
    checkpoint with the header of that."""

    name: str
    model: Model
    head: str
    checkpoint: Path | None = None
    fusion: FusionHeader | None = None
    head_checkpoint: Path | None = None
    trained_head: HeadHeader | None = None

    @property
    def depth_of(self) -> tuple[str, int]:
        """Whose depth it fuses, and by which seed."""
        return self.fusion.depth_of if self.fusion else ("own", 0)

    def test_frames(self, made: FeaturesHeader) -> str:
        """Which frames of a video are read: those that the head asks for, or the model, or that the store is for."""
        return HEADS[self.head].frames or self.model.test_frames or made.settings.test_frames


def candidate_with_head(
    session: Session, name: str, *, head: str | None, features: Path, fusion: Path, head_weights: Path | None
) -> Candidate:
    """The model that was asked for, with its head; one that learns is WORKSPACE/MODEL-HEAD.safetensors, else as given.

    Raises:
        UsageError: no such model; the head was not trained, or on another model.
    """
    found = model_of(name, features, fusion, head)
    if not HEADS[found.head].learns:
        return found
    path = head_weights or session.workspace.stream(f"{found.name}-{found.head}")
    fix = f"make it with `amefu meta-train --head {found.head} --model {found.name}`"
    if not path.exists():
        raise UsageError(f"{path}: no such checkpoint; {fix}")
    header = open_head(path)
    if (header.head, header.model) != (found.head, found.name):
        raise UsageError(f"{path}: is {header.head} on {header.model}, not {found.head} on {found.name}; {fix}")
    return replace(found, head_checkpoint=path, trained_head=header)


def model_of(name: str, features: Path, fusion: Path, head: str | None = None) -> Candidate:
    """A row of MODELS, or a further stream of the feature store; `fusion` is opened where it fuses streams.

    Raises:
        UsageError: no such model; its frames are of novel videos only, and the head reads base videos too.
    """
    if name in MODELS:
        found = candidate_of(name, fusion, head)
        row = HEADS[found.head]
        if IMAGENET in found.model.streams and (row.learns or row.gallery):
            raise UsageError(f"--head {found.head}: reads base videos too, and --model {name} has novel ones only")
        return found
    there = header_of(features, FeaturesHeader)
    streams = sorted(there.streams.keys() - MODELS.keys()) if there else []
    if name not in streams:
        raise UsageError(
            f"--model {name!r}: must be one of {', '.join([*MODELS, *streams])}; `amefu features --stream` adds others"
        )
    return Candidate(name, Model(name, (name,)), head or Model.head)


def candidate_of(name: str, fusion: Path, head: str | None = None) -> Candidate:
    """A row of MODELS; `fusion` is opened where it fuses streams."""
    found = Candidate(name, MODELS[name], head or MODELS[name].head)
    return replace(found, checkpoint=fusion, fusion=open_fusion(fusion)) if len(found.model.streams) > 1 else found


def refuse_other_streams(candidate: Candidate, store: VideoStore[FeaturesHeader]) -> None:
    """Raises SettingsMismatch where fusion or head learned from other streams, or the head from another fusion."""
    head, fusion = candidate.trained_head, candidate.fusion
    learned = [(candidate.checkpoint, fusion, FIXES["fusion"]), (candidate.head_checkpoint, head, FIXES["head"])]
    for path, header, fix in learned:
        there = {name: store.header.streams[name].fingerprint for name in candidate.model.streams if header}
        if header and header.streams != there:
            lines = "; ".join(differences(header.streams, there))
            raise SettingsMismatch(
                f"{path}: learned from features of other streams than those of {store.path} ({lines}); "
                f"train it again with `{fix} --rebuild`"
            )
    if head and head.fusion != (fusion.fingerprint if fusion else None):
        raise SettingsMismatch(
            f"{candidate.head_checkpoint}: learned from frames of another fusion than {candidate.checkpoint}; train it "
            f"again with `{FIXES['head']} --rebuild`"
        )
