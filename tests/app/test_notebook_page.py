"""The Notebook page in Streamlit's test harness: keep, find, change, plan, measure, label, carry and restore."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz.errors import InputError
from attnviz.figures.evidence import evidence_dots
from attnviz.findings import Case, Evidence, Finding, HeadAt, Measurement, ModelRecord, Plan, Seen, planned, summed_up
from attnviz.settings import settings
from attnviz.store import Store
from attnviz.ui.notebook import shelf
from attnviz.ui.notebook.pictures import figure_of
from attnviz.ui.notebook.typed import cases_of_file, cases_of_lines, heads_of
from attnviz.ui.session import stores, text_of
from pages import HOSTILE, assert_fine, opened, params, press, said, words_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEXT = "The cat sat on the mat."
DATES = ("the 3rd of May 1998", "June 1, 2001", "12 March 1987")


@pytest.fixture(autouse=True)
def store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of the test's own, and everybody in it is Ada."""
    monkeypatch.setenv("ATTNVIZ_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    shelf.store.clear()
    monkeypatch.setattr(shelf, "person", lambda: "Ada")
    yield shelf.store()
    monkeypatch.undo()
    settings.cache_clear()
    shelf.store.clear()


@pytest.fixture(scope="module")
def dates() -> attnviz.Model:
    return attnviz.load_model("dates")


def finding(claim: str = "L1H1 looks at the month", **parts: Any) -> Finding:
    start: dict[str, Any] = {
        "heads": (HeadAt(layer=1, head=1, site="cross"),),
        "labels": ("copying",),
        "model": ModelRecord(name=attnviz.embedded.EMBEDDED["dates"].title),
        "seen": Seen(page="Explore", params={"model": "dates", "layer": "1", "head": "1"}, texts={"text": TEXT}),
        "created": NOW,
        "changed": NOW,
    }
    return Finding(claim=claim, **start | parts)


def plan(**parts: Any) -> Plan:
    measured = Measurement(kind="detector", what="previous", heads=(HeadAt(layer=0, head=0, site="decoder"),))
    start: dict[str, Any] = {"measurement": measured, "cases": tuple(Case(text=text) for text in DATES), "stated": NOW}
    return Plan(**start | parts)


def at(one: Finding) -> AppTest:
    """The Notebook with a finding open."""
    test = opened("notebook")
    assert_fine(test)
    test.button(key=f"notebook-open-{one.id}").click().run()
    assert_fine(test)
    return test


def view() -> None:
    import plotly.graph_objects as go
    import streamlit as st

    from attnviz.edits import Head
    from attnviz.ui.notebook.keeping import keep_this
    from attnviz.ui.session import selection, show

    show(selection())
    if not st.session_state.get("too large"):
        keep_this("Explore", heads=[Head(1, 1)], figure=lambda: go.Figure(go.Bar(y=[1, 2])), lines="x = 1")


def test_a_view_becomes_a_finding_that_opens_it_again(store: Store) -> None:
    test = AppTest.from_function(view)
    test.query_params["model"] = "dates"
    test.query_params["text"] = stores().texts.put(TEXT)
    test.query_params["layer"] = "1"
    test.run()
    press(test, "Keep it")
    assert "claim" in words_of(test.error)
    test.text_area(key="keep-explore-claim").set_value(HOSTILE)
    test.multiselect(key="keep-explore-labels").set_value(["copying"])
    test.slider(key="keep-explore-confidence").set_value(80)
    press(test, "Keep it")
    assert_fine(test)
    (kept,) = store.find(by="Ada")
    assert (kept.claim, kept.labels, kept.confidence, kept.status) == (HOSTILE, ("copying",), 0.8, "hypothesis")
    assert kept.heads == (HeadAt(layer=1, head=1),)
    assert kept.seen == Seen(
        page="Explore", params={"model": "dates", "layer": "1"}, texts={"text": TEXT}, lines="x = 1"
    )
    assert json.loads(kept.figure)["data"][0]["type"] == "bar"
    assert (kept.author, kept.shared, kept.version) == ("Ada", False, 1)
    assert test.text_area(key="keep-explore-claim").value == ""


def test_restoring_puts_text_and_settings_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []
    monkeypatch.setattr(st, "switch_page", went.append)
    one = store.save(finding(), by="Ada")
    test = at(one)
    test.button(key="notebook-restore").click().run()
    assert_fine(test)
    assert went == ["pages/explore.py"]
    shown = params(test)
    assert {name: shown[name] for name in ("model", "layer", "head")} == one.seen.params
    assert text_of(shown["text"]) == TEXT
    test.button(key="notebook-head-0").click().run()
    assert went == ["pages/explore.py"] * 2
    assert params(test)["site"] == "cross"


def test_findings_are_searched_and_hostile_ones_are_words(store: Store) -> None:
    test = opened("notebook")
    assert_fine(test)
    assert "Nothing is kept yet" in words_of(test.info)
    for claim in (HOSTILE, "second", "third"):
        store.save(finding(claim, labels=(HOSTILE[:20],), author="Ada"), by="Ada")
    theirs = store.save(finding("a fourth, of Bo", status="hypothesis", shared=True, heads=()), by="Bo")
    store.save(finding("Bo's own"), by="Bo")
    test = opened("notebook")
    assert_fine(test)
    claims = words_of(test.markdown)
    assert HOSTILE in claims
    assert "a fourth" in claims
    assert "Bo's own" not in claims
    test.segmented_control(key="notebook-whose").set_value("Of others").run()
    assert_fine(test)
    assert [button.key for button in test.button if "notebook-open" in str(button.key)] == [
        f"notebook-open-{theirs.id}"
    ]
    test.segmented_control(key="notebook-whose").set_value("All").run()
    test.text_input(key="notebook-head").set_value("cross L1H1").run()
    assert_fine(test)
    assert "a fourth" not in words_of(test.markdown)
    test.text_input(key="notebook-head").set_value("the third").run()
    assert "Heads are written" in words_of(test.error)


def test_what_is_typed_survives_a_change_in_another_window(store: Store) -> None:
    one = store.save(finding(shared=True), by="Ada")
    test = at(one)
    test.text_area(key="notebook-edit-claim").set_value("what Ada typed")
    store.save(one.model_copy(update={"claim": "what Ada typed elsewhere", "note": "and a note"}), by="Ada")
    press(test, "Save")
    assert_fine(test)
    assert "You changed this finding meanwhile" in words_of(test.warning)
    assert test.text_area(key="notebook-edit-claim").value == "what Ada typed"
    table = next(frame.value for frame in test.dataframe if "kept meanwhile" in frame.value)
    assert set(table["kept meanwhile"]) == {"what Ada typed elsewhere", "and a note"}
    assert store.get(one.id, by="Ada").claim == "what Ada typed elsewhere"
    test.button(key="notebook-keep-mine").click().run()
    assert_fine(test)
    kept = store.get(one.id, by="Ada")
    assert (kept.claim, kept.note) == ("what Ada typed", "and a note")
    assert test.text_area(key="notebook-edit-note").value == "and a note"


def test_a_plan_is_stated_measured_and_decides_the_status(store: Store, dates: attnviz.Model) -> None:
    stores().models.put("dates", dates)
    one = store.save(finding(), by="Ada")
    test = at(one)
    assert test.button(key="notebook-status-supported").disabled
    assert test.button(key="notebook-measure").disabled
    test.selectbox(key="notebook-plan-kind").set_value("attention").run()
    test.text_area(key="notebook-plan-texts").set_value("\n".join(DATES[:1]))
    test.text_input(key="notebook-plan-key").set_value("nowhere")
    test.text_input(key="notebook-plan-refuted").set_value("no more than other heads")
    test.button(key="notebook-state").click().run()
    assert_fine(test)
    stated = store.get(one.id, by="Ada").plan
    assert stated is not None
    assert (stated.measurement.kind, stated.cases) == (
        "attention",
        (Case(text=DATES[0], key="nowhere"),),
    )
    test.button(key="notebook-measure").click().run()
    assert "nowhere" in words_of(test.error)
    assert store.get(one.id, by="Ada").evidence == ()
    test.selectbox(key="notebook-plan-kind").set_value("detector").run()
    test.selectbox(key="notebook-plan-what-detector").set_value("previous")
    test.text_input(key=f"notebook-plan-heads-detector-{one.id}").set_value("decoder L0H0")
    test.text_area(key="notebook-plan-texts").set_value("\n".join(DATES))
    test.selectbox(key="notebook-plan-direction").set_value("below")
    test.number_input(key="notebook-plan-bound").set_value(0.99)
    test.button(key="notebook-state").click().run()
    assert_fine(test)
    test.button(key="notebook-measure").click().run()
    assert_fine(test)
    kept = store.get(one.id, by="Ada")
    (evidence,) = kept.evidence
    assert evidence.planned
    assert evidence.by == "Ada"
    assert len(evidence.outcome.values) == 3
    verdict = evidence.outcome.verdict
    assert test.button(key="notebook-status-supported").disabled == (verdict != "holds")
    assert test.button(key="notebook-status-refuted").disabled == (verdict != "fails")
    test.button(key="notebook-again").click().run()
    assert_fine(test)
    table = next(frame.value for frame in test.dataframe if "then" in frame.value)
    assert table["holds"].tolist() == ["yes"]
    assert table["then"].tolist() == table["now"].tolist()


def test_a_status_comes_with_its_evidence_and_goes_with_another_plan(store: Store) -> None:
    first = planned(finding(), plan(direction="above", bound=0.5))
    asked = first.plan
    assert asked is not None
    control = tuple(0.01 * i for i in range(20))
    outcome = summed_up(asked.measurement, [0.9, 0.91, 0.92], np.array(control), controls=HOSTILE, unit="share")
    evidence = Evidence(
        measurement=asked.measurement, cases=asked.cases, outcome=outcome, model=first.model, at=datetime.now(UTC)
    )
    one = store.save(attnviz.findings.attach(first, evidence), by="Ada")
    test = at(one)
    assert "As planned: As expected" in said(test)
    test.button(key="notebook-status-supported").click().run()
    assert_fine(test)
    assert store.get(one.id, by="Ada").status == "supported"
    test.text_area(key="notebook-plan-texts").set_value("another text")
    test.selectbox(key="notebook-plan-kind").set_value("detector").run()
    test.button(key="notebook-state").click().run()
    assert_fine(test)
    assert store.get(one.id, by="Ada").status == "hypothesis"
    figure = evidence_dots(evidence, bound=0.5)
    assert {trace.name for trace in figure.data} >= {"controls", "single texts", "mean, 95% interval"}
    assert HOSTILE not in figure.to_json()


def test_people_label_share_and_remove(store: Store) -> None:
    one = store.save(finding(), by="Ada")
    test = at(one)
    test.button(key="notebook-share").click().run()
    assert store.get(one.id, by="Bo").shared
    test.multiselect(key="notebook-own-labels").set_value(["induction"])
    press(test, "Keep my labels")
    assert_fine(test)
    store.label(one.id, ["induction"], by="Bo")
    assert [given.by for given in store.labels_of(one.id, by="Ada")] == ["Ada", "Bo"]
    test.button(key="notebook-back").click().run()
    test.toggle(key="notebook-agree").set_value(True).run()
    assert "2 people, 1 finding" in said(test)
    test.button(key=f"notebook-open-{one.id}").click().run()
    press(test, "Take them back")
    assert [given.by for given in store.labels_of(one.id, by="Ada")] == ["Bo"]
    test.button(key="notebook-delete").click().run()
    assert_fine(test)
    assert store.find(by="Ada") == []
    theirs = store.save(finding(shared=True), by="Bo")
    test = at(theirs)
    assert not [button for button in test.button if button.key in ("notebook-share", "notebook-delete")]


def test_a_file_is_taken_in_and_told_what_became_of_it(store: Store) -> None:
    one = store.save(finding(shared=True), by="Ada")
    lines = store.export_findings(by="Ada")
    store.save(one.model_copy(update={"claim": "changed here"}), by="Ada")
    fresh = finding("fresh", author="Bo")
    data = lines + fresh.model_dump_json() + "\n"
    test = opened("notebook")
    test.file_uploader[0].set_value(("all.jsonl", data.encode(), "application/jsonl")).run()
    test.button(key="notebook-import").click().run()
    assert_fine(test)
    table = next(frame.value for frame in test.dataframe if "result" in frame.value)
    assert dict(zip(table["claim"], table["result"], strict=True)) == {
        "fresh": "imported",
        one.claim: "conflict",
    }
    assert store.get(fresh.id, by="Ada").author == "Bo"


def test_texts_of_a_plan_are_read_from_lines_json_and_tables() -> None:
    assert cases_of_lines("a b\n\nc d\r\n", {"key": "b", "answer": ""}) == (
        Case(text="a b", key="b"),
        Case(text="c d", key="b"),
    )
    assert cases_of_lines('{"text": "a", "donor": "d"}\n', {}) == (Case(text="a", donor="d"),)
    assert cases_of_file(b"text,answer,marks\na b, Mary,0 1\n", "t.csv") == (
        Case(text="a b", answer=" Mary", marks=(0.0, 1.0)),
    )
    for data, name in ((b"text\n", "t.csv"), (b"{", "t.jsonl"), (b"[1]", "t.jsonl"), (b"text,marks\na,x\n", "t.csv")):
        with pytest.raises(InputError, match=r"t\.|1 to"):
            cases_of_file(data, name)
    assert heads_of("L1H2, cross L0H3; L1H2") == (HeadAt(layer=1, head=2), HeadAt(layer=0, head=3, site="cross"))


def test_a_picture_from_a_file_may_ask_nobody() -> None:
    for link in ('<a href="//x.test">a</a>', '<<a>a href="//x.test">a</<a>a>', '< A\nhref="//x.test">a'):
        figure = go.Figure(go.Heatmap(z=[[1.0, 2.0]]), layout={"title": {"text": link}})
        figure.add_layout_image(source="https://y.test/pixel.png")
        found = figure_of(str(figure.to_json()))
        assert found is not None
        assert "y.test" not in found.to_json()
        assert not re.search(r"<[\s/<]*a\b", found.layout.title.text, re.IGNORECASE)
    for made in (
        "",
        "[]",
        '{"data": [{"type": "scattergeo"}], "layout": {}}',
        '{"data": 1, "layout": {}}',
        "[" * 99_999,
    ):
        assert figure_of(made) is None
