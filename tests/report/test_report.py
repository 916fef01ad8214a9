"""`amefu report`: what stands on the page, by hand; and the page in a real browser, with hostile names."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import amefu as run_command
from conftest import quiet_session
from report.browser import CHROMIUM, Page, open_browser
from small_stores import begin, frames_header, put_frames
from synthetic_features import BASE, CONFIG, VALIDATION, amefu, make_store

from amefu_cli.artefacts.files.results import open_result
from amefu_cli.artefacts.stores.failures import record_failure
from amefu_cli.errors import DamagedFile, UsageError
from amefu_cli.flows import demo
from amefu_cli.method.episodes import Episodes
from amefu_cli.report.contents import Classified
from amefu_cli.report.page import Cell, Section, Table, Text, render
from amefu_cli.report.pictures import confusion_of, hardest_and_typical

HOSTILE = (
    "<script>window.hostile=1<!--", '"><img src=x onerror=window.hostile=1>', "it's \"$x_1$\" & {{ 7*7 }}",
    "\u202egpj.exe", "مشي سريع", "wave",
)  # fmt: skip
CLIP = "<b>v_00<"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose novel classes have hostile names, with trainings, results and a report.html. Read only."""
    folder = tmp_path_factory.mktemp("report") / "<i>work"
    folder.mkdir()
    make_store(folder / "features.zarr", dict.fromkeys((*BASE, *VALIDATION), 3) | dict.fromkeys(HOSTILE, 6))
    (folder / "split.json").write_text(
        json.dumps({"train": BASE, "val": VALIDATION, "test": HOSTILE, "source": "its list"})
    )
    (folder / "amefu.toml").write_text(CONFIG)
    with begin(folder / "frames.zarr", frames_header(size=16)) as frames:
        for name in HOSTILE:
            for number in range(6):
                put_frames(frames, f"{name}/v_{number:02d}", seed=number)
    error = DamagedFile("<img src=x onerror=window.hostile=1> has no frames")
    record_failure(folder, video=f"wave/{CLIP}", stage="frames", error=error, fingerprint="0", attempt=2)
    amefu(folder, "meta-train")
    amefu(folder, "meta-train", "--head", "match-linear", "--model", "rgb", "--recipe", "tuned")
    amefu(folder, "evaluate", "--head", "match-linear", "--model", "rgb", "--out", folder / "results/learned.json")
    for model, shot in (("amefu", 1), ("rgb", 1), ("rgb", 3)):
        amefu(folder, "evaluate", "--model", model, "--shot", shot, "--out", folder / f"results/{model}{shot}.json")
    amefu(folder, "evaluate", "--model", "depth", "--head", "otam", "--out", folder / "results/otam.json")
    amefu(folder, "report")
    return folder


# By hand -----------------------------------------------------------------------------------------------------


def classified(chosen: object, classes: object) -> Classified:
    ways = np.array(chosen)
    support = np.zeros((*np.shape(classes), 1), np.int64)
    episodes = Episodes(np.array(classes), support, np.zeros_like(ways))
    return Classified(None, ("a/1",), ("a", "b", "c"), episodes, ways)  # type: ignore[arg-type]


def test_confusion_counts_queries_by_class_in_episodes_that_have_both() -> None:
    found = classified([[[1], [1]], [[0], [0]]], [[0, 1], [2, 0]])  # a→b, b→b; then c→c, a→c
    counts, shares = confusion_of(found)
    assert counts.tolist() == [[0, 1, 1], [0, 1, 0], [0, 0, 1]]
    assert shares[0].tolist() == [0.0, 1.0, 1.0]  # a is in two episodes: of one b is, of the other c
    assert np.isnan(shares[1, 2])  # b and c never met
    assert np.isnan(shares[2, 1])
    counts, shares = confusion_of(classified([[[1]], [[0]]], [[0, 1], [0, 2]]))  # a single query, of the first class
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert shares[0].tolist() == [0.5, 1.0, 0.0]
    assert np.isnan(shares[1:]).all()


