"""Models of the Hugging Face hub as plain files: pinned revision, safetensors only, offline if asked."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path

from amefu_cli.artefacts.files.atomic import write_atomic
from amefu_cli.artefacts.files.fingerprint import file_sha256
from amefu_cli.artefacts.weights.downloads import Cache
from amefu_cli.errors import AmefuError, UsageError

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Pin:
    """The one revision of a model that is used, the hash of its weights file, and its licence."""

    commit: str
    sha256: str
    licence: str


PINS = {
    "depth-anything/Depth-Anything-V2-Small-hf": Pin(
        commit="5426e4f0f36572d16453bbda7a8389317b1bef99",
        sha256="3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
        licence="Apache-2.0",
    )
}
REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def hub_files(name: str, file_names: tuple[str, ...], *, cache: Cache) -> tuple[str, list[Path]]:
    """("NAME@COMMIT", the files) of the hub's NAME[@REVISION]; they lie in the hub's own cache (HF_HOME).

    Without a revision it is the pinned one, else the one that this cache saw first. Raises UsageError (not a
    hub name, no huggingface_hub) and AmefuError (offline and not in the cache, unreachable, damaged twice).
    """
    repository, _, asked = name.partition("@")
    if not REPOSITORY.fullmatch(repository):
        raise UsageError(f"'{name}' is neither a folder nor a hub name such as {next(iter(PINS))}")
    record = cache.folder / "revisions" / repository.replace("/", "--")
    revision = asked or _known_revision(repository, record) or "main"
    paths = [_download(repository, revision, file_name, offline=cache.offline) for file_name in file_names]
    commit = paths[0].parent.name  # the hub's cache keeps each revision in a folder of its name
    if revision == "main" and not asked and COMMIT.fullmatch(commit):
        write_atomic(record, commit.encode())
    return f"{repository}@{commit}", paths


def _known_revision(repository: str, record: Path) -> str | None:
    """The pinned commit, else the recorded one, else None."""
    if repository in PINS:
        return PINS[repository].commit
    commit = record.read_text(errors="replace").strip() if record.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else None


def _download(repository: str, revision: str, file_name: str, *, offline: bool) -> Path:
    """One file of one revision; where its bytes are not those of its hash it is fetched once more."""
    pin = PINS.get(repository)
    pinned = pin.sha256 if pin and pin.commit == revision and file_name == WEIGHTS_FILE else None
    path = _ask_hub(repository, revision, file_name, sha256=pinned, offline=offline, again=False)
    if not offline and _mismatch(path, pinned):
        path = _ask_hub(repository, revision, file_name, sha256=pinned, offline=False, again=True)
    if problem := _mismatch(path, pinned):
        raise AmefuError(f"{path}: {problem}; delete it and run the command again online")
    return path


def _ask_hub(repository: str, revision: str, file_name: str, *, sha256: str | None, offline: bool, again: bool) -> Path:
    """Where the hub's client has put the file."""
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UsageError(
            f"{repository} is on the Hugging Face hub and huggingface_hub is not installed; "
            "install it with `pip install 'amefu[transformers]'`"
        ) from error
    try:
        path = hub.hf_hub_download(
            repository, file_name, revision=revision, local_files_only=offline, force_download=again
        )
    except Exception as error:  # the client's errors have no base class of their own
        why = "AMEFU_OFFLINE or HF_HUB_OFFLINE is set" if offline else str(error).partition("\n")[0]
        digest = f", sha256:{sha256}" if sha256 else ""
        raise AmefuError(
            f"https://huggingface.co/{repository}/resolve/{revision}/{file_name}{digest} is not in "
            f"{hub.constants.HF_HUB_CACHE} and cannot be fetched: {why}"
        ) from error
    return Path(path)


def _mismatch(path: Path, pinned: str | None) -> str | None:
    """Both hashes where they differ: the hub's cache names a large file by the SHA-256 of its bytes."""
    expected = pinned or path.resolve().name
    if not SHA256.fullmatch(expected):
        return None
    found = file_sha256(path)
    return None if found == expected else f"found sha256:{found}, expected sha256:{expected}"
