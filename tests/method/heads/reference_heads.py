"""The numbers of the public programs for seeded inputs and weights, and how states of them are made."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from conftest import FIXTURES
from safetensors.torch import load_file
from torch import Tensor

from amefu_cli.method.heads.base import Head

TAGS = ("signed", "positive")
PRECISIONS = (torch.float64, torch.float32)
WAY, SHOT, QUERIES, FRAMES, DIM = 5, 2, 2, 8, 24


class Reference:
    """One reference file: its tensors, its weights under the names of a head, and inputs."""

    def __init__(self, name: str) -> None:
        self.tensors = load_file(FIXTURES / "heads" / f"{name}.safetensors")
        self.inputs = load_file(FIXTURES / "heads" / "inputs.safetensors")

    def weights(self, renamed: dict[str, str]) -> dict[str, Tensor]:
        """The weights whose names start with a key of `renamed`, which its value replaces."""
        return dict(self._renamed(renamed))

    def _renamed(self, renamed: dict[str, str]) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.tensors.items():
            if name.startswith("weight."):
                name = name.removeprefix("weight.")
                for old, new in renamed.items():
                    if name.startswith(old):
                        yield new + name.removeprefix(old), tensor
                        break

    def episode(self, tag: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Frames of an episode alone in its batch: support (1, 5, 2, 8, 24) and query (1, 10, 8, 24)."""
        support, query = (self.inputs[f"{tag}.{part}"].to(dtype) for part in ("support", "query"))
        return support.unsqueeze(0), query.flatten(0, 1).unsqueeze(0)

    def check(self, name: str, found: Tensor) -> None:
        """`found` against the tensor `name`, at the tolerance of its precision."""
        if found.dtype == torch.float64:
            torch.testing.assert_close(found, self.tensors[name], rtol=1e-9, atol=1e-12)
        else:
            expected = self.tensors.get(f"{name}.float32", self.tensors[name].float())
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def states(head: Head, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """What `embed` gives of support (episodes, way, shot, frames, dim) and query (episodes, queries, frames, dim)."""
    of_support = head.embed(support.flatten(0, 2)).unflatten(0, support.shape[:3])
    return of_support, head.embed(query.flatten(0, 1)).unflatten(0, query.shape[:2])


def logits_of(head: Head, support: Tensor, query: Tensor) -> Tensor:
    """Logits (episodes, queries, way) of frames."""
    return head.logits(*states(head, support, query))
