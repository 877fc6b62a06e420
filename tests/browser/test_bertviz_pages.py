"""BertViz's views in a real Chromium: they draw, they answer, they ask nobody, and a token is never more than text."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab

import attnviz
from attnviz import Model, Trace
from attnviz.bertviz_views import Page, head_view, model_view, neuron_view

# BertViz's own Python leaves the script that it reads to the garbage collector.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file .*_view\.js:ResourceWarning")

VIEWS: dict[str, Callable[..., Page]] = {"head": head_view, "model": model_view, "neuron": neuron_view}
HOSTILE = [
    "<img src=x onerror='window.pwned=1'>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "<svg/onload=window.pwned=1>",
    "PYTHON_PARAMS",
    "\u2028\u2029",
    "'\"\\`${window.pwned=1}",
    "&lt;b&gt;",
]
Show = Callable[[Page], Tab]


@pytest.fixture
def show(chromium: Browser, tmp_path: Path) -> Iterator[Show]:
    """Opens a page from a file; at the end it may have asked for nothing else, nor complained."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(30_000)
    asked: list[str] = []
    complaints: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    context.on("weberror", lambda web: complaints.append(str(web.error)))
    file = tmp_path / "view.html"

    def open_page(page: Page) -> Tab:
        file.write_text(page.html, encoding="utf-8")
        tab = context.new_page()
        tab.goto(file.as_uri())
        return tab

    yield open_page
    owned = [tab.evaluate("window.pwned") for tab in context.pages]
    context.close()
    assert (set(asked), complaints, set(owned)) == ({file.as_uri()}, [], {None})


@pytest.fixture(scope="module")
def mary(smollm2: Model) -> Trace:
    return smollm2.trace("When Mary and John went to the store, John gave a drink to")


@pytest.fixture(scope="module")
def date() -> Trace:
    return attnviz.load_model("dates").trace("the 3rd of May 1998", "1998-05-03")


def texts(trace: Trace) -> list[str]:
    return [token.text for token in trace.tokens]


def opacities(tab: Tab, selector: str, name: str) -> list[float]:
    found = tab.locator(selector).evaluate_all("(all, name) => all.map(one => +one.getAttribute(name))", name)
    return [float(x) for x in found]


def rounded(values: torch.Tensor) -> list[float]:
    return values.flatten().double().round(decimals=4).tolist()


def test_the_head_view_draws_every_weight_and_changes_layers(mary: Trace, show: Show) -> None:
    tab = show(head_view(mary, layers=[3, 22], heads=[4]))
    assert tab.locator("#left text").all_text_contents() == tab.locator("#right text").all_text_contents()
    assert tab.locator("#left text").all_text_contents() == texts(mary)
    assert tab.locator("#layer option").all_text_contents() == ["3", "22"]
    for layer in (3, 22):
        tab.locator("#layer").select_option(str(layer))
        drawn = opacities(tab, ".headAttention[head-index='4'] line", "stroke-opacity")
        assert drawn == rounded(mary.pattern(layer, 4))
    assert set(opacities(tab, ".headAttention[head-index='3'] line", "stroke-opacity")) == {0.0}


def test_hovering_the_head_view_shows_one_querys_lines(mary: Trace, show: Show) -> None:
    tab = show(head_view(mary, layers=[3]))
    tab.locator("#left text").nth(6).hover()
    assert tab.locator("#attention line[visibility='visible']").count() == 9 * 14
    assert set(opacities(tab, "#attention line[visibility='visible']", "left-token-index")) == {6.0}


def test_the_model_view_draws_the_heads_asked_for_and_enlarges_one(mary: Trace, show: Show) -> None:
    tab = show(model_view(mary, layers=[3, 22], heads=[1, 8]))
    assert tab.locator(".attn_background").count() == 4
    assert opacities(tab, "#vis line", "stroke-opacity") == [
        x for layer in (3, 22) for head in (1, 8) for x in rounded(mary.pattern(layer, head))
    ]
    tab.locator(".attn_background + * ~ rect").nth(3).click()
    expect(tab.locator("text.detail")).to_have_text("Layer 22, Head 8")
    assert tab.locator("text.token").all_text_contents() == texts(mary) * 2


@pytest.mark.parametrize("kind", ["head", "model"])
def test_an_encoder_decoders_sites_are_a_choice(date: Trace, kind: str, show: Show) -> None:
    tab = show(VIEWS[kind](date, layers=[0, 1]))
    assert tab.locator("#filter option").all_text_contents() == ["Encoder", "Decoder", "Cross"]
    for place, site in enumerate(("encoder", "decoder", "cross")):
        tab.locator("#filter").select_option(str(place))
        queries, keys = map(len, date.axes(site))
        assert tab.locator("#vis line").count() == 4 * queries * keys * (2 if kind == "model" else 1)
    if kind == "head":
        assert tab.locator("#left text").all_text_contents() == texts(date)
        assert tab.locator("#right text").all_text_contents() == [token.text for token in date.source_tokens]


