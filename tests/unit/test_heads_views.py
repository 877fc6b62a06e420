"""Scores of heads read through a view, and between sets of tokens: against a loop over single numbers."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import LENGTH, recorded, trace_of

import attnviz
from attnviz import Head, Model, heads
from attnviz.errors import InputError
from attnviz.trace import Stored
from attnviz.view import Sinks, View


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu", dtype="float32")


def naive_between(pattern: torch.Tensor, queries: list[int], keys: list[int]) -> float:
    return sum(float(pattern[q, k]) for q in queries for k in keys) / len(queries)


def naive_row_scores(weights: torch.Tensor, view: View, gone: list[bool], causal: bool) -> tuple[float, float, float]:
    """(entropy, previous, distance) of one head as the view shows it, one number at a time; queries are the keys."""
    entropies, previous, distances = [], [], []
    for q, row in enumerate(weights.double().tolist()):
        seen = [k for k in range(len(row)) if not gone[k] and (k <= q or not causal)]
        if len(seen) < 2:
            continue
        mass = sum(row)
        shares = [p / mass for p in row] if view.sinks.how == "hide" else row
        entropies.append(-sum(p * math.log(p) for p in shares if p > 0) / math.log(len(seen)))
        distances.append(sum(p * abs(q - k) for k, p in enumerate(row)) / mass)
        if q > 0 and not gone[q - 1]:
            previous.append(row[q - 1])
    return tuple(sum(values) / len(values) for values in (entropies, previous, distances))  # type: ignore[return-value]


VIEWS = [
    View(unit, Sinks(how, kinds))
    for unit in ("token", "word", "sentence")
    for how, kinds in [
        ("show", ("first",)),
        ("hide", ("first",)),
        ("renormalise", ("special", "punctuation")),
        ("value-norm", ()),
    ]
]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.unit}-{view.sinks.how}")
@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_scores_equal_a_naive_loop_in_every_view(name: str, view: View, request: pytest.FixtureRequest) -> None:
    trace = request.getfixturevalue(name).trace("Mary met John. He, a friend, gave her a book! Did she read it?")
    found = heads.scores(trace, view=view)
    keys = view.axes(trace)[1]
    gone = (keys.mean(view.hidden(trace).float()) == 1).tolist()
    for layer in trace.layers()[::5]:
        for head in (0, trace.info.heads_of(trace.info.sites[0]) - 1):
            weights = view.pattern(trace, Head(layer, head)).weights
            expected = naive_row_scores(weights, view, gone, causal=name == "smollm2")
            got = [float(found[score][layer, head]) for score in ("entropy", "previous", "distance")]
            assert got == pytest.approx(expected, abs=2e-5)
            clean = View(view.unit).pattern(trace, Head(layer, head)).weights
            first = 1 if name == "smollm2" else 0
            assert found["sink"][layer, head] == pytest.approx(float(clean[first:, 0].mean()), abs=1e-5)


def test_each_score_alone_is_what_it_is_among_all(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store, John gave a drink to")
    view = View("word", Sinks("hide"))
    together = heads.scores(trace, view=view)
    alone = {
        "entropy": heads.entropy(trace, view=view),
        "sink": heads.sink_mass(trace, view=view),
        "previous": heads.previous_token(trace, view=view),
        "distance": heads.distance(trace, view=view),
    }
    assert tuple(together) == heads.NAMES == tuple(alone)
    for name, score in alone.items():
        np.testing.assert_array_equal(score, together[name])


def test_attention_on_the_token_before_is_all_previous_and_at_distance_one() -> None:
    scores = torch.full((LENGTH, LENGTH), -1e4)
    scores[range(1, LENGTH), range(LENGTH - 1)] = 0
    trace = trace_of(recorded(scores))
    np.testing.assert_allclose(heads.previous_token(trace), np.ones((1, 4)), atol=1e-6)
    np.testing.assert_allclose(heads.distance(trace), np.ones((1, 4)), atol=1e-6)


def test_attention_on_itself_is_never_previous_and_at_distance_zero() -> None:
    trace = trace_of(recorded(torch.full((LENGTH, LENGTH), -1e4).fill_diagonal_(0)))
    np.testing.assert_allclose(heads.previous_token(trace), np.zeros((1, 4)), atol=1e-6)
    np.testing.assert_allclose(heads.distance(trace), np.zeros((1, 4)), atol=1e-6)


def test_uniform_causal_attention_has_the_scores_that_arithmetic_gives() -> None:
    trace = trace_of(recorded(torch.zeros(LENGTH, LENGTH)))
    rows = range(1, LENGTH)
    shares = sum(1 / (q + 1) for q in rows) / len(rows)
    found = heads.scores(trace)
    np.testing.assert_allclose(found["previous"], np.full((1, 4), shares), atol=1e-6)
    np.testing.assert_allclose(found["sink"], np.full((1, 4), shares), atol=1e-6)
    np.testing.assert_allclose(found["distance"], np.full((1, 4), sum(q / 2 for q in rows) / len(rows)), atol=1e-5)


def test_even_attention_stays_even_when_its_sink_is_hidden() -> None:
    # Rows that lose a share must be divided by the rest: unless they are, their entropy comes out above 1.
    trace = trace_of(recorded(torch.zeros(LENGTH, LENGTH)))
    for how in ("hide", "renormalise"):
        np.testing.assert_allclose(heads.entropy(trace, view=View(sinks=Sinks(how))), np.ones((1, 4)), atol=1e-5)


def test_a_hidden_sink_is_still_measured() -> None:
    scores = torch.zeros(LENGTH, LENGTH)
    scores[:, 0] = 1e4
    trace = trace_of(recorded(scores))
    np.testing.assert_allclose(heads.sink_mass(trace, view=View(sinks=Sinks("hide"))), np.ones((1, 4)), atol=1e-6)


def test_queries_after_a_hidden_token_do_not_count_as_looking_elsewhere() -> None:
    scores = torch.full((LENGTH, LENGTH), -1e4)
    scores[range(1, LENGTH), range(LENGTH - 1)] = 0
    view = View(sinks=Sinks("hide", (), (4,)))
    np.testing.assert_allclose(heads.previous_token(trace_of(recorded(scores)), view=view), np.ones((1, 4)), atol=1e-6)


def test_cross_attention_has_no_previous_token_and_no_distance(dates: Model) -> None:
    found = heads.scores(dates.trace("11 November 1918"), site="cross")
    assert np.isnan(found["previous"]).all()
    assert np.isnan(found["distance"]).all()
    assert np.isfinite(found["entropy"]).all()
    assert np.isfinite(found["sink"]).all()
    own = heads.scores(dates.trace("11 November 1918"), site="decoder")
    assert all(np.isfinite(score).all() for score in own.values())


def test_keys_that_a_cache_held_are_before_the_query() -> None:
    scores = torch.full((LENGTH, LENGTH), -1e4)
    scores[range(1, LENGTH), range(LENGTH - 1)] = 0
    trace = trace_of(recorded(scores))
    layer = trace.attention["decoder"][0]
    last = Stored(layer.pattern()[:, :, -2:])
    step = dataclasses.replace(
        trace, tokens=trace.tokens[-2:], key_tokens=trace.tokens, attention={"decoder": {0: last}}
    )
    spread = Stored(torch.full((1, 4, 2, LENGTH), 1 / LENGTH))
    even = dataclasses.replace(step, attention={"decoder": {0: spread}})
    np.testing.assert_allclose(heads.previous_token(even), np.full((1, 4), 1 / LENGTH), atol=1e-6)
    expected = np.mean([abs(q - k) for q in (LENGTH - 2, LENGTH - 1) for k in range(LENGTH)])
    np.testing.assert_allclose(heads.distance(even), np.full((1, 4), expected), atol=1e-5)
    assert np.isnan(heads.previous_token(step)).all(), "a stored row on one key sees a single key"


def test_attention_between_sets_is_the_mean_over_queries_of_the_sum_over_keys(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store, John gave a drink to")
    queries, keys = [3, 4, 9, -1], [0, 1, 5]
    found = heads.attention_between(trace, queries, keys)
    for layer in trace.layers()[::7]:
        for head in range(9):
            expected = naive_between(trace.pattern(layer, head), queries, keys)
            assert found[layer, head] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_array_equal(found, heads.attention_between(trace, (9, 3, 4, 13, 9), (5, 1, 0)))
    np.testing.assert_allclose(heads.attention_between(trace, 3, [0, 1, 2, 3]), np.ones((30, 9)), atol=1e-5)


def test_attention_between_obeys_the_sinks_of_a_view_and_not_its_units(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store, John gave a drink to")
    view = View("word", Sinks("renormalise"))
    found = heads.attention_between(trace, [5, 9], [0, 1, 3], view=view)
    for layer in trace.layers()[::7]:
        pattern = View(sinks=Sinks("renormalise")).pattern(trace, Head(layer, 2)).weights
        assert found[layer, 2] == pytest.approx(naive_between(pattern, [5, 9], [1, 3]), abs=1e-5)
    assert np.isnan(heads.attention_between(trace, 5, 0, view=view)).all()


@pytest.mark.parametrize(("queries", "keys"), [([], 0), (0, ()), ([0, 99], 0), (0, [True]), ("a", 0), (1.5, 0)])
def test_positions_that_are_none_are_refused(minilm: Model, queries: Any, keys: Any) -> None:
    with pytest.raises(InputError):
        heads.attention_between(minilm.trace("Hello world"), queries, keys)


def test_a_score_that_is_not_known_is_refused(minilm: Model) -> None:
    with pytest.raises(InputError, match="loudness"):
        heads.scores(minilm.trace("Hello world"), ("entropy", "loudness"))


def test_progress_over_two_passes_runs_from_none_to_all(minilm: Model) -> None:
    seen: list[tuple[int, int]] = []
    heads.scores(
        minilm.trace("Hello world"),
        view=View(sinks=Sinks("hide")),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 12) for i in range(13)]
