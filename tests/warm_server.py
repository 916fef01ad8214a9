"""A Python that has imported everything once, and runs each program that it is asked for in a forked child.

Started by `warm.WarmPython` with a listening socket and its own standard input, whose end is the server's end. A client
sends one line of JSON with its three standard streams; it is told the child's pid, and then its exit code (negative
where a signal ended it). A client that goes away takes its child along.

Nothing here may run torch before a fork: the threads of a parallel region do not live on in a child.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

IMPORTED = (
    "amefu_cli.commands.app", "amefu_cli.stages.frames", "amefu_cli.stages.depth", "amefu_cli.stages.features",
    "amefu_cli.stages.pretrain", "amefu_cli.stages.meta_train", "amefu_cli.stages.evaluate", "torchvision.models",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A program as `python` takes it, `-m MODULE WORD…` or `FILE WORD…`, and what it finds around itself."""

    words: list[str]
    folder: str
    environment: dict[str, str]
    streams: list[int]

    def run(self) -> None:
        """In the child: become that program."""
        os.setsid()
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        is_module = self.words[0] == "-m"
        sys.argv = self.words[is_module:]
        sys.path[0] = self.folder if is_module else os.path.dirname(os.path.abspath(self.words[0]))
        try:
            if is_module:
                runpy.run_module(self.words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(self.words[0], run_name="__main__")
        except SystemExit as end:
            leave(end.code)
        leave(0)


def leave(code: object) -> None:
    """End as Python does, but let the modules be: taking all of them down lasts a third of a second."""
    if not isinstance(code, int | None):
        sys.exit(code)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def receive(connection: socket.socket) -> Request:
    content, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not content.endswith(b"\n"):
        content += connection.recv(1 << 20)
    return Request(**json.loads(content), streams=streams)


def serve(listener: socket.socket) -> Request | None:
    """Fork a child for each client. Returns twice and more often: its request in a child, None at the server's end."""
    clients: dict[socket.socket, int] = {}  # the child of each
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which ends this server
    with selectors.DefaultSelector() as selector:
        for source in (listener, woken, sys.stdin.fileno()):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    client, _ = listener.accept()
                    request = receive(client)
                    if not (pid := os.fork()):
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        signal.signal(signal.SIGINT, signal.default_int_handler)
                        for connection in (listener, client, *clients):
                            connection.close()
                        for number in (woken, wakes):
                            os.close(number)
                        return request
                    for stream in request.streams:
                        os.close(stream)
                    client.sendall(b"%d\n" % pid)
                    clients[client] = pid
                    selector.register(client, selectors.EVENT_READ)
                elif key.fileobj == woken:
                    os.read(woken, 4096)
                    for client, exit_code in ended(clients):
                        selector.unregister(client)
                        with suppress(BrokenPipeError), client:
                            client.sendall(b"%d\n" % exit_code)
                elif key.fileobj in clients:  # it has gone
                    kill_group(clients[key.fileobj])
                    selector.unregister(key.fileobj)
                    with suppress(KeyError):
                        clients.pop(key.fileobj)
                    key.fileobj.close()
                elif key.fileobj == sys.stdin.fileno():
                    for pid in clients.values():
                        kill_group(pid)
                    return None


def ended(clients: dict[socket.socket, int]) -> list[tuple[socket.socket, int]]:
    """Forget the clients whose children have ended; returns each with the exit code."""
    codes = {}
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            codes[found[0]] = os.waitstatus_to_exitcode(found[1])
    gone = [(client, codes[pid]) for client, pid in clients.items() if pid in codes]
    for client, _ in gone:
        del clients[client]
    return gone


def kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # it may have no group of its own yet
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child touches, and so copies, nothing of this
    with listener:
        request = serve(listener)
    if request is not None:
        request.run()


if __name__ == "__main__":
    main()
