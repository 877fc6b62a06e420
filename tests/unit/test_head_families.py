"""Families of heads: divergences and cosines against loops over single numbers, and pictures of known distances."""

import dataclasses
import math

import numpy as np
import pytest
import tiny
import torch
from hand_made import LENGTH, recorded, trace_of

import attnviz
from attnviz import Model, Sinks, Trace, View, flow
from attnviz.errors import Cancelled, HeadError, InputError, ShapeError, Unsupported
from attnviz.heads import Pairs, families, ordered, output_similarity, pattern_distance, places, redundant
from attnviz.trace import Stored
from benchmarks import tiny as architectures

TEXTS = ("The cat sat on the mat.", "Nobody knew who had written the letter.")


def divergence(p: list[float], q: list[float]) -> float:
    """Jensen-Shannon, in nats."""
    pairs = [(a, b, (a + b) / 2) for a, b in zip(p, q, strict=True)]
    return sum(
        (a * math.log(a / m) if a > 0 else 0) / 2 + (b * math.log(b / m) if b > 0 else 0) / 2 for a, b, m in pairs
    )


def stored(*patterns: torch.Tensor) -> Trace:
    return trace_of(Stored(torch.stack(patterns)[None]))


def spread(start: int, stop: int) -> torch.Tensor:
    """Rows spread evenly over some keys."""
    out = torch.zeros(LENGTH, LENGTH)
    out[:, start:stop] = 1 / (stop - start)
    return out


def test_equal_heads_are_no_nats_apart_and_heads_with_nothing_in_common_ln_2() -> None:
    first, second = spread(0, 4), spread(4, 9)
    found = pattern_distance([stored(first, first, second, (first + second) / 2)])
    assert found.heads == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert (found.rows, found.texts) == (LENGTH, 1)
    assert found.values.dtype == np.float32
    near = divergence([1, 0], [0.5, 0.5])
    ln2 = math.log(2)
    expected = [[0, 0, ln2, near], [0, 0, ln2, near], [ln2, ln2, 0, near], [near, near, near, 0]]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)


def test_distances_of_a_real_model_equal_a_naive_loop(smollm2: Model) -> None:
    traces = [smollm2.trace(text) for text in TEXTS]
    found = pattern_distance(iter(traces))
    assert found.values.shape == (270, 270)
    np.testing.assert_array_equal(found.values, found.values.T)
    assert (np.diag(found.values) == 0).all()
    assert found.heads[9 * 17 + 4] == (17, 4)
    assert 0 <= found.values.min() <= found.values.max() <= math.log(2)
    for a, b in (((0, 0), (0, 1)), ((17, 4), (18, 6)), ((29, 8), (3, 3))):
        means = []
        for trace in traces:
            one, other = (trace.pattern(*head).double().tolist() for head in (a, b))
            rows = [divergence(p, q) for p, q in zip(one[1:], other[1:], strict=True)]
            means.append(sum(rows) / len(rows))
        at = found.values[found.heads.index(a), found.heads.index(b)]
        assert at == pytest.approx(sum(means) / 2, abs=1e-5)


def test_distances_are_seen_as_a_view_shows_them(minilm: Model) -> None:
    trace = minilm.trace(TEXTS[0])
    view = View(sinks=Sinks("renormalise", kinds=("special",)))
    found = pattern_distance([trace], view=view)
    one, other = (
        view.pattern(trace, attnviz.Head(layer, head)).weights.double().tolist() for layer, head in ((1, 2), (4, 7))
    )
    rows = [divergence(p, q) for p, q in zip(one, other, strict=True)]
    assert found.rows == len(rows), "every row of an encoder has a choice, its first too"
    assert found.values[14, 55] == pytest.approx(sum(rows) / len(rows), abs=1e-5)
    words = pattern_distance([trace], view=View(unit="word"))
    assert words.rows == len(View(unit="word").axes(trace)[0])


def test_of_a_long_text_some_rows_are_read_evenly_chosen(smollm2: Model) -> None:
    trace = smollm2.trace(TEXTS[1] * 3)
    n = len(trace.tokens)
    found = pattern_distance([trace], rows=5)
    assert found.rows == 5
    chosen = [round(1 + i * (n - 2) / 4) for i in range(5)]
    one, other = (trace.pattern(*head).double().tolist() for head in ((17, 4), (18, 6)))
    rows = [divergence(one[i], other[i]) for i in chosen]
    assert found.values[157, 168] == pytest.approx(sum(rows) / 5, abs=1e-5)


def test_windows_and_model_sinks_are_compared_too() -> None:
    for kind in ("windowed", "sinks", "bert"):
        found = pattern_distance([attnviz.wrap_model(tiny.EXACT[kind]()).trace(input_ids=tiny.ids())])
        assert found.values.shape == (8, 8)
        assert (found.values[np.triu_indices(8, 1)] > 0).all()


