"""The Generation page, run by Streamlit's own test harness: whatever it is given, it ends with a page."""

import secrets
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import Head, Model, Trace
from attnviz.errors import Cancelled
from attnviz.generated import shift, steps
from attnviz.ui.selection import SAVED
from attnviz.ui.session import stores
from pages import assert_fine, opened, params, press, said, words_of

PROMPT = "The capital of France is"

page = partial(opened, "generation")


@pytest.fixture(scope="module")
def written(smollm2: Model) -> Trace:
    return smollm2.generate(PROMPT, max_new_tokens=6)


def generate(test: AppTest, **drafts: Any) -> AppTest:
    """Set the controls named by the end of their keys, and press Generate."""
    for name, value in drafts.items():
        for kind in (test.text_area, test.slider, test.number_input, test.button_group):
            for widget in kind:
                if widget.key == f"generation-{name}":
                    widget.set_value(value)
    return press(test, "Generate")


def test_a_clean_start_writes_twenty_tokens_and_stands_at_the_first(smollm2: Model) -> None:
    test = page()
    assert_fine(test)
    assert len(test.warning) == 0
    text = test.text_area(key="generation-text").value
    assert params(test)["query"] == str(len(smollm2.encode(text).ids) - 1)
    made = smollm2.generate(text)
    assert test.dataframe[1].value.token.tolist() == steps(made).token.tolist()
    assert "Each token is the likeliest one." in said(test)
    assert "not why that token was" in said(test)


def test_the_tables_say_what_the_library_says(written: Trace) -> None:
    test = page(with_text=PROMPT, length="6", query="7", layer="20", head="4")
    assert_fine(test)
    table, moved = steps(written), shift(written, Head(20, 4))
    shown = test.dataframe[1].value
    np.testing.assert_allclose(shown.probability, table.probability, rtol=1e-5)
    np.testing.assert_allclose(shown.moved, moved, atol=1e-6)
    expected = test.dataframe[0].value
    np.testing.assert_allclose(expected.probability, written.predictions(7, k=8).probability, rtol=1e-5)
    assert expected[expected.written == "✓"]["rank"].tolist() == [table["rank"][3]]
    test.button(key="generation-jump").click().run()
    assert_fine(test)
    assert params(test)["query"] == str(table["query"][int(np.nanargmax(moved))])


def test_the_lines_of_python_make_the_grid_of_the_step(
    smollm2: Model, written: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = page(with_text=PROMPT, length="6", query="7", key="4", unit="word", sinks="hide")
    code = next(element.value for element in test.code if "head_grid" in element.value)
    made: dict[str, Any] = {}
    monkeypatch.setattr(attnviz, "load_model", {"smollm2": smollm2}.__getitem__)
    monkeypatch.setattr(go.Figure, "show", lambda figure: None)
    exec(compile(code, "lines", "exec"), made)
    expected = attnviz.heads.attention_between(written, 7, 4, view=attnviz.View(sinks=attnviz.Sinks("hide")))
    np.testing.assert_allclose(made["figure"].data[0].z, expected, atol=2e-6)


def test_a_token_that_is_not_among_the_likeliest_is_still_shown_as_written(smollm2: Model) -> None:
    made = smollm2.generate(PROMPT, max_new_tokens=12, seed=3, temperature=4.0)
    ranks = steps(made)["rank"].tolist()
    near, far = (next(i for i, rank in enumerate(ranks) if test(rank)) for test in (_in_between, _beyond))
    for step in (near, far):
        query = str(made.prompt_length - 1 + step)
        test = page(with_text=PROMPT, length="12", seed="3", warmth="4", query=query)
        assert_fine(test)
        expected = test.dataframe[0].value
        marked = expected[expected.written == "✓"]["rank"].tolist()
        assert marked == ([ranks[step]] if step == near else [])
        assert ("beyond the 50 likeliest" in said(test)) == (step == far)
    assert "seed 3 at temperature 4" in said(test)


def _in_between(rank: int) -> bool:
    return 8 < rank <= 50


def _beyond(rank: int) -> bool:
    return rank > 50


def test_what_is_set_after_a_generation_counts_for_the_next() -> None:
    test = page(model="dates", length="2")
    for text, length in (("the 3rd of May 1998", 4), ("May 4, 1999", 7), ("5 June 2001", 4)):
        test = generate(test, text=text, length=length)
        assert_fine(test)
        assert test.text_area(key="generation-text").value == text
        assert params(test)["length"] == str(length)
        assert (
            "".join(test.dataframe[1].value.token) == {"the 3": "1998", "May 4": "1999-05", "5 Jun": "2001"}[text[:5]]
        )


def test_controls_change_nothing_before_the_button() -> None:
    test = page(with_text=PROMPT, length="3")
    before = params(test)
    test.slider(key="generation-length").set_value(5)
    test.number_input(key="generation-seed").set_value(8).run()
    assert_fine(test)
    assert params(test) == before
    test = generate(test, length=5, seed=8, warmth=0.7, way="sampled")
    assert_fine(test)
    now = params(test)
    assert (now["length"], now["seed"], now["warmth"]) == ("5", "8", "0.7")
    assert len(test.dataframe[1].value) <= 5
    again = page(**now)
    assert_fine(again)
    assert [again.slider(key="generation-length").value, again.number_input(key="generation-seed").value] == [5, 8]
    assert again.dataframe[1].value.token.tolist() == test.dataframe[1].value.token.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Write at least one word"),
        ("x" * 50_001, "at most 50"),
        ("one two " * 1_500, "at most 2,048"),
        ("one " * 2_040, "together"),
        ("bell \x07", "control characters"),
    ],
    ids=["empty", "too many characters", "too many tokens", "too many with what is written", "control character"],
)
def test_a_refused_text_stays_and_the_next_one_works(text: str, words: str) -> None:
    test = generate(page(length="10"), text=text)
    assert [exception.message for exception in test.exception] == []
    assert len(test.error) == 1
    assert words in words_of(test.error)
    assert test.text_area(key="generation-text").value == text
    test = generate(test, text="A good text", length=2)
    assert_fine(test)
    assert len(test.dataframe[1].value) == 2


