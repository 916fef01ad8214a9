"""The epoch loop that both trainings share, on one weight whose every step is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from synthetic_features import amefu
from torch import nn

from amefu_cli.artefacts.checkpoint import CheckpointHeader, read_checkpoint
from amefu_cli.artefacts.training_run import Position, TrainingRun
from amefu_cli.errors import NotFinite
from amefu_cli.stages import training_loop
from amefu_cli.stages.training_loop import Training

HEADER = CheckpointHeader("fusion", {}, {}, {}, {})
Losses = Callable[[int, int], float]
Scores = tuple[float | None, ...]


def train(out: Path, *, scores: Scores = (0.0, 0.0), losses: Losses = lambda epoch, step: 1.0) -> Position:
    """Two epochs of two steps, each of which adds the learning rate, 1 and then 0.1, to the one weight."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=7.0)
    left = iter(scores)

    def steps_from(epoch: int, first: int) -> Iterator[float]:
        for step in range(first, 2):
            optimizer.zero_grad()
            (-model.weight).sum().backward()
            optimizer.step()
            yield losses(epoch, step)

    training = Training(
        model=model, kept=model, optimizer=optimizer, epochs=2, steps=2, rates=(1.0,), decay_after=1,
        steps_from=steps_from, validate=lambda: {"score": next(left)}, metric="score", advice="lower it",
    )  # fmt: skip
    with TrainingRun(out, HEADER) as files:
        return training.run(files, lambda done, total, what: None)


@pytest.mark.parametrize(
    ("scores", "weight", "best"),
    [((0.2, 0.1), 2.0, 0), ((0.1, 0.2), 2.2, 1), ((0.1, 0.1), 2.2, 1), ((None, None), 2.2, 1)],
)
def test_the_rate_falls_and_the_best_epoch_is_kept_the_later_of_equal_ones(
    tmp_path: Path, scores: Scores, weight: float, best: int
) -> None:
    position = train(tmp_path / "x.safetensors", scores=scores)
    assert (position.best_epoch, position.best_accuracy) == (best, max(score or 0.0 for score in scores))
    assert float(read_checkpoint(tmp_path / "x.safetensors")["weight"].item()) == pytest.approx(weight)
    lines = [json.loads(line) for line in (tmp_path / "x.metrics.jsonl").read_text().splitlines()]
    for epoch, line in enumerate(lines):
        assert (line["epoch"], line["loss"], line["score"]) == (epoch, 1.0, scores[epoch])


def test_a_loss_that_is_not_finite_stops_with_its_step_and_the_rerun_goes_on_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_loop, "SNAPSHOT_SECONDS", 0.0)
    out = tmp_path / "x.safetensors"
    with pytest.raises(NotFinite, match="the loss is nan at epoch 1, step 1; lower it"):
        train(out, losses=lambda epoch, step: float("nan") if (epoch, step) == (1, 1) else 1.0)
    seen: list[tuple[int, int]] = []
    train(out, scores=(0.5,), losses=lambda epoch, step: seen.append((epoch, step)) or 3.0)
    assert seen == [(1, 1)]
    assert float(read_checkpoint(out)["weight"].item()) == pytest.approx(2.2)
    assert json.loads((tmp_path / "x.metrics.jsonl").read_text().splitlines()[1])["loss"] == 2.0  # of 1 and 3


def test_a_temperature_stays_or_is_learned(feature_space: Path) -> None:
    found = {}
    for name, words in {"fixed": (), "learned": ("--learn-temperature",)}.items():
        out = feature_space / f"{name}.safetensors"
        amefu(feature_space, "meta-train", "--temperature", "10", *words, "--out", out)
        found[name] = json.loads(out.with_suffix(".metrics.jsonl").read_text())["temperature"]
    assert found["fixed"] == pytest.approx(10)
    assert found["learned"] != pytest.approx(10, abs=1e-3)
