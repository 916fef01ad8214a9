from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from amefu_cli.artefacts.files.split import draw_split, make_split, read_split, write_split
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
