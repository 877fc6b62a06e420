"""Random tokens given twice: patterns made by hand, loops over single numbers, and what real models are known for."""

import dataclasses
import math

import numpy as np
import pytest
import tiny
import torch
from hand_made import trace_of

import attnviz
from attnviz import Model, Sinks, Trace, flow
from attnviz.errors import Cancelled, ContextError, InputError
from attnviz.heads import PROBES, Probed, copy_scores, induction, position_only
from attnviz.heads.induction import random_texts, repeats
from attnviz.trace import Stored
from benchmarks import tiny as architectures

ONCE = [11, 12, 13, 14]


def told_twice(pattern: torch.Tensor) -> Trace:
    """A trace of one layer and one head over `ONCE` twice."""
    trace = trace_of(Stored(pattern.expand(1, 4, *pattern.shape)))
    tokens = [dataclasses.replace(trace.tokens[0], id=i, word=None) for i in ONCE * 2]
    return dataclasses.replace(trace, tokens=tuple(tokens))


def shifted(by: int, causal: bool) -> torch.Tensor:
    """[query, key]: each query reads the key so many places from it, itself where there is none."""
    n = 2 * len(ONCE)
    out = torch.zeros(n, n)
    for query in range(n):
        key = query + by
        out[query, key if 0 <= key <= (query if causal else n - 1) else query] = 1
    return out


def rested(pattern: torch.Tensor) -> torch.Tensor:
    """Half of every row on the first token, and a little everywhere it can see, so that it is seen."""
    rest = torch.zeros_like(pattern)
    rest[:, 0] = 1
    seen = torch.ones_like(pattern).tril()
    return 0.5 * rest + 0.49 * pattern + 0.01 * seen / seen.sum(-1, keepdim=True)


def scored(pattern: torch.Tensor) -> dict[str, np.ndarray]:
    """name -> [variant, head]."""
    found = repeats(told_twice(pattern))
    return {name: found.values[:, i, 0] for i, name in enumerate(found.names)}


def test_attention_to_the_token_after_the_earlier_copy_is_induction() -> None:
    found = scored(rested(shifted(1 - len(ONCE), causal=True)))
    assert found["induction"][1] == pytest.approx([1] * 4, abs=0.02)
    assert found["induction"][0] == pytest.approx([0.5] * 4, abs=0.02)
    assert found["duplicate"][1] == pytest.approx([0] * 4, abs=0.02)
    copied = scored(rested(shifted(-len(ONCE), causal=True)))
    assert copied["duplicate"][1] == pytest.approx([1] * 4, abs=0.02)
    assert copied["induction"][1].max() < 0.1, "one row rests on the sink alone, and what is left of it is even"


def test_a_previous_token_is_no_induction() -> None:
    found = scored(rested(shifted(-1, causal=True)))
    assert found["induction"][1] == pytest.approx([0] * 4, abs=0.02)
    assert found["previous"][1] == pytest.approx([1] * 4, abs=0.02)


def test_even_attention_scores_the_chance_level_counted_by_hand() -> None:
    n = 2 * len(ONCE)
    seen = torch.ones(n, n).tril()
    even = told_twice(seen / seen.sum(-1, keepdim=True))
    found = repeats(even)
    second = range(len(ONCE), n)  # rows of the second copy, each with one key to find
    by_hand = [sum(1 / (row + 1 - variant) for row in second) / len(ONCE) for variant in range(2)]
    for name in ("induction", "duplicate"):
        at = found.names.index(name)
        # The row of the token that stands first finds its copy at the sink, which is gone in the second variant.
        known = by_hand[1] if name == "induction" else sum(1 / row for row in second[1:]) / (len(ONCE) - 1)
        assert found.chance[:, at, 0].tolist() == pytest.approx([by_hand[0], known]), name
        np.testing.assert_allclose(found.values[:, at, 0], [[by_hand[0]] * 4, [known] * 4], atol=1e-6)
    np.testing.assert_allclose(position_only([even, even, even]), 1, atol=1e-6)


def test_random_texts_are_given_twice_between_the_models_own_marks(minilm: Model, smollm2: Model) -> None:
    for model, marks in ((minilm, 1), (smollm2, 0)):
        first, second = random_texts(model, length=6, samples=2, seed=3)
        assert len(first) == 12 + 2 * marks
        once = first[marks : marks + 6]
        assert first[marks + 6 : marks + 12] == once
        assert len(set(once)) == 6
        assert first != second
        assert not {token.id for token in model.reader.encode_ids(once).tokens if token.special}
        assert random_texts(model, length=6, samples=2, seed=3) == [first, second]
    assert [first[0] for first in random_texts(minilm, length=6, samples=2, seed=3)] == [101] * 2


@pytest.fixture(scope="module")
def small(smollm2: Model) -> Probed:
    return induction(smollm2, length=16, samples=3)


