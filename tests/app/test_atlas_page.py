"""The head atlas in Streamlit's test harness: what findings say of each head, and the detectors beside it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import streamlit as st

import attnviz
from attnviz import corpus
from attnviz.corpus import Item, Shelf
from attnviz.errors import ShapeError
from attnviz.figures.atlas import atlas_frame, atlas_map, confidences, counts, known_of
from attnviz.findings import EdgeAt, Finding, HeadAt, ModelRecord
from attnviz.store import Store
from attnviz.ui.notebook import shelf as findings_shelf
from attnviz.ui.session import stores
from pages import HOSTILE, assert_fine, opened, params, said, words_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TEXTS = ("The cat sat on the mat, and the dog sat on the cat.", "Nobody came; nobody called.", "Rain fell.")


@pytest.fixture
def store(shelf: Shelf, minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store in the module's own folder, emptied; everybody is Ada."""
    monkeypatch.setattr(findings_shelf, "person", lambda: "Ada")
    findings_shelf.store.clear()
    stores().models.put("minilm", minilm)
    kept = findings_shelf.store()
    yield kept
    for one in kept.briefs(by="Ada"):
        kept.delete(one.id, by="Ada")
    findings_shelf.store.clear()


def finding(claim: str, *heads: HeadAt, **parts: Any) -> Finding:
    model = ModelRecord(name=parts.pop("model", attnviz.embedded.EMBEDDED["minilm"].title))
    return Finding(claim=claim, heads=heads, model=model, created=NOW, changed=NOW, **parts)


def test_the_atlas_shows_what_is_known_of_a_head(
    store: Store, shelf: Shelf, minilm: attnviz.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []
    monkeypatch.setattr(st, "switch_page", went.append)
    key = shelf.add([Item(text) for text in TEXTS], "Three texts")
    where = {"model": "minilm", "corpus": key, "layer": "2", "head": "3"}
    test = opened("atlas", **where)
    assert_fine(test)
    assert "Nobody kept a finding of this head yet" in said(test)
    assert "No finding of this model is here at all" in said(test)
    one = store.save(finding(HOSTILE, HeadAt(layer=2, head=3), labels=(HOSTILE[:20],), confidence=0.7), by="Ada")
    store.save(finding("of another model", HeadAt(layer=2, head=3), model="other"), by="Ada")
    store.save(finding("of another head", HeadAt(layer=0, head=0)), by="Ada")
    store.label(one.id, ["sink"], by="Ada")
    monkeypatch.setattr(Store, "find", lambda *args, **keywords: pytest.fail("whole findings were read"))
    test = opened("atlas", **where)
    assert_fine(test)
    told = words_of(test.markdown)
    assert HOSTILE in told
    assert "of another" not in told
    assert "Ada: sink" in said(test)
    assert "2 of this model" in said(test)
    assert not test.dataframe
    assert test.segmented_control(key="atlas-shown").options == ["Number of findings", "Confidence"]
    (lines,) = [block.value for block in test.code if "atlas_map" in block.value]
    assert 'by="your name"' in lines
    assert "Ada" not in lines
    test.button(key="atlas-measure").click().run()
    assert_fine(test)
    assert "previous" in test.dataframe[0].value["detector"].str.lower().str.cat()
    assert corpus.run_key(minilm, sinks=attnviz.Sinks(kinds=("first",))) in {r.run for r in shelf.runs(key)}
    test.segmented_control(key="atlas-shown").set_value("confidence").run()
    assert_fine(test)
    assert "largest confidence" in said(test)
    test.segmented_control(key="atlas-shown").set_value("detector").run()
    assert_fine(test)
    test.selectbox(key="atlas-detector").set_value("sink").run()
    assert_fine(test)
    assert "Sink: attention to the first token" in said(test)
    assert params(test)["detector"] == "sink"
    assert HOSTILE in words_of(test.markdown)
    test.button(key=f"atlas-open-{one.id}").click().run()
    assert went == ["pages/notebook.py"]
    assert test.session_state["attnviz_selection"].finding == one.id
    test.button(key="atlas-explore").click().run()
    assert went[-1] == "pages/explore.py"
    assert (params(test)["layer"], params(test)["head"]) == ("2", "3")


def test_heads_are_counted_once_a_finding_at_their_site() -> None:
    here, there = HeadAt(layer=0, head=1, site="cross"), HeadAt(layer=0, head=1, site="decoder")
    anywhere, far = HeadAt(layer=1, head=0), HeadAt(layer=9, head=9)
    edge = EdgeAt(query=3, key=1, head=here)
    several = [
        finding("a", here, edges=(edge,), labels=("x", "y"), confidence=0.4),
        finding("b", anywhere, far, labels=("y",), confidence=0.9),
        finding("c", there),
        finding("d", edges=(edge, edge), labels=("y",), confidence=0.6),
    ]
    known = known_of(several, site="cross")
    assert {pair: [one.claim for one in what.findings] for pair, what in known.items()} == {
        (0, 1): ["a", "d"],
        (1, 0): ["b"],
        (9, 9): ["b"],
    }
    assert known[0, 1].labels == ("y", "x")
    np.testing.assert_array_equal(counts(known, (2, 2)), [[0, 2], [1, 0]])
    np.testing.assert_allclose(confidences(known, (2, 2)), [[0, 0.6], [0.9, 0]])
    table = atlas_frame(known)
    assert table["findings"].tolist() == [2, 1, 1]
    assert atlas_frame({}).empty
    figure = atlas_map(counts(known, (2, 2)), told={(0, 1): (HOSTILE,)}, title=HOSTILE)
    assert "<img" not in figure.to_json()
    with pytest.raises(ShapeError):
        atlas_map([1, 2])
