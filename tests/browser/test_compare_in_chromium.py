"""The Compare page in Chromium: it draws what the library measures, and what is done in one map shows in all."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from conftest import NewTab
from driving import Explore
from playwright.sync_api import expect
from tabs import Compare

import attnviz
from attnviz import Head, compare

FIRST = "When Mary and John went to the store, John gave a drink to"
SECOND = "When John and Mary went to the big store, Mary gave a drink to"
HOSTILE = "a <img src=x onerror=alert(1)> c"


NewCompare = Callable[..., Compare]


@pytest.fixture
def visitor(tab: NewTab, app_url: str) -> NewCompare:
    """visitor(**address): a person who opens the Compare page."""
    return lambda **params: Compare(tab(app_url), app_url).open(**params)


def test_typed_texts_are_compared_cell_by_cell(tab: NewTab, app_url: str, smollm2: attnviz.Model) -> None:
    visitor = Explore(tab(app_url), app_url).open(with_text=FIRST, layer="5", head="1").go(Compare)
    visitor.page.get_by_role("textbox", name="Second").fill(SECOND)
    visitor.button("Compare").click()
    difference = visitor.matrix("map-difference")
    expect(difference).to_be_visible()
    visitor.settled()

    runs = smollm2.trace(FIRST), smollm2.trace(SECOND)
    visitor.wait_for_values(difference, compare.head_difference(*runs, Head(5, 1)).weights)
    scores = compare.divergence(*runs)
    visitor.wait_for_values(visitor.matrix("divergence"), scores)
    for key, run in zip(("map-first", "map-second"), runs, strict=True):
        visitor.wait_for_values(visitor.matrix(key), run.pattern(5, 1).numpy())
    aligned = visitor.fresh.locator(".attnviz-aligned")
    expect(aligned.locator("del")).to_have_text(["␣Mary", "␣John", "␣John"])
    expect(aligned.locator("ins")).to_have_text(["␣John", "␣Mary", "␣big", "␣Mary"])

    # The heads that differ most can be picked.
    layer, head = np.unravel_index(scores.argmax(), scores.shape)
    assert (layer, head) != (5, 1)
    assert 0 < scores.max() < math.log(2)
    visitor.keyed("named-both").get_by_role("radio").first.click()
    visitor.wait_for_params(layer=layer, head=head)
    expect(visitor.says(f"First: attention of L{layer}H{head}")).to_be_visible()


def test_a_pick_and_a_zoom_in_one_map_show_in_all_and_another_mode_keeps_what_was_typed(visitor: NewCompare) -> None:
    here = visitor(with_text=FIRST, with_second=SECOND, layer=23, head=4)
    second = here.matrix("map-second")
    second.scroll_into_view_if_needed()
    here.pick(second, 13, 5)
    here.wait_for_params(query=12, key=5)
    expect(here.matrix("map-difference").locator(".readout")).to_have_text(re.compile("^query 12 "))
    # "big" is only in the second: nothing in the first can be selected for it.
    here.pick(second, 7, 2)
    expect(here.page.get_by_test_id("stToast")).to_contain_text("nothing that corresponds")
    assert here.params()["query"] == "12"
    second.get_by_role("button", name="Zoom in").click()
    here.page.wait_for_url(re.compile("[?&]window="))
    here.settled()
    top, bottom, left, right = map(int, here.params()["window"].split("-"))
    assert 0 <= top < bottom <= 14
    assert 0 <= left < right <= 14
    assert (bottom - top) * (right - left) < 14 * 14
    for key in ("map-first", "map-second", "map-difference"):
        expect(here.matrix(key).get_by_role("button", name="Whole")).to_be_enabled()

    field = here.page.get_by_role("textbox", name="Second")
    field.fill("Of {input}, not yet sent")
    here.page.get_by_role("radio", name="Two templates").click()
    here.wait_for_params(comparison="templates")
    expect(field).to_have_value("Of {input}, not yet sent")


def test_a_hostile_text_stays_text(visitor: NewCompare) -> None:
    here = visitor(with_text=HOSTILE, with_second="a <b>bold</b> c", model="dates")
    expect(here.matrix("map-difference")).to_be_visible()
    aligned = here.fresh.locator(".attnviz-aligned")
    here.until(lambda: "<img" in "".join(aligned.all_text_contents()).replace("␣", ""))
    assert aligned.locator("img, b").count() == 0
