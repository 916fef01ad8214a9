"""What stands at the head of a store of each kind, and of every video in it: plain JSON, each read in one go.

A store's header is compared by its settings and by what the whole store was made from: one made otherwise is refused.
Notes are not compared: where inputs lie (from the folder of the store, so that a workspace can be moved), which recipe
it was started with, where weights came from. The record of a video is the comment of its archive, so that a hundred
thousand videos are listed by reading the last bytes of each file.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

from amefu_cli.artefacts.files.atomic import to_json
from amefu_cli.artefacts.files.fingerprint import Provenance, differences, fingerprint, path_identity, recorded
from amefu_cli.artefacts.files.names import class_of
from amefu_cli.errors import DamagedFile, SettingsMismatch, UsageError, VideoError
from amefu_cli.settings import ClipSettings, DepthSettings, FeaturesSettings, FramesSettings, Settings

ARRAYS = {
    "frames": {"jpeg": ("uint8", 1), "offset": ("int64", 1)},
    "depth": {"disparity": ("uint8", 3), "low": ("float32", 1), "high": ("float32", 1)},
    "features": {"frame": ("int64", 1)},
}  # by kind of store, the arrays of every video: type and number of axes. Features have one more for each stream
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

    kind: ClassVar[str] = ""
    schema: ClassVar[int] = 2  # of what is in a store; another one is refused
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
    """A depth estimator by name and by the hash of its weights (`its own`: held to theirs by `note_provenance`)."""

    estimator: str
    weights: str

    @classmethod
    def of(cls, estimator: str, weights: Path | None) -> Self:
        """Without loading it: a file or folder by the hash of its bytes; its own weights by the estimator's name."""
        name, _, source = estimator.partition(":")
        if weights is None and source and Path(source).exists():
            weights = Path(source)
        return cls(name, path_identity(weights)) if weights else cls(estimator, "its own")


@dataclass(frozen=True, kw_only=True)
class DepthHeader(StoreHeader):
    """depth.zarr: by which estimator."""

    kind: ClassVar[str] = "depth"
    schema: ClassVar[int] = 3  # of 2, disparity was not clipped before it was cut into 256 levels
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
    """features.zarr: which frames and views are kept, and the streams by name. Streams are compared name by name:
    others can be added to those that are there."""

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
HEADER = "zarr.json"
STAGING = ".staging"
LARGEST_HEADER = 1 << 22  # bytes; ours are a few thousand, so anything near this is not ours
LONGEST_RECORD = (1 << 16) - 1  # bytes: what the comment of a zip archive may hold
FIX = "`amefu verify` marks it, and the command that made it makes it again"
CHECKSUM = b', "checksum": "%08x"}'  # CRC-32 of all bytes before it: a zip archive has none of its comment
CHECKSUM_LENGTH = len(CHECKSUM % 0)
DECODER = json.JSONDecoder()  # what `json.loads` does besides takes a while, a hundred thousand times over
AnyHeader = TypeVar("AnyHeader", bound=StoreHeader)


class UnusableName(VideoError):
    """The file system of a store takes the video's id for another's, or finds its path too long."""


class VideoRecord(NamedTuple):
    """What is known of one stored video; `damaged` where `amefu verify` has marked it. `source` is its path below
    VIDEOS, `made_from` what identifies what it was made from. Of features, `kept` is how many of the frames have some,
    so that a table of many videos is laid out without opening them."""

    id: str
    source: str
    frames: int
    fps: float | None
    made_from: Mapping[str, Any]
    fingerprint: str
    partial: bool = False
    kept: int | None = None
    damaged: bool = False

    @property
    def class_name(self) -> str:
        return class_of(self.id)


def record_json(record: VideoRecord) -> bytes:
    """A record as JSON that ends in its own checksum. Raises UnusableName where it is too long for an archive."""
    fields = record._asdict()
    del fields["damaged"]
    body = json.dumps(fields, allow_nan=False).encode("ascii")[:-1]
    content = body + CHECKSUM % zlib.crc32(body)
    if len(content) > LONGEST_RECORD:
        needs = f"needs {len(content)} of {LONGEST_RECORD} bytes"
        raise UnusableName(f"the record of {record.id[:40]!r}… {needs}: rename the clip")
    return content


def parse_record(content: bytes, *, damaged: bool = False) -> VideoRecord:
    """The record that `record_json` wrote. Raises ValueError for anything else."""
    body = content[:-CHECKSUM_LENGTH]
    try:
        if content[len(body) :] != CHECKSUM % zlib.crc32(body):
            raise ValueError("its checksum differs")
        fields, _ = DECODER.raw_decode(body.decode("ascii") + "}")
        record = VideoRecord(**fields)
        return record._replace(damaged=True) if damaged else record
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its record is not what was written: {error}") from error


def header_json(header: StoreHeader) -> bytes:
    """The Zarr group that a store's header is an attribute of."""
    document = {"kind": header.kind, "schema": header.schema, **asdict(header)}
    return to_json({"attributes": {"amefu": document}, "zarr_format": 3, "node_type": "group"})


def read_header(path: Path) -> StoreHeader | None:
    """The header of the store at `path`, of whatever kind; None where nothing is. Raises as `header_of`."""
    return header_of(path, StoreHeader)


def header_of(path: Path, kind: type[AnyHeader]) -> AnyHeader | None:
    """The header of the store at `path`, which is of this kind; None where nothing is. Raises UsageError where a store
    of another kind is there or something else, SettingsMismatch where it is of another schema, DamagedFile where it
    does not hold what its kind has."""
    document = _document(path, kind.kind)
    if document is None:
        return None
    name, schema = document.pop("kind"), document.pop("schema")
    if schema != KINDS[name].schema:
        fix = f"replace it with `amefu {name} --rebuild`"
        raise SettingsMismatch(f"{path}: schema {schema}, this version writes {KINDS[name].schema}; {fix}")
    return cast(AnyHeader, recorded(KINDS[name], document, path, f"amefu {name}"))


def require_kind(path: Path, kind: str) -> bool:
    """Whether a store of this kind, whatever its schema, is at `path`; raises UsageError where something else is."""
    return _document(path, kind) is not None


def _document(path: Path, kind: str) -> dict[str, Any] | None:
    """What the header of a store of this kind says (empty: of any), with a schema; None where nothing is."""
    try:
        with open(path / HEADER, "rb") as file:
            header = json.loads(file.read(LARGEST_HEADER))["attributes"]["amefu"]
        known, found = isinstance(header["schema"], int) and header["kind"] in [*KINDS], header["kind"]
    except (FileNotFoundError, NotADirectoryError):
        # looked at in this order, since another process may be starting a store of it at this moment
        if path.exists() and not (path.is_dir() and {entry.name for entry in os.scandir(path)} <= {STAGING, HEADER}):
            raise UsageError(f"{path}: is there, but is not a store of amefu's; choose another path") from None
        return None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path / HEADER}: not a Zarr header ({error}); choose another path") from error
    except (LookupError, TypeError):
        known = False
    if not known:
        raise DamagedFile(f"{path / HEADER}: not the header of a store of amefu's; choose another path")
    if kind and found != kind:
        raise UsageError(f"{path}: holds {found!r}, not {kind!r}; make one with `amefu {kind}`")
    return cast(dict[str, Any], header)
