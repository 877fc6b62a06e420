"""The Ablation page, run by Streamlit's own test harness."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from flow_page import FIRST, MODELS, SHORT
from streamlit.testing.v1 import AppTest

import attnviz
import pages
from attnviz import ablation
from attnviz.ablation import Screened, Sweep
from attnviz.edits import Head
from attnviz.metrics import Similarity
from attnviz.ui.ablation import asking, beside, finding, running
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.focus import fitted
from attnviz.ui.jobs import Job
from attnviz.ui.selection import Selection
from attnviz.ui.session import stores
from pages import HOSTILE, ROOT, assert_fine, params, said

DATE, OTHER_DATE = "the 3rd of May 1998", "the 7th of May 1996"
SENTENCE = "Mary has a small red boat."


pytestmark = pytest.mark.usefixtures("held_models")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # lines of Python read the app's own texts from there
    monkeypatch.setattr(finding, "WRITTEN", 3)
    monkeypatch.setattr(asking, "FEW", 3)


def opened(**parameters: str) -> AppTest:
    stores().traces.clear()
    return session(**parameters)


def session(**parameters: str) -> AppTest:
    name = parameters.get("model", "smollm2")
    stores().models.put(name, MODELS[name])
    return pages.opened("ablation", **parameters)


def measured(test: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


def kept_sweep(kind: type[Sweep] = Sweep) -> Sweep:
    (found,) = (value for value in stores().traces._kept.values() if type(value) is kind)
    return found


def predicted(test: AppTest) -> list[list[str]]:
    """The likeliest tokens of the clean and of the edited run."""
    return [element.value["token"].tolist() for element in test.dataframe if "token" in element.value][:2]


def words(test: AppTest) -> str:
    return " ".join(element.value for element in test.markdown).replace("\\", "")


@pytest.mark.parametrize(
    ("parameters", "metric"),
    [
        ({"model": "dates", "with_text": DATE, "heads": "L0H1"}, "loss"),
        ({"model": "dates", "with_text": DATE, "metric": "difference", "how": "zero"}, "minus logit"),
        ({"model": "dates", "with_text": DATE, "how": "mean", "site": "encoder", "heads": "L0H0"}, "loss"),
        ({"model": "minilm", "with_text": SENTENCE, "heads": "L1H2.L4H5"}, "cosine similarity to itself"),
        ({"model": "minilm", "with_text": SENTENCE, "with_other": "A ship", "how": "zero"}, "'A ship'"),
        ({"model": "minilm", "with_text": HOSTILE, "heads": "L0H0"}, "cosine"),
    ],
    ids=str,
)
def test_every_head_is_measured_at_once_where_that_is_short(parameters: dict[str, str], metric: str) -> None:
    test = opened(**parameters)
    assert_fine(test)
    known = kept_sweep()
    assert known.complete
    assert metric in known.metric
    assert f"{known.baseline:.4f}" in said(test)
    assert ("off-distribution" in known.title) == (parameters.get("how") == "zero")
    assert ("Zero leaves what the model met" in said(test)) == (parameters.get("how") == "zero")
    if "heads" in parameters:
        assert {"Clean", "Edited", "Change"} <= set(measured(test))
        assert "No head is in the set" not in said(test)


def test_the_set_is_measured_together_and_the_clean_run_stays_the_clean_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BY_ITSELF", 0.0)
    test = opened(with_text=SHORT, heads="L23H3.L29H1", metric="kl")
    assert_fine(test)
    model, first = MODELS["smollm2"], measured(test)
    donor = test.text_input(key="ablation-donor").value
    edit = attnviz.edits.ResampleHeads([Head(23, 3), Head(29, 1)], donor)
    assert first["Clean"] == "0.0000"
    assert float(first["Edited"]) == pytest.approx(model.measure(attnviz.metrics.KL(), SHORT, edits=[edit]), abs=1e-4)
    assert "Clean run" in words(test)
    assert f"Edited run: L23H3, L29H1 taken from '{donor}'" in words(test)
    assert "written with the heads back" in said(test)
    plain = model.trace(SHORT)
    clean = plain.predictions(-1, 8)["token"].tolist()
    assert predicted(test) == [clean, model.trace(SHORT, edits=[edit]).predictions(-1, 8)["token"].tolist()]
    test.text_input(key="ablation-set").set_value("L29H1, L28").run()
    assert_fine(test)
    assert params(test)["heads"].startswith("L28H0.L28H1")
    assert measured(test)["Clean"] == "0.0000"
    assert predicted(test)[0] == clean
    other = session(with_text=SHORT)
    assert_fine(other)
    assert measured(other) == {}
    assert torch.equal(plain.logits, model.trace(SHORT).logits)  # type: ignore[arg-type]


def test_a_set_is_compared_with_its_members_one_by_one() -> None:
    test = opened(model="minilm", with_text=SENTENCE, with_other="A ship", heads="L1H2.L4H5", how="zero")
    assert_fine(test)
    known, found = kept_sweep(), measured(test)
    alone = known.effects[1, 2] + known.effects[4, 5]
    assert float(found["One by one, added up"]) == pytest.approx(alone, abs=1e-4)
    edit = attnviz.edits.ZeroHeads([Head(1, 2), Head(4, 5)])
    edited = MODELS["minilm"].measure(Similarity("A ship"), SENTENCE, edits=[edit])
    assert float(found["Change"]) == pytest.approx(edited - known.baseline, abs=1e-4)
    assert beside.signed(edited - known.baseline - alone) in said(test)


def test_moved_predictions_are_what_kl_says_at_each_position() -> None:
    clean, edited = torch.tensor([[0.0, 1.0], [2.0, 2.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    moved = finding.divergences(clean, edited)
    p = np.exp([0.0, 2.0]) / np.exp([0.0, 2.0]).sum()
    assert moved == pytest.approx([0.0, float((0.5 * np.log(0.5 / p)).sum())], abs=1e-6)


def test_a_sweep_that_was_stopped_keeps_what_it_has_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BY_ITSELF", 0.0)
    parameters = {"with_text": SENTENCE, "model": "minilm", "how": "zero"}
    test = opened(**parameters)
    assert_fine(test)
    assert "Nothing is measured yet" in said(test)
    model = MODELS["minilm"]
    effects = ablation.sweep(model, SENTENCE, Similarity(), how="zero")
    some = np.where(np.arange(6)[:, None] < 2, effects.effects, np.nan)
    part = replace(effects, found={effects.site: some})
    assert not part.complete

    def stopped(model: attnviz.Model, text: str, *, done: Sweep | None = None, **others: Any) -> Any:
        assert done is None
        yield part

    with monkeypatch.context() as patched:
        patched.setattr(finding.ablation, "pieces", stopped)
        test.button(key="ablation-run").click().run()
    assert_fine(test)
    assert kept_sweep().n_reached == part.n_reached
    test.run()
    assert "24 of 72 heads are measured" in words(test)
    assert "MB of memory, the model aside" in words(test)
    assert "of the 24 measured so far" in said(test)
    test.button(key="ablation-run").click().run()
    assert_fine(test)
    whole = kept_sweep()
    assert whole.complete
    assert "measured so far" not in said(test)
    there = np.isfinite(part.effects)
    assert np.array_equal(whole.effects[there], part.effects[there])
    assert np.allclose(whole.effects, effects.effects, atol=1e-5)


def test_a_cancelled_sweep_ends_without_an_error_and_keeps_its_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    test = opened(model="dates", with_text=DATE)
    assert_fine(test)
    kept: list[Sweep] = []

    model = MODELS["dates"]
    trace = model.trace(DATE)
    focus, _ = fitted(Selection(), trace)
    subject = Subject("dates", model, trace, focus, attnviz.metrics.KL(), "zero", "", (), False, ())
    monkeypatch.setattr(finding, "put", lambda subject, key, value: kept.append(value))
    job = Job(lambda job: (job.cancel(), finding.sweep(subject, [], _quiet(job))))
    assert job.wait(20)
    job.result()
    (part,) = kept
    assert not part.complete


def _quiet(job: Job) -> Job:
    """A job whose first report does not look whether it was cancelled."""
    first = iter([True])
    report = job.report
    job.report = lambda doing, share: None if next(first, False) else report(doing, share)  # type: ignore[method-assign]
    return job


def test_a_donor_has_to_align_and_is_dropped_with_its_text() -> None:
    test = opened(model="dates", with_text=DATE)
    assert_fine(test)
    assert test.text_input(key="ablation-donor").value != DATE
    test.text_input(key="ablation-donor").set_value("May").run()
    (error,) = test.error
    assert "The donor has" in error.value
    assert "token by token" in error.value
    test.text_input(key="ablation-donor").set_value(OTHER_DATE).run()
    assert_fine(test)
    assert stores().texts.get(params(test)["donor"]) == OTHER_DATE
    exact = ablation.sweep(
        MODELS["dates"],
        DATE,
        attnviz.metrics.Loss(),
        how="resample",
        donor=OTHER_DATE,
        decoder_input_ids=MODELS["dates"].trace(DATE).input_ids,
    )
    found = [value for value in stores().traces._kept.values() if type(value) is Sweep]
    assert any(np.allclose(one.found["cross"], exact.found["cross"], atol=1e-5, equal_nan=True) for one in found)
    test.text_area(key="draft").set_value("the 12th of June 2004")
    test.button(key="FormSubmitter:text-form-Run").click().run()
    assert_fine(test)
    assert "donor" not in params(test)


def test_without_names_or_numbers_the_mean_is_proposed_and_resampling_asks_for_a_donor() -> None:
    test = opened(model="minilm", with_text="A small red boat.")
    assert_fine(test)
    assert kept_sweep().how == "mean"
    asked = opened(model="minilm", with_text="A small red boat.", how="resample")
    assert "Type a donor text" in asked.error[0].value


def test_what_the_model_cannot_be_asked_is_said() -> None:
    test = opened(model="minilm", with_text=SENTENCE, metric="loss", answer="4", heads="L77H1.L0H0", later_layer="9")
    assert_fine(test)
    said_ = " ".join(warning.value for warning in test.warning).replace("\\", "")
    assert "no outcome of the kind 'loss'" in said_
    assert "does not have all the heads" in said_
    assert "metric" not in params(test)


@pytest.mark.parametrize("preset", ["all", "strongest", "rest", "random"])
def test_presets_fill_the_set(preset: str) -> None:
    test = opened(model="minilm", with_text=SENTENCE, heads="L2H3.L2H5", how="zero")
    before = [(2, 3), (2, 5)]
    test.button(key=f"ablation-{preset}").click().run()
    assert_fine(test)
    heads = Selection.from_params(params(test))[0].heads
    effects = kept_sweep().effects
    wanted: dict[str, Callable[[], bool]] = {
        "all": lambda: heads == tuple((0, i) for i in range(12)),
        "strongest": lambda: sorted(np.abs(effects).ravel())[-5:] == sorted(abs(effects[pair]) for pair in heads),
        "rest": lambda: len(heads) == 70 and not set(before) & set(heads),
        "random": lambda: [layer for layer, _ in heads] == [2, 2] and not set(before) & set(heads),
    }
    assert wanted[preset]()
    assert ("too few other heads to compare" in said(test)) == (preset == "rest")


def test_small_changes_are_not_hidden_by_their_decimals() -> None:
    assert [beside.signed(x) for x in (0.0, -1.25, 3e-6)] == ["+0.0000", "-1.2500", "+3.0e-06"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "dates", "with_text": DATE, "site": "decoder", "heads": "L0H0"},
        {"model": "dates", "with_text": DATE, "how": "mean", "site": "encoder", "heads": "L0H1"},
        {"with_text": SHORT, "heads": "L0H3", "how": "zero", "chat": "1"},
    ],
    ids=str,
)
def test_lines_of_python_make_the_pictures_again(parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    estimate = "chat" in parameters
    if estimate:
        monkeypatch.setattr(running, "BY_ITSELF", 0.0)
    test = opened(**parameters)
    assert_fine(test)
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    for block in (block.value for block in test.code if "figures" in block.value):
        exec(compile(block, "<lines>", "exec"), {})
        assert all(len(line) <= 100 for line in block.split("\n"))
    known = kept_sweep(Screened if estimate else Sweep)
    drawn = [np.asarray(figure.data[0].z, float) for figure in shown if figure.data[0].type == "heatmap"]
    assert any(
        values.shape == known.effects.shape and np.allclose(values, known.effects, atol=2e-4, equal_nan=True)
        for values in drawn
    )
    assert {figure.data[0].type for figure in shown} == {"heatmap", "bar", *["scatter"] * (not estimate)}


def test_too_long_a_text_and_a_saved_trace_are_refused_with_a_sentence() -> None:
    test = opened(model="minilm", with_text="word " * 600)
    assert len(test.exception) == 0
    assert test.error[0].value
    assert FIRST not in words(test)
