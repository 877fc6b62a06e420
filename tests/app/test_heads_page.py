"""The Heads page on six short texts, run by Streamlit's own test harness; and its lines of Python, run as people do."""

import html
import re
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import heads
from attnviz.corpus import Choice, Item, Result, Shelf, Summary
from attnviz.figures.heads import name_of
from attnviz.heads import DETECTORS
from attnviz.ui import measuring
from attnviz.ui.heads import finding
from attnviz.ui.heads.known import known_words
from attnviz.ui.selection import PROBES, SAVED
from attnviz.ui.session import stores, text_of
from attnviz.view import Sinks

ROOT = Path(__file__).parents[2]
SECONDS = 120
HOSTILE = "</script><img src=x onerror=alert(1)> *bold* $x$, and so on, and on"
TEXTS = [
    "The cat sat on the mat, and the dog sat on the cat.",
    "Nobody came; nobody called.",
    HOSTILE,
    "A very unbelievable story about a storyteller",
    "One, two, three, four, five!",
    "Rain fell.",
]
DATES = [("the 3rd of May 1998", "1998-05-03"), ("June 1, 2001", "2001-06-01")]
MODELS: dict[str, attnviz.Model] = {}
KEYS: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def _shelf(tmp_path_factory: pytest.TempPathFactory, minilm: attnviz.Model) -> None:
    """A shelf of its own for all of this module, and both models opened once."""
    shelf = Shelf(tmp_path_factory.mktemp("shelf") / "corpora.sqlite")
    MODELS.update(minilm=minilm, dates=attnviz.load_model("dates"))
    KEYS["minilm"] = shelf.add([Item(text) for text in TEXTS], "Six <b>texts</b>")
    KEYS["dates"] = shelf.add([Item(text, "", pair) for text, pair in DATES], "Two dates")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "shelf", lambda: shelf)
        yield


def opened(**parameters: str) -> AppTest:
    parameters = {"model": "minilm"} | parameters
    name = parameters["model"]
    if name in MODELS:
        stores().models.put(name, MODELS[name])
        parameters = {"corpus": KEYS[name]} | parameters
    test = AppTest.from_file(str(ROOT / "pages/heads.py"), default_timeout=SECONDS)
    for name, value in parameters.items():
        test.query_params[name] = value
    return test.run()


def assert_fine(test: AppTest) -> None:
    assert [exception.message for exception in test.exception] == []
    assert [error.value for error in test.error] == []


def params(test: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in test.query_params.items()}


def said(test: AppTest) -> str:
    """All that stands in captions, as people read it."""
    bodies = [element.proto.body for element in test.get("html")]
    return " ".join(html.unescape(re.sub(r"</?p[^>]*>", "", body)) for body in bodies)


def summary_of(name: str, site: str | None = None) -> Summary:
    shelf, key = measuring.shelf(), KEYS[name]
    ran = attnviz.corpus.run(MODELS[name], shelf, key, site=site)
    return Summary.of(shelf.results(key, ran.run))


def card_of(test: AppTest) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in test.dataframe[0].value.itertuples(index=False, name=None)}


@pytest.mark.parametrize("detector", ["sink", "entropy", "copy", "position"])
def test_every_measure_has_a_map_with_its_chance_level_and_its_words(detector: str) -> None:
    test = opened(detector=detector)
    assert_fine(test)
    words = said(test)
    assert f"{'Tokens raised at random' if detector == 'copy' else 'Even attention scores'}" in words or (
        detector == "copy" and "no vocabulary head" in words
    )
    assert "attention is not effect" in words or detector == "copy"
    assert "where a head looks is not what it does" in words
    assert ("there is no text to open" in words) == (detector in PROBES)
    assert test.selectbox(key="heads-detector").value == detector
    assert ("The sink (first token) is taken away" in words) == (detector not in ("sink", "copy"))


