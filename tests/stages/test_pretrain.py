"""What a pretrained stream's features are worth, and what is said where they are worth nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run
from torch import nn

from amefu_cli.artefacts.weights.checkpoint import open_stream, read_checkpoint, write_checkpoint
from amefu_cli.artefacts.weights.headers import CheckpointNotes, Probe
from amefu_cli.flows import training
from amefu_cli.method.backbones.network import Backbone
from amefu_cli.settings import MetaTrainSettings
from amefu_cli.stages import pretrain
from amefu_cli.stages.features import FeatureRange
from amefu_cli.stages.pretrain import StreamClassifier, probed_videos


def record(name: str) -> Any:
    return SimpleNamespace(id=name, class_name=name.split("/")[0])


def test_a_few_videos_of_each_of_some_classes_are_probed() -> None:
    """Twelve of a, of which ten; two of b; one of c, which has no other to be compared with."""
    records = [*(record(f"a/{number:02}") for number in range(12)), record("b/1"), record("b/2"), record("c/1")]
    assert [(video.id, label) for video, label in probed_videos(records)][9:] == [("a/09", 0), ("b/1", 1), ("b/2", 1)]
    assert probed_videos(records[:12]) == []


def test_the_probe_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each video against the others of its class: (1, 0) and (1, 0.1) find one another; (0, 1) and (1, 0) of the second
    class are each nearer to the first one. The third feature is 0 in every frame."""
    features = torch.tensor([[1.0, 0, 0], [1, 0.1, 0], [0, 1, 0], [1, 0, 0]])
    videos = [(record(f"{name}/{number}"), label) for label, name in enumerate("ab") for number in range(2)]
    setup: Any = SimpleNamespace(
        probed=videos, settings=SimpleNamespace(videos_per_batch=3), device=torch.device("cpu"), train=[], held_out=[],
    )  # fmt: skip
    monkeypatch.setattr(pretrain, "_load", lambda setup, videos, numbers: (torch.from_numpy(numbers), None))
    monkeypatch.setattr(pretrain, "_features", lambda setup, model, images: features[images][:, None])
    model = StreamClassifier(Backbone(nn.Flatten(), dim=3, mean=(0, 0, 0), std=(1, 1, 1)), 2, zero=True)
    assert pretrain.probe(setup, model) == Probe(0.5, pytest.approx(1 / 3), videos=4, classes=2, trained_on=False)
    setup.probed = []
    assert pretrain.probe(setup, model) is None


def test_chance_is_two_standard_errors_wide() -> None:
    assert Probe(0.59, 0, videos=100, classes=2, trained_on=False).at_chance
    assert not Probe(0.61, 0, videos=100, classes=2, trained_on=False).at_chance


class Said:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def said_of(monkeypatch: pytest.MonkeyPatch, notes: CheckpointNotes, say: Any, *more: Any) -> Said:
    said = Said()
    monkeypatch.setattr(training, "notes_of", lambda path: notes)
    say(SimpleNamespace(say=said), Path("x.safetensors"), *more)
    return said


@pytest.mark.parametrize(
    ("accuracy", "constant", "warned"),
    [
        (0.9, 0.0, None),
        (0.3, 0.0, "no better than chance among 4 classes"),
        (0.6, 0.0, "no better than the weights that it started from (60% of 100 videos of validation classes"),
        (0.9, 0.8, "80% of its features are the same in every frame"),
    ],
)
def test_a_stream_that_is_worth_no_more_than_its_start_is_named(
    monkeypatch: pytest.MonkeyPatch, accuracy: float, constant: float, warned: str | None
) -> None:
    now, start = (Probe(a, c, videos=100, classes=4, trained_on=False) for a, c in ((accuracy, constant), (0.6, 0.1)))
    said = said_of(monkeypatch, CheckpointNotes(probe=now, probe_at_start=start), training._say_of_probe)
    if warned is None:
        assert (said.warnings, len(said.notes)) == ([], 1)
        assert "90% of 100 videos of validation classes by nearest prototype, 60% before" in said.notes[0]
    else:
        (message,) = said.warnings
        assert warned in message
        assert "remove it to use the weights as they were" in message


@pytest.mark.parametrize(
    ("loss", "validated", "warned"),
    [(1.6, None, "stayed at that of guessing (1.600; ln 5 = 1.609)"), (1.2, None, None), (1.6, 0.4, None),
     (1.2, 0.21, "on validation classes it guesses (21.0% in 5-way episodes)")],
)  # fmt: skip
def test_what_only_guesses_is_named(
    monkeypatch: pytest.MonkeyPatch, loss: float, validated: float | None, warned: str | None
) -> None:
    table = None if validated is None else SimpleNamespace(class_names=tuple("abcdefg"))
    notes = CheckpointNotes(loss=loss, validation_accuracy=validated)
    said = said_of(monkeypatch, notes, training.say_of_guessing, MetaTrainSettings(), table)
    assert [warned in message for message in said.warnings] == ([True] if warned else [])


def test_features_that_never_change_are_counted_over_all_pieces() -> None:
    found = FeatureRange()
    for piece in ([[[0, 1, 5], [0, 2, 5]]], [[[0, 1, 5]], [[0, 1, 7]]]):  # (views, frames, dim)
        found.widen(np.array(piece, np.float16))
    assert (found.constant, found.frames) == (pytest.approx(1 / 3), 3)


def test_a_dead_stream_is_warned_of_when_its_features_are_made(workspace: Path) -> None:
    path = workspace / "rgb.safetensors"
    run("pretrain", "--modality", "rgb", "--workspace", workspace, "--no-upstream")
    dead = {name: np.zeros_like(tensor) for name, tensor in read_checkpoint(path).items()}
    write_checkpoint(path, dead, open_stream(path, "rgb"))
    done = run("features", "--workspace", workspace, "--rebuild", "--no-upstream")
    assert "100% of the features of 'rgb' are the same in all" in done.stderr
    assert "of 'depth'" not in done.stderr
