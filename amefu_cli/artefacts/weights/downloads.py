"""Downloaded weights: files of the web in our cache (fetched to a temporary name, checked by their hash, then renamed),
and models of the Hugging Face hub in its own (a pinned revision, safetensors only, offline if asked)."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from ssl import SSLError
from typing import cast
from urllib import request
from urllib.error import URLError
from urllib.parse import unquote, urlsplit

from amefu_cli.artefacts.files.atomic import sync, temporary_beside, write_atomic
from amefu_cli.artefacts.files.fingerprint import file_sha256
from amefu_cli.errors import AmefuError, DamagedFile, UsageError

SILENCE_SECONDS = 30.0  # a server that says nothing for this long has stalled
SLOWEST_BYTES_PER_SECOND = 1024  # one that drips slower than this has stalled too
LARGEST_BYTES = 4 << 30
ATTEMPTS = 2
UNREACHABLE = (URLError, TimeoutError, ConnectionError, SSLError, HTTPException, ValueError)
DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}")
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Pin:
    """The one revision of a model that is used, the hash of its weights file, and its licence."""

    commit: str
    sha256: str
    licence: str


PINS = {
    "depth-anything/Depth-Anything-V2-Small-hf": Pin(
        "5426e4f0f36572d16453bbda7a8389317b1bef99",
        "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70", "Apache-2.0",
    )
}  # fmt: skip
REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Cache:
    """Where downloads are kept, whether the network may be used, and how long a server may stay silent."""

    folder: Path
    offline: bool
    timeout_seconds: float = SILENCE_SECONDS

    def place(self, *parts: str) -> Path:
        """A path in the cache. Raises UsageError where it lies in a home that this user does not have."""
        if self.folder.parts[:1] == ("~",):
            raise UsageError(f"{self.folder}: this user has no home to cache weights in; set AMEFU_CACHE to a folder")
        return self.folder.joinpath(*parts)


def cache_from_environment(environment: Mapping[str, str] = os.environ) -> Cache:
    """`AMEFU_CACHE` (~/.cache/amefu), offline where `AMEFU_OFFLINE` or `HF_HUB_OFFLINE` says so."""
    folder = Path(environment.get("AMEFU_CACHE") or "~/.cache/amefu")
    with suppress(RuntimeError):  # no HOME and no entry of the user: said when it is used
        folder = folder.expanduser()
    switches = (environment.get(name, "").lower() for name in ("AMEFU_OFFLINE", "HF_HUB_OFFLINE"))
    return Cache(folder, offline=any(switch in {"1", "true", "yes", "on"} for switch in switches))


def fetch(url: str, *, digest: str, cache: Cache) -> Path:
    """Path of the cached file of `url`, checked by `digest`: "md5:…", or "sha256:…" and its first digits. What is wrong
    or truncated is fetched once more. Raises UsageError (not http, not a digest) and AmefuError (exit 1): offline and
    not in the cache; unreachable; wrong twice, with both hashes."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise UsageError(f"{url}: only http and https are fetched")
    if not DIGEST.fullmatch(digest):
        raise UsageError(f"{url}: '{digest}' is not a digest; write sha256:… (8 to 64 digits) or md5:…")
    path = cache.place("downloads", _file_name(url, digest))
    problem = _mismatch(path, digest) if path.is_file() else "not in the cache"
    if problem is None:
        return path
    if cache.offline:
        why = "AMEFU_OFFLINE or HF_HUB_OFFLINE is set"
        raise AmefuError(f"{url}: {problem}, and {why}; put the file with {digest} at {path}")
    for _ in range(ATTEMPTS):
        if (problem := _fetch_once(url, path, digest, cache.timeout_seconds)) is None:
            return path
    raise AmefuError(f"{url}: {problem}, {ATTEMPTS} times; try again, or put the file with {digest} at {path}")


