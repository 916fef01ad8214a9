"""Evaluation: every model of the table held to a plain loop, its result file, and its refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunAmefu
from synthetic_features import FRAMES, NOVEL, amefu, clip_features, make_store

from amefu_cli.artefacts.files.episodes import read_episodes
from amefu_cli.artefacts.files.results import open_result, outcomes_of
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.method.heads import MODELS
from amefu_cli.method.heads.fusion import DGAdaIN
from amefu_cli.settings import EvaluateSettings

MIDDLE = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]  # of 20 frames: 4 of each 5 from place (5 - 4) // 2
CONSECUTIVE = list(range(2, 18))  # 16 frames, two left over on either side


def vector(model, video, fusion):
    """One video's vector, from its features as they were made."""
    name, _, number = video.partition("/v_")
    features = {stream: clip[0].astype(np.float32) for stream, clip in clip_features(name, int(number)).items()}
    if model == "rgb-basenet":
        return features["imagenet"][CONSECUTIVE].mean(0)
    if model == "amefu":
        fused = fusion(*(torch.from_numpy(features[stream][MIDDLE]) for stream in ("rgb", "depth")))
        mean = fused.detach().numpy()
    else:
        mean = features["imagenet" if model == "rgb-basenet++" else model][MIDDLE].mean(0)
    return mean / np.linalg.norm(mean)


def plain_loop(model, drawn, fusion):
    """How many queries of each episode fall to their own class."""
    vectors = {video: vector(model, video, fusion) for video in drawn.ids}
    right = []
    for support, query in zip(drawn.support, drawn.query, strict=True):
        prototypes = [np.mean([vectors[drawn.ids[video]] for video in videos], 0) for videos in support]
        count = 0
        for own, queries in enumerate(query):
            for video in queries:
                this = vectors[drawn.ids[video]]
                if model == "rgb-basenet":
                    scores = [-np.square(this - prototype).sum() for prototype in prototypes]
                else:
                    scores = [this @ prototype / np.linalg.norm(prototype) for prototype in prototypes]
                count += int(np.argmax(scores) == own)
        right.append(count)
    return right


def test_the_frames_of_the_plain_loop():
    assert len(MIDDLE) == len(CONSECUTIVE) == 16
    assert max(MIDDLE) < FRAMES


@pytest.mark.parametrize("model", MODELS)
def test_every_model_agrees_with_a_plain_loop(feature_space, tmp_path, model):
    amefu(feature_space, "episodes", "--shot", "2", "--queries", "2", "--count", "60", "--out", tmp_path / "file")
    fusion = DGAdaIN(16)
    if model == "amefu":
        amefu(feature_space, "meta-train")
        trained = read_checkpoint(feature_space / "fusion.safetensors")
        fusion.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in trained.items()})
    told = json.loads(amefu(feature_space, "evaluate", "--model", model, "--episodes", tmp_path / "file", "--json"))
    result = open_result(feature_space / "results" / told["file"].rpartition("/")[2])
    assert result["right"] == plain_loop(model, read_episodes(tmp_path / "file"), fusion)
    assert result["classifier"] == ("euclidean" if model == "rgb-basenet" else "cosine")
    assert result["test_frames"] == ("consecutive" if model == "rgb-basenet" else "middle")
    assert result["accuracy"] == pytest.approx(np.mean(result["right"]) / 10)
    assert told["accuracy"] == result["accuracy"]
    assert "right" not in told


def test_a_result_keeps_every_class_of_every_episode(feature_space, tmp_path):
    amefu(feature_space, "evaluate", "--model", "rgb", "--queries", "3", "--out", tmp_path / "r.json")
    result = open_result(tmp_path / "r.json")
    outcomes = outcomes_of(result, tmp_path / "r.json")
    assert outcomes.class_names == NOVEL == tuple(result["by_class"])
    assert outcomes.shares.shape == outcomes.classes.shape == (200, 5)
    assert np.rint(outcomes.shares * 3).sum(1).astype(int).tolist() == result["right"]
    assert outcomes.accuracies.mean() == pytest.approx(result["accuracy"])
    for label, name in enumerate(NOVEL):
        assert outcomes.shares[outcomes.classes == label].mean() == pytest.approx(result["by_class"][name])
    assert {len(set(classes)) for classes in outcomes.classes.tolist()} == {5}
    assert result["fingerprints"].keys() == {"features"}


def test_the_same_evaluation_is_done_once(feature_space, tmp_path):
    words = ("evaluate", "--model", "depth", "--out", tmp_path / "r.json")
    amefu(feature_space, *words)
    before = (tmp_path / "r.json").stat().st_mtime_ns
    amefu(feature_space, *words)
    assert (tmp_path / "r.json").stat().st_mtime_ns == before
    amefu(feature_space, *words, "--seed", "1")
    assert (tmp_path / "r.json").stat().st_mtime_ns != before


def test_the_interval_over_classes_is_the_wider_one(feature_space, tmp_path):
    words = ("evaluate", "--model", "rgb", "--episodes", "2000", "--out", tmp_path / "r.json", "--json")
    told = json.loads(amefu(feature_space, *words, "--by-class"))
    low, high = told["interval_95_by_class"]
    assert low < told["accuracy"] < high
    assert high - low > 3 * told["half_width_95"]  # 6 classes of accuracies far apart
    assert json.loads(amefu(feature_space, *words, "--by-class"))["interval_95_by_class"] == [low, high]
    assert "interval_95_by_class" not in json.loads(amefu(feature_space, *words))
    assert "over 6 classes too" in amefu(feature_space, *words[:-1], "--by-class")


