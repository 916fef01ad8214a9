"""Headers as dataclasses: read from JSON field by field, so that what is not there or of another type is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from amefu_cli.errors import DamagedFile, UsageError

Header = TypeVar("Header")


def recorded(kind: type[Header], document: object, where: object) -> Header:
    """The dataclass `kind` that the header of `where` holds as JSON.

    Fields may be plain values, dataclasses, tuples of one type, mappings by name, and any of these or None.

    Raises:
        DamagedFile: a field is missing, unknown, of another type or out of range.
    """
    try:
        return parsed(kind, document)
    except (TypeError, ValueError, UsageError) as error:
        raise DamagedFile(
            f"{where}: its header does not hold a {kind.__name__} ({error}); make it again with --rebuild"
        ) from error


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
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    if unknown := document.keys() - names:
        raise TypeError(f"{name!r} has no field {min(unknown)!r}")
    needed = (field.name for field in fields(kind) if field.default is field.default_factory is MISSING)
    if missing := [field for field in needed if field not in document]:
        raise TypeError(f"{name!r} lacks {', '.join(missing)}")
    return kind(**{key: _value(hints[key], value, key) for key, value in document.items()})