def test_a_small_language_model_has_induction_heads(small: Probed) -> None:
    mean = small.scores["induction"].mean(0)
    assert mean.shape == (2, 30, 9)
    assert mean[0].max() > 0.7, "and chance is"
    assert small.chance["induction"].max() < 0.06
    # They come after heads that look at the token before, as the mechanism needs.
    layer, _ = np.unravel_index(mean[1].argmax(), mean[1].shape)
    previous = small.scores["previous"].mean(0)[1]
    assert previous[:layer].max() > 0.7
    assert mean[1, : int(np.argmax(previous.max(1) > 0.7))].max(initial=0) < 0.3


def test_every_score_is_in_its_range(small: Probed) -> None:
    assert tuple(small.scores) == tuple(small.chance) == PROBES
    assert small.reason == ""
    for name, score in small.scores.items():
        assert score.shape == (3, 2, 30, 9), name
        assert np.isfinite(score).all(), name
        low = -1 if name == "copy" else 0
        assert low - 1e-5 <= score.min() <= score.max() <= 1 + 1e-5, name
    np.testing.assert_array_equal(small.scores["copy"][:, 0], small.scores["copy"][:, 1])
    assert small.scores["copy"].mean(0).max() > 0.2


def test_induction_equals_a_naive_loop(smollm2: Model, small: Probed) -> None:
    ids = random_texts(smollm2, length=16, samples=3, seed=0)[1]
    trace = smollm2.trace(input_ids=ids)
    for layer, head in ((17, 4), (18, 6), (3, 2)):
        pattern = trace.pattern(layer, head).tolist()
        rows = [pattern[i][j + 1] for i in range(32) for j in range(i) if ids[j] == ids[i]]
        assert len(rows) == 16
        assert small.scores["induction"][1, 0, layer, head] == pytest.approx(sum(rows) / 16, abs=1e-5)
        rows = [pattern[i][j + 1] / (1 - pattern[i][0]) for i in range(32) for j in range(i) if ids[j] == ids[i]]
        assert small.scores["induction"][1, 1, layer, head] == pytest.approx(sum(rows) / 16, abs=1e-4)


