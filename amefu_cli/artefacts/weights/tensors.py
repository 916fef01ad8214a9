"""Named tensors in the files of others: safetensors, torch pickles as trainers wrap them, zip archives of such."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import labelled_sha256
from amefu_cli.errors import AmefuError, DamagedFile, NotFinite, UsageError

LARGEST_BYTES = 8 << 30  # of the tensors of one file
LARGEST_MEMBER_BYTES = 512 << 20  # of one member of an archive, unpacked
LONGEST_HEADER = 1 << 27  # bytes of a safetensors file
STARTS = (b"PK", b"\x80")  # of a zip archive, of a pickle
FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what a pickle may not import
TOP_FOLDER = re.compile(r"[^/\\]+/")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which trainers put the weights, beside other things
PREFIXES = ("module.", "_orig_mod.")  # of all names, by DataParallel and by torch.compile

Tensors = dict[str, Tensor]


def read_tensors(path: Path, *, numbers: Collection[str] = ()) -> Tensors:
    """The named tensors of a safetensors file or of a torch pickle (see `read_pickle`).

    Raises UsageError (absent, a pickle that holds code), DamagedFile (truncated, no tensors in it) and NotFinite.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file of weights")
    try:
        with path.open("rb") as file:
            if path.suffix == ".safetensors" or is_safetensors(file):
                return read_safetensors(path)[0]
            return read_pickle(file, name=str(path), numbers=numbers)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def is_safetensors(file: IO[bytes]) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON object, and that."""
    head = file.read(9)
    file.seek(0)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < LONGEST_HEADER


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """The named tensors of a safetensors file and the text metadata of its header."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFile(f"{path}: not a safetensors file that can be read ({error})") from error
    return _checked(tensors, str(path)), metadata


def read_pickle(file: IO[bytes], *, name: str, numbers: Collection[str] = ()) -> Tensors:
    """The tensors of a pickled state dict, alone or as trainers wrap it; what is beside them is dropped, but for whole
    `numbers` of these names, which become tensors."""
    try:
        with warnings.catch_warnings():  # of unusual pickle protocols, which then load or fail
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        if found := FORBIDDEN.search(str(error)):
            raise UsageError(f"{name}: refused; it asks for {found[1]}, and weights hold tensors only") from error
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        file.seek(0)
        if not file.read(2).startswith(STARTS):
            reason = "it is neither a zip archive nor a pickle, as torch writes them"
        raise DamagedFile(f"{name}: not a torch file that can be read ({reason})") from error
    if not isinstance(content, Mapping):
        raise DamagedFile(f"{name}: holds a {type(content).__name__}, not a state dict of named tensors")
    content = _unwrapped(content)
    sizes = {key: torch.tensor(content[key]) for key in numbers if isinstance(content.get(key), int)}
    tensors = {str(key): value.detach() for key, value in content.items() if torch.is_tensor(value)}
    return _checked(tensors, name) | sizes


def _unwrapped(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The state dict inside of what a trainer has saved: under one of WRAPPERS, or the only one of tensors in there."""
    while not any(map(torch.is_tensor, content.values())) or any(name in content for name in WRAPPERS):
        below = {key: part for key, part in content.items() if isinstance(part, Mapping)}
        known = [below[name] for name in WRAPPERS if name in below]
        inner = known or [part for part in below.values() if any(map(torch.is_tensor, part.values()))]
        if not (known or len(inner) == 1):
            break
        content = inner[0]
    return content


def _checked(tensors: Tensors, name: str) -> Tensors:
    """The same tensors, once their number, size and values are seen to be sound."""
    if not tensors:
        raise DamagedFile(f"{name}: holds no tensors")
    # what the shapes ask for, which strides of 0 can make far more than the file holds
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > LARGEST_BYTES:
        raise DamagedFile(f"{name}: its tensors are larger than {LARGEST_BYTES >> 30} GiB")
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise NotFinite(f"{name}: {key!r} holds NaN or infinity; fetch or make the file again")
    while prefix := next((some for some in PREFIXES if all(key.startswith(some) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def read_zip(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The members `names`, each at the top of the archive or in one folder; nothing is extracted to a path.

    Raises UsageError (a member is not there) and DamagedFile.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read_member(archive, name, path) for name in names}
    except AmefuError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        raise DamagedFile(f"{path}: not a zip file that can be read ({error})") from error


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    for member in archive.infolist():
        folder = member.filename.removesuffix(name)
        if folder == member.filename or (folder and not TOP_FOLDER.fullmatch(folder)) or folder == "../":
            continue
        with archive.open(member) as file:
            content = file.read(LARGEST_MEMBER_BYTES + 1)
        if len(content) > LARGEST_MEMBER_BYTES:
            raise DamagedFile(f"{path}: {name} is larger than {LARGEST_MEMBER_BYTES >> 20} MiB")
        return content
    raise UsageError(f"{path}: holds no {name}, at its top or in one folder")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors in their order, as safetensors where the name says so, else as a torch pickle."""
    buffer = io.BytesIO()
    if path.suffix == ".safetensors":
        buffer.write(save(dict(tensors)))
    else:
        torch.save(OrderedDict(tensors), buffer)
    write_atomic(path, buffer.getvalue())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """One hash of names, types, shapes and values, whatever file and order they came in."""
    return labelled_sha256(
        (f"{name} {tensor.dtype} {tuple(tensor.shape)}", tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        for name, tensor in sorted(tensors.items())
    )