@pytest.mark.parametrize("length", ["0", "1", "500", "abc"])
def test_any_length_in_the_address_ends_in_a_page(length: str) -> None:
    test = page(model="dates", length=length)
    assert_fine(test)
    assert len(test.warning) == (length == "abc")
    assert len(test.dataframe[1].value) == (1 if length in ("0", "1") else 11)


@pytest.mark.parametrize(
    ("parameters", "query"),
    [({"query": "0"}, "4"), ({"query": "999"}, "6"), ({}, "4"), ({"query": "5", "key": "900"}, "5")],
    ids=str,
)
def test_the_nearest_step_is_shown_without_a_word(parameters: dict[str, str], query: str) -> None:
    test = page(with_text=PROMPT, length="3", **parameters)
    assert_fine(test)
    assert len(test.warning) == 0
    assert params(test)["query"] == query


def test_an_encoder_decoder_shows_the_attention_that_writes() -> None:
    test = page(model="dates", site="encoder", layer="1", head="2")
    assert_fine(test)
    assert len(test.warning) == 0
    assert params(test)["site"] == "cross"
    assert "".join(test.dataframe[1].value.token) == "1998-05-03</s>"
    test.button_group(key="generation-site").set_value("decoder").run()
    assert_fine(test)
    assert params(test)["site"] == "decoder"


@pytest.mark.parametrize("unit", ["word", "sentence"])
@pytest.mark.parametrize("sinks", ["hide", "renormalise", "value-norm"])
def test_every_view_is_obeyed_and_named(unit: str, sinks: str) -> None:
    for parameters in ({"with_text": PROMPT, "length": "6", "query": "8"}, {"model": "dates", "query": "5"}):
        test = page(unit=unit, sinks=sinks, scale="log", **parameters)
        assert_fine(test)
        assert f"By {unit}: summed over the tokens of a key" in said(test)
        assert ("value vectors" if sinks == "value-norm" else "Sinks (first token") in said(test)


def test_a_model_that_writes_nothing_says_what_to_do() -> None:
    test = page(model="minilm")
    assert_fine(test)
    assert "writes none" in words_of(test.info)
    test.selectbox(key="model-choice").set_value("dates").run()
    assert_fine(test)
    assert len(test.dataframe) == 2


def test_a_saved_generation_is_shown_and_another_trace_is_not(smollm2: Model, written: Trace) -> None:
    for trace, tables in ((written, 2), (smollm2.trace(PROMPT), 0)):
        key = secrets.token_urlsafe(16)
        test = page()  # a running server's stores
        stores().saved.put((SAVED, key), trace.compact())
        test = page(model=SAVED, text=key)
        assert_fine(test)
        assert len(test.dataframe) == tables
        assert ("given, not written" in words_of(test.info)) == (tables == 0)
        assert "likeliest one" not in said(test)


def test_a_generation_that_was_stopped_leaves_the_text_and_can_be_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    test = page(with_text=PROMPT, length="2")

    def stopped(*_: Any, **__: Any) -> Trace:
        raise Cancelled("Stopped on request.")

    with monkeypatch.context() as patched:
        patched.setattr(attnviz.Model, "generate", stopped)
        test = generate(test, text="A text that is stopped", length=7)
    assert_fine(test)
    assert "Your text is kept" in words_of(test.info)
    assert test.text_area(key="generation-text").value == "A text that is stopped"
    test.button(key="try-again").click().run()
    assert_fine(test)
    assert len(test.dataframe[1].value) == 7
