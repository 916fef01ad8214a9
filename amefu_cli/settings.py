"""Every default, unit and range check of every stage: the one place that owns them.

A recipe is a frozen dataclass; each of its fields becomes a command-line option (`commands/options.py`), a key
of `amefu.toml`, and a line of the header of what the stage writes. Defaults are the paper's (arXiv:2010.09982).
What does not change a stage's output (devices, processes, time limits) is kept apart, in the `…Run` classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from amefu_cli.errors import UsageError
from amefu_cli.method import Row, either
from amefu_cli.method.backbones import FAMILIES
from amefu_cli.method.depth import ENCODINGS, ESTIMATORS
from amefu_cli.method.geometry import GEOMETRIES
from amefu_cli.method.heads import CLASSIFIERS, DEPTHS, FUSIONS, HEADS, LOSSES, MODELS, TEST_CLIPS, Model

DEPTH_PERCENTILE = 95.0  # of a frame's disparities: where they are clipped before they are stored
MOSTLY = 0.5  # the share of a stream's features that are the same in every frame from which on it is warned of
NEAR_CHANCE = 0.02  # above the accuracy of guessing, or of the loss below that of it: what was trained learned nothing

Default = TypeVar("Default")


def option(
    default: Default, help: str, *, minimum: float | None = None, maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Default:  # fmt: skip
    """A field of a recipe: its default, its help text with the unit, and what values it takes."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": choices}
    result: Default = dataclasses.field(default=default, metadata=metadata)
    return result


def same(kind: type[Settings], name: str, more: str = "", *, default: object = None) -> Any:
    """The option `name` of other settings once more, with `more` of a help text or another default."""
    field = kind.__dataclass_fields__[name]
    metadata = {**field.metadata, "help": field.metadata["help"] + more}
    return dataclasses.field(default=field.default if default is None else default, metadata=metadata)


def unsaid(kind: type[Settings], name: str, taken: str = "") -> Any:
    """The same, but None where it is not given; its help says what is `taken` then: else the default of `kind`."""
    field = kind.__dataclass_fields__[name]
    help = f"{field.metadata['help']} [{taken or field.default}]"
    return dataclasses.field(default=None, metadata={**field.metadata, "help": help})


def each(rows: Mapping[str, Row]) -> str:
    """The names of a table's rows with their titles, for a help text: `square: SIZE×SIZE pixels; …`."""
    return "; ".join(f"{name}: {row.title}" for name, row in rows.items())


@dataclass(frozen=True)
class Settings:
    """Base of all recipes: checks every field against its own type and range when one is made."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            flag, value = "--" + field.name.replace("_", "-"), getattr(self, field.name)
            check_type(flag, value, hints[field.name])
            _check_range(flag, value, field.metadata)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, for a header."""
        return dataclasses.asdict(self)


# What a value of each type may be, and how that is said. A number may stand for its digits (`episodes = 50`).
TYPES: Mapping[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str, int), "text"),
    list[str]: ((list,), "a list of texts"),
}


def check_type(name: str, value: Any, hint: Any) -> None:
    """Hold the value of an option against its type, one of TYPES or `… | None`; raises UsageError for another."""
    if value is None and NoneType in get_args(hint):
        return
    taken = next(kind for kind in (hint, *get_args(hint)) if kind in TYPES)
    kinds, words = TYPES[taken]
    if not isinstance(value, kinds) or isinstance(value, bool) != (taken is bool):  # True is an int to Python
        raise UsageError(f"{name} {value!r}: must be {words}")


def _check_range(flag: str, value: Any, metadata: Mapping[str, Any]) -> None:
    choices, minimum, maximum = (metadata[key] for key in ("choices", "minimum", "maximum"))
    if value is None:
        return
    if choices and value not in choices:
        raise UsageError(f"{flag} {value!r}: must be one of {', '.join(choices)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{flag} {value}: must be a finite number")
    if minimum is not None and value < minimum:
        raise UsageError(f"{flag} {value}: must be at least {minimum:g}")
    if maximum is not None and value > maximum:
        raise UsageError(f"{flag} {value}: must be at most {maximum:g}")


