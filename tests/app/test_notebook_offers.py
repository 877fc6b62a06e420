"""What pages have measured already goes along with a finding as evidence, with the very numbers of the page."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flow_page import MODELS
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import ablation, findings, human
from attnviz.ablation import Case
from attnviz.edits import Head
from attnviz.findings import Evidence
from attnviz.metrics import KL, LogitDiff, Loss, Metric, Similarity, SimilarityRank
from attnviz.ui.ablation import asking, trial
from attnviz.ui.ablation.subject import Subject, metric_of
from attnviz.ui.ablation.trial import Trial
from attnviz.ui.focus import fitted
from attnviz.ui.highlights.asking import Asked
from attnviz.ui.highlights.study import Passage, Study
from attnviz.ui.notebook import offering
from attnviz.ui.selection import Selection
from attnviz.view import Sinks

TEXTS = ("The keeper painted the door red.", "Nobody came home before the rain.", "A dog slept under the old table.")
SENTENCE = "Mary has a small red boat."
PROMPT = "Mary and John met, and John thanked"
PAIRS = (Case("Anna met Paul.", "Kate met Paul.", " a", " b"), Case("Tom left.", "Paul left.", " a", " b"))


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FEW", 3)
    monkeypatch.setattr(trial, "uploaded", lambda: ("a.jsonl", PAIRS))


def subject_of(model: str, text: str, metric: Metric | None, *heads: Head) -> Subject:
    trace = MODELS[model].trace(text)
    focus, _ = fitted(Selection(), trace)
    asked = metric or metric_of(MODELS[model], trace, Selection(), "")
    return Subject(model, MODELS[model], trace, focus, asked, "zero", "", (), False, heads)


def offered(subject: Subject, n: int = 2) -> tuple[Trial, list[Evidence]]:
    """What the page tries, and what of it goes along with a finding."""
    asked = trial.trial_of(subject, n)
    options: dict[str, Any] = asked.options(subject)
    rows = ablation.table(subject.model, asked.cases, [subject.heads], **options)
    controls = ablation.band(subject.model, asked.cases, subject.heads, n=asked.n, anywhere=asked.anywhere, **options)
    found = offering.ablated(subject, asked, rows, controls)
    for at, evidence in enumerate(found):
        np.testing.assert_allclose(evidence.outcome.values, rows.effects[0, at])
        np.testing.assert_allclose(evidence.outcome.control, controls.effects[:, at].mean(1))
    return asked, found


@pytest.mark.parametrize(
    ("model", "text", "metric", "heads", "anywhere"),
    [
        ("smollm2", PROMPT, None, [Head(20, 1)], False),
        ("minilm", SENTENCE, Similarity("A ship"), [Head(1, 5)], False),
        ("minilm", SENTENCE, Similarity(), [Head(2, head) for head in range(12)], True),
        ("dates", "the 3rd of May 1998", Loss(), [Head(1, 1, "cross")], False),
        ("dates", "the 3rd of May 1998", Loss(), [Head(1, head, "cross") for head in range(4)], True),
    ],
)
@pytest.mark.usefixtures("held_models")
def test_what_the_ablation_page_measured_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    text: str,
    metric: Metric | None,
    heads: list[Head],
    anywhere: bool,
) -> None:
    if model == "smollm2":
        monkeypatch.setattr(trial, "uploaded", lambda: ("", ()))
    subject = subject_of(model, text, metric, *heads)
    tried, found = offered(subject)
    assert tried.anywhere == anywhere
    assert [one.measurement.how for one in found] == ["zero", "mean", "resample"]
    assert len(found[1].measurement.references) == 3
    for evidence in found:
        again = findings.measure(subject.model, evidence.measurement, evidence.cases)
        np.testing.assert_allclose(again.values, evidence.outcome.values, atol=1e-5)
        np.testing.assert_allclose(again.control, evidence.outcome.control, atol=1e-5)
        ends = [(one.low, one.high) for one in (again, evidence.outcome)]
        assert ends[0] == ((None, None) if model != "minilm" else pytest.approx(ends[1], abs=1e-4))
    assert max(np.abs(evidence.outcome.values).max() for evidence in found) > 1e-4


@pytest.mark.usefixtures("held_models")
def test_what_a_finding_cannot_measure_again_stays_on_the_page_and_is_said() -> None:
    ranked = SimilarityRank(("A ship", "A dog"), 0)
    token = LogitDiff(3, 4)
    for subject in (
        subject_of("minilm", SENTENCE, ranked, Head(1, 5)),
        subject_of("smollm2", PROMPT, token, Head(3, 1)),
        subject_of("dates", "the 3rd of May 1998", KL(position=None), Head(1, 1, "cross")),
    ):
        tried = trial.trial_of(subject, 2)
        nothing: Any = None
        assert offering.ablated(subject, tried, nothing, nothing) == []
        assert "a finding says an outcome in words" in offering.ablated_otherwise(subject, tried)


def test_an_agreement_keeps_the_pages_numbers_and_can_be_measured_again(minilm: attnviz.Model) -> None:
    passages = tuple(Passage(text=text, marks=((1, 1.0), (3, 0.5)), revealed=True) for text in TEXTS)
    ask = Asked("minilm", minilm, Study(passages=passages, by="received"), None, Sinks())
    ranking = human.rank(minilm, [one.marked() for one in passages], methods=(), n=200)
    head = Head(0, 2)
    (evidence,) = offering.agreed(ask, ranking, [0, 1, 2], head)
    row = ranking.frame[(ranking.frame["layer"] == 0) & (ranking.frame["head"] == 2)].iloc[0]
    np.testing.assert_allclose(evidence.outcome.mean, row["auroc"])
    again = findings.measure(minilm, evidence.measurement, evidence.cases)
    np.testing.assert_allclose(again.values, evidence.outcome.values, atol=1e-6)
    asked = Study(passages=(passages[0].model_copy(update={"question": "Who?"}),))
    assert offering.agreed(replace(ask, study=asked), ranking, [0], head) == []


def test_a_draft_of_another_page_stays_at_home() -> None:
    def page() -> None:
        import streamlit as st

        from attnviz.ui.notebook.keeping import seen_here
        from attnviz.ui.session import select, selection, show, stores

        show(selection())
        select(text=stores().texts.put("Mary gave"), gaze=stores().texts.put("{}"), second=stores().texts.put("other"))
        for title in ("Explore", "Gaze", "Compare"):
            st.text(",".join(seen_here(title).texts))
        many = seen_here("Corpus", also_seen=[*(f"text {n}" for n in range(200)), "text  3", "a" * 60_000])
        st.text(f"{len(many.texts)} {len(many.digests)}")

    test = AppTest.from_function(page).run()
    assert [text.value for text in test.text] == ["text", "text,gaze", "text,second", "20 201"]
