"""What pages have measured already goes along with a finding as evidence, with the very numbers of the page."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import ablation, findings, human
from attnviz.ablation import Case
from attnviz.edits import Head
from attnviz.metrics import KL
from attnviz.ui.highlights.asking import Asked
from attnviz.ui.highlights.study import Passage, Study
from attnviz.ui.notebook import offering
from attnviz.view import Sinks

TEXTS = ("The keeper painted the door red.", "Nobody came home before the rain.", "A dog slept under the old table.")


def test_an_ablation_keeps_its_effects_and_the_random_sets(smollm2: attnviz.Model) -> None:
    heads, cases = (Head(3, 1),), [Case(text, other, "", "") for text, other in zip(TEXTS, TEXTS[::-1], strict=True)]
    options: dict[str, Any] = {"hows": ("zero",), "metric": KL()}
    rows = ablation.table(smollm2, cases, [heads], **options)
    controls = ablation.band(smollm2, cases, heads, n=2, **options)
    subject: Any = SimpleNamespace(model=smollm2, metric=KL(), heads=heads, trace=None)
    trial: Any = SimpleNamespace(cases=tuple(cases), anywhere=False)
    (evidence,) = offering.ablated(subject, trial, rows, controls)
    np.testing.assert_allclose(evidence.outcome.values, rows.effects[0, 0])
    np.testing.assert_allclose(evidence.outcome.control, controls.effects[:, 0].mean(1))
    again = findings.measure(smollm2, evidence.measurement, evidence.cases)
    np.testing.assert_allclose(again.mean, evidence.outcome.mean, atol=1e-5)
    np.testing.assert_allclose((again.low, again.high), (evidence.outcome.low, evidence.outcome.high), atol=1e-5)


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

    test = AppTest.from_function(page).run()
    assert [text.value for text in test.text] == ["text", "text,gaze", "text,second"]
