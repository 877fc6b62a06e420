"""The Heads page on six short texts, run by Streamlit's own test harness: its map, a head's card, and its texts."""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import streamlit as st
from heads_page import KEYS, MODELS, TEXTS, card_of, opened, own_shelf, summary_of

import attnviz
from attnviz import heads
from attnviz.corpus import Choice, Item, Result
from attnviz.heads import DETECTORS
from attnviz.ui import measuring
from attnviz.ui.heads import finding, firing
from attnviz.ui.heads.known import known_words
from attnviz.ui.selection import PROBES, SAVED
from attnviz.ui.session import stores, text_of
from attnviz.view import Sinks
from pages import assert_fine, params, said


@pytest.fixture(scope="module", autouse=True)
def _shelf(tmp_path_factory: pytest.TempPathFactory, minilm: attnviz.Model) -> Iterator[None]:
    yield from own_shelf(tmp_path_factory, minilm)


@pytest.mark.parametrize("detector", ["sink", "entropy", "copy", "position"])
def test_every_measure_has_a_map_with_its_chance_level_and_its_words(detector: str) -> None:
    test = opened(detector=detector)
    assert_fine(test)
    words = said(test)
    drawn = detector != "copy"  # an encoder without a vocabulary raises no token
    assert ("Even attention scores" in words) == drawn
    assert ("attention is not effect" in words) == drawn
    assert ("There are no copy scores: " in words and "no vocabulary head" in words) != drawn
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
        assert rows["Previous token"][column] == f"{mean:.3f} ({low:.3f} to {high:.3f})"
        assert rows["Previous token"][column + 1] == f"{float(summary.chance[variant, at, 2]):.3f}"
    assert rows["Sink"][0] == "nothing to measure"
    changed = heads.labels(summary.mean, summary.chance, (summary.low, summary.high)).changed
    assert f"the label of {changed:.0%} of all heads is another one, or gone" in said(test)
    assert "Read: 6 texts of" in said(test)
    assert "Six <b>texts</b>" in "".join(element.value for element in test.markdown).replace("\\", "")


