"""The Heads page in a real Chromium: from a map of all heads to one head's card, to a text in Explore, and back."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NewTab
from driving import FIRST_PICTURE, Explore, Tab
from playwright.sync_api import Locator, Page, expect

from attnviz.corpus import Item, Shelf

HOSTILE = '</script><img src=x onerror="window.__pwned=1"> and *b* and $x$'
TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "Nobody came; nobody called.",
    HOSTILE,
    "One, two, three, four, five!",
    "Rain fell on the old roof.",
]
# The point that stands most alone: no other one is under the pointer.
_MOST_ALONE = """plot => {
  const { xaxis, yaxis } = plot._fullLayout;
  const { x, y, hovertext } = plot._fullData[0];
  const points = Array.from(x, (_, i) => [xaxis._offset + xaxis.l2p(x[i]), yaxis._offset + yaxis.l2p(y[i])]);
  const away = (p, q) => p === q ? Infinity : Math.hypot(p[0] - q[0], p[1] - q[1]);
  const apart = points.map(p => Math.min(...points.map(q => away(p, q))));
  const i = apart.indexOf(Math.max(...apart));
  return { x: points[i][0], y: points[i][1], name: hovertext[i] };
}"""


@pytest.fixture(scope="module")
def corpus(data_folder: Path) -> str:
    """The key of a corpus on the server's shelf whose name and texts try to be more than text."""
    return Shelf(data_folder / "corpora.sqlite").add([Item(text) for text in TEXTS], HOSTILE)


class Heads(Tab):
    """The Heads page in one browser tab."""

    PATH, TITLE, SECTION = "heads", "Heads", "Many texts"

    def __init__(self, page: Page, url: str) -> None:
        super().__init__(page, url)
        self.map = self.matrix("heads-map")
        self.strips = self.part("token-strip")

    def settled(self) -> "Heads":
        """Wait until the script is done and says what it read."""
        expect(self.noted("Read: ")).to_be_visible(timeout=FIRST_PICTURE)
        return super().settled()

    def caption(self, words: str) -> Locator:
        return self.noted(re.compile(re.escape(words)))

    def choose(self, name: str, title: str) -> None:
        self.keyed(f"heads-{name}").get_by_role("radio", name=title).click()


NewHeads = Callable[..., Heads]


@pytest.fixture
def heads(tab: NewTab, app_url: str, corpus: str) -> NewHeads:
    """heads(**address): a person who opens the Heads page on the corpus."""

    def make(**params: Any) -> Heads:
        return Heads(tab(app_url), app_url).open(model="minilm", corpus=corpus, **params)

    return make


def test_from_the_map_to_a_card_to_a_text_in_explore_and_back(heads: NewHeads, corpus: str) -> None:
    here = heads()
    expect(here.caption("Previous token: ")).to_be_visible()
    here.keyed("heads-detector").get_by_role("combobox").click()
    here.page.get_by_role("option", name="Punctuation", exact=True).click()
    here.wait_for_params(detector="punctuation")
    expect(here.caption("Punctuation: attention to punctuation marks")).to_be_visible()
    values = here.values(here.map, (6, 12))
    layer, head = (int(i) for i in np.unravel_index(np.nanargmax(values), values.shape))
    here.pick(here.map, layer, head)
    here.wait_for_params(layer=layer, head=head)
    expect(here.says(f"L{layer}H{head}", exact=True)).to_be_visible()
    expect(here.caption(f"texts where L{layer}H{head} has the most attention to punctuation marks")).to_be_visible()
    opened = here.caption("over all rows").first.inner_text()
    number, query = (int(re.search(pattern, opened)[1]) for pattern in (r"Text (\d+)", r" at (\d+) “"))  # type: ignore[index]
    here.keyed("heads-open-fired-0").get_by_role("button").click()
    explore = here.arrived(Explore)
    explore.wait_for_params(layer=layer, head=head, query=query, sinks="renormalise")
    expect(explore.text).to_have_value(TEXTS[number])
    expect(explore.caption).to_contain_text(f"L{layer}H{head}")
    explore.go(Heads).wait_for_params(detector="punctuation", layer=layer, head=head, corpus=corpus)


def test_hostile_names_and_texts_stay_text_and_a_token_opens_its_text_there(heads: NewHeads) -> None:
    here = heads(detector="distance", layer=0, head=0, sink_in=1)
    expect(here.says(HOSTILE).first).to_be_visible()
    expect(here.caption("Texts nearest the median")).to_be_visible()  # below the last of the strips
    shown = " ".join(here.strips.all_inner_texts())
    assert "onerror" in shown.replace("\n", "")
    assert here.page.evaluate("window.__pwned") is None
    here.strips.first.locator('.chip[data-index="2"]').click()
    explore = here.arrived(Explore).wait_for_params(layer=0, head=0, query=2)
    expect(explore.caption).to_contain_text("L0H0")


def test_families_pick_a_head_by_its_point_and_the_address_restores_them(heads: NewHeads) -> None:
    here = heads()
    here.choose("facet", "Families")
    here.wait_for_params(facet="families")
    expect(here.caption("Jensen-Shannon divergence")).to_be_visible()
    here.choose("likeness", "Write")
    here.wait_for_params(likeness="writes")
    expect(here.caption("Cosine of what two heads add")).to_be_visible()
    places = here.keyed("heads-places").locator(".js-plotly-plot")
    before = here.page.url
    places.scroll_into_view_if_needed()
    at = places.evaluate(_MOST_ALONE)
    box = places.bounding_box()
    assert box is not None
    here.page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
    expect(places.locator(".hoverlayer")).to_contain_text(at["name"])
    here.click()
    layer, head = re.fullmatch(r"L(\d+)H(\d+)", at["name"]).groups()  # type: ignore[union-attr]
    here.wait_for_params(layer=layer, head=head, facet="families")
    assert here.page.url != before
    for place in (here, here.beside()):
        expect(place.caption(f"L{layer}H{head} is ringed")).to_be_visible()
        expect(place.caption("Cosine of what two heads add")).to_be_visible()
