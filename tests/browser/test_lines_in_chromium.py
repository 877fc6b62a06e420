"""Lines and BertViz in a real Chromium: what is drawn is what the model did, and a token is never more than text."""

import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from driving import Explore
from playwright.sync_api import Frame, Page, expect

import attnviz
from attnviz import Head
from attnviz.lines import strongest_edges
from attnviz.ui.session import examples

NewExplore = Callable[..., Explore]
FIRST = examples()[0]["text"]
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> "q" \\ <svg/onload=window.__pwned=1>'
SECONDS = 30
PNG_START = b"\x89PNG\r\n\x1a\n"


def until(page: Page, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        page.wait_for_timeout(100)  # not time.sleep, in which Playwright hears nothing of the page


class Lines:
    """The Lines page in one browser tab."""

    def __init__(self, explore: Explore) -> None:
        self.explore, self.page = explore, explore.page
        # By the menu: an address below the first page makes the browser ask for files that are not there.
        self.page.get_by_role("link", name="Lines").click()
        self.root = self.page.locator('[data-testid="lines"]')
        self.readout = self.root.locator(".readout")
        self.stage = self.root.get_by_role("application")
        expect(self.page.locator(".attnviz-caption", has_text="Queries are on the left")).to_be_visible()
        self.page.wait_for_function("() => document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")
        until(
            self.page,
            lambda: self.root.evaluate("root => !!root.tokenCenter && root.querySelector('canvas').width > 300"),
        )

    def edges(self) -> list[tuple[str, int, int, float]]:
        return [tuple(edge) for edge in self.root.evaluate("root => root.shownEdges()")]

    def point_at(self, side: str, index: int) -> str:
        self.stage.scroll_into_view_if_needed()
        at = self.root.evaluate("(root, at) => root.tokenCenter(...at)", [side, index])
        self.page.mouse.move(at["x"], at["y"])
        expect(self.readout).to_have_text(re.compile(rf"^{'query' if side == 'queries' else 'key'} {index} "))
        return self.readout.inner_text()

    def pick(self, side: str, index: int) -> None:
        self.point_at(side, index)
        self.page.mouse.down()
        self.page.mouse.up()


def test_the_lines_are_the_strongest_edges_and_read_as_the_pattern(visit: NewExplore) -> None:
    lines = Lines(visit("?layer=23&head=3&query=13&heads=L23H3.L5H1"))
    trace = attnviz.load_model("smollm2", device="cpu").trace(FIRST)
    edges = strongest_edges(trace, [Head(23, 3), Head(5, 1)])
    names = ["L23H3", "L5H1"]
    drawn = lines.edges()
    assert [(names.index(name), q, k) for name, q, k, _ in drawn] == list(
        zip(edges.head.tolist(), edges.query.tolist(), edges.key.tolist(), strict=True)
    )
    assert [weight for *_, weight in drawn] == pytest.approx(edges.weight.tolist(), abs=1e-5)
    said = lines.point_at("queries", 13)
    found = re.findall(r"(L\d+H\d+) → (\d+) .*? ([\d.]+)(?= ·|$)", said)
    own = [(name, k, weight) for name, q, k, weight in drawn if q == 13]
    assert [(name, int(k)) for name, k, _ in found] == [(name, k) for name, k, _ in own]
    for name, key, weight in found:
        layer, head = map(int, re.findall(r"\d+", name))
        assert float(weight) == pytest.approx(float(trace.pattern(layer, head)[13, int(key)]), abs=6e-5)


def test_only_what_is_drawn_has_ink_and_a_hidden_head_loses_it(visit: NewExplore) -> None:
    lines = Lines(visit("?layer=23&head=3&heads=L23H3"))
    ink = """root => {
      const canvas = root.querySelector('canvas');
      const middle = canvas.getContext('2d').getImageData(canvas.width / 2, 0, 1, canvas.height).data;
      return middle.filter((_, i) => i % 4 === 3).reduce((sum, alpha) => sum + (alpha > 0), 0);
    }"""
    assert lines.root.evaluate(ink) > 10
    button = lines.root.get_by_role("button", name="L23H3")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert lines.edges() == []
    until(lines.page, lambda: lines.root.evaluate(ink) == 0)
    button.press("Enter")
    until(lines.page, lambda: lines.root.evaluate(ink) > 10)


def test_clicks_and_keys_pick_queries_and_keys(visit: NewExplore) -> None:
    lines = Lines(visit("?layer=23&head=3&query=13&key=9"))
    lines.pick("queries", 9)
    until(lines.page, lambda: lines.explore.params()["query"] == "9")
    lines.pick("keys", 3)
    until(lines.page, lambda: lines.explore.params()["key"] == "3")
    lines.stage.focus()
    for key in ("Home", "ArrowDown", "ArrowDown", "Enter"):
        lines.page.keyboard.press(key)
    until(lines.page, lambda: lines.explore.params()["query"] == "2")
    expect(lines.root.locator("[aria-live]")).to_contain_text("query 2")


def test_the_grid_takes_heads_in_and_out(visit: NewExplore) -> None:
    lines = Lines(visit("?layer=23&head=3"))
    lines.explore.pick(lines.explore.grid, 5, 1)
    until(lines.page, lambda: lines.explore.params().get("heads") == "L23H3.L5H1")
    until(lines.page, lambda: {edge[0] for edge in lines.edges()} == {"L23H3", "L5H1"})
    lines.explore.keyed("lines-chip-L23H3").get_by_role("button").click()
    until(lines.page, lambda: {edge[0] for edge in lines.edges()} == {"L5H1"})


def test_words_and_hidden_sinks_are_drawn_as_chosen(visit: NewExplore) -> None:
    lines = Lines(visit("?layer=23&head=3&unit=word&sinks=hide&share=1"))
    assert all(key != 0 for _, _, key, _ in lines.edges())
    expect(lines.page.locator(".attnviz-caption", has_text="By word")).to_contain_text("was taken away")


def test_the_picture_is_saved_as_png_and_svg(visit: NewExplore, tmp_path: Path) -> None:
    lines = Lines(visit())
    for kind in ("PNG", "SVG"):
        with lines.page.expect_download() as download:
            lines.root.get_by_role("button", name=f"Save this picture as {kind}").click()
        download.value.save_as(tmp_path / kind)
    assert (tmp_path / "PNG").read_bytes().startswith(PNG_START)
    svg = ET.fromstring((tmp_path / "SVG").read_text("utf-8"))
    texts = [node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("␣John") == 4
    assert any(text.startswith("Attention of L23H3") for text in texts)
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}path"))) > 1


def test_hostile_text_is_text_in_lines_and_in_the_frame(visit: NewExplore, tmp_path: Path) -> None:
    explore = visit("?layer=23&head=3")
    explore.run(HOSTILE)
    lines = Lines(explore)
    n_tokens = len(attnviz.load_model("smollm2", device="cpu").trace(HOSTILE).tokens)
    for index in range(n_tokens):
        lines.point_at("queries", index)
    with lines.page.expect_download() as download:
        lines.root.get_by_role("button", name="Save this picture as SVG").click()
    download.value.save_as(tmp_path / "svg")
    assert "img" not in {node.tag for node in ET.fromstring((tmp_path / "svg").read_text("utf-8")).iter()}
    frame = bertviz_frame(explore, "Head view")
    words = frame.locator("body").inner_text()
    assert "onerror" in words or "error" in words
    assert frame.evaluate("document.querySelectorAll('img, svg[onload]').length") == 0
    assert frame.evaluate("window.__pwned") is None
    assert lines.page.evaluate("window.__pwned") is None


def bertviz_frame(explore: Explore, view: str) -> Frame:
    """Go to the BertViz page, have a view made, and wait for its drawing."""
    page = explore.page
    page.get_by_role("link", name="BertViz").click()
    explore.keyed("bertviz-kind").get_by_role("radio", name=view).click()
    page.get_by_role("button", name="Make it").click()
    element = page.locator('[data-testid="framed"] iframe')
    expect(element).to_be_visible()
    frame = element.element_handle().content_frame()
    assert frame is not None
    frame.wait_for_selector("svg line", state="attached")
    return frame


@pytest.mark.parametrize("view", ["Head view", "Model view", "Neuron view"])
def test_bertviz_draws_in_a_frame_that_reaches_nothing(visit: NewExplore, view: str) -> None:
    explore = visit("?layer=23&head=3")
    frame = bertviz_frame(explore, view)
    element = explore.page.locator('[data-testid="framed"] iframe')
    assert element.get_attribute("sandbox") == "allow-scripts"
    assert frame.evaluate("origin") == "null"
    assert frame.evaluate("() => { try { return String(parent.document); } catch { return 'closed'; } }") == "closed"
    assert frame.locator("svg line").count() > 10
    # The frame is as tall as what it holds.
    until(
        explore.page, lambda: abs(element.bounding_box()["height"] - frame.evaluate("document.body.scrollHeight")) < 40
    )  # type: ignore[index]


def test_the_products_of_a_picked_key_are_listed(visit: NewExplore) -> None:
    explore = visit("?layer=23&head=3&query=13&key=9")
    explore.page.get_by_role("link", name="BertViz").click()
    explore.keyed("bertviz-kind").get_by_role("radio", name="Query-key products").click()
    map_ = explore.matrix("products")
    expect(map_).to_be_visible()
    explore.pick(map_, 4, 24)
    until(explore.page, lambda: explore.params()["key"] == "4")
    expect(explore.page.get_by_text("Dimensions of key 4,")).to_be_visible()


def test_twenty_thousand_lines_are_drawn_at_once(visit: NewExplore) -> None:
    explore = visit("?layer=23&head=3")
    explore.run("The committee met on Monday, and Mary said that it would work if John agreed. " * 40)
    lines = Lines(explore)
    explore.keyed("lines-layer").get_by_role("button").click()
    until(lines.page, lambda: len(lines.edges()) > 1000)
    lines.explore.keyed("lines-share").get_by_role("slider").press("End")
    until(lines.page, lambda: len(lines.edges()) == 20_000)
    lines.root.get_by_role("button", name="Whole text").click()
    expect(lines.root.locator("canvas")).to_be_visible()
