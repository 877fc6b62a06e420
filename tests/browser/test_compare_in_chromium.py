"""The Compare page in Chromium: it draws what the library measures, and what is done in one map shows in all."""

import math
import re

import numpy as np
import pytest
from conftest import NewContext
from driving import FIRST_PICTURE, Explore
from playwright.sync_api import expect

import attnviz
from attnviz import Head, compare

FIRST = "When Mary and John went to the store, John gave a drink to"
SECOND = "When John and Mary went to the big store, Mary gave a drink to"
HOSTILE = "a <img src=x onerror=alert(1)> c"


class Compare(Explore):
    """The Compare page in one browser tab."""

    def open(self, query: str = "", **params: str) -> None:
        # The app's own navigation leads there: it makes the pages known to a server that has just started.
        super().open(query, **params)
        self.page.get_by_role("link", name="Compare").click()
        self.settled()

    def settled(self) -> None:
        self.page.wait_for_function(
            """() => document.querySelector('.stApp')?.dataset.testScriptState === 'notRunning'
              && document.querySelector('.st-key-strip, .st-key-compare-first, [data-testid="stAlert"]')""",
            timeout=FIRST_PICTURE,
        )


@pytest.fixture
def visitor(new_context: NewContext, app_url: str) -> Compare:
    return Compare(new_context().new_page(), app_url)


def test_typed_texts_are_compared_cell_by_cell(visitor: Compare, smollm2: attnviz.Model) -> None:
    visitor.open(with_text=FIRST, layer="23", head="4")
    visitor.page.get_by_role("textbox", name="Second").fill(SECOND)
    visitor.page.get_by_role("button", name="Compare", exact=True).click()
    difference = visitor.matrix("map-difference")
    expect(difference).to_be_visible()
    visitor.settled()

    runs = smollm2.trace(FIRST), smollm2.trace(SECOND)
    found = compare.head_difference(*runs, Head(23, 4))
    np.testing.assert_allclose(visitor.values(difference, (14, 14)), found.weights, atol=1e-5)
    scores = compare.divergence(*runs)
    np.testing.assert_allclose(visitor.values(visitor.matrix("divergence"), (30, 9)), scores, atol=1e-5)
    for key, run in zip(("map-first", "map-second"), runs, strict=True):
        drawn = visitor.values(visitor.matrix(key), (len(run.tokens), len(run.tokens)))
        np.testing.assert_allclose(drawn, run.pattern(23, 4).numpy(), atol=1e-5)
    aligned = visitor.page.locator(".attnviz-aligned")
    assert aligned.locator("del").all_text_contents() == ["␣Mary", "␣John", "␣John"]
    assert aligned.locator("ins").all_text_contents() == ["␣John", "␣Mary", "␣big", "␣Mary"]


def test_a_pick_and_a_zoom_in_one_map_show_in_all(visitor: Compare) -> None:
    visitor.open(with_text=FIRST, with_second=SECOND, layer="23", head="4")
    second = visitor.matrix("map-second")
    second.scroll_into_view_if_needed()
    visitor.pick(second, 13, 5)
    visitor.wait_for_params(query=12, key=5)
    expect(visitor.matrix("map-difference").locator(".readout")).to_have_text(re.compile("^query 12 "))
    # "big" is only in the second: nothing in the first can be selected for it.
    visitor.pick(second, 7, 2)
    expect(visitor.page.get_by_test_id("stToast")).to_contain_text("nothing that corresponds")
    assert visitor.params()["query"] == "12"
    second.get_by_role("button", name="Zoom in").click()
    visitor.page.wait_for_url(re.compile("[?&]window="))
    visitor.settled()
    top, bottom, left, right = map(int, visitor.params()["window"].split("-"))
    assert 0 <= top < bottom <= 14
    assert 0 <= left < right <= 14
    assert (bottom - top) * (right - left) < 14 * 14
    for key in ("map-first", "map-second", "map-difference"):
        expect(visitor.matrix(key).get_by_role("button", name="Whole")).to_be_enabled()


def test_the_heads_that_differ_most_can_be_picked(visitor: Compare, smollm2: attnviz.Model) -> None:
    visitor.open(with_text=FIRST, with_second=SECOND, layer="0", head="0")
    scores = compare.divergence(smollm2.trace(FIRST), smollm2.trace(SECOND))
    layer, head = np.unravel_index(scores.argmax(), scores.shape)
    visitor.keyed("named-both").get_by_role("radio").first.click()
    visitor.wait_for_params(layer=layer, head=head)
    expect(visitor.page.get_by_text(f"First: attention of L{layer}H{head}")).to_be_visible()
    assert 0 < scores.max() < math.log(2)


def test_a_hostile_text_stays_text(visitor: Compare) -> None:
    visitor.open(with_text=HOSTILE, with_second="a <b>bold</b> c")
    expect(visitor.matrix("map-difference")).to_be_visible()
    assert visitor.page.locator(".attnviz-aligned img, .attnviz-aligned b").count() == 0
    assert "<img" in "".join(visitor.page.locator(".attnviz-aligned").all_text_contents()).replace("␣", "")


def test_modes_keep_what_was_typed(visitor: Compare) -> None:
    visitor.open(with_text=FIRST, with_second=SECOND)
    expect(visitor.matrix("map-difference")).to_be_visible()
    visitor.page.get_by_role("textbox", name="Second").fill("Of {input}, not yet sent")
    visitor.page.get_by_role("radio", name="Two templates").click()
    visitor.wait_for_params(comparison="templates")
    expect(visitor.page.get_by_role("textbox", name="Second")).to_have_value("Of {input}, not yet sent")
