"""Pages that several files' tests visit, each in one browser tab."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from driving import FIRST_PICTURE, Tab
from numpy.typing import NDArray
from playwright.sync_api import Frame, Locator, Page, expect

START = 4  # the query that writes the first token
_BYTES = """root => {
  const [layers, heads, height, width] = root.size();
  const out = [];
  for (let layer = 0; layer < layers; layer++) for (let head = 0; head < heads; head++)
    for (let row = 0; row < height; row++) for (let col = 0; col < width; col++)
      out.push(root.byteAt(layer, head, row, col));
  return out;
}"""
_INK = """root => {
  const canvas = root.querySelector('canvas');
  const middle = canvas.getContext('2d').getImageData(canvas.width / 2, 0, 1, canvas.height).data;
  return middle.filter((_, i) => i % 4 === 3).reduce((sum, alpha) => sum + (alpha > 0), 0);
}"""


class AllHeads(Tab):
    """The page of all heads in one browser tab."""

    PATH, TITLE = "all_heads", "All heads"
    DONE = (".st-key-gallery",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.root = self.part("gallery")
        self.readout = self.root.locator(".readout")
        self.stage = self.root.get_by_role("application")
        self.caption = self.noted("Each thumbnail")

    def settled(self) -> AllHeads:
        """Wait until the script is done and the thumbnails are there."""
        super().settled()
        self.until(lambda: self.root.evaluate("root => !!root.size && !!root.size()"))
        return self

    def drawn(self) -> NDArray[np.int_]:
        """[layer, head, row, col], from 0 to 255."""
        return np.array(self.root.evaluate(_BYTES)).reshape(self.root.evaluate("root => root.size()"))

    def order(self) -> list[str]:
        return list(self.root.evaluate("root => root.order()"))

    def place(self, layer: int, head: int) -> dict[str, float]:
        return dict(self.root.evaluate("(root, at) => root.cellCenter(...at)", [layer, head]))

    def read(self, layer: int, head: int) -> str:
        """Point at a thumbnail; the line that reads it out."""
        at = self.place(layer, head)
        self.page.mouse.move(at["x"], at["y"])
        expect(self.readout).to_have_text(re.compile(rf"^L{layer}H{head} "))
        return self.readout.inner_text()

    def choose(self, title: str) -> None:
        self.page.get_by_role("radio", name=title, exact=True).click()

    def only(self, heads_: str) -> None:
        self.page.get_by_role("button", name="Filters").click()
        field = self.page.get_by_role("textbox", name="Only heads")
        field.fill(heads_)
        field.press("Enter")
        self.page.keyboard.press("Escape")
        expect(field).to_be_hidden()

    def kept(self, kind: str, path: Path) -> Path:
        self.settled()
        return self.saved(self.root.get_by_role("button", name=f"Save this picture as {kind}"), path)


class Ablation(Tab):
    """The Ablation page in one browser tab."""

    PATH, TITLE = "ablation", "Ablation"
    DONE = (".st-key-ablation-metric",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.grid = self.matrix("ablation-grid")

    def swept(self) -> Ablation:
        """Wait until every head was measured."""
        expect(self.noted("Unedited copies differ")).to_be_visible(timeout=FIRST_PICTURE)
        cancel = self.page.locator(".st-key-ablation-cancel")  # a stale one too: it comes back while the sweep goes on
        expect(cancel).to_have_count(0, timeout=FIRST_PICTURE)
        return self.settled()


class Lines(Tab):
    """The Lines page in one browser tab."""

    PATH, TITLE, SECTION = "lines", "Lines", "More views"
    DONE = (".st-key-lines",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.root = self.part("lines")
        self.readout = self.root.locator(".readout")
        self.stage = self.root.get_by_role("application")

    def settled(self) -> Lines:
        """Wait until the script is done and the lines are drawn."""
        super().settled()
        drawn = "root => !!root.tokenCenter && root.querySelector('canvas').width > 300"
        self.until(lambda: bool(self.root.evaluate(drawn)))
        return self

    def edges(self) -> list[tuple[str, int, int, float]]:
        return [tuple(edge) for edge in self.root.evaluate("root => root.shownEdges()")]

    def drawn_heads(self) -> set[str]:
        return {name for name, *_ in self.edges()}

    def ink(self) -> int:
        """How many pixels of the column in the middle have any."""
        return int(self.root.evaluate(_INK))

    def read(self, side: str, index: int) -> str:
        """Point at a token of one side; the line that reads it out."""
        self.stage.scroll_into_view_if_needed()
        at = self.root.evaluate("(root, at) => root.tokenCenter(...at)", [side, index])
        self.page.mouse.move(at["x"], at["y"])
        expect(self.readout).to_have_text(re.compile(rf"^{'query' if side == 'queries' else 'key'} {index} "))
        return self.readout.inner_text()


class Bertviz(Tab):
    """The BertViz page in one browser tab."""

    PATH, TITLE, SECTION = "bertviz", "BertViz", "More views"
    DONE = (".st-key-bertviz-kind",)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.frames = self.part("framed").locator("iframe")

    def choose(self, kind: str) -> None:
        self.keyed("bertviz-kind").get_by_role("radio", name=kind).click()

    def frame(self, view: str) -> Frame:
        """Have a view made, and wait for its drawing."""
        self.choose(view)
        expect(self.button("Make it")).to_be_visible()
        self.settled()
        self.button("Make it").click()
        element = self.part("framed").locator(f'iframe[title="BertViz: {view}"]')
        expect(element).to_be_visible()
        frame = element.element_handle().content_frame()
        assert frame is not None
        frame.wait_for_selector("svg line", state="attached")
        self.settled()
        return frame


class Compare(Tab):
    """The Compare page in one browser tab."""

    PATH, TITLE, SECTION = "compare", "Compare", "More views"
    DONE = ('.st-key-compare-first, [data-testid="stAlert"]',)


class Generation(Tab):
    """The Generation page in one browser tab."""

    PATH, TITLE, SECTION = "generation", "Generation", "More views"
    DONE = (".st-key-movement", ".st-key-scrubber")

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.scrubber = self.part("scrubber")
        self.slider = self.scrubber.get_by_role("slider")
        self.strip, self.source = self.part("token-strip", "strip"), self.part("token-strip", "source-strip")
        self.map = self.matrix("movement")

    def at(self, step: int) -> None:
        """Wait until this step is the one that slider, address and strip show."""
        expect(self.scrubber).to_have_attribute("data-step", str(step))
        self.wait_for_params(query=START + step)
        expect(self.strip.locator(".chip.query")).to_have_attribute("data-index", str(START + step))

    def press(self, name: str) -> None:
        self.scrubber.get_by_role("button", name=name).click()

    def chip(self, strip: Locator, index: int) -> Locator:
        return strip.locator(f'.chip[data-index="{index}"]')


class Harness(Tab):
    """The page of the components alone, harness_components.py."""

    DONE = ('[data-testid="stText"]',)

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.said_line = self.part("stText")

    def said(self) -> list[list[object]]:
        """What callbacks were given, in order."""
        return list(json.loads(self.said_line.inner_text()))

    def wait_said(self, name: str, value: object) -> None:
        """Wait until the last thing a callback was given is this."""
        expect(self.said_line).to_have_text(re.compile(re.escape(json.dumps([name, value]) + "]") + "$"))
        self.settled()