@dataclass(frozen=True)
class FramesSettings(Settings):
    """How clips become frames."""

    geometry: str = option("square", each(GEOMETRIES), choices=(*GEOMETRIES,))
    size: int = option(256, "height and width of a stored frame, pixels (square geometry)", minimum=16, maximum=4096)
    quality: int = option(95, "JPEG quality", minimum=1, maximum=100)
    checksum: bool = option(False, "know a source by the SHA-256 of its bytes instead of its size and time")


@dataclass(frozen=True)
class FramesRun(Settings):
    """How `frames` is run; nothing here changes a frame."""

    jobs: int = option(0, "processes that decode; 0: one for every core", minimum=0, maximum=1024)
    timeout: float = option(600.0, "seconds after which a video that does not finish counts as failed", minimum=0.1)
    allow_partial: bool = option(False, "keep and flag a video that breaks off midway")
    follow_links: bool = option(False, "follow symbolic links that leave VIDEOS")


PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class DepthSettings(Settings):
    """How frames become disparity."""

    estimator: str = option("monodepth2", either(ESTIMATORS))
    larger_is_farther: bool = option(False, "the model gives depth, not disparity (for onnx:FILE)")
    imagenet_input: bool = option(False, "the model takes ImageNet-normalised pixels, not 0..1 (for onnx:FILE)")
    resize: str = option(
        "bilinear", "how frames are brought to the size that the model takes", choices=("bilinear", "lanczos")
    )
    precision: str = option(
        "auto", "arithmetic of the network; auto: the store's, else the faster one here", choices=("auto", *PRECISIONS)
    )


@dataclass(frozen=True)
class DeviceRun(Settings):
    """Where a network runs; nothing here changes its output by more than rounding."""

    device: str = option("auto", "auto, cpu, cuda, cuda:N or mps")
    deterministic: bool = option(
        False,
        "float32, two threads and AVX2, whatever the CPU has: equal results on more machines, slower",
    )


@dataclass(frozen=True)
class NetworkRun(DeviceRun):
    """How a network is run over the frames of a store."""

    batch: int = option(64, "frames in one pass of the network", minimum=1, maximum=65536)


@dataclass(frozen=True)
class WorkRun(Settings):
    """Which videos one run takes."""

    only: list[str] | None = option(None, "id of a video to make again; repeat it for several")
    shard: str = option("auto", "i/n: the i-th (from 0) of n shares of the videos; auto: SLURM's array task; none")
    max_attempts: int = option(3, "runs after which a failing video is left alone", minimum=1)
    only_failed: bool = option(False, "take only the videos that failed before, whatever their attempts")


BUILT_IN = ("kinetics100", "ucf101", "hmdb51", "ssv2-small")  # splits of the field that are known by name
DEFAULT_SPLIT_RATIO = "64:12:24"  # Kinetics-100 of the paper: base, validation, novel


@dataclass(frozen=True)
class SplitSettings(Settings):
    """Which classes are base, validation and novel, where no split file says it."""

    split_ratio: str | None = option(
        None, f"base:validation:novel shares of the class names, drawn once and written down [{DEFAULT_SPLIT_RATIO}]"
    )
    split_seed: int | None = option(None, "seed of that draw [0]", minimum=0)


@dataclass(frozen=True)
class ClipSettings(Settings):
    """How a clip of frames is taken from a video, in training."""

    segments: int = option(4, "equal parts that a video is cut into", minimum=1, maximum=64)
    frames_per_segment: int = option(4, "consecutive frames taken from each part", minimum=1, maximum=64)


@dataclass(frozen=True)
class StreamSettings(Settings):
    """What one stream's network is and sees."""

    backbone: str = option("resnet50", either(FAMILIES))
    weights: str = option("imagenet", "imagenet, none or a file: what the backbone starts from")
    crop: int = option(224, "height and width of the network's input, pixels", minimum=16, maximum=4096)
    depth_encoding: str = option("magma", "how disparity becomes three channels", choices=(*ENCODINGS,))


