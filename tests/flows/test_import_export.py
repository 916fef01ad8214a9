"""Checkpoints of the paper's public code: the same numbers after an import, the same tensors after an export."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FIXTURES, MakeClips
from safetensors.numpy import load_file
from typer.testing import CliRunner

from amefu_cli.artefacts.files.episodes import DrawnEpisodes, EpisodeNotes
from amefu_cli.artefacts.files.fingerprint import path_identity
from amefu_cli.artefacts.files.results import open_result
from amefu_cli.artefacts.files.split import make_split
from amefu_cli.artefacts.files.workspace import imported_protocol
from amefu_cli.artefacts.stores.header import DepthHeader, FeaturesHeader, FeaturesNotes
from amefu_cli.artefacts.stores.store import VideoStore, open_store
from amefu_cli.artefacts.weights.checkpoint import open_fusion, open_stream, write_checkpoint
from amefu_cli.artefacts.weights.headers import ImportedFusion, ImportedStream, StreamHeader
from amefu_cli.artefacts.weights.sources import read_tensors
from amefu_cli.commands.app import app
from amefu_cli.errors import DamagedFile, SettingsMismatch, UsageError
from amefu_cli.flows.candidates import candidate_of
from amefu_cli.flows.chain import Ready
from amefu_cli.flows.evaluate import Novel, settings_of_result
from amefu_cli.flows.public import refuse_others
from amefu_cli.flows.streams import streams_of
from amefu_cli.method.heads.fusion import video_vector
from amefu_cli.settings import ClipSettings, FallbackSettings, FeaturesSettings, Protocol
from amefu_cli.stages.networks import load_backbone
from amefu_cli.stages.public import public_fusion, read_public, write_public, write_tensors
from amefu_cli.stages.scoring import load_fusion

STREAM_SHAPES = json.loads((FIXTURES / "amefu_submodel_keys.json").read_text())
FUSION_SHAPES = {
    "instance_norm.affine_scale.weight": [2048, 2048],
    "instance_norm.affine_scale.bias": [2048],
    "instance_norm.affine_bias.weight": [2048, 2048],
    "instance_norm.affine_bias.bias": [2048],
    "fc.weight": [64, 2048],
    "fc.bias": [64],
}
STREAMS_OF_FULL = {
    f"submodel_{modality}.{name}": shape for modality in ("rgb", "depth") for name, shape in STREAM_SHAPES.items()
}
FULL_SHAPES = STREAMS_OF_FULL | FUSION_SHAPES
CPU = torch.device("cpu")


def amefu(*words: str | Path) -> str:
    """What one command prints, run in this process; its error is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def said_by(*words: str | Path) -> str:
    """What one command says on stderr, run in this process; its error is raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stderr


def tensor_by_rule(name: str, shape: list[int], index: int) -> torch.Tensor:
    """The index-th weight of the model that the reference numbers were computed with: noise of a seed."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    drawn = np.random.default_rng([1, index]).standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        drawn = np.float32(0.5) + np.abs(drawn)
    elif len(shape) >= 2:
        drawn = np.float32(0.7 * np.sqrt(2 / np.prod(shape[1:]))) * drawn
    elif name.endswith(".weight"):
        drawn = 1 + np.float32(0.1) * drawn
    else:
        drawn = np.float32(0.1) * drawn
    return torch.from_numpy(np.asarray(drawn, np.float32))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `full.pkl` as the public code writes it, with the reference weights, and the import of it."""
    folder = tmp_path_factory.mktemp("public")
    tensors = {name: tensor_by_rule(name, shape, index) for index, (name, shape) in enumerate(FULL_SHAPES.items())}
    torch.save(tensors, folder / "full.pkl")
    yield folder
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()  # 600 MB


@pytest.fixture(scope="module")
def imported(public: Path) -> Path:
    amefu("import", public / "full.pkl", "--role", "full", "--workspace", public / "work")
    return public / "work"


def reference_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng([1, 1000000])
    clips = [torch.from_numpy(rng.standard_normal((16, 3, 64, 64), np.float32)) for _ in range(2)]
    return clips[0], clips[1]


@torch.inference_mode()
def hold_to_the_reference(rgb: Path, depth: Path, fusion: Path) -> None:
    expected = load_file(FIXTURES / "amefu_full.safetensors")
    streams = [load_backbone("resnet50", str(path))[0].eval() for path in (rgb, depth)]
    features = [stream(clip) for stream, clip in zip(streams, reference_inputs(), strict=True)]
    module = load_fusion(fusion, CPU)
    fused = module.fuse_frames(*features)

    found = {"rgb_features": features[0], "depth_features": features[1], "fused_frames": fused}
    for name, values in found.items():
        np.testing.assert_allclose(values[:, ::64], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(video_vector(module, *features), expected["video_feature"], atol=1e-4)
    assert np.abs(expected["video_feature"]).max() > 0.05  # so 1e-4 says something


def test_a_full_file_gives_the_public_numbers(imported: Path) -> None:
    hold_to_the_reference(*(imported / f"{part}.safetensors" for part in ("rgb", "depth", "fusion")))


def test_two_submodels_and_a_fusion_give_the_public_numbers(public: Path) -> None:
    full = torch.load(public / "full.pkl", weights_only=True, mmap=True)
    work = public / "from-parts"
    for modality in ("rgb", "depth"):
        prefix = f"submodel_{modality}."
        part = {name.removeprefix(prefix): tensor for name, tensor in full.items() if name.startswith(prefix)}
        part["fc.weight"], part["fc.bias"] = part["fc.weight"][:32].clone(), part["fc.bias"][:32].clone()  # as HMDB51's
        torch.save(part, public / f"{modality}_submodel.pkl")
        said = amefu("import", public / f"{modality}_submodel.pkl", "--role", modality, "--workspace", work)
        assert "32 training classes" in said
    amefu("import", public / "full.pkl", "--role", "fusion", "--workspace", work)

    hold_to_the_reference(*(work / f"{part}.safetensors" for part in ("rgb", "depth", "fusion")))


def streams_from(folder: Path) -> FeaturesHeader:
    """The header of features that the stream checkpoints of a folder give."""
    checkpoints = {name: folder / f"{name}.safetensors" for name in ("rgb", "depth")}
    asked = streams_of(checkpoints, FallbackSettings(), None, folder / "features.zarr", recorded=True)
    return FeaturesHeader(
        settings=FeaturesSettings(flip=0.5), clip=ClipSettings(), streams={name: of.row for name, of in asked.items()},
        notes=FeaturesNotes(frames="", depth="", rgb="", depth_stream="", recipe="official"),
    )  # fmt: skip


def test_an_imported_model_says_what_it_is_and_fits_together(public: Path, imported: Path) -> None:
    rgb, fusion = open_stream(imported / "rgb.safetensors", "rgb"), open_fusion(imported / "fusion.safetensors")
    file = path_identity(public / "full.pkl")

    assert (rgb.role, rgb.backbone, rgb.classes) == ("rgb", "resnet50", None)
    assert (rgb.crop, rgb.depth_encoding) == (224, "magma")
    assert (rgb.notes.classes, rgb.notes.recipe) == (64, "official")
    assert (rgb.training, rgb.imported) == (None, ImportedStream(file, Protocol("official", "lanczos", "start", 0.5)))
    assert (fusion.fusion, fusion.dim) == ("dgadain", 2048)
    assert (fusion.training, fusion.imported) == (None, ImportedFusion(file, loss="double_softmax"))
    rows = streams_from(imported).streams
    assert fusion.streams == {name: rows[name].fingerprint for name in ("rgb", "depth")}
    assert {row.trained_on for row in rows.values()} == {None}


def test_what_an_imported_file_does_not_tell_is_shown_as_unknown(imported: Path, tmp_path: Path) -> None:
    shown = json.loads(amefu("status", "--workspace", imported, "--json"))["checkpoints"]
    assert not re.search("epochs|episodes|rate|decay|seed|num_aug|weights", json.dumps(shown))
    assert [checkpoint["state"] for checkpoint in shown] == ["imported from full.pkl"] * 3
    assert "fusion dgadain" in amefu("status", "--workspace", imported)

    store = VideoStore(tmp_path, streams_from(imported))
    drawn = DrawnEpisodes(("run/1",), np.zeros((1, 5, 1), int), np.zeros((1, 5, 1), int), EpisodeNotes(0))
    candidate = candidate_of("amefu", imported / "fusion.safetensors")
    asked = settings_of_result(Novel(Ready(store, make_split([], [], [], source="test")), ()), candidate, drawn, seed=0)
    assert (asked.fusion, asked.num_aug) == ("dgadain", None)
    assert (asked.switches.loss, asked.switches.learning_rate) == ("double_softmax", None)


def test_an_export_gives_back_the_very_tensors_in_order(public: Path, imported: Path) -> None:
    out = public / "again.pkl"
    said = amefu("export", out, "--role", "full", "--workspace", imported, "--json")

    assert json.loads(said)["tensors"] == 646
    before, after = (torch.load(path, weights_only=True, mmap=True) for path in (public / "full.pkl", out))
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        assert torch.equal(tensor, after[name]), name
    with pytest.raises(UsageError, match="is there already; replace it with --force"):
        amefu("export", out, "--role", "full", "--workspace", imported)


def test_importing_again_changes_nothing_and_another_file_is_refused(public: Path, imported: Path) -> None:
    stamp = os.stat(imported / "rgb.safetensors").st_mtime_ns
    said = amefu("import", public / "full.pkl", "--role", "full", "--workspace", imported)
    assert said.count("is there already") == 3
    assert os.stat(imported / "rgb.safetensors").st_mtime_ns == stamp

    (public / "other.pkl").write_bytes(b"another file")
    with pytest.raises(SettingsMismatch, match=r"rgb.safetensors: holds another checkpoint than .*other.pkl gives"):
        refuse_others(public / "other.pkl", [imported / "rgb.safetensors"])


def test_an_imported_model_is_evaluated_as_it_was_trained(
    imported: Path, tmp_path: Path, make_clips: MakeClips
) -> None:
    """Without one word about geometry or frames on any line."""
    for path in imported.glob("*.safetensors"):
        os.link(path, tmp_path / path.name)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["bow"], "test": ["spin", "wave"]}))
    make_clips(tmp_path / "videos", ("bow", "spin", "wave"), clips=2, frames=5)
    said = said_by("depth", tmp_path / "videos", "--estimator", "tiny", "--workspace", tmp_path)
    assert "frames: geometry official, as the imported checkpoint was trained and tested" in said
    assert open_store(tmp_path / "depth.zarr", DepthHeader, fix="").header.settings.resize == "lanczos"
    words = ("--way", "2", "--episodes", "10", "--out", tmp_path / "r.json", "--workspace", tmp_path)
    said = said_by("evaluate", *words)
    assert "features: test_frames start, flip 0.5, as the imported checkpoint was trained and tested" in said
    assert "were trained and tested by" not in said
    asked = open_result(tmp_path / "r.json").asked
    assert asked.test_frames == "start"
    assert (asked.switches.geometry, asked.switches.test_frames, asked.switches.flip) == ("official", "start", 0.5)


# What an import says of frames -------------------------------------------------------------------------------


@pytest.fixture
def taken_over(tmp_path: Path, make_clips: MakeClips) -> Path:
    """A workspace whose streams say that they were imported; nobody loads them. Beside it are `videos`."""
    make_clips(tmp_path / "videos", ("bow", "spin", "wave"), clips=2, frames=5)
    work = tmp_path / "work"
    protocol = Protocol("official", "lanczos", "start", 0.5)
    for name in ("rgb", "depth"):
        header = StreamHeader(
            role=name, backbone="squeezenet1_1", crop=32, depth_encoding="magma", classes=None, clip=ClipSettings(),
            imported=ImportedStream("0" * 16, protocol),
        )  # fmt: skip
        write_checkpoint(work / f"{name}.safetensors", {"x": np.zeros(1, np.float32)}, header)
    (work / "amefu.toml").write_text('[depth]\nestimator = "tiny"\n')
    (work / "split.json").write_text(json.dumps({"train": ["bow"], "test": ["spin", "wave"]}))
    return work


BY_PROTOCOL = "the imported streams were trained and tested by"


def test_other_frames_than_those_of_the_import_are_named(taken_over: Path) -> None:
    said_by("depth", taken_over.parent / "videos", "--recipe", "paper", "--workspace", taken_over)
    said = said_by("features", "--dry-run", "--workspace", taken_over)
    (line,) = (line for line in said.splitlines() if BY_PROTOCOL in line)
    assert line.endswith(
        f"{BY_PROTOCOL} geometry official, but {taken_over / 'features.zarr'} has geometry square; for the public "
        "code's numbers type `amefu frames VIDEOS --rebuild --geometry official`"
    )


def test_what_is_said_wins_over_the_import(taken_over: Path) -> None:
    said_by("depth", taken_over.parent / "videos", "--workspace", taken_over)
    words = ("features", "--dry-run", "--workspace", taken_over)
    assert BY_PROTOCOL not in said_by(*words)
    middle = f"{BY_PROTOCOL} test_frames start, but {taken_over / 'features.zarr'} has test_frames middle; for"
    assert middle in said_by(*words, "--test-frames", "middle")
    assert middle in said_by(*words, "--recipe", "paper")
    config = taken_over / "amefu.toml"
    config.write_text(config.read_text() + '[features]\ntest-frames = "middle"\n')
    assert middle in said_by(*words)
    assert BY_PROTOCOL not in said_by(*words, "--test-frames", "start")


def test_a_stream_that_is_named_decides_too(taken_over: Path) -> None:
    said_by("depth", taken_over.parent / "videos", "--workspace", taken_over)
    for name in ("rgb", "depth"):
        (taken_over / f"{name}.safetensors").rename(taken_over / f"public-{name}.safetensors")
    streams = (
        "--rgb",
        taken_over / "public-rgb.safetensors",
        "--depth-stream",
        taken_over / "public-depth.safetensors",
    )
    words = ("features", "--dry-run", "--workspace", taken_over, *streams)
    assert BY_PROTOCOL not in said_by(*words)
    assert BY_PROTOCOL in said_by(*words, "--test-frames", "middle")


def test_an_import_by_an_older_version_is_replaced(tmp_path: Path) -> None:
    header = StreamHeader(
        role="rgb", backbone="resnet50", crop=224, depth_encoding="magma", classes=None, clip=ClipSettings(),
        imported=ImportedStream("0" * 16, Protocol()),
    )  # fmt: skip
    path = tmp_path / "rgb.safetensors"
    write_checkpoint(path, {"x": np.zeros(1, np.float32)}, header)
    assert dict(imported_protocol([path])) == vars(Protocol())
    path.write_bytes(path.read_bytes().replace(b"protocol", b"flipping"))
    assert imported_protocol([tmp_path / "none", path]) == {}
    with pytest.raises(DamagedFile, match=r"'imported' has no field 'flipping'\); make it again with --rebuild"):
        open_stream(path, "rgb")
    torch.save(small_stream(), tmp_path / "model.pkl")
    assert "training classes" in amefu(
        "import", tmp_path / "model.pkl", "--role", "rgb", "--workspace", tmp_path, "--rebuild"
    )
    assert imported_protocol([path])["geometry"] == "official"


# Small files: what is refused --------------------------------------------------------------------------------


def small_stream(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """A stream without one byte of weights behind it (strides of 0), so that a test may make many."""
    tensors = {
        name: torch.zeros((), dtype=torch.int64) if name.endswith("tracked") else torch.zeros(1).expand(shape)
        for name, shape in STREAM_SHAPES.items()
    }
    return tensors | changed


def refusal(tensors: Mapping[str, Any], role: str, tmp_path: Path) -> str:
    path = tmp_path / "model.pkl"
    torch.save(tensors, path)
    with pytest.raises(UsageError) as raised:
        read_public(path, role)
    return str(raised.value).removeprefix(f"{path}: ")


def test_a_stream_where_a_full_model_was_promised(tmp_path: Path) -> None:
    assert refusal(small_stream(), "full", tmp_path) == (
        "a file of --role full holds 646 tensors, this one holds 320: it lacks 'instance_norm.affine_bias.bias' and "
        "also holds 'convnet.0.weight' (it looks like one stream: --role rgb or --role depth)"
    )


def test_a_full_model_where_a_stream_was_promised(tmp_path: Path) -> None:
    tensors = small_stream() | {"instance_norm.affine_scale.bias": torch.zeros(2048)}
    assert refusal(tensors, "rgb", tmp_path) == (
        "a file of --role rgb holds 320 tensors, this one holds 321: it also holds 'instance_norm.affine_scale.bias' "
        "(it looks like a full model: --role full)"
    )


def test_names_of_another_program(tmp_path: Path) -> None:
    message = refusal({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "rgb", tmp_path)
    assert message.endswith(
        "it lacks 'convnet.0.weight' and also holds 'conv1.weight' (it looks like none of the public code's)"
    )


def test_names_that_another_module_wrapped(tmp_path: Path) -> None:
    wrapped = {f"net.{name}": tensor for name, tensor in small_stream().items()}
    assert refusal(wrapped, "rgb", tmp_path) == (
        "a file of --role rgb holds 320 tensors, this one holds 320: it lacks 'convnet.0.weight' and also holds "
        "'net.convnet.0.weight' (it looks like none of the public code's)"
    )


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_what_data_parallel_and_trainers_put_around_the_names_is_no_part_of_them(
    tmp_path: Path, key: str | None
) -> None:
    """Every name and shape is held against those of --role depth, and the first that differs is its own."""
    changed = {"convnet.4.0.conv1.weight": torch.zeros(1).expand(32, 64, 1, 1)}
    wrapped: dict[str, Any] = {f"module.{name}": tensor for name, tensor in small_stream(**changed).items()}
    assert refusal({key: wrapped} if key else wrapped, "depth", tmp_path) == (
        "'convnet.4.0.conv1.weight' is float32 (32, 64, 1, 1), float32 (64, 64, 1, 1) is expected of --role depth"
    )


def test_another_width(tmp_path: Path) -> None:
    changed = {"convnet.4.0.conv1.weight": torch.zeros(1).expand(32, 64, 1, 1)}
    assert refusal(small_stream(**changed), "depth", tmp_path) == (
        "'convnet.4.0.conv1.weight' is float32 (32, 64, 1, 1), float32 (64, 64, 1, 1) is expected of --role depth"
    )


def test_a_classifier_whose_parts_disagree(tmp_path: Path) -> None:
    changed = {"fc.bias": torch.zeros(31)}
    assert refusal(small_stream(**changed), "rgb", tmp_path) == (
        "'fc.bias' is float32 (31,), float32 (64,) is expected of --role rgb"
    )


def test_halved_weights(tmp_path: Path) -> None:
    changed = {"convnet.1.bias": torch.zeros(64, dtype=torch.float16)}
    assert refusal(small_stream(**changed), "rgb", tmp_path) == (
        "'convnet.1.bias' is float16 (64,), float32 (64,) is expected of --role rgb"
    )


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch trapped",)


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": torch.zeros(3), "trap": Trap()}, "model.pkl")
    with pytest.raises(UsageError, match=r"refused; it asks for posix\.system"):
        read_public(Path("model.pkl"), "rgb")
    assert not Path("trapped").exists()


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    torch.save(small_stream(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFile, match="not a torch file that can be read"):
        read_public(path, "rgb")


def test_a_text(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_text("epoch 1, accuracy 0.5")
    with pytest.raises(DamagedFile, match="read \\(it is neither a zip archive nor a pickle, as torch writes them\\)"):
        read_public(tmp_path / "model.pkl", "rgb")


def test_a_file_that_is_not_there_and_a_role_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.pkl: no such file of weights"):
        amefu("import", tmp_path / "none.pkl", "--role", "rgb", "--workspace", tmp_path)
    with pytest.raises(UsageError, match="--role 'both': must be one of full, rgb, depth, fusion"):
        amefu("import", tmp_path / "none.pkl", "--role", "both", "--workspace", tmp_path)
    with pytest.raises(UsageError, match="a fusion goes with two streams, so import them first"):
        amefu("import", tmp_path / "none.pkl", "--role", "fusion", "--workspace", tmp_path)


# The bias of the scale ---------------------------------------------------------------------------------------


def test_adding_one_to_a_bias_is_undone_exactly_where_taking_it_away_is_not() -> None:
    read = np.array([0.1, 1e-9, -0.3], np.float32)
    bias = read + np.float32(1)
    assert not np.array_equal(bias - np.float32(1), read)

    arrays = {"scale.bias": bias, "public.scale.bias": read}
    assert public_fusion(arrays, classes=2)["public.scale.bias"].tobytes() == read.tobytes()


def test_a_fusion_that_was_trained_here_is_exported_with_one_less_and_a_classifier_of_zeros() -> None:
    trained = {"scale.bias": np.array([1.5, 0.75], np.float32), "public.scale.bias": np.array([9, 9], np.float32)}
    found = public_fusion(trained, classes=3)

    assert found["public.scale.bias"].tolist() == [0.5, -0.25]
    assert found["public.fc.weight"].tolist() == [[0, 0]] * 3
    assert found["public.fc.bias"].tolist() == [0, 0, 0]


def test_what_the_public_code_has_no_place_for(tmp_path: Path) -> None:
    header = StreamHeader(
        role="rgb", backbone="resnet18", crop=224, depth_encoding="magma", classes=None, clip=ClipSettings()
    )
    write_checkpoint(tmp_path / "rgb.safetensors", {"x": np.zeros(1, np.float32)}, header)
    with pytest.raises(UsageError, match="its backbone is 'resnet18'; the public code has 'resnet50' alone"):
        write_public({"rgb": tmp_path / "rgb.safetensors"}, "rgb", tmp_path / "out.pkl")
    assert not (tmp_path / "out.pkl").exists()


@pytest.mark.parametrize("name", ["model.pkl", "model.safetensors"])
def test_written_tensors_read_back(name: str, tmp_path: Path) -> None:
    tensors = {"b": torch.arange(3.0), "a": torch.tensor(7)}
    write_tensors(tmp_path / name, tensors)
    found = read_tensors(tmp_path / name)
    assert {key: value.tolist() for key, value in found.items()} == {"b": [0.0, 1.0, 2.0], "a": 7}
