"""The page of all heads, run by Streamlit's own test harness; and the names, order and ranks that it is made of."""

import dataclasses
import re
from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.errors import InputError
from attnviz.trace import Stored
from attnviz.ui.gallery import rank_words
from attnviz.ui.head_choice import Choice, read_heads
from attnviz.ui.selection import SAVED, SCORES
from attnviz.ui.session import examples, stores
from pages import assert_fine, opened, said

HOSTILE = "</script><img src=x onerror=alert(1)> \u202e"

all_heads = partial(opened, "all_heads")


def shown(test: AppTest) -> tuple[int, int]:
    """(heads that pass the filters, all heads), as the caption says."""
    found = re.search(r"(\d+) of (\d+) heads, ", said(test))
    assert found is not None, said(test)
    return int(found[1]), int(found[2])


def chosen(test: AppTest) -> Choice:
    return test.session_state["attnviz_gallery"]  # type: ignore[no-any-return]


def test_a_clean_start_shows_every_head_of_the_first_example() -> None:
    test = all_heads()
    assert_fine(test)
    assert shown(test) == (270, 270)
    assert "14 × 14 tokens" in said(test)
    assert "not a verdict" in said(test)
    assert test.button(key="open-explore").label == "Open in Explore"
    gallery, detail = (element.value for element in test.code if element.language == "python")
    assert "head_gallery(" in gallery
    assert "attention_map(trace, attnviz.Head(23, 3))" in detail


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "minilm"},
        {"model": "minilm", "unit": "sentence", "sinks": "hide", "kinds": "special"},
        {"model": "dates", "site": "cross"},
        {"model": "dates", "site": "decoder", "unit": "word", "sinks": "renormalise"},
        {"model": "dates", "site": "encoder", "sinks": "value-norm"},
        {"scale": "log", "palette": "viridis", "sinks": "hide", "queries": "3.5", "keys": "0.1"},
    ],
    ids=str,
)
def test_every_score_can_be_shown_in_every_view(parameters: dict[str, str], score: str) -> None:
    test = all_heads(score=score, **parameters)
    assert_fine(test)
    assert len(test.warning) == 0
    some, every = shown(test)
    assert some == every
    if parameters.get("sinks"):
        assert "the attention" in said(test)
    cross = parameters.get("site") == "cross" and score in ("previous", "distance")
    assert ("There is no such score here: queries and keys" in said(test)) is cross


def test_a_text_of_one_token_has_a_picture_and_says_that_there_are_no_scores() -> None:
    test = all_heads(text=stores().texts.put("a"), score="entropy")
    assert_fine(test)
    assert shown(test) == (270, 270)
    assert "1 × 1 tokens" in said(test)
    assert "no query has a choice of keys" in said(test)


def test_keys_that_are_all_taken_away_leave_nothing_between() -> None:
    test = all_heads(model="minilm", sinks="hide", query="3", key="0")
    assert_fine(test)
    assert "all the chosen keys are taken away as sinks" in said(test)


@pytest.mark.parametrize(
    ("typed", "count"),
    [("", 72), ("  ", 72), ("L5", 12), ("l5h2", 1), ("L1-2, L0H3", 25), ("L0H3-5 L0H4-11", 9), ("L3,L3", 12)],
)
def test_only_the_named_heads_pass(typed: str, count: int) -> None:
    test = all_heads(model="minilm").text_input(key="gallery-only").set_value(typed).run()
    assert_fine(test)
    assert shown(test) == (count, 72)


@pytest.mark.parametrize("typed", ["5", "L", "L5 and more", "L5H12", "L6", "L2-9", "L-1", "H3", HOSTILE])
def test_names_of_no_head_are_said_and_all_are_shown(typed: str) -> None:
    test = all_heads(model="minilm").text_input(key="gallery-only").set_value(typed).run()
    assert [exception.message for exception in test.exception] == []
    assert len(test.error) == 1
    assert "<img" not in str(test.error[0].value).replace("\\<", "")
    assert shown(test) == (72, 72)


def test_a_bound_on_the_score_keeps_the_heads_within_it() -> None:
    test = all_heads(model="minilm", score="entropy")
    scores = attnviz.heads.entropy(attnviz.load_model("minilm").trace(examples()[0]["text"]))
    bound = round(float(np.median(scores)), 3)
    test.slider(key="gallery-bound").set_value(bound).run()
    assert_fine(test)
    assert shown(test) == (int((scores <= bound).sum()), 72)
    test.toggle(key="gallery-lowest").set_value(False).run()
    assert shown(test) == (72, 72), "a bound from above is no bound from below"
    test.slider(key="gallery-bound").set_value(bound).run()
    assert shown(test) == (int((scores >= bound).sum()), 72)


