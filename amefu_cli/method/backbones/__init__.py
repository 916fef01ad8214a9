"""The table of libraries that backbones come from. Adding one is a file of this folder and a row here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from amefu_cli.errors import UsageError
from amefu_cli.method import Row

if TYPE_CHECKING:
    from amefu_cli.method.backbones.network import Backbone


class Family(Protocol):
    """How one library's models are listed, built, and where their ImageNet weights are."""

    def names(self) -> Iterable[str]:
        """Every model that the library has; a tag after a dot may follow (timm's)."""

    def build(self, name: str) -> Backbone:
        """The model up to its pooled features, with random weights, on the CPU."""

    def source(self, name: str) -> str:
        """Where its ImageNet weights are: "https://…-HASH.pth", "pip:PACKAGE/FILE#SHA256" or "hub:NAME"."""


# prefix of a backbone's name -> a module that is a Family; the title is how a name of it is written
FAMILIES: Mapping[str, Row] = {
    "": Row("a torchvision classification model", "backbones.torchvision"),
    "timm": Row("timm:NAME", "backbones.timm"),
}


def build_backbone(name: str) -> Backbone:
    """The backbone `name` with random weights, on the CPU. UsageError: unknown name, missing extra."""
    family, model = family_of(name)
    return family.build(model)


def imagenet_source(name: str) -> str:
    """Where ImageNet weights of `name` are, as its family says."""
    family, model = family_of(name)
    return family.source(model)


def family_of(name: str) -> tuple[Family, str]:
    """The family, whose library is loaded, and the name within it; UsageError with the names that come near."""
    prefix, colon, rest = name.rpartition(":")
    if prefix not in FAMILIES:
        raise UsageError(f"backbone '{name}': unknown library '{prefix}'; write {_titles()}")
    family = cast(Family, FAMILIES[prefix].load())
    known = set(family.names())
    if rest.partition(".")[0] not in known:
        near = difflib.get_close_matches(rest, sorted(known), n=3, cutoff=0.5)
        hint = " or ".join(f"{prefix}{colon}{match}" for match in near) or "a name that the library lists"
        raise UsageError(f"backbone '{name}' is not known; did you mean {hint}?")
    return family, rest


def _titles() -> str:
    return " or ".join(row.title for row in FAMILIES.values())
