"""What can be chosen among is a row of one table: a further row is found in the help, and no table loads torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from amefu_cli.method import Row
from amefu_cli.method.backbones import FAMILIES
from amefu_cli.method.depth import ENCODINGS, ESTIMATORS
from amefu_cli.method.geometry import GEOMETRIES
from amefu_cli.method.heads import CLASSIFIERS, DEPTHS, FUSIONS, HEADS, LOSSES, TEST_CLIPS, build_head

HEAVY = ("torch", "torchvision", "timm", "matplotlib", "numpy", "av", "zarr", "sklearn")
TABLES = (FUSIONS, DEPTHS, HEADS, CLASSIFIERS, LOSSES, TEST_CLIPS, ESTIMATORS, ENCODINGS, GEOMETRIES, FAMILIES)


def run(program: str, *words: str) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("module", ["method.backbones", "method.depth", "method.heads", "method.geometry", "settings"])
def test_a_table_loads_nothing_heavy(module: str) -> None:
    found = f"print([name for name in {HEAVY!r} if name in sys.modules])"
    assert run(f"import sys, amefu_cli.{module}; {found}") == "[]\n"


def test_the_tiny_estimator_loads_neither_torchvision_nor_matplotlib() -> None:
    """They are half of what starting `amefu depth` cost, for six numbers and a colour table."""
    program = "import sys, amefu_cli.stages.depth as stage; stage.ESTIMATORS['tiny'].load()"
    assert run(f"{program}; print({{'torchvision', 'matplotlib'}} & {{*sys.modules}})") == "set()\n"


@pytest.mark.parametrize(
    ("table", "name", "row", "words", "said"),
    [
        ("heads.FUSIONS", "mine", "Row('my fusion', 'heads.fusion:TwoWay')", ("meta-train",), "mine: my fusion"),
        ("heads.DEPTHS", "mine", "Row('my depth', 'episodes:own_depth')", ("meta-train",), "mine: my depth"),
        ("heads.CLASSIFIERS", "mine", "Row('my classifier', 'heads.prototypes:cosine')", ("meta-train",), "|mine"),
        ("heads.HEADS", "mine", "heads.HeadRow('my head', 'heads.otam:OTAM')", ("evaluate",), ", mine ["),
        ("heads.LOSSES", "mine", "Row('my loss', 'heads.prototypes:double_softmax')", ("meta-train",), "mine: my loss"),
        ("heads.MODELS", "mine", "heads.Model('My model', ('rgb',))", ("evaluate",), "mine"),
        ("heads.TEST_CLIPS", "mine", "Row('my rule', 'sampling:middle_clip')", ("features",), "|mine"),
        (
            "depth.ESTIMATORS",
            "mine",
            "depth.EstimatorRow('mine:FILE', 'depth.tiny:TinyDepthDepth', weights='tiny', source_required=True)",
            ("depth",),
            "or mine:FILE",
        ),
        ("depth.ENCODINGS", "mine", "Row('my colours', 'depth.encoding:GRAY')", ("features",), "|mine"),
        ("geometry.GEOMETRIES", "mine", "Row('my shape', 'geometry:square')", ("frames",), "mine: my shape"),
        ("backbones.FAMILIES", "mine", "Row('mine:NAME', 'backbones.timm')", ("pretrain",), "or mine:NAME"),
    ],
)
def test_a_further_row_is_found_in_the_help(table: str, name: str, row: str, words: tuple[str, ...], said: str) -> None:
    program = (
        "import sys\n"
        "from amefu_cli.method import Row, backbones, depth, geometry, heads\n"
        f"{table}[{name!r}] = {row}\n"
        "sys.argv = ['amefu', *sys.argv[1:], '--help']\n"
        "from amefu_cli.cli import main\n"
        "main()\n"
    )
    assert said in " ".join(run(program, *words).split())


@pytest.mark.parametrize("row", [row for table in TABLES for row in table.values()], ids=lambda row: row.where)
def test_every_row_leads_to_something(row: Row) -> None:
    assert row.load() is not None


@pytest.mark.parametrize("name", HEADS)
def test_every_head_is_built_from_the_width_alone_and_says_how_exact_it_is(name: str) -> None:
    head, row = build_head(name, 16), HEADS[name]
    assert head.dim == 16
    assert row.citation
    assert row.exactness.endswith(".")
    assert row.frames is None or row.frames in TEST_CLIPS
    assert bool([*head.parameters()]) is row.learns
