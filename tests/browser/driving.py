"""Starting the app and a Chromium, and what a person does on the Explore page, as methods. No assertions of its own."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import numpy as np
from install import machine_chromium
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright, expect

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60
FIRST_PICTURE = 90_000  # milliseconds; the first one of a server loads torch and the model
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Text that a person can see, through the components' shadow roots; what is only for measuring or hidden is left out.
_DEEP_TEXT = """root => {
  const parts = [];
  const walk = node => {
    if (node.nodeType === Node.TEXT_NODE) parts.push(node.data);
    else if (!['STYLE', 'SCRIPT', 'NOSCRIPT'].includes(node.nodeName)) {
      for (const child of node.shadowRoot?.childNodes ?? []) walk(child);
      for (const child of node.childNodes) walk(child);
    }
    if (node.nodeName === 'TEXTAREA' || node.nodeName === 'INPUT') parts.push(node.value);
  };
  walk(root);
  return parts.join('\\n');
}"""
_CELLS = """root => {
  const [rows, cols] = root.shape();
  return Array.from({ length: rows * cols }, (_, i) => {
    const value = root.valueAt(Math.floor(i / cols), i % cols);
    return Number.isNaN(value) ? null : value;
  });
}"""
_PIXEL = """(root, [row, col]) => {
  const canvas = root.querySelector('canvas');
  const box = canvas.getBoundingClientRect();
  const at = root.cellCenter(row, col);
  const [x, y] = [at.x - box.left, at.y - box.top].map(size => Math.round(size * devicePixelRatio));
  return Array.from(canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3));
}"""


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
        self.strays: list[str] = []
        self.complaints: list[str] = []
        self.requests = 0
        context.on("request", lambda request: self._asked(request.url))
        context.on("page", lambda page: page.on("websocket", lambda socket: self._asked(socket.url)))
        context.on("console", self._said)
        context.on("weberror", lambda web: self._complained(str(web.error)))

    def _asked(self, url: str) -> None:
        self.requests += 1
        if not url.startswith(("data:", "blob:")) and urlsplit(url).netloc != self._home:
            self.strays.append(url)

    def _said(self, said: ConsoleMessage) -> None:
        # At a page's own address Streamlit first looks for its server under that address.
        probe = re.search(r"/\w+/_stcore/(health|host-config)$", said.location.get("url", ""))
        if said.type == "error" and not probe:
            self._complained(said.text)

    def _complained(self, words: str) -> None:
        self.complaints.append(words)


class Explore:
    """The Explore page in one browser tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.text = page.get_by_role("textbox", name="Text", exact=True)
        self.strip, self.query_strip = (
            page.locator(f'[data-testid="token-strip"][data-key="{key}"]') for key in ("strip", "query-strip")
        )
        self.chips = self.strip.locator(".chip")
        self.grid, self.map = self.matrix("grid"), self.matrix("map")
        # While the script runs, what the last run left may still stand next to what this one has put in its place.
        fresh = page.locator('[data-testid="stElementContainer"][data-stale="false"]')
        self.caption = fresh.locator(".attnviz-caption", has_text="Rows are queries")
        self.expectation = page.locator(".attnviz-caption", has_text="Probabilities are")
        self.facts = page.get_by_test_id("stSidebar").locator(".attnviz-caption")
        self.alerts = page.get_by_test_id("stAlert")
        self.bar = page.get_by_test_id("stProgress")

    def matrix(self, key: str) -> Locator:
        return self.page.locator(f'[data-testid="matrix"][data-key="{key}"]')

    def keyed(self, key: str) -> Locator:
        """The element of the page with this Streamlit key."""
        return self.page.locator(f".st-key-{key}")

    def chip(self, index: int) -> Locator:
        return self.strip.locator(f'.chip[data-index="{index}"]')

    def predicted(self, column: str, rank: int = 0) -> Locator:
        """A cell of the table of predictions, from the table that its canvas carries for screen readers."""
        number = ("token", "probability", "logit").index(column)
        return self.page.get_by_test_id("stDataFrame").get_by_test_id(f"glide-cell-{number}-{rank}")

    def open(self, query: str = "", **params: str) -> None:
        """Go to the page with these URL parameters, and wait until it is done with them."""
        query = query or (f"?{urlencode(params, quote_via=quote)}" if params else "")
        self.page.goto(f"{self.url}/{query}")
        self.settled()

    def open_link(self, link: str) -> None:
        self.page.goto(link)
        self.settled()

    def reload(self) -> None:
        self.page.reload()
        self.settled()

    def settled(self) -> None:
        """Wait until the script has run to its end and has left something."""
        self.page.wait_for_function(
            """() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'
              && document.querySelector('[data-testid="stSelectbox"]')
              && document.querySelector('.st-key-strip, [data-testid="stAlert"]')""",
            timeout=FIRST_PICTURE,
        )

    def submit(self, text: str) -> None:
        """Type a text and run it; what comes of it is for the caller to wait for."""
        self.text.fill(text)
        self.text.press("Control+Enter")

    def run(self, text: str) -> None:
        """Type a text, run it, and wait for its picture."""
        before = self.params()["text"]
        self.submit(text)
        self.page.wait_for_function(
            "before => { const now = new URL(location.href).searchParams; "
            "return now.get('text') !== before && now.has('key'); }",
            arg=before,
            timeout=FIRST_PICTURE,
        )
        self.settled()

    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.page.url).query, keep_blank_values=True))

    def wait_for_params(self, **wanted: object) -> None:
        """Wait until the address has these values, and the page is done."""
        self.page.wait_for_function(
            "wanted => Object.entries(wanted).every("
            "([name, value]) => new URL(location.href).searchParams.get(name) === value)",
            arg={name: str(value) for name, value in wanted.items()},
        )
        self.settled()

    def values(self, matrix: Locator, shape: tuple[int, int]) -> NDArray[np.float32]:
        """All values that a matrix draws, [row, col]; a value of no cell is NaN."""
        script = _CELLS.replace("root.shape()", f"[{shape[0]}, {shape[1]}]")
        cells = matrix.evaluate(script)
        return np.array([np.nan if cell is None else cell for cell in cells], np.float32).reshape(shape)

    def point_at(self, matrix: Locator, row: int, col: int) -> str:
        """Put the pointer on a cell; the line that reads it out."""
        readout = matrix.locator(".readout")
        place = re.compile(rf"^\w+ {row}( .*)? · \w+ {col}( .*)? · ", re.DOTALL)
        for _ in range(20):  # what stands above may still grow, and the cell move away from under the pointer
            at = matrix.evaluate("(root, [row, col]) => root.cellCenter(row, col)", [row, col])
            self.page.mouse.move(at["x"], at["y"])
            self.page.wait_for_timeout(50)
            if place.match(readout.inner_text()):
                break
        expect(readout).to_have_text(place)
        return readout.inner_text()

    def pick(self, matrix: Locator, row: int, col: int) -> None:
        """Click a cell, however small."""
        self.point_at(matrix, row, col)
        self.page.mouse.down()
        self.page.mouse.up()

    def pixel(self, matrix: Locator, row: int, col: int) -> tuple[int, int, int]:
        """The colour in the middle of a cell."""
        red, green, blue = matrix.evaluate(_PIXEL, [row, col])
        return red, green, blue

    def words(self) -> str:
        """Everything that stands on the page, fields and components included."""
        return str(self.page.locator("body").evaluate(_DEEP_TEXT))

    def tokens(self) -> list[str]:
        return self.chips.all_text_contents()

    def choose_score(self, title: str, name: str) -> None:
        self.keyed("score").get_by_role("combobox").click()
        self.page.get_by_role("option", name=title, exact=True).click()
        self.page.wait_for_function(
            "name => (new URL(location.href).searchParams.get('score') ?? 'between') === name", arg=name
        )
        self.settled()

    def choose_example(self, example: Mapping[str, str]) -> None:
        """Pick an example, and close the list: it stays open over the page otherwise."""
        button = self.keyed(f"example-{example['id']}").get_by_role("button")
        self.page.get_by_role("button", name="Examples").click()
        button.click()
        self.page.keyboard.press("Escape")
        expect(button).to_be_hidden()

    def choose_model(self, title: str) -> None:
        self.keyed("model-choice").get_by_role("combobox").click()
        self.page.get_by_role("option", name=title, exact=True).click()

    def open_saved(self, file: Path) -> None:
        """Choose a saved trace's file."""
        self.settled()  # a list that opens while the script still runs is closed by what the run leaves
        self.choose_model("Open a saved trace…")
        self.page.set_input_files("input[type=file]", file)

    def name_model(self, name: str) -> None:
        """Open a model by its Hub id or folder."""
        field = self.page.get_by_role("textbox", name="Hugging Face id or folder")
        if not field.is_visible():
            self.choose_model("Another model…")
        field.fill(name)
        self.keyed("model-open").get_by_role("button").click()
