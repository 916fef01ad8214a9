"""What 10,000 episodes cost by each head: 24 classes × 100 videos × 8 frames × 2048, in memory, weights random.

python examples/bench_heads.py HEAD SHOT    # one head, in this process; `bench.py --only heads` calls it for each
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as amefu itself sets it

import numpy as np
import torch
from bench_kit import Bench

from amefu_cli.method.episodes import draw_episodes
from amefu_cli.method.heads import HEADS, build_head
from amefu_cli.stages.scoring import by_head

CLASSES, VIDEOS, FRAMES, DIM, EPISODES = 24, 100, 8, 2048, 10_000
METRIC = {1: 8, 5: 15}  # seconds to reach by number of shots
TARGETS: dict[str, dict[int, int]] = {
    "otam": METRIC, "bi-mhm": METRIC, "chamfer": METRIC, "match-mean": METRIC, "match-max": METRIC,
    "match-diag": METRIC, "logistic": {1: 3, 5: 20}, "trx": {1: 240}, "hyrsm": {1: 90}, "molo-base": {1: 90},
    "tarn": {1: 90},
}  # fmt: skip
MEMORY = 3  # GB


def bench_heads(bench: Bench) -> None:
    """Embedding and scoring by one head, as a process of its own, so that its peak of memory is its own."""
    for head, targets in TARGETS.items():
        for shot, target in targets.items():
            words = [sys.executable, __file__, head, str(shot)]
            spent = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            detail = f"{spent['cpu']:.1f} s of CPU, at most {spent['memory']:.2f} GB (≤ {MEMORY})"
            bench.row(f"{head}, 10,000 episodes, {shot}-shot", f"{spent['wall']:.1f} s", f"≤ {target} s", detail)


def measure(name: str, shot: int) -> dict[str, float]:
    """Seconds of the clock and of all cores, and the peak of memory in GB."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(CLASSES * VIDEOS) % CLASSES
    frames = np.abs(rng.standard_normal((len(labels), FRAMES, DIM), np.float32))
    drawn = draw_episodes(
        labels, way=5, shot=shot, queries=1, count=EPISODES, rng=rng, class_names=[*map(str, range(CLASSES))]
    )
    options = {"base_classes": 64} if HEADS[name].knows_classes else {}
    head = build_head(name, DIM, options).eval()
    wall, cpu = time.perf_counter(), time.process_time()
    by_head(head, frames, drawn, device=torch.device("cpu"), progress=lambda done, total, item: None)
    return {
        "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
