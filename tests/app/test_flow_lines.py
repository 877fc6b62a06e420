"""The Flow page's lines of Python, run as people would: they make again what the page shows."""

import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from flow_page import MODELS, SHORT, opened, rows_of
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.flow.methods import METHODS
from attnviz.ui.flow import side_by_side, texts
from attnviz.ui.selection import SAVED
from attnviz.ui.session import stores
from pages import HOSTILE, assert_fine, said

pytestmark = pytest.mark.usefixtures("held_models")


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
        {"method": "alti", "unit": "word", "with_text": SHORT},
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
        {"model": "dates", "unit": "word", "with_text": "the 3rd of May 1998", "with_other": "1998-05-03"},
    ],
    ids=str,
)
def test_the_lines_hold_the_methods_side_by_side(copied: Any, parameters: dict[str, str]) -> None:
    test = opened(aspect="methods", **parameters)
    test.pills(key="flow-yardsticks").set_value(["delete", "replace", "resample"]).run()
    assert_fine(test)
    assert_same_table(copied(code(test, "flow.agreement_map"))["table"], test.dataframe[0].value)


def assert_same_table(table: pd.DataFrame, shown: pd.DataFrame) -> None:
    assert len(table) == len(shown) > 0
    pairs = {(a, b): value for a, b, value in zip(table["a"], table["b"], table["spearman"], strict=True)}
    assert [pairs[pair] for pair in zip(shown["a"], shown["b"], strict=True)] == pytest.approx(
        shown["spearman"].tolist(), abs=1e-6, nan_ok=True
    )


@pytest.mark.parametrize(
    "parameters", [{"model": "minilm"}, {"model": "minilm", "goal": "2", "sinks": "hide"}], ids=str
)
def test_the_lines_need_no_target_where_the_page_has_none(copied: Any, parameters: dict[str, str]) -> None:
    test = opened(aspect="methods", **parameters)
    assert_fine(test)
    lines = code(test, "flow.agreement_map")
    assert "Target" not in lines
    assert_same_table(copied(lines)["table"], test.dataframe[0].value)


def test_the_lines_of_a_saved_trace_open_the_file(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = MODELS["minilm"].trace(SHORT, compact=True)
    key = "a-key-of-sixteen-chars"
    stores().saved.put((SAVED, key), trace)
    monkeypatch.setattr(attnviz, "load_trace", lambda name: trace)
    test = opened(aspect="methods", model=SAVED, text=key)
    assert_fine(test)
    lines = code(test, "flow.agreement_map")
    assert "load_model" not in lines
    assert_same_table(copied(lines)["table"], test.dataframe[0].value)


def test_the_lines_write_the_attribution_and_the_lens(copied: Any) -> None:
    test = opened(aspect="writes", goal="8", answer="5")  # far from the likeliest ones
    assert_fine(test)
    found = copied(code(test, "attribution.attribution_map"))["found"]
    total = re.search(r"come to (-?[\d.]+) logits", said(test))
    assert total is not None
    assert found.total == pytest.approx(float(total[1]), abs=2e-3)
    lens = copied(code(test, "attribution.lens_map"))["lens"]
    assert set(lens[lens["token_id"] == 5]["layer"]) == set(range(-1, 30))


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "dates", "unit": "word", "sinks": "renormalise"},
        {"chat": "1", "with_text": SHORT},
        {"model": "minilm", "with_text": SHORT, "with_other": SHORT},
    ],
    ids=str,
)
def test_the_lines_run_the_set_of_texts(
    copied: Any, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "chat" in parameters:  # its template is long, and two methods are enough to tell whether it is there
        for module in (texts, side_by_side):
            monkeypatch.setattr(module, "METHODS", {name: METHODS[name] for name in ("rollout", "alti")})
    test = opened(aspect="methods", **parameters)
    test.pills(key="flow-texts-hows").set_value([] if "chat" in parameters else ["delete"]).run()
    test.text_area(key="flow-texts").set_value("1 May 1998\n3 June 2001").run()
    test.button(key="flow-texts-run").click().run()
    assert_fine(test)
    without = {name for name in test.dataframe[-1].value["b"] if name.endswith("without sinks")}
    assert bool(without) == ("sinks" in parameters)
    lines = next(element.value for element in test.code if "over_texts" in element.value)
    table, shown = copied(lines)["table"], test.dataframe[-1].value
    assert table["spearman"].tolist() == pytest.approx(shown["spearman"].tolist(), abs=1e-6, nan_ok=True)


def test_words_and_a_neutral_token_are_what_yardsticks_put_in_place(copied: Any) -> None:
    test = opened(aspect="methods", with_text=SHORT)
    test.text_area(key="flow-words").set_value("Paul, Lisa\nTom").run()
    test.text_input(key="flow-neutral").set_value(",").run()
    test.pills(key="flow-yardsticks").set_value(["replace", "resample"]).run()
    assert_fine(test)
    assert "2 of 3 given ones" in said(test)
    lines = code(test, "flow.agreement_map")
    assert 'words = [" Paul", " Lisa", " Tom"]' in lines
    assert 'neutral = ","' in lines
    assert_same_table(copied(lines)["table"], test.dataframe[0].value)
    test.text_area(key="flow-words").set_value("Paul\nantidisestablishmentarianism").run()
    assert [exception.message for exception in test.exception] == []
    assert "antidisestablishmentarianism” is" in test.error[0].value
    assert "Resample each token" not in rows_of(test)
    assert "Replace each token" in rows_of(test)


def test_routes_follow_important_edges_alone_where_that_is_asked_for(copied: Any) -> None:
    test = opened(model="dates", method="routes")
    assert_fine(test)
    test.slider(key="flow-threshold").set_value(0.05).run()
    assert_fine(test)
    assert "importance below 0.05 are not followed" in said(test)
    held = re.search(r"([\d,]+) of ([\d,]+) edges", said(test))
    graph = copied(code(test, "flow.sankey"))["graph"]
    assert held is not None
    assert (len(graph.edges), graph.n_edges_all) == (int(held[1]), int(held[2]))
    test = opened(model="dates", method="alti")
    assert not [slider for slider in test.slider if slider.key == "flow-threshold"]
