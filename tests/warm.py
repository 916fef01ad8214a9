"""Programs run in children of a warm Python (see `warm_server`): started in 30 ms where a fresh one takes four seconds.

This file is also the `amefu` that a shell script finds on its PATH, so it imports little.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

SERVER = Path(__file__).with_name("warm_server.py")
PROGRAM = """#!{python} -IS
import sys
sys.path.insert(0, {folder!r})
from warm import forward
forward({address!r})
"""


class Process:
    """A program in a child of the server, with a session and process group of its own: what `subprocess.Popen` is."""

    def __init__(self, connection: socket.socket, stdout: IO[bytes] | None, stderr: IO[bytes] | None) -> None:
        self._connection, self.stdout, self.stderr = connection, stdout, stderr
        self._answers = connection.makefile()
        self.pid, self.returncode = int(self._answers.readline()), None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired
        """
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(f"the child {self.pid}", timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it says, until it and every process that it leaves has closed its streams."""
        said: dict[IO[bytes] | None, bytes] = {self.stdout: b"", self.stderr: b""}
        with selectors.DefaultSelector() as selector:
            for stream in filter(None, said):
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(timeout)
                if not ready:
                    raise subprocess.TimeoutExpired(f"the child {self.pid}", timeout or 0)
                for key, _ in ready:
                    if content := os.read(key.fd, 1 << 16):
                        said[key.fileobj] += content
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
        self.wait(timeout)
        return said[self.stdout].decode(), said[self.stderr].decode()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """SIGKILL it and its workers."""
        if self.poll() is None:
            for kill in (os.killpg, os.kill):  # it may have no group of its own yet
                with suppress(ProcessLookupError):
                    kill(self.pid, signal.SIGKILL)
            self.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill_group()
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()


def connect(
    address: str, words: list[str], folder: str, environment: Mapping[str, str], streams: list[int]
) -> socket.socket:
    """Have the server at `address` start a program."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = json.dumps({"words": words, "folder": folder, "environment": dict(environment)})
    socket.send_fds(connection, [request.encode() + b"\n"], streams)
    return connection


class WarmPython:
    """A server of this process, which ends with it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it. What is read while modules are imported (threads, say) it has from `environment`, once for all."""
        self._folder = tempfile.TemporaryDirectory(prefix="amefu-")  # the address of a socket must be short
        self.address = f"{self._folder.name}/socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(64)
            self._server = subprocess.Popen(
                [sys.executable, SERVER, str(listener.fileno())], stdin=subprocess.PIPE, env=environment,
                pass_fds=[listener.fileno()],
            )  # fmt: skip

    def start(
        self, *words: str, cwd: Path | None = None, environment: Mapping[str, str], stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Process:  # fmt: skip
        """Run `python WORD…`. Its streams go to a file descriptor, or can be read (PIPE)."""
        pipes = [os.pipe() if stream == subprocess.PIPE else (None, stream) for stream in (stdout, stderr)]
        with open(os.devnull) as nothing:
            streams = [nothing.fileno(), *(theirs for _, theirs in pipes)]
            connection = connect(self.address, [*words], str(cwd or Path.cwd()), environment, streams)
        for ours, theirs in pipes:
            if ours is not None:
                os.close(theirs)
        return Process(connection, *(None if ours is None else open(ours, "rb", 0) for ours, _ in pipes))

    def program(self, path: Path) -> None:
        """Write a program `amefu` for a shell's PATH."""
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = str(Path(__file__).parent)
        path.write_text(PROGRAM.format(python=sys.executable, folder=folder, address=self.address))
        path.chmod(0o755)

    def stop(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        self._folder.cleanup()


def forward(address: str) -> None:
    """Be `amefu WORD…`: its folder, environment, streams and exit code are this process's; signals are handed on."""
    words = ["-m", "amefu_cli", *sys.argv[1:]]
    process = Process(connect(address, words, os.getcwd(), os.environ, [0, 1, 2]), None, None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: process.send_signal(number))
    exit_code = process.wait()
    if exit_code < 0:
        signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    sys.exit(exit_code)
