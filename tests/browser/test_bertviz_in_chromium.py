"""The BertViz page in a real Chromium: each view draws in a frame that reaches nothing, and products are listed."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import NewTab
from playwright.sync_api import Frame, expect
from tabs import Bertviz

HOSTILE = '</script><img src=x onerror="window.__pwned=1"> "q" \\ <svg/onload=window.__pwned=1>'
CLOSED = "() => { try { return String(parent.document); } catch { return 'closed'; } }"


@pytest.fixture
def bertviz(tab: NewTab, app_url: str) -> Callable[..., Bertviz]:
    """bertviz(**address): a person who opens the BertViz page."""

    def make(**params: Any) -> Bertviz:
        return Bertviz(tab(app_url), app_url).open(**params)

    return make


def test_each_view_is_drawn_in_a_frame_that_reaches_nothing(bertviz: Callable[..., Bertviz]) -> None:
    here = bertviz(layer=23, head=3)
    for view in ("Head view", "Model view", "Neuron view"):
        frame = here.frame(view)
        assert here.frames.get_attribute("sandbox") == "allow-scripts"
        assert frame.evaluate("origin") == "null"
        assert frame.evaluate(CLOSED) == "closed"
        assert frame.locator("svg line").count() > 10
        here.until(lambda frame=frame: as_tall_as_its_content(here, frame))  # type: ignore[misc]


def as_tall_as_its_content(here: Bertviz, frame: Frame) -> bool:
    box = here.frames.bounding_box()
    return box is not None and abs(box["height"] - frame.evaluate("document.body.scrollHeight")) < 40


def test_a_hostile_text_is_text_in_the_frame(bertviz: Callable[..., Bertviz]) -> None:
    here = bertviz(with_text=HOSTILE, layer=23, head=3)
    frame = here.frame("Head view")
    assert "error" in frame.locator("body").inner_text()
    assert frame.evaluate("document.querySelectorAll('img, svg[onload]').length") == 0
    assert frame.evaluate("window.__pwned") is None
    assert here.page.evaluate("window.__pwned") is None


def test_the_products_of_a_picked_key_are_listed(bertviz: Callable[..., Bertviz]) -> None:
    here = bertviz(layer=23, head=3, query=13, key=9)
    here.choose("Query-key products")
    products = here.matrix("products")
    expect(products).to_be_visible()
    here.pick(products, 4, 24)
    here.wait_for_params(key=4)
    expect(here.says("Dimensions of key 4,")).to_be_visible()
