"""The page of all heads in a real Chromium: what is drawn is what the model did, by pointer, keyboard and file."""

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NewExplore, NewTab
from driving import Explore
from playwright.sync_api import expect
from seen import FIRST
from tabs import AllHeads

import attnviz
from attnviz import heads
from attnviz.figures.palette import SEQUENTIAL
from attnviz.overview import overview

HOSTILE = '</script><img src=x onerror="window.__pwned=1"> "q" \\ \u202e\u2028'
PNG_START = b"\x89PNG\r\n\x1a\n"
SMALL = [f"L{layer}H{head}" for layer in range(6) for head in range(12)]  # the heads of MiniLM
NewAllHeads = Callable[..., AllHeads]


@pytest.fixture
def all_heads(tab: NewTab, app_url: str) -> NewAllHeads:
    """all_heads(**address): a person who opens the page of all heads."""

    def make(**params: Any) -> AllHeads:
        return AllHeads(tab(app_url), app_url).open(**params)

    return make


def test_every_thumbnail_is_the_heads_real_pattern_and_reads_its_score(
    all_heads: NewAllHeads, smollm2: attnviz.Model
) -> None:
    page, trace = all_heads(score="entropy"), smollm2.trace(FIRST)
    expected = overview(trace).thumbnails
    drawn = page.drawn()
    assert drawn.shape == expected.shape
    assert np.abs(drawn - expected.astype(int)).max() <= 1
    for layer, head in [(0, 0), (23, 3), (29, 8)]:
        np.testing.assert_allclose(drawn[layer, head], 255 * trace.pattern(layer, head).sqrt().numpy(), atol=1.1)
    assert page.order() == [f"L{layer}H{head}" for layer in range(30) for head in range(9)]
    scores = heads.entropy(trace)
    for layer, head in [(0, 0), (5, 1), (29, 8)]:
        line = page.read(layer, head)
        assert line.startswith(f"L{layer}H{head} · entropy ")
        assert float(line.rsplit(" ", 1)[1]) == pytest.approx(float(scores[layer, head]), abs=1e-4)


@pytest.mark.parametrize("scale", ["linear", "sqrt", "log"])
def test_colours_are_those_of_the_palette_and_the_scale(all_heads: NewAllHeads, scale: str) -> None:
    page = all_heads(model="minilm", scale=scale)
    drawn = page.drawn()
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in SEQUENTIAL["light"]])
    for layer, head in [(0, 0), (3, 7), (5, 11)]:
        middle = drawn[layer, head, drawn.shape[2] // 2, drawn.shape[3] // 2]
        weight = (middle / 255) ** 2
        share = {"linear": weight, "sqrt": math.sqrt(weight), "log": 1 + math.log10(max(weight, 1e-4)) / 4}[scale]
        at = round(share * 255) / 255 * (len(stops) - 1)
        low, high = stops[int(at)], stops[min(int(at) + 1, len(stops) - 1)]
        expected = low + (high - low) * (at % 1)
        assert page.pixel(page.root, layer, head) == pytest.approx(expected.tolist(), abs=2)


def test_ranked_heads_run_by_their_score_and_a_clicked_one_is_shown_by_explore(
    visit: NewExplore, smollm2: attnviz.Model
) -> None:
    page, scores = visit("?score=previous").go(AllHeads), heads.previous_token(smollm2.trace(FIRST))
    before = page.order()
    page.choose("Ranked")
    page.until(lambda: page.order() != before)
    ranked = [tuple(map(int, re.findall(r"\d+", name))) for name in page.order()]
    values = [scores[place] for place in ranked]
    assert sorted(ranked) == [(layer, head) for layer in range(30) for head in range(9)]
    assert all(a >= b - 1e-5 for a, b in pairwise(values))
    expect(page.caption).to_contain_text("Highest first.")

    page.settled()
    page.read(17, 5)
    page.click()
    page.wait_for_params(layer=17, head=5)
    expect(page.says("Attention of L17H5")).to_be_visible()
    page.button("Open in Explore").click()
    explore = page.arrived(Explore)
    expect(explore.strip).to_be_visible()
    expect(explore.caption).to_contain_text("L17H5, clean run")


def test_arrow_keys_go_from_head_to_head_and_pass_over_those_that_are_filtered_out(visit: NewExplore) -> None:
    page = visit("?model=minilm&layer=2&head=11").go(AllHeads)
    press = page.page.keyboard.press
    page.stage.focus()
    press("ArrowRight")  # over the end of the layer
    expect(page.readout).to_have_text(re.compile("^L3H0 "))
    page.wait_for_params(layer=3, head=0)
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        press(key)
    expect(page.readout).to_have_text(re.compile("^L4H2 "))
    page.wait_for_params(layer=4, head=2)
    press("Home")
    press("Enter")
    page.wait_for_params(layer=0, head=0)

    page.only("L0H0, L0H9, L4H2")
    page.until(lambda: page.order() == ["L0H0", "L0H9", "L4H2"])
    expect(page.caption).to_contain_text("3 of 72 heads")
    page.settled()
    at = page.place(3, 3)
    page.page.mouse.click(at["x"], at["y"])  # picks nothing: what follows goes on from the head before
    page.stage.focus()
    press("ArrowRight")
    page.wait_for_params(layer=0, head=9)
    press("ArrowDown")
    page.wait_for_params(layer=4, head=2)


def test_saved_pictures_hold_every_head_and_a_hostile_text_stays_text(all_heads: NewAllHeads, tmp_path: Path) -> None:
    page = all_heads(model="minilm", with_text=HOSTILE)
    page.choose("Ranked")
    page.until(lambda: page.order() != SMALL)
    svg = ET.parse(page.kept("SVG", tmp_path / "heads.svg")).getroot()
    words = [node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert set(SMALL) <= set(words)
    assert any("all-MiniLM-L6-v2" in line for line in words)
    png = page.kept("PNG", tmp_path / "heads.png").read_bytes()
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
    explore.run("The quick brown fox jumps over the lazy dog while Mary and John went home. " * 4)
    frames.clear()
    page = explore.go(AllHeads)
    assert page.root.evaluate("root => root.size()") == [30, 9, 48, 48]
    largest = max(frames)
    assert 4 / 3 * 30 * 9 * 48 * 48 <= largest < 900_000
    frames.clear()
    page.read(3, 3)
    page.click()
    page.wait_for_params(layer=3, head=3)
    expect(page.says("Attention of L3H3")).to_be_visible()
    assert max(frames) < largest / 1.5, "only the map of the head that was picked goes over"


def test_a_narrow_screen_shows_every_head(all_heads: NewAllHeads) -> None:
    page = all_heads(model="minilm")
    page.page.set_viewport_size({"width": 390, "height": 844})
    page.until(lambda: (page.root.bounding_box() or {"width": 999})["width"] <= 390)
    box = page.root.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 391
    page.choose("Ranked")
    page.until(lambda: page.order() != SMALL)
    page.settled()
    page.stage.scroll_into_view_if_needed()
    assert page.read(2, 5).startswith("L2H5 · ")
