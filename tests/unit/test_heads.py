"""Scores of heads, against cases that can be seen at once and a loop over single numbers."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from hand_made import LENGTH, recorded, trace_of

import attnviz
from attnviz import Model, heads
from attnviz.errors import InputError
from attnviz.trace import Stored


def naive(pattern: torch.Tensor, visible: list[int], key: int = 0) -> tuple[float, float]:
    """(entropy, sink mass) of one head, one number at a time."""
    shares, masses = [], []
    for q, row in enumerate(pattern.double().tolist()):
        if visible[q] < 2:
            continue
        nats = -sum(p * math.log(p) for p in (value / sum(row) for value in row) if p > 0)
        shares.append(nats / math.log(visible[q]))
        masses.append(row[key])
    return sum(shares) / len(shares), sum(masses) / len(masses)


def test_attention_spread_over_all_it_can_see_has_entropy_one() -> None:
    uniform = recorded(torch.zeros(LENGTH, LENGTH))
    np.testing.assert_allclose(heads.entropy(trace_of(uniform)), np.ones((1, 4)), atol=1e-5)
    spread = torch.ones(LENGTH, LENGTH).tril()
    stored = Stored((spread / spread.sum(-1, keepdim=True)).expand(1, 4, LENGTH, LENGTH))
    np.testing.assert_allclose(heads.entropy(trace_of(stored)), np.ones((1, 4)), atol=1e-5)


def test_attention_on_one_key_has_entropy_zero() -> None:
    one_key = recorded(torch.full((LENGTH, LENGTH), -1e4).fill_diagonal_(0))
    np.testing.assert_allclose(heads.entropy(trace_of(one_key)), np.zeros((1, 4)), atol=1e-6)


def test_attention_on_the_first_token_is_all_sink() -> None:
    scores = torch.zeros(LENGTH, LENGTH)
    scores[:, 0] = 1e4
    trace = trace_of(recorded(scores))
    np.testing.assert_allclose(heads.sink_mass(trace), np.ones((1, 4)), atol=1e-6)
    np.testing.assert_allclose(heads.sink_mass(trace, key=3), np.zeros((1, 4)), atol=1e-6)


def test_the_first_row_of_a_causal_model_does_not_count() -> None:
    # It always looks at itself, the first token: counting it would make a head that never does look a little sunk.
    scores = torch.zeros(LENGTH, LENGTH)
    scores[:, 0] = -1e4
    trace = trace_of(recorded(scores))
    assert trace.pattern(0)[:, 0, 0].tolist() == [1.0] * 4
    np.testing.assert_allclose(heads.sink_mass(trace), np.zeros((1, 4)), atol=1e-6)


def test_queries_before_the_key_do_not_count() -> None:
    scores = torch.zeros(LENGTH, LENGTH)
    scores[:, 5] = 1e4
    np.testing.assert_allclose(heads.sink_mass(trace_of(recorded(scores)), key=5), np.ones((1, 4)), atol=1e-6)


def test_there_is_nothing_where_there_is_no_head() -> None:
    fewer = Stored(torch.full((1, 2, LENGTH, LENGTH), 1 / LENGTH))
    trace = trace_of(recorded(torch.zeros(LENGTH, LENGTH)), fewer)
    for score in (heads.entropy(trace), heads.sink_mass(trace), heads.attention_between(trace, -1, 0)):
        assert score.shape == (2, 4)
        assert np.isnan(score).tolist() == [[False] * 4, [False, False, True, True]]


def test_there_is_nothing_where_there_is_no_layer() -> None:
    trace = trace_of(*[recorded(torch.zeros(LENGTH, LENGTH))] * 2)
    only = dataclasses.replace(trace, attention={"decoder": {1: trace.attention["decoder"][1]}})
    assert np.isnan(heads.entropy(only)).tolist() == [[True] * 4, [False] * 4]


def test_a_text_of_one_token_leaves_no_choice() -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=[5])
    assert np.isnan(heads.entropy(trace)).all()
    assert np.isnan(heads.sink_mass(trace)).all()


@pytest.mark.parametrize("kind", ["grouped", "gpt2", "bert", "sinks", "soft-capped", "windowed"])
def test_scores_equal_a_naive_loop_on_every_kind_of_model(kind: str) -> None:
    trace = attnviz.wrap_model(tiny.EXACT[kind]()).trace(input_ids=tiny.ids())
    entropy, sink = heads.entropy(trace), heads.sink_mass(trace)
    for layer in trace.layers():
        pattern = trace.pattern(layer)
        if trace.info.family == "encoder":
            visible = [tiny.LENGTH] * tiny.LENGTH
        else:
            window = 4 if kind in ("windowed", "sinks", "soft-capped") and (layer == 0 or kind == "windowed") else 99
            visible = [min(q + 1, window) for q in range(tiny.LENGTH)]
        for head in range(4):
            expected = naive(pattern[head], visible)
            assert (entropy[layer, head], sink[layer, head]) == pytest.approx(expected, abs=1e-5)


def test_scores_equal_a_naive_loop_on_a_real_model(smollm2: Model) -> None:
    trace = smollm2.trace("When Mary and John went to the store, John gave a drink to")
    entropy, sink = heads.entropy(trace), heads.sink_mass(trace)
    between = heads.attention_between(trace, -1, 1)
    visible = list(range(1, len(trace.tokens) + 1))
    for layer in trace.layers():
        pattern = trace.pattern(layer)
        for head in range(9):
            expected = naive(pattern[head], visible)
            assert (entropy[layer, head], sink[layer, head]) == pytest.approx(expected, abs=1e-5)
            assert between[layer, head] == pytest.approx(float(pattern[head, -1, 1]), abs=1e-6)
    assert entropy.dtype == sink.dtype == np.float32
    assert 0 <= entropy.min() <= entropy.max() <= 1 + 1e-6
    assert float(sink.mean()) > 0.3, "this model is known to rest much of its attention on the first token"


def test_progress_runs_from_none_to_all(minilm: Model) -> None:
    trace = minilm.trace("Hello world")
    for score in (heads.entropy, heads.sink_mass):
        seen: list[tuple[int, int]] = []
        score(trace, progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == [(i, 6) for i in range(7)]


@pytest.mark.parametrize("key", [99, -99])
@pytest.mark.parametrize(
    "score",
    [lambda trace, key: heads.attention_between(trace, -1, key), lambda trace, key: heads.sink_mass(trace, key=key)],
    ids=["row", "sink"],
)
def test_a_key_out_of_range_is_refused(minilm: Model, key: int, score: Any) -> None:
    with pytest.raises(InputError, match="key"):
        score(minilm.trace("Hello world"), key)


def test_a_key_counted_from_the_end_is_that_key(smollm2: Model) -> None:
    trace = smollm2.trace("One two three four five")
    length = len(trace.tokens)
    for score in (heads.attention_between(trace, -1, -2), heads.attention_between(trace, length - 1, length - 2)):
        np.testing.assert_array_equal(score, heads.attention_between(trace, -1, length - 2))
    np.testing.assert_array_equal(heads.sink_mass(trace, key=-2), heads.sink_mass(trace, key=length - 2))