def test_what_heads_write_equals_a_naive_loop(smollm2: Model) -> None:
    runs = [flow.take_apart(smollm2, text) for text in TEXTS]
    found = output_similarity(runs)
    assert found.heads == tuple((layer, head) for layer in range(30) for head in range(9))
    np.testing.assert_allclose(np.diag(found.values), np.ones(270), atol=1e-5)
    np.testing.assert_allclose(found.values, found.values.T, atol=1e-6)
    llama = smollm2.hf_model.model
    for a, b in (((0, 0), (0, 1)), ((17, 4), (18, 6))):
        means = []
        for run in runs:
            wrote = []
            for layer, head in (a, b):
                recorded = run.trace.attention["decoder"][layer]
                z = recorded.pattern(head)[0, 0] @ recorded.value[0, head // 3]
                wrote.append(z @ llama.layers[layer].self_attn.o_proj.weight[:, 64 * head : 64 * head + 64].detach().T)
            means.append(float(torch.cosine_similarity(*wrote, dim=-1).mean()))
        at = found.values[found.heads.index(a), found.heads.index(b)]
        assert at == pytest.approx(sum(means) / 2, abs=1e-4)


def test_a_model_whose_parts_cannot_be_told_is_refused() -> None:
    model = attnviz.wrap_model(architectures.build("causal", "bitnet"))
    with pytest.raises(Unsupported):
        output_similarity(flow.take_apart(model, input_ids=ids) for ids in ([5, 6, 7],))


def test_the_order_is_one_of_all_heads_with_like_beside_like() -> None:
    line = np.array([5.0, 0.0, 1.0, 6.0, 0.5])
    order, tree = ordered(np.abs(line[:, None] - line))
    assert sorted(order) == list(range(5))
    assert tree.shape == (4, 4)
    assert line[order].tolist() in (sorted(line), sorted(line)[::-1])


def test_points_of_a_plane_keep_their_distances() -> None:
    chance = np.random.default_rng(0)
    points = chance.normal(size=(12, 2))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = places(apart)
    again = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.testing.assert_allclose(again, apart, atol=1e-5)
    assert found.share == pytest.approx(1)
    np.testing.assert_allclose(found.points.mean(0), 0, atol=1e-6)
    space = chance.normal(size=(40, 10))
    assert places(np.linalg.norm(space[:, None] - space[None], axis=-1)).share < 0.6


def test_heads_that_are_all_alike_stand_on_one_point() -> None:
    found = places(np.zeros((3, 3)))
    assert found.share == 1
    assert (found.points == 0).all()


def test_redundant_heads_come_nearest_first() -> None:
    heads = ((0, 0), (0, 1), (1, 0))
    apart = Pairs(heads, np.array([[0, 0.3, 0.1], [0.3, 0, 0.5], [0.1, 0.5, 0]], np.float32), 4, 1)
    alike = Pairs(heads, np.array([[1, 0.2, 0.9], [0.2, 1, -0.4], [0.9, -0.4, 1]], np.float32), 4, 1)
    found = redundant(apart, alike)
    assert found[["layer", "head", "near_layer", "near_head"]].to_numpy().tolist() == [
        [0, 0, 1, 0],
        [1, 0, 0, 0],
        [0, 1, 0, 0],
    ]
    np.testing.assert_allclose(found[["nats", "cosine"]], [[0.1, 0.9], [0.1, 0.9], [0.3, 0.2]], atol=1e-6)
    assert found["candidate"].all()
    otherwise = dataclasses.replace(alike, values=-alike.values)
    assert not redundant(apart, otherwise)["candidate"].any(), "attends alike and writes the opposite"
    assert redundant(apart).cosine.isna().all()
    assert not redundant(apart)["candidate"].any()
    with pytest.raises(ShapeError, match="other heads"):
        redundant(apart, dataclasses.replace(alike, heads=heads[::-1]))


def test_what_cannot_be_compared_is_refused(smollm2: Model, minilm: Model) -> None:
    with pytest.raises(InputError, match="no text"):
        pattern_distance([])
    with pytest.raises(InputError, match="no text"):
        pattern_distance([smollm2.trace(input_ids=[5])])
    with pytest.raises(InputError, match="none"):
        output_similarity([])
    with pytest.raises(ShapeError, match="one site"):
        pattern_distance([smollm2.trace(TEXTS[0]), minilm.trace(TEXTS[0])])
    for wrong in (np.zeros((2, 3)), np.zeros((1, 1)), np.array([[0, 1], [2, 0]]), np.eye(2)):
        for of in (ordered, places):
            with pytest.raises(ShapeError, match="Distances"):
                of(wrong)
    with pytest.raises(InputError, match="alone"):
        redundant(Pairs(((0, 0),), np.zeros((1, 1), np.float32), 1, 1))


def test_one_layer_alone_has_the_numbers_that_it_has_among_all(smollm2: Model) -> None:
    trace, run = smollm2.trace(TEXTS[0]), flow.take_apart(smollm2, TEXTS[0])
    for every, own in (
        (pattern_distance([trace]), pattern_distance([trace], layer=17)),
        (output_similarity([run]), output_similarity([run], layer=17)),
    ):
        assert own.heads == tuple((17, head) for head in range(9))
        np.testing.assert_allclose(own.values, every.values[153:162, 153:162], atol=2e-6)
        assert (own.rows, own.texts) == (every.rows, every.texts)
    with pytest.raises(HeadError, match="layer 30"):
        pattern_distance([trace], layer=30)
    with pytest.raises(HeadError, match="layer 30"):
        output_similarity([run], layer=30)


def test_a_long_text_is_compared_in_parts_and_may_be_stopped_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    trace = stored(*torch.rand(4, LENGTH, LENGTH).softmax(-1))
    whole, seen = pattern_distance([trace]).values, []
    monkeypatch.setattr(families, "_CHUNK_FLOATS", 1)
    np.testing.assert_allclose(pattern_distance([trace], progress=lambda *at: seen.append(at)).values, whole, atol=1e-6)
    assert seen == [(0, 1)] * 4, "once before the text, and between its four heads"

    def told(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 6:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        pattern_distance([trace], progress=told)
    assert len(seen) == 6


def test_progress_says_how_many_texts_and_may_stop() -> None:
    trace, seen = trace_of(recorded(torch.zeros(LENGTH, LENGTH))), []

    def told(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        pattern_distance([trace] * 4, progress=told)
    assert seen == [(0, 4), (1, 4), (2, 4)]
