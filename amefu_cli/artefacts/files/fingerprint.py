"""Fingerprints: short hashes of what an artefact was made by and from, and the difference between two of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the parts as canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def labelled_sha256(parts: Iterable[tuple[str, Any]]) -> str:
    """One SHA-256 of several (label, bytes), which tells any change of either, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for label, content in parts:
        digest.update(f"{label}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What two groups of settings say differently, one line each: `stride: 1 in the file, 2 asked for`.

    >>> differences({"stride": 1, "views": 2}, {"stride": 2, "views": 2})
    ['stride: 1 in the file, 2 asked for']
    """
    return list(_differences(found, expected, ""))


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str) -> Iterable[str]:
    for name in sorted(found.keys() | expected.keys()):
        here, there = found.get(name), expected.get(name)
        if here == there:
            continue
        if isinstance(here or {}, Mapping) and isinstance(there or {}, Mapping):
            yield from _differences(here or {}, there or {}, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}: {_shown(here)} in the file, {_shown(there)} asked for"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


@dataclass(frozen=True)
class Provenance:
    """Where weights come from, as stores and checkpoints record it."""

    source: str
    sha256: str
    licence: str | None
