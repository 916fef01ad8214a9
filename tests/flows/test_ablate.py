"""`amefu ablate`: the rows of the tables, their layout, and a run that shares, reuses and goes on."""

from __future__ import annotations

import json
import re

import pytest
from synthetic_features import NOVEL, amefu
from typer.testing import CliRunner

from amefu_cli.artefacts.files.results import Recipes, open_result
from amefu_cli.artefacts.files.split import built_in_split, make_split
from amefu_cli.commands.app import app
from amefu_cli.errors import UsageError
from amefu_cli.flows.ablate import PAPER, Ablation, Cell, Row, Table, TableRow, paper_figure, plan_tables
from amefu_cli.flows.splits import data_set_of
from amefu_cli.method.heads import FUSIONS, MODELS
from amefu_cli.settings import parse_numbers
from amefu_cli.stages import evaluate


def test_the_rows_of_all_tables():
    plan = plan_tables((1, 2, 3), num_augs=(0, 1), num_aug=2)
    names = {title: [row.name for row in rows] for title, rows in plan.tables.items()}
    assert names == {
        "Tables 1 and 2: methods": ["rgb-basenet", "rgb-basenet++", "amefu"],
        "Table 3: ablation": [
            "rgb", "depth", "concat-0", "concat-1", "rgb-guides-depth-0", "rgb-guides-depth-1",
            "two-way-0", "two-way-1", "dgadain-0", "dgadain-1", "amefu",
        ],
    }  # fmt: skip
    assert plan.reference == Row("amefu", "AMeFu-Net", "amefu", "dgadain", 2)
    assert [row.name for row in plan.rows[:3]] == ["amefu", "rgb-basenet", "rgb-basenet++"]
    assert len(plan.rows) == len({row.name for row in plan.rows}) == 13


def test_a_table_alone_still_has_what_it_is_compared_with():
    plan = plan_tables((2,), num_augs=(0,), num_aug=3)
    assert [*plan.tables] == ["Tables 1 and 2: methods"]
    assert plan.rows[0].num_aug == 3


def test_every_fusion_has_its_rows():
    (rows,) = plan_tables((3,), num_augs=(0,), num_aug=2).tables.values()
    assert {row.fusion for row in rows if row.fusion} == FUSIONS.keys()


def test_the_paper_stands_only_beside_its_own_task():
    amefu_net, rgb = Row("amefu", "AMeFu-Net", "amefu", "dgadain", 2), Row("rgb", "RGB", "rgb")
    assert paper_figure("kinetics100", amefu_net, 1, way=5) == 74.1
    assert paper_figure("hmdb51", amefu_net, 5, way=5) == 75.5
    for data_set, row, shot, way in (
        ("kinetics100", amefu_net, 1, 3), ("kinetics100", amefu_net, 2, 5), ("kinetics100", rgb, 1, 5),
        (None, amefu_net, 1, 5),
    ):  # fmt: skip
        assert paper_figure(data_set, row, shot, way=way) is None


def test_data_sets_are_known_by_their_novel_classes():
    assert {name: data_set_of(built_in_split(name)) for name in PAPER} == {name: name for name in PAPER}
    spelt = [name.replace("_", " ").title() for name in built_in_split("hmdb51").novel]
    assert data_set_of(make_split(["bow"], [], spelt, source="test")) == "hmdb51"
    assert data_set_of(make_split(["bow"], [], NOVEL, source="test")) is None


@pytest.mark.parametrize(
    ("text", "numbers"), [("1-5", (1, 2, 3, 4, 5)), ("5,1", (1, 5)), ("1-2, 2-3", (1, 2, 3)), (3, (3,))]
)
def test_numbers(text, numbers):
    assert parse_numbers(text, "--shots", minimum=1, maximum=9) == numbers


@pytest.mark.parametrize("text", ["", "one", "1-", "-1", "3-1", "1,,2", "1.5"])
def test_no_numbers(text):
    with pytest.raises(UsageError, match=re.escape(f"--shots {text!r}: must be numbers and ranges, such as 1-3,5")):
        parse_numbers(text, "--shots", minimum=1, maximum=9)


@pytest.mark.parametrize("text", ["0", "1-10"])
def test_numbers_out_of_range(text):
    with pytest.raises(UsageError, match=re.escape(f"--shots {text!r}: must be from 1 to 9")):
        parse_numbers(text, "--shots", minimum=1, maximum=9)


def row(name, title, accuracy, difference, low, high, paper=None):
    cell = Cell(
        result=f"{name}.json", paired=True, difference=difference, over_episodes_95=(low, high), by_class_95=None,
        significant=low > 0 or high < 0, accuracy=accuracy, half_width_95=0.0086, paper=paper,
    )  # fmt: skip
    return TableRow(name, title, name, shots={"1": cell})


def test_the_layout():
    rows = (
        row("rgb", "RGB", 0.736, -0.005, -0.0091, -0.0009),
        row("depth", "Depth", 0.742, 0.001, -0.003, 0.005),
        row("amefu", "AMeFu-Net", 0.741, 0, 0, 0, paper=74.1),
    )
    made = Ablation(
        preset="paper", recipe=Recipes("paper", "tuned"), data_set="kinetics100", missing_videos=3,
        missing_classes=("archery",), way=5, queries=1, episodes=10_000, seed=0, reference="AMeFu-Net",
        interval_over="episodes", tables=(Table("Table 3: ablation", rows),),
    )  # fmt: skip
    head, _, tables = made.to_markdown().partition("\n\n")
    assert head.startswith("5-way, 1 query a class, 10000 episodes a shot, the same for every row;")
    assert tables == (
        "Features by recipe paper, fusions by recipe tuned, preset paper. Of the novel part of the split 3 videos are "
        "missing, and 1 classes.\n\n"
        "The data set is the paper's kinetics100. Of the paper's figures those are here that a second publication "
        "repeats: AMeFu-Net in 1-shot and 5-shot.\n\n"
        "## Table 3: ablation\n\n"
        "|  | 1-shot |\n| --- | --- |\n"
        "| RGB | 73.60 ± 0.86 |\n| Depth | 74.20 ± 0.86 |\n| AMeFu-Net | 74.10 ± 0.86 (paper: 74.1) |\n\n"
        "Difference from AMeFu-Net, points:\n\n"
        "|  | 1-shot |\n| --- | --- |\n"
        "| RGB | −0.50 [−0.91, −0.09] |\n| Depth | ≈ +0.10 [−0.30, +0.50] |\n"
    )