@dataclass(frozen=True)
class FallbackSettings(Settings):
    """What `features` takes for a stream that was never pretrained."""

    backbone: str | None = unsaid(StreamSettings, "backbone", f"the other stream's, else {StreamSettings.backbone}")
    weights: str = option("imagenet", "imagenet, none or a file: what the backbone's weights are")
    crop: int | None = unsaid(StreamSettings, "crop", f"the other stream's, else {StreamSettings.crop}")
    depth_encoding: str = same(StreamSettings, "depth_encoding")

    def settled(self, other: StreamSettings) -> StreamSettings:
        """The stream, like the `other` one in what is not said, so that the features of both are equally wide."""
        return StreamSettings(
            self.backbone or other.backbone, self.weights, self.crop or other.crop, self.depth_encoding
        )


ONE_QUERY, MOST_QUERIES = "one", 1000


@dataclass(frozen=True)
class TaskShape(Settings):
    """How large an episode is."""

    way: int = option(5, "classes an episode", minimum=2, maximum=1000)
    shot: int = option(1, "support videos a class", minimum=1, maximum=1000)
    queries: str = option("1", f"query videos a class; {ONE_QUERY}: a single one an episode, of one of its classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "queries", text := str(self.queries))  # a number in amefu.toml stays one
        if text != ONE_QUERY and not (text.isdecimal() and 1 <= int(text) <= MOST_QUERIES):
            raise UsageError(f"--queries {text!r}: must be a number from 1 to {MOST_QUERIES}, or {ONE_QUERY}")

    @property
    def one_query(self) -> bool:
        """Whether an episode has a single query, as the paper's have (§3.3)."""
        return self.queries == ONE_QUERY

    @property
    def queries_each(self) -> int:
        """How many queries each class has that has some."""
        return 1 if self.one_query else int(self.queries)


@dataclass(frozen=True)
class Sgd(Settings):
    """What every training says of its optimizer, besides its learning rates."""

    momentum: float = option(0.9, "SGD momentum", minimum=0.0, maximum=1.0)
    weight_decay: float = option(0.0, "SGD weight decay", minimum=0.0)
    decay_after: int = option(0, "epochs after which the learning rates fall by ×0.1; 0: never", minimum=0)


@dataclass(frozen=True)
class PretrainSettings(Sgd):
    """How one stream is fine-tuned on the base classes (the paper's §4.2)."""

    epochs: int = option(6, "passes over the base videos (depth: 60)", minimum=1, maximum=10_000)
    videos_per_batch: int = option(6, "videos a step", minimum=1, maximum=4096)
    backbone_rate: float = option(1e-4, "learning rate of the backbone", minimum=0.0)
    classifier_rate: float = option(1e-3, "learning rate of the linear classifier (depth: 0.0001)", minimum=0.0)
    decay_after: int = same(Sgd, "decay_after", " (depth: 30)")
    flip: float = option(0.0, "probability of a horizontal flip of a whole clip", minimum=0.0, maximum=1.0)
    frozen_norm: bool = option(False, "keep BatchNorm's statistics as they are, for few videos a step")
    zero_classifier: bool = option(False, "start the classifier at zero, not at PyTorch's random weights")
    held_out: float = option(
        0.0, "share of every base class's videos held out; the best epoch on them is kept, without any the last one",
        minimum=0.0, maximum=0.5,
    )  # fmt: skip
    seed: int = option(0, "seed of order, frames, crops and classifier", minimum=0)
    precision: str = option(
        "float32", "arithmetic of forward and backward; auto: the faster one here", choices=("auto", *PRECISIONS)
    )


@dataclass(frozen=True)
class FeaturesSettings(Settings):
    """Which frames, views and arithmetic the feature store holds."""

    runs: int = option(
        0,
        "base and validation videos: runs of consecutive frames in each segment that are kept, spread evenly; 0: every "
        "frame",
        minimum=0, maximum=1000,
    )  # fmt: skip
    novel_frames: str = option(
        "auto", "novel videos: auto: the frames that evaluation reads; dense: as the others", choices=("auto", "dense")
    )
    views: int = option(
        2,
        "random crops of base videos besides the centre one: training draws one of all whenever it draws a video; each "
        "takes the time and bytes of the centre one again",
        minimum=0, maximum=64,
    )  # fmt: skip
    flip: float = option(
        0.0, "probability that a random crop is mirrored, in both streams alike", minimum=0.0, maximum=1.0
    )
    test_frames: str = option("middle", "frames of a video that testing reads", choices=(*TEST_CLIPS,))
    seed: int = option(0, "seed of the random crops", minimum=0)
    precision: str = option(
        "float32",
        "arithmetic of the networks; bfloat16 is twice as fast, and changes features by a few per cent",
        choices=PRECISIONS,
    )


@dataclass(frozen=True)
class Protocol(Settings):
    """On what an imported checkpoint was trained and tested; what `frames`, `depth` and `features` then do unasked."""

    geometry: str = same(FramesSettings, "geometry")
    resize: str = same(DepthSettings, "resize")
    test_frames: str = same(FeaturesSettings, "test_frames")
    flip: float = same(FeaturesSettings, "flip")


@dataclass(frozen=True)
class MetaTrainSettings(Sgd, TaskShape):
    """How the fusion is meta-trained (the paper's §3.4 and §4.2)."""

    fusion: str = option("dgadain", f"how depth guides RGB: {each(FUSIONS)}", choices=(*FUSIONS,))
    num_aug: int = option(2, "asynchronous depth clips an episode besides the matched one", minimum=0, maximum=64)
    matched: bool = option(False, "the matched clip in place of asynchronous ones: as many steps without asynchrony")
    depth_of: str = option(
        "own", f"whose depth, in training and evaluation; others are controls: {each(DEPTHS)}", choices=(*DEPTHS,)
    )
    epochs: int = option(6, "epochs", minimum=1, maximum=10_000)
    episodes: int = option(2000, "episodes an epoch", minimum=1)
    learning_rate: float = option(2e-5, "SGD learning rate", minimum=0.0)
    temperature: float = option(1.0, "factor on the logits", minimum=1e-3, maximum=1e4)
    learn_temperature: bool = option(False, "train the temperature too, from where it is set")
    loss: str = option("cross_entropy", each(LOSSES), choices=(*LOSSES,))
    classifier: str = option(
        "cosine", "how a query is compared with the prototypes in training; evaluate: --head", choices=(*CLASSIFIERS,)
    )
    validation_episodes: int = option(1000, "episodes of the validation classes after every epoch", minimum=1)
    queries: str = same(TaskShape, "queries", default=ONE_QUERY)
    seed: int = option(0, "seed of episodes, frames and first weights", minimum=0)


LEARNED = tuple(name for name, row in HEADS.items() if row.learns)  # what `meta-train --head` takes


@dataclass(frozen=True)
class HeadTrainSettings(MetaTrainSettings):
    """How a head is meta-trained, beside what a fusion's training says; `--head` sets defaults of its own."""

    model: str = option("amefu", "with --head: whose frames it reads, as evaluate spells it; a fusion stays as it is")
    optimizer: str = option("sgd", "with --head: the optimizer", choices=("sgd", "adam"))
    nesterov: bool = option(False, "with --head: Nesterov's momentum")
    accumulation: int = option(1, "with --head: episodes a step, whose mean loss it lowers", minimum=1, maximum=10_000)

    def of_head(self) -> HeadTrainSettings:
        """What a head's training depends on: what only a fusion's does is as it would be if it were not given."""
        of_fusion = (
            "fusion", "num_aug", "matched", "depth_of", "temperature", "learn_temperature", "loss", "classifier",
        )  # fmt: skip
        return dataclasses.replace(self, **{name: getattr(MetaTrainSettings, name) for name in of_fusion})

    def of_fusion(self) -> MetaTrainSettings:
        """What a fusion's training depends on."""
        names = (field.name for field in dataclasses.fields(MetaTrainSettings))
        return MetaTrainSettings(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class EpisodesSettings(TaskShape):
    """Which episodes of the novel classes are drawn (the paper's §4.2)."""

    count: int = option(10_000, "episodes", minimum=2, maximum=10_000_000)
    seed: int = option(0, "seed of the episodes", minimum=0)


_OTHERS = [f"{row.head} for {name}" for name, row in MODELS.items() if row.head != Model.head]


@dataclass(frozen=True)
class EvaluateSettings(Settings):
    """Which episodes are classified, and how (the paper's §4.2)."""

    model: str = option(
        "amefu", f"a row of the paper's tables ({', '.join(MODELS)}), or a further stream of the feature store"
    )
    way: int | None = unsaid(EpisodesSettings, "way")
    shot: int | None = unsaid(EpisodesSettings, "shot")
    queries: str | None = unsaid(EpisodesSettings, "queries")
    episodes: str = option(
        str(EpisodesSettings.count),
        "how many to draw, or a file of `amefu episodes`, which then says way, shot and queries",
    )
    head: str | None = option(
        None,
        f"how queries are scored: {', '.join(HEADS)} [that of the model: {', or '.join([Model.head, *_OTHERS])}]",
        choices=(*HEADS,),
    )
    seed: int | None = unsaid(EpisodesSettings, "seed")

    @property
    def given(self) -> dict[str, Any]:
        """What is asked for of the episodes themselves."""
        asked = {name: getattr(self, name) for name in ("way", "shot", "queries", "seed")}
        return {name: value for name, value in asked.items() if value is not None}

    def episodes_to_draw(self) -> EpisodesSettings | None:
        """What to draw; None where `episodes` names a file."""
        text = str(self.episodes)  # a number in amefu.toml stays one
        if not text.removeprefix("-").isdecimal():
            return None
        try:
            return EpisodesSettings(count=int(text), **self.given)
        except UsageError as error:
            raise UsageError(str(error).replace("--count", "--episodes")) from error


@dataclass(frozen=True)
class PredictSettings(Settings):
    """How clips are labelled by a few examples of each class."""

    model: str | None = option(None, "as evaluate spells it [amefu where a fusion is trained, else rgb]")
    head: str | None = same(EvaluateSettings, "head")
    top: int = option(2, "labels shown of each clip, the likeliest first", minimum=1, maximum=1000)
    reject: str = option("never", "probability below which a clip is none of these; auto: found on the examples; never")

    window: float | None = option(None, "of long videos: label stretches of so many seconds", minimum=0.01)
    every: float | None = option(None, "seconds from one stretch to the next [those of --window]", minimum=0.01)

    def windows(self) -> tuple[float, float] | None:
        """Length and distance of the stretches in seconds. Raises UsageError for `every` without `window`."""
        if self.window is None and self.every is not None:
            raise UsageError(f"--every {self.every:g}: is from one --window to the next, and none is given")
        return None if self.window is None else (self.window, self.every or self.window)

    def threshold(self) -> float | None:
        """The probability that `reject` names, None for auto, 0 for never. Raises UsageError for anything else."""
        text = str(self.reject)  # a number in amefu.toml stays one
        with suppress(ValueError):
            known = {"auto": None, "never": 0.0}
            value = known[text] if text in known else float(text)
            if value is None or 0 <= value <= 1:
                return value
        raise UsageError(f"--reject {text!r}: must be a probability from 0 to 1, auto or never")


@dataclass(frozen=True)
class AblateSettings(Settings):
    """Which tables are made, and of which episodes."""

    tables: str = option("1,2,3", "1, 2: the paper's comparisons; 3: its ablation; heads: every head on one model")
    shots: str = option("1-5", "support videos a class, such as 1-5 or 1,5")
    num_aug: str = option("1-3", "asynchronous clips of the last rows of table 3, such as 1-3 or 2,4")
    seeds: int = option(1, "trainings of each row that learns, by as many seeds", minimum=1, maximum=100)
    model: str = option("rgb", "of the table of heads: whose frames they read, as evaluate spells it")
    heads: str = option("all", "of the table of heads: which, such as prototype-cosine,otam,trx")
    way: int = same(EpisodesSettings, "way")
    queries: str = same(EpisodesSettings, "queries")
    episodes: int = option(EpisodesSettings.count, "episodes for every number of shots", minimum=2, maximum=10_000_000)
    seed: int = same(EpisodesSettings, "seed")


def parse_numbers(text: str, flag: str, *, minimum: int, maximum: int) -> tuple[int, ...]:
    """`1-3,5` as (1, 2, 3, 5); raises UsageError on anything else, and on a number out of range."""
    numbers: set[int] = set()
    for part in str(text).split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(first) > int(last)):
            raise UsageError(f"{flag} {text!r}: must be numbers and ranges, such as 1-3,5")
        if int(first) < minimum or int(last or first) > maximum:
            raise UsageError(f"{flag} {text!r}: must be from {minimum} to {maximum}")
        numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


@dataclass(frozen=True)
class DemoSettings(Settings):
    """How large the rendered world of `amefu demo` is."""

    clips: int = option(20, "clips a class", minimum=4, maximum=1000)
    length: int = option(24, "frames a clip", minimum=8, maximum=1000)
    fps: int = option(12, "frames a second", minimum=1, maximum=240)
    seed: int = option(0, "seed of the world", minimum=0)


# What a file of the public code can be, and the checkpoints that are taken from it (fusion: of a full one); and what
# ours can be written as.
IMPORTED = {"full": ("rgb", "depth", "fusion"), "rgb": ("rgb",), "depth": ("depth",), "fusion": ("fusion",)}
EXPORTED = ("full", "rgb", "depth")

# What the depth stream's pretraining does otherwise than the RGB stream's.
DEPTH_PRETRAIN: Mapping[str, Any] = {"epochs": 60, "classifier_rate": 1e-4, "decay_after": 30}

Defaults = Mapping[str, Mapping[str, Any]]
"""Values of options by command: what differs from the defaults above."""

_TINY_STREAM: Mapping[str, Any] = {"backbone": "timm:tf_efficientnet_lite0", "crop": 112}
_SMALL_DATA_SET: Defaults = {"meta-train": {"episodes": 1000, "learning_rate": 1e-5, "decay_after": 3}}

# What a data set is trained with. `paper` and `kinetics100` are the defaults themselves (the paper's §4.2).
PRESETS: Mapping[str, Defaults] = {
    "paper": {},
    "kinetics100": {},
    "ucf101": _SMALL_DATA_SET,
    "hmdb51": _SMALL_DATA_SET,
    "tiny": {
        "frames": {"size": 128},
        "depth": {"estimator": "tiny"},
        "pretrain": {
            **_TINY_STREAM, "epochs": 3, "backbone_rate": 5e-4, "classifier_rate": 1e-3, "decay_after": 0,
            "frozen_norm": True, "frames_per_segment": 2,
        },
        "features": {**_TINY_STREAM, "views": 0},
        "meta-train": {"epochs": 3, "episodes": 200},
    },
}  # fmt: skip

# Where the paper, its public code and practice part ways; what a recipe sets wins over the preset. The scale that
# the public code writes as 1 + FC(d) is the same function, so no option stands for it.
RECIPES: Mapping[str, Defaults] = {
    "paper": {},
    "official": {
        "frames": {"geometry": "official"},
        "depth": {"resize": "lanczos"},
        "pretrain": {"flip": 0.5},
        "features": {"flip": 0.5, "test_frames": "start"},
        "meta-train": {"loss": "double_softmax"},
    },
    # Chosen on validation classes alone; examples/tables.md has what was tried.
    "tuned": {
        "pretrain": {"zero_classifier": True, "held_out": 0.1, "precision": "auto"},
        "meta-train": {"temperature": 20.0, "learning_rate": 3e-4, "queries": "3"},
    },
}


def preset_defaults(preset: str, command: str) -> Mapping[str, Any]:
    """What `preset` sets for one command; raises UsageError for a preset that is not there."""
    return _row(PRESETS, preset, "--preset").get(command, {})


def recipe_defaults(recipe: str, command: str) -> Mapping[str, Any]:
    """What `recipe` sets for one command; raises UsageError for a recipe that is not there."""
    return _row(RECIPES, recipe, "--recipe").get(command, {})


def _row(table: Mapping[str, Defaults], name: str, flag: str) -> Defaults:
    if name not in table:
        raise UsageError(f"{flag} {name!r}: must be one of {', '.join(table)}")
    return table[name]


# What `amefu.toml` may hold, by command.
TABLES: Mapping[str, tuple[type[Settings], ...]] = {
    "frames": (FramesSettings, FramesRun),
    "depth": (DepthSettings, NetworkRun),
    "pretrain": (PretrainSettings, StreamSettings, ClipSettings, DeviceRun),
    "features": (FeaturesSettings, FallbackSettings, ClipSettings, NetworkRun),
    "meta-train": (HeadTrainSettings, DeviceRun),
    "episodes": (EpisodesSettings,),
    "evaluate": (EvaluateSettings, DeviceRun),
    "ablate": (AblateSettings, DeviceRun),
}
