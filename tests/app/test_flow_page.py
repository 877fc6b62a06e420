"""The Flow page, run by Streamlit's own test harness."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from flow_page import ALL, FIRST, MODELS, SHORT, opened, rows_of

import attnviz
from attnviz.flow.contributions import edge_heads
from attnviz.flow.logits import edge_logits, promotes
from attnviz.flow.methods import METHODS
from attnviz.flow.mixing import Scores
from attnviz.flow.run import Run, take_apart
from attnviz.flow.target import Target
from attnviz.trace import Stored, Trace
from attnviz.ui import work
from attnviz.ui.flow import finding, keeping, side_by_side
from attnviz.ui.selection import GRAPHS, Selection
from attnviz.ui.session import stores
from attnviz.units import units_of
from pages import HOSTILE, assert_fine, params, press, said

pytestmark = pytest.mark.usefixtures("held_models")


def test_scores_differ_on_either_side() -> None:
    one, other = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.4])
    assert not side_by_side.differs(Scores(one, one.clone()), Scores(one.clone(), one))
    assert side_by_side.differs(Scores(one, other), Scores(one, one))
    assert side_by_side.differs(Scores(other, one), Scores(one, one))
    assert side_by_side.differs(Scores(one), None)
    assert not side_by_side.differs(Scores(one), Scores(one.clone()))


def test_the_graphs_that_an_address_can_name_are_the_methods_with_layers() -> None:
    assert tuple(name for name, method in METHODS.items() if method.layered) == GRAPHS


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"method": "rollout", "level": "3", "goal": "4", "share": "0.3"},
        {"unit": "word", "sinks": "renormalise", "method": "rollout"},
        {"model": "minilm"},
        {"model": "minilm", "goal": "2", "method": "zeroing"},
        {"model": "dates"},
        {"model": "dates", "level": "2", "goal": "3", "site": "encoder"},
        {"with_text": "x"},
        {"with_text": HOSTILE},
    ],
    ids=str,
)
def test_the_graph_is_drawn(parameters: dict[str, str]) -> None:
    test = opened(**parameters)
    assert_fine(test)
    words = said(test)
    drawn, every = map(int, re.search(r"([\d,]+) of ([\d,]+) edges", words.replace(",", "")).groups())  # type: ignore[union-attr]
    assert 0 < drawn <= every
    assert "not which token decides the answer" in words
    wanted = parameters.get("method", "alti")
    assert METHODS[wanted].words in words
    heads = test.dataframe[0].value
    assert list(heads.columns)[:4] == ["head", "attention", "contribution", "proximity"]
    assert ("to the target" in heads) == ("To the target: " in words)
    assert heads["contribution"].is_monotonic_decreasing
    assert "L" + params(test)["layer"] in test.pills(key="flow-head").options[0]


def test_goal_level_and_tokens_that_are_not_there_are_dropped_and_said() -> None:
    test = opened(goal="99", level="77", answer="999998", foil="5", method="rollout")
    assert_fine(test)
    (warning,) = test.warning
    for words in ("no token 99", "no level 77", "no token 999998"):
        assert words in warning.value.replace("\\", "")
    assert {"goal", "level", "answer"} & set(params(test)) == set()
    assert params(test)["foil"] == "5"
    assert test.selectbox(key="flow-foil").value == 5


def test_answers_are_the_likeliest_and_what_comes_next() -> None:
    test = opened(goal="8", aspect="writes", with_text=FIRST)
    assert_fine(test)
    answers = test.selectbox(key="flow-answer")
    (real,) = [option for option in answers.options if "comes next" in option]
    assert "John" in real
    assert len(answers.options) >= 10
    trace = MODELS["smollm2"].trace(FIRST)
    answers.set_value(trace.tokens[9].id).run()
    assert_fine(test)
    assert params(test)["answer"] == str(trace.tokens[9].id)
    assert "Explained: logit of ' John' minus the mean logit at position 8" in said(test)
    test.selectbox(key="flow-foil").set_value(int(trace.predictions(8, 1).token_id[0])).run()
    assert_fine(test)
    assert "logit of ' John' minus that of" in said(test)


def test_a_picked_head_is_the_selected_one() -> None:
    test = opened(layer="5", head="1", query="9", key="3")
    assert_fine(test)
    pills = test.pills(key="flow-head")
    assert pills.value == 1
    pills.set_value(4).run()
    assert_fine(test)
    assert params(test) | {"head": "4", "layer": "5", "query": "9", "key": "3"} == params(test)
    assert "What L5H4 promotes" in " ".join(element.value for element in test.markdown)


def test_few_edges_are_a_sankey_diagram_too() -> None:
    test = opened(share="0.2", method="alti")
    test.segmented_control(key="flow-as").set_value("Sankey").run()
    assert_fine(test)
    assert "pick edges and nodes in the graph" in said(test)
    assert len(test.get("plotly_chart")) == 1


@pytest.mark.parametrize(
    ("parameters", "rows"),
    [
        ({"with_text": SHORT}, ALL),
        ({"model": "minilm"}, ALL[:-1]),
        ({"model": "minilm", "with_text": HOSTILE, "with_other": HOSTILE}, ALL),
        ({"model": "dates"}, ALL),
        ({"model": "dates", "unit": "word", "sinks": "hide"}, [*ALL, *(f"{name}, without sinks" for name in ALL[:-1])]),
        (
            {"model": "dates", "sinks": "value-norm"},
            [*ALL, *(f"{name}, without sinks" for name in ("Last layer", "Rollout", "Max-flow"))],
        ),
    ],
    ids=str,
)
def test_every_method_is_shown_side_by_side(parameters: dict[str, str], rows: list[str]) -> None:
    test = opened(aspect="methods", **parameters)
    assert_fine(test)
    assert rows_of(test) == rows
    assert "Only gradient relevance and the yardsticks look at what is predicted" in said(test)
    expanders = [expander.label for expander in test.expander]
    assert ("1 not offered here" in expanders) == (parameters == {"model": "minilm"})


def test_a_yardstick_joins_when_it_is_asked_for_and_another_target_asks_for_none() -> None:
    test = opened(aspect="methods", model="dates")
    test.pills(key="flow-yardsticks").set_value(["delete", "resample"]).run()
    assert_fine(test)
    assert rows_of(test)[-2:] == ["Delete each token", "Resample each token"]
    assert "Each token is deleted" in said(test)
    test.toggle(key="flow-without").set_value(True).run()
    assert_fine(test)
    assert "Rollout, without sinks" in rows_of(test)
    assert "Delete each token" in rows_of(test)
    answers = test.selectbox(key="flow-answer")
    answers.set_value(int(MODELS["dates"].trace("the 3rd of May 1998").predictions(0, 2).token_id[1])).run()
    assert_fine(test)
    assert "Delete each token" not in rows_of(test)


def test_a_set_of_texts_gives_intervals() -> None:
    test = opened(aspect="methods", model="dates")
    test.text_area(key="flow-texts").set_value("1 May 1998\n\n3 June 2001\nApril 2, 1977").run()
    test.button(key="flow-texts-run").click().run()
    assert_fine(test)
    found = test.dataframe[-1].value
    assert {"spearman_low", "spearman_high", "n_texts", "n_skipped"} <= set(found.columns)
    assert "Delete each token" in set(found["b"])
    assert (found["n_texts"] + found["n_skipped"] == 3).all()
    test.text_area(key="flow-texts").set_value("one alone").run()
    test.button(key="flow-texts-run").click().run()
    assert [exception.message for exception in test.exception] == []
    assert "2 to 50 texts" in test.error[0].value.replace("\\", "")


def test_what_writes_it_sums_to_the_difference_of_logits() -> None:
    trace = MODELS["smollm2"].trace(FIRST)
    answer, foil = (int(i) for i in trace.predictions(-1, 2).token_id)
    test = opened(aspect="writes", foil=str(foil))
    assert_fine(test)
    assert trace.logits is not None
    total = float(trace.logits[-1, answer] - trace.logits[-1, foil])
    found = re.search(r"come to (-?[\d.]+) logits\.", said(test))
    assert found is not None
    assert float(found[1]) == pytest.approx(total, abs=2e-3)
    lens = test.dataframe[-1].value
    assert lens["layer"].iloc[0] == "29"
    assert lens["answer's rank"].iloc[0] == 1


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"model": "minilm"}, "predicts no tokens"), ({"model": "dates", "site": "encoder"}, "")],
    ids=str,
)
def test_models_that_write_otherwise_say_so(parameters: dict[str, str], reason: str) -> None:
    test = opened(aspect="writes", **parameters)
    assert_fine(test)
    assert reason in said(test)


@pytest.mark.parametrize("aspect", ["graph", "methods", "writes"])
def test_a_saved_trace_has_what_attention_alone_says(aspect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = MODELS["smollm2"].trace(FIRST, compact=True)
    monkeypatch.setattr("attnviz.ui.page.saved_trace", lambda: trace)
    test = opened(aspect=aspect)
    assert_fine(test)
    assert "comes without" in said(test) or "Attention alone" in said(test)
    if aspect == "methods":
        assert {"Position alone", "Last layer", "Rollout", "Max-flow"} == set(rows_of(test))
        assert "6 not offered here" in [expander.label for expander in test.expander]
    if aspect == "graph":
        assert list(test.dataframe[0].value.columns) == ["head", "attention"]
        assert METHODS["rollout"].words in said(test)


def test_a_view_only_model_has_patterns_and_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    made, model = work.trace_for, MODELS["smollm2"]
    layout = dataclasses.replace(model.layout, reason="its kernel is its own")
    blind = attnviz.Model(model.hf_model, model.tokenizer, layout, model.origin)

    def patterns_only(*arguments: Any) -> Trace:
        trace = made(model, *arguments[1:])
        stored = {i: Stored(layer.pattern().to(torch.float32)) for i, layer in trace.attention["decoder"].items()}
        return dataclasses.replace(trace, attention={"decoder": stored})

    monkeypatch.setattr(work, "trace_for", patterns_only)
    monkeypatch.setattr(work, "model_for", lambda chosen: blind)
    test = opened(method="rollout")
    assert_fine(test)
    assert list(test.dataframe[0].value.columns) == ["head", "attention"]


def test_a_long_text_keeps_rollout_and_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_TOKENS", 5)
    test = opened(aspect="methods")
    assert_fine(test)
    assert rows_of(test) == ["Position alone", "Last layer", "Rollout"]
    assert "7 not offered here" in [expander.label for expander in test.expander]
    for aspect in ("graph", "writes"):
        test = opened(aspect=aspect)
        assert [exception.message for exception in test.exception] == []
        assert "14 tokens" in said(test) + "".join(error.value for error in test.error)


def test_value_zeroing_is_not_offered_for_texts_where_it_takes_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_ZEROED", 5)
    test = opened(aspect="methods", model="minilm")
    assert_fine(test)
    assert "Value zeroing" not in rows_of(test)
    test = opened(model="minilm", method="zeroing")
    assert [exception.message for exception in test.exception] == []
    assert "value zeroing takes each token" in test.error[0].value


def test_a_batch_leaves_out_what_is_too_long_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_TOKENS", 30)
    test = opened(aspect="methods", model="dates")
    test.pills(key="flow-texts-hows").set_value([]).run()
    test.text_area(key="flow-texts").set_value("1 May 1998\n" + "May " * 8 + "\n" + "May " * 20 + "\n3 June 2001").run()
    test.button(key="flow-texts-run").click().run()
    assert_fine(test)
    assert re.search(r"Text 2 was left out: \d+ tokens, and 30 are the most", said(test))
    assert "Text 3 was left out: The text has 80 tokens, but dates reads at most 64" in said(test)
    assert (test.dataframe[-1].value["n_texts"] + test.dataframe[-1].value["n_skipped"] == 2).all()


def test_a_foil_that_is_the_answer_is_dropped_and_said() -> None:
    likeliest = int(MODELS["smollm2"].trace(FIRST).predictions(-1, 1).token_id[0])
    test = opened(aspect="writes", foil=str(likeliest))
    assert_fine(test)
    assert "not compared with itself" in said(test)
    assert "foil" not in params(test)


def test_an_edge_between_words_is_that_of_all_their_tokens() -> None:
    text = "Antidisestablishmentarianism counterrevolutionaries"
    trace = MODELS["smollm2"].trace(text)
    units = units_of(trace.tokens, trace.text, "word")
    (a, b), (c, d) = units.spans[1], units.spans[0]
    assert min(b - a, d - c) > 1
    test = opened(with_text=text, unit="word", layer="3", query=str(b - 1), key="0")
    assert_fine(test)
    block = take_apart(MODELS["smollm2"], text).blocks[3]
    pairs = [edge_heads(block, q, k).set_index("head").sort_index() for q in range(a, b) for k in range(c, d)]
    means = sum(pairs[1:], pairs[0]) / (b - a)
    shown = test.dataframe[0].value.set_index("head").sort_index()
    np.testing.assert_allclose(shown[list(means.columns)], means, atol=1e-5)
    assert f"query {a}–{b - 1} “" in said(test)
    assert "Over all tokens of both words" in said(test)


def test_an_edge_into_the_target_says_what_it_writes_there() -> None:
    likely = int(MODELS["smollm2"].trace(SHORT).predictions(-1, 1).token_id[0])
    test = opened(with_text=SHORT, layer="5", head="1", query="3", key="0")
    assert_fine(test)
    model = MODELS["smollm2"]
    run = take_apart(model, SHORT)
    aim = Target(3, likely).aim(model, run.trace)
    written = edge_logits(run, model, run.blocks[5], 3, [0], aim)
    shown = test.dataframe[0].value.set_index("head").sort_index()["to the target"]
    np.testing.assert_allclose(shown, written, atol=1e-4)
    alone = test.dataframe[1].value
    np.testing.assert_allclose(
        alone["logits"], promotes(run, model, run.blocks[5], 1, 3, keys=[0])["logits"][:10], atol=1e-4
    )
    assert "What the head takes from key 0" in said(test)
    test.toggle(key="flow-whole-head").set_value(True).run()
    assert_fine(test)
    whole = test.dataframe[1].value
    np.testing.assert_allclose(whole["logits"], promotes(run, model, run.blocks[5], 1, 3)["logits"][:10], atol=1e-4)
    test = opened(with_text=SHORT, layer="5", query="2", key="0")
    assert "to the target" not in test.dataframe[0].value
    assert "Edges into token 3 also say" in said(test)


def test_a_run_too_large_for_the_cache_stays_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Run] = []

    def counted(*arguments: Any, **options: Any) -> Run:
        made.append(take_apart(*arguments, **options))
        return made[-1]

    cache = stores().traces
    put = cache.put
    monkeypatch.setattr(keeping, "take_apart", counted)
    monkeypatch.setattr(
        cache, "put", lambda key, kept: not isinstance(getattr(kept, "value", None), Run) and put(key, kept)
    )
    test = opened(with_text="A text of its own", method="alti")
    test.selectbox(key="flow-method").set_value("norms").run()
    test.pills(key="flow-head").set_value(4).run()
    assert_fine(test)
    assert len(made) == 1


def test_a_run_is_taken_apart_once_for_both_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any, **options: Any) -> Run:
        raise AssertionError("the run is there")

    monkeypatch.setattr("attnviz.flow.methods.take_apart", never)
    test = opened(aspect="methods", with_text="Another text of its own", sinks="hide")
    assert_fine(test)
    assert "ALTI, without sinks" in rows_of(test)


def test_want_of_memory_is_not_kept_as_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise attnviz.errors.OutOfMemory("No room.")

    with monkeypatch.context() as patch:
        patch.setattr(finding.methods, "steps", full)
        test = opened(aspect="methods", model="minilm", with_text="A third text of its own")
        assert "No room" in test.error[0].value
    test.button(key="try-again").click().run()
    assert_fine(test)
    assert rows_of(test) == ALL[:-1]


def test_captions_say_what_a_choice_means_here() -> None:
    test = opened(aspect="methods", model="minilm", with_text=SHORT, with_other=SHORT, goal="2")
    assert_fine(test)
    assert "so the token that was chosen above changes nothing here" in said(test)
    test = opened(aspect="writes", level="4")
    assert_fine(test)
    assert "chosen for the graph alone" in said(test)


def test_layers_without_attention_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = MODELS["minilm"].trace(SHORT, compact=True)
    hybrid = dataclasses.replace(trace, info=dataclasses.replace(trace.info, n_layers=8))
    monkeypatch.setattr(work, "trace_for", lambda *arguments: hybrid)
    test = opened(model="minilm", method="rollout")
    assert_fine(test)
    assert "2 of the 8 layers have no attention" in said(test)


def test_a_selection_keeps_its_target_in_the_address() -> None:
    chosen = Selection(goal=3, level=2, answer=0, foil=7, method="routes", aspect="writes")
    assert Selection.from_params(chosen.to_params()) == (chosen, [])
    assert Selection.from_params({"goal": "-1", "method": "max-flow", "aspect": "x"})[1] != []


def test_another_text_or_model_has_another_target() -> None:
    test = opened(goal="3", level="4", answer="5", foil="6", method="rollout")
    assert_fine(test)
    test.text_area(key="draft").set_value("Another text")
    press(test, "Run")
    assert_fine(test)
    assert {"goal", "level", "answer", "foil"} & set(params(test)) == set()
    assert params(test)["method"] == "rollout"
