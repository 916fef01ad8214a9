"""`amefu compare` on results made by hand: in pairs or not, over episodes and over classes, and what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from synthetic_features import amefu
from typer.testing import CliRunner

from amefu_cli.artefacts.files.results import (
    Fingerprints,
    Found,
    PackedOutcomes,
    Recipes,
    Result,
    ResultSettings,
    Switches,
    write_result,
)
from amefu_cli.commands.app import app
from amefu_cli.errors import DamagedFile, UsageError

NAMES = ("run", "sit", "wave")


def result(path, right, classes, *, episodes="e1", names=NAMES, queries=1, shot=1, model="rgb"):
    """Write a result whose `right` and `classes` are (episodes, way)."""
    right, classes = np.array(right), np.array(classes)
    shares = right.mean(1) / queries
    asked = ResultSettings(
        model=model, head="prototype-cosine", test_frames="middle", way=right.shape[1], shot=shot, queries=queries,
        episodes=len(right), seed=0, episodes_fingerprint=f"{shot} {episodes}", queries_fingerprint=episodes,
        recipe=Recipes("paper"),
        switches=Switches(0.0, "middle", "square"), missing_videos=0, missing_classes=(),
        fingerprints=Fingerprints("f"),
    )  # fmt: skip
    found = Found(
        accuracy=float(shares.mean()), half_width_95=float(1.96 * shares.std(ddof=1) / np.sqrt(len(shares))),
        by_class=dict.fromkeys(names, 0.5), videos=6, right=tuple(right.sum(1).tolist()),
        outcomes=PackedOutcomes.of(right, classes), seconds=0.1,
    )  # fmt: skip
    write_result(Result(path, asked, found))
    return path


CLASSES = [[0, 1], [1, 2], [0, 2], [2, 1]]


@pytest.fixture
def pair(tmp_path):
    """Accuracies 0, 0.5, 1, 0.5 and 0.5, 1, 1, 0.5 of the same four episodes: differences 0.5, 0.5, 0, 0."""
    first = result(tmp_path / "a.json", [[0, 0], [1, 0], [1, 1], [0, 1]], CLASSES)
    second = result(tmp_path / "b.json", [[1, 0], [1, 1], [1, 1], [0, 1]], CLASSES, model="amefu")
    return first, second


def test_a_paired_difference_by_hand(pair, tmp_path):
    told = json.loads(amefu(tmp_path, "compare", *pair, "--json"))
    (found,) = told["compared"]
    half_width = 1.96 * np.sqrt((4 * 0.25**2 / 3) / 4)
    assert told["reference"] == str(pair[0])
    assert told["interval_over"] == "episodes of these classes alone"
    assert found["paired"] is True
    assert found["difference"] == pytest.approx(0.25)
    assert found["over_episodes_95"] == [pytest.approx(0.25 - half_width), pytest.approx(0.25 + half_width)]
    assert found["significant"] is False  # 0.25 ± 0.28
    assert found["by_class_95"] is None


def test_a_difference_whose_interval_holds_0_is_marked(pair, tmp_path):
    clear = result(tmp_path / "c.json", [[1, 0], [1, 1], [1, 1], [1, 1]], CLASSES)
    table = amefu(tmp_path, "compare", *pair, clear)
    lines = {name: line for name in ("b.json", "c.json") for line in table.splitlines() if name in line}
    assert "≈ +25.00" in lines["b.json"]
    assert "+37.50" in lines["c.json"]
    assert "≈" not in lines["c.json"]


def compare(*words):
    done = CliRunner().invoke(app, ["compare", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done


def test_other_episodes_are_said_and_not_paired(pair, tmp_path):
    other = result(tmp_path / "o.json", [[1, 0], [1, 1], [1, 1], [0, 1]], CLASSES, episodes="e2")
    done = compare(pair[0], other, "--json")
    (found,) = json.loads(done.stdout)["compared"]
    assert f"{other} and {pair[0]} are not of the same episodes: their difference is not paired" in done.stderr
    half_width = 1.96 * np.sqrt(np.var([0, 0.5, 1, 0.5], ddof=1) / 4 + np.var([0.5, 1, 1, 0.5], ddof=1) / 4)
    assert found["paired"] is False
    assert found["difference"] == pytest.approx(0.25)
    assert found["over_episodes_95"][1] - 0.25 == pytest.approx(half_width)


def test_other_tasks_are_said(pair, tmp_path):
    other = result(tmp_path / "o.json", [[2, 0], [2, 1]], [[0, 1], [1, 2]], episodes="e2", queries=2, shot=5)
    done = compare(pair[0], other, "--json")
    assert "are of different tasks (shot 1 and 5, queries 1 and 2)" in done.stderr


def test_a_gain_on_one_class_is_not_significant_over_classes(tmp_path):
    """Class 0 alone gains, in each of its 400 episodes: sure over episodes, not over which classes are novel."""
    rng = np.random.default_rng(0)
    classes = np.stack([rng.permutation(3)[:2] for _ in range(600)])
    before = (rng.random((600, 2)) < 0.5).astype(int)
    after = np.where(classes == 0, 1, before)
    first, second = (result(tmp_path / f"{name}.json", right, classes) for name, right in (("a", before), ("b", after)))
    (found,) = json.loads(amefu(tmp_path, "compare", first, second, "--by-class", "--json"))["compared"]
    assert found["over_episodes_95"][0] > 0.1
    assert found["by_class_95"][0] <= 0.0 < found["by_class_95"][1]  # in 8 of 27 resamples class 0 is not there
    assert found["significant"] is False
    (found,) = json.loads(amefu(tmp_path, "compare", first, second, "--json"))["compared"]
    assert found["significant"] is True


def test_unpaired_results_lose_the_same_classes(tmp_path):
    """Two runs of one model on other episodes: classes far apart cancel, as long as they are the same classes."""
    rng = np.random.default_rng(1)
    accuracy = np.array([0.1, 0.5, 0.9])
    paths = []
    for name, names in (("a", NAMES), ("b", NAMES), ("c", ("bow", "run", "sit"))):
        classes = np.stack([rng.permutation(3)[:2] for _ in range(3000)])
        right = (rng.random((3000, 2)) < accuracy[classes]).astype(int)
        paths.append(result(tmp_path / f"{name}.json", right, classes, episodes=name, names=names))
    told = json.loads(compare(*paths, "--by-class", "--json").stdout)["compared"]
    same, others = (found["by_class_95"][1] - found["by_class_95"][0] for found in told)
    assert same < 0.1
    assert others > 0.5


def test_refusals(pair, tmp_path):
    with pytest.raises(UsageError, match=re.escape("two results or more: amefu compare A.json B.json")):
        amefu(tmp_path, "compare", pair[0])
    absent = tmp_path / "absent.json"
    message = f"{absent}: no such result; make it with `amefu evaluate --out {absent}`"
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(tmp_path, "compare", pair[0], absent)
    old = tmp_path / "old.json"
    old.write_text('{"model": "rgb", "fingerprints": {}, "episodes_fingerprint": "e1"}')
    with pytest.raises(DamagedFile, match=re.escape(f"{old}: not an amefu result") + ".* lacks head, test_frames, way"):
        amefu(tmp_path, "compare", pair[0], old)


def test_shots_of_the_same_queries_are_compared_in_pairs(feature_space):
    for shot in (1, 3):
        amefu(feature_space, "evaluate", "--model", "rgb", "--shot", shot, "--out", feature_space / f"{shot}.json")
    told = json.loads(amefu(feature_space, "compare", feature_space / "1.json", feature_space / "3.json", "--json"))
    assert told["compared"][0]["paired"] is True
