"""Starting the app and a Chromium; what its pages ask for and complain about; and a tab in it for each test."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from install import machine_chromium
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Playwright, ViewportSize

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
WAIT = 60_000  # milliseconds; two cores, shared, and a model that may have to be read again
VIEWPORT: ViewportSize = {"width": 1280, "height": 1900}
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def running_app(script: str = "app.py", **settings: str) -> Iterator[str]:
    """The app, or another script, on a free port: its base address. Ended with the block; a failure shows its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port), "--server.fileWatcherType", "none"]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "server.log").open("w+") as log:
        # A name must not depend on the network here, nor a corpus on what was done before.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "ATTNVIZ_DATA_DIR": folder, **settings}
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_healthy(url, server, Path(log.name))
            yield url
            if server.poll() is not None:
                said = Path(log.name).read_text("utf-8", errors="replace")
                raise RuntimeError(f"The app ended by itself, with code {server.returncode}:\n{said}")
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_until_healthy(url: str, server: subprocess.Popen[Any], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"The app did not start:\n{log.read_text('utf-8', errors='replace')}")


def launch_chromium(playwright: Playwright) -> Browser:
    """The machine's own Chromium; Playwright's where there is none."""
    return playwright.chromium.launch(executable_path=machine_chromium(), args=_FLAGS)


class Watch:
    """What the pages of a context ask for and complain about."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self._home = urlsplit(url).netloc
        self.begin()
        context.on("request", lambda request: self._asked(request.url))
        context.on("page", lambda page: page.on("websocket", lambda socket: self._asked(socket.url)))
        context.on("console", self._said)
        context.on("dialog", self._asked_back)
        context.on("weberror", lambda web: self._complained(str(web.error)))

    def begin(self) -> None:
        """Forget what was seen."""
        self.strays: list[str] = []
        self.complaints: list[str] = []
        self.requests = 0

    def _asked(self, url: str) -> None:
        self.requests += 1
        if not url.startswith(("data:", "blob:", "about:")) and urlsplit(url).netloc != self._home:
            self.strays.append(url)

    def _said(self, said: ConsoleMessage) -> None:
        # At a page's own address Streamlit first looks for its server under that address.
        probe = re.search(r"/\w+/_stcore/(health|host-config)$", said.location.get("url", ""))
        if said.type == "error" and not probe:
            self._complained(said.text)

    def _asked_back(self, dialog: Dialog) -> None:
        self._complained(f"A dialog: {dialog.message}")
        dialog.dismiss()

    def _complained(self, words: str) -> None:
        self.complaints.append(words)


class Tabs:
    """Empty tabs, each in a browser context of its own.

    A new context reads and compiles Streamlit's scripts anew, which takes longer than all that most tests do. So the
    first tab with the same options is the same for all tests; between two of them it is emptied, cookies and storage
    included. A test that asks twice gets two people: the second tab's context is new, and closed with the test.
    """

    def __init__(self, chromium: Browser) -> None:
        self._chromium = chromium
        self._kept: dict[str, _Kept] = {}
        self._used: dict[str, _Kept] = {}
        self._own: list[_Kept] = []

    def new(
        self,
        url: str,
        *,
        viewport: ViewportSize = VIEWPORT,
        color_scheme: Literal["light", "dark"] = "light",
        reduced_motion: Literal["no-preference", "reduce"] = "no-preference",
        **options: Any,
    ) -> Page:
        """A tab that may ask only the server at this address; other options as Playwright's contexts have them."""
        key = repr((url, sorted(options.items())))
        if key in self._used:
            kept = self._opened(url, options)
            self._own.append(kept)
        else:
            if key not in self._kept or self._kept[key].page.is_closed():
                self._kept[key] = self._opened(url, options)
            kept = self._used[key] = self._kept[key]
        kept.watch.begin()
        kept.page.set_viewport_size(viewport)
        kept.page.emulate_media(color_scheme=color_scheme, reduced_motion=reduced_motion)
        return kept.page

    def _opened(self, url: str, options: dict[str, Any]) -> _Kept:
        context = self._chromium.new_context(**options)
        context.set_default_timeout(WAIT)
        watch = Watch(context, url)
        return _Kept(context.new_page(), watch)

    def empty(self) -> list[Watch]:
        """Leave nothing of this test to the next one; who watched its tabs."""
        used = [*self._used.values(), *self._own]
        for kept in self._used.values():
            _clean(kept.page)
        for own in self._own:
            own.page.context.close()
        self._used.clear()
        self._own.clear()
        return [kept.watch for kept in used]


@dataclass(frozen=True)
class _Kept:
    """A tab and its watch."""

    page: Page
    watch: Watch


def _clean(page: Page) -> None:
    for other in page.context.pages:
        if other is not page:
            other.close()
    page.context.clear_cookies()
    if page.url.startswith("http"):
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
    page.mouse.move(0, 0)
