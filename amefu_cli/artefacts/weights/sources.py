"""Weights that others have made: named tensors of their files, each with a record of where they come from."""

from __future__ import annotations

import hashlib
import importlib.resources
import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import Provenance, file_sha256, labelled_sha256, onnx_data
from amefu_cli.artefacts.weights.downloads import PINS, WEIGHTS_FILE, Cache, fetch, hub_files, package_file
from amefu_cli.errors import AmefuError, DamagedFile, NotFinite, UsageError

LARGEST_BYTES = 8 << 30  # of the tensors of one file
LARGEST_MEMBER_BYTES = 512 << 20  # of one member of an archive, unpacked
LONGEST_HEADER = 1 << 27  # bytes of a safetensors file
STARTS = (b"PK", b"\x80")  # of a zip archive, of a pickle
FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what a pickle may not import
WRAPPERS = ("state_dict", "model_state_dict", "model")  # under which trainers put the weights, beside other things
PREFIXES = ("module.", "_orig_mod.")  # of all names, by DataParallel and by torch.compile
LARGEST_CONFIG_BYTES = 1 << 20
MONODEPTH2_URL = "https://storage.googleapis.com/niantic-lon-static/research/monodepth2/mono_640x192.zip"
MONODEPTH2_DIGEST = "md5:a964b8356e08a02d009609d9e3928f7c"
MONODEPTH2_LICENCE = "Monodepth v2 licence (Niantic), non-commercial use only"
MONODEPTH2_MEMBERS = ("encoder.pth", "depth.pth")
HUB_MEMBERS = ("config.json", "preprocessor_config.json", WEIGHTS_FILE)
MONODEPTH2_SIZE = {"height": 192, "width": 640}  # what its published weights are for, and files that do not say
HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")  # torchvision: resnet50-0676ba61.pth
OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
"""Names of before torch forbade dots in them: `denselayer1.norm.1.weight`."""

Tensors = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


def read_tensors(path: Path, *, numbers: Collection[str] = ()) -> Tensors:
    """The named tensors of a safetensors file or of a torch pickle (see `read_pickle`). Raises UsageError (absent, a
    pickle that holds code), DamagedFile (truncated, no tensors in it) and NotFinite."""
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
    """The members `names`, each at the top of the archive or in one folder; nothing is extracted to a path. Raises
    UsageError (a member is not there) and DamagedFile."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read_member(archive, name, path) for name in names}
    except AmefuError:
        raise
    except Exception as error:  # a damaged archive can raise almost anything
        raise DamagedFile(f"{path}: not a zip file that can be read ({error})") from error


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    wanted = re.compile(rf"(?!\.\./)([^/\\]+/)?{re.escape(name)}")
    member = next((member for member in archive.infolist() if wanted.fullmatch(member.filename)), None)
    if member is None:
        raise UsageError(f"{path}: holds no {name}, at its top or in one folder")
    with archive.open(member) as file:
        content = file.read(LARGEST_MEMBER_BYTES + 1)
    if len(content) > LARGEST_MEMBER_BYTES:
        raise DamagedFile(f"{path}: {name} is larger than {LARGEST_MEMBER_BYTES >> 20} MiB")
    return content


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """One hash of names, types, shapes and values, whatever file and order they came in."""
    return labelled_sha256(
        (f"{name} {tensor.dtype} {tuple(tensor.shape)}", tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        for name, tensor in sorted(tensors.items())
    )


def load_depth_weights(kind: str, source: str | None, *, cache: Cache) -> tuple[Any, Provenance]:
    """What the row `kind` of the depth estimators is built from, and where that came from.

    "monodepth2", "tiny": dict of tensors; "onnx": bytes, or a path; "hf": {"config", "preprocessor", "tensors"}.
    `source` is what the user gave, or None for the estimator's own.
    """
    return DEPTH_LOADERS[kind](source, cache)


def monodepth2_weights(source: str | None, cache: Cache) -> tuple[Tensors, Provenance]:
    """Monodepth2's tensors from `source` (a folder or zip of encoder.pth and depth.pth, or a safetensors file), else
    from the cache, else from the authors' server, which is converted into the cache once."""
    tensors = _cached_monodepth2(cache) if source is None else _read_monodepth2(Path(source))
    return tensors, Provenance(source or MONODEPTH2_URL, tensors_sha256(tensors), MONODEPTH2_LICENCE)


def _cached_monodepth2(cache: Cache) -> Tensors:
    path = cache.place("monodepth2_mono_640x192.safetensors")
    if path.is_file():
        with suppress(DamagedFile):  # made again below
            tensors, header = read_safetensors(path)
            if header.get("tensors_sha256") == tensors_sha256(tensors):
                return tensors
    archive = fetch(MONODEPTH2_URL, digest=MONODEPTH2_DIGEST, cache=cache)
    tensors = _read_monodepth2(archive)
    header = {"source": MONODEPTH2_URL, "licence": MONODEPTH2_LICENCE, "tensors_sha256": tensors_sha256(tensors)}
    write_atomic(path, save(tensors, metadata=header))
    archive.unlink(missing_ok=True)
    return tensors