def test_a_decoder_has_a_map_of_copy_scores(smollm2: attnviz.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    MODELS["smollm2"] = smollm2
    KEYS["smollm2"] = measuring.shelf().add([Item("It rained."), Item("So it did.")], "Two lines")
    monkeypatch.setattr(heads, "induction", partial(heads.induction, samples=2, length=6))
    test = opened(model="smollm2", detector="copy")
    assert_fine(test)
    words = said(test)
    assert "Tokens raised at random come to 0." in words
    assert "attention is not effect" in words
    assert "There are no copy scores" not in words
    found = heads.induction(smollm2)
    at = (1, int(params(test)["layer"]), int(params(test)["head"]))
    assert card_of(test)["Copy score"][0].startswith(f"{float(found.scores['copy'].mean(0)[at]):.3f} (")
    stores().traces.clear()


def test_one_text_has_no_intervals_and_no_labels() -> None:
    stores().traces.clear()
    test = opened(corpus=measuring.shelf().add([Item(TEXTS[0])], "One text"))
    assert_fine(test)
    assert "Too few texts for labels" in said(test)
    assert "of all heads is another one" not in said(test)
    assert "(" not in card_of(test)["Previous token"][0]
    test.button(key="heads-probe").click().run()
    assert "(" in card_of(test)["Induction"][0]
    assert "Too few texts for labels" in said(test), "samples of random tokens are no texts"


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
    assert card_of(test)["Previous token"] == ("nothing to measure", "", "nothing to measure", "")


def test_texts_where_a_head_fires_are_those_with_its_largest_values() -> None:
    test = opened(layer="1", head="3", detector="punctuation", sink_in="1")
    assert_fine(test)
    shelf, key = measuring.shelf(), KEYS["minilm"]
    run = attnviz.corpus.run_key(MODELS["minilm"])
    at = list(DETECTORS).index("punctuation")
    values = {r.number: float(r.values[0, at, 1, 3]) for r in shelf.results(key, run)}
    best = sorted((n for n in values if np.isfinite(values[n])), key=lambda n: -values[n])[:5]
    shown = re.findall(r"Text (\d+): (\d\.\d+) over all rows", said(test))
    assert shown[: len(best)] == [(str(n), f"{values[n]:.3f}") for n in best]
    there = [n for n in values if np.isfinite(values[n])]
    median = float(np.median([values[n] for n in there]))
    usual = sorted(there, key=lambda n: abs(values[n] - median))[:2]
    assert {int(n) for n, _ in shown[len(best) :]} == set(usual)
    assert f"Texts nearest the median over texts, {median:.3f}" in said(test)
    assert "with six they hold the truth nine times in ten" in said(test)


def test_the_strongest_row_is_the_one_farthest_above_even_attention() -> None:
    trace = MODELS["minilm"].trace(TEXTS[0])
    head = attnviz.Head(1, 3)
    pattern = trace.pattern(1, 3)
    n = len(pattern)
    rows = [float(pattern[i, i - 1]) for i in range(1, n)]  # every row sees all keys: chance is 1 / n everywhere
    assert firing.strongest(trace, head, "previous", 0, Sinks()) == (
        int(np.argmax(rows)) + 1,
        pytest.approx(max(rows), abs=1e-6),
    )
    kept = pattern[2:, 1:] / pattern[2:, 1:].sum(-1, keepdim=True)
    without = [float(kept[i, i]) for i in range(n - 2)]  # row i + 2, whose previous key is i + 1, at column i
    assert firing.strongest(trace, head, "previous", 1, Sinks()) == (
        int(np.argmax(without)) + 2,
        pytest.approx(max(without), abs=1e-6),
    )


def test_a_usual_row_has_the_median_of_the_rows() -> None:
    trace = MODELS["minilm"].trace(TEXTS[0])
    pattern = trace.pattern(1, 3)
    rows = [float(pattern[i, i - 1]) for i in range(1, len(pattern))]
    query, value = firing.middling(trace, attnviz.Head(1, 3), "previous", 0, Sinks())
    assert value == pytest.approx(sorted(rows)[(len(rows) - 1) // 2], abs=1e-6)
    assert rows[query - 1] == pytest.approx(value, abs=1e-6)


def test_intervals_of_few_samples_are_by_students_t() -> None:
    values = np.stack([np.full((2, 1, 1), x, np.float32) for x in (0.2, 0.4, 0.6)])
    chance = np.zeros(2, np.float32)
    found = finding.of_samples(heads.Probed("decoder", {"copy": values, "induction": values}, {"copy": chance}), "copy")
    assert found.mean.ravel() == pytest.approx([0.4, 0.4])
    assert found.low.ravel() == pytest.approx([0.4 - 4.30265 * 0.2 / 3**0.5] * 2, abs=1e-4)
    assert found.high.ravel() == pytest.approx([0.4 + 4.30265 * 0.2 / 3**0.5] * 2, abs=1e-4)
    one = heads.Probed("decoder", {"induction": values[:1]}, {"induction": chance})
    assert np.isnan(finding.of_samples(one, "induction").low).all()


def test_tops_are_the_largest_values_of_every_head_and_earlier_texts_come_first() -> None:
    def result(number: int, *values: float) -> Result:
        full = np.zeros((2, len(DETECTORS), 1, 2), np.float32)
        full[1, 0, 0] = values
        return Result(number, "", full, np.zeros((2, len(DETECTORS), 1), np.float32))

    stream = [result(0, 0.1, np.nan), result(1, 0.5, 0.3), result(2, 0.5, 0.2), result(3, 0.2, np.nan)]
    found = firing.tops(iter(stream), Choice("previous", "without sink"), most=3)
    assert found.numbers[:, 0, 0].tolist() == [1, 2, 3]
    assert found.numbers[:, 0, 1].tolist() == [1, 2, -1]
    assert found.values[:, 0, 0].tolist() == pytest.approx([0.5, 0.5, 0.2])
    stream = [result(0, 0.1, np.nan), result(1, 0.6, 0.3), result(2, 0.5, 0.2), result(3, 0.25, np.nan)]
    stream.append(result(4, 0.35, 0.29))
    found = firing.tops(iter(stream), Choice("previous", "without sink"))
    assert found.median[0].tolist() == pytest.approx([0.35, 0.29])
    assert found.usual[:, 0].tolist() == [[4, 4], [3, 1]]
    assert found.usual_values[:, 0].tolist() == [pytest.approx([0.35, 0.29]), pytest.approx([0.25, 0.3])]
    few = firing.tops(iter(stream), Choice("previous", "without sink"), every=3)  # texts 0 and 3
    assert few.median[0, 0] == pytest.approx(0.175)
    assert np.isnan(few.median[0, 1])
    assert set(few.usual[:, 0, 0].tolist()) == {0, 3}
    assert few.usual[:, 0, 1].tolist() == [-1, -1]


def test_a_text_opens_in_explore_with_its_head_row_and_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []
    test = opened(layer="1", head="3", detector="punctuation")
    monkeypatch.setattr(st, "switch_page", went.append)
    (text, *_), (query, *_) = (re.findall(pattern, said(test)) for pattern in (r"Text (\d+):", r" at (\d+) “"))
    test.button(key="heads-open-fired-0").click().run()
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
