"""The Flow page, run by Streamlit's own test harness; and its lines of Python, run as people would."""

import dataclasses
import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.flow.methods import METHODS
from attnviz.trace import Stored, Trace
from attnviz.ui import work
from attnviz.ui.flow import finding, keeping
from attnviz.ui.selection import GRAPHS, Selection
from attnviz.ui.session import examples, stores

ROOT = Path(__file__).parents[2]
SECONDS = 120
FIRST = examples()[0]["text"]
HOSTILE = "<img src=x onerror=alert(1)> </script> *bold* $x$"
SHORT = "Mary gave John a"


MODELS: dict[str, attnviz.Model] = {}


@pytest.fixture(scope="module", autouse=True)
def _models(smollm2: attnviz.Model, minilm: attnviz.Model) -> None:
    """Opened once: three models in turn would push one another out of the server's pool."""
    MODELS.update(smollm2=smollm2, minilm=minilm, dates=attnviz.load_model("dates"))


def opened(**parameters: str) -> AppTest:
    name = parameters.get("model", "smollm2")
    stores().models.put(name, MODELS[name])
    test = AppTest.from_file(str(ROOT / "pages/flow.py"), default_timeout=SECONDS)
    for name, value in parameters.items():
        test.query_params[name] = value
    return test.run()


def assert_fine(test: AppTest) -> None:
    assert [exception.message for exception in test.exception] == []
    assert [error.value for error in test.error] == []


def params(test: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in test.query_params.items()}


def said(test: AppTest) -> str:
    """All that stands in captions, as people read it."""
    bodies = [element.proto.body for element in test.get("html")]
    return " ".join(html.unescape(re.sub(r"</?p[^>]*>", "", body)) for body in bodies)


def rows_of(test: AppTest) -> list[str]:
    """The rows of bars, by the names that the table of agreement has."""
    table = test.dataframe[0].value
    return list(dict.fromkeys([*table["a"], *table["b"]]))


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
    assert list(heads.columns) == ["head", "attention", "contribution", "proximity"]
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
    assert "log-probability of ' John' at position 8" in said(test)
    test.selectbox(key="flow-foil").set_value(int(trace.predictions(8, 1).token_id[0])).run()
    assert_fine(test)
    assert "logit of ' John' minus logit of" in said(test)


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
    assert len(test.get("plotly_chart")) == 1


@pytest.mark.parametrize(
    ("parameters", "rows"),
    [
        ({"with_text": SHORT}, 9),
        ({"model": "minilm"}, 8),
        ({"model": "minilm", "with_text": HOSTILE, "with_other": HOSTILE}, 9),
        ({"model": "dates"}, 9),
        ({"model": "dates", "unit": "word", "sinks": "hide"}, 15),
    ],
    ids=str,
)
def test_every_method_is_shown_side_by_side(parameters: dict[str, str], rows: int) -> None:
    test = opened(aspect="methods", **parameters)
    assert_fine(test)
    names = rows_of(test)
    assert names[0] == "Position alone"
    assert len(names) >= rows
    assert any("without sinks" in name for name in names) == ("sinks" in parameters)
    assert "do not look at what is predicted" in said(test)
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
        assert "5 not offered here" in [expander.label for expander in test.expander]
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
    assert "6 not offered here" in [expander.label for expander in test.expander]
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
    assert "value zeroing runs every layer again" in test.error[0].value


