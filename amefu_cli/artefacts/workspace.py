"""The workspace folder: it only names the defaults of where every artefact lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONFIG = "amefu.toml"


@dataclass(frozen=True)
class Workspace:
    """Default paths below one folder; every one of them can be given by an option instead."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / CONFIG

    @property
    def frames(self) -> Path:
        return self.folder / "frames.zarr"

    @property
    def depth(self) -> Path:
        return self.folder / "depth.zarr"

    @property
    def features(self) -> Path:
        return self.folder / "features.zarr"

    @property
    def split(self) -> Path:
        return self.folder / "split.json"

    @property
    def fusion(self) -> Path:
        return self.folder / "fusion.safetensors"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def stream(self, modality: str) -> Path:
        """The checkpoint of one stream: `rgb.safetensors` or `depth.safetensors`."""
        return self.folder / f"{modality}.safetensors"


def noted(path: Path, beside: Path) -> str:
    """How the header of `beside` names another file: from their common folder, so that a workspace can be moved."""
    path, folder = path.resolve(), beside.resolve().parent
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def located(name: str, beside: Path) -> Path:
    """Where the file is that `noted` wrote into the header of `beside`."""
    return beside.resolve().parent / name