def test_hardest_and_typical_episodes_are_by_the_mean_over_results() -> None:
    right, wrong = [[0], [1]], [[1], [0]]
    half = [[0], [0]]
    one = classified([wrong, half, right, half], [[0, 1]] * 4)
    other = classified([half, half, right, right], [[0, 1]] * 4)
    assert hardest_and_typical([one, other], 1) == ([0], [1])  # means 1/4, 1/2, 1, 3/4; of all 5/8: 1/2 is earlier
    assert hardest_and_typical([one, other], 2) == ([0, 1], [3, 2])


def test_a_page_shows_names_as_text_and_numbers_by_their_value() -> None:
    table = Table(("n<",), [["<b>&\u202e\n", Cell("1.0%", 0.01)]])
    page = render("t<", [("a", "<i>")], [Section("s", "r<", (table, Text("x\u200f")), ("`m<`",))])
    assert "<bdi>&lt;b&gt;&amp;\\u202e\\n</bdi>" in page
    assert '<td class="number" data-number="0.01">1.0%</td>' in page
    for raw in ("<i>", "t<<", "r<<", "\u202e", "\u200f", "m<`"):
        assert raw not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_a_report_says_of_everything_that_is_missing_how_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    told = json.loads(amefu(tmp_path / "work", "report", "--json"))
    page = html.unescape(Path(told["page"]).read_text())
    lines = re.findall(r'<p class="missing">(.*?)</p>', page)
    for command in ("depth VIDEOS", "frames VIDEOS", "pretrain", "evaluate", "features"):
        assert any(f"amefu {command}" in line for line in lines), command
    assert page.count("<section") == 8
    assert "`amefu show CLASS/CLIP`" in page


def test_without_jinja_the_report_is_refused_with_the_line_that_installs_it(
    feature_space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match=r"pip install 'amefu\[report\]'"):
        run_command("report", "--workspace", feature_space)
    assert not (feature_space / "report.html").exists()


@pytest.mark.parametrize("there", [True, False])
def test_the_demo_ends_with_the_report_or_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    session, said, typed = quiet_session(tmp_path), list[str](), list[tuple[str, ...]]()
    monkeypatch.setattr(session.say, "note", said.append, raising=False)
    monkeypatch.setattr(demo, "_type", lambda session, *words: typed.append(words))
    if not there:
        monkeypatch.setattr(demo, "find_spec", lambda name: None)
    page = demo.report_of(session, tmp_path / "report.html", ["--workspace", "w"])
    line = ("report", "--workspace", "w", "--out", str(tmp_path / "report.html"))
    assert (page is not None, typed) == (there, [line] if there else [])
    assert there or ("pip install 'amefu[report]'" in said[0] and " ".join(line) in said[0])


# The page of a workspace -------------------------------------------------------------------------------------


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text()


@pytest.mark.slow
def test_the_commands_of_a_report_make_its_checkpoints_and_results_again(made: Path, tmp_path: Path) -> None:
    lines = re.search(r"<code>(.*?)</code>", page_of(made), re.S)
    assert lines is not None
    commands = html.unescape(lines[1]).splitlines()
    assert ["--split 'its list'" in line for line in commands] == [False, True, *[False] * 7]
    commands = [line.replace(" --split 'its list'", "") for line in commands]
    assert [line.split()[1] for line in commands] == ["frames", "features", *["meta-train"] * 2, *["evaluate"] * 5]
    again = Path(shutil.copytree(made, tmp_path / "again"))
    (again / "amefu.toml").unlink()  # what it said stands in the lines
    for path in (*again.glob("*.safetensors"), *(again / "results").glob("*.json")):
        path.unlink()
    for line in commands[2:]:
        words = [word.replace(str(made), str(again)) for word in shlex.split(line)[1:]]
        run_command(*words, "--no-upstream")
    for path in sorted((made / "results").glob("*.json")):
        one, other = open_result(path), open_result(again / "results" / path.name)
        assert (one.asked, one.found.right) == (other.asked, other.found.right)


@pytest.mark.slow
def test_what_stands_in_the_sections(made: Path) -> None:
    page = html.unescape(page_of(made))
    assert "has no frames" in page  # what failed, and why
    assert page.count("<table>") >= 8
    assert "RGB, 5-way 3-shot" in page
    assert re.search("Forest plot of differences, in points: .*RGB, 5-way 1-shot − AMeFu-Net [+−]", page)
    assert "Accuracy by number of shots." in page
    assert page.count("Confusion matrix of") == 3
    assert page.count("t-SNE of 36 novel videos of 6 classes by their") == 3
    assert len(re.findall(r"Episode \d+: \d of 5 right", page)) == 40  # each stands in its label too