def expand(tab: Tab, query: int) -> None:
    token = tab.locator("#collapsed #leftText > g").nth(query)
    token.locator("text").hover()
    token.locator("rect").last.click()


def assert_products_are_shown(tab: Tab, trace: Trace, layer: int, head: int, query: int, site: str | None) -> None:
    """The vectors, the scores and the weights of one query, as the expanded view has them."""
    recorded: Any = trace.layer(layer, site)
    q = recorded.query[0, head]
    k = recorded.key[0, head // recorded.group]
    shown = tab.locator("#expanded")
    expect(shown).to_have_attribute("visibility", "visible")
    assert opacities(tab, "#queries .element", "data-value") == rounded(q)
    assert opacities(tab, "#keys .element", "data-value") == rounded(k)
    dots = opacities(tab, "#dotproducts rect", "data-value")
    assert dots == pytest.approx((k @ q[query] / math.sqrt(len(q[query]))).tolist(), abs=1e-2)
    weights = trace.pattern(layer, head, site)[query].tolist()
    lit = tab.locator("#expanded #rightText .highlight").evaluate_all("all => all.map(one => +one.style.opacity)")
    assert lit == pytest.approx(weights, abs=1e-3)


def test_the_neuron_view_shows_a_decoders_vectors_on_hover(mary: Trace, show: Show) -> None:
    tab = show(neuron_view(mary, layers=[3, 22], head=5))
    assert tab.locator("#collapsed #leftText text").all_text_contents() == texts(mary)
    assert tab.locator("#collapsed line").count() == 14 * 14
    assert tab.locator("#layer option").all_text_contents() == ["3", "22"]
    expand(tab, 6)
    assert_products_are_shown(tab, mary, 3, 5, 6, None)
    hidden = tab.locator("#product .vector").evaluate_all("all => all.map(one => one.style.opacity)")
    assert hidden == ["1"] * 7 + ["0"] * 7
    tab.locator("#layer").select_option(label="22")
    tab.locator("#att_head").select_option("8")
    tab.locator("#expanded #leftText text").nth(9).hover()
    assert_products_are_shown(tab, mary, 22, 8, 9, None)


def test_the_neuron_view_shows_an_encoders_vectors(minilm: Model, show: Show) -> None:
    trace = minilm.trace("The cat sat on the mat.")
    tab = show(neuron_view(trace, layers=[2], head=7, theme="dark"))
    expand(tab, 3)
    assert_products_are_shown(tab, trace, 2, 7, 3, None)
    assert tab.locator("#product .vector[style*='opacity: 0']").count() == 0


def test_the_neuron_view_shows_cross_attention_with_axes_of_their_own(date: Trace, show: Show) -> None:
    tab = show(neuron_view(date, layers=[1], head=2, site="cross"))
    expand(tab, 4)
    assert_products_are_shown(tab, date, 1, 2, 4, "cross")


@pytest.mark.parametrize("kind", list(VIEWS))
def test_hostile_tokens_are_text(mary: Trace, kind: str, show: Show) -> None:
    tokens = [replace(token, text=text) for token, text in zip(mary.tokens, HOSTILE, strict=False)]
    trace = replace(mary, tokens=(*tokens, *mary.tokens[len(tokens) :]), info=replace(mary.info, name=HOSTILE[0]))
    tab = show(VIEWS[kind](trace, layers=[0]))
    if kind == "model":
        tab.locator(".attn_background + * ~ rect").first.click()
    assert [text for text in tab.locator("#vis text").all_text_contents() if text in HOSTILE][:8] == HOSTILE
    expect(tab.locator(".caption")).to_contain_text(HOSTILE[0])
    assert tab.locator("img, #vis script, svg svg").count() == 0


@pytest.mark.parametrize("kind", list(VIEWS))
@pytest.mark.parametrize(("theme", "paper"), [("light", 255), ("dark", 0)])
def test_labels_can_be_read_in_both_themes(mary: Trace, kind: str, theme: str, paper: int, show: Show) -> None:
    tab = show(VIEWS[kind](mary, layers=[0], theme=theme))
    assert (
        tab.locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
        == f"rgb({paper}, {paper}, {paper})"
    )
    fills = tab.locator("#vis text").evaluate_all(
        "all => all.filter(one => one.textContent).map(one => getComputedStyle(one).fill.match(/\\d+/g).map(Number))"
    )
    assert len(fills) > 5
    assert all(abs(channel - paper) > 120 for fill in fills for channel in fill)


def test_the_policy_lets_nothing_out(mary: Trace, chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "view.html"
    file.write_text(head_view(mary, layers=[0]).html, encoding="utf-8")
    tab = chromium.new_page()
    tab.goto(file.as_uri())
    said = tab.evaluate(
        """() => new Promise(done => {
          const refused = [];
          document.addEventListener('securitypolicyviolation', event => {
            refused.push(event.violatedDirective);
            if (refused.length === 2) done(refused.sort());
          });
          new Image().src = 'x.png';
          document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href: 'x.css' }));
        })"""
    )
    tab.close()
    assert said == ["img-src", "style-src-elem"]
