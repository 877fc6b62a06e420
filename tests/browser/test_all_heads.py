"""The page of all heads in a real Chromium: what is drawn is what the model did, by pointer, keyboard and file."""

import math
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from driving import Explore
from playwright.sync_api import expect

import attnviz
from attnviz import heads
from attnviz.figures.palette import SEQUENTIAL
from attnviz.overview import overview
from attnviz.ui.session import examples

NewExplore = Callable[..., Explore]
FIRST = examples()[0]["text"]
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> "q" \\ \u202e\u2028'
SECONDS = 12
PNG_START = b"\x89PNG\r\n\x1a\n"

_BYTES = """root => {
  const [layers, heads, height, width] = root.size();
  const out = [];
  for (let layer = 0; layer < layers; layer++) for (let head = 0; head < heads; head++)
    for (let row = 0; row < height; row++) for (let col = 0; col < width; col++)
      out.push(root.byteAt(layer, head, row, col));
  return out;
}"""
_PIXEL = """(root, at) => {
  const canvas = root.querySelector('canvas');
  const place = root.cellCenter(...at);
  const box = canvas.getBoundingClientRect();
  const [x, y] = [place.x - box.left, place.y - box.top].map(size => Math.round(size * devicePixelRatio));
  return Array.from(canvas.getContext('2d').getImageData(x, y, 1, 1).data.slice(0, 3));
}"""


class AllHeads:
    """The page of all heads in one browser tab."""

    def __init__(self, explore: Explore) -> None:
        self.explore, self.page = explore, explore.page
        # By the menu: an address below the first page makes the browser ask for files that are not there.
        self.page.get_by_role("link", name="All heads").click()
        self.root = self.page.locator('[data-testid="gallery"]')
        self.readout = self.root.locator(".readout")
        self.stage = self.root.get_by_role("application")
        self.caption = self.page.locator(".attnviz-caption", has_text="Each thumbnail")
        expect(self.caption).to_be_visible()
        self.until(lambda: self.size() is not None)

    def size(self) -> list[int] | None:
        return self.root.evaluate("root => root.size()")  # type: ignore[no-any-return]

    def order(self) -> list[str]:
        return list(self.root.evaluate("root => root.order()"))

    def place(self, layer: int, head: int) -> dict[str, float]:
        return dict(self.root.evaluate("(root, at) => root.cellCenter(...at)", [layer, head]))

    def point_at(self, layer: int, head: int) -> str:
        at = self.place(layer, head)
        self.page.mouse.move(at["x"], at["y"])
        expect(self.readout).to_have_text(re.compile(rf"^L{layer}H{head} "))
        return self.readout.inner_text()

    def pick(self, layer: int, head: int) -> None:
        self.point_at(layer, head)
        self.page.mouse.down()
        self.page.mouse.up()
        self.until(lambda: self.head() == (layer, head))

    def head(self) -> tuple[int, int]:
        params = self.explore.params()
        return int(params["layer"]), int(params["head"])

    def choose(self, title: str) -> None:
        self.page.get_by_role("radio", name=title, exact=True).click()

    def only(self, heads_: str) -> None:
        self.page.get_by_role("button", name="Filters").click()
        field = self.page.get_by_role("textbox", name="Only heads")
        field.fill(heads_)
        field.press("Enter")
        self.page.keyboard.press("Escape")

    def until(self, check: Callable[[], bool]) -> None:
        end = time.monotonic() + SECONDS
        while not check():
            assert time.monotonic() < end, "it did not come to that"
            self.page.wait_for_timeout(50)

    def done(self) -> None:
        """Wait until the script has run to its end."""
        self.page.wait_for_function("() => document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")

    def run(self, text: str) -> None:
        """Type a text, run it, and wait until the page is done with it."""
        before = self.explore.params()["text"]
        self.explore.submit(text)
        self.until(lambda: self.explore.params()["text"] != before)
        self.done()

    def saved(self, kind: str, path: Path) -> Path:
        self.done()
        with self.page.expect_download() as download:
            self.root.get_by_role("button", name=f"Save this picture as {kind}").click()
        download.value.save_as(path)
        return path