def _file_name(url: str, digest: str) -> str:
    """A name that cannot leave its folder and that no other digest shares."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return f"{digest.partition(':')[2][:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', last)[-100:]}"


def _mismatch(path: Path, digest: str) -> str | None:
    """Why the file is not the one of `digest`, or None where it is."""
    algorithm, _, expected = digest.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    return None if found.startswith(expected) else f"found {algorithm}:{found}, expected {digest}"


def _fetch_once(url: str, path: Path, digest: str, timeout_seconds: float) -> str | None:
    """Download, check and rename; the reason where that failed. Two processes at once do no harm."""
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, temporary, timeout_seconds)
        problem = _mismatch(temporary, digest)
        if problem is None:
            sync(temporary)
            os.replace(temporary, path)
        return problem
    except UNREACHABLE as error:
        return str(error) or type(error).__name__
    except OSError as error:  # the disk, not the network: trying again would not help
        raise AmefuError(f"{path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _download(url: str, path: Path, timeout_seconds: float) -> None:
    """Write what the server sends to `path`, within bounds of size and time."""
    started, received = time.monotonic(), 0
    with _open(url, timeout_seconds) as response, path.open("wb") as file:
        while block := response.read1(1 << 20):
            received += len(block)
            elapsed = time.monotonic() - started
            if received > LARGEST_BYTES:
                raise ValueError(f"larger than {LARGEST_BYTES >> 30} GiB")
            if elapsed > timeout_seconds and received < elapsed * SLOWEST_BYTES_PER_SECOND:
                raise TimeoutError(f"stalled: {received} bytes in {elapsed:.0f} s")
            file.write(block)


def _open(url: str, timeout_seconds: float) -> HTTPResponse:
    """The response to a GET; redirects are followed to http and https and to nowhere else."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPRedirectHandler,
        request.HTTPErrorProcessor, request.HTTPDefaultErrorHandler, request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    asked = request.Request(url, headers={"User-Agent": "amefu"})
    return cast(HTTPResponse, opener.open(asked, timeout=timeout_seconds))


def hub_files(name: str, file_names: tuple[str, ...], *, cache: Cache) -> tuple[str, list[Path]]:
    """("NAME@COMMIT", the files) of the hub's NAME[@REVISION]; they lie in the hub's own cache (HF_HOME). Without a
    revision it is the pinned one, else the one that this cache saw first. Raises UsageError (not a hub name, no
    huggingface_hub) and AmefuError (offline and not in the cache, unreachable, damaged twice)."""
    repository, _, asked = name.partition("@")
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"'{name}' is neither a folder nor a hub name such as {next(iter(PINS))}")
    record = cache.place("revisions", repository.replace("/", "--"))
    seen = record.read_text(errors="replace").strip() if record.is_file() else ""
    known = PINS[repository].commit if repository in PINS else seen if COMMIT.fullmatch(seen) else "main"
    revision = asked or known
    paths = [_download_from_hub(repository, revision, file_name, offline=cache.offline) for file_name in file_names]
    commit = paths[0].parent.name  # the hub's cache keeps each revision in a folder of its name
    if revision == "main" and not asked and COMMIT.fullmatch(commit):
        write_atomic(record, commit.encode())
    return f"{repository}@{commit}", paths


def _download_from_hub(repository: str, revision: str, file_name: str, *, offline: bool) -> Path:
    """One file of one revision; where its bytes are not those of its hash it is fetched once more."""
    pin = PINS.get(repository)
    pinned = pin.sha256 if pin and pin.commit == revision and file_name == WEIGHTS_FILE else None
    for again in (False,) if offline else (False, True):
        path = _ask_hub(repository, revision, file_name, sha256=pinned, offline=offline, again=again)
        expected = pinned or path.resolve().name  # the hub's cache names a large file by the SHA-256 of its bytes
        problem = _mismatch(path, f"sha256:{expected}") if SHA256.fullmatch(expected) else None
        if problem is None:
            return path
    raise AmefuError(f"{path}: {problem}; delete it and run the command again online")


def _ask_hub(repository: str, revision: str, file_name: str, *, sha256: str | None, offline: bool, again: bool) -> Path:
    """Where the hub's client has put the file."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        found = f"{repository} is on the Hugging Face hub and huggingface_hub is not installed"
        raise UsageError(f"{found}; install it with `pip install 'amefu[transformers]'`") from error
    how = {"revision": revision, "local_files_only": offline, "force_download": again}
    try:
        return Path(hub.hf_hub_download(repository, file_name, **how))
    except Exception as error:  # the client's errors have no base class of their own
        why = "AMEFU_OFFLINE or HF_HUB_OFFLINE is set" if offline else str(error).partition("\n")[0]
        what = f"{repository}/resolve/{revision}/{file_name}" + (f", sha256:{sha256}" if sha256 else "")
        where = hub.constants.HF_HUB_CACHE
        raise AmefuError(f"https://huggingface.co/{what} is not in {where} and cannot be fetched: {why}") from error


def package_file(reference: str) -> Path:
    """PACKAGE/FILE#SHA256 among the files that pip installed. Raises UsageError, and DamagedFile for other bytes."""
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
        fix = f"fix it with `pip install --force-reinstall {package}`"
        raise DamagedFile(f"{path}: found sha256:{found}, expected sha256:{sha256}; {fix}")
    return path
