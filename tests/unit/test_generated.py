"""Generated traces read step by step, against loops over single numbers and against the same text given at once."""

import dataclasses
import html
import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, Trace
from attnviz.errors import HeadError, InputError
from attnviz.figures.generation import movement_map
from attnviz.generated import MOST_SHIFT, movement, movement_frame, shift, steps, writers
from attnviz.trace import Stored
from attnviz.view import Sinks, View

PROMPT = "The capital of France is"
HEAD = Head(23, 3)


@pytest.fixture(scope="module")
def written(smollm2: Model) -> Trace:
    return smollm2.generate(PROMPT, max_new_tokens=8)


@pytest.fixture(scope="module")
def wild(smollm2: Model) -> Trace:
    """Sampled so hot that most tokens are none of the likeliest."""
    return smollm2.generate(PROMPT, max_new_tokens=12, seed=3, temperature=4.0)


@pytest.fixture(scope="module")
def translated() -> Trace:
    return attnviz.load_model("dates", device="cpu", dtype="float32").generate("the 3rd of May 1998")


def naive_step(trace: Trace, position: int) -> tuple[float, int, float]:
    """(probability, rank, entropy) of the token at a position, one number at a time."""
    logits = trace.logits[position - 1].double().tolist()
    most = max(logits)
    total = sum(math.exp(x - most) for x in logits)
    own = logits[trace.tokens[position].id]
    shares = [math.exp(x - most) / total for x in logits]
    entropy = -sum(p * math.log(p) for p in shares if p > 0)
    return math.exp(own - most) / total, 1 + sum(x > own for x in logits), entropy


def naive_shift(before: list[float], after: list[float]) -> float:
    """Jensen-Shannon divergence in nats; what is missing to 1 went to no key."""
    before = [*before, max(0.0, 1 - sum(before))]
    after = [*after, max(0.0, 1 - sum(after))]
    nats = 0.0
    for a, b in zip(before, after, strict=True):
        for x in (a, b):
            nats += 0.5 * x * math.log(2 * x / (a + b)) if x > 0 else 0.0
    return nats


def drawn(*rows: list[float], given: int) -> Trace:
    """A trace of the tiny model that pays attention as said, [query, key], in its only head of interest."""
    made = attnviz.wrap_model(tiny.grouped(num_hidden_layers=1)).trace(input_ids=tiny.ids(len(rows)))
    weights = torch.tensor(rows).expand(1, 4, len(rows), len(rows))
    return dataclasses.replace(made, attention={"decoder": {0: Stored(weights)}}, prompt_length=given)


@pytest.mark.parametrize("run", ["written", "wild", "translated"])
def test_steps_are_what_the_logits_say_one_by_one(run: str, request: pytest.FixtureRequest) -> None:
    trace = request.getfixturevalue(run)
    table = steps(trace)
    assert table.position.tolist() == list(range(trace.prompt_length, len(trace.tokens)))
    assert table.step.tolist() == list(range(len(table)))
    assert (table["query"] + 1 == table.position).all()
    for row in table.itertuples():
        probability, rank, entropy = naive_step(trace, row.position)
        assert row.token == trace.tokens[row.position].text
        assert row.token_id == trace.tokens[row.position].id
        assert row.probability == pytest.approx(probability, rel=1e-5)
        assert row.rank == rank
        assert row.entropy_nats == pytest.approx(entropy, rel=1e-5, abs=1e-7)


def test_greedy_steps_take_the_likeliest_token_and_hot_ones_do_not(written: Trace, wild: Trace) -> None:
    assert steps(written)["rank"].tolist() == [1] * 8
    assert (steps(wild)["rank"] > 50).any()


def test_a_compact_trace_knows_the_steps_within_its_likeliest_tokens(wild: Trace) -> None:
    whole, short = steps(wild), steps(wild.compact())
    kept = (whole["rank"] <= 50).to_numpy()
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_allclose(short.probability[kept], whole.probability[kept], rtol=1e-5)
    assert short["rank"][kept].tolist() == whole["rank"][kept].tolist()
    assert short["rank"].isna().tolist() == short.probability.isna().tolist() == (~kept).tolist()
    assert short.entropy_nats.isna().all()


def test_the_text_given_at_once_has_the_same_steps(smollm2: Model, written: Trace) -> None:
    forced = dataclasses.replace(smollm2.trace(input_ids=written.input_ids), prompt_length=written.prompt_length)
    pd.testing.assert_frame_equal(steps(forced), steps(written))
    np.testing.assert_array_equal(movement(forced, HEAD).weights, movement(written, HEAD).weights)
    np.testing.assert_array_equal(shift(forced, HEAD), shift(written, HEAD))


@pytest.mark.parametrize(("run", "head"), [("written", HEAD), ("translated", Head(1, 2, "decoder"))])
def test_movement_is_the_rows_of_the_queries_that_wrote(run: str, head: Head, request: pytest.FixtureRequest) -> None:
    trace = request.getfixturevalue(run)
    pattern = trace.pattern(head.layer, head.head, head.site)
    moved = movement(trace, head)
    assert moved.weights.shape == (len(trace.tokens) - trace.prompt_length, len(trace.tokens))
    for row, query in zip(moved.weights, writers(trace), strict=True):
        np.testing.assert_array_equal(row[: query + 1], pattern[query, : query + 1])
        assert np.isnan(row[query + 1 :]).all()
    assert moved.taken.tolist() == [0.0] * len(moved.weights)


def test_a_source_is_there_at_every_step(translated: Trace) -> None:
    moved = movement(translated, Head(1, 0, "cross"))
    pattern = translated.pattern(1, 0, "cross")
    np.testing.assert_array_equal(moved.weights, pattern[: len(translated.tokens) - 1])
    assert len(moved.keys) == len(translated.source_tokens)
    np.testing.assert_allclose(moved.weights.sum(-1), 1, atol=1e-5)