def test_the_card_has_the_means_intervals_and_chance_levels_of_the_corpus() -> None:
    test = opened(layer="2", head="5")
    assert_fine(test)
    summary, rows = summary_of("minilm"), card_of(test)
    assert {known.title for known in DETECTORS.values()} <= set(rows)
    at = list(DETECTORS).index("previous")
    for variant, column in ((1, 0), (0, 2)):
        mean, low, high = (float(x[variant, at, 2, 5]) for x in (summary.mean, summary.low, summary.high))
        assert rows["Previous token"][column] == f"{mean:.3f} ({low:.2f} to {high:.2f})"
        assert rows["Previous token"][column + 1] == f"{float(summary.chance[variant, at, 2]):.3f}"
    assert rows["Sink"][0] == "no row"
    changed = heads.labels(summary.mean, summary.chance, (summary.low, summary.high)).changed
    assert f"the label of {changed:.0%} of all heads is another one, or gone" in said(test)
    assert "Read: 6 texts of" in said(test)
    assert "Six <b>texts</b>" in "".join(element.value for element in test.markdown).replace("\\", "")


def test_probes_join_the_card_and_the_labels_on_request() -> None:
    stores().traces.clear()
    test = opened()
    assert "best of five descriptions" in said(test)
    test.button(key="heads-probe").click().run()
    assert_fine(test)
    assert {"Induction", "Position only"} <= set(card_of(test))
    assert "best of six descriptions" in said(test)
    assert "heads-probe" not in [button.key for button in test.button]


def test_what_random_tokens_say_of_the_encoder_is_not_said_of_other_heads() -> None:
    test = opened(model="dates", site="cross", detector="induction")
    assert_fine(test)
    assert "Random tokens are read by the encoder alone" in said(test)
    assert "Induction" not in card_of(test)
    test = opened(model="dates", site="encoder", detector="copy")
    assert_fine(test)
    assert "There are no copy scores" in said(test)


def test_a_detector_of_one_text_makes_no_sense_across_two() -> None:
    test = opened(model="dates", site="cross", detector="previous")
    assert_fine(test)
    assert "makes no sense for cross-attention" in said(test)
    assert card_of(test)["Previous token"] == ("no row", "", "no row", "")


def test_texts_where_a_head_fires_are_those_with_its_largest_values() -> None:
    test = opened(layer="1", head="3", detector="punctuation", sink_in="1")
    assert_fine(test)
    shelf, key = measuring.shelf(), KEYS["minilm"]
    run = attnviz.corpus.run_key(MODELS["minilm"])
    at = list(DETECTORS).index("punctuation")
    values = {r.number: float(r.values[0, at, 1, 3]) for r in shelf.results(key, run)}
    best = sorted((n for n in values if np.isfinite(values[n])), key=lambda n: -values[n])[:5]
    shown = re.findall(r"Text (\d+): (\d\.\d+) over all rows", said(test))
    assert shown == [(str(n), f"{values[n]:.3f}") for n in best]


def test_the_strongest_row_is_the_one_farthest_above_even_attention() -> None:
    trace = MODELS["minilm"].trace(TEXTS[0])
    head = attnviz.Head(1, 3)
    pattern = trace.pattern(1, 3)
    n = len(pattern)
    rows = [float(pattern[i, i - 1]) for i in range(1, n)]  # every row sees all keys: chance is 1 / n everywhere
    assert finding.strongest(trace, head, "previous", 0, Sinks()) == (
        int(np.argmax(rows)) + 1,
        pytest.approx(max(rows), abs=1e-6),
    )
    kept = pattern[2:, 1:] / pattern[2:, 1:].sum(-1, keepdim=True)
    without = [float(kept[i, i]) for i in range(n - 2)]  # row i + 2, whose previous key is i + 1, at column i
    assert finding.strongest(trace, head, "previous", 1, Sinks()) == (
        int(np.argmax(without)) + 2,
        pytest.approx(max(without), abs=1e-6),
    )


def test_tops_are_the_largest_values_of_every_head_and_earlier_texts_come_first() -> None:
    def result(number: int, *values: float) -> Result:
        full = np.zeros((2, len(DETECTORS), 1, 2), np.float32)
        full[1, 0, 0] = values
        return Result(number, "", full, np.zeros((2, len(DETECTORS), 1), np.float32))

    stream = [result(0, 0.1, np.nan), result(1, 0.5, 0.3), result(2, 0.5, 0.2), result(3, 0.2, np.nan)]
    found = finding.tops(iter(stream), Choice("previous", "without sink"), most=3)
    assert found.numbers[:, 0, 0].tolist() == [1, 2, 3]
    assert found.numbers[:, 0, 1].tolist() == [1, 2, -1]
    assert found.values[:, 0, 0].tolist() == pytest.approx([0.5, 0.5, 0.2])


