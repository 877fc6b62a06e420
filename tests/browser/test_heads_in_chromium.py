"""The Heads page in a real Chromium: from a map of all heads to one head's card, to a text in Explore, and back."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import urlencode

import numpy as np
import pytest
from driving import FIRST_PICTURE, Explore, running_app
from playwright.sync_api import Locator, Page, expect

from attnviz.corpus import Item, Shelf

NewExplore = Callable[..., Explore]
HOSTILE = '</script><img src=x onerror="window.__pwned=1"> and *b* and $x$'
TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "Nobody came; nobody called.",
    HOSTILE,
    "One, two, three, four, five!",
    "Rain fell on the old roof.",
]
READ = "Read: "
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
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(folder, key) of a shelf with a corpus whose name and texts try to be more than text."""
    folder = tmp_path_factory.mktemp("shelf")
    return str(folder), Shelf(folder / "corpora.sqlite").add([Item(text) for text in TEXTS], HOSTILE)


@pytest.fixture(scope="module")
def app_url(corpus: tuple[str, str]) -> Iterator[str]:
    """A server of this module's own, whose shelf holds the corpus."""
    with running_app(ATTNVIZ_DATA_DIR=corpus[0]) as url:
        yield url


class Heads:
    """The Heads page in one browser tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url, self.explore = page, url, Explore(page, url)
        self.map = page.locator('[data-testid="matrix"][data-key="heads-map"]')
        self.strips = page.locator('[data-testid="token-strip"]')

    def open(self, **params: str) -> "Heads":
        self.page.goto(f"{self.url}/heads?{urlencode(params)}")
        return self.still()

    def still(self) -> "Heads":
        """Wait until the script is done and says what it read."""
        expect(self.caption(READ)).to_be_visible(timeout=FIRST_PICTURE)
        self.page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")
        return self

    def caption(self, words: str) -> Locator:
        return self.page.locator(".attnviz-caption", has_text=re.compile(re.escape(words)))

    def until(self, **wanted: object) -> None:
        """Wait until the address has these values; None: it has no such."""
        self.page.wait_for_function(
            "wanted => Object.entries(wanted).every("
            "([name, value]) => new URL(location.href).searchParams.get(name) === value)",
            arg={name: None if value is None else str(value) for name, value in wanted.items()},
        )
        self.page.wait_for_function("document.querySelector('.stApp').dataset.testScriptState === 'notRunning'")

    def choose(self, name: str, title: str) -> None:
        self.page.locator(f".st-key-heads-{name}").get_by_role("radio", name=title).click()


@pytest.fixture
def heads(new_context: Callable[..., object], app_url: str) -> Heads:
    return Heads(new_context().new_page(), app_url)  # type: ignore[attr-defined]


def test_from_the_map_to_a_card_to_a_text_in_explore_and_back(heads: Heads, corpus: tuple[str, str]) -> None:
    heads.open(model="minilm", corpus=corpus[1])
    expect(heads.caption("Previous token: ")).to_be_visible()
    heads.page.locator(".st-key-heads-detector").get_by_role("combobox").click()
    heads.page.get_by_role("option", name="Punctuation", exact=True).click()
    heads.until(detector="punctuation")
    expect(heads.caption("Punctuation: attention to punctuation marks")).to_be_visible()
    values = heads.explore.values(heads.map, (6, 12))
    layer, head = (int(i) for i in np.unravel_index(np.nanargmax(values), values.shape))
    heads.explore.pick(heads.map, layer, head)
    heads.until(layer=layer, head=head)
    expect(heads.page.get_by_text(f"L{layer}H{head}", exact=True)).to_be_visible()
    expect(heads.caption(f"texts where L{layer}H{head} has the most attention to punctuation marks")).to_be_visible()
    opened = heads.caption("over all rows").first.inner_text()
    number, query = (int(re.search(pattern, opened)[1]) for pattern in (r"Text (\d+)", r" at (\d+) “"))  # type: ignore[index]
    heads.page.locator(".st-key-heads-open-fired-0").get_by_role("button").click()
    heads.explore.wait_for_params(layer=layer, head=head, query=query, sinks="renormalise")
    expect(heads.explore.text).to_have_value(TEXTS[number])
    expect(heads.explore.caption).to_contain_text(f"L{layer}H{head}")
    heads.page.get_by_role("link", name="Heads", exact=True).click()
    heads.still()
    heads.until(detector="punctuation", layer=layer, head=head, corpus=corpus[1])


def test_a_token_of_a_strip_opens_the_text_there(heads: Heads, corpus: tuple[str, str]) -> None:
    heads.open(model="minilm", corpus=corpus[1], layer="2", head="4", sink_in="1")
    heads.strips.first.locator('.chip[data-index="2"]').click()
    heads.explore.wait_for_params(layer=2, head=4, query=2)
    expect(heads.explore.caption).to_contain_text("L2H4")


def test_families_pick_a_head_by_its_point_and_the_address_restores_them(heads: Heads, corpus: tuple[str, str]) -> None:
    heads.open(model="minilm", corpus=corpus[1])
    heads.choose("facet", "Families")
    heads.until(facet="families")
    expect(heads.caption("Jensen-Shannon divergence")).to_be_visible()
    heads.choose("likeness", "Write")
    heads.until(likeness="writes")
    expect(heads.caption("Cosine of what two heads add")).to_be_visible()
    places = heads.page.locator(".st-key-heads-places .js-plotly-plot")
    before = heads.page.url
    at = places.evaluate(_MOST_ALONE)
    places.scroll_into_view_if_needed()
    box = places.bounding_box()
    assert box is not None
    heads.page.mouse.move(box["x"] + at["x"], box["y"] + at["y"])
    heads.page.wait_for_timeout(300)
    heads.page.mouse.click(box["x"] + at["x"], box["y"] + at["y"])
    layer, head = re.fullmatch(r"L(\d+)H(\d+)", at["name"]).groups()  # type: ignore[union-attr]
    heads.until(layer=layer, head=head, facet="families")
    expect(heads.caption(f"L{layer}H{head} is ringed")).to_be_visible()
    assert heads.page.url != before
    link = heads.page.url
    other = Heads(heads.page.context.new_page(), heads.url)
    other.page.goto(link)
    other.still()
    expect(other.caption(f"L{layer}H{head} is ringed")).to_be_visible()
    expect(other.caption("Cosine of what two heads add")).to_be_visible()


def test_hostile_names_and_texts_stay_text(heads: Heads, corpus: tuple[str, str]) -> None:
    heads.open(model="minilm", corpus=corpus[1], detector="distance", layer="0", head="0")
    expect(heads.page.get_by_text(HOSTILE).first).to_be_visible()
    expect(heads.caption("Texts nearest the median")).to_be_visible()  # below the last of the strips
    shown = " ".join(heads.strips.nth(i).inner_text() for i in range(heads.strips.count()))
    assert "onerror" in shown.replace("\n", "")
    assert heads.page.evaluate("window.__pwned") is None