def test_words_and_sinks_change_the_keys_and_no_step(written: Trace) -> None:
    view = View("word", Sinks("renormalise"))
    moved = movement(written, HEAD, view=view)
    pattern = written.pattern(HEAD.layer, HEAD.head)
    assert moved.keys == view.axes(written)[1]
    assert len(moved.weights) == 8
    for row, taken, query in zip(moved.weights, moved.taken, writers(written), strict=True):
        kept = pattern[query].clone()
        kept[0] = 0
        assert taken == pytest.approx(float(pattern[query, 0]))
        for value, (first, end) in zip(row, moved.keys.spans, strict=True):
            if first == 0 or first > query:
                assert np.isnan(value)
            else:
                assert value == pytest.approx(float(kept[first:end].sum() / kept.sum()), rel=1e-5)


def test_the_table_of_a_movement_has_a_row_for_each_cell(written: Trace) -> None:
    view = View("word")
    moved, table = movement(written, HEAD, view=view), movement_frame(written, HEAD, view=view)
    assert len(table) == moved.weights.size
    for row in table.sample(40, random_state=1).itertuples():
        np.testing.assert_array_equal(row.attention, moved.weights[row.step, row.key])
        assert row.token == steps(written).token[row.step]
        assert row.key_text == moved.keys.labels[row.key]


def test_shift_of_a_jump_a_rest_and_a_half_step_by_hand() -> None:
    jump = drawn([1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], given=2)
    assert math.isnan(shift(jump, Head(0, 0))[0])
    assert shift(jump, Head(0, 0))[1:] == pytest.approx([0.0, MOST_SHIFT])
    half = drawn([1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0], given=2)
    expected = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert shift(half, Head(0, 0))[1] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("run", "head"), [("written", HEAD), ("translated", Head(0, 1, "cross")), ("translated", Head(0, 0, "decoder"))]
)
def test_shift_is_the_divergence_of_successive_rows(run: str, head: Head, request: pytest.FixtureRequest) -> None:
    trace = request.getfixturevalue(run)
    rows = trace.pattern(head.layer, head.head, head.site).double()[: len(trace.tokens) - 1]
    rows = rows[trace.prompt_length - 1 :].tolist()
    found = shift(trace, head)
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([naive_shift(a, b) for a, b in pairwise(rows)], abs=1e-6)


def test_on_a_model_with_sinks_of_its_own_what_goes_to_no_key_is_a_bin() -> None:
    model = attnviz.wrap_model(tiny.sinks(), name="tiny")
    trace = model.generate(input_ids=tiny.ids(8), max_new_tokens=6)
    rows = trace.pattern(0, 1).double()[7:-1].tolist()
    assert min(map(sum, rows)) < 0.9
    expected = [naive_shift(a, b) for a, b in pairwise(rows)]
    assert shift(trace, Head(0, 1))[1:] == pytest.approx(expected, abs=1e-6)


def test_a_trace_that_was_not_generated_is_refused(smollm2: Model, translated: Trace) -> None:
    plain = smollm2.trace(PROMPT)
    for read in (writers, steps, lambda t: movement(t, HEAD), lambda t: shift(t, HEAD)):
        with pytest.raises(InputError, match=r"model\.generate"):
            read(plain)
    with pytest.raises(InputError, match="'decoder' or 'cross'"):
        movement(translated, Head(0, 0, "encoder"))
    with pytest.raises(HeadError):
        movement(translated, Head(99, 0, "cross"))
    with pytest.raises(InputError, match="no vocabulary head"):
        steps(dataclasses.replace(translated, raw_logits=None))


@pytest.mark.parametrize(("run", "head"), [("written", HEAD), ("translated", Head(1, 1, "cross"))])
def test_the_figure_draws_the_movement(run: str, head: Head, request: pytest.FixtureRequest) -> None:
    trace, view = request.getfixturevalue(run), View("word", Sinks("hide"))
    moved = movement(trace, head, view=view)
    figure = movement_map(trace, head, view=view, scale="linear")
    np.testing.assert_array_equal(np.array(figure.data[0].z, np.float32), moved.weights)
    assert f"L{head.layer}H{head.head}" in figure.layout.title.text
    assert "first token: 1 key" in figure.layout.title.subtitle.text
    assert list(figure.layout.yaxis.ticktext) == [html.escape(text) for text in steps(trace).token]


def test_a_token_in_the_figure_is_text(written: Trace) -> None:
    hostile = dataclasses.replace(written.tokens[-1], text="<img src=x onerror=alert(1)>")
    figure = movement_map(dataclasses.replace(written, tokens=(*written.tokens[:-1], hostile)), HEAD)
    assert figure.layout.yaxis.ticktext[-1].startswith("&lt;img")


def test_a_large_movement_is_pooled_and_says_so() -> None:
    model = attnviz.wrap_model(tiny.grouped(), name="tiny")
    trace = model.generate(input_ids=tiny.ids(600), max_new_tokens=5)
    figure = movement_map(trace, Head(1, 2), scale="linear")
    weights = movement(trace, Head(1, 2)).weights
    assert figure.data[0].z.shape == (5, 303)
    assert float(figure.data[0].z[4, 100]) == max(weights[4, 200:202])
    assert "largest weight of 1 × 2" in figure.layout.title.subtitle.text


def test_a_saved_generation_opens_with_its_steps(written: Trace, tmp_path: object) -> None:
    path = written.compact().save(f"{tmp_path}/run.safetensors")
    again = attnviz.load_trace(path)
    pd.testing.assert_frame_equal(steps(again), steps(written.compact()))