@pytest.fixture
def all_heads(visit: NewExplore) -> Callable[..., AllHeads]:
    """all_heads(address, **context options): a person who has come to the page of all heads."""
    return lambda query="", **options: AllHeads(visit(query, **options))


def test_every_thumbnail_is_the_heads_real_pattern(all_heads: Callable[..., AllHeads], smollm2: attnviz.Model) -> None:
    page, trace = all_heads(), smollm2.trace(FIRST)
    expected = overview(trace).thumbnails
    assert page.size() == list(expected.shape)
    drawn = np.array(page.root.evaluate(_BYTES)).reshape(expected.shape)
    assert np.abs(drawn - expected.astype(int)).max() <= 1
    for layer, head in [(0, 0), (23, 3), (29, 8)]:
        np.testing.assert_allclose(drawn[layer, head], 255 * trace.pattern(layer, head).sqrt().numpy(), atol=1.1)
    assert page.order() == [f"L{layer}H{head}" for layer in range(30) for head in range(9)]


def test_the_line_reads_out_the_score_of_the_head_pointed_at(
    all_heads: Callable[..., AllHeads], smollm2: attnviz.Model
) -> None:
    page, scores = all_heads("?score=entropy"), heads.entropy(smollm2.trace(FIRST))
    for layer, head in [(0, 0), (5, 1), (29, 8)]:
        line = page.point_at(layer, head)
        assert line.startswith(f"L{layer}H{head} · entropy ")
        assert float(line.rsplit(" ", 1)[1]) == pytest.approx(float(scores[layer, head]), abs=1e-4)


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_colours_are_those_of_the_palette_and_the_scale(all_heads: Callable[..., AllHeads], scale: str) -> None:
    page = all_heads(f"?model=minilm&scale={scale}")
    drawn = np.array(page.root.evaluate(_BYTES)).reshape(page.size())
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in SEQUENTIAL["light"]])
    for layer, head in [(0, 0), (3, 7), (5, 11)]:
        middle = drawn[layer, head, drawn.shape[2] // 2, drawn.shape[3] // 2]
        weight = (middle / 255) ** 2
        share = {"linear": weight, "sqrt": math.sqrt(weight), "log": 1 + math.log10(max(weight, 1e-4)) / 4}[scale]
        at = round(share * 255) / 255 * (len(stops) - 1)
        low, high = stops[int(at)], stops[min(int(at) + 1, len(stops) - 1)]
        expected = low + (high - low) * (at % 1)
        assert page.root.evaluate(_PIXEL, [layer, head]) == pytest.approx(expected.tolist(), abs=2)


def test_a_click_picks_a_head_and_explore_shows_it(all_heads: Callable[..., AllHeads]) -> None:
    page = all_heads()
    page.pick(17, 5)
    expect(page.page.get_by_text("Attention of L17H5")).to_be_visible()
    page.page.get_by_role("button", name="Open in Explore").click()
    expect(page.explore.strip).to_be_visible()
    expect(page.explore.caption).to_contain_text("L17H5, clean run")


def test_ranked_heads_run_by_their_score(all_heads: Callable[..., AllHeads], smollm2: attnviz.Model) -> None:
    page, scores = all_heads("?score=previous"), heads.previous_token(smollm2.trace(FIRST))
    before = page.order()
    page.choose("Ranked")
    page.until(lambda: page.order() != before)
    ranked = [tuple(map(int, re.findall(r"\d+", name))) for name in page.order()]
    values = [scores[place] for place in ranked]
    assert sorted(ranked) == [(layer, head) for layer in range(30) for head in range(9)]
    assert all(a >= b - 1e-5 for a, b in pairwise(values))
    expect(page.caption).to_contain_text("Highest first.")


def test_arrow_keys_go_from_head_to_head_and_pick_where_they_stay(all_heads: Callable[..., AllHeads]) -> None:
    page = all_heads("?model=minilm&layer=2&head=11")
    page.stage.focus()
    page.page.keyboard.press("ArrowRight")  # over the end of the layer
    expect(page.readout).to_have_text(re.compile("^L3H0 "))
    page.until(lambda: page.head() == (3, 0))
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.page.keyboard.press(key)
    expect(page.readout).to_have_text(re.compile("^L4H2 "))
    page.until(lambda: page.head() == (4, 2))
    page.page.keyboard.press("Home")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.head() == (0, 0))


