"""Pruning curves on the Ablation page, run by Streamlit's own test harness."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from flow_page import MODELS
from pruning_page import DATE, SENTENCE, opened
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import ablation
from attnviz.ablation import Case, Curve
from attnviz.errors import Cancelled, InputError, Unsupported
from attnviz.figures.pruning import was_timed
from attnviz.metrics import KL, ExactMatch, LogitDiff, LogProb, Loss, Similarity
from attnviz.ui.ablation import asking, pruning, pruning_lines, pruning_plan, running
from attnviz.ui.ablation.pruning_plan import Plan, orders_for
from attnviz.ui.jobs import Job
from attnviz.ui.selection import Selection
from attnviz.ui.session import stores
from pages import HOSTILE, ROOT, assert_fine, said

pytestmark = pytest.mark.usefixtures("held_models")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # lines of Python read the app's own texts from there
    monkeypatch.setattr(running, "BY_ITSELF", 0.0)
    monkeypatch.setattr(asking, "FEW", 3)
    monkeypatch.setattr(pruning_plan, "COUNTS", (2,))
    for module in (pruning_plan, pruning_lines):
        monkeypatch.setattr(module, "STEPS", 4)
        monkeypatch.setattr(module, "TIMED_STEPS", 2)


def drawn(test: AppTest) -> AppTest:
    """Start the curve, and run the page until it is there."""
    test.button(key="ablation-pruning-run").click().run()
    until(test, lambda: all(button.key != "ablation-cancel-pruning" for button in test.button))
    assert_fine(test)
    return test


def until(test: AppTest, wanted: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not wanted():
        assert time.monotonic() < end
        time.sleep(0.2)
        test.run()


def kept_curves() -> dict[str, Curve]:
    return {key[3]: value for key, value in stores().traces._kept.items() if isinstance(value, Curve)}  # type: ignore[misc]


def figures(test: AppTest, monkeypatch: pytest.MonkeyPatch, name: str) -> list[go.Figure]:
    """What the lines of Python show."""
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    (code,) = (block.value for block in test.code if name in block.value)
    assert all(len(line) <= 100 for line in code.split("\n"))
    exec(compile(code, "<lines>", "exec"), {})
    return shown


def means(figure: go.Figure) -> dict[str, list[float]]:
    return {trace.name: list(trace.y) for trace in figure.data if trace.name and trace.yaxis != "y2"}


def test_a_curve_over_sentences_with_random_orders_and_time() -> None:
    test = opened(model="minilm", with_text=SENTENCE, with_other="A ship", how="zero")
    assert_fine(test)
    assert test.get("plotly_chart") == []
    assert "No head is in the set" in said(test)
    drawn(test)
    curves, texts = kept_curves(), asking.embedded_texts(pairs=False)[:2]
    assert set(curves) == {"screen", "seed 1", "seed 2", "time screen"}
    expected = ablation.curve(MODELS["minilm"], texts, Similarity("A ship"), steps=4)
    assert curves["screen"].order == expected.order
    assert curves["screen"].title == expected.title
    np.testing.assert_allclose(curves["screen"].values, expected.values, atol=1e-5)
    assert curves["seed 2"].order == ablation.curve(MODELS["minilm"], texts[:1], Similarity("A ship"), order=2).order
    assert np.isfinite(curves["time screen"].ms[:2]).all()
    assert "heads really taken out" in said(test)
    assert "save no time" not in said(test)
    assert "Zero leaves what the model met" in said(test)
    assert len(test.get("plotly_chart")) == 1


def test_lines_of_python_make_the_same_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    test = opened({"timed": False, "order": "random", "controls": 2}, model="minilm", with_text=SENTENCE, how="mean")
    test.number_input(key="ablation-pruning-controls").set_value(1).run()
    drawn(test)
    curves = kept_curves()
    (figure,) = figures(test, monkeypatch, "pruning_curve")
    lines = means(figure)
    assert lines["mean over texts"] == pytest.approx(list(curves["random"].mean), abs=1e-5)
    assert lines["random order"] == pytest.approx(list(curves["seed 1"].mean), abs=1e-5)
    assert "held at their mean" in figure.layout.title.text
    assert "save no time" in said(test)


@pytest.mark.parametrize(("texts", "metric"), [("This text", "loss"), ("2 dates", "outcome of each text")])
def test_an_encoder_decoder_is_pruned_and_its_lines_agree(
    texts: str, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = opened({"texts": texts, "controls": 1}, model="dates", with_text=DATE, how="zero")
    test.segmented_control(key="ablation-pruning-order").set_value("exact").run()
    drawn(test)
    curve = kept_curves()["exact"]
    assert {head.site for head in curve.order} == {"encoder", "decoder", "cross"}
    assert curve.metric.startswith(metric)
    figure = figures(test, monkeypatch, "pruning_curve")[0]
    assert means(figure)["mean over texts"] == pytest.approx(list(curve.mean), abs=1e-5)
    assert "exact effects" in figure.layout.title.text
    assert any(trace.yaxis == "y2" for trace in figure.data) == was_timed(kept_curves()["time exact"])
    model = MODELS["dates"]
    asked = {"text": DATE, "decoder_input_ids": model.trace(DATE).input_ids} if texts == "This text" else None
    if asked is None:
        first, *_ = asking.embedded_texts(pairs=True)
        answer = Path("assets/dates/dates.tsv").read_text("utf-8").splitlines()[0].split("\t")[1]
        clean = model.measure(LogProb(answer), first, decoder_input_ids=model.trace(DATE).input_ids[:1])
    else:
        clean = model.measure(Loss(), **asked)
    assert curve.values[0, 0] == pytest.approx(clean, abs=1e-5)


def test_what_was_measured_before_a_stop_stays_and_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"timed": False, "texts": "This text"}
    test = opened(fields, model="minilm", with_text=SENTENCE, with_other="A ship", how="zero")
    real = ablation.curve

    def slow(*given: Any, **options: Any) -> Curve:
        if isinstance(options["order"], int):
            while True:  # until somebody cancels
                options["progress"](1, 10)
                time.sleep(0.02)
        return real(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pruning_plan.ablation, "curve", slow)
        test.button(key="ablation-pruning-run").click().run()
        until(test, lambda: "screen" in kept_curves())
        test.run()
        assert "random order" in test.get("progress")[0].proto.text
        test.button(key="ablation-cancel-pruning").click().run()
    assert_fine(test)
    assert set(kept_curves()) == {"screen"}
    assert len(test.get("plotly_chart")) == 1
    assert test.button(key="ablation-pruning-run").label == "Measure the rest"
    first = kept_curves()["screen"]
    monkeypatch.setattr(pruning_plan.ablation, "screen", None)  # the order is known: nothing is estimated again
    drawn(test)
    assert kept_curves()["screen"] is first
    assert set(kept_curves()) == {"screen", "seed 1", "seed 2"}


def test_an_order_that_was_stopped_goes_on_behind_the_texts_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = MODELS["dates"], list[str]()
    stores().traces.clear()
    stores().models.put("dates", model)
    subject: Any = SimpleNamespace(name="dates", model=model)
    plan = Plan(pruning_plan.dates()[:3], None, "exact", None, tuple(model.trace(DATE).input_ids[:1]), 0, False)
    real = ablation.sweep

    def counted(model: attnviz.Model, text: str, *given: Any, **options: Any) -> Any:
        read.append(text)
        return real(model, text, *given, **options)

    monkeypatch.setattr(pruning_plan.ablation, "sweep", counted)
    seconds = iter([True])

    def stop(job: Job) -> None:
        report = job.report

        def noticed(doing: str, share: float) -> None:
            if len(read) == 2 and next(seconds, False):
                job.cancel()  # in the midst of the second text
            report(doing, share)

        job.report = noticed  # type: ignore[method-assign]
        pruning_plan.measure(subject, plan, job)

    with pytest.raises(Cancelled):
        finished(stop)
    assert kept_curves() == {}
    finished(lambda job: pruning_plan.measure(subject, plan, job))
    dates = [case.clean for case in plan.texts if isinstance(case, Case)]
    assert read == [*dates[:2], *dates[1:]]
    monkeypatch.undo()
    expected = ablation.curve(model, plan.texts, order="exact", steps=1, **plan.options)
    assert kept_curves()["exact"].order == expected.order


def finished(work: Callable[[Job], Any]) -> Any:
    job = Job(work)
    assert job.wait(60)
    return job.result()


def test_prompts_of_several_units_or_too_many_tokens_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    subject: Any = SimpleNamespace(name="dates", model=MODELS["dates"])
    mixed = Plan((Case("a", "", "1"), Case("a", "", "1", "2")), None, "exact", None, (1,), 0, False)
    with pytest.raises(InputError, match="give all one"):
        finished(lambda job: pruning_plan.measure(subject, mixed, job))
    monkeypatch.setattr(pruning_plan, "MOST_TOKENS", 3)
    with pytest.raises(InputError, match="Text 1 has"):
        finished(lambda job: pruning_plan.measure(subject, Plan((DATE,), Loss(), "exact", None, None, 0, False), job))


def test_a_failure_is_a_sentence_and_the_button_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    test = opened({"order": "random"}, model="minilm", with_text=HOSTILE, how="zero")

    def refuse(*given: Any, **options: Any) -> Curve:
        raise Unsupported("This <b>cannot</b> be done.")

    monkeypatch.setattr(pruning_plan.ablation, "curve", refuse)
    test.button(key="ablation-pruning-run").click().run()
    until(test, lambda: len(test.error) > 0)
    (error,) = test.error
    assert r"\<b\>cannot" in error.value
    assert test.button(key="ablation-pruning-run").label == "Draw the curve"


def test_an_order_can_be_estimated_only_where_the_outcome_has_a_slope() -> None:
    assert orders_for(Similarity()) == orders_for(KL()) == ("exact", "random")
    assert orders_for(Similarity("x")) == orders_for(Loss()) == orders_for(None) == ("screen", "exact", "random")
    assert orders_for(ExactMatch("x")) == ("random",)
    assert pruning_plan.can_time(MODELS["minilm"])
    assert not pruning_plan.can_time(MODELS["smollm2"])  # its heads share keys


def test_minimal_pairs_stand_in_the_lines_and_bring_their_own_outcome() -> None:
    cases = (Case("Mary and", "John and", " John", " Ann"), Case('"a"\u202e', "", " b"))

    plan = Plan(cases, None, "screen", None, None, 1, False)
    lines = pruning_lines.pruning_lines(Selection(), plan, timed=False)
    made: dict[str, Any] = {"attnviz": attnviz}
    texts = lines[lines.index("texts = ") : lines.index("curve = ")]
    exec(compile(texts, "<texts>", "exec"), made)
    assert tuple(made["texts"]) == cases
    assert "\u202e" not in lines
    assert "metric" not in lines


def test_what_is_asked_is_told_apart() -> None:
    plan = Plan(("a",), Loss(), "screen", None, None, 2, False)
    others = [
        Plan(("b",), Loss(), "screen", None, None, 2, False),
        Plan(("a",), LogitDiff(1, 2), "screen", None, None, 2, False),
        Plan(("a",), Loss(), "screen", ("r",), None, 2, False),
        Plan(("a",), Loss(), "screen", None, (1,), 2, False),
    ]
    assert len({one.key("m", "screen") for one in (plan, *others)}) == 5
    assert plan.key("m", "seed 1") == Plan(("a",), Loss(), "exact", None, None, 3, True).key("m", "seed 1")
    assert plan.parts == ["screen", "seed 1", "seed 2"]
    assert replace(plan, timed=True).parts[-1] != replace(plan, timed=True, order="exact").parts[-1]
    assert plan.runs(3) == 4 * 3


def test_a_table_tells_curve_random_orders_and_timed_steps_apart() -> None:
    model = MODELS["dates"]
    curve, other = (
        ablation.curve(model, [DATE], Loss(), order=seed, steps=2, decoder_input_ids=model.trace(DATE).input_ids)
        for seed in (0, 1)
    )
    table = pruning.frame(curve, (other,), curve)
    assert table["kind"].tolist() == ["curve"] * 3 + ["random"] * 3 + ["timed"] * 3
    assert table["mean"].tolist() == [*curve.mean, *other.mean, *curve.mean]
    assert table["low95"].isna().all()
    assert set(table["n_texts"]) == {1}


def test_what_a_model_writes_is_pruned_in_random_orders_alone() -> None:
    fields = {"texts": "This text", "controls": 0, "timed": False}
    test = drawn(opened(fields, model="dates", with_text=DATE, metric="match", how="zero"))
    curve = kept_curves()["random"]
    assert curve.values[[0, -1], 0].tolist() == [1.0, 0.0]
    assert test.segmented_control(key="ablation-pruning-order").options == ["At random"]
    assert "heads leave at random only" in said(test)
