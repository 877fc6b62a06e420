"""What a person does on a page of the app, as methods that wait for what comes of it. No assertions of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import numpy as np
from numpy.typing import ArrayLike, NDArray
from playwright.sync_api import Locator, Page, expect
from serving import WAIT, launch_chromium, running_app

__all__ = ["FIRST_PICTURE", "Explore", "Tab", "launch_chromium", "running_app"]

FIRST_PICTURE = 180_000  # milliseconds; the first one of a server loads torch and the model
FRESH = ':not([data-stale="true"])'
# `done` is what a page that has run to its end shows; what the last run has left is stale until this one's end.
_SETTLED = """done => {
  const app = document.querySelector('.stApp');
  return app?.dataset.testScriptState === 'notRunning' && app.dataset.testConnectionState === 'CONNECTED'
    && !document.querySelector('[data-stale="true"], [data-testid="stSkeleton"]')
    && done.every(selector => document.querySelector(selector));
}"""
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
_CELLS = """(root, [rows, cols]) => Array.from({ length: rows * cols }, (_, i) => {
  const value = root.valueAt(Math.floor(i / cols), i % cols);
  return Number.isNaN(value) ? null : value;
})"""
_PIXEL = """(root, at) => {
  const canvas = root.querySelector('canvas');
  const box = canvas.getBoundingClientRect();
  const place = root.cellCenter(...at);
  const [x, y] = [place.x - box.left, place.y - box.top].map(size => Math.round(size * devicePixelRatio));
  return Array.from(canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3));
}"""
_NEXT_FRAME = """(root, at) => new Promise(done =>
  requestAnimationFrame(() => requestAnimationFrame(() => done(root.cellCenter(...at)))))"""

T = TypeVar("T", bound="Tab")


class Tab:
    """A page of the app in a browser tab.

    While a script runs, what its last run has left stands beside what this one has put in its place: a locator here
    finds what is fresh, and so one element where the page shows one.

    PATH    the page's address under the app's
    TITLE   its name in the menu
    SECTION the part of the menu that it is folded into
    DONE    selectors of what it shows when it is done, outside of the components' shadow roots
    """

    PATH: ClassVar[str] = ""
    TITLE: ClassVar[str] = ""
    SECTION: ClassVar[str] = ""
    DONE: ClassVar[tuple[str, ...]] = ()

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.fresh = page.locator(f'[data-testid="stElementContainer"]{FRESH}')
        self.alerts = self.fresh.get_by_test_id("stAlert")
        self.bar = self.fresh.get_by_test_id("stProgress")

    def part(self, name: str, key: str = "") -> Locator:
        """A component by its name, and its key where a page has several."""
        return self.fresh.locator(f'[data-testid="{name}"]' + (f'[data-key="{key}"]' if key else ""))

    def matrix(self, key: str) -> Locator:
        return self.part("matrix", key)

    def keyed(self, key: str) -> Locator:
        """The element or the container of the page with this Streamlit key."""
        return self.page.locator(f".st-key-{key}{FRESH}")

    def button(self, name: str) -> Locator:
        return self.fresh.get_by_role("button", name=name, exact=True)

    def says(self, words: str | re.Pattern[str], *, exact: bool = False) -> Locator:
        """The page's own text with these words."""
        return self.fresh.get_by_text(words, exact=exact)

    def noted(self, words: str | re.Pattern[str]) -> Locator:
        """The caption with these words."""
        return self.fresh.locator(".attnviz-caption", has_text=words)

    def open(self: T, query: str = "", /, **params: object) -> T:
        """Go to the page with these URL parameters, and wait until it is done with them."""
        query = query or (f"?{urlencode(params, quote_via=quote)}" if params else "")
        return self.open_link(f"{self.url}/{self.PATH}{query}")

    def open_link(self: T, link: str) -> T:
        self.page.goto(link)
        return self.settled()

    def reload(self: T) -> T:
        self.page.reload()
        return self.settled()

    def look(self: T) -> T:
        """Wait as a person does before going on: what comes half a second after a run the app takes for queued."""
        self.settled()
        self.page.wait_for_timeout(1_000)
        return self

    def beside(self: T) -> T:
        """The same address in another tab of the same browser."""
        return type(self)(self.page.context.new_page(), self.url).open_link(self.page.url)

    def go(self, kind: type[T]) -> T:
        """Go to another page by the menu, which a narrow page folds away."""
        if kind.SECTION:
            self.page.get_by_test_id("stTopNav").get_by_text(kind.SECTION, exact=True).click()
        role: Literal["menuitem", "link"] = "menuitem" if kind.SECTION else "link"
        self.page.get_by_role(role, name=kind.TITLE, exact=True).click()
        return self.arrived(kind)

    def arrived(self, kind: type[T]) -> T:
        """Wait until a page that was asked for has come."""
        self.page.wait_for_url(lambda url: urlsplit(url).path == f"/{kind.PATH}")
        return kind(self.page, self.url).settled()

    def settled(self: T) -> T:
        """Wait until the script has run to its end and has left what is the page's, all of it fresh."""
        self.page.wait_for_function(_SETTLED, arg=list(self.DONE), timeout=FIRST_PICTURE)
        return self

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until this holds: until what it gives is not False, and is no AssertionError."""
        end = time.monotonic() + WAIT / 1000
        while True:
            try:
                if holds() is not False:
                    return
                if time.monotonic() > end:
                    raise TimeoutError("It did not come to that.")
            except AssertionError:
                if time.monotonic() > end:
                    raise
            self.page.wait_for_timeout(50)  # not time.sleep, in which Playwright hears nothing of the page

    def params(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.page.url).query, keep_blank_values=True))

    def wait_for_params(self: T, **wanted: object) -> T:
        """Wait until the address has these values (None: it has no such), and the page is done."""
        self.page.wait_for_function(
            "wanted => Object.entries(wanted).every("
            "([name, value]) => new URL(location.href).searchParams.get(name) === value)",
            arg={name: None if value is None else str(value) for name, value in wanted.items()},
        )
        return self.settled()

    def values(self, matrix: Locator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """All values that a matrix draws, [row, col]; a value of no cell is NaN."""
        self.until(lambda: bool(matrix.evaluate("root => !!root.valueAt")))
        cells = matrix.evaluate(_CELLS, list(shape))
        return np.array([np.nan if cell is None else cell for cell in cells], np.float32).reshape(shape)

    def wait_for_values(self, matrix: Locator, wanted: ArrayLike, *, atol: float = 1e-5) -> None:
        """Wait until a matrix draws these values, [row, col]; where it does not, tell the difference."""
        expected = np.asarray(wanted)
        self.until(lambda: np.testing.assert_allclose(self.values(matrix, expected.shape), expected, atol=atol))

    def point_at(self, matrix: Locator, row: int, col: int) -> str:
        """Put the pointer on a cell; the line that reads it out."""
        readout = matrix.locator(".readout")
        place = re.compile(rf"^\w+ {row}( .*)? · \w+ {col}( .*)? · ", re.DOTALL)

        matrix.scroll_into_view_if_needed()

        def pointed() -> bool:  # what stands above may still grow, and the cell move away from under the pointer
            at = matrix.evaluate("(root, at) => root.cellCenter(...at)", [row, col])
            self.page.mouse.move(at["x"], at["y"])
            return at == matrix.evaluate(_NEXT_FRAME, [row, col]) and bool(place.match(readout.inner_text()))

        self.until(pointed)
        return readout.inner_text()

    def pick(self, matrix: Locator, row: int, col: int) -> None:
        """Click a cell, however small."""
        self.settled()
        self.point_at(matrix, row, col)
        self.click()

    def click(self) -> None:
        """Press and let go where the pointer is."""
        self.page.mouse.down()
        self.page.mouse.up()

    def pixel(self, picture: Locator, *cell: int) -> tuple[int, ...]:
        """The colour in the middle of a cell of a canvas."""
        return tuple(picture.evaluate(_PIXEL, list(cell)))

    def saved(self, button: Locator, path: Path) -> Path:
        """Press a button that saves a file; the file."""
        with self.page.expect_download() as download:
            button.click()
        download.value.save_as(path)
        return path

    def words(self) -> str:
        """Everything that stands on the page, fields and components included."""
        return str(self.page.locator("body").evaluate(_DEEP_TEXT))


class Explore(Tab):
    """The Explore page in one browser tab."""

    TITLE = "Explore"
    DONE = ('[data-testid="stSelectbox"]', '.st-key-strip, [data-testid="stAlert"]')

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.text = page.get_by_role("textbox", name="Text", exact=True)
        self.strip, self.query_strip = (self.part("token-strip", key) for key in ("strip", "query-strip"))
        self.chips = self.strip.locator(".chip")
        self.grid, self.map = self.matrix("grid"), self.matrix("map")
        self.caption, self.expectation = self.noted("Rows are queries"), self.noted("Probabilities are")
        self.facts = page.get_by_test_id("stSidebar").locator(".attnviz-caption")

    def chip(self, index: int) -> Locator:
        return self.strip.locator(f'.chip[data-index="{index}"]')

    def predicted(self, column: str, rank: int = 0) -> Locator:
        """A cell of the table of predictions, from the table that its canvas carries for screen readers."""
        number = ("token", "probability", "logit").index(column)
        return self.fresh.get_by_test_id("stDataFrame").get_by_test_id(f"glide-cell-{number}-{rank}")

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

    def tokens(self) -> list[str]:
        return self.chips.all_text_contents()

    def choose_score(self, title: str, name: str) -> None:
        self.keyed("score").get_by_role("combobox").click()
        self.page.get_by_role("option", name=title, exact=True).click()
        self.page.wait_for_function(
            "name => (new URL(location.href).searchParams.get('score') ?? 'between') === name", arg=name
        )
        self.settled()

    def choose_example(self, example: Mapping[str, Any]) -> None:
        """Pick an example, and close the list: it stays open over the page otherwise."""
        button = self.keyed(f"example-{example['id']}").get_by_role("button")
        self.page.get_by_role("button", name="Examples").click()
        button.click()
        self.page.keyboard.press("Escape")
        expect(button).to_be_hidden()

    def choose_model(self, title: str) -> None:
        self.settled()  # a list that opens while the script still runs is closed by what the run leaves
        self.keyed("model-choice").get_by_role("combobox").click()
        self.page.get_by_role("option", name=title, exact=True).click()

    def open_saved(self, file: Path) -> None:
        """Choose a saved trace's file."""
        self.choose_model("Open a saved trace…")
        self.page.set_input_files("input[type=file]", file)

    def name_model(self, name: str) -> None:
        """Open a model by its Hub id or folder."""
        field = self.page.get_by_role("textbox", name="Hugging Face id or folder")
        if not field.is_visible():
            self.choose_model("Another model…")
        field.fill(name)
        self.keyed("model-open").get_by_role("button").click()