def test_heads_that_are_filtered_out_are_passed_over(all_heads: Callable[..., AllHeads]) -> None:
    page = all_heads("?model=minilm&layer=0&head=3")
    page.only("L0H3, L0H9, L4H2")
    page.until(lambda: page.order() == ["L0H3", "L0H9", "L4H2"])
    expect(page.caption).to_contain_text("3 of 72 heads")
    page.stage.focus()
    page.page.keyboard.press("ArrowRight")
    page.until(lambda: page.head() == (0, 9))
    page.page.keyboard.press("ArrowDown")
    page.until(lambda: page.head() == (4, 2))
    at = page.place(3, 3)
    page.page.mouse.click(at["x"], at["y"])
    page.page.wait_for_timeout(800)
    assert page.head() == (4, 2)


def test_saved_pictures_hold_every_head_and_a_hostile_text_stays_text(
    all_heads: Callable[..., AllHeads], tmp_path: Path
) -> None:
    page = all_heads("?model=minilm")
    page.run(HOSTILE)
    by_layer = page.order()
    page.choose("Ranked")
    page.until(lambda: page.order() != by_layer)
    svg = ET.parse(page.saved("SVG", tmp_path / "heads.svg")).getroot()
    words = [node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {f"L{layer}H{head}" for layer in range(6) for head in range(12)} <= set(words)
    assert any("all-MiniLM-L6-v2" in line for line in words)
    png = page.saved("PNG", tmp_path / "heads.png").read_bytes()
    assert png.startswith(PNG_START)
    width = int.from_bytes(png[16:20], "big")
    assert width == 2 * int(svg.attrib["width"])
    assert page.page.evaluate("window.__pwned === undefined")
    assert page.page.locator('img[src="x"]').count() == 0


def test_thumbnails_are_sent_once_and_stay_under_a_megabyte(visit: NewExplore) -> None:
    explore = visit()
    frames: list[int] = []
    explore.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: frames.append(len(frame))))
    explore.reload()
    explore.run("The quick brown fox jumps over the lazy dog while Mary and John went home. " * 16)
    frames.clear()
    page = AllHeads(explore)
    layers, n_heads, height, width = page.size() or []
    assert (layers, n_heads, height, width) == (30, 9, 48, 48)
    largest = max(frames)
    assert 4 / 3 * 30 * 9 * 48 * 48 <= largest < 900_000
    frames.clear()
    page.pick(3, 3)
    expect(page.page.get_by_text("Attention of L3H3")).to_be_visible()
    assert max(frames) < largest / 1.5, "only the map of the head that was picked goes over"


def test_a_narrow_screen_shows_every_head(all_heads: Callable[..., AllHeads]) -> None:
    page = all_heads("?model=minilm")  # the menu of a narrow screen is folded away
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.until(lambda: (page.root.bounding_box() or {"width": 999})["width"] <= 390)
    box = page.root.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 391
    page.choose("Ranked")
    page.until(lambda: page.order() != [f"L{layer}H{head}" for layer in range(6) for head in range(12)])
    page.stage.scroll_into_view_if_needed()
    assert page.point_at(2, 5).startswith("L2H5 · ")
