"""Steps, rollout and the scores of one state: against loops over single numbers, and cases of two tokens by hand."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hand_made import trace_of
from hypothesis import given, settings
from hypothesis import strategies as st

import attnviz
from attnviz import Head, Sinks, Trace, View
from attnviz.errors import HeadError, InputError, ShapeError, Unsupported
from attnviz.flow.mixing import Scores, Stack, Step, steps
from attnviz.flow.rollout import rollout, scores_of
from attnviz.trace import Stored
from attnviz.units import Units

TEXT = "When Mary and John went to the store, John gave a drink to Mary."


@pytest.fixture(scope="module")
def smol(smollm2: attnviz.Model) -> Trace:
    return smollm2.trace(TEXT)


@pytest.fixture(scope="module")
def dates() -> Trace:
    return attnviz.load_model("dates", device="cpu", dtype="float32").trace("March 3, 1999", "1999-03")


def random_patterns(*shape: int, seed: int = 0, causal: bool = True) -> torch.Tensor:
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if causal:
        scores = scores.masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -torch.inf)
    return scores.softmax(-1)


def random_stack(seed: int, n_source: int = 3, n_text: int = 4, layers: int = 2) -> list[Step]:
    """An encoder-decoder's steps: two encoder layers, then self- and cross-attention of each decoder layer."""
    sides = {"encoder": (n_source, n_source), "decoder": (n_text, n_text), "cross": (n_text, n_source)}
    places = [("encoder", n) for n in range(layers)]
    places += [(site, n) for n in range(layers) for site in ("decoder", "cross")]
    made = []
    for i, (site, layer) in enumerate(places):
        pattern = random_patterns(*sides[site], seed=97 * seed + i, causal=site == "decoder")
        made.append(Step(site, layer, 0.6 * pattern, torch.full((len(pattern),), 0.4, dtype=torch.float64)))
    return made


def by_loop(stack: Iterable[Step], n_source: int, n_text: int) -> list[list[float]]:
    """What each top state of the text mixes, [query][column], one share at a time."""
    n = n_source + n_text
    states = [[float(i == j) for j in range(n)] for i in range(n)]
    for step in stack:
        first = 0 if step.site == "encoder" and n_source else n_source
        keys = n_source if step.site == "decoder" or not n_source else 0
        before = [list(state) for state in states]
        for q in range(len(step.kept)):
            for j in range(n):
                states[first + q][j] = float(step.kept[q]) * before[first + q][j] + sum(
                    float(step.weights[q, k]) * before[keys + k][j] for k in range(step.weights.shape[1])
                )
    return states[n_source:]


def test_two_tokens_by_hand() -> None:
    pattern = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]], [[[1.0, 0.0], [1.0, 0.0]]]])
    first = [[1.0, 0.0], [0.25, 0.75]]  # half of it is the state's own
    second = [[1.0, 0.0], [0.5 + 0.5 * 0.25, 0.5 * 0.75]]
    assert rollout(pattern).tolist() == [first, second]
    assert rollout(pattern, 1.0)[-1].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert rollout(pattern, 0.0)[-1].tolist() == [[1.0, 0.0], [1.0, 0.0]]


@given(
    seed=st.integers(0, 10_000),
    layers=st.integers(1, 4),
    heads=st.integers(1, 3),
    length=st.integers(1, 5),
    residual=st.floats(0, 1),
    causal=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_rollout_is_a_naive_loop_and_its_rows_sum_to_one(
    seed: int, layers: int, heads: int, length: int, residual: float, causal: bool
) -> None:
    patterns = random_patterns(layers, heads, length, length, seed=seed, causal=causal)
    before = patterns.clone()
    rolled = rollout(patterns, residual)
    assert torch.equal(patterns, before)
    expected = torch.eye(length, dtype=torch.float64)
    for layer in range(layers):
        mixed = torch.zeros(length, length, dtype=torch.float64)
        for q in range(length):
            for k in range(length):
                mean = sum(float(patterns[layer, head, q, k]) for head in range(heads)) / heads
                mixed[q, k] = (1 - residual) * mean + residual * (q == k)
        expected = torch.tensor(
            [
                [sum(float(mixed[q, m] * expected[m, k]) for m in range(length)) for k in range(length)]
                for q in range(length)
            ],
            dtype=torch.float64,
        )
        torch.testing.assert_close(rolled[layer], expected)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(layers, length, dtype=torch.float64))
    for query in range(length):
        torch.testing.assert_close(scores_of(steps(patterns, residual=residual), query).text, rolled[-1, query])