@pytest.mark.slow
def test_a_result_of_features_that_changed_is_said_to_be_old(made: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(made, tmp_path / "changed"))
    result = json.loads((changed / "results/rgb1.json").read_text())
    result["fingerprints"]["features"] = "another"
    (changed / "results/rgb1.json").write_text(json.dumps(result))
    amefu(changed, "report", changed / "results/rgb1.json")
    assert "is of other features or weights than those that are there now" in page_of(changed)


# In a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: the page was not opened in a browser")
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(made / "report.html")
        yield page


CONTRAST = """
(() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[0-9.]+/g).map(Number)
      .map((value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const words = [...document.querySelectorAll("p, td, th button, dd, dt, figcaption, .key li, svg text, a")];
  return Math.min(...words.filter((word) => !word.closest(".missing")).map((word) => {
    const style = getComputedStyle(word);
    const ink = light(word.closest("svg") && style.fill !== "none" ? style.fill : style.color);
    return word.closest("svg") && word.closest("svg").querySelector("image") ? 21 :
      (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }));
})()
"""
SORT = """
((name) => {
  const button = [...document.querySelectorAll("#section-2 th button")].find((one) => one.textContent === name);
  button.click();
  const head = button.parentElement, column = head.cellIndex;
  const cells = [...head.closest("table").tBodies[0].rows].map((row) => row.cells[column].textContent.trim());
  return [head.getAttribute("aria-sort"), cells];
})
"""


@pytest.mark.slow
def test_the_page_complains_of_nothing_and_asks_for_nothing(page: Page) -> None:
    assert not page.complaints
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in page.requests) == 1


@pytest.mark.slow
def test_hostile_names_stand_there_as_text(page: Page) -> None:
    assert page.run("window.hostile") is None
    assert page.run("document.scripts.length") == 1
    assert page.run("document.querySelectorAll('img[src=x], b, i').length") == 0
    text = page.run("document.body.textContent")
    for name in HOSTILE:
        assert name.replace("\u202e", "\\u202e") in text
    assert "\u202e" not in text
    drawn = page.run("[...document.querySelectorAll('svg text')].map((text) => text.textContent).join('\\n')")
    for name in HOSTILE[:3]:
        assert name[:18] in drawn


@pytest.mark.slow
def test_every_picture_has_an_alternative_in_words(page: Page) -> None:
    assert page.run("document.images.length") > 100
    assert page.run("[...document.images].filter((image) => !image.alt.trim()).length") == 0
    assert page.run("[...document.images].filter((image) => image.complete && !image.naturalWidth).length") == 0
    assert page.run("document.querySelectorAll('svg').length") >= 10
    unsaid = "(svg) => !svg.closest('[role=img]')?.getAttribute('aria-label')"
    assert page.run(f"[...document.querySelectorAll('svg')].filter({unsaid}).length") == 0


@pytest.mark.slow
def test_a_click_sorts_a_table_by_value_and_another_turns_it_around(page: Page) -> None:
    how, videos = page.run(f"{SORT}('videos')")
    assert (how, videos) == ("ascending", ["0"] * 5 + ["6"] * 6)
    how, videos = page.run(f"{SORT}('videos')")
    assert (how, videos) == ("descending", ["6"] * 6 + ["0"] * 5)
    how, names = page.run(f"{SORT}('class')")
    assert how == "ascending"
    assert names.index("bow") < names.index("clap") < names.index("dive") < names.index("wave")
    assert page.run("document.querySelectorAll('#section-2 th[aria-sort]').length") == 1


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1100])
def test_the_page_is_read_in_both_schemes_and_on_a_phone(page: Page, scheme: str, width: int) -> None:
    page.look(width=width, scheme=scheme)
    assert page.run("document.documentElement.scrollWidth") <= width  # what is wider scrolls in its own place
    assert page.run("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert page.run(CONTRAST) >= 4.5
    assert page.run("Math.min(...[...document.images].map((image) => image.getBoundingClientRect().width))") >= 48
    assert page.screenshot().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_page_prints(page: Page) -> None:
    assert page.pdf().startswith(b"%PDF")
