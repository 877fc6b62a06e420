"""“Keep this” on every page that shows a head: what goes along, and that the finding opens the very view again."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from flow_page import MODELS
from streamlit.testing.v1 import AppTest

import attnviz
import pages
from attnviz import findings
from attnviz.corpus import Item
from attnviz.findings import Finding
from attnviz.findings.judging import digest_of
from attnviz.settings import settings
from attnviz.store import Store
from attnviz.ui import measuring
from attnviz.ui.gates.course import Course, Row
from attnviz.ui.gaze.draft import Gaze, Table, example
from attnviz.ui.notebook import offering_corpus, shelf, viewing
from attnviz.ui.notebook.offering_corpus import Scored, TextsOf
from attnviz.ui.selection import Selection
from attnviz.ui.session import stores, text_of
from attnviz.ui.steering.plan import Plan
from attnviz.view import Sinks
from pages import assert_fine, params, said

pytestmark = pytest.mark.usefixtures("held_models")
SHORT = "Mary gave John a"
OTHER = "Mary gave Anna a"
TEXTS = ("The cat sat on the mat, and the dog sat on the cat.", "Nobody came; nobody called.", "Rain fell, and fell.")


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store and a shelf of the module's own, and everybody in it is Ada."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNVIZ_DATA_DIR", str(tmp_path_factory.mktemp("kept")))
        patch.setattr(shelf, "person", lambda: "Ada")
        for one in (settings.cache_clear, shelf.store.clear, measuring.shelf.clear):
            one()
        yield shelf.store()
    for one in (settings.cache_clear, shelf.store.clear, measuring.shelf.clear):
        one()


def opened(page: str, **parameters: str) -> AppTest:
    name = parameters.setdefault("model", "smollm2")
    stores().models.put(name, MODELS[name])
    test = pages.opened(page, **parameters)
    assert_fine(test)
    return test


def kept(test: AppTest, name: str, store: Store) -> Finding:
    """The finding that a press on this button makes."""
    before = {one.id for one in store.find(by="Ada")}
    test.text_area(key=f"keep-{name}-claim").set_value("something holds")
    test.button(key=f"FormSubmitter:keep-{name}-form-Keep it").click().run()
    assert_fine(test)
    (made,) = [one for one in store.find(by="Ada") if one.id not in before]
    return made


def restored(finding: Finding) -> dict[str, str]:
    """The address that a session with nothing in it comes to, on a server that knows none of the texts."""

    def page() -> None:
        import streamlit as st

        from attnviz.ui.notebook.restoring import restore
        from attnviz.ui.notebook.shelf import store
        from attnviz.ui.session import selection, show

        show(selection())
        if "restored" not in st.session_state:
            st.session_state["restored"] = True
            restore(store().get(st.session_state["of"], by="Ada"))
            show(selection())

    test = AppTest.from_function(page)
    test.session_state["of"] = finding.id
    test.run()
    assert_fine(test)
    return params(test) | {key: str(test.session_state[key]) for key in HELD if key in test.session_state}


HELD = (viewing.LINES_ONE, viewing.BERTVIZ_KIND)


def same_view(finding: Finding, test: AppTest) -> None:
    """Restoring the finding comes to the address of the page that it was kept on, its texts under keys of their own."""
    before, after = params(test), restored(finding)
    assert finding.seen.params.get("model") == before.get("model", settings().default_model)
    chosen, _ = Selection.from_params(before)
    again, problems = Selection.from_params({name: value for name, value in after.items() if name not in HELD})
    assert problems == []
    for name in vars(chosen):
        one, other = getattr(chosen, name), getattr(again, name)
        if name in ("text", "other", "second", "filling"):
            assert text_of(one) == text_of(other), name
        elif name not in ("gaze", "course", "plan", "corpus", "model"):
            assert one == other, name


@pytest.mark.parametrize(
    ("parameters", "methods"),
    [
        ({"key": "0"}, ["alti"]),
        ({"key": "1", "aspect": "methods", "goal": "2"}, ["position", "rollout", "relevance"]),
        ({"key": "0", "method": "rollout", "answer": "253"}, ["rollout"]),
        ({"model": "dates", "with_text": "3 May 1998", "key": "2", "goal": "1", "method": "rollout"}, ["rollout"]),
        ({"model": "minilm", "with_other": OTHER, "key": "2", "method": "alti"}, ["alti"]),
    ],
    ids=str,
)
def test_what_flows_is_kept_and_measured_again(parameters: dict[str, str], methods: list[str], store: Store) -> None:
    test = opened("flow", **{"with_text": SHORT} | parameters)
    made = kept(test, "flow", store)
    names = [one.measurement.what for one in made.evidence]
    assert set(methods) <= set(names)
    assert made.figure
    assert "attnviz.flow" in made.seen.lines
    if "goal" in parameters and parameters.get("model") == "dates":
        assert len(made.evidence[0].cases[0].target) == 1  # cut off where the goal is
    for one in made.evidence:
        if one.measurement.what not in methods:
            continue
        again = findings.measure(MODELS[parameters.get("model", "smollm2")], one.measurement, one.cases)
        np.testing.assert_allclose(again.values, one.outcome.values, atol=1e-5)
        np.testing.assert_allclose(again.control, one.outcome.control, atol=1e-5)
        assert 0 < one.outcome.mean < 1
    same_view(made, test)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"level": "3"}, "the state of one token"),
        ({"sinks": "renormalise", "method": "rollout"}, "sinks are taken out"),
        ({"aspect": "writes"}, "no share of a word"),
        ({"with_text": "a dog and a dog ran", "key": "4"}, "stands in the text before"),
        ({"model": "minilm"}, "second text"),
        ({"model": "minilm", "with_other": OTHER, "key": "0"}, "belongs to no word"),
        ({"model": "dates", "with_text": "3 May 1998", "site": "decoder", "goal": "1"}, "decoder wrote"),
        ({"model": "dates", "with_text": "3 May 1998", "site": "cross"}, "no words yet"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_again_is_no_evidence_and_says_so(
    parameters: dict[str, str], reason: str, store: Store
) -> None:
    test = opened("flow", **{"with_text": SHORT} | parameters)
    assert reason in said(test)
    assert kept(test, "flow", store).evidence == ()


def test_pages_of_one_text_keep_head_picture_and_lines(store: Store) -> None:
    for page, name, parameters in (
        ("lines", "lines", {"heads": "L3H1.L4H2", "share": "0.5"}),
        ("generation", "generation", {"length": "2"}),
        ("compare", "compare", {"with_second": OTHER}),
    ):
        test = opened(page, **{"with_text": SHORT, "layer": "3", "head": "1"} | parameters)
        made = kept(test, name, store)
        assert [str(head) for head in made.heads] == (["L3H1", "L4H2"] if page == "lines" else ["L3H1"])
        assert json.loads(made.figure)["data"]
        assert made.seen.lines.startswith("import attnviz")
        same_view(made, test)
        if page == "compare":
            assert {digest_of(SHORT), digest_of(OTHER)} <= set(made.seen.digests)
        if page == "generation":
            assert any(text.startswith(SHORT) and len(text) > len(SHORT) for text in made.seen.texts.values())


def test_bertviz_opens_as_it_was_drawn(store: Store) -> None:
    test = opened("bertviz_views", with_text=SHORT, layer="3", head="1")
    test.button_group(key="bertviz-kind").set_value("neuron").run()
    test.button(key="bertviz-make").click().run()
    made = kept(test, "bertviz", store)
    assert ([str(head) for head in made.heads], made.figure) == (["L3H1"], "")
    assert "neuron_view" in made.seen.lines
    assert restored(made)[viewing.BERTVIZ_KIND] == "neuron"
    test.button_group(key="bertviz-kind").set_value("products").run()
    made = kept(test, "bertviz", store)
    assert made.figure
    assert restored(made)[viewing.BERTVIZ_KIND] == "products"
    same_view(made, test)


def test_heads_and_corpus_keep_the_scores_of_every_text(store: Store, minilm: attnviz.Model) -> None:
    key = measuring.shelf().add([Item(text) for text in TEXTS], "Three texts")
    for page, name in (("heads", "heads"), ("corpus", "corpus")):
        test = opened(page, model="minilm", corpus=key, layer="2", head="3", detector="duplicate")
        assert "elsewhere add them again" in said(test)
        made = kept(test, name, store)
        assert set(map(digest_of, TEXTS)) <= set(made.seen.digests)
        assert key not in made.model_dump_json()
        (evidence,) = made.evidence
        assert {case.text for case in evidence.cases} == set(TEXTS)
        again = findings.measure(minilm, evidence.measurement, evidence.cases)
        assert again.values.count(None) == evidence.outcome.values.count(None)
        np.testing.assert_allclose(again.mean, evidence.outcome.mean, atol=1e-5)
        np.testing.assert_allclose(again.control, evidence.outcome.control, atol=1e-5)
        same_view(made, test)


def test_other_sinks_and_more_texts_than_a_finding_holds(
    minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering_corpus, "MOST_CASES", 2)
    key = measuring.shelf().add([Item(text) for text in TEXTS], "The same")
    ran = attnviz.corpus.run(minilm, measuring.shelf(), key)
    known, head = measuring.shelf().about(key), attnviz.Head(0, 0)
    (evidence,) = offering_corpus.detected(Scored(minilm, head, "previous", 1, known, ran.run, Sinks()))
    assert [case.text for case in evidence.cases] == [TEXTS[0], TEXTS[2]]
    assert Scored(minilm, head, "previous", 1, known, ran.run, Sinks(kinds=("special",))).otherwise
    assert not Scored(minilm, head, "previous", 0, known, ran.run, Sinks(kinds=("special",))).otherwise
    assert (len(TextsOf((known,))), list(TextsOf((known,)))) == (3, list(TEXTS))


def test_reading_times_go_along_as_texts_and_not_as_keys(store: Store) -> None:
    columns = attnviz.human.Columns(("sentence",), "word", "reading_time_ms", reader="reader", word_id="word_id")
    key = stores().texts.put(example() + "\n")
    draft = Gaze(tables=(Table(name="mine.csv", key=key, columns=columns),), at=2, beside="head")
    test = opened("gaze", model="minilm", gaze=stores().texts.put(draft.model_dump_json()))
    assert "whoever you share this with sees them" in said(test)
    made = kept(test, "gaze-sentence", store)
    assert key not in made.model_dump_json()
    again = Gaze.model_validate_json(text_of(restored(made)["gaze"]))
    assert again.tables[0].text == example() + "\n"
    assert again.model_copy(update={"tables": draft.tables}) == draft


def test_steering_keeps_its_words_under_the_text_that_they_are_of(store: Store) -> None:
    text = stores().texts.put(SHORT)
    plan = Plan(kind="beta", text=text, half=(1,), beta=3.0).model_dump_json()
    test = opened("steering", text=text, emphasised="2", plan=stores().texts.put(plan), layer="3", head="1")
    made = kept(test, "steering", store)
    assert text not in made.model_dump_json()
    assert made.figure
    same_view(made, test)
    found = restored(made)
    again = Plan.model_validate_json(text_of(found["plan"]))
    assert (again.text, again.half, again.beta) == (found["text"], (1,), 3.0)


def test_gates_keep_their_examples(store: Store) -> None:
    rows = tuple(Row(text=text, answer=answer) for text, answer in (("3 May 1998", "1998-05-02"), ("1.2.03", "2003")))
    draft = Course(rows=rows, steps=1, lr=0.2, weight=0.0)
    test = opened("gates", model="dates", course=stores().texts.put(draft.model_dump_json()))
    test.button(key="gates-learn").click().run()
    wait: Callable[[], Any] = test.run
    for _ in range(200):
        if any(area.key == "keep-gates-claim" for area in test.text_area):
            break
        wait()
    made = kept(test, "gates", store)
    assert {digest_of(row.text) for row in rows} <= set(made.seen.digests)
    assert Course.model_validate_json(text_of(restored(made)["course"])) == draft
    same_view(made, test)


def test_a_view_that_somebody_made_up_is_not_believed() -> None:
    seen = findings.Seen(page="Gaze", texts={"gaze": '{"tables": 3}', "table 1": "x"}, params={"drawn_as": "x"})
    assert viewing.unpacked(seen, {"gaze": "k", "text": "t"}) == {}
    assert viewing.unpacked(seen.model_copy(update={"page": "Steering", "texts": {"plan": "["}}), {"plan": "k"}) == {}
    viewing.hold(seen.model_copy(update={"page": "BertViz"}))


@pytest.mark.parametrize(("claim", "said_of"), [("  ", "it is empty"), ("x" * 3_000, "this one has 3,000 characters")])
def test_a_claim_that_cannot_be_kept_stays_in_its_field(store: Store, claim: str, said_of: str) -> None:
    test = opened("explore", with_text=SHORT)
    before = store.find(by="Ada")
    test.text_area(key="keep-explore-claim").set_value(claim)
    test.button(key="FormSubmitter:keep-explore-form-Keep it").click().run()
    assert said_of in test.error[0].value.replace("\\", "")
    assert test.text_area(key="keep-explore-claim").value == claim
    assert store.find(by="Ada") == before
