"""Features of runs of consecutive frames: what is kept of each part of the data set, and who reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import CONFIG, SPLIT, MakeClips, RunAmefu
from synthetic_features import amefu

from amefu_cli.artefacts.files.results import open_result
from amefu_cli.artefacts.stores.features import read_features
from amefu_cli.artefacts.stores.header import FeaturesHeader
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.settings import ClipSettings
from amefu_cli.stages.training import places_of

# Of 40 frames in two parts of 20, clips of 2 × 2. Three runs: at the first place, in the middle and at the last one.
RUNS = {0, 1, 9, 10, 18, 19, 20, 21, 29, 30, 38, 39}
EIGHT = {2, 7, 12, 17, 22, 27, 32, 37}
MIDDLE, CONSECUTIVE = {9, 10, 29, 30}, {18, 19, 20, 21}


def test_what_reads_frames_finds_them_in_a_store_of_runs(
    make_clips: MakeClips, run_amefu: RunAmefu, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    make_clips(tmp_path / "videos", clips=3, frames=40)
    (work / "amefu.toml").write_text(CONFIG)
    (work / "split.json").write_text(json.dumps(SPLIT))
    run_amefu("depth", tmp_path / "videos", "--workspace", work)
    words = ("features", "--runs", "3", "--flip", "1", "--workspace", work)
    run_amefu(*words)
    store = open_store(work / "features.zarr", FeaturesHeader, fix="")
    for video, kept in (
        ("bow/clip_0", RUNS | EIGHT),
        ("jump/clip_0", RUNS | EIGHT),
        ("wave/clip_0", MIDDLE | CONSECUTIVE | EIGHT),
    ):
        assert store.read(video).array("frame").tolist() == sorted(kept)
    records = store.records()
    assert [records[f"{name}/clip_0"].made_from["mirrored"] for name in ("bow", "jump", "wave")] == [[1], [], []]
    assert "is up to date (21 videos)" in run_amefu(*words).stderr

    amefu(work, "meta-train")
    amefu(work, "meta-train", "--head", "trx", "--model", "rgb", "--episodes", "2", "--queries", "1")
    for head in ("segment-augmentation", "trx"):
        amefu(work, "evaluate", "--model", "rgb", "--head", head, "--out", work / f"{head}.json")
    assert open_result(work / "segment-augmentation.json").asked.test_frames == "middle"

    with pytest.raises(UsageError, match=r"^frame 0 of wave/clip_0 has no features; add it with `amefu features`$"):
        read_features(store, records, ["wave"], streams=["rgb"], views=1).rows(0, np.array([2, 0]))
    novel = read_features(store, records, ["wave"], streams=["rgb"], views=1)
    places = places_of(novel, ClipSettings(segments=2, frames_per_segment=2))
    assert places.count.tolist() == [[3, 3]] * 3  # 9-10, 17-18, 18-19 and 20-21, 21-22, 29-30
    with pytest.raises(UsageError, match=r"^wave/clip_0: has no features of 7 consecutive frames in each of 1 parts"):
        places_of(novel, ClipSettings(segments=1, frames_per_segment=7))


def test_a_store_of_an_older_version_is_refused_with_what_to_do(feature_space: Path) -> None:
    """Which kept every second frame: nothing in it is consecutive."""
    path = feature_space / "features.zarr/zarr.json"
    document = json.loads(path.read_text())
    settings = document["attributes"]["amefu"]["settings"]
    del settings["runs"]
    settings["stride"] = 2
    path.write_text(json.dumps(document))
    with pytest.raises(DamagedFile, match=r"'settings' has no field 'stride'.*again with `amefu features --rebuild`$"):
        amefu(feature_space, "evaluate", "--model", "rgb")