def test_copy_scores_equal_a_naive_loop(smollm2: Model) -> None:
    ids = [*(101, 2020, 33, 4747, 909), *(33, 101)]
    run = flow.take_apart(smollm2, input_ids=ids)
    found = copy_scores(run, smollm2)
    llama, names = smollm2.hf_model.model, sorted(set(ids))
    towards = smollm2.hf_model.lm_head.weight[names].detach() * llama.norm.weight.detach()
    for layer, head in ((23, 2), (0, 4), (29, 8)):
        values = run.trace.attention["decoder"][layer].value[0, head // 3]  # 9 query heads share 3 of keys and values
        projection = llama.layers[layer].self_attn.o_proj.weight[:, 64 * head : 64 * (head + 1)].detach()
        scores = []
        for place, number in enumerate(ids):
            logits = [float(towards[n] @ (projection @ values[place])) for n in range(len(names))]
            centred = [logit - sum(logits) / len(logits) for logit in logits]
            scores.append(centred[names.index(number)] / sum(c for c in centred if c > 0))
        assert found[layer, head] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_that_writes_what_it_reads_copies(sign: int) -> None:
    hf_model = tiny.grouped(num_hidden_layers=1, num_key_value_heads=4, vocab_size=32, tie_word_embeddings=False)
    attention = hf_model.model.layers[0].self_attn
    with torch.no_grad():
        hf_model.model.embed_tokens.weight.copy_(torch.eye(32))
        hf_model.lm_head.weight.copy_(torch.eye(32))
        attention.v_proj.weight.copy_(torch.eye(32))
        attention.o_proj.weight.copy_(2 * sign * torch.eye(32))
    model = attnviz.wrap_model(hf_model)
    run = flow.take_apart(model, input_ids=[3, 9, 17, 30])  # one token in each head's eight numbers
    found = copy_scores(run, model)[0]
    assert found == pytest.approx([sign * 0.25] * 4, abs=1e-5), "each head carries one of the four tokens"


def test_a_head_that_writes_the_very_token_it_reads_scores_one() -> None:
    hf_model = tiny.grouped(
        num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, vocab_size=32, tie_word_embeddings=False
    )
    attention = hf_model.model.layers[0].self_attn
    names = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[0]  # [token, d_model]
    with torch.no_grad():
        hf_model.model.embed_tokens.weight.copy_(torch.eye(32))
        hf_model.lm_head.weight.copy_(names)
        attention.v_proj.weight.copy_(torch.eye(32))
        attention.o_proj.weight.copy_(names.T)  # a token's own direction in the unembedding, at right angles to others'
    model = attnviz.wrap_model(hf_model)
    run = flow.take_apart(model, input_ids=[3, 9, 17, 30, 9])
    assert copy_scores(run, model) == pytest.approx(np.ones((1, 1)), abs=1e-5)


def test_an_encoder_looks_both_ways_and_copies_nothing(minilm: Model) -> None:
    found = induction(minilm, length=10, samples=2)
    assert found.site == "encoder"
    assert np.isnan(found.scores["copy"]).all()
    assert "vocabulary" in found.reason
    ids = random_texts(minilm, length=10, samples=2, seed=0)[0]
    pattern = minilm.trace(input_ids=ids).pattern(2, 9).tolist()
    places = range(1, 21)
    rows = [pattern[i][j + 1] for i in places for j in places if i != j and ids[i] == ids[j] and j + 1 in places]
    assert len(rows) == 19, "the last token of the first copy has only the end mark behind its other copy"
    assert found.scores["induction"][0, 0, 2, 9] == pytest.approx(sum(rows) / 19, abs=1e-5)


@pytest.mark.parametrize(
    ("mapping", "kind", "site"),
    [("masked", "bert", "encoder"), ("seq2seq", "t5", "encoder"), ("causal", "gpt2", "decoder")],
)
def test_other_kinds_of_model_are_probed_too(mapping: str, kind: str, site: str) -> None:
    model = attnviz.wrap_model(architectures.build(mapping, kind))
    found = induction(model, length=5, samples=2)
    assert found.site == site
    assert np.isfinite(found.scores["induction"]).all()
    assert bool(found.reason) == (kind != "gpt2")
    assert np.isfinite(found.scores["copy"]).all() == (kind == "gpt2")


def test_a_window_too_short_for_the_copy_sees_no_induction() -> None:
    found = induction(attnviz.wrap_model(tiny.windowed()), length=8, samples=2)
    assert np.isnan(found.scores["induction"]).all()
    assert np.isnan(found.chance["induction"]).all()
    assert np.isfinite(found.scores["previous"]).all()


def test_edits_hold_while_probing(smollm2: Model) -> None:
    plain = induction(smollm2, length=8, samples=1)
    edited = induction(
        smollm2, length=8, samples=1, edits=[attnviz.edits.ZeroHeads([attnviz.Head(0, head) for head in range(9)])]
    )
    assert np.isnan(plain.scores["position"]).all(), "one sample has no other to be like"
    np.testing.assert_allclose(plain.scores["previous"][0, 0, 0], edited.scores["previous"][0, 0, 0], atol=1e-6)
    assert np.abs(plain.scores["previous"] - edited.scores["previous"]).max() > 0.05


def test_it_can_be_stopped_and_refuses_what_cannot_be(smollm2: Model, minilm: Model) -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled(f"{done} of {total}")

    with pytest.raises(Cancelled, match="0 of 8"):
        induction(smollm2, progress=stop)
    for wrong in ({"length": 1}, {"samples": 0}, {"length": 10**6}):
        with pytest.raises(InputError):
            induction(smollm2, **wrong)
    with pytest.raises(ContextError):
        induction(minilm, length=400, samples=1)


def patterns(*rows: torch.Tensor) -> list[Trace]:
    return [told_twice(one) for one in rows]


def test_a_head_that_looks_at_places_alone_scores_one() -> None:
    same = rested(shifted(-1, causal=True))
    found = position_only(patterns(same, same, same))
    assert found.shape == (3, 2, 1, 4)
    np.testing.assert_allclose(found, np.ones_like(found), atol=1e-5)


def test_a_head_that_never_looks_at_the_same_place_scores_zero() -> None:
    # Rows that see one key alone do not count; here all see two of six.
    one, two = torch.zeros(8, 8), torch.zeros(8, 8)
    one[:, 1], two[:, 2] = 1, 1
    found = position_only(patterns(one, two))
    np.testing.assert_allclose(found, np.zeros_like(found), atol=1e-6)


def half(share: float, both: float) -> float:
    """One key's part of one side of a Jensen-Shannon divergence, in nats."""
    return share / 2 * math.log(2 * share / both) if share > 0 else 0.0


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_position_equals_a_naive_loop(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    traces = [model.trace(input_ids=ids) for ids in random_texts(model, length=5, samples=3, seed=1)]
    found, causal = position_only(traces), name == "smollm2"
    chosen = ((18, 6, 0), (18, 6, 1), (0, 1, 1), (9, 4, 0)) if causal else ((0, 3, 0), (2, 9, 1), (5, 0, 0))
    for layer, head, variant in chosen:
        rows = [trace.pattern(layer, head).double() for trace in traces]
        if variant:
            first = 2 if causal else 0  # row 1 of a causal text has one key left
            rows = [one[first:, 1:] / one[first:, 1:].sum(-1, keepdim=True) for one in rows]
        for text, mine in enumerate(rows):
            others = sum(one for i, one in enumerate(rows) if i != text) / 2
            scores = []
            for p, q in zip(mine.tolist(), others.tolist(), strict=True):
                js = sum(half(a, a + b) + half(b, a + b) for a, b in zip(p, q, strict=True))
                scores.append(1 - js / math.log(2))
            scores = scores[1:] if causal and not variant else scores
            assert found[text, variant, layer, head] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


def test_position_needs_texts_of_one_length(smollm2: Model) -> None:
    short, long = smollm2.trace(input_ids=[5, 6, 7]), smollm2.trace(input_ids=[5, 6, 7, 8])
    with pytest.raises(InputError, match="2 texts"):
        position_only([short])
    with pytest.raises(InputError, match="one length"):
        position_only([short, long])
    assert np.isnan(position_only([short, short], sinks=Sinks(kinds=(), tokens=(0, 1, 2)))[:, 1]).all()