@pytest.fixture
def counted(monkeypatch):
    """The models whose vectors were computed, in order."""
    models, compute = [], evaluate.video_vectors
    names = {model: name for name, model in MODELS.items()}

    def count(table, reading):
        models.append(names[reading.model])
        return compute(table, reading)

    monkeypatch.setattr(evaluate, "video_vectors", count)
    return models


def test_all_rows_on_the_same_episodes_and_once(feature_space, counted):
    told = json.loads(amefu(feature_space, "ablate", "--shots", "1,2", "--num-aug", "0", "--json"))
    folder = feature_space / "ablation"
    assert sorted(counted) == sorted([*["amefu"] * 5, "rgb", "depth", "rgb-basenet", "rgb-basenet++"])
    assert len(list(folder.glob("*.safetensors"))) == 5  # 4 fusions without asynchrony, and AMeFu-Net
    rows = {row["name"]: row for table in told["tables"] for row in table["rows"]}
    assert len(rows) == 9
    for shot in ("1", "2"):
        results = [open_result(folder / "results" / _name(row, shot)) for row in rows.values()]
        assert len({result.asked.episodes_fingerprint for result in results}) == 1
        assert {result.asked.shot for result in results} == {int(shot)}
        for row, result in zip(rows.values(), results, strict=True):
            assert (result.asked.model, result.asked.fusion, result.asked.num_aug) == (
                row["model"], row["fusion"], row["num_aug"],
            )  # fmt: skip
            assert row["shots"][shot]["accuracy"] == result.found.accuracy
            difference = result.found.accuracy - rows["amefu"]["shots"][shot]["accuracy"]
            assert row["shots"][shot]["difference"] == pytest.approx(difference, abs=1e-12)
            assert row["shots"][shot]["paired"] is True
    written = json.loads((folder / "tables.json").read_text())
    assert written == {name: value for name, value in told.items() if name != "folder"}
    assert (folder / "tables.md").read_text() == amefu(feature_space, "ablate", "--shots", "1,2", "--num-aug", "0")
    assert (told["preset"], told["recipe"]["fusion"], told["data_set"]) == ("paper", "paper", None)


def _name(row, shot):
    return row["shots"][shot]["result"].rpartition("/")[2]


def test_a_second_run_makes_only_what_is_missing(feature_space, counted):
    words = ("ablate", "--tables", "3", "--shots", "1", "--num-aug", "2")
    first = amefu(feature_space, *words)
    folder = feature_space / "ablation"
    (lost,) = folder.glob("two-way-2aug-*.safetensors")
    lost.unlink()
    lost_result = next((folder / "results").glob("depth-*.json"))
    lost_result.unlink()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".md" and path.is_file()}
    del kept[folder / "tables.json"]
    counted.clear()
    assert amefu(feature_space, *words) == first
    assert lost.exists()  # trained again, to the same weights: its result is still that of its settings
    assert lost_result.exists()
    assert counted == ["depth"]
    rewritten = {path for path, time in kept.items() if path.stat().st_mtime_ns != time}
    assert {path.name.partition(".")[0] for path in rewritten} <= {lost.stem}  # its metrics


def test_what_meta_train_made_is_used(feature_space):
    amefu(feature_space, "meta-train")
    amefu(feature_space, "ablate", "--tables", "1", "--shots", "1")
    assert not list((feature_space / "ablation").glob("*.safetensors"))
    result = open_result(next((feature_space / "ablation" / "results").glob("amefu-*.json")))
    amefu(feature_space, "evaluate", "--episodes", "100", "--out", feature_space / "same.json")
    assert open_result(feature_space / "same.json").found.right == result.found.right


def test_other_settings_are_trained_beside(feature_space):
    words = ("ablate", "--tables", "1", "--shots", "1")
    amefu(feature_space, *words)
    config = feature_space / "amefu.toml"
    config.write_text(config.read_text().replace("learning-rate = 0.1", "learning-rate = 0.2"))
    amefu(feature_space, *words)
    assert len(list((feature_space / "ablation").glob("dgadain-2aug-*.safetensors"))) == 2


def test_a_dry_run_trains_nothing(feature_space):
    typed = ["ablate", "--num-aug", "0", "--dry-run", "--no-upstream", "--workspace", str(feature_space)]
    done = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert "would train dgadain-2aug-" in done.stderr
    assert done.stderr.count("aug-") == 5
    assert not (feature_space / "ablation").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tables", "4"), "--tables '4': must be from 1 to 3"),
        (("--shots", "1-6"), "6-shot with 1 query needs 7"),
        (("--way", "7"), "7-way episodes need 7 classes but only 6 hold videos"),
        (("--num-aug", "many"), "--num-aug 'many': must be numbers and ranges"),
    ],
)
def test_refusals_before_any_training(features_only, words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(features_only, "ablate", *words)
    assert not (features_only / "ablation").exists()
