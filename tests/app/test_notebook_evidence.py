"""The Notebook with evidence: a status goes with the words it was given for, and nothing too long is measured."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from test_notebook_page import NOW, at, dates, finding, plan, store

import attnviz
from attnviz import findings
from attnviz.embedded import EMBEDDED
from attnviz.findings import Case, Evidence, Finding, Measurement, ModelRecord, Seen
from attnviz.findings.judging import FOLDER, digest_of
from attnviz.settings import settings
from attnviz.store import Store
from attnviz.ui.notebook import shelf
from attnviz.ui.session import stores
from attnviz.ui.stores import ModelPool
from pages import assert_fine, press, said, words_of
from pages import params as address

__all__ = ["dates", "store"]  # fixtures of the Notebook's own tests
CONTROL = np.linspace(0, 0.1, 20)


def supported(store: Store) -> Finding:
    asked = plan(direction="above", bound=0.5)
    made = findings.summed_up(asked.measurement, [0.9, 0.91, 0.92], CONTROL)
    stated = findings.planned(finding(), asked)
    one = Evidence(
        measurement=asked.measurement, cases=asked.cases, outcome=made, model=stated.model, at=NOW + timedelta(hours=1)
    )
    return store.save(findings.with_status(findings.attach(stated, one), "supported"), by="Ada")


def toasts(test: AppTest) -> str:
    return words_of(test.toast)


def test_another_claim_or_other_heads_are_a_hypothesis_again(store: Store) -> None:
    one = supported(store)
    test = at(one)
    assert "It is supported as it is worded" in said(test)
    test.text_area(key="notebook-edit-note").set_value("a note beside it")
    press(test, "Save")
    assert store.get(one.id, by="Ada").status == "supported"
    assert "Saved." in toasts(test)
    assert "again" not in toasts(test)
    test.text_area(key="notebook-edit-claim").set_value("It looks at every word")
    press(test, "Save")
    assert_fine(test)
    kept = store.get(one.id, by="Ada")
    assert (kept.status, kept.claim, len(kept.evidence)) == ("hypothesis", "It looks at every word", 1)
    assert "it is a hypothesis again" in toasts(test)
    assert "as it is worded" not in said(test)
    test.button(key="notebook-status-supported").click().run()
    test.text_input(key="notebook-edit-heads").set_value("cross L1H2")
    press(test, "Save")
    assert_fine(test)
    assert store.get(one.id, by="Ada").status == "hypothesis"


@pytest.mark.parametrize(
    ("case", "named"),
    [
        (Case(text="a" * 41), "the text of case 1"),
        (Case(text="1 May 2003", target="2" * 41), "the target of case 1"),
        (Case(text="1 May 2003", donor="1" * 41), "the donor of case 1"),
    ],
)
def test_what_is_too_long_is_named_before_anything_is_measured(
    store: Store, dates: attnviz.Model, monkeypatch: pytest.MonkeyPatch, case: Case, named: str
) -> None:
    stores().models.put("dates", dates)
    asked = plan().measurement
    made = findings.summed_up(asked, [0.5], CONTROL)
    stated = findings.planned(finding(), plan(cases=(case,)))
    whole = findings.attach(stated, Evidence(measurement=asked, cases=(case,), outcome=made, model=stated.model))
    one = store.save(whole, by="Ada")
    monkeypatch.setenv("ATTNVIZ_MAX_CHARS", "40")
    settings.cache_clear()
    for name in ("measure", "measure_again"):
        monkeypatch.setattr(findings, name, _never)
    for button in ("notebook-measure", "notebook-again"):
        test = at(one)
        test.button(key=button).click().run()
        assert named in words_of(test.error)
        assert "at most 40 characters" in words_of(test.error)


def _never(*args: Any, **options: Any) -> None:
    raise AssertionError("nothing is to be measured")


def test_reference_texts_are_measured_too(store: Store, dates: attnviz.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    stores().models.put("dates", dates)
    asked = Measurement(kind="ablation", what="kl", how="mean", heads=finding().heads, references=("a" * 41,))
    cases = (Case(text="1 May 2003"),)
    one = store.save(findings.planned(finding(), plan(measurement=asked, cases=cases)), by="Ada")
    monkeypatch.setenv("ATTNVIZ_MAX_CHARS", "40")
    settings.cache_clear()
    test = at(one)
    assert "over 1 reference text" in words_of(test.markdown)
    test.button(key="notebook-measure").click().run()
    assert "reference text 1" in words_of(test.error)


def test_a_plan_on_a_text_of_the_corpus_cannot_count_and_says_so(store: Store) -> None:
    seen = Seen(page="Corpus", texts={"text": "another"}, digests=(digest_of("12 March  1987"),))
    one = store.save(findings.planned(finding(seen=seen), plan()), by="Ada")
    assert "One of the texts is one that the finding was seen on" in said(at(one))


def test_a_text_that_comes_twice_is_no_plan(store: Store) -> None:
    one = store.save(finding(), by="Ada")
    test = at(one)
    test.selectbox(key="notebook-plan-kind").set_value("detector").run()
    test.text_input(key=f"notebook-plan-heads-detector-{one.id}").set_value("decoder L0H0")
    test.text_area(key="notebook-plan-texts").set_value("May 2003\nJune 2001\nMay  2003")
    test.button(key="notebook-state").click().run()
    assert "text 3 is text 1 once more" in words_of(test.error)
    assert store.get(one.id, by="Ada").plan is None


def test_a_head_that_the_model_does_not_have_is_no_plan(store: Store, dates: attnviz.Model) -> None:
    stores().models.put("dates", dates)
    one = store.save(finding(), by="Ada")
    test = at(one)
    test.selectbox(key="notebook-plan-kind").set_value("detector").run()
    test.text_input(key=f"notebook-plan-heads-detector-{one.id}").set_value("decoder L99H99")
    test.text_area(key="notebook-plan-texts").set_value("May 2003")
    test.button(key="notebook-state").click().run()
    assert "layers 0 to 1" in words_of(test.error)
    assert store.get(one.id, by="Ada").plan is None


def test_the_form_says_why_what_was_measured_stays_behind(store: Store) -> None:
    def page() -> None:
        from attnviz.ui.notebook.keeping import keep_this
        from attnviz.ui.session import selection, show

        show(selection())
        keep_this("Explore", caption="It stays <b>here</b>.")

    test = AppTest.from_function(page).run()
    assert_fine(test)
    assert "It stays <b>here</b>." in said(test)


def elsewhere(**params: str) -> Seen:
    """A view of the finding's model that opens others."""
    return Seen(page="Explore", params={"model": "dates", **params}, texts={"text": "May 2003"})


