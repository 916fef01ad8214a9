"""How a video's id becomes a path inside a store: one Zarr group for every folder of the id."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import quote, unquote_to_bytes

from amefu_cli.errors import UsageError

LONGEST_COMPONENT = 255  # bytes: the limit of a file name on the common file systems


def group_path(video: str) -> PurePosixPath:
    """The path of a video's group below `videos/`; raises UsageError if the id could leave the store.

    Letters, digits and most punctuation stay as they are. What a Zarr key or a file system reserves (control
    characters, `%`, `\\`, bytes that are not UTF-8, a leading dot or double underscore, the name `zarr.json`)
    is percent-encoded.

    >>> str(group_path("archery/v_03 (left)"))
    'archery/v_03 (left)'
    >>> str(group_path("a/50%"))
    'a/50%25'
    """
    components = video.split("/")
    if any(component in ("", ".", "..") for component in components) or "\0" in video:
        raise UsageError(f"video id {video!r} is not a relative path below a class folder")
    return PurePosixPath(*(_encode(component) for component in components))


def video_id(path: PurePosixPath) -> str:
    """The id whose group stands at `path`: the inverse of `group_path`."""
    return "/".join(unquote_to_bytes(component).decode("utf-8", "surrogateescape") for component in path.parts)


def _encode(component: str) -> str:
    encoded = "".join(_encode_character(character) for character in component)
    if component.startswith((".", "__")) or component == "zarr.json":
        encoded = f"%{ord(component[0]):02X}{encoded[1:]}"
    if len(encoded.encode()) > LONGEST_COMPONENT:
        raise UsageError(
            f"video id part {component[:40]!r}… needs {len(encoded.encode())} bytes as a file name; "
            f"the limit is {LONGEST_COMPONENT}: rename the clip"
        )
    return encoded


def _encode_character(character: str) -> str:
    if character.isprintable() and character not in "%\\":
        return character
    return quote(character.encode("utf-8", "surrogateescape"), safe="")
