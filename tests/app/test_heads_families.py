"""The Heads page's families: which heads do alike on six short texts; and its lines of Python, run as people do."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from heads_page import KEYS, MODELS, TEXTS, opened, own_shelf, summary_of

import attnviz
from attnviz import flow, heads
from attnviz.figures import heads as figures
from attnviz.figures.heads import name_of
from attnviz.heads import DETECTORS
from attnviz.ui import measuring
from attnviz.ui.heads import comparing
from attnviz.ui.session import stores
from attnviz.view import Sinks
from pages import ROOT, assert_fine, said


@pytest.fixture(scope="module", autouse=True)
def _shelf(tmp_path_factory: pytest.TempPathFactory, minilm: attnviz.Model) -> Iterator[None]:
    yield from own_shelf(tmp_path_factory, minilm)


@pytest.mark.parametrize("likeness", ["attends", "writes"])
@pytest.mark.parametrize("name", ["minilm", "dates"])
def test_families_have_a_matrix_places_and_candidates(name: str, likeness: str) -> None:
    test = opened(model=name, facet="families", likeness=likeness)
    assert_fine(test)
    words = said(test)
    assert ("Jensen-Shannon" if likeness == "attends" else "Cosine of what two heads add") in words
    assert re.search(r"holds \d+% of the variance", words)
    assert "A candidate is not a finding" in words
    table = test.dataframe[0].value
    assert table["nats"].is_monotonic_increasing
    assert np.isfinite(table["cosine of what they write"]).all()
    assert (table["candidate"] == (table["cosine of what they write"] > 0)).all()
    joined = [frozenset(pair) for pair in zip(table["head"], table["attends most like"], strict=True)]
    assert len(set(joined)) == len(joined)
    assert len(test.get("plotly_chart")) == 2


def test_the_nearest_pair_is_that_of_the_library() -> None:
    test = opened(facet="families", sink_in="1")
    traces = [MODELS["minilm"].trace(text) for text in TEXTS]
    first = heads.redundant(heads.pattern_distance(traces)).iloc[0]
    row = test.dataframe[0].value.iloc[0]
    pair = {
        name_of((int(first["layer"]), int(first["head"]))),
        name_of((int(first["near_layer"]), int(first["near_head"]))),
    }
    assert {row["head"], row["attends most like"]} == pair
    assert row["nats"] == pytest.approx(first["nats"], rel=1e-4)


def test_one_layer_has_its_own_heads_only() -> None:
    test = opened(facet="families", layer="4", head="1")
    test.segmented_control(key="heads-scope").set_value(False).run()
    assert_fine(test)
    assert set(test.dataframe[0].value["head"].str[:2]) == {"L4"}


def test_a_model_too_large_for_one_picture_is_compared_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    stores().traces.clear()
    monkeypatch.setattr(figures, "MOST_HEADS", 20)
    layers: list[object] = []
    for name in ("pattern_distance", "output_similarity"):
        compare = getattr(heads, name)
        monkeypatch.setattr(
            heads, name, lambda *of, compare=compare, **how: layers.append(how["layer"]) or compare(*of, **how)
        )
    test = opened(facet="families", layer="4", head="1")
    assert_fine(test)
    assert set(test.dataframe[0].value["head"].str[:2]) == {"L4"}
    assert layers == [4, 4], "nothing is compared that is not shown"
    test.segmented_control(key="heads-scope").set_value(True).run()
    assert "Choose one layer" in test.error[0].value.replace("\\", "")
    stores().traces.clear()


def test_only_texts_that_were_compared_are_in_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stores().traces.clear()
    monkeypatch.setattr(comparing, "settings", lambda: SimpleNamespace(corpus_tokens=10))
    test = opened(facet="families")
    assert_fine(test)
    short = [text for text in TEXTS if len(MODELS["minilm"].encode(text).ids) <= 10]
    assert 0 < len(short) < len(TEXTS)
    assert f"of {len(short)} texts, evenly chosen of 6" in said(test)
    for element in test.code:
        if element.language == "python":
            assert [text for text in TEXTS if text in element.value] == short
    stores().traces.clear()


def test_what_cannot_be_taken_apart_is_said_and_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stores().traces.clear()

    def refused(*args: object, **options: object) -> object:
        raise attnviz.errors.Unsupported("This model has gates.")

    monkeypatch.setattr(attnviz.flow, "take_apart", refused)
    test = opened(facet="families")
    assert_fine(test)
    assert "What they write is not known here, so none is a candidate for pruning: This model has gates." in said(test)
    assert list(test.dataframe[0].value.columns) == ["head", "attends most like", "nats"]
    test = opened(facet="families", likeness="writes")
    assert [error.value for error in test.error] == ["This model has gates\\."]
    stores().traces.clear()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"detector": "entropy", "sink_in": "1", "palette": "viridis"},
        {"detector": "position", "kinds": "special"},
        {"facet": "families"},
        {"facet": "families", "likeness": "writes", "model": "dates", "site": "decoder"},
        {"model": "dates", "site": "encoder", "detector": "distance"},
    ],
    ids=str,
)
def test_the_lines_make_the_figures(
    parameters: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    test = opened(**parameters)
    assert_fine(test)
    shown: list[go.Figure] = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: shown.append(figure))
    monkeypatch.setattr(attnviz, "load_model", MODELS.__getitem__)
    shelf = measuring.shelf()
    monkeypatch.setattr(attnviz.corpus, "Shelf", lambda: shelf)
    monkeypatch.chdir(tmp_path)
    pairs = parameters.get("model") == "dates"
    name = "dates" if pairs else "minilm"
    items = [item for _, item in shelf.texts(KEYS[name])]
    monkeypatch.setattr(attnviz.corpus, "read", lambda *args, **options: items)
    lines = [element.value for element in test.code if element.language == "python"]
    assert len(lines) == (2 if "facet" in parameters else 1)
    for code in lines:
        assert max(map(len, code.splitlines())) <= 100
        exec(compile(code, "copied.py", "exec"), {})
    drawn = [figure.data[-1] for figure in shown]
    if "facet" in parameters:
        names = [f"L{layer}H{head}" for layer, head in drawn[1].customdata]
        assert len(names) == len(drawn[0].z) == len(set(names))
        model, site = MODELS[name], parameters.get("site")
        if "likeness" in parameters:
            runs = (flow.take_apart(model, item.text, item.pair) for item in items)
            pairs = heads.output_similarity(runs, site=site)
        else:
            view = attnviz.View(sinks=Sinks("renormalise"))
            pairs = heads.pattern_distance([model.trace(item.text) for item in items], view=view)
        order = [[name_of(head) for head in pairs.heads].index(one) for one in shown[0].layout.xaxis2.ticktext]
        np.testing.assert_allclose(drawn[0].z, pairs.values[np.ix_(order, order)], atol=1e-5)
        assert names == [name_of(head) for head in pairs.heads]
        points = np.stack([drawn[1].x, drawn[1].y], -1)
        measure = "cosine" if "likeness" in parameters else "nats"
        np.testing.assert_allclose(
            np.abs(points), np.abs(heads.places(figures.straight(pairs, measure)).points), atol=1e-3
        )
        return
    values = np.array(drawn[0].z, np.float32)
    if parameters.get("detector") == "position":
        wanted = heads.induction(MODELS[name], sinks=Sinks(kinds=("special",))).scores["position"].mean(0)[1]
    else:
        at = list(DETECTORS).index(parameters.get("detector", "previous"))
        wanted = summary_of(name, parameters.get("site")).mean[0 if "sink_in" in parameters else 1, at]
    np.testing.assert_allclose(values, wanted, atol=1e-6)


def test_the_lines_of_the_embedded_texts_read_them_from_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from attnviz import corpus
    from attnviz.ui.heads.lines import _OWN

    for name, pairs, count in ((measuring.OWN_NAME, False, 200), (measuring.OWN_DATES, True, 200)):
        scope: dict[str, object] = {"corpus": corpus, "Path": Path}
        exec(_OWN[name], scope)
        read = list(scope["texts"])  # type: ignore[call-overload]
        key = measuring.own_corpus(pairs=pairs)
        assert read == [item for _, item in measuring.shelf().texts(key)]
        assert len(read) == count
