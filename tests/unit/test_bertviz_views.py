"""BertViz's views as documents: what is in their JSON block, what is not in the page, how large they are."""

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib import metadata
from typing import Any

import pytest
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from texts import text_of_length

import attnviz
from attnviz import Model, Trace, bertviz_views
from attnviz.bertviz_views import Page, estimated_bytes, head_view, model_view, neuron_view
from attnviz.errors import AttnvizError, HeadError, InputError, Unsupported

# BertViz's own Python leaves the script that it reads to the garbage collector.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed file .*_view\.js:ResourceWarning")

TEXT = "When Mary and John went to the store, John gave a drink to"
VIEWS: dict[str, Callable[..., Page]] = {"head": head_view, "model": model_view, "neuron": neuron_view}
SITES = ("encoder", "decoder", "cross")
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "PYTHON_PARAMS",
    "&lt;&amp;",
    "\u2028\u2029\ud800",
    '"\\',
]


class Scripts(HTMLParser):
    """The script elements of a page as a browser splits them."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(page.html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self._inside = tag == "script"
        if self._inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


def block(page: Page) -> str:
    found = re.findall(r'<script type="application/json" id="bertviz-params">(.*?)</script>', page.html, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def params(page: Page) -> dict[str, Any]:
    return dict(json.loads(block(page)))


def rounded(values: torch.Tensor) -> list[Any]:
    return list(values.double().round(decimals=4).tolist())


def with_texts(trace: Trace, texts: list[str]) -> Trace:
    tokens = [replace(token, text=text) for token, text in zip(trace.tokens, texts, strict=False)]
    return replace(trace, tokens=(*tokens, *trace.tokens[len(tokens) :]))


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


@pytest.fixture(scope="module")
def date(dates: Model) -> Trace:
    return dates.trace("the 3rd of May 1998", "1998-05-03")


@pytest.fixture(scope="module")
def mary(smollm2: Model) -> Trace:
    return smollm2.trace(TEXT)


@cache
def small_trace() -> Trace:
    """14 tokens by a tiny decoder with grouped heads."""
    return attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids(14))


@pytest.fixture
def small() -> Trace:
    return small_trace()


@pytest.mark.parametrize("kind", list(VIEWS))
def test_the_page_holds_the_rounded_patterns_of_the_layers_asked_for(mary: Trace, kind: str) -> None:
    found = params(VIEWS[kind](mary, layers=[3, 22, 23]))
    attention = found["attention"]["all" if kind == "neuron" else 0]
    assert found["include_layers"] == [3, 22, 23]
    assert attention["attn"] == [rounded(mary.pattern(layer)) for layer in (3, 22, 23)]
    assert attention["left_text"] == attention["right_text"] == [token.text for token in mary.tokens]


def test_the_model_view_holds_the_heads_asked_for_and_the_head_view_turns_them_on(mary: Trace) -> None:
    found = params(model_view(mary, layers=[5], heads=[7, 2]))
    assert found["include_heads"] == [7, 2]
    assert found["attention"][0]["attn"] == [rounded(mary.pattern(5)[[7, 2]])]
    found = params(head_view(mary, layers=[5], heads=[7, 2]))
    assert found["heads"] == [7, 2]
    assert len(found["attention"][0]["attn"][0]) == 9


@pytest.mark.parametrize("kind", ["head", "model"])
def test_an_encoder_decoder_brings_all_its_sites_or_the_one_asked_for(date: Trace, kind: str) -> None:
    found = params(VIEWS[kind](date, layers=[0, 1]))["attention"]
    assert [entry["name"] for entry in found] == list(SITES)
    for site, entry in zip(SITES, found, strict=True):
        queries, keys = date.axes(site)
        assert entry["attn"] == [rounded(date.pattern(layer, site=site)) for layer in (0, 1)]
        assert (entry["left_text"], entry["right_text"]) == ([t.text for t in queries], [t.text for t in keys])
    page = VIEWS[kind](date, layers=[1], site="cross")
    assert [entry["name"] for entry in params(page)["attention"]] == ["cross"]
    assert 'id="filter"' not in page.html


def test_the_neuron_view_holds_queries_and_keys_and_a_groups_heads_share_their_keys(small: Trace) -> None:
    found = params(neuron_view(small, layers=[1], head=2))
    layer = small.layer(1)
    attention = found["attention"]["all"]
    assert (found["head"], found["bidirectional"]) == (2, False)
    assert attention["queries"] == [rounded(layer.query[0])]
    assert attention["keys"] == [[rounded(layer.key[0, head // 2]) for head in range(4)]]


@pytest.mark.parametrize("site", SITES)
def test_the_neuron_view_takes_one_site_and_only_decoders_hide_later_keys(date: Trace, site: str) -> None:
    found = params(neuron_view(date, layers=[0], site=site))
    queries, keys = map(len, date.axes(site))
    assert [len(found["attention"]["all"][name][0][0]) for name in ("queries", "keys")] == [queries, keys]
    assert found["bidirectional"] == (site != "decoder")


def test_a_call_with_a_cache_has_more_keys_than_queries(small: Trace) -> None:
    layer = small.layer(0)
    late = replace(layer, query=layer.query[:, :, 10:], mask=None, causal=False)
    trace = replace(small, tokens=small.tokens[10:], key_tokens=small.tokens, attention={"decoder": {0: late}})
    for kind, view in VIEWS.items():
        found = params(view(trace, layers=[0]))["attention"]["all" if kind == "neuron" else 0]
        assert (len(found["left_text"]), len(found["right_text"])) == (4, 14)
        assert torch.tensor(found["attn"][0]).shape == (4, 4, 14)
    assert params(neuron_view(trace, layers=[0]))["bidirectional"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.one_of(st.text(), st.sampled_from(HOSTILE)), min_size=14, max_size=14), st.sampled_from(list(VIEWS)))
def test_any_text_survives_the_block_and_none_can_end_it(texts: list[str], kind: str) -> None:
    """14 texts an example: 1,400 in all."""
    page = VIEWS[kind](with_texts(small_trace(), texts), layers=[0])
    attention = params(page)["attention"]["all" if kind == "neuron" else 0]
    assert attention["left_text"] == attention["right_text"] == texts
    assert block(page).isascii()
    assert not set(block(page)) & set("<>&")
    assert (page.html.lower().count("</script"), page.html.count("<!--")) == (5, 0)


@pytest.mark.parametrize("kind", list(VIEWS))
def test_the_page_has_five_scripts_and_nothing_to_fetch(date: Trace, kind: str) -> None:
    page = VIEWS[kind](date, layers=[0], site="cross")
    parsed = Scripts(page)
    scripts = parsed.texts
    assert len(scripts) == 5
    assert scripts[0] == block(page)
    assert "window.bertviz_params" in scripts[4]
    assert "PYTHON_PARAMS" not in scripts[4]
    assert "default-src 'none'" in page.html
    quoted = re.findall(r"""["'`(](?:https?:)?//[^\s"'`)]+""", page.html)
    assert {address for address in quoted if "www.w3.org/" not in address} == set()
    plain = {"html", "head", "meta", "title", "style", "body", "p", "div", "span", "select", "script"}
    assert parsed.tags <= plain


def test_the_models_name_is_text_in_the_caption(small: Trace) -> None:
    name = "<img src=x onerror=alert(1)>"
    page = head_view(replace(small, info=replace(small.info, name=name)), layers=[0])
    assert name not in page.html
    assert html.escape(name) in page.html


@pytest.mark.parametrize("n_tokens", [14, 60, 200])
@pytest.mark.parametrize("kind", list(VIEWS))
@pytest.mark.parametrize("name", ["smollm2", "minilm", "dates"])
def test_the_size_is_known_beforehand(request: pytest.FixtureRequest, name: str, kind: str, n_tokens: int) -> None:
    model: Model = request.getfixturevalue(name)
    if name == "dates":
        n_tokens = min(n_tokens, 60)
        trace = model.trace("1" * (n_tokens - 1), "1998-05-03")
        assert len(trace.source_tokens) == n_tokens
    else:
        trace = model.trace(text_of_length(model.tokenizer, n_tokens))
        assert len(trace.tokens) == n_tokens
    layers = trace.layers() if n_tokens < 60 else trace.layers()[-1:]
    real = len(VIEWS[kind](trace, layers=layers).html.encode())
    assert estimated_bytes(trace, kind, layers) == pytest.approx(real, rel=0.25)  # type: ignore[arg-type]


def test_a_page_too_large_says_how_large_it_would_be(minilm: Model) -> None:
    trace = minilm.trace(text_of_length(minilm.tokenizer, 512))
    size = estimated_bytes(trace, "model", [0, 1])
    drawn = 2 * 12 * 512 * 512
    with pytest.raises(InputError, match=f"about {size / 2**20:.0f} MB drawing {drawn:,} elements"):
        model_view(trace, layers=[0, 1])
    one = model_view(trace, layers=[0], heads=[4])
    assert params(one)["attention"][0]["attn"] == [[rounded(trace.pattern(0, 4))]]


@pytest.mark.parametrize("view", VIEWS.values(), ids=list(VIEWS))
def test_what_a_trace_does_not_have_is_refused(mary: Trace, view: Callable[..., Page]) -> None:
    with pytest.raises(InputError, match="at least one layer"):
        view(mary, layers=[])
    with pytest.raises(HeadError, match="layers 0 to 29; got layer 30"):
        view(mary, layers=[0, 30])
    with pytest.raises(HeadError, match="got site 'cross'"):
        view(mary, layers=[0], site="cross")
    with pytest.raises(HeadError, match="heads 0 to 8"):
        view(mary, layers=[0], **{"head": 9} if view is neuron_view else {"heads": [9]})
    with pytest.raises(InputError, match="light or dark; got 'blue'"):
        view(mary, layers=[0], theme="blue")


def test_no_heads_and_an_unknown_view_are_refused(mary: Trace) -> None:
    with pytest.raises(InputError, match="one head; got none"):
        model_view(mary, layers=[0], heads=[])
    with pytest.raises(InputError, match="head, model, neuron; got 'tree'"):
        estimated_bytes(mary, "tree", [0])  # type: ignore[arg-type]


def test_layers_of_different_shapes_are_not_shown_together(small: Trace) -> None:
    one = replace(small.layer(0), query=small.layer(0).query[:, :2], key=small.layer(0).key[:, :1])
    mixed = replace(small, attention={"decoder": {0: one, 1: small.layer(1)}})
    with pytest.raises(InputError, match="these have 2 heads and 4 heads"):
        head_view(mixed, layers=[0, 1])
    narrow = replace(small.layer(0), query=small.layer(0).query[..., :4], key=small.layer(0).key[..., :4])
    mixed = replace(small, attention={"decoder": {0: narrow, 1: small.layer(1)}})
    with pytest.raises(InputError, match="4 heads of 4 and 4 heads of 8"):
        neuron_view(mixed, layers=[0, 1])
    assert len(params(head_view(mixed, layers=[0, 1]))["attention"][0]["attn"]) == 2


def test_a_view_only_model_has_no_neuron_view_but_the_others() -> None:
    trace = attnviz.wrap_model(tiny.bloom(), name="bloom").trace(input_ids=tiny.ids())
    with pytest.raises(Unsupported, match="bloom gives its patterns only"):
        neuron_view(trace, layers=[0])
    for view in (head_view, model_view):
        assert params(view(trace, layers=[1]))["attention"][0]["attn"] == [rounded(trace.pattern(1))]


def test_a_missing_package_is_named(small: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(bertviz_views.metadata, "distribution", missing)
    with pytest.raises(AttnvizError, match=r"d3\.v5\.min\.js of the package mpld3.*Install the requirements"):
        head_view(small, layers=[0])


def test_what_is_no_number_is_drawn_as_nothing(small: Trace) -> None:
    layer = attnviz.trace.Stored(torch.full((1, 4, 14, 14), torch.nan))
    found = params(head_view(replace(small, attention={"decoder": {0: layer}}), layers=[0]))
    assert torch.tensor(found["attention"][0]["attn"]).abs().max() == 0
