"""`make bench`: how near each stage comes to its limit, both measured in the same run; what idle commands take.

    python examples/bench.py [--only features,depth,…] [--device auto]

Everything is made in a temporary folder: noise clips, random weights, random features. Every ratio is the median of
several pairs, run in turn, since machines are shared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as amefu itself sets it

import torch
from bench_cost import bench_frames, bench_guarantees, bench_verify
from bench_heads import bench_heads
from bench_kit import Bench
from bench_networks import bench_depth, bench_evaluate, bench_features, bench_meta_train
from bench_scale import (
    bench_again,
    bench_help,
    bench_memory,
    bench_start,
    bench_status,
    bench_table,
)

from amefu_cli.stages.networks import precision_name

BENCHES = {
    "help": bench_help,
    "memory": bench_memory,  # early: a child's peak counts this process's size when it was started
    "start": bench_start,
    "again": bench_again,
    "status": bench_status,
    "table": bench_table,
    "frames": bench_frames,
    "guarantees": bench_guarantees,
    "verify": bench_verify,
    "depth": bench_depth,
    "features": bench_features,
    "meta-train": bench_meta_train,
    "evaluate": bench_evaluate,
    "heads": bench_heads,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(BENCHES), help="comma-separated: " + ", ".join(BENCHES))
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - BENCHES.keys():
        parser.error(f"--only {min(unknown)}: must be of {', '.join(BENCHES)}")
    with tempfile.TemporaryDirectory(prefix="amefu-bench-") as folder:
        bench = Bench(Path(folder), options.device)
        print(f"{bench.device}, {torch.get_num_threads()} cores, {precision_name(bench.precision)}")
        for name in options.only.split(","):
            BENCHES[name](bench)


if __name__ == "__main__":
    main()
