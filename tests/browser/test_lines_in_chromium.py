"""Lines in a real Chromium: what is drawn is what the model did, and a token is never more than text."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import NewExplore, NewTab
from playwright.sync_api import expect
from seen import FIRST
from tabs import Lines

import attnviz
from attnviz import Head
from attnviz.lines import strongest_edges

HOSTILE = '</script><img src=x onerror="window.__pwned=1"> "q" \\ <svg/onload=window.__pwned=1>'
PNG_START = b"\x89PNG\r\n\x1a\n"
SVG = "{http://www.w3.org/2000/svg}"


NewLines = Callable[..., Lines]


@pytest.fixture
def lines(tab: NewTab, app_url: str) -> NewLines:
    """lines(**address): a person who opens the Lines page."""

    def make(**params: Any) -> Lines:
        return Lines(tab(app_url), app_url).open(**params)

    return make


def test_the_lines_are_the_strongest_edges_and_read_as_the_pattern(lines: NewLines, smollm2: attnviz.Model) -> None:
    here, trace = lines(layer=23, head=3, query=13, heads="L23H3.L5H1"), smollm2.trace(FIRST)
    edges = strongest_edges(trace, [Head(23, 3), Head(5, 1)])
    names = ["L23H3", "L5H1"]
    drawn = here.edges()
    assert [(names.index(name), q, k) for name, q, k, _ in drawn] == list(
        zip(edges.head.tolist(), edges.query.tolist(), edges.key.tolist(), strict=True)
    )
    assert [weight for *_, weight in drawn] == pytest.approx(edges.weight.tolist(), abs=1e-5)
    said = here.read("queries", 13)
    found = re.findall(r"(L\d+H\d+) → (\d+) .*? ([\d.]+)(?= ·|$)", said)
    own = [(name, k, weight) for name, q, k, weight in drawn if q == 13]
    assert [(name, int(k)) for name, k, _ in found] == [(name, k) for name, k, _ in own]
    for name, key, weight in found:
        layer, head = map(int, re.findall(r"\d+", name))
        assert float(weight) == pytest.approx(float(trace.pattern(layer, head)[13, int(key)]), abs=6e-5)


def test_only_what_is_drawn_has_ink_and_the_grid_takes_heads_in_and_out(lines: NewLines) -> None:
    here = lines(layer=23, head=3)
    here.until(lambda: here.ink() > 10)
    here.pick(here.matrix("grid"), 5, 1)
    here.wait_for_params(heads="L23H3.L5H1")
    here.until(lambda: here.drawn_heads() == {"L23H3", "L5H1"})
    for name in ("L23H3", "L5H1"):
        button = here.root.get_by_role("button", name=name)
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")
        here.until(lambda name=name: name not in here.drawn_heads())  # type: ignore[misc]
    assert here.edges() == []
    here.until(lambda: here.ink() == 0)
    here.root.get_by_role("button", name="L5H1").press("Enter")
    here.until(lambda: here.ink() > 10)
    here.keyed("lines-chip-L23H3").get_by_role("button").click()
    here.wait_for_params(heads="L5H1")
    here.until(lambda: here.drawn_heads() == {"L5H1"})


def test_clicks_and_keys_pick_queries_and_keys_and_the_picture_is_saved(lines: NewLines, tmp_path: Path) -> None:
    here = lines(layer=23, head=3, query=13, key=9)
    here.read("queries", 9)
    here.click()
    here.wait_for_params(query=9)
    here.read("keys", 3)
    here.click()
    here.wait_for_params(key=3)
    here.stage.focus()
    for key in ("Home", "ArrowDown", "ArrowDown", "Enter"):
        here.page.keyboard.press(key)
    here.wait_for_params(query=2)
    expect(here.root.locator("[aria-live]")).to_contain_text("query 2")

    files = {
        kind: here.saved(here.root.get_by_role("button", name=f"Save this picture as {kind}"), tmp_path / kind)
        for kind in ("PNG", "SVG")
    }
    assert files["PNG"].read_bytes().startswith(PNG_START)
    svg = ET.fromstring(files["SVG"].read_text("utf-8"))
    texts = [node.text or "" for node in svg.iter(f"{SVG}text")]
    assert texts.count("␣John") == 4
    assert any(text.startswith("Attention of L23H3") for text in texts)
    assert len(list(svg.iter(f"{SVG}path"))) > 1


def test_words_and_hidden_sinks_are_drawn_as_chosen(lines: NewLines) -> None:
    here = lines(layer=23, head=3, unit="word", sinks="hide", share=1)
    edges = here.edges()
    assert edges
    assert all(key != 0 for _, _, key, _ in edges)
    expect(here.noted("By word")).to_contain_text("was taken away")


def test_hostile_text_is_text(visit: NewExplore, smollm2: attnviz.Model, tmp_path: Path) -> None:
    explore = visit("?layer=23&head=3")
    explore.run(HOSTILE)
    here = explore.go(Lines)
    for index in range(len(smollm2.encode(HOSTILE).tokens)):
        here.read("queries", index)
    svg = here.saved(here.root.get_by_role("button", name="Save this picture as SVG"), tmp_path / "svg")
    assert "img" not in {node.tag.removeprefix(SVG) for node in ET.fromstring(svg.read_text("utf-8")).iter()}
    assert here.page.evaluate("window.__pwned") is None


def test_twenty_thousand_lines_are_drawn_at_once(tab: NewTab, app_url: str) -> None:
    text = "The committee met on Monday, and Mary said that it would work if John agreed. " * 17
    low = {"width": 1280, "height": 800}  # lower than the columns of 300 tokens are tall
    here = Lines(tab(app_url, viewport=low), app_url).open(with_text=text, layer=23, head=3)
    here.keyed("lines-layer").get_by_role("button").click()
    here.until(lambda: len(here.edges()) > 1000)
    here.keyed("lines-share").get_by_role("slider").press("End")
    here.until(lambda: len(here.edges()) == 20_000)  # of 400,000 pairs of tokens in nine heads
    here.root.get_by_role("button", name="Whole text").click()
    here.until(lambda: here.ink() > 10)