@pytest.fixture(scope="module")
def copied() -> Any:
    """copied(lines): what the lines leave behind, run as a file of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(go.Figure, "show", lambda figure: None)
        patch.setattr(attnviz, "load_model", MODELS.__getitem__)

        def run(lines: str) -> dict[str, Any]:
            assert all(len(line) <= 100 for line in lines.split("\n")), lines
            names: dict[str, Any] = {}
            exec(compile(lines, "copied.py", "exec"), names)
            return names

        yield run


def code(test: AppTest, function: str) -> str:
    return next(element.value for element in test.code if f"attnviz.figures.{function}(" in element.value)


@pytest.mark.parametrize(
    "parameters",
    [
        {"method": "rollout", "sinks": "hide", "unit": "word"},
        {"chat": "1", "with_text": SHORT},
        {"model": "dates"},
        {"model": "minilm", "with_text": HOSTILE, "share": "0.4"},
    ],
    ids=str,
)
def test_the_lines_draw_the_graph_and_the_edge(copied: Any, parameters: dict[str, str]) -> None:
    test = opened(**parameters)
    assert_fine(test)
    graph = copied(code(test, "flow.sankey"))["graph"]
    held = re.search(r"holding ([\d.]+)%", said(test))
    assert held is not None
    assert 100 * graph.held == pytest.approx(float(held[1]), abs=0.06)
    heads = copied(code(test, "flow.bars"))["columns"]["attention"]
    np.testing.assert_allclose(heads, test.dataframe[0].value["attention"], atol=1e-5)


def test_the_lines_draw_a_graph_of_many_edges_by_the_heaviest(copied: Any) -> None:
    test = opened(model="minilm", share="1")
    assert_fine(test)
    graph = copied(code(test, "flow.sankey"))["graph"]
    assert 0 < len(graph.edges) <= 400 < graph.n_edges_all


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "minilm", "with_text": SHORT, "with_other": HOSTILE, "sinks": "hide"},
        {"model": "dates", "unit": "word"},
    ],
    ids=str,
)
def test_the_lines_hold_the_methods_side_by_side(copied: Any, parameters: dict[str, str]) -> None:
    test = opened(aspect="methods", **parameters)
    test.pills(key="flow-yardsticks").set_value(["delete"]).run()
    assert_fine(test)
    table = copied(code(test, "flow.agreement_map"))["table"]
    shown = test.dataframe[0].value
    pairs = {(a, b): value for a, b, value in zip(table["a"], table["b"], table["spearman"], strict=True)}
    assert [pairs[pair] for pair in zip(shown["a"], shown["b"], strict=True)] == pytest.approx(
        shown["spearman"].tolist(), abs=1e-6, nan_ok=True
    )


def test_the_lines_write_the_attribution_and_the_lens(copied: Any) -> None:
    test = opened(aspect="writes", goal="8")
    assert_fine(test)
    found = copied(code(test, "attribution.attribution_map"))["found"]
    total = re.search(r"come to (-?[\d.]+) logits", said(test))
    assert total is not None
    assert found.total == pytest.approx(float(total[1]), abs=2e-3)
    lens = copied(code(test, "attribution.lens_map"))["lens"]
    assert set(lens["layer"]) == set(range(-1, 30))


def test_the_lines_run_the_set_of_texts(copied: Any) -> None:
    test = opened(aspect="methods", model="dates")
    test.text_area(key="flow-texts").set_value("1 May 1998\n3 June 2001").run()
    test.button(key="flow-texts-run").click().run()
    assert_fine(test)
    lines = next(element.value for element in test.code if "over_texts" in element.value)
    table, shown = copied(lines)["table"], test.dataframe[-1].value
    assert table["spearman"].tolist() == pytest.approx(shown["spearman"].tolist(), abs=1e-6, nan_ok=True)


def test_a_selection_keeps_its_target_in_the_address() -> None:
    chosen = Selection(goal=3, level=2, answer=0, foil=7, method="routes", aspect="writes")
    assert Selection.from_params(chosen.to_params()) == (chosen, [])
    assert Selection.from_params({"goal": "-1", "method": "max-flow", "aspect": "x"})[1] != []


def test_another_text_or_model_has_another_target() -> None:
    test = opened(goal="3", level="4", answer="5", foil="6", method="rollout")
    assert_fine(test)
    test.text_area(key="draft").set_value("Another text")
    next(button for button in test.button if button.label == "Run").click().run()
    assert_fine(test)
    assert {"goal", "level", "answer", "foil"} & set(params(test)) == set()
    assert params(test)["method"] == "rollout"
