from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from amefu_cli.artefacts.weights.checkpoint import read_checkpoint, read_header
from amefu_cli.artefacts.weights.headers import AnyCheckpoint, FusionClasses, FusionHeader, FusionTraining, Position
from amefu_cli.artefacts.weights.training_run import TrainingRun, started_header
from amefu_cli.errors import SettingsMismatch, UsageError
from amefu_cli.settings import ClipSettings, MetaTrainSettings

TRAINING = FusionTraining(MetaTrainSettings(epochs=3), FusionClasses(("run",), ("sit",)), base="01", validation="23")
HEADER = FusionHeader(
    role="fusion", fusion="dgadain", dim=2, streams={"rgb": "45", "depth": "67"}, clip=ClipSettings(), training=TRAINING
)
STATE = {
    "model": {"a/b.weight": np.arange(4, dtype=np.float32), "bias": np.zeros(2, np.float32)},
    "optimizer": {"0/momentum_buffer": np.ones(4, np.float32)},
}


def compared(header: AnyCheckpoint | None) -> dict[str, object]:
    assert header is not None
    return header.compared()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_snapshot_gives_back_state_and_position(tmp_path: Path) -> None:
    with TrainingRun(tmp_path / "fusion.safetensors", HEADER) as run:
        assert run.resume() is None
        position = Position(epoch=1, step=7, loss_sum=2.5, best_epoch=0, best_accuracy=0.25)
        run.keep_best({}, {})
        run.save(STATE, position)
        found = run.resume()
    assert found is not None
    state, at = found
    assert at == position
    assert {group: set(named) for group, named in state.items()} == {
        "model": {"a/b.weight", "bias"},
        "optimizer": {"0/momentum_buffer"},
    }
    np.testing.assert_array_equal(state["model"]["a/b.weight"], STATE["model"]["a/b.weight"])


def test_a_snapshot_of_another_training_is_not_resumed(tmp_path: Path) -> None:
    out = tmp_path / "fusion.safetensors"
    with TrainingRun(out, HEADER) as run:
        run.save(STATE, Position(epoch=1))
    other = replace(HEADER, training=replace(TRAINING, settings=MetaTrainSettings(epochs=4)))
    with TrainingRun(out, other) as run:
        assert run.resume() is None


def test_the_best_epoch_becomes_the_result_and_only_the_metrics_stay(tmp_path: Path) -> None:
    out = tmp_path / "fusion.safetensors"
    assert started_header(out) is None
    with TrainingRun(out, HEADER) as run:
        run.keep_best({"w": np.array([1.0], np.float32)}, {"epoch": 0})
        run.record(0, {"loss": 1.0})
        run.save(STATE, Position(epoch=1))
        assert compared(started_header(out)) == HEADER.compared()
        assert not out.exists()
        run.keep_best({"w": np.array([2.0], np.float32)}, {"epoch": 1})
        run.record(1, {"loss": 0.5})
        run.finish()
    assert names(tmp_path) == ["fusion.metrics.jsonl", "fusion.safetensors"]
    header = read_header(out)
    assert header is not None
    assert (header.compared(), header.notes.epoch) == (HEADER.compared(), 1)
    assert read_checkpoint(out)["w"] == [2.0]
    assert compared(started_header(out)) == HEADER.compared()


def test_metrics_of_an_epoch_that_is_trained_again_are_replaced(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "fusion.safetensors", HEADER)
    for epoch, loss in ((0, 3.0), (1, 2.0), (2, 1.0), (1, 2.5)):
        run.record(epoch, {"loss": loss})
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert lines == [{"epoch": 0, "loss": 3.0}, {"epoch": 1, "loss": 2.5}]
    run.metrics.write_text('{"epoch": 0}\ngarbage\n[]\n')
    run.record(3, {})
    assert run.metrics.read_text() == '{"epoch": 0}\n{"epoch": 3}\n'


