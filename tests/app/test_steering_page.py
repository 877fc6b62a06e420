"""The Steering page, run by Streamlit's own test harness."""

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from flow_page import MODELS
from streamlit.testing.v1 import AppTest

import attnviz
import pages
from attnviz import steering
from attnviz.edits import ExternalAttention, Head, Steer
from attnviz.errors import InputError
from attnviz.ui import two_runs
from attnviz.ui.selection import Selection
from attnviz.ui.session import stores
from attnviz.ui.steering import asking, finding, profiling
from attnviz.ui.steering.plan import Plan
from attnviz.ui.steering.subject import weights_of
from attnviz.view import View
from pages import HOSTILE, assert_fine, params, said, words_of

TEXT = "Anna says Monday. Peter says Friday. It is on"
DATE = "the 3rd of May 1998"

pytestmark = pytest.mark.usefixtures("held_models")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "WRITTEN", 3)


def opened(draft: Plan | None = None, **parameters: str) -> AppTest:
    name = parameters.get("model", "smollm2")
    stores().models.put(name, MODELS[name])
    if draft is not None:
        parameters["plan"] = stores().texts.put(draft.model_dump_json())
    return pages.opened("steering", **({"with_text": TEXT} | parameters))


def measured(test: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


def test_while_nothing_is_marked_the_clean_prediction_stands_alone() -> None:
    test = opened()
    assert_fine(test)
    assert "Nothing is marked yet" in said(test)
    (table,) = (element.value for element in test.dataframe)
    clean = MODELS["smollm2"].trace(TEXT).predictions(-1, 10)
    assert table["probability"].tolist() == pytest.approx(clean["probability"].tolist(), abs=1e-5)


def test_the_page_shows_what_the_library_steers() -> None:
    test = opened(emphasised="0-3", strength="0.1", steered="heads", heads="L23H3.L24H5")
    assert_fine(test)
    model, heads = MODELS["smollm2"], [Head(23, 3), Head(24, 5)]
    clean, steered = model.trace(TEXT), model.trace(TEXT, edits=[Steer(range(4), heads, 0.1)])
    went = steering.went(clean, steered, range(4), heads)
    before, after = went.means
    assert measured(test) == {
        "Attention to the words, before": f"{before:.1%}",
        "After": f"{after:.1%}",
        "Prediction moved (KL, nats)": f"{steering.moved(clean, steered):.4f}",
    }
    shown = test.dataframe[1].value
    expected = steered.predictions(-1, 10)["probability"].to_numpy()
    np.testing.assert_allclose(shown["probability"], expected, atol=1e-5)
    logits = clean.logits
    assert logits is not None
    first = int(steered.predictions(-1, 1)["token_id"][0])
    change = expected[0] - float(logits[-1].softmax(-1)[first])
    assert shown["change"].iloc[0] == pytest.approx(change, abs=1e-5)
    assert "no proof" in said(test)
    assert "harms" not in said(test)


def test_an_address_restores_words_kind_amount_and_heads() -> None:
    plan = Plan(kind="alpha", alpha=0.25)
    asked = {"model": "minilm", "emphasised": "1-2", "steered": "layer", "layer": "2", "strength": "0.3"}
    test = opened(plan, **asked)
    assert_fine(test)
    now = params(test)
    assert asked.items() <= now.items()
    assert test.slider(key="steering-alpha").value == 0.25
    model = MODELS["minilm"]
    n = len(model.trace(TEXT).tokens)
    edit = ExternalAttention([float(i in (1, 2)) for i in range(n)], alpha=0.25, heads=[Head(2, i) for i in range(12)])
    _, after = steering.went(model.trace(TEXT), model.trace(TEXT, edits=[edit]), (1, 2), edit.heads).means
    assert measured(test)["After"] == f"{after:.1%}"
    test.slider(key="steering-alpha").set_value(1.0).run()
    assert_fine(test)
    assert measured(test)["After"] == measured(test)["Attention to the words, before"], "1 changes nothing"
    assert params(test)["plan"] != now["plan"], "Back has to lead to what was there"


def test_a_plan_that_nobody_could_have_made_is_said_and_left() -> None:
    for text in ("{", '{"kind": "push"}', '{"beta": NaN}', '{"half": [-1]}', '{"unknown": 1}'):
        test = opened(model="minilm", plan=stores().texts.put(text))
        assert_fine(test)
        assert "plan behind this link" in words_of(test.warning)
        assert "plan" not in params(test)


def test_weights_are_those_that_the_kind_knows_and_faint_ones_stay_with_their_text() -> None:
    chosen = Selection(text="a" * 16, emphasised=(0, 9), ignored=(1,))
    assert weights_of(chosen, Plan(), 4) == (1, -1, 0, 0)
    faint = Plan(kind="beta", text="a" * 16, half=(1, 2), quarter=(2, 3))
    assert weights_of(chosen, faint, 4) == (1, 0.5, 0.5, 0.25)
    assert weights_of(chosen, faint.model_copy(update={"text": "b" * 16}), 4) == (1, 0, 0, 0)
    assert weights_of(chosen, faint.model_copy(update={"kind": "steer"}), 4) == (1, -1, 0, 0)


def test_painting_words_keeps_all_of_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = MODELS["smollm2"].trace("Mary's cat, 你 came")
    units = View("word").axes(trace, "decoder")[1]
    kept: dict[str, Any] = {}
    monkeypatch.setattr(asking, "select", lambda **changes: kept.update(changes))
    monkeypatch.setattr(asking, "replan", lambda **changes: kept.update(changes))
    asking.mark(units, [1.0, -1.0] + [0.0] * (len(units) - 2), "steer")
    assert kept == {"emphasised": (0, 1), "ignored": (2,)}
    kept.clear()
    asking.mark(units, [0.25, 0.5] + [0.0] * (len(units) - 2), "beta")
    assert {name: kept[name] for name in ("emphasised", "half", "quarter")} == {
        "emphasised": (),
        "half": (2,),
        "quarter": (0, 1),
    }
    room = asking.spaced(units, trace.tokens, trace.text)
    assert room[:2] == [True, False], "a comma stands at its word"


def test_of_words_on_both_sides_each_is_measured() -> None:
    test = opened(emphasised="0-1", ignored="3", strength="0.1", steered="heads", heads="L23H3")
    assert_fine(test)
    model, heads = MODELS["smollm2"], [Head(23, 3)]
    edits = [Steer(range(2), heads, 0.1), Steer([3], heads, 0.1, ignore=True)]
    before, after = steering.went(model.trace(TEXT), model.trace(TEXT, edits=edits), [3], heads).means
    found = measured(test)
    assert found["To the ignored words, before"] == f"{before:.1%}"
    assert found["To these, after"] == f"{after:.1%}"
    assert after < before


def test_without_any_emphasis_attention_turns_from_the_ignored_words() -> None:
    test = opened(model="minilm", ignored="1", strength="0.01")
    assert_fine(test)
    before, after = (float(measured(test)[name].rstrip("%")) for name in ("Attention to the words, before", "After"))
    assert after < before
    assert "goes to the ignored words" in said(test)


def test_heads_that_help_on_examples_are_found_and_steered(monkeypatch: pytest.MonkeyPatch) -> None:
    real = steering.profile
    few = [Head(24, 5), Head(24, 4), Head(23, 0)]
    found: list[steering.Profile] = []

    def profile(model: attnviz.Model, examples: Any, **options: Any) -> steering.Profile:
        found.append(real(model, examples, **options, heads=few))
        return found[-1]

    monkeypatch.setattr(steering, "profile", profile)
    row = {"text": TEXT, "emphasis": "Anna says Monday.", "answer": " Monday", "foil": " Friday"}
    test = opened(Plan(best=2, examples=json.dumps(row)), emphasised="0-3", steered="profiled")
    assert_fine(test)
    (made,) = found
    best = made.best(2)
    assert made.strength == 0.01
    (table,) = (element.value for element in test.dataframe if "helps by" in element.value)
    assert table["head"].tolist() == list(map(str, best))
    assert "your examples" in said(test)
    lines = next(block.value for block in test.code if "steering.went" in block.value)
    assert all(f"attnviz.Head({head.layer}, {head.head})" in lines for head in best)


def test_examples_that_cannot_be_read_are_named() -> None:
    test = opened(Plan(examples='{"text": "a"}'), emphasised="0", steered="profiled")
    assert [exception.message for exception in test.exception] == []
    assert "line 1" in test.error[0].value
    with pytest.raises(InputError, match="at most 20 examples"):
        profiling.examples_of(Plan(examples='{"text": "a b", "emphasis": "a", "answer": " c"}\n' * 21))


def test_the_apps_own_examples_name_the_answer_beside_the_foil() -> None:
    model = MODELS["smollm2"]
    for example in profiling.OWN:
        assert example.tokens(model.encode(example.text))
        assert example.answer in str(example.emphasis)
        assert example.foil not in str(example.emphasis)
        assert all(len(model.ids_of(word)) == 1 for word in (example.answer, example.foil))


def test_a_text_with_its_words_and_feedback_becomes_an_example() -> None:
    test = opened(emphasised="0-3", steered="heads", heads="L24H5")
    test.button(key="steering-feedback-down").click().run()
    test.text_input(key="steering-feedback-wanted").set_value(" Monday")
    test.text_input(key="steering-feedback-foil").set_value(" Friday")
    pages.press(test, "Keep it")
    assert_fine(test)
    monday = {"text": TEXT, "emphasis": [0, 1, 2, 3], "answer": " Monday", "foil": " Friday"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling, "profiled", lambda subject: (Head(24, 5),))
        test.query_params["steered"] = "profiled"
        test.run()
        test.button(key="steering-add").click().run()
        assert_fine(test)
    plan = Plan.model_validate_json(stores().texts.get(params(test)["plan"]) or "")
    assert json.loads(plan.examples) == monday


def test_an_encoder_decoder_is_steered_where_its_steps_are() -> None:
    test = opened(model="dates", with_text=DATE, emphasised="1-3", query="2")
    assert_fine(test)
    model = MODELS["dates"]
    clean = model.trace(DATE)
    options: dict[str, Any] = {"decoder_input_ids": clean.input_ids}
    steered = model.trace(DATE, **options, edits=[Steer((1, 2, 3), site="cross")])
    assert measured(test)["Prediction moved (KL, nats)"] == f"{steering.moved(clean, steered, 2):.4f}"
    assert "Profiled" not in test.get("button_group")[1].proto.options.__str__()


@pytest.mark.parametrize(
    ("plan", "parameters"),
    [
        (None, {"model": "minilm", "emphasised": "1-2", "ignored": "4", "steered": "layer", "layer": "1"}),
        (Plan(kind="beta", beta=1.5), {"model": "dates", "with_text": DATE, "emphasised": "0"}),
        (Plan(kind="alpha"), {"with_text": "Mary gave", "emphasised": "0", "steered": "heads", "heads": "L1H1.L2H1"}),
    ],
    ids=["steer", "beta", "alpha"],
)
def test_lines_of_python_make_the_pictures_again(
    plan: Plan | None, parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    test = opened(plan, **parameters)
    assert_fine(test)
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    blocks = [block.value for block in test.code if "figures" in block.value]
    assert len(blocks) == 4
    for block in blocks:
        assert all(len(line) <= 100 for line in block.split("\n"))
        exec(compile(block, "<lines>", "exec"), scope := {})
        if "went" in scope:
            assert f"{scope['went'].after.mean():.6f}" != f"{scope['went'].before.mean():.6f}"
    assert [figure.data[0].type for figure in shown] == ["heatmap"] * 4
    before, after = (np.asarray(figure.data[0].z, float) for figure in shown[:2])
    assert not np.allclose(before, after, equal_nan=True)


def test_hostile_text_is_shown_as_it_is_and_too_long_a_one_is_refused() -> None:
    test = opened(model="minilm", with_text=HOSTILE, emphasised="1-2")
    assert_fine(test)
    assert "<img" not in "".join(str(element.proto.body) for element in test.get("html"))
    test = opened(model="minilm", with_text="word " * 600)
    assert [exception.message for exception in test.exception] == []
    assert test.error[0].value


def test_the_first_token_that_differs_is_marked_and_nothing_in_it_is_markup() -> None:
    assert two_runs.common(("a", "b", "c"), ("a", "x")) == 1
    assert two_runs.common(("a",), ("a", "b")) == 1
    assert two_runs.marked(("a", "]b", "c"), 1) == r"a:orange-background[\]b]c"
    assert two_runs.marked(("a",), 1) == "a"
    assert two_runs.marked((), 0) == "nothing"
    assert two_runs.marked(("␣Mary",), 1) == "␣\N{WORD JOINER}Mary"
