"""The epoch loop that both trainings share, on one weight whose every step is known."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_features import amefu
from torch import nn

from amefu_cli.artefacts.stores.features import FeatureTable
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint
from amefu_cli.artefacts.weights.headers import FusionHeader, Position
from amefu_cli.artefacts.weights.training_run import TrainingRun
from amefu_cli.errors import Interrupted, NotFinite
from amefu_cli.interruption import unwind_on_signals
from amefu_cli.method.backbones.network import Backbone
from amefu_cli.method.geometry import IMAGENET_MEAN, IMAGENET_STD
from amefu_cli.method.heads import DEPTHS, MODELS
from amefu_cli.settings import ClipSettings, MetaTrainSettings
from amefu_cli.stages import training as training_loop
from amefu_cli.stages.meta_train import MetaTraining, _episodes
from amefu_cli.stages.pretrain import StreamClassifier
from amefu_cli.stages.scoring import Reading
from amefu_cli.stages.training import Training, gather_clips, places_of

HEADER = FusionHeader(role="fusion", fusion="dgadain", dim=1, streams={}, clip=ClipSettings())
SCORE = "validation_accuracy"
Losses = Callable[[int, int], float]
Scores = tuple[float | None, ...]


def train(
    out: Path, *, scores: Iterable[float | None] = (0.0, 0.0), losses: Losses = lambda epoch, step: 1.0
) -> Position:
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
        steps_from=steps_from, validate=lambda: {SCORE: next(left)}, metric=SCORE, advice="lower it",
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
        assert (line["epoch"], line["loss"], line[SCORE]) == (epoch, 1.0, scores[epoch])


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


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of signals are put back, as those of a run that was interrupted end the process at the next one."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    unwind_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("when", [(0, 0), (0, 1), (1, 0), (1, 1)], ids=str)
def test_a_signal_lets_the_step_finish_and_the_rerun_goes_on_after_it(tmp_path: Path, when: tuple[int, int]) -> None:
    out = tmp_path / "x.safetensors"
    seen: list[tuple[int, int]] = []

    def step(epoch: int, number: int) -> float:
        seen.append((epoch, number))
        if (epoch, number) == when and seen.count(when) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1.0 + number

    with pytest.raises(Interrupted) as interrupted:
        train(out, losses=step)
    assert interrupted.value.exit_code == 143
    assert seen[-1] == when
    assert TrainingRun(out, HEADER).resumption() == f"; goes on after step {when[1] + 1} of epoch {when[0] + 1}"
    train(out, scores=(0.0, 0.0)[when[0] :], losses=step)
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]  # none twice, none left out
    assert float(read_checkpoint(out)["weight"].item()) == pytest.approx(2.2)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "x.metrics.jsonl").read_text().splitlines()]
    assert losses == [1.5, 1.5]


@pytest.mark.usefixtures("handlers")
def test_a_signal_in_validation_loses_no_step(tmp_path: Path) -> None:
    def score() -> Iterator[float]:
        os.kill(os.getpid(), signal.SIGINT)
        yield 0.0

    with pytest.raises(Interrupted):
        train(tmp_path / "x.safetensors", scores=score())
    assert TrainingRun(tmp_path / "x.safetensors", HEADER).resumption() == "; goes on after step 2 of epoch 1"


def test_the_logits_of_pretraining_by_hand() -> None:
    """Two clips of two frames; their means are (2, 3) and (0, 1)."""
    frames = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 2.0]])
    model = StreamClassifier(Backbone(nn.Flatten(), dim=2, mean=IMAGENET_MEAN, std=IMAGENET_STD), 2, zero=False)
    model.head.load_state_dict({"weight": torch.tensor([[1.0, 0.0], [1.0, 1.0]]), "bias": torch.tensor([0.0, 10.0])})
    assert model(frames.view(2, 2, 2)).tolist() == [[2.0, 15.0], [0.0, 11.0]]


def test_a_temperature_stays_or_is_learned(feature_space: Path) -> None:
    found = {}
    for name, words in {"fixed": (), "learned": ("--learn-temperature",)}.items():
        out = feature_space / f"{name}.safetensors"
        amefu(feature_space, "meta-train", "--temperature", "10", *words, "--out", out)
        found[name] = json.loads(out.with_suffix(".metrics.jsonl").read_text())["temperature"]
    assert found["fixed"] == pytest.approx(10)
    assert found["learned"] != pytest.approx(10, abs=1e-3)


def numbered_table() -> FeatureTable:
    """Six videos of 16 frames; a frame's features are its number, and in the depth stream 100 times its video."""
    frame, videos = np.tile(np.arange(16), 6), 100 * np.repeat(np.arange(6), 16)
    rgb, depth = (np.tile(of.astype(np.float16)[None, :, None], (1, 1, 3)) for of in (frame, frame + videos))
    return FeatureTable(
        ids=tuple("abcdef"), class_names=("run", "sit"), labels=np.repeat([0, 1], 3), frame=frame,
        frames=np.full(6, 16), start=np.arange(0, 97, 16), streams={"rgb": rgb, "depth": depth},
    )  # fmt: skip


