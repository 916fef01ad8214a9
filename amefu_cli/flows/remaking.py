"""The command line that makes an artefact again, from what its header says beyond the defaults."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from amefu_cli.artefacts.files.results import Result
from amefu_cli.artefacts.files.workspace import located, located_estimator, located_weights
from amefu_cli.artefacts.stores.header import DepthHeader, FeaturesHeader, FramesHeader, StoreHeader
from amefu_cli.artefacts.weights.headers import AnyCheckpoint, HeadHeader, StreamHeader, options_of
from amefu_cli.flows.session import Chosen, Config, defaults_of
from amefu_cli.flows.streams import IMAGENET
from amefu_cli.method.heads import MODELS, Model
from amefu_cli.settings import ONE_QUERY, TABLES

Values = Mapping[str, object]


@dataclass(frozen=True)
class Remaking:
    """Lines with the words that are `common` to all; `chosen` are the sets of defaults of what notes none of its own,
    `split` is the workspace's split.json."""

    common: Sequence[str]
    chosen: Chosen
    split: Path

    def of_store(self, path: Path, header: StoreHeader) -> str:
        """The line of frames, depth or features."""
        values: dict[str, object] = header.settings.as_dict()
        by = self._by(None, header.notes.recipe)
        if isinstance(header, FramesHeader):
            values["follow_links"] = header.notes.follow_links
            return by._line("frames", values, str(located(header.notes.videos, path)))
        if isinstance(header, DepthHeader):
            values["estimator"] = located_estimator(str(values["estimator"]), path)
            weights = header.notes.weights
            return by._line("depth", values, *(["--weights", str(located(weights, path))] if weights else []))
        if not isinstance(header, FeaturesHeader):
            raise TypeError(f"a store of {header.kind!r}")
        words = ["--basenet"] if IMAGENET in header.streams else []
        for name, row in header.streams.items():
            loaded = located_weights(header.notes.weights.get(name, ""), path)
            if name not in header.notes.weights:  # a checkpoint, which has a line of its own
                continue
            if name == "rgb":
                values |= {"backbone": row.backbone, "crop": row.crop, "weights": loaded}
            elif name not in ("depth", IMAGENET):
                reads = "depth:" if row.reads == "depth" else ""
                words += ["--stream", f"{name}={reads}{row.backbone}@{loaded}"]
        return by._line("features", values | header.clip.as_dict(), *words)

    def of_checkpoint(self, path: Path, header: AnyCheckpoint) -> str:
        """The line of a training; empty for what was imported."""
        if header.training is None:
            return ""
        values: dict[str, object] = options_of(header)
        by = self._by(header.notes.preset, header.notes.recipe)
        if isinstance(header, StreamHeader):
            weights = header.notes.weights
            values |= {"weights": located_weights(weights, path)} if weights else {}
            out = self._out(path, f"{header.role}.safetensors")
            return by._line("pretrain", values, "--modality", header.role, *out, variant=header.role)
        if isinstance(header, HeadHeader):
            default = f"{header.model}-{header.head}.safetensors"
            out = self._out(path, default)
            return by._line("meta-train", values, "--head", header.head, *out, variant=header.head)
        return by._line("meta-train", values, *self._out(path, "fusion.safetensors"))

    def of_result(self, result: Result) -> str:
        """The line of an evaluation; its episodes may be of a file."""
        asked = result.asked
        values: dict[str, object] = {name: getattr(asked, name) for name in ("model", "way", "shot", "seed")}
        usual = MODELS[asked.model].head if asked.model in MODELS else Model.head
        values |= {"head": None if asked.head == usual else asked.head}
        values |= {"queries": ONE_QUERY if asked.one_query else str(asked.queries)}
        values |= {"episodes": "FILE" if asked.seed is None else str(asked.episodes)}
        return self._line("evaluate", values, *self._out(result.path, asked.file_name))

    def _by(self, preset: str | None, recipe: str | None) -> Self:
        """The same by the sets that an artefact notes."""
        return replace(self, chosen=Chosen(preset or self.chosen.preset, recipe or self.chosen.recipe))

    def _out(self, path: Path, default: str) -> list[str]:
        return [] if path.name == default else ["--out", str(path)]

    def with_split(self, lines: Sequence[str]) -> Iterator[str]:
        """The same lines, of which the first that reads the split says how it came about; later ones find it there."""
        more = shlex.join(self._split())
        for line in lines:
            reads = line.split()[1:2] in (["pretrain"], ["features"], ["meta-train"], ["evaluate"])
            yield f"{line} {more}" if reads and more else line
            more = "" if reads else more

    def _split(self) -> Iterator[str]:
        with suppress(OSError, ValueError):
            document = json.loads(self.split.read_bytes())
            if source := document.get("source"):
                yield from ("--split", str(source))
            elif "ratio" in document:
                yield from ("--split-ratio", str(document["ratio"]), "--split-seed", str(document.get("seed", 0)))

    def _line(self, command: str, values: Values, *words: str, variant: str | None = None) -> str:
        defaults = defaults_of(command, Config(), self.chosen, variant)
        typed = ["amefu", command, *words, *self.common]
        for name, chosen in (("--preset", self.chosen.preset), ("--recipe", self.chosen.recipe)):
            typed += [name, chosen] if chosen != "paper" else []
        for field in (field for group in TABLES[command] for field in dataclasses.fields(group)):
            value, flag = values.get(field.name), field.name.replace("_", "-")
            if value is None or value == defaults.get(field.name, field.default):
                continue
            typed += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
        return shlex.join(typed)