@pytest.mark.parametrize("params", [{"model": "who/knows"}, {"other_model": "who/knows"}])
def test_a_view_that_opens_another_model_is_asked_about_first(
    store: Store, monkeypatch: pytest.MonkeyPatch, params: dict[str, str]
) -> None:
    went: list[str] = []
    monkeypatch.setattr(st, "switch_page", went.append)
    one = store.save(finding(seen=elsewhere(**params)), by="Ada")
    for key, opened_with in (("own", {"model": "dates"}), ("seen", {"model": "dates", **params})):
        test = at(one)
        went.clear()
        test.button(key="notebook-restore").click().run()
        assert_fine(test)
        assert went == []
        assert "who/knows" not in address(test).values()
        assert "is of dates, and its view opens who/knows" in words_of(test.warning)
        test.button(key=f"notebook-ask-{key}").click().run()
        assert went == ["pages/explore.py"]
        shown = address(test)
        assert {name: shown[name] for name in ("model", "other_model") if name in shown} == opened_with


def test_nothing_is_measured_before_another_model_than_the_view_s_is_agreed_to(
    store: Store, dates: attnviz.Model
) -> None:
    stores().models.put("dates", dates)
    stated = findings.planned(finding(seen=elsewhere(model="who/knows")), plan())
    one = store.save(stated, by="Ada")
    test = at(one)
    test.button(key="notebook-measure").click().run()
    assert_fine(test)
    assert "its view opens who/knows" in words_of(test.warning)
    assert store.get(one.id, by="Ada").evidence == ()
    test.button(key="notebook-sure").click().run()
    assert_fine(test)
    (kept,) = store.get(one.id, by="Ada").evidence
    assert (kept.model.name, kept.planned) == ("dates", True)


def test_what_a_model_that_is_not_read_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded(name: str) -> tuple[str, str, str]:
        monkeypatch.setattr(shelf, "model_name", lambda: name)
        record = shelf.record_here()
        return record.name, record.revision, record.fingerprint

    monkeypatch.setattr(ModelPool, "get", lambda pool, name: None)
    assert recorded("minilm") == ("all-MiniLM-L6-v2", EMBEDDED["minilm"].version, "")
    assert recorded("org/model") == ("org/model", "", "")
    assert recorded("/some/body's/gpt2") == ("gpt2", FOLDER, "")


def test_evidence_of_other_weights_says_why_it_does_not_count(store: Store) -> None:
    own = ModelRecord(name="dates", fingerprint="a" * 16)
    asked = plan(direction="above", bound=0.5)
    made = findings.summed_up(asked.measurement, [0.9, 0.91, 0.92], CONTROL)
    other = Evidence(
        measurement=asked.measurement,
        cases=asked.cases,
        outcome=made,
        model=own.model_copy(update={"fingerprint": "b" * 16}),
        at=NOW + timedelta(hours=1),
    )
    one = store.save(findings.attach(findings.planned(finding(model=own), asked), other), by="Ada")
    test = at(one)
    assert "It does not count. It was measured on another model, or on other weights" in said(test)
    assert test.button(key="notebook-status-supported").disabled