def test_a_text_opens_in_explore_with_its_head_row_and_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []
    test = opened(layer="1", head="3", detector="punctuation")
    monkeypatch.setattr(st, "switch_page", went.append)
    (text, *_), (query, *_) = (re.findall(pattern, said(test)) for pattern in (r"Text (\d+):", r" at (\d+) “"))
    test.button(key="heads-open-0").click().run()
    assert_fine(test)
    assert went == ["pages/explore.py"]
    now = params(test)
    assert text_of(now["text"]) == TEXTS[int(text)]
    assert {name: now[name] for name in ("layer", "head", "query", "sinks")} == {
        "layer": "1",
        "head": "3",
        "query": query,
        "sinks": "renormalise",
    }


@pytest.mark.parametrize("likeness", ["attends", "writes"])
@pytest.mark.parametrize("name", ["minilm", "dates"])
def test_families_have_a_matrix_places_and_candidates(name: str, likeness: str) -> None:
    test = opened(model=name, facet="families", likeness=likeness)
    assert_fine(test)
    words = said(test)
    assert ("Jensen-Shannon" if likeness == "attends" else "Cosine of what two heads add") in words
    assert re.search(r"holds \d+% of the variance", words)
    assert "A candidate for pruning is not a finding" in words
    table = test.dataframe[0].value
    assert table["nats"].is_monotonic_increasing
    assert np.isfinite(table["cosine of what they write"]).all()
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


def test_what_cannot_be_taken_apart_is_said_and_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stores().traces.clear()

    def refused(*args: object, **options: object) -> object:
        raise attnviz.errors.Unsupported("This model has gates.")

    monkeypatch.setattr(attnviz.flow, "take_apart", refused)
    test = opened(facet="families")
    assert_fine(test)
    assert "What they write is not known here: This model has gates." in said(test)
    assert list(test.dataframe[0].value.columns) == ["head", "attends most like", "nats"]
    test = opened(facet="families", likeness="writes")
    assert [error.value for error in test.error] == ["This model has gates\\."]
    stores().traces.clear()


def test_an_address_restores_the_page_and_what_it_lacks_is_said_once() -> None:
    asked = {"detector": "duplicate", "sink_in": "1", "layer": "3", "head": "2", "corpus": KEYS["minilm"]}
    test = opened(**asked)
    assert asked.items() <= params(test).items()
    test = opened(layer="77", head="1")
    assert_fine(test)
    (warning,) = test.warning
    assert "no head L77H1" in warning.value.replace("\\", "")
    assert params(test)["layer"] == "0"


def test_a_corpus_that_is_gone_is_said_with_a_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "own_corpus", lambda *, pairs: KEYS["minilm"])
    test = opened(corpus="x" * 22)
    (error,) = test.error
    assert "not here any more" in error.value.replace("\\", "")
    test.button(key="heads-back").click().run()
    assert_fine(test)
    assert "corpus" not in params(test)


def test_another_sink_is_measured_anew() -> None:
    test = opened(kinds="special")
    assert_fine(test)
    assert "The sink (special tokens) is taken away" in said(test)


def test_a_saved_trace_is_told_that_it_has_no_model(minilm: attnviz.Model) -> None:
    key = "s" * 22
    stores().saved.put((SAVED, key), minilm.trace("Rain fell.").compact())
    test = opened(model=SAVED, text=key)
    assert_fine(test)
    assert "comes without its model" in said(test)


def test_published_roles_are_known_by_model_and_head(minilm: attnviz.Model) -> None:
    words = known_words(minilm.info, "openai-community/gpt2", attnviz.Head(9, 9))
    assert "Name mover head" in words
    assert "arXiv 2211.00593" in words
    assert "not among the heads" in known_words(minilm.info, "gpt2", attnviz.Head(0, 0))
    assert "Nothing published" in known_words(minilm.info, "minilm", attnviz.Head(9, 9))


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
    figures = [figure.data[-1] for figure in shown]
    if "facet" in parameters:
        names = [f"L{layer}H{head}" for layer, head in figures[1].customdata]
        assert len(names) == len(figures[0].z) == len(set(names))
        return
    values = np.array(figures[0].z, np.float32)
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