def test_rows_that_sum_to_less_stay_less() -> None:
    patterns = 0.5 * random_patterns(3, 2, 4, 4)
    expected = torch.tensor([0.75, 0.75**2, 0.75**3], dtype=torch.float64)[:, None].expand(3, 4)
    torch.testing.assert_close(rollout(patterns).sum(-1), expected)


@pytest.mark.parametrize("seed", range(5))
def test_two_texts_are_a_naive_loop(seed: int) -> None:
    stack = random_stack(seed)
    expected = torch.tensor(by_loop(stack, 3, 4), dtype=torch.float64)
    torch.testing.assert_close(expected.sum(-1), torch.ones(4, dtype=torch.float64))
    for query in (0, 1, 2, -1):
        scores = scores_of(iter(stack), query)
        assert scores.source is not None
        torch.testing.assert_close(torch.cat([scores.source, scores.text]), expected[query])
    mean = scores_of(stack, None)
    torch.testing.assert_close(mean.text, expected[:, 3:].mean(0))


def test_a_level_is_the_top_of_the_steps_below_it() -> None:
    stack = random_stack(1)
    for level in (3, 4, 5):
        below = scores_of(stack[:level], 2) if level > 3 else None
        scores = scores_of(stack, 2, level=level)
        assert scores.source is not None
        if below is not None and below.source is not None:
            torch.testing.assert_close(scores.text, below.text)
            torch.testing.assert_close(scores.source, below.source)
    # Up to the encoder's top, a state of the source is explained, and no text.
    encoder = stack[1].matrix().double() @ stack[0].matrix().double()
    scores = scores_of(stack, 1, level=2)
    assert scores.source is not None
    torch.testing.assert_close(scores.source, encoder[1])
    assert scores.text.tolist() == [0.0] * 4
    assert Stack.of(stack).levels == (
        "source embeddings",
        "source after layer 0",
        "source after layer 1",
        "after self-attention 0",
        "after cross-attention 0",
        "after self-attention 1",
        "after cross-attention 1",
    )


