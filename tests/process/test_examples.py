"""The example scripts, each from videos to tables on a tiny stand-in of its data set's layout."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import CONFIG, ROOT, amefu_environment, moving_clip, warm_python

from amefu_cli.artefacts.files.split import built_in_split, read_split
from amefu_cli.demo.clips import write_mp4

EXAMPLES = ROOT / "examples"
ABLATE = '\n[ablate]\nway = 2\nepisodes = 20\nnum-aug = "2"\n'
KINETICS = "{name}/-VtLx-mcPds_0000{number:02d}.mp4"
UCF101 = "{name}/v_{name}_g01_c{number:02d}.avi"
HMDB51 = "{name}/April_09_{name}_u_nm_np1_ba_goo_{number}.avi"


def stand_in(folder: Path, data_set: str, clip: str) -> None:
    """Clips of eight frames in the first classes of every part: enough for 2-way episodes of up to 5 shots."""
    split = built_in_split(data_set)
    for part, classes, clips in ((split.base, 2, 3), (split.validation, 2, 2), (split.novel, 2, 6)):
        for label, name in enumerate(part[:classes]):
            for number in range(clips):
                path = folder / clip.format(name=name, number=number)
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = 1000 * clips + 100 * label + number  # no clip stands twice
                write_mp4(path.with_suffix(".mp4"), moving_clip(seed, frames=8, size=32), fps=8)
                path.with_suffix(".mp4").rename(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data_set", "clip"),
    [("kinetics100", KINETICS), ("ucf101", UCF101), ("hmdb51", HMDB51)],
    ids=("kinetics100", "ucf101", "hmdb51"),
)
def test_an_example_leads_from_videos_to_the_rows_of_the_paper(data_set: str, clip: str, tmp_path: Path) -> None:
    videos, work = tmp_path / "videos", tmp_path / "work"
    stand_in(videos, data_set, clip)
    if data_set == "kinetics100":  # as some downloaders write it
        for folder in videos.iterdir():
            folder.rename(folder.with_name(folder.name.replace(" ", "_")))
    misspelt = sorted(videos.iterdir())[0]
    work.mkdir()
    (work / "amefu.toml").write_text(CONFIG + ABLATE)
    programs = tmp_path / "bin"
    warm_python().program(programs / "amefu")

    done = subprocess.run(
        ["bash", str(EXAMPLES / f"{data_set}.sh"), str(videos), str(work)],
        env=amefu_environment(PATH=f"{programs}:{os.environ['PATH']}"), capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "meant for another data set" not in done.stderr
    assert misspelt.name in read_split(work / "split.json").base
    document = json.loads((work / "ablation" / "tables.json").read_text())
    assert document["data_set"] == data_set
    methods, ablation = document["tables"]
    assert [row["title"] for row in methods["rows"]][:2] == ["RGB Basenet", "RGB Basenet++"]
    fusions = {row["trial"]["fusion"] for row in ablation["rows"]}
    assert fusions >= {"concat", "rgb-guides-depth", "two-way", "dgadain"}
    for row in methods["rows"] + ablation["rows"]:
        assert list(row["shots"]) == (["1", "2", "3", "4", "5"] if row["trial"] else [])


@pytest.mark.parametrize("data_set", ["kinetics100", "ucf101", "hmdb51"])
def test_the_head_says_coverage_and_disk_space(data_set: str) -> None:
    head = (EXAMPLES / f"{data_set}.sh").read_text().partition("set -euo")[0]
    total = re.search(r"about (\d+) GB", head)
    parts = re.search(r"frames (\d+), depth (\d+), features (\d+)\.", head)
    assert total is not None
    assert parts is not None
    assert abs(sum(map(int, parts.groups())) - int(total[1])) <= 1
    assert "# Coverage" in head
