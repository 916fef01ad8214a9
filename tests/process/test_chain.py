"""The whole chain as a user types it: every command in a process of its own, on a few small clips."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import CLASSES, ROOT, SPLIT, MakeClips, RunAmefu, amefu_environment, fresh_python, tree, warm_python

from amefu_cli.artefacts.stores.failures import read_failures
from amefu_cli.artefacts.stores.header import KINDS, FeaturesHeader, FramesHeader
from amefu_cli.artefacts.stores.pictures import read_frames
from amefu_cli.artefacts.stores.store import open_store
from amefu_cli.artefacts.stores.writing import feature_writer
from amefu_cli.artefacts.weights.checkpoint import read_checkpoint, read_header, write_checkpoint
from amefu_cli.artefacts.weights.headers import StreamHeader
from amefu_cli.flows.features import kept_frames
from amefu_cli.settings import ClipSettings

STORES = ("frames", "depth", "features")


def test_four_lines_lead_from_clips_to_an_accuracy(finished_workspace: Path, run_amefu: RunAmefu) -> None:
    work = finished_workspace / "work"
    status = json.loads(run_amefu("status", "--json", "--workspace", work).stdout)
    assert [(store["done"], store["failed"], store["missing"]) for store in status["stores"]] == [(21, 0, 0)] * 3
    (result,) = status["results"]
    assert (result["model"], result["way"], result["shot"], result["episodes"]) == ("amefu", 2, 1, 50)
    assert 0 <= result["accuracy"] <= 1
    document = json.loads(Path(result["path"]).read_text())
    assert document["by_class"].keys() == set(SPLIT["test"])
    lines = (work / "fusion.metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]


def test_the_stored_frames_are_those_of_the_clip(finished_workspace: Path) -> None:
    store = open_store(finished_workspace / "work/frames.zarr", FramesHeader, fix="")
    record = store.records()["spin/clip_2"]
    assert (record.frames, record.fps, record.source) == (8, 8.0, "spin/clip_2.mp4")
    with av.open(finished_workspace / "videos/spin/clip_2.mp4") as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    stored = read_frames(store.read("spin/clip_2"), range(8))
    assert stored.shape == (8, 32, 32, 3)
    distance = np.abs(stored[:, None].astype(int) - decoded[None]).mean((2, 3, 4))  # (stored, decoded)
    assert distance.argmin(1).tolist() == list(range(8))
    assert distance.diagonal().max() < 16  # chroma of hard edges, halved by the clip and by JPEG


def test_features_keep_what_each_part_is_read_for(finished_workspace: Path) -> None:
    store = open_store(finished_workspace / "work/features.zarr", FeaturesHeader, fix="")
    shapes = {video: store.read(video).shape("rgb") for video in ("bow/clip_0", "jump/clip_0", "wave/clip_0")}
    assert shapes == {"bow/clip_0": (2, 8, 512), "jump/clip_0": (1, 8, 512), "wave/clip_0": (1, 8, 512)}
    assert store.read("wave/clip_0").array("frame").tolist() == [*range(8)]  # heads read one of each eighth
    assert store.read("wave/clip_0").record.made_from["kept"] == ["middle", "consecutive", "eight"]


def test_novel_videos_keep_the_frames_of_every_rule_once() -> None:
    """Of 40: 2 × 2 in the middle of the halves, 4 in a row in the middle of all, and the middles of 8 parts of 5."""
    clip = ClipSettings(segments=2, frames_per_segment=2)
    kept = kept_frames(40, ["middle", "consecutive", "eight"], runs=0, clip=clip)
    assert kept.tolist() == sorted({9, 10, 29, 30} | {18, 19, 20, 21} | {2, 7, 12, 17, 22, 27, 32, 37})
    assert kept_frames(5, [], runs=0, clip=clip).tolist() == [0, 1, 2, 3, 4]
    kept = kept_frames(40, ["middle", "eight"], runs=2, clip=clip)
    assert kept.tolist() == sorted({0, 1, 18, 19, 20, 21, 38, 39} | {9, 10, 29, 30} | {2, 7, 12, 17, 22, 27, 32, 37})


def test_a_second_run_of_everything_changes_nothing(workspace: Path, run_amefu: RunAmefu) -> None:
    before = tree(workspace)
    done = run_amefu("evaluate", "--workspace", workspace)
    assert [line.split(":")[0] for line in done.stderr.splitlines() if "is up to date" in line] == [
        "frames", "depth", "features", "evaluate",
    ]  # fmt: skip
    run_amefu("meta-train", "--workspace", workspace, "--no-upstream")
    assert tree(workspace) == before


@pytest.mark.parametrize("name", ["frames", "depth", "features"])
def test_a_second_run_does_not_wait_for_torch(workspace: Path, name: str) -> None:
    program = (
        f"import sys; sys.argv = ['amefu', {name!r}, '--workspace', {str(workspace)!r}]\n"
        "from amefu_cli.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('torch' in sys.modules)\n"
    )
    done = fresh_python("-c", program)
    assert done.returncode == 0, done.stderr
    assert f"{name}: {workspace / name}.zarr is up to date (21 videos)" in done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_a_workspace_can_be_moved(workspace: Path, run_amefu: RunAmefu) -> None:
    moved = workspace.rename(workspace.with_name("elsewhere"))
    before = tree(moved)
    done = run_amefu("evaluate", "--workspace", moved)
    assert f"depth: {moved / 'depth.zarr'} is up to date (21 videos)" in done.stderr
    assert tree(moved) == before


def test_a_source_can_be_known_by_its_bytes(tmp_path: Path, make_clips: MakeClips, run_amefu: RunAmefu) -> None:
    videos = tmp_path / "videos"
    first, second = make_clips(videos, ("jump",), 2)
    options = ("frames", videos, "--workspace", tmp_path / "work", "--size", "32", "--checksum", "--jobs", "1")
    run_amefu(*options)
    os.utime(first, ns=(1, 1))
    assert "is up to date (2 videos)" in run_amefu(*options).stderr
    times = second.stat().st_mtime_ns
    shutil.copy(make_clips(tmp_path / "other", ("jump",), 3)[2], second)
    os.utime(second, ns=(times, times))
    assert "1 videos to make, 1 already" in run_amefu(*options).stderr


def test_the_slurm_script_shares_the_work_out(tmp_path: Path, finished_workspace: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(finished_workspace / "work/amefu.toml", work)
    script = ROOT / "examples/slurm.sh"
    videos = finished_workspace / "videos"
    shares, tasks, programs = [], 2, tmp_path / "bin"
    programs.mkdir()
    warm_python().program(programs / "warm")
    for name, line in {
        "srun": 'while [[ $1 == --* ]]; do shift; done; IN_A_STEP=yes exec "$@"',  # a job step: --signal reaches it
        "amefu": '[[ $IN_A_STEP ]] && exec warm "$@"',
    }.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (programs / name).chmod(0o755)
    for task in range(tasks):
        environment = amefu_environment(
            AMEFU_WORKSPACE=str(work), SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT=str(tasks),
            SLURM_ARRAY_TASK_MIN="0", SLURM_ARRAY_TASK_MAX=str(tasks - 1),
            PATH=f"{programs}:{os.environ['PATH']}",
        )  # fmt: skip
        done = subprocess.run(
            ["bash", str(script), "prepare", str(videos)], env=environment, capture_output=True, text=True,
            timeout=120, check=True,
        )  # fmt: skip
        shares.append(int(done.stderr.split("depth: ")[1].split(" ")[0]))
    assert sum(shares) == 21
    assert all(shares)
    for name in ("frames", "depth"):
        assert tree(work / f"{name}.zarr/videos") == tree(finished_workspace / f"work/{name}.zarr/videos")


def test_bad_videos_cost_themselves_alone(tmp_path: Path, make_clips: MakeClips, run_amefu: RunAmefu) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    good = make_clips(videos, ("jump",), 3)
    corrupt, cut = videos / "jump/corrupt.mp4", videos / "jump/cut.mp4"
    (videos / "jump/empty.mp4").touch()
    corrupt.write_text("not a video at all, but some text that was renamed")
    cut.write_bytes(good[0].read_bytes()[:-200])
    _write_sound(videos / "jump/sound.mp4")
    options = ("--workspace", work, "--size", "32", "--jobs", "2", "--json")

    done = run_amefu("frames", videos, *options, code=3)
    expected = {
        "jump/corrupt": "NotAVideo", "jump/cut": "TruncatedVideo", "jump/empty": "EmptyFile",
        "jump/sound": "NoVideoStream",
    }  # fmt: skip
    assert {failure.video: failure.error for failure in read_failures(work)} == expected
    document = json.loads(done.stdout)
    assert (document["done"], document["failed"].keys()) == (3, expected.keys())
    assert list(open_store(work / "frames.zarr", FramesHeader, fix="").records()) == [
        f"jump/clip_{n}" for n in range(3)
    ]

    listed = json.loads(run_amefu("status", "--failed", "--json", "--workspace", work).stdout)["failed"]
    assert [(item["video"], item["attempt"]) for item in listed] == [(video, 1) for video in expected]

    shutil.copy(make_clips(tmp_path / "fetched", ("jump",), 4)[3], corrupt)  # one of them is fetched again
    done = run_amefu("frames", videos, *options, "--only-failed", code=3)
    assert json.loads(done.stdout)["done"] == 1
    run_amefu("frames", videos, *options, code=3)
    done = run_amefu("frames", videos, *options, code=3)
    assert "left alone after 3 attempts" in done.stderr
    assert [failure.attempt for failure in read_failures(work) if failure.video == "jump/empty"] == [1, 2, 3]


def _write_sound(path: Path) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        (("frames", "--size", "64"), "settings.size: 32 in the file, 64 asked for"),
        (("features", "--runs", "2"), "settings.runs: 0 in the file, 2 asked for"),
        (("meta-train", "--num-aug", "1"), "training.settings.num_aug: 2 in the file, 1 asked for"),
    ],
)
def test_another_recipe_is_refused_with_the_difference(
    workspace: Path, run_amefu: RunAmefu, words: tuple[str, ...], difference: str
) -> None:
    before = tree(workspace)
    done = run_amefu(*words, "--workspace", workspace, "--no-upstream", code=2)
    assert f"{difference})" in done.stderr
    assert "--rebuild" in done.stderr
    assert done.stdout == ""
    assert tree(workspace) == before


def test_other_weights_are_refused_with_the_difference(workspace: Path, run_amefu: RunAmefu) -> None:
    header = StreamHeader(
        role="rgb", backbone="squeezenet1_1", crop=32, depth_encoding="magma", classes=(), clip=ClipSettings()
    )
    write_checkpoint(workspace / "rgb.safetensors", {"w": np.zeros(1, np.float32)}, header)
    done = run_amefu("features", "--workspace", workspace, "--no-upstream", code=2)
    assert "streams.rgb.network: none in the file, " in done.stderr
    weights = workspace / "other.onnx"
    weights.write_bytes(b"other weights")
    done = run_amefu("depth", "--estimator", f"onnx:{weights}", "--workspace", workspace, "--no-upstream", code=2)
    assert "made_from.estimator: tiny in the file, onnx asked for" in done.stderr


def test_meta_training_leaves_the_streams_as_they_are(workspace: Path, run_amefu: RunAmefu) -> None:
    for modality in ("rgb", "depth"):
        run_amefu("pretrain", "--modality", modality, "--workspace", workspace, "--no-upstream")
    run_amefu("features", "--workspace", workspace, "--no-upstream", "--rebuild")
    before = {name: content for name, content in tree(workspace).items() if not name.startswith("fusion")}
    assert {"rgb.safetensors", "depth.safetensors"} <= before.keys()
    run_amefu("meta-train", "--workspace", workspace, "--rebuild")
    assert {name: content for name, content in tree(workspace).items() if not name.startswith("fusion")} == before
    rgb = read_header(workspace / "rgb.safetensors")
    assert isinstance(rgb, StreamHeader)
    assert rgb.classes == tuple(SPLIT["train"])
    run_amefu("evaluate", "--model", "rgb", "--workspace", workspace)


def test_training_never_sees_a_novel_class(workspace: Path, run_amefu: RunAmefu) -> None:
    """Poisoned features of the novel classes give the same fusion, bit for bit, and another accuracy."""
    trained = read_checkpoint(workspace / "fusion.safetensors")
    (result,) = (workspace / "results").glob("*.json")
    rng = np.random.default_rng(0)
    with open_store(workspace / "features.zarr", FeaturesHeader, fix="") as store:
        for video, record in store.records().items():
            if record.class_name in SPLIT["test"]:
                stored = store.read(video)
                noise = {name: rng.normal(size=stored.shape(name)).astype(np.float16) for name in ("rgb", "depth")}
                with feature_writer(store, video, list(noise)) as writer:
                    writer.append({"frame": stored.array("frame"), **noise})
                    writer.commit(
                        frames=record.frames, fps=record.fps, source=record.source, made_from=record.made_from
                    )
    run_amefu("meta-train", "--workspace", workspace, "--no-upstream", "--rebuild")
    again = read_checkpoint(workspace / "fusion.safetensors")
    assert again.keys() == trained.keys()
    for name, tensor in trained.items():
        np.testing.assert_array_equal(again[name], tensor)
    out = workspace / "poisoned.json"
    run_amefu("evaluate", "--workspace", workspace, "--no-upstream", "--out", out)
    assert json.loads(out.read_text())["by_class"] != json.loads(result.read_text())["by_class"]


def test_a_feature_that_is_not_finite_stops_with_its_video(workspace: Path, run_amefu: RunAmefu) -> None:
    with open_store(workspace / "features.zarr", FeaturesHeader, fix="") as store:
        record, stored = store.records()["clap/clip_1"], store.read("clap/clip_1")
        features = {name: stored.array(name).copy() for name in ("rgb", "depth")}
        for block in features.values():
            block[0, 2, 7] = np.nan
        with feature_writer(store, "clap/clip_1", list(features)) as writer:
            writer.append({"frame": stored.array("frame"), **features})
            writer.commit(frames=record.frames, fps=record.fps, source=record.source, made_from=record.made_from)
    done = run_amefu("meta-train", "--workspace", workspace, "--no-upstream", "--rebuild", code=1)
    assert "'rgb' of clap/clip_1 holds NaN or infinity; rebuild it with `amefu features --only clap" in done.stderr
    run_amefu("features", "--only", "clap/clip_1", "--workspace", workspace)
    run_amefu("meta-train", "--workspace", workspace, "--no-upstream")


def test_a_missing_input_names_the_command_that_makes_it(tmp_path: Path, run_amefu: RunAmefu) -> None:
    work = tmp_path / "work"
    for words, fix in (
        (("depth",), "amefu frames VIDEOS"),
        (("meta-train",), "amefu features"),
        (("evaluate", "--model", "rgb"), "amefu features"),
        (("evaluate",), "amefu meta-train"),
    ):
        done = run_amefu(*words, "--workspace", work, "--no-upstream", code=2)
        assert f"make it with `{fix}`" in done.stderr
    done = run_amefu("frames", tmp_path / "absent", "--workspace", work, code=2)
    assert "does not exist" in done.stderr
    assert not work.exists()


def test_a_dry_run_makes_nothing(workspace: Path, run_amefu: RunAmefu) -> None:
    videos = workspace.parent / "videos"
    shutil.rmtree(videos / CLASSES[0])
    before = tree(workspace / "frames.zarr/videos")
    done = run_amefu("frames", videos, "--workspace", workspace, "--dry-run", "--only", f"{CLASSES[1]}/clip_0")
    assert "frames: 1 videos to make, 0 already" in done.stderr
    assert tree(workspace / "frames.zarr/videos") == before


def test_a_changed_source_is_made_again_down_the_whole_chain(
    workspace: Path, make_clips: MakeClips, run_amefu: RunAmefu
) -> None:
    videos = workspace.parent / "videos"
    run_amefu("frames", videos, "--workspace", workspace)
    before = {name: open_store(workspace / f"{name}.zarr", KINDS[name], fix="").records() for name in STORES}
    shutil.copy(make_clips(workspace.parent / "other", ("bow",), 4)[3], videos / "bow/clip_0.mp4")
    done = run_amefu("features", "--workspace", workspace)
    for name in STORES:
        assert f"{name}: 1 videos to make, 20 already in" in done.stderr
        after = open_store(workspace / f"{name}.zarr", KINDS[name], fix="").records()
        assert [video for video in after if after[video] != before[name][video]] == ["bow/clip_0"]
        changed = after["bow/clip_0"]._replace(fingerprint="", made_from={})
        assert changed == before[name]["bow/clip_0"]._replace(fingerprint="", made_from={})