def test_a_trace_gives_what_its_patterns_give(smol: Trace) -> None:
    patterns = torch.stack([smol.pattern(layer) for layer in smol.layers()])
    rolled = rollout(smol)
    torch.testing.assert_close(rolled, rollout(patterns), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(rollout(patterns.mean(1).numpy()), rollout(patterns), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(rolled.shape[:2]))
    assert [step.layer for step in steps(smol)] == list(smol.layers())


def test_layers_are_read_one_at_a_time(smol: Trace) -> None:
    read: list[int] = []

    class Watched(Stored):
        def pattern(self, head: int | None = None, queries: slice = slice(None)) -> torch.Tensor:
            read.append(len(read))
            return super().pattern(head, queries)

    made = steps(trace_of(*(Watched(random_patterns(1, 4, 9, 9, seed=n).float()) for n in range(3))))
    assert not read
    next(made)
    assert read == [0]


def test_the_dates_model_reads_encoder_then_each_decoder_layer(dates: Trace) -> None:
    made = list(steps(dates))
    n = len(dates.layers("encoder"))
    assert [(step.site, step.layer) for step in made] == [
        *(("encoder", layer) for layer in dates.layers("encoder")),
        *((site, layer) for layer in dates.layers("decoder") for site in ("decoder", "cross")),
    ]
    torch.testing.assert_close(made[n + 1].weights, 0.5 * dates.pattern(0, site="cross").mean(0))
    for query in (0, 3, -1):
        scores = scores_of(made, query)
        assert scores.source is not None
        assert float(scores.text.sum() + scores.source.sum()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match=r"scores_of\(mixing\.steps\(trace\), query\)"):
        rollout(dates)


def test_sinks_are_taken_out_before_heads_are_averaged(smol: Trace) -> None:
    hidden = list(steps(smol, view=View(sinks=Sinks("hide"))))
    patterns = smol.pattern(5)
    patterns[:, :, 0] = 0
    torch.testing.assert_close(hidden[5].weights, 0.5 * patterns.mean(0))
    assert float(scores_of(hidden, -1).text.sum()) < 0.9
    left = patterns / patterns.sum(-1, keepdim=True).clamp(min=1e-30)
    again = list(steps(smol, view=View(sinks=Sinks("renormalise"))))
    torch.testing.assert_close(again[5].weights, 0.5 * left.mean(0))
    assert float(scores_of(again, -1).text.sum()) == pytest.approx(1, abs=1e-5)


def test_words_are_sums_over_keys_and_means_over_queries(smol: Trace) -> None:
    words, _ = View("word").axes(smol)
    tokens, read = rollout(smol)[-1], rollout(smol, view=View("word"))[-1]
    for i, (a, b) in enumerate(words.spans):
        for j, (c, d) in enumerate(words.spans):
            torch.testing.assert_close(read[i, j], tokens[a:b, c:d].sum(-1).mean())
    scores = scores_of(steps(smol), -1).by(words)
    torch.testing.assert_close(scores.text.sum(), torch.tensor(1.0, dtype=torch.float64), atol=1e-5, rtol=0)
    assert len(scores.text) == len(words)
    two = Scores(torch.ones(2), torch.ones(3)).by(Units("word", ("a",), (0, 2)), Units("word", ("b", "c"), (0, 2, 3)))
    assert two.source is not None
    assert (two.text.tolist(), two.source.tolist()) == ([2.0], [2.0, 1.0])


def test_chosen_heads_alone_are_averaged() -> None:
    patterns = random_patterns(2, 3, 4, 4)
    made = list(steps(patterns, heads=[Head(1, 0), Head(1, 2), Head(1, 2)]))
    torch.testing.assert_close(made[1].weights, 0.5 * patterns[1, [0, 2]].mean(0))
    assert float(made[0].weights.abs().max()) == 0
    assert made[0].kept.tolist() == [1.0] * 4


def test_chosen_heads_of_a_trace_are_of_their_site(dates: Trace) -> None:
    made = {(step.site, step.layer): step for step in steps(dates, heads=[Head(0, 1, "cross")])}
    torch.testing.assert_close(made["cross", 0].weights, 0.5 * dates.pattern(0, 1, "cross"))
    assert all(float(step.weights.max()) == 0 for place, step in made.items() if place != ("cross", 0))


EYE = np.eye(2)[None, None]


@pytest.mark.parametrize(
    ("patterns", "options", "error", "words"),
    [
        (np.ones((2, 2)), {}, ShapeError, r"\[2, 2\]"),
        (np.ones((0, 1, 2, 2)), {}, ShapeError, r"\[0, 1, 2, 2\]"),
        (np.ones((1, 1, 2, 3)) / 3, {}, ShapeError, r"\[2, 3\]"),
        (EYE * 2, {}, InputError, "sum to at most 1; got 1.5"),
        (-EYE, {}, InputError, "not below 0"),
        (EYE * np.nan, {}, InputError, "finite"),
        (EYE, {"residual": 1.5}, InputError, "1.5"),
        (EYE, {"residual": float("nan")}, InputError, "nan"),
        (EYE, {"residual": True}, InputError, "True"),
        (EYE, {"view": View()}, InputError, "give the trace"),
        (EYE, {"heads": [Head(0, 1)]}, HeadError, "L0H1"),
        (EYE[0], {"heads": [Head(0, 0)]}, ShapeError, "head"),
    ],
)
def test_what_is_no_pattern_is_refused(patterns: object, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(steps(patterns, **options))


def test_steps_that_do_not_fit_each_other_are_refused(smol: Trace) -> None:
    stack = random_stack(0)
    with pytest.raises(InputError, match="got none"):
        scores_of([], 0)
    with pytest.raises(InputError, match="bottom first"):
        Stack.of([*stack[2:], *stack[:2]])
    with pytest.raises(ShapeError, match="same tokens"):
        Stack.of([*stack, *random_stack(0, n_text=5)[2:]])
    with pytest.raises(InputError, match="from 0 to 3"):
        scores_of(stack, 4)
    for level in (0, 7, True):
        with pytest.raises(InputError, match="from 1 to 6"):
            scores_of(stack, 0, level=level)
    with pytest.raises(InputError, match="site"):
        Step("other", 0, torch.eye(2), torch.zeros(2))
    with pytest.raises(ShapeError, match="one a query"):
        Step("decoder", 0, torch.eye(2), torch.zeros(3))
    with pytest.raises(Unsupported, match="cache"):
        list(steps(dataclasses.replace(smol, key_tokens=smol.tokens)))
