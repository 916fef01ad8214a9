"""Evaluation: every model of the table held to a plain loop, its result file, and its refusals."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import RunAmefu
from synthetic_features import FRAMES, NOVEL, amefu, clip_features, make_store
from typer.testing import CliRunner

from amefu_cli.artefacts.files.episodes import read_episodes
from amefu_cli.artefacts.files.results import PackedOutcomes, open_result
from amefu_cli.artefacts.stores import store as store_module
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.stores.store import open_store, prepare_store
from amefu_cli.artefacts.stores.writing import feature_writer
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint
from amefu_cli.commands.app import app
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.flows import session
from amefu_cli.method.heads import MODELS
from amefu_cli.method.heads.fusion import DGAdaIN
from amefu_cli.method.sampling import middle_clip
from amefu_cli.settings import EvaluateSettings

MIDDLE = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]  # of 20 frames: 4 of each 5 from place (5 - 4) // 2
EIGHT = {"segments": 8, "frames_per_segment": 1}
CONSECUTIVE = list(range(2, 18))  # 16 frames, two left over on either side


def vector(model, video, fusion):
    """One video's vector, from its features as they were made."""
    name, _, number = video.partition("/v_")
    features = {stream: clip[0].astype(np.float32) for stream, clip in clip_features(name, int(number)).items()}
    if model == "rgb-basenet":
        frames = features["imagenet"][CONSECUTIVE]
        return (frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(0)
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
    return tuple(right)


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
    assert result.found.right == plain_loop(model, read_episodes(tmp_path / "file"), fusion)
    assert result.asked.head == ("unit-frames-euclidean" if model == "rgb-basenet" else "prototype-cosine")
    assert result.asked.test_frames == ("consecutive" if model == "rgb-basenet" else "middle")
    assert result.found.accuracy == pytest.approx(np.mean(result.found.right) / 10)
    assert told["accuracy"] == result.found.accuracy
    assert "right" not in told


def test_a_result_keeps_every_class_of_every_episode(feature_space, tmp_path):
    amefu(feature_space, "evaluate", "--model", "rgb", "--queries", "3", "--out", tmp_path / "r.json")
    result = open_result(tmp_path / "r.json")
    outcomes = result.outcomes()
    assert outcomes.class_names == NOVEL == tuple(result.found.by_class)
    assert outcomes.shares.shape == outcomes.classes.shape == (200, 5)
    assert np.rint(outcomes.shares * 3).sum(1).astype(int).tolist() == [*result.found.right]
    assert outcomes.accuracies.mean() == pytest.approx(result.found.accuracy)
    for label, name in enumerate(NOVEL):
        assert outcomes.shares[outcomes.classes == label].mean() == pytest.approx(result.found.by_class[name])
    assert {len(set(classes)) for classes in outcomes.classes.tolist()} == {5}
    assert result.asked.fingerprints.fusion is None


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


def test_a_head_can_be_set_for_any_model(feature_space, tmp_path):
    """One support a class and vectors of length 1: Euclidean and cosine agree; the basenet's are not of length 1."""
    for model, same in (("rgb", True), ("rgb-basenet", False)):
        outs = [tmp_path / f"{model}-{classifier}.json" for classifier in ("cosine", "euclidean")]
        for out in outs:
            head = f"prototype-{out.stem.rpartition('-')[2]}"
            amefu(feature_space, "evaluate", "--model", model, "--head", head, "--out", out)
        first, second = (open_result(out).found.right for out in outs)
        assert (first == second) is same


@pytest.mark.parametrize("head", ["otam", "bi-mhm", "chamfer", "logistic", "knn", "svm", "tsl", "baseline++"])
def test_a_head_without_weights_needs_no_checkpoint(feature_space, tmp_path, head):
    words = ("evaluate", "--model", "rgb", "--shot", "2", "--queries", "2", "--episodes", "40", "--head", head)
    told = json.loads(amefu(feature_space, *words, "--json"))
    assert told["accuracy"] > 0.3  # chance is 0.2
    assert told["head"] == head
    assert told["test_frames"] == ("eight" if head in ("otam", "bi-mhm", "chamfer") else "middle")
    assert f"rgb-{head}-5way-2shot" in told["file"]
    assert not [*feature_space.glob("*.safetensors")]
    title = " ".join(amefu(feature_space, *words).split())
    assert f"rgb, {head}: 5-way 2-shot, queries a class: 2, 40 episodes" in title


def test_a_head_that_compares_frames_agrees_with_a_plain_loop(feature_space, tmp_path):
    """Chamfer on the middles of the eight parts."""
    amefu(feature_space, "episodes", "--count", "60", "--out", tmp_path / "file")
    words = ("evaluate", "--model", "rgb", "--head", "chamfer", "--episodes", tmp_path / "file")
    amefu(feature_space, *words, "--out", tmp_path / "r.json")
    drawn, frames = read_episodes(tmp_path / "file"), {}
    for video in drawn.ids:
        name, _, number = video.partition("/v_")
        clip = clip_features(name, int(number))["rgb"][0].astype(np.float32)[middle_clip(20, **EIGHT)]
        frames[video] = clip / np.linalg.norm(clip, axis=1, keepdims=True)
    right = []
    for support, query in zip(drawn.support[..., 0], drawn.query[..., 0], strict=True):
        cosines = [[frames[drawn.ids[one]] @ frames[drawn.ids[other]].T for other in support] for one in query]
        scores = [[of.max(1).mean() + of.max(0).mean() for of in row] for row in cosines]
        right.append(int((np.argmax(scores, 1) == np.arange(5)).sum()))
    assert open_result(tmp_path / "r.json").found.right == tuple(right)


def test_a_head_scores_the_frames_that_a_fusion_gives(feature_space, tmp_path):
    """With one shot the mean of the cosines to the shots is the cosine of the fused mean: the prototype's."""
    amefu(feature_space, "meta-train")
    for head in ("prototype-cosine", "mean-frames-cosine", "otam"):
        amefu(feature_space, "evaluate", "--head", head, "--out", tmp_path / f"{head}.json")
    found = {path.stem: open_result(path).found.right for path in tmp_path.glob("*.json")}
    assert found["mean-frames-cosine"] == found["prototype-cosine"] != found["otam"]


def test_a_head_that_sees_base_videos(feature_space):
    """Ten of each base class; here all three, which are noted. The basenets' stream has novel videos only."""
    words = ("evaluate", "--head", "segment-augmentation", "--model")
    told = json.loads(amefu(feature_space, *words, "rgb", "--json"))
    assert told["accuracy"] > 0.3
    assert told["fingerprints"]["gallery"]
    plain = json.loads(amefu(feature_space, "evaluate", "--model", "rgb", "--json"))
    assert plain["fingerprints"]["gallery"] is None
    with pytest.raises(UsageError, match="reads base videos too, and --model rgb-basenet has novel ones only"):
        amefu(feature_space, *words, "rgb-basenet")


def test_a_store_that_lacks_the_frames_of_a_head_names_the_fix(feature_space):
    there = open_store(feature_space / "features.zarr", FeaturesHeader, fix="")
    with prepare_store(feature_space / "more.zarr", there.header, rebuild=False) as store:
        for video, record in there.records().items():
            arrays = {name: there.read(video).array(name) for name in ("frame", *there.header.streams)}
            with feature_writer(store, video, [*there.header.streams]) as writer:
                writer.append(arrays)
                writer.commit(frames=record.frames, fps=None, source="", made_from={"kept": ["middle"]})
    words = ("evaluate", "--model", "rgb", "--features", store.path)
    amefu(feature_space, *words)
    message = "lacks the 'eight' frames of run/v_00, which only has those of middle; add them with `amefu features`"
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(feature_space, *words, "--head", "otam")


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
    message = "holds no 'imagenet'; add it with `amefu features --basenet`"
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(tmp_path, *words, "rgb-basenet++")


def test_a_further_stream_of_the_store_is_a_model(feature_space):
    """Here one that holds what RGB holds: the mean of the same frames, and the same classifier."""
    there = open_store(feature_space / "features.zarr", FeaturesHeader, fix="")
    rows = {name: there.header.streams[name] for name in ("rgb", "depth")} | {"clip": there.header.streams["rgb"]}
    with prepare_store(feature_space / "more.zarr", replace(there.header, streams=rows), rebuild=False) as store:
        for video, record in there.records().items():
            arrays = {name: there.read(video).array(name) for name in ("frame", "rgb", "depth")}
            with feature_writer(store, video, [*rows]) as writer:
                writer.append({**arrays, "clip": arrays["rgb"]})
                writer.commit(frames=record.frames, fps=None, source="", made_from=record.made_from)
    found = {}
    for model in ("rgb", "clip"):
        out = feature_space / f"{model}.json"
        amefu(feature_space, "evaluate", "--model", model, "--features", store.path, "--out", out)
        found[model] = open_result(out)
    assert found["clip"].found.right == found["rgb"].found.right
    assert (found["clip"].asked.model, found["clip"].asked.head) == ("clip", "prototype-cosine")
    message = (
        "--model 'dino': must be one of amefu, rgb, depth, rgb-basenet, rgb-basenet++, clip; `amefu features --stream"
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(feature_space, "evaluate", "--model", "dino", "--features", store.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": PackedOutcomes("", "")}, "its outcomes cannot be read"),
        ({"episodes": 300}, "2000 bytes of outcomes, 300 × 5 need 3000"),
        ({"queries": 0}, "an outcome lies outside its queries or classes"),
        ({"by_class": {"run": 1.0}}, "an outcome lies outside its queries or classes"),
    ],
)
def test_outcomes_that_do_not_fit_are_damage(feature_space, tmp_path, change, message):
    amefu(feature_space, "evaluate", "--model", "rgb", "--out", tmp_path / "r.json")
    result = open_result(tmp_path / "r.json")
    part = "asked" if change.keys() <= vars(result.asked).keys() else "found"
    changed = replace(result, **{part: replace(getattr(result, part), **change)})
    with pytest.raises(DamagedFile, match=re.escape(message)):
        changed.outcomes()


def test_the_basenets_add_their_features_to_novel_videos_only(workspace, run_amefu):
    """Asked for the first time on a finished store: base and validation videos stay, novel ones gain a stream."""
    path = workspace / "features.zarr"
    store = open_store(path, FeaturesHeader, fix="")
    before = store.records()
    before_rgb = {video: store.read(video).array("rgb").tolist() for video in before}
    made = run_amefu("evaluate", "--workspace", workspace, "--model", "rgb-basenet")
    assert "6 videos to make, 15 already in" in made.stderr
    store = open_store(path, FeaturesHeader, fix="")
    after = store.records()
    for video, record in after.items():
        novel = record.class_name in ("spin", "wave")
        assert (record.fingerprint != before[video].fingerprint) is novel
        assert ("imagenet" in store.read(video).names()) is novel
        if novel:  # of 8 frames temporal heads read all
            assert store.read(video).array("frame").tolist() == [*range(8)]
            assert store.read(video).array("rgb").tolist() == before_rgb[video]
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
    assert "features.zarr was made by: it has flip 0.0 (not 0.5), geometry square (not official), test_frames" in said


def test_an_evaluation_that_is_there_reads_no_record_twice(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And amefu.toml once, though it brings three stores up to date first."""
    read: list[str] = []

    def counted(where: ModuleType, name: str) -> None:
        function = getattr(where, name)
        monkeypatch.setattr(where, name, lambda path, *more: read.append(str(path)) or function(path, *more))

    counted(store_module, "read_record")
    counted(session, "read_config")
    done = CliRunner().invoke(app, ["evaluate", "--workspace", str(workspace)], catch_exceptions=False)
    assert done.stderr.count("is up to date") == 4
    assert sorted(Counter(read).values()) == [1] * (3 * 21 + 1)