def test_filters_add_up_and_one_button_takes_them_away() -> None:
    test = all_heads(model="minilm").slider(key="gallery-layers").set_value((1, 3)).run()
    assert shown(test) == (36, 72)
    test.text_input(key="gallery-only").set_value("L3-5").run()
    assert shown(test) == (12, 72)
    assert chosen(test).filters == 2
    test.text_input(key="gallery-only").set_value("L5").run()
    assert_fine(test)
    assert shown(test) == (0, 72)
    assert "No head passes" in test.info[0].value
    test.button(key="gallery-all").click().run()
    assert_fine(test)
    assert shown(test) == (72, 72)
    assert chosen(test).filters == 0


def test_filters_of_one_model_do_not_break_another() -> None:
    test = all_heads().slider(key="gallery-layers").set_value((20, 29)).run()
    assert shown(test) == (90, 270)
    test.selectbox(key="model-choice").set_value("minilm").run()
    assert_fine(test)
    assert shown(test)[1] == 72


def test_tokens_of_the_score_are_those_of_the_selection() -> None:
    test = all_heads(model="minilm")
    test.multiselect(key="gallery-queries").set_value([3, 1]).run()
    test.multiselect(key="gallery-keys").set_value([2]).run()
    assert_fine(test)
    assert [test.query_params[name] for name in ("queries", "keys")] == ["1.3", "2"]
    assert "the 2 chosen queries pay on average" in said(test)


def test_a_trace_without_values_is_shown_and_cannot_be_weighted() -> None:
    trace = attnviz.load_model("minilm").trace("Hello world")
    stored = {layer: Stored(trace.layer(layer).pattern()) for layer in trace.layers()}
    key = "A" * 22
    stores().saved.put((SAVED, key), dataclasses.replace(trace, attention={"encoder": stored}))
    test = all_heads(model=SAVED, text=key)
    assert_fine(test)
    assert shown(test) == (72, 72)
    refused = all_heads(model=SAVED, text=key, sinks="value-norm")
    assert [exception.message for exception in refused.exception] == []
    assert "view" in refused.error[0].value


def test_saved_traces_of_one_text_keep_apart() -> None:
    trace = attnviz.load_model("minilm").trace("Hello world again")
    even = {layer: Stored(trace.layer(layer).pattern().fill_(1 / len(trace.tokens))) for layer in trace.layers()}
    found = []
    for key, one in [("B" * 22, trace), ("C" * 22, dataclasses.replace(trace, attention={"encoder": even}))]:
        stores().saved.put((SAVED, key), one)
        test = all_heads(model=SAVED, text=key, score="entropy")
        assert_fine(test)
        found.append(test.dataframe[0].value.set_index("score")["value"]["Entropy"])
    assert found[1] == pytest.approx(1.0, abs=1e-5)
    assert found[0] < 0.999


def test_heads_are_read_as_they_are_written() -> None:
    info = attnviz.load_model("minilm").info
    assert read_heads(" \n", info) is None
    assert read_heads("L5H2; l0-1", info) == {(5, 2)} | {(layer, head) for layer in (0, 1) for head in range(12)}
    assert read_heads("L3-2", info) == set()
    with pytest.raises(InputError, match="layers 0 to 5"):
        read_heads("L4, L10-12", info)
    with pytest.raises(InputError, match="L5, L7H2"):
        read_heads("x" * 900, info)


def test_ranks_count_from_the_nearer_end() -> None:
    scores = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, np.nan]], np.float32)
    assert rank_words(scores, 1, 1) == "highest of 5"
    assert rank_words(scores, 1, 0) == "2nd highest of 5"
    assert rank_words(scores, 0, 0) == "lowest of 5"
    assert rank_words(scores, 0, 1) == "2nd lowest of 5"
    assert rank_words(scores, 1, 2) == "no score"
    many = np.arange(300, dtype=np.float32).reshape(10, 30)
    assert [rank_words(many, 0, i) for i in (2, 3, 10, 11, 12, 20, 21, 22)] == [
        f"{place} lowest of 300" for place in ("3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd")
    ]
