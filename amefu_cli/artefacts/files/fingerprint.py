"""What artefacts say of themselves: fingerprints, the difference between two headers, and headers as dataclasses."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from amefu_cli.errors import DamagedFile, SettingsMismatch, UsageError

Header = TypeVar("Header")
hints_of = functools.cache(get_type_hints)
ONNX_DATA = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x01-\x7f])")
"""Of a tensor whose values are in another file (protobuf): a key `location`, and the length of the name after it."""


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


def onnx_data(path: Path) -> list[Path]:
    """The files beside an ONNX model that hold its weights, sorted. Raises UsageError where one is not there."""
    content, names = path.read_bytes(), set()
    for match in ONNX_DATA.finditer(content):
        length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(match[1]))
        names.add(content[match.end() : match.end() + length].decode(errors="surrogateescape"))
    for name in sorted(names):
        if not (path.parent / name).is_file():
            raise UsageError(f"{path}: has its weights in {name!r}, which is not beside it; copy that too")
    return [path.parent / name for name in sorted(names)]


def path_identity(path: Path) -> str:
    """The hash of a file's bytes, or of several by name: all of a folder, an ONNX model with those of its weights.
    Raises UsageError where nothing is there."""
    if not path.exists():
        raise UsageError(f"{path}: no such file of weights")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    elif path.suffix == ".onnx" and (data := onnx_data(path)):
        files = [path, *data]
    else:
        return file_sha256(path)[:16]
    below = path if path.is_dir() else path.parent
    return fingerprint([["" if file == path else str(file.relative_to(below)), file_sha256(file)] for file in files])


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two groups of settings say differently, one line each: `runs: 1 in the file, 2 asked for`.

    >>> differences({"runs": 1, "views": 2}, {"runs": 2, "views": 2})
    ['runs: 1 in the file, 2 asked for']
    """
    lines = []
    for name in sorted(found.keys() | expected.keys()):
        here, there = found.get(name), expected.get(name)
        if isinstance(here, Mapping | None) and isinstance(there, Mapping | None):
            lines += differences(here or {}, there or {}, f"{prefix}{name}.")
        elif here != there:
            here, there = ("nothing" if value is None else value for value in (here, there))
            lines.append(f"{prefix}{name}: {here} in the file, {there} asked for")
    return lines


def otherwise_made(path: Path, how: str, command: str, other: str) -> SettingsMismatch:
    """The refusal of an artefact that is there, made otherwise than `command` would make it; `other` is a new name."""
    fix = f"keep it and make a second one with `{command} --out {other}`, or replace it with `{command} --rebuild`"
    return SettingsMismatch(f"{path}: {how}; {fix}")


@dataclass(frozen=True)
class Provenance:
    """Where weights come from, as stores and checkpoints record it."""

    source: str
    sha256: str
    licence: str | None


def recorded(kind: type[Header], document: object, where: object, command: str = "") -> Header:
    """The dataclass `kind` that the header of `where` holds as JSON. Fields may be plain values, dataclasses, tuples of
    one type, mappings by name, and any of these or None. Raises DamagedFile, which names the `command` that makes it
    again, where one is missing, unknown (as another version wrote it), of another type or out of range."""
    try:
        return parsed(kind, document)
    except (TypeError, ValueError, UsageError) as error:
        fix = f"make it again with `{command} --rebuild`" if command else "make it again with --rebuild"
        message = f"{where}: its header does not hold a {kind.__name__} of this version ({error}); {fix}"
        raise DamagedFile(message) from error


def parsed(kind: type[Header], document: object) -> Header:
    """As `recorded`, for what can not be made again by --rebuild: raises TypeError, ValueError or UsageError."""
    return cast(Header, _value(kind, document, kind.__name__))


def _value(hint: Any, value: object, name: str) -> object:
    if hint in (Any, object):
        return value
    kinds = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    if value is None and NoneType in kinds:
        return None
    (kind, *_) = (kind for kind in kinds if kind is not NoneType)
    if is_dataclass(kind):
        return _dataclass(cast(type, kind), value, name)
    origin, of = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(of[0], item, name) for item in value)
    if origin is Mapping and isinstance(value, dict):
        return {key: _value(of[1], item, f"{name}.{key}") for key, item in value.items()}
    accepted = (int, float) if kind is float else origin or kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):  # True is an int to Python
        raise TypeError(f"{name!r} is {value!r}")
    return value


def _dataclass(kind: type, document: object, name: str) -> object:
    if not isinstance(document, dict):
        raise TypeError(f"{name!r} is {document!r}")
    hints = hints_of(kind)
    names = {field.name for field in fields(kind)}
    if unknown := document.keys() - names:
        raise TypeError(f"{name!r} has no field {min(unknown)!r}")
    needed = (field.name for field in fields(kind) if field.default is field.default_factory is MISSING)
    if missing := [field for field in needed if field not in document]:
        raise TypeError(f"{name!r} lacks {', '.join(missing)}")
    return kind(**{key: _value(hints[key], value, key) for key, value in document.items()})