def test_a_classifier_can_be_set_for_any_model(feature_space, tmp_path):
    """One support a class and vectors of length 1: Euclidean and cosine agree; the basenet's are not of length 1."""
    for model, same in (("rgb", True), ("rgb-basenet", False)):
        outs = [tmp_path / f"{model}-{classifier}.json" for classifier in ("cosine", "euclidean")]
        for out in outs:
            classifier = out.stem.rpartition("-")[2]
            amefu(feature_space, "evaluate", "--model", model, "--classifier", classifier, "--out", out)
        first, second = (open_result(out)["right"] for out in outs)
        assert (first == second) is same


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--episodes", "1"), "--episodes 1: must be at least 2"),
        (("--episodes", "-5"), "--episodes -5: must be at least 2"),
        (("--episodes", "absent"), "absent: no such file of episodes; write one with `amefu episodes --out absent`"),
        (("--way", "7"), "7-way episodes need 7 classes but only 6 hold videos"),
        (("--shot", "6"), "6-shot with 1 query needs 7; lower the shot"),
        (("--model", "rgbd"), "--model 'rgbd': must be one of amefu, rgb, depth, rgb-basenet, rgb-basenet++"),
    ],
)
def test_refusals(features_only, words, message):
    words = words if "--model" in words else ("--model", "rgb", *words)
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(features_only, "evaluate", *words)


def test_a_number_in_amefu_toml_is_a_number_of_episodes():
    drawn = EvaluateSettings(episodes=300).episodes_to_draw()  # type: ignore[arg-type]
    assert drawn is not None
    assert (drawn.count, drawn.way, drawn.shot) == (300, 5, 1)
    assert EvaluateSettings(episodes="file.300").episodes_to_draw() is None


def test_a_store_without_imagenet_features_names_the_fix(tmp_path):
    make_store(tmp_path / "features.zarr", dict.fromkeys(NOVEL[:2], 2), imagenet=False)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["bow"], "test": NOVEL[:2]}))
    words = ("evaluate", "--way", "2", "--episodes", "9", "--model")
    amefu(tmp_path, *words, "rgb")
    message = (
        "holds no ImageNet features of run/v_00, which the basenets read; add them with `amefu features --basenet`"
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(tmp_path, *words, "rgb-basenet++")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": None}, "its outcomes cannot be read"),
        ({"episodes": 300}, "2000 bytes of outcomes, 300 × 5 need 3000"),
        ({"queries": 0}, "an outcome lies outside its queries or classes"),
        ({"by_class": {"run": 1.0}}, "an outcome lies outside its queries or classes"),
    ],
)
def test_outcomes_that_do_not_fit_are_damage(feature_space, tmp_path, change, message):
    amefu(feature_space, "evaluate", "--model", "rgb", "--out", tmp_path / "r.json")
    with pytest.raises(DamagedFile, match=re.escape(message)):
        outcomes_of(open_result(tmp_path / "r.json") | change, tmp_path / "r.json")


def test_the_basenets_add_their_features_to_novel_videos_only(workspace, run_amefu):
    """Asked for the first time on a finished store: base and validation videos stay, novel ones are made again."""
    path = workspace / "features.zarr"
    before = open_store(path, "features", fix="").records()
    made = run_amefu("evaluate", "--workspace", workspace, "--model", "rgb-basenet")
    assert "6 videos to make, 15 already in" in made.stderr
    store = open_store(path, "features", fix="")
    after = store.records()
    for video, record in after.items():
        novel = record.class_name in ("spin", "wave")
        assert (record.fingerprint != before[video].fingerprint) is novel
        assert ("imagenet" in store.read(video).arrays) is novel
        if novel:  # 8 frames, 2 × 2 of them: middles 1, 2 and 5, 6, and 2 to 5 in a row
            assert store.read(video).array("frame").tolist() == [1, 2, 3, 4, 5, 6]
            assert store.read(video).shape("imagenet") == store.read(video).shape("rgb")
    again = run_amefu("evaluate", "--workspace", workspace, "--model", "rgb-basenet++")
    assert "is up to date (21 videos)" in again.stderr  # and stays so for the commands that do not ask for them
    assert "is up to date (21 videos)" in run_amefu("features", "--workspace", workspace).stderr


def test_an_interval_over_classes_needs_no_class_in_every_resample(feature_space: Path) -> None:
    """Two episodes of two of six classes: many a resample of classes holds none of them."""
    words = ("evaluate", "--model", "rgb", "--way", "2", "--episodes", "2", "--by-class", "--json")
    low, high = json.loads(amefu(feature_space, *words))["interval_95_by_class"]
    assert 0 <= low <= high <= 1


def test_a_recipe_that_is_not_the_store_s_is_said(feature_space: Path, run_amefu: RunAmefu) -> None:
    words = ("evaluate", "--model", "rgb", "--no-upstream", "--workspace", feature_space, "--recipe")
    assert "was made by" not in run_amefu(*words, "tuned").stderr
    said = run_amefu(*words, "official").stderr
    assert "features.zarr was made by: it has flip 0.0 (not 0.5), test_frames middle (not start)" in said