def _read_monodepth2(path: Path) -> Tensors:
    """One state dict, without the encoder's unused classifier, and with `height` and `width` where it is not for
    MONODEPTH2_SIZE."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder, zip or safetensors file of Monodepth2 weights")
    if path.is_dir():
        encoder, depth = (read_tensors(path / name, numbers=MONODEPTH2_SIZE) for name in MONODEPTH2_MEMBERS)
    elif path.suffix == ".zip":
        encoder, depth = (
            read_pickle(io.BytesIO(content), name=f"{path}/{name}", numbers=MONODEPTH2_SIZE)
            for name, content in read_zip(path, MONODEPTH2_MEMBERS).items()
        )
    else:
        return read_tensors(path)
    if all(int(encoder.get(name, size)) == size for name, size in MONODEPTH2_SIZE.items()):
        encoder = {name: tensor for name, tensor in encoder.items() if name not in MONODEPTH2_SIZE}
    return {name: tensor for name, tensor in encoder.items() if not name.startswith("encoder.fc.")} | depth


def tiny_weights(source: str | None, cache: Cache) -> tuple[Tensors, Provenance]:
    """The tensors of the small network that is part of the package, or those of the file `source`."""
    embedded = importlib.resources.files("amefu_cli.artefacts.files") / "data" / "tiny_depth.safetensors"
    with importlib.resources.as_file(embedded) as path:
        tensors = read_tensors(path if source is None else Path(source))
    return tensors, Provenance(source or "embedded in amefu", tensors_sha256(tensors), None if source else "MIT")


def onnx_weights(source: str | None, cache: Cache) -> tuple[bytes | str, Provenance]:
    """The bytes of an ONNX file; its path where its weights lie in files beside it, which onnxruntime reads."""
    if source is None or not Path(source).is_file():
        raise UsageError(f"onnx:{source or ''}: no such file; write onnx:FILE")
    path = Path(source)
    beside = onnx_data(path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if not beside:
        return content, Provenance(source, digest, None)
    parts = [digest, *map(file_sha256, beside)]
    return source, Provenance(source, hashlib.sha256("".join(parts).encode()).hexdigest(), None)


def hub_weights(source: str | None, cache: Cache) -> tuple[dict[str, Any], Provenance]:
    """Configuration, preprocessing and tensors of a Hugging Face model: a folder, or NAME[@REVISION]."""
    name, licence = source or next(iter(PINS)), None
    if Path(name).is_dir():
        paths = [Path(name, member) for member in HUB_MEMBERS]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise UsageError(f"{name}: holds no {', '.join(missing)} (a .bin pickle is not read)")
    else:
        name, paths = hub_files(name, HUB_MEMBERS, cache=cache)
        pin = PINS.get(name.partition("@")[0])
        licence = pin.licence if pin else None
    config, preprocessor = (_read_json(path) for path in paths[:2])
    weights = {"config": config, "preprocessor": preprocessor, "tensors": read_tensors(paths[2])}
    digest = hashlib.sha256("".join(map(file_sha256, paths)).encode()).hexdigest()
    return weights, Provenance(name, digest, licence)


def _read_json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = file.read(LARGEST_CONFIG_BYTES + 1)
    try:
        document = json.loads(content) if len(content) <= LARGEST_CONFIG_BYTES else None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise DamagedFile(f"{path}: not a JSON object of at most {LARGEST_CONFIG_BYTES >> 20} MiB")
    return document


DEPTH_LOADERS: dict[str, Callable[[str | None, Cache], tuple[Any, Provenance]]] = {
    "monodepth2": monodepth2_weights, "tiny": tiny_weights, "onnx": onnx_weights, "hf": hub_weights
}  # fmt: skip


def imagenet_weights(source: str, *, expected: Shapes, cache: Cache) -> tuple[Tensors, Provenance]:
    """ImageNet tensors, named and shaped exactly as `expected`; what a classifier has beyond it is dropped.

    `source` is "https://…-HASH.pth", "hub:NAME" or "pip:PACKAGE/FILE#SHA256" (tensors in `expected`'s order,
    under other names). Raises UsageError (no such package, other names or shapes), AmefuError, DamagedFile.
    """
    scheme, _, rest = source.partition(":")
    if scheme == "pip":
        found = read_tensors(package_file(rest))
        if len(found) < len(expected):
            raise UsageError(f"{source}: holds {len(found)} tensors, the network has {len(expected)}")
        tensors = dict(zip(expected, found.values(), strict=False))
    elif scheme == "hub":
        source, paths = hub_files(rest, (WEIGHTS_FILE,), cache=cache)
        tensors = read_tensors(paths[0])
    else:
        digest = HASH_IN_NAME.search(source)
        if digest is None:
            raise UsageError(f"{source}: its name holds no hash, so it cannot be checked")
        found = read_tensors(fetch(source, digest=f"sha256:{digest[1]}", cache=cache))
        tensors = {OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in found.items()}
    tensors = select_tensors(tensors, expected, source)
    return tensors, Provenance(source, tensors_sha256(tensors), None)


def select_tensors(tensors: Mapping[str, Tensor], expected: Shapes, name: str) -> Tensors:
    """The tensors of `expected`, in its order; UsageError names the first that is missing or misshapen. Files of before
    2018 lack BatchNorm's count of batches, which the features do not depend on: it is 0."""
    counts = [key for key in expected if key.endswith(".num_batches_tracked")]
    known = {**{key: torch.zeros((), dtype=torch.int64) for key in counts}, **tensors}
    for key, shape in expected.items():
        if key not in known:
            raise UsageError(f"{name}: holds no {key!r}, which the network needs; it is of another network")
        if known[key].shape != shape:
            raise UsageError(f"{name}: {key!r} has shape {tuple(known[key].shape)}, the network has {shape}")
    return {key: known[key] for key in expected}
