"""`--deterministic`: the same bits whatever the process was given to compute with."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run, run_fresh


def trained(workspace: Path, name: str, *words: str, **environment: str) -> bytes:
    """The tensors of a stream that another process trained, which saw these variables."""
    out = workspace / f"{name}.safetensors"
    command = ("pretrain", "--modality", "rgb", "--workspace", workspace, "--no-upstream", "--out", out)
    run_fresh(*command, "--epochs", "2", "--precision", "auto", *words, **environment)
    content = out.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]  # behind the header, of whose length its size tells


@pytest.mark.slow
def test_neither_threads_nor_vector_width_matter(workspace: Path) -> None:
    narrow = {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    one = trained(workspace, "one", "--deterministic", **narrow)
    assert trained(workspace, "other", AMEFU_DETERMINISTIC="1", OMP_NUM_THREADS="3") == one
    assert trained(workspace, "as it comes", **narrow) != one  # so the variables do reach what computes


def test_a_process_with_torch_cannot_be_changed(workspace: Path) -> None:
    done = run("evaluate", "--model", "rgb", "--deterministic", "--workspace", workspace, code=2)
    assert "set AMEFU_DETERMINISTIC=1 for the whole process" in done.stderr
