"""The three kinds of stores: what the header of each says of how it was made, and what it only notes.

A header is compared by its settings and by what the whole store was made from: a store made otherwise is refused.
Notes are not compared: where inputs lie (from the folder of the store, so that a workspace can be moved), which recipe
it was started with, where weights came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

from amefu_cli.artefacts.files.fingerprint import Provenance, differences, fingerprint
from amefu_cli.settings import ClipSettings, DepthSettings, FeaturesSettings, FramesSettings, Settings

ARRAYS = {
    "frames": {"jpeg": ("uint8", 1), "offset": ("int64", 1)},
    "depth": {"disparity": ("uint8", 3), "low": ("float32", 1), "high": ("float32", 1)},
    "features": {"frame": ("int64", 1)},
}
"""By kind of store, the arrays of every video: type and number of axes. Features have one more for each stream."""
STREAM_ARRAY = ("float16", 3)  # (views, kept frames, dim)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What every kind notes: the recipe that it was started with, and where the weights of its networks came from."""

    recipe: str = "paper"
    provenance: Mapping[str, Provenance] = field(default_factory=dict)

    def over(self, there: Self) -> Self:
        """These notes over those of a header that is there: what was noted by name is kept."""
        kept = {name: dict(value) for name, value in vars(there).items() if isinstance(value, Mapping)}
        return replace(self, **{name: value | getattr(self, name) for name, value in kept.items()})


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What the header of a store of any kind says."""

    kind: ClassVar[str]
    settings: Settings
    notes: Notes

    def compared(self) -> dict[str, Any]:
        """What has to match for a store to be the one that is asked for, as plain values."""
        return {"settings": self.settings.as_dict()}

    def mismatch(self, there: Self) -> list[str]:
        """What the header that is there says differently, one line each."""
        return differences(there.compared(), self.compared())

    def over(self, there: Self) -> Self:
        """This header over one that is there and does not mismatch: what either notes, this one first."""
        return replace(self, notes=self.notes.over(there.notes))


@dataclass(frozen=True, kw_only=True)
class FramesNotes(Notes):
    """Where the videos lie, and whether links out of that folder are followed."""

    videos: str
    follow_links: bool = False


@dataclass(frozen=True, kw_only=True)
class FramesHeader(StoreHeader):
    """frames.zarr: how clips became frames."""

    kind: ClassVar[str] = "frames"
    settings: FramesSettings
    notes: FramesNotes


@dataclass(frozen=True, kw_only=True)
class DepthNotes(Notes):
    """Where the frames lie, and the weights of the estimator where they are not its own."""

    frames: str
    weights: str | None = None


@dataclass(frozen=True)
class EstimatorIdentity:
    """A depth estimator by its name and by the hash of its weights (`its own`: see the notes on provenance)."""

    estimator: str
    weights: str


@dataclass(frozen=True, kw_only=True)
class DepthHeader(StoreHeader):
    """depth.zarr: by which estimator."""

    kind: ClassVar[str] = "depth"
    settings: DepthSettings
    made_from: EstimatorIdentity
    notes: DepthNotes

    def compared(self) -> dict[str, Any]:
        settings = self.settings.as_dict()
        del settings["estimator"]  # where its file lies does not matter; what it is stands in made_from
        return {"settings": settings, "made_from": asdict(self.made_from)}


@dataclass(frozen=True)
class Stream:
    """One named frozen network of features.zarr, and what it sees.

    `network` is the hash of a checkpoint of ours, or of the weights that the backbone has (`imagenet`: see the notes
    on provenance; `none`: random ones). `crop` is the part of a stored frame that is taken, in pixels, `size` what it
    is resized to for the network. `trained_on` are class names; None: not known.
    """

    reads: str  # frames or depth
    backbone: str
    network: str
    crop: int
    size: int
    encoding: str | None = None  # how disparity becomes three channels; None for frames
    novel_only: bool = False  # whether only novel videos have it
    trained_on: tuple[str, ...] | None = ()

    @property
    def fingerprint(self) -> str:
        """What identifies the features that it gives."""
        return fingerprint(asdict(self))


@dataclass(frozen=True, kw_only=True)
class FeaturesNotes(Notes):
    """Where the inputs lie, and by stream the weights of those that are not checkpoints; the frames' geometry."""

    frames: str
    depth: str
    rgb: str
    depth_stream: str
    geometry: str = "square"
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FeaturesHeader(StoreHeader):
    """features.zarr: which frames and views are kept, and the streams by name.

    Streams are compared name by name: others can be added to those that are there.
    """

    kind: ClassVar[str] = "features"
    settings: FeaturesSettings
    clip: ClipSettings
    streams: Mapping[str, Stream]
    notes: FeaturesNotes

    def compared(self) -> dict[str, Any]:
        return {"settings": self.settings.as_dict(), "clip": self.clip.as_dict()}

    def mismatch(self, there: Self) -> list[str]:
        shared = self.streams.keys() & there.streams.keys()
        found, wanted = ({"streams": {name: asdict(of.streams[name]) for name in shared}} for of in (there, self))
        return super().mismatch(there) + differences(found, wanted)

    def over(self, there: Self) -> Self:
        return replace(super().over(there), streams={**there.streams, **self.streams})


KINDS: Mapping[str, type[StoreHeader]] = {kind.kind: kind for kind in (FramesHeader, DepthHeader, FeaturesHeader)}
