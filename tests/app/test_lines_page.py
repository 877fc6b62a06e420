"""The Lines and the BertViz page, run by Streamlit's own test harness."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from attnviz.trace import Stored, Trace
from attnviz.ui import bertviz, work
from pages import HOSTILE, assert_fine, opened, params, said


def counted(test: AppTest) -> tuple[int, int]:
    """(lines drawn, lines there are), from the caption."""
    found = re.search(r"([\d,]+) of ([\d,]+) lines", said(test))
    assert found is not None
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"model": "minilm"},
        {"model": "dates"},
        {"model": "dates", "site": "encoder"},
        {"unit": "word", "sinks": "renormalise"},
        {"unit": "sentence"},
        {"sinks": "value-norm"},
        {"with_text": "x"},
        {"with_text": HOSTILE},
    ],
    ids=str,
)
def test_lines_are_shown(parameters: dict[str, str]) -> None:
    test = opened("lines", **parameters)
    assert_fine(test)
    drawn, every = counted(test)
    assert 0 < drawn <= every
    assert "not what that does to the prediction" in said(test)
    assert ("By " in said(test)) == ("unit" in parameters)
    assert ("taken away" in said(test)) == (parameters.get("sinks") == "renormalise")


def test_chips_and_presets_choose_heads() -> None:
    test = opened("lines", heads="L5H1.L23H3", layer="5", head="1")
    assert_fine(test)
    _, two = counted(test)
    test.button(key="lines-chip-L5H1").click().run()
    assert params(test)["heads"] == "L23H3"
    assert test.button(key="lines-chip-L23H3").disabled
    _, one = counted(test)
    assert two == 2 * one
    test.button(key="lines-layer").click().run()
    assert params(test)["heads"] == ".".join(f"L5H{i}" for i in range(9))
    assert counted(test)[1] == 9 * one
    test.button(key="lines-only").click().run()
    assert_fine(test)
    assert params(test)["heads"] == "L5H1"


def test_a_smaller_share_draws_fewer_lines() -> None:
    test = opened("lines")
    before, every = counted(test)
    test.slider(key="lines-share").set_value(30).run()
    assert_fine(test)
    assert params(test)["share"] == "0.3"
    fewer, same = counted(test)
    assert (fewer < before, same) == (True, every)
    assert "hold 30%" in said(test)
    test.toggle(key="lines-one").set_value(True).run()
    assert_fine(test)
    assert "for query 13" in said(test)
    assert counted(test)[1] == 14


def test_a_page_of_bertviz_is_made_on_request_and_its_size_said_before() -> None:
    test = opened("bertviz_views")
    assert_fine(test)
    assert "sinks and colours change nothing here" in said(test)
    about = next(element.value for element in test.markdown if element.value.startswith("About "))
    number, unit = re.fullmatch(r"About ([\d.]+) (MB|kB)", about).groups()  # type: ignore[union-attr]
    assert not test.get("download_button")
    test.button(key="bertviz-make").click().run()
    assert_fine(test)
    assert len(test.get("download_button")) == 1
    (page,) = test.session_state["attnviz_bertviz_pages"].values()
    size = float(number) * {"MB": 1e6, "kB": 1e3}[unit]
    assert size == pytest.approx(len(page.encode()), rel=0.25)
    assert "Apache-2.0" in said(test)
    assert "attnviz.bertviz_views.head_view(trace, layers=[23])" in test.code[-1].value
    # Other layers are another page, which nobody has asked for yet.
    test.multiselect[0].set_value([3]).run()
    assert_fine(test)
    assert test.button(key="bertviz-make").label == "Make it"
    test.multiselect[0].set_value([]).run()
    assert "at least one layer" in said(test)


@pytest.mark.parametrize("model", ["smollm2", "minilm", "dates"])
@pytest.mark.parametrize("kind", ["head", "model", "neuron"])
def test_every_view_of_every_family_can_be_made(model: str, kind: str) -> None:
    test = opened("bertviz_views", model=model, **({} if model == "dates" else {"with_text": HOSTILE}))
    test.segmented_control(key="bertviz-kind").set_value(kind).run()
    assert_fine(test)
    test.button(key="bertviz-make").click().run()
    assert_fine(test)
    (page,) = test.session_state["attnviz_bertviz_pages"].values()
    assert f'<body class="{kind}">' in page
    assert "<img" not in page


def test_pages_that_stay_are_bounded() -> None:
    test = opened("bertviz_views")
    for layer in range(6):
        test.multiselect[0].set_value([layer]).run()
        test.button(key="bertviz-make").click().run()
        assert_fine(test)
    assert len(test.session_state["attnviz_bertviz_pages"]) == 3


def test_a_page_that_is_too_large_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bertviz, "MOST_BYTES", 1000)
    test = opened("bertviz_views")
    assert [exception.message for exception in test.exception] == []
    assert test.button(key="bertviz-make").disabled
    assert "the most is 1 kB" in test.error[0].value.replace("\\", "")


@pytest.mark.parametrize("model", ["smollm2", "minilm", "dates"])
def test_products_are_shown_for_every_family(model: str) -> None:
    test = opened("bertviz_views", model=model)
    test.segmented_control(key="bertviz-kind").set_value("products").run()
    assert_fine(test)
    assert "Units and sinks change the text's tints here, not the products" in said(test)
    keys, dimensions = (frame.value for frame in test.dataframe)
    assert keys["weight"].is_monotonic_decreasing
    scored = re.search(r"score (-?[\d.]+), weight", said(test))
    assert scored is not None
    assert dimensions["product"].sum() == pytest.approx(float(scored[1]), abs=1e-3)
    assert "gives the weights" in said(test)
    test.selectbox(key="products-head").set_value(0).run()
    assert_fine(test)
    assert params(test)["head"] == "0"


def test_a_view_only_model_has_no_vectors_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    made = work.trace_for

    def patterns_only(*arguments: Any) -> Trace:
        trace = made(*arguments)
        stored = {i: Stored(layer.pattern().to(torch.float32)) for i, layer in trace.attention["decoder"].items()}
        return dataclasses.replace(trace, attention={"decoder": stored})

    monkeypatch.setattr(work, "trace_for", patterns_only)
    test = opened("bertviz_views")
    assert_fine(test)
    for kind in ("neuron", "products"):
        test.segmented_control(key="bertviz-kind").set_value(kind).run()
        assert [exception.message for exception in test.exception] == []
        assert len(test.error) == 1
        assert "patterns only" in test.error[0].value
    test.segmented_control(key="bertviz-kind").set_value("model").run()
    test.button(key="bertviz-make").click().run()
    assert_fine(test)