def meta_training(**asked: Any) -> MetaTraining:
    settings = MetaTrainSettings(**{"way": 2, "shot": 1, "queries": "2", "episodes": 3, **asked})
    clip = ClipSettings(segments=4, frames_per_segment=2)
    return MetaTraining(numbered_table(), None, settings, clip, "middle", torch.device("cpu"))


@pytest.mark.parametrize("matched", [False, True])
def test_matched_clips_take_the_place_of_asynchronous_ones(matched: bool) -> None:
    for clips in _episodes(meta_training(num_aug=2, matched=matched), 0, 0):
        assert clips.depth.shape == (3, 6, 8, 3)
        assert clips.targets.tolist() == [0, 0, 1, 1]
        assert torch.equal(clips.depth[0] % 100, clips.rgb)
        assert all(torch.equal(other % 100, clips.rgb) is matched for other in clips.depth[1:])


def test_one_query_an_episode_is_gathered_alone() -> None:
    """Two supports and one query, which is of the first way's class, and whichever class that is."""
    setup, asked = meta_training(num_aug=0, queries="one", episodes=12), set()
    for clips in _episodes(setup, 0, 0):
        videos = (clips.depth[0, :, 0, 0].numpy().astype(int) // 100).tolist()
        classes = setup.base.labels[videos].tolist()
        assert (len(videos), clips.targets.tolist(), classes[2]) == (3, [0], classes[0])
        asked.add(classes[0])
    assert asked == {0, 1}


@pytest.mark.parametrize("rule", DEPTHS)
def test_whose_depth_is_fused_in_training_and_in_testing(rule: str) -> None:
    """Both give a video's RGB the same other video's depth, by the seed."""
    setup, plain = (meta_training(num_aug=0, depth_of=of, seed=7) for of in (rule, "own"))
    given = DEPTHS[rule].load()(setup.base.labels, np.random.default_rng(7))
    for clips, own in zip(_episodes(setup, 0, 0), _episodes(plain, 0, 0), strict=True):
        assert torch.equal(clips.rgb, own.rgb)
        of, used = (depth[0, ..., 0, 0].numpy().astype(int) // 100 for depth in (own.depth, clips.depth))
        assert used.tolist() == given[of].tolist()
    reading = Reading(MODELS["amefu"], "middle", setup.clip, None, setup.device, (rule, 7))
    ((rgb, depth),) = reading.clips(setup.base)
    assert (depth[..., 0] - rgb[..., 0]).tolist() == [[100.0 * video] * 8 for video in given]


@pytest.mark.parametrize("test_frames", ["middle", "start"])
def test_short_videos_are_read_in_training_as_the_public_code_does(test_frames: str) -> None:
    """Of 10 frames in clips of 2 × 4: no place is drawn below 11 frames; runs start at 0 and 5, as in testing."""
    table = numbered_table()
    table = replace(table, start=np.arange(0, 61, 10), frame=np.tile(np.arange(10), 6), frames=np.full(6, 10))
    drawn = places_of(table, ClipSettings(segments=2, frames_per_segment=4), test_frames=test_frames).draw(
        np.arange(6), clips=9, rng=np.random.default_rng(0)
    )
    seen = {tuple(clip) for clip in (drawn - table.start[:-1, None]).reshape(-1, 8).tolist()}
    assert (seen == {(0, 1, 2, 3, 5, 6, 7, 8)}) is (test_frames == "start")


def test_every_view_is_drawn_alike_and_streams_share_it() -> None:
    """Two videos of 16 frames in three views; a feature is its view, and 10 more in depth."""
    rows = np.broadcast_to(np.arange(3, dtype=np.float16)[:, None, None], (3, 32, 1))
    table = FeatureTable(
        ids=("a", "b"), class_names=("run", "sit"), labels=np.arange(2), frame=np.tile(np.arange(16), 2),
        frames=np.full(2, 16), start=np.arange(0, 33, 16), streams={"rgb": rows, "depth": rows + 10},
    )  # fmt: skip
    videos, rng, clips = np.tile([0, 1], 300), np.random.default_rng(0), {"rgb": 1, "depth": 2}
    rgb, depth = gather_clips(table, videos, places_of(table, ClipSettings()), clips=clips, rng=rng)
    assert (rgb.shape, depth.shape) == ((1, 600, 16, 1), (2, 600, 16, 1))
    assert torch.equal(depth, (rgb + 10).expand_as(depth))
    assert np.bincount(rgb[0, :, 0, 0].long().numpy()) == pytest.approx([200, 200, 200], rel=0.15)
    assert (rgb == rgb[:, :, :1]).all()  # one view for all frames of a clip
