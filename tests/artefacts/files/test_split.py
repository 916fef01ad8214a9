from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from amefu_cli.artefacts.files.split import (
    draw_split,
    load_split,
    make_split,
    read_list,
    read_split,
    split_of_folders,
    write_split,
)
from amefu_cli.artefacts.files.workspace import read_config
from amefu_cli.errors import UsageError

NAMES = [f"class {number}" for number in range(15)]


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    split = make_split(["b", "a"], ["c"], ["e", "d"], source="here")
    assert (split.base, split.validation, split.novel) == (("a", "b"), ("c",), ("d", "e"))
    assert [split.part_of(name) for name in "acex"] == ["base", "validation", "novel", None]
    assert split.present("novel", ["e", "a"]) == ("e",)
    write_split(tmp_path / "split.json", split, seed=3)
    assert read_split(tmp_path / "split.json") == split


def test_toml_and_a_split_without_validation(tmp_path: Path) -> None:
    path = tmp_path / "split.toml"
    path.write_text('train = ["a", "踊り"]\ntest = ["b"]\n')
    split = read_split(path)
    assert (split.base, split.validation, split.novel) == (("a", "踊り"), (), ("b",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.json", "{", r"s\.json: not a JSON split file"),
        ("s.toml", "train = [", r"s\.toml: not a TOML split file"),
        ("s.json", "[]", r"s\.json: must hold the keys train, val and test"),
        ("s.json", '{"train": ["a"]}', r"s\.json: 'test' must be a list of class names"),
        ("s.json", '{"train": "a", "test": ["b"]}', r"'train' must be a list of class names"),
        ("s.json", '{"train": [1], "test": ["b"]}', r"'train' must be a list of class names"),
        ("s.json", "[" * 100_000, r"not a JSON split file"),
        ("s.json", '{"train": ["a", "b"], "test": ["b"]}', r"train and test share 'b'; .* must be disjoint"),
        ("s.json", '{"train": ["a"], "val": ["b"], "test": ["b"]}', r"val and test share 'b'"),
    ],
)
def test_what_is_no_split_is_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        read_split(tmp_path / name)


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such split file"):
        read_split(tmp_path / "absent.json")


def test_a_drawn_split_depends_on_the_names_alone_and_not_on_their_order() -> None:
    first = draw_split(NAMES, ratio="64:12:24", rng=np.random.default_rng(0))
    assert first == draw_split(NAMES[::-1] + NAMES, ratio="64:12:24", rng=np.random.default_rng(0))
    assert first != draw_split(NAMES, ratio="64:12:24", rng=np.random.default_rng(1))
    assert [len(part) for part in (first.base, first.validation, first.novel)] == [9, 2, 4]


@given(
    count=st.integers(2, 60), shares=st.tuples(st.integers(1, 90), st.integers(0, 90), st.integers(1, 90)),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_every_class_is_dealt_once_and_as_near_to_its_share_as_can_be(
    count: int, shares: tuple[int, int, int], seed: int
) -> None:
    names = [str(number) for number in range(count)]
    try:
        split = draw_split(names, ratio=":".join(map(str, shares)), rng=np.random.default_rng(seed))
    except UsageError:  # a share of one class or none was asked for
        assume(False)
    dealt = [split.base, split.validation, split.novel]
    assert sorted(name for part in dealt for name in part) == sorted(names)
    for part, share in zip(dealt, shares, strict=True):
        assert abs(len(part) - count * share / sum(shares)) < 1


@pytest.mark.parametrize("ratio", ["64:12", "a:b:c", "1:2:3:4", "-1:1:1", "0:0:0"])
def test_a_ratio_of_another_form_is_refused(ratio: str) -> None:
    with pytest.raises(UsageError, match=f"--split-ratio '{ratio}': must be three whole numbers"):
        draw_split(NAMES, ratio=ratio, rng=np.random.default_rng(0))


def test_too_few_classes_for_a_ratio() -> None:
    with pytest.raises(UsageError, match="2 classes give 1 base, 1 validation and 0 novel ones"):
        draw_split(["a", "b"], ratio="1:1:0", rng=np.random.default_rng(0))


def listed(folder: Path, text: str, encoding: str = "utf-8") -> list[str]:
    (folder / "list.txt").write_bytes(text.encode(encoding))
    return read_list(folder / "list.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run/1.avi 0\nrun/2.avi 0\njump/1.mp4 1\n", ["run/1", "run/2", "jump/1"]),
        ("run/1 300 0\nrun/2 120 0\njump/1 7 1\n", ["run/1", "run/2", "jump/1"]),  # class/clip frames label
        ("run/1 300 0\njump/1 7 1\n", ["run/1", "jump/1"]),
        ("run/1\t300\t0\r\njump/1\t7\t1\r\n", ["run/1", "jump/1"]),
        ("run/clip 1 300 0\nrun/clip 2 120 0\njump/1 7 1\n", ["run/clip 1", "run/clip 2", "jump/1"]),
        ("run/1 0\nrun/2 0\njump/1 1\n", ["run/1", "run/2", "jump/1"]),
        ("run/clip 1\nrun/clip 2\njump/clip 1\n", ["run/clip 1", "run/clip 2", "jump/clip 1"]),  # names
        ("run/1.avi 12 0\njump/1.avi 3 1\n", ["run/1", "jump/1"]),
        ("train/run/1.mp4 0\ntrain/jump/2.mp4 1\n", ["run/1", "jump/2"]),  # from the folder above the parts
        ("run\njump high\n", ["run", "jump high"]),  # classes
        ("1 run\n2 jump\n", ["run", "jump"]),
        ("run 0\njump 1\n", ["run", "jump"]),
    ],
)
def test_lists_as_the_field_writes_them(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert listed(tmp_path, text) == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path, encoding: str) -> None:
    assert listed(tmp_path, "踊り/1\nrun/2\n", encoding) == ["踊り/1", "run/2"]
    for name, text in (("s.json", '{"train": ["é"], "test": ["b"]}'), ("s.toml", 'train = ["é"]\ntest = ["b"]\n')):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert read_split(tmp_path / name).base == ("é",)
    (tmp_path / "amefu.toml").write_bytes('preset = "tiny"\n'.encode(encoding))
    assert read_config(tmp_path / "amefu.toml").sets == {"preset": "tiny"}