def test_rebuilding_forgets_a_training_that_was_interrupted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rgb.safetensors").touch()
    run = TrainingRun(tmp_path / "fusion.safetensors", HEADER)
    run.save(STATE, Position())
    run.keep_best({}, {})
    run.record(0, {})
    run.start_over()
    assert names(tmp_path) == ["rgb.safetensors"]


def test_a_result_stays_until_the_next_one_is_there_and_its_rebuild_goes_on(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "fusion.safetensors", HEADER)
    run.out.write_bytes(b"the old result")
    run.start_over()
    run.keep_best({"w": np.array([2.0], np.float32)}, {"epoch": 0})
    run.save(STATE, Position(epoch=1, best_epoch=0))  # and here it is killed, and typed again
    run.start_over()
    assert run.position() == Position(epoch=1, best_epoch=0)
    assert run.out.read_bytes() == b"the old result"
    run.finish()
    assert read_checkpoint(run.out)["w"] == [2.0]
    assert names(tmp_path) == ["fusion.safetensors"]


def test_a_training_that_was_killed_when_its_result_was_just_there_begins_again(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "fusion.safetensors", HEADER)
    run.keep_best({}, {})
    run.save(STATE, Position(epoch=3, best_epoch=2))
    assert run.position() is not None
    (tmp_path / "fusion.best.safetensors").rename(run.out)
    assert run.position() is None


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    for name in (".fusion.snapshot.safetensors.1234.tmp", ".fusion.safetensors.5.tmp", ".rgb.safetensors.6.tmp"):
        (tmp_path / name).touch()
    with TrainingRun(tmp_path / "fusion.safetensors", HEADER):
        assert names(tmp_path) == [".rgb.safetensors.6.tmp", "fusion.lock"]
    assert names(tmp_path) == [".rgb.safetensors.6.tmp"]


def test_a_name_with_dots_is_appended_to_and_never_cut(tmp_path: Path) -> None:
    for name in ("lr0.001", "lr0.01", "lr0.01.safetensors.v2"):
        with TrainingRun(tmp_path / name, HEADER) as run:
            run.keep_best({"w": np.ones(1, np.float32)}, {"epoch": 0})
            run.record(0, {})
            run.save(STATE, Position(epoch=1))
    assert [name for name in names(tmp_path) if ".snapshot" in name] == [
        "lr0.001.snapshot.safetensors", "lr0.01.safetensors.v2.snapshot.safetensors", "lr0.01.snapshot.safetensors",
    ]  # fmt: skip
    run.finish()
    assert TrainingRun(tmp_path / "lr0.001", HEADER).position() == Position(epoch=1)
    assert len(names(tmp_path)) == 8


def test_a_snapshot_of_another_training_is_refused_until_it_is_finished(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "fusion.safetensors", HEADER)
    run.save(STATE, Position())
    assert not run.is_finished()
    seven = replace(HEADER, training=replace(TRAINING, settings=MetaTrainSettings(epochs=3, seed=7)))
    message = r"fusion\.snapshot\.safetensors: started with other .*seed: 0 in the file, 7 asked for.* --rebuild`"
    with pytest.raises(SettingsMismatch, match=message):
        TrainingRun(run.out, seven).is_finished()
    assert run.position() == Position()
    run.keep_best({"w": np.ones(1, np.float32)}, {"epoch": 0})
    run.finish()
    assert run.is_finished()


def _train(out: Path, connection: Connection) -> None:
    with TrainingRun(out, HEADER):
        connection.send("training")
        connection.recv()


def test_one_process_trains_a_checkpoint_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "fusion.safetensors"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_train, args=(out, theirs), daemon=True)
    process.start()
    ours.recv()
    with pytest.raises(UsageError, match="another process is training it; wait for it, or choose another --out"):
        TrainingRun(out, HEADER).__enter__()
    with pytest.raises(UsageError, match="another process is training it"):
        TrainingRun(out, HEADER).discard()
    process.kill()
    process.join()
    with TrainingRun(out, HEADER) as run:
        assert run.resume() is None
