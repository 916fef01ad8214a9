"""`amefu predict`: a label for each of one's own clips, by a few examples of each class."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amefu_cli.artefacts.files.atomic import require_writable, write_atomic
from amefu_cli.artefacts.files.labels import Label, Labelled, as_csv, as_vtt
from amefu_cli.artefacts.stores.features import read_features
from amefu_cli.errors import AmefuError, UsageError
from amefu_cli.flows.candidates import Candidate, candidate_with_head, refuse_other_streams
from amefu_cli.flows.frames import first_of
from amefu_cli.flows.own_clips import CLASS, OwnClip, find_own, require_classes
from amefu_cli.flows.own_features import Kept, OwnOrder, OwnPlan, Part, features_of, plan_own
from amefu_cli.flows.session import Session
from amefu_cli.flows.work import check_device
from amefu_cli.method.heads import EIGHT, HEADS
from amefu_cli.method.sampling import joined
from amefu_cli.settings import FramesRun, NetworkRun, PredictSettings

if TYPE_CHECKING:
    from amefu_cli.method.prediction import Rejection, Scores
    from amefu_cli.stages.evaluate import ModelVectors
    from amefu_cli.stages.predict import Labeller

WINDOWS_AT_ONCE = 512  # of which the features are in memory: 100 MB


@dataclass(frozen=True)
class PredictOrder:
    """What is to be labelled, by which examples, and how."""

    examples: Path
    clips: Sequence[Path]
    settings: PredictSettings
    fusion: Path
    frames: FramesRun
    run: NetworkRun
    head_weights: Path | None = None
    csv: Path | None = None
    vtt: Path | None = None
    picture: Path | None = None


@dataclass(frozen=True)
class Suspect:
    """An example that is nearer to another class, by the others."""

    example: str
    label: str
    nearer_to: str


@dataclass(frozen=True)
class Predicted:
    """What came of it; `failed` by path, of examples and of clips. Scores times `temperature` are what the softmax
    sees; it is `calibrated` where examples could be held out."""

    model: str
    head: str
    examples: Mapping[str, int]
    temperature: float
    calibrated: bool
    reject: Mapping[str, float | None] | None
    suspects: tuple[Suspect, ...]
    clips: tuple[Labelled, ...]
    failed: Mapping[str, str]
    seconds: float


def predict(session: Session, order: PredictOrder) -> Predicted | None:
    """Label every clip; None in a dry run.

    Raises:
        UsageError: no such path, model, head or device; fewer than two classes; one example in two classes.
        SettingsMismatch: fusion or head learned from other streams than the workspace has now.
    """
    started, settings = time.monotonic(), order.settings
    settings.threshold()
    _require_places(order)
    candidate = _candidate(session, order)
    check_device(order.run.device)
    rules = tuple({EIGHT, candidate.model.test_frames or EIGHT})
    folder, streams = session.workspace.folder / "predict", candidate.model.streams
    plan = plan_own(session, OwnOrder(folder, streams, rules, settings.windows(), order.frames, order.run))
    refuse_other_streams(candidate, plan.store)
    session.say.note(f"predict: {_described(candidate, plan)}")
    links = order.frames.follow_links
    examples, clips = find_own(session, folder, order.examples, order.clips, follow_links=links)
    _refuse(order, examples, clips)
    kept = features_of(session, plan, examples, clips)
    if session.dry_run:
        session.say.note(f"predict: {len(clips)} clips to be labelled by {len(examples)} examples")
        return None
    (sound, failed), (sound_clips, lost) = (
        _read(session, some, parts, kept.failed) for some, parts in ((examples, kept.examples), (clips, kept.clips))
    )
    failed |= lost
    require_classes(order.examples, sound, len(examples))
    labelling = _Labelling(session, order, candidate, kept)
    predicted = labelling.labelled(sound, sound_clips)
    predicted = replace(predicted, failed=failed, seconds=round(time.monotonic() - started, 3))
    labelling.write(predicted)
    return predicted


def _read(
    session: Session, clips: Sequence[OwnClip], parts: Mapping[str, Sequence[Part]], failed: Mapping[str, str]
) -> tuple[list[OwnClip], dict[str, str]]:
    """The clips that have features, and by path why others have none."""
    gone = "its frames are gone; run the same command again"
    lost = {clip.path: failed.get(clip.id, gone) for clip in clips if clip.id not in parts}
    for path, message in lost.items():
        session.say.warn(message if path in message else f"{path}: {message}")
    sound = [clip for clip in clips if clip.id in parts]
    if cut := [clip.path for clip in sound if parts[clip.id][0].record.partial]:
        session.say.warn(f"{first_of(cut)}: breaks off midway, and what decodes of it is used")
    return sound, lost


def _require_places(order: PredictOrder) -> None:
    """Raises UsageError where a file that is asked for cannot be written, or is of windows and there are none."""
    windows = order.settings.windows()
    for option, path in (("csv", order.csv), ("vtt", order.vtt), ("picture", order.picture)):
        if path is None:
            continue
        if option != "csv" and windows is None:
            raise UsageError(f"--{option}: shows what a long video shows when; give --window SECONDS")
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        if path.is_dir() or (there != path and not there.is_dir()):
            found = "is a folder" if path.is_dir() else f"lies in {there}, a file"
            raise UsageError(f"--{option} {path}: {found}; name another file")
        require_writable(path)


def _refuse(order: PredictOrder, examples: Sequence[OwnClip], clips: Sequence[OwnClip]) -> None:
    """Raises UsageError for what asks more of examples and clips than they have, or would be written over them."""
    if order.settings.threshold() is None:
        counts = require_classes(order.examples, examples, len(examples))
        if len(counts) < 3 or max(counts.values()) < 2:
            needs = "three classes, and two examples of one"
            raise UsageError(f"--reject auto: holds examples out to find a probability, which takes {needs}; name it")
    written, read = (order.csv, order.vtt, order.picture), [clip.clip.path for clip in (*examples, *clips)]
    for path in filter(None, written):
        if path.exists() and any(path.samefile(other) for other in read if other.exists()):
            raise UsageError(f"{path}: is one of the clips, which would be written over; name another file")
    if (order.vtt or order.picture) and len(clips) != 1:
        raise UsageError(f"--vtt and --picture show one video, and there are {len(clips)}; name one")


def _candidate(session: Session, order: PredictOrder) -> Candidate:
    """The model that is asked for, else the best one there."""
    settings, workspace = order.settings, session.workspace
    fuses = order.fusion.is_file() or order.fusion != workspace.fusion  # one that is typed is meant
    name = settings.model or ("amefu" if fuses else "rgb")
    candidate = candidate_with_head(
        session, name, head=settings.head, features=workspace.features, fusion=order.fusion,
        head_weights=order.head_weights,
    )  # fmt: skip
    if HEADS[candidate.head].gallery:
        raise UsageError(f"--head {candidate.head}: reads videos of base classes, of which predict knows none")
    if candidate.depth_of[0] != "own":
        raise UsageError(f"{candidate.checkpoint}: is a control that fuses the depth of other clips; give --model rgb")
    return candidate


def _described(candidate: Candidate, plan: OwnPlan) -> str:
    streams = []
    for name, asked in plan.needed.items():
        weights = {"imagenet": "ImageNet weights"}.get(asked.weights, f"weights {asked.weights!r}")
        trained = "pretrained" if plan.trained(name) else f"with {weights}, never pretrained"
        streams.append(f"{name} {asked.row.backbone} {trained}")
    fusion = f", fused by {candidate.fusion.fusion} of {candidate.checkpoint}" if candidate.fusion else ""
    row = HEADS[candidate.head]
    return f"model {candidate.name} ({'; '.join(streams)}{fusion}), head {candidate.head} ({row.title})"


# Labels -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Labelling:
    """What was asked for, and the features of examples and clips that it is answered by."""

    session: Session
    order: PredictOrder
    candidate: Candidate
    kept: Kept

    def vectors(self, parts: Sequence[Part]) -> ModelVectors:
        """What the model gives the windows of some parts."""
        from amefu_cli.stages import evaluate, predict

        of, store = self.candidate, self.kept.store
        test_frames, made = of.test_frames(store.header), store.header
        records = {part.id: record for part in parts if (record := store.record(part.id))}
        table = read_features(store, records, [CLASS], streams=of.model.streams, views=1)
        return evaluate.model_vectors(
            predict.windows_in(table, [part.windows for part in parts], test_frames, made.clip), of.model, made,
            head=of.head, test_frames=test_frames, brought=evaluate.FromBase(of.checkpoint, of.head_checkpoint),
            device=self.order.run.device, source=store.path,
        )  # fmt: skip

    def labelled(self, examples: Sequence[OwnClip], clips: Sequence[OwnClip]) -> Predicted:
        """The examples checked, then the clips labelled."""
        from amefu_cli.stages.predict import learn_examples

        names, labels = np.unique([example.clip.class_name for example in examples], return_inverse=True)
        of = self.vectors([part for example in examples for part in self.kept.examples[example.id]])
        labeller = learn_examples(of.head, of.scorer, of.vectors, labels.astype(np.int64), of.device)
        classes = {name: [clip for clip in examples if clip.clip.class_name == name] for name in names.tolist()}
        suspects = self._checked(labeller, classes)
        reject = self._rejection(labeller)
        shares, found = self._shares(labeller, clips), list[Labelled]()
        for clip in clips:
            found += self._labels(clip, shares[clip.id], [*classes], reject.threshold if reject else 0.0)
        return Predicted(
            self.candidate.name, self.candidate.head, {name: len(of) for name, of in classes.items()}, labeller.factor,
            labeller.calibrated, reject._asdict() if reject else None, suspects, tuple(found), {}, 0.0,
        )  # fmt: skip

    def _checked(self, labeller: Labeller, classes: Mapping[str, Sequence[OwnClip]]) -> tuple[Suspect, ...]:
        """Name the examples that are nearer to another class, before anything is predicted."""
        names, say = [*classes], self.session.say
        suspects = tuple(
            Suspect(classes[names[own]][place].path, names[own], names[nearest])
            for own, place, nearest in labeller.mistaken()
        )
        for found in suspects:
            say.warn(f"{found.example}: is nearer to {found.nearer_to} than to {found.label}, by the other examples")
        held_out, alone = len(labeller.found.inside), sum(len(of) == 1 for of in classes.values())
        said = f"{held_out - len(suspects)} of {held_out} examples are nearest to their own class, by the others"
        if alone:
            said += f"; {alone} of {len(names)} classes have one example, which nothing checks"
        if not held_out:
            said = "no class has two examples, so nothing checks them, and the probabilities are a guess"
        say.note(f"predict: {said}")
        return suspects

    def _rejection(self, labeller: Labeller) -> Rejection | None:
        threshold = self.order.settings.threshold()
        if threshold == 0:
            return None
        try:
            found = labeller.rejection(threshold)
        except ValueError as error:
            raise AmefuError("--reject auto: too many examples failed to find a probability; name one") from error
        wrong, missed = ("unknown" if rate is None else f"{rate:.0%}" for rate in found[1:])
        self.session.say.note(
            f"predict: below {found.threshold:.1%} a clip is none of these: wrong for {wrong} of the examples, each "
            f"held out by itself, and missed for {missed}, each held out with all of its class"
        )
        return found

    def _shares(self, labeller: Labeller, clips: Sequence[OwnClip]) -> Mapping[str, Scores]:
        """The probabilities (windows, way) of every clip by its id; equal clips are scored once."""
        parts = [part for clip in dict.fromkeys(clip.id for clip in clips) for part in self.kept.clips[clip]]
        shares: dict[str, list[Scores]] = {}
        with self.session.say.progress("predict") as progress:
            while parts:
                sizes = np.cumsum([len(part.windows) for part in parts[:WINDOWS_AT_ONCE]])
                some = parts[: max(1, int((sizes <= WINDOWS_AT_ONCE).sum()))]
                del parts[: len(some)]
                found = labeller.probabilities(self.vectors(some).vectors)
                for part, share in zip(some, np.split(found, sizes[: len(some) - 1]), strict=True):
                    shares.setdefault(part.record.id, []).append(share)
                progress(len(shares), len(clips), "")
        return {clip: np.concatenate(of) for clip, of in shares.items()}

    def _labels(self, clip: OwnClip, shares: Scores, names: Sequence[str], threshold: float) -> Iterator[Labelled]:
        """Of a whole clip one; of windows one for all neighbours of the same label, of their mean probabilities."""
        windows = [window for part in self.kept.clips[clip.id] for window in part.windows]
        record = self.kept.clips[clip.id][0].record
        known = [names[share.argmax()] if share.max() >= threshold else None for share in shares]
        for some, begin, end in joined(windows, known, record.frames):
            share = shares[some].mean(0)
            ranked = np.argsort(-share, kind="stable")[: self.order.settings.top]
            labels = [Label(names[way], float(share[way])) for way in ranked]
            times = (begin / record.fps, end / record.fps) if record.fps and self.order.settings.windows() else ()
            yield Labelled(clip.path, known[some.start], labels, *times)

    def write(self, predicted: Predicted) -> None:
        """The files that were asked for; of a video that failed only the table says so."""
        order = self.order
        if order.csv:
            top = min(order.settings.top, len(predicted.examples))
            write_atomic(order.csv, as_csv(predicted.clips, predicted.failed, top=top))
        if order.vtt and predicted.clips:
            write_atomic(order.vtt, as_vtt(predicted.clips))
        if order.picture and predicted.clips:
            from amefu_cli.stages.timeline import picture_of

            (record,) = {part.record.id: part.record for of in self.kept.clips.values() for part in of}.values()
            write_atomic(order.picture, picture_of(self.kept.frames, record, predicted.clips))
