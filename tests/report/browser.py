"""Headless Chromium, spoken to by the DevTools protocol over a pipe: what a test asks of a page, and no more."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page. `complaints` are errors of the console and of scripts, `requests` what it asked for."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = os.fdopen(to_browser, "wb"), os.fdopen(from_browser, "rb")
        self._number, self._rest, self._session = 0, b"", None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> Any:
        """Send one command and wait for its answer."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": params, **session}
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            chunk = self._from.read1(1 << 16)
            assert chunk, "the browser has gone"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert")
        ):
            self.complaints.append(json.dumps(params))
        elif method == "Log.entryAdded" and params["entry"]["level"] != "verbose":
            self.complaints.append(params["entry"]["text"])

    def open(self, path: Path) -> None:
        """Open a file and wait until all of it is there."""
        self._loaded = False
        self.ask("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._note(self._next())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, *, width: int, scheme: str) -> None:
        """See the page in a window of `width` pixels, in a light or dark scheme."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """The whole page as it is seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.ask("Page.printToPDF")["data"])


@contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """A browser whose profile lies in `folder`."""
    assert CHROMIUM is not None
    reads, writes = os.pipe(), os.pipe()  # (its end, ours) of what it reads; (ours, its end) of what it writes
    line = f'exec "$0" "$@" 3<&{reads[0]} 4>&{writes[1]}'
    options = [
        "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", f"--user-data-dir={folder}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]  # fmt: skip
    process = subprocess.Popen(
        ["bash", "-c", line, CHROMIUM, *options], pass_fds=(reads[0], writes[1]), stderr=subprocess.DEVNULL
    )
    for end in (reads[0], writes[1]):
        os.close(end)
    page = Page(reads[1], writes[0])
    try:
        yield page
    finally:
        process.terminate()
        process.wait(30)
        for pipe in (page._to, page._from):
            pipe.close()
