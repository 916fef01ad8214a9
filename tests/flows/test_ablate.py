"""`amefu ablate`: the rows of the tables, their layout, and a run that shares, reuses and goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from synthetic_features import NOVEL, amefu
from typer.testing import CliRunner

from amefu_cli.artefacts.files.results import Recipes, open_result
from amefu_cli.artefacts.files.split import built_in_split, make_split
from amefu_cli.commands.app import app
from amefu_cli.errors import UsageError
from amefu_cli.flows.compare import Comparison
from amefu_cli.flows.splits import data_set_of
from amefu_cli.flows.tables import Cell, Table, TableRow, Tables, comparable_figures, plan_tables
from amefu_cli.method.heads import FUSIONS, HEADS, MODELS
from amefu_cli.method.heads.published import AMEFU, TABLES, Trial, num_aug_row
from amefu_cli.settings import BUILT_IN, AblateSettings, parse_numbers
from amefu_cli.stages import evaluate

OF_CLASS = Trial("amefu", fusion="dgadain", num_aug=0, depth_of="class")
SHARED = Path(__file__).parents[3] / "shared" / "reference" / "paper_tables.json"


def plan(**asked):
    return plan_tables(AblateSettings(**asked), num_aug=2)


def test_the_rows_of_all_tables():
    made = plan(num_aug="1-3")
    assert {title: [row.title for row in rows] for title, rows in made.tables.items()} == {
        "Table 1: Kinetics-100": [
            "RGB Basenet", "RGB Basenet++", "CMN", "ARN", "TRAN", "CFA", "Embodied Learning", "TAM",
            "RGB + Depth + DGAdaIN", "AMeFu-Net",
        ],
        "Table 2: UCF101, HMDB51": ["RGB Basenet", "RGB Basenet++", "ARN", "AMeFu-Net"],
        "Table 3: ablation": [
            "RGB", "Depth", "RGB + Depth + Concat", "RGB + Depth + DGAdaIN", "RGB guide Depth", "DGAdaIN",
            "two-way guidance", "num_aug = 1", "num_aug = 2", "num_aug = 3",
            "as many steps as num_aug = 2, all matched", "RGB through one linear layer",
            "Depth through one linear layer", "DGAdaIN, then one linear layer",
            "Concat, depth of another video of the class", "Concat, depth of a random video",
            "DGAdaIN, depth of another video of the class", "DGAdaIN, depth of a random video",
        ],
    }  # fmt: skip
    assert made.trials[0] == made.amefu == Trial("amefu", fusion="dgadain", num_aug=2)
    assert OF_CLASS in made.trials
    assert OF_CLASS.name == "amefu-prototype-cosine-dgadain-0aug-depth-of-class"
    assert len(made.trials) == len({trial.name for trial in made.trials}) == 24
    assert made.streams == ("rgb", "depth", "imagenet")


def test_a_row_of_the_paper_that_another_training_does_not_give():
    (rows,) = plan_tables(AblateSettings(tables="2"), num_aug=3).tables.values()
    assert (rows[-1].title, rows[-1].trial.num_aug, rows[-1].figures) == ("AMeFu-Net", 3, {})
    assert rows[0].figures["ucf101"] == {1: 76.4, 3: 88.7, 5: 92.1}


@pytest.mark.parametrize(
    ("changed", "figures"),
    [
        ({}, {"kinetics100": {1: 73.6, 5: 86.6}}),
        ({"shots": [5, 6]}, {"kinetics100": {5: 86.6}}),
        ({"shots": [6]}, {}),
        ({"way": 10}, {}),
        ({"backbones": ("resnet18",)}, {}),
        ({"backbones": ("resnet50", "resnet18")}, {}),
        ({"data_set": "ucf101"}, {}),
        ({"data_set": None}, {}),
    ],
)
def test_figures_stand_where_all_is_the_papers(changed, figures):
    alike = {"data_set": "kinetics100", "way": 5, "shots": [1, 5], "backbones": ("resnet50",)} | changed
    (row,) = [row for row in TABLES["1"].rows if row.title == "RGB + Depth + DGAdaIN"]
    assert comparable_figures(row, **alike) == figures


def test_every_fusion_has_its_row():
    (rows,) = plan(tables="3").tables.values()
    assert {row.trial.fusion for row in rows} - {None} == FUSIONS.keys()


def test_every_head_has_its_row():
    made = plan(tables="heads", model="depth")
    assert {trial.head for trial in made.trials} == HEADS.keys()
    assert made.streams == ("depth",)
    of_fusion = plan(tables="heads", model="amefu", heads="otam, trx").trials
    assert [(trial.head, trial.fusion, trial.num_aug) for trial in of_fusion] == [
        (head, "dgadain", 2) for head in ("prototype-cosine", "otam", "trx")
    ]


@pytest.mark.skipif(not SHARED.exists(), reason="the paper's figures are not here")
def test_the_figures_are_the_papers():
    held = json.loads(SHARED.read_text())
    data_sets = {"table_1_kinetics100": "1", "table_2_ucf101": "2", "table_2_hmdb51": "2", "table_3_kinetics100": "3"}
    for key, number in data_sets.items():
        rows = {row.title: row for row in (*TABLES[number].rows, *map(num_aug_row, (1, 2, 3))) if not row.ours}
        for title, figures in held[key].items():
            there = {int(shot): figure for shot, figure in figures.items() if figure is not None}
            assert rows[title].figures[key.rpartition("_")[2]] == there, title


def test_some_figures_of_the_paper():
    """What stands in the paper; all of them are held against a copy where there is one."""
    by_title = {row.title: row.figures["kinetics100"] for row in TABLES["1"].rows}
    assert by_title["AMeFu-Net"] == {1: 74.1, 2: 81.1, 3: 84.3, 4: 85.6, 5: 86.8}
    assert by_title["CFA"] == {1: 69.9, 3: 80.5, 5: 83.1}
    assert num_aug_row(3).figures["kinetics100"][1] == 72.1
    assert num_aug_row(4).ours


def test_data_sets_are_known_by_their_novel_classes():
    assert {name: data_set_of(built_in_split(name)) for name in BUILT_IN} == {name: name for name in BUILT_IN}
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


def row(title, accuracy, difference, low, high, *, trial=AMEFU, paper=None, deviation=None, **more):
    less = Comparison(
        result="a.json", paired=True, difference=difference, over_episodes_95=(low, high), by_class_95=None,
        significant=low > 0 or high < 0,
    )  # fmt: skip
    cell = Cell(accuracy, 0.0086, deviation, {} if trial == AMEFU else {"AMeFu-Net": less}, ("a.json",))
    figures = {"kinetics100": {1: paper}} if paper else {}
    return TableRow(title, trial, figures, shots={"1": cell} if trial else {}, **more)


def test_the_layout():
    rows = (
        row("RGB", 0.736, -0.005, -0.0091, -0.0009, trial=Trial("rgb"), ours=True),
        row("TAM", 0.742, 0.001, -0.003, 0.005, trial=Trial("rgb", "otam"), paper=73.0, end_to_end=True),
        row("CFA", 0, 0, 0, 0, trial=None, paper=69.9, end_to_end=True, note="not run: why."),
        row("AMeFu-Net", 0.741, 0, 0, 0, paper=74.1, deviation=0.0052),
        row("Foreign", 0.731, -0.01, -0.02, -0.001, trial=OF_CLASS, ours=True, note="a control: why."),
    )
    made = Tables(
        preset="paper", recipe=Recipes("paper", "tuned"), data_set="kinetics100", missing_videos=3,
        missing_classes=("archery",), backbone="resnet50", way=5, queries=1, episodes=10_000, seed=0, seeds=3,
        interval_over="episodes and training seeds", tables=(Table("Table 1: some", rows, ("AMeFu-Net",)),),
    )  # fmt: skip
    head, _, tables = made.to_markdown().partition("\n\n")
    assert head.startswith("5-way, 1 query a class, 10000 episodes a shot, the same for every row")
    assert "trained 3 times: the mean, in brackets the deviation over seeds." in head
    assert tables == (
        "Features by recipe paper, trained by recipe tuned, preset paper. Of the novel part of the split 3 videos are "
        "missing, and 1 classes.\n\n"
        "Data set (kinetics100) and backbone are the paper's: its figures stand beside ours.\n\n"
        "## Table 1: some\n\n"
        "|  | 1-shot | paper |\n| --- | --- | --- |\n"
        "| RGB (ours) | 73.60 ± 0.86 | – |\n| TAM | 74.20 ± 0.86 | 73.0† |\n| CFA | – | 69.9† |\n"
        "| AMeFu-Net | 74.10 ± 0.86 (0.52) | 74.1 |\n| Foreign (ours) | 73.10 ± 0.86 | – |\n\n"
        "†: the backbone behind the paper's figure learned with its head, end to end.\n\n"
        f"- TAM: `otam` on `rgb`, {HEADS['otam'].citation}. {HEADS['otam'].exactness}\n"
        "- CFA: not run: why.\n- Foreign: a control: why.\n\n"
        "Difference from AMeFu-Net, points:\n\n"
        "|  | 1-shot |\n| --- | --- |\n"
        "| RGB (ours) | −0.50 [−0.91, −0.09] |\n| TAM | ≈ +0.10 [−0.30, +0.50] |\n"
        "| Foreign (ours) | −1.00 [−2.00, −0.10] |\n"
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


def rows_of(told):
    return {row["title"]: row for table in told["tables"] for row in table["rows"]}


@pytest.mark.slow
def test_all_rows_on_the_same_queries_and_once(feature_space, counted):
    told = json.loads(amefu(feature_space, "ablate", "--shots", "1,2", "--num-aug", "1", "--json"))
    folder, rows = feature_space / "ablation", rows_of(told)
    assert sorted(counted) == sorted([*["amefu"] * 14, "rgb", "depth", "rgb-basenet++"])  # rgb-basenet: its frames
    trained = sorted(path.name.rpartition("-")[0] for path in folder.glob("*.safetensors"))
    assert trained == [
        "concat-0aug", "concat-0aug-depth-of-class", "concat-0aug-depth-of-random", "depth-linear-0aug",
        "dgadain-0aug", "dgadain-0aug-depth-of-class", "dgadain-0aug-depth-of-random", "dgadain-1aug", "dgadain-2aug",
        "dgadain-2matched", "dgadain-linear-0aug", "rgb-cmn-embedding", "rgb-guides-depth-0aug", "rgb-linear-0aug",
        "rgb-second-order-relation", "rgb-tarn", "two-way-0aug",
    ]  # fmt: skip
    assert rows.pop("CFA")["shots"] == {}
    results = {
        (title, shot): open_result(Path(cell["results"][0]))
        for title, row in rows.items() for shot, cell in row["shots"].items()
    }  # fmt: skip
    assert len({result.asked.queries_fingerprint for result in results.values()}) == 1
    for shot in ("1", "2"):
        assert len({result.asked.episodes_fingerprint for (_, of), result in results.items() if of == shot}) == 1
    for (title, shot), result in results.items():
        row, asked = rows[title], result.asked
        assert {name: row["trial"][name] for name in ("model", "head", "fusion", "num_aug", "depth_of")} == {
            "model": asked.model, "head": asked.head, "fusion": asked.fusion, "num_aug": asked.num_aug,
            "depth_of": asked.depth_of,
        }  # fmt: skip
        cell = row["shots"][shot]
        assert cell["accuracy"] == pytest.approx(result.found.accuracy, abs=1e-12)
        if title != "AMeFu-Net":
            less = cell["less"]["AMeFu-Net"]
            assert less["paired"] is True
            assert less["difference"] == pytest.approx(
                result.found.accuracy - results["AMeFu-Net", shot].found.accuracy, abs=1e-12
            )
    written = json.loads((folder / "tables.json").read_text())
    assert written == {name: value for name, value in told.items() if name != "folder"}
    assert (folder / "tables.md").read_text() == amefu(feature_space, "ablate", "--shots", "1,2", "--num-aug", "1")
    assert (told["preset"], told["recipe"]["fusion"], told["data_set"]) == ("paper", "paper", None)


@pytest.mark.slow
def test_heads_are_ordered_and_compared_with_the_best_and_the_plain_prototype(feature_space):
    heads = "otam,chamfer++,segment-augmentation,knn"
    words = ("ablate", "--tables", "heads", "--heads", heads, "--shots", "1", "--seeds", "2")
    (table,) = json.loads(amefu(feature_space, *words, "--json"))["tables"]
    accuracies = [row["shots"]["1"]["accuracy"] for row in table["rows"]]
    assert accuracies == sorted(accuracies, reverse=True)
    by_head = {row["trial"]["head"]: row for row in table["rows"]}
    assert set(by_head) == {"prototype-cosine", *heads.split(",")}
    plain = "cosine to the class mean (`prototype-cosine`)"
    assert table["references"] == [*dict.fromkeys([table["rows"][0]["title"], plain])]
    learned = by_head["chamfer++"]["shots"]["1"]
    found = [open_result(Path(path)).found.accuracy for path in learned["results"]]
    assert learned["accuracy"] == pytest.approx(np.mean(found))
    assert learned["seeds_deviation"] == pytest.approx(np.std(found, ddof=1))
    low, high = learned["less"][plain]["over_episodes_95"]  # two seeds: Student's t of one degree of freedom
    assert (high - low) / 2 > 12.7 * learned["seeds_deviation"] / 2**0.5
    assert len(learned["results"]) == 2
    assert by_head["otam"]["shots"]["1"]["seeds_deviation"] is None
    assert "| OTAM alignment (`otam`) |" in amefu(feature_space, *words)


def test_heads_on_the_frames_of_a_fusion(feature_space):
    words = ("ablate", "--tables", "heads", "--model", "amefu", "--heads", "otam,cmn-embedding", "--shots", "1")
    (table,) = json.loads(amefu(feature_space, *words, "--json"))["tables"]
    assert {row["trial"]["fusion"] for row in table["rows"]} == {"dgadain"}
    result = open_result(Path(table["rows"][0]["shots"]["1"]["results"][0]))
    assert (result.asked.model, result.asked.num_aug) == ("amefu", 2)


def test_a_second_run_makes_only_what_is_missing(feature_space, counted):
    words = ("ablate", "--tables", "3", "--shots", "1", "--num-aug", "2")
    first = amefu(feature_space, *words)
    folder = feature_space / "ablation"
    (lost,) = folder.glob("two-way-0aug-*.safetensors")
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


@pytest.mark.slow
def test_what_meta_train_made_is_used(feature_space):
    amefu(feature_space, "meta-train")
    amefu(feature_space, "meta-train", "--head", "second-order-relation", "--model", "rgb")
    amefu(feature_space, "ablate", "--tables", "2", "--shots", "1")
    assert not list((feature_space / "ablation").glob("*.safetensors"))
    result = open_result(next((feature_space / "ablation" / "results").glob("amefu-*.json")))
    amefu(feature_space, "evaluate", "--episodes", "100", "--out", feature_space / "same.json")
    assert open_result(feature_space / "same.json").found.right == result.found.right


@pytest.mark.slow
def test_other_settings_are_trained_beside(feature_space):
    words = ("ablate", "--tables", "2", "--shots", "1")
    amefu(feature_space, *words)
    config = feature_space / "amefu.toml"
    config.write_text(config.read_text().replace("learning-rate = 0.1", "learning-rate = 0.2"))
    amefu(feature_space, *words)
    assert len(list((feature_space / "ablation").glob("dgadain-2aug-*.safetensors"))) == 2


def test_a_dry_run_trains_nothing(feature_space):
    typed = ["ablate", "--seeds", "2", "--dry-run", "--no-upstream", "--workspace", str(feature_space)]
    done = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert "would train dgadain-2aug-" in done.stderr
    assert done.stderr.count("aug-") == 2 * 14  # seven fusions, dgadain with 1 to 3 too, four with others' depth
    assert done.stderr.count("rgb-tarn-") == 2
    assert not (feature_space / "ablation").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tables", "4"), "--tables '4': must be of 1, 2, 3, heads"),
        (("--tables", "heads", "--heads", "tam"), "--heads 'tam': must be of prototype-cosine, "),
        (("--tables", "heads", "--model", "flow"), "--model 'flow': must be one of amefu, rgb"),
        (
            ("--tables", "heads", "--model", "rgb-basenet"),
            "reads base videos too, and --model rgb-basenet has novel ones only",
        ),
        (("--shots", "1-6"), "6-shot with 1 query needs 7"),
        (("--way", "7"), "7-way episodes need 7 classes but only 6 hold videos"),
        (("--num-aug", "many"), "--num-aug 'many': must be numbers and ranges"),
    ],
)
def test_refusals_before_any_training(features_only, words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        amefu(features_only, "ablate", *words)
    assert not (features_only / "ablation").exists()