def three_lists(folder: Path, *texts: str) -> str:
    for key, text in zip(("train", "val", "test"), texts, strict=True):
        (folder / f"my_{key}_list.txt").write_text(text)
    return str(folder)


def test_lists_of_class_names_alone_make_a_split_of_whatever_videos_are_there(tmp_path: Path) -> None:
    split = load_split(three_lists(tmp_path, "run\nclimb\n", "jump\n", "swim\n"))
    assert split == make_split(["run", "climb"], ["jump"], ["swim"], source="")


def test_lists_of_two_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="some list videos and some class names alone"):
        load_split(three_lists(tmp_path, "run/1\n", "jump\n", "swim\n"))


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("asked", "there"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_are_matched_however_their_accents_are_composed(asked: str, there: str) -> None:
    videos = [f"{there}/{there}1", "b/1"]
    split = make_split([asked], [], ["b"], source="", videos=[f"{asked}/{asked}1", f"{asked}/gone", "b/1"])
    spelt = split.spelt_as(videos)
    assert spelt == make_split([there], [], ["b"], source="", videos=[*videos, f"{there}/gone"])
    assert all(map(spelt.lists, videos))
    assert spelt.missing("base", videos) == [f"{there}/gone"]


def test_two_classes_that_differ_in_composition_alone_stay_two() -> None:
    split = make_split([COMPOSED], [], [DECOMPOSED], source="")
    assert split.spelt_as([f"{COMPOSED}/1", f"{DECOMPOSED}/1"]) == split


def test_folders_above_the_classes_are_a_split() -> None:
    sources = {"run/1": "train/run/1.mp4", "jump/1": "Validation/jump/1.mp4", "swim/d/1": "test/swim/d/1.avi"}
    assert split_of_folders(sources) == make_split(["run"], ["jump"], ["swim"], source="")
    with pytest.raises(UsageError, match=r"a/v\.mp4 lies in no train/, val/ or test/ above its class"):
        split_of_folders(sources | {"a/v": "a/v.mp4"})
    with pytest.raises(UsageError, match="train and test share 'run'"):
        split_of_folders(sources | {"run/2": "test/run/2.mp4"})
