from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amefu_cli.artefacts.weights.checkpoint import (
    is_finished,
    open_fusion,
    open_stream,
    read_checkpoint,
    read_header,
    write_checkpoint,
)
from amefu_cli.artefacts.weights.headers import (
    CheckpointNotes,
    FusionClasses,
    FusionHeader,
    FusionTraining,
    ImportedFusion,
    Position,
    StreamHeader,
    StreamTraining,
)
from amefu_cli.errors import DamagedFile, NotFinite, SettingsMismatch, UsageError
from amefu_cli.settings import ClipSettings, MetaTrainSettings, PretrainSettings

TRAINING = StreamTraining(settings=PretrainSettings(epochs=6), weights="imagenet", videos=3, data="0123")
HEADER = StreamHeader(
    role="rgb", backbone="resnet50", crop=224, depth_encoding="magma", classes=("run", "sit"), clip=ClipSettings(),
    training=TRAINING, notes=CheckpointNotes(epoch=5, preset="paper"),
)  # fmt: skip
FUSION = FusionHeader(
    role="fusion", fusion="dgadain", dim=2048, streams={"rgb": "01", "depth": "23"}, clip=ClipSettings(),
    training=FusionTraining(MetaTrainSettings(), FusionClasses(("run", "sit"), ("jump",)), base="45", validation="67"),
    notes=CheckpointNotes(epoch=2, validation_accuracy=0.5, temperature=1.5, position=Position(epoch=3)),
)  # fmt: skip
TENSORS = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(7)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rgb.safetensors"
    write_checkpoint(path, TENSORS, HEADER)
    return path


def test_tensors_and_header_come_back(path: Path) -> None:
    found = read_header(path)
    assert found is not None
    assert replace(found, notes=HEADER.notes) == HEADER
    assert found.notes.epoch == 5
    assert {"torch", "numpy"} <= found.notes.versions.keys()
    tensors = read_checkpoint(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(tensors[name], tensor)
    assert [entry.name for entry in path.parent.iterdir()] == ["rgb.safetensors"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_not_written(path: Path, value: float) -> None:
    before = path.read_bytes()
    with pytest.raises(NotFinite, match=r"rgb\.safetensors: the weights 'bias' hold NaN or infinity"):
        write_checkpoint(path, {"bias": np.array([1.0, value], np.float32)}, HEADER)
    assert path.read_bytes() == before


def test_a_flipped_bit_anywhere_is_damage(path: Path) -> None:
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(
            DamagedFile, match=r"rgb\.safetensors: (not a|is not what was written|safetensors, but without)"
        ):
            read_checkpoint(path)


def test_the_same_weights_are_the_same_bytes(path: Path) -> None:
    sound = path.read_bytes()
    for _ in range(20):  # of a header with several entries the order would be another one every time
        write_checkpoint(path, TENSORS, HEADER)
        assert path.read_bytes() == sound


def test_an_array_that_is_a_view_is_written_as_it_looks(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.safetensors", {"x": TENSORS["weight"].T}, HEADER)
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "c.safetensors")["x"], TENSORS["weight"].T)


def test_a_checkpoint_is_finished_only_for_the_same_recipe_and_data(path: Path) -> None:
    assert is_finished(path, HEADER)
    assert is_finished(path, replace(HEADER, notes=CheckpointNotes(epoch=1)))
    assert not is_finished(path.with_name("other.safetensors"), HEADER)
    other = replace(TRAINING, settings=PretrainSettings(epochs=9), videos=4)
    with pytest.raises(SettingsMismatch) as error:
        is_finished(path, replace(HEADER, training=other))
    assert str(error.value) == (
        f"{path}: made with other settings or from other data (training.settings.epochs: 6 in the file, 9 asked "
        "for; training.videos: 3 in the file, 4 asked for); keep it and make a second one with `amefu pretrain "
        "--modality rgb --out OTHER.safetensors`, or replace it with `amefu pretrain --modality rgb --rebuild`"
    )


def test_every_field_of_a_fusion_comes_back(path: Path) -> None:
    write_checkpoint(path, TENSORS, FUSION)
    found = open_fusion(path)
    assert replace(found, notes=replace(found.notes, versions={})) == FUSION
    assert found.trained_on == ("run", "sit", "jump")
    imported = replace(FUSION, training=None, imported=ImportedFusion("89", loss="double_softmax"))
    write_checkpoint(path, TENSORS, imported)
    assert open_fusion(path).imported == imported.imported
    assert open_fusion(path).trained_on == ()


def test_an_absent_checkpoint_and_one_of_another_role_are_said(path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such checkpoint; make it with `amefu meta-train`"):
        open_fusion(path.with_name("fusion.safetensors"))
    with pytest.raises(UsageError, match=r"role is 'rgb', 'fusion' is needed; make it with `amefu meta-train`"):
        open_fusion(path)
    with pytest.raises(UsageError, match=r"role is 'rgb', 'depth' is needed; make it with `amefu pretrain --modality"):
        open_stream(path, "depth")


def test_equal_content_gives_equal_bytes(path: Path) -> None:
    before = path.read_bytes()
    write_checkpoint(path, TENSORS, HEADER)
    assert path.read_bytes() == before
    write_checkpoint(path, {**TENSORS, "count": np.array(8)}, HEADER)
    assert path.read_bytes() != before


@pytest.mark.parametrize("kept", [0, 4, 8, 40, -1])
def test_a_cut_file_is_an_error_and_no_checkpoint(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFile, match=r"rgb\.safetensors: not a"):
        read_checkpoint(path)


def _file(header: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        _file(b"{}", length=1 << 40),
        _file(b"{}", length=90 << 20),
        _file(b"{"),
        _file(b"[]"),
        _file(b"[" * 100_000),
        _file(b'{"__metadata__": 3}'),
        _file(b'{"__metadata__": {"amefu": "{}"}}'),
        _file(b'{"__metadata__": {"amefu": "[1]"}}'),
        _file(json.dumps({"__metadata__": {"amefu": json.dumps({**HEADER.compared(), "notes": 3})}}).encode()),
        _file(json.dumps({"__metadata__": {"amefu": json.dumps({**HEADER.compared(), "recipe": []})}}).encode()),
    ],
)
def test_a_header_of_another_kind_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"c\.safetensors: "):
        read_header(path)


@given(content=st.binary(max_size=200) | st.binary(max_size=100).map(_file))
def test_garbage_is_answered_with_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "c.safetensors"
    path.write_bytes(content)
    for read in (read_header, read_checkpoint):
        with suppress(DamagedFile):
            read(path)
