"""Heads that learn: trained on base classes, chosen by validation ones, read by evaluate, refused where they do not
belong."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from synthetic_features import amefu

from amefu_cli.artefacts.files.results import open_result
from amefu_cli.artefacts.weights.checkpoint import open_head, read_checkpoint
from amefu_cli.errors import Interrupted, SettingsMismatch, UsageError
from amefu_cli.flows.session import Config, chosen_sets, defaults_of
from amefu_cli.method.heads import HEADS
from amefu_cli.settings import LEARNED
from amefu_cli.stages import head_training

SMALL = ("--learning-rate", "1e-3", "--queries", "1", "--accumulation", "2", "--episodes", "4")


@pytest.mark.parametrize("head", LEARNED)
def test_every_learned_head_is_trained_and_evaluated(feature_space: Path, head: str) -> None:
    told = json.loads(amefu(feature_space, "meta-train", "--head", head, "--model", "rgb", *SMALL, "--json"))
    path = feature_space / f"rgb-{head}.safetensors"
    assert told["checkpoint"] == str(path)
    assert 0 <= told["validation_accuracy"] <= 1
    header = open_head(path)
    assert (header.head, header.model, header.dim, header.fusion) == (head, "rgb", 16, None)
    assert header.options == ({"base_classes": 3} if HEADS[head].knows_classes else {})
    assert header.trained_on == ("bow", "clap", "dive", "jump", "kick")
    words = ("evaluate", "--head", head, "--model", "rgb", "--episodes", "20", "--out", feature_space / "r.json")
    amefu(feature_space, *words)
    asked = open_result(feature_space / "r.json").asked
    assert (asked.head, asked.test_frames, asked.fingerprints.head) == (head, "eight", header.fingerprint)


def test_training_helps(feature_space: Path) -> None:
    """The head's weights differ from those that it starts with, and tell novel classes apart: chance is 0.2."""
    words = ("--learning-rate", "1e-3", "--queries", "1", "--accumulation", "1", "--episodes", "40", "--epochs", "2")
    amefu(feature_space, "meta-train", "--head", "cmn-embedding", "--model", "rgb", *words)
    told = json.loads(amefu(feature_space, "evaluate", "--head", "cmn-embedding", "--model", "rgb", "--json"))
    assert told["accuracy"] > 0.4
    lines = (feature_space / "rgb-cmn-embedding.metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_a_head_learns_from_the_frames_of_a_fusion_and_is_bound_to_it(feature_space: Path) -> None:
    amefu(feature_space, "meta-train")
    amefu(feature_space, "meta-train", "--head", "trx", *SMALL)
    words = ("evaluate", "--head", "trx", "--episodes", "20")
    amefu(feature_space, *words)
    amefu(feature_space, "meta-train", "--rebuild", "--num-aug", "0")
    with pytest.raises(SettingsMismatch, match="learned from frames of another fusion"):
        amefu(feature_space, *words)


def test_a_training_that_is_interrupted_ends_as_one_that_was_not(
    feature_space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout and Adam's moments too go on as if nothing had happened."""
    words = ("meta-train", "--head", "hyrsm", "--model", "rgb", *SMALL, "--epochs", "2")
    amefu(feature_space, *words, "--out", feature_space / "whole.safetensors")
    plain, calls = head_training._loss, []

    def interrupting(*more):
        calls.append(1)
        if len(calls) == 6:  # in the first step of the second epoch
            signal.raise_signal(signal.SIGTERM)
        return plain(*more)

    with monkeypatch.context() as patch:
        patch.setattr(head_training, "_loss", interrupting)
        with pytest.raises(Interrupted):
            amefu(feature_space, *words)
    assert (feature_space / "rgb-hyrsm.snapshot.safetensors").exists()
    amefu(feature_space, *words)
    whole, resumed = (read_checkpoint(feature_space / f"{name}.safetensors") for name in ("whole", "rgb-hyrsm"))
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(tensor, resumed[name], err_msg=name)


def test_a_head_brings_its_own_defaults() -> None:
    """They win over what suits a fusion, and amefu.toml over them."""
    chosen = chosen_sets(Config(), "tiny", "tuned")
    of_trx = defaults_of("meta-train", Config(), chosen, "trx")
    assert (of_trx["learning_rate"], of_trx["queries"], of_trx["accumulation"]) == (1e-3, "5", 16)
    assert of_trx["epochs"] == 3  # of the preset
    assert defaults_of("meta-train", Config(), chosen)["learning_rate"] == 3e-4
    assert defaults_of("meta-train", Config(), chosen, "hyrsm")["optimizer"] == "adam"
    typed = Config(tables={"meta-train": {"learning-rate": 0.5}, "meta-train-trx": {"queries": 2}})
    assert defaults_of("meta-train", typed, chosen, "trx") == of_trx | {"learning_rate": 0.5, "queries": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("meta-train", "--head", "otam"), "--head 'otam': must be one of match-linear, chamfer++, trx"),
        (
            ("meta-train", "--head", "trx", "--model", "rgb-basenet"),
            "reads base videos too, and --model rgb-basenet has novel ones only",
        ),
        (("meta-train", "--head", "trx", "--model", "clip"), "--model 'clip': must be one of amefu, rgb, depth"),
        (("meta-train", "--head", "trx"), "fusion.safetensors: no such checkpoint; make it with `amefu meta-train`"),
        (("evaluate", "--head", "trx", "--model", "rgb"), "make it with `amefu meta-train --head trx --model rgb`"),
    ],
)
def test_refusals(features_only: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(features_only, *words)


def test_a_head_of_another_model_is_refused(feature_space: Path) -> None:
    amefu(feature_space, "meta-train", "--head", "trx", "--model", "rgb", *SMALL)
    words = ("evaluate", "--head", "trx", "--head-weights", feature_space / "rgb-trx.safetensors", "--model", "depth")
    with pytest.raises(UsageError, match="is trx on rgb, not trx on depth"):
        amefu(feature_space, *words)
    split = json.loads((feature_space / "split.json").read_text())
    split = {"train": split["test"][:2], "test": [*split["train"], *split["val"]]}
    (feature_space / "other.json").write_text(json.dumps(split))
    with pytest.raises(UsageError, match="amefu meta-train --head trx --rebuild"):
        amefu(feature_space, "evaluate", "--head", "trx", "--model", "rgb", "--split", feature_space / "other.json")


def test_the_depth_of_other_videos_is_a_control_that_results_name_and_no_head_learns_on(feature_space: Path) -> None:
    words = ("--depth-of", "class", "--num-aug", "0")
    amefu(feature_space, "meta-train", *words)
    told = json.loads(amefu(feature_space, "evaluate", "--json"))
    assert told["depth_of"] == "class"
    assert "1-shot, queries a class: 1, --depth-of class" in " ".join(amefu(feature_space, "evaluate").split())
    amefu(feature_space, "meta-train", "--num-aug", "0", "--rebuild")
    own = json.loads(amefu(feature_space, "evaluate", "--json"))
    assert (own["depth_of"], own["fingerprints"]["fusion"] != told["fingerprints"]["fusion"]) == ("own", True)
    amefu(feature_space, "meta-train", *words, "--rebuild")
    with pytest.raises(UsageError, match="fuses the depth of other videos, a control, on whose frames no head learns"):
        amefu(feature_space, "meta-train", "--head", "trx")
