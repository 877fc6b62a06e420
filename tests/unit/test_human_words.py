"""Words of a run and what heads pay them, against sums over whole patterns; and the baselines by hand."""

from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Model, Sinks, Trace, wrap_model
from attnviz.errors import InputError
from attnviz.human import BASELINES, Marked, Words, agreement, baselines, candidates, word_scores
from attnviz.human.baselines import languages, rarity, surprisal
from attnviz.human.candidates import _level
from attnviz.human.words import characters, query_token
from attnviz.text import words

WORDS = ("the", "old", "man", "saw", "a", "red", "door", "and", "then", "a", "small", "dog")  # one token each
TEXT = "Mary's unbelievable story, told in Oslo, pleased everybody."


@pytest.fixture(scope="module")
def told(smollm2: Model) -> Trace:
    return smollm2.trace(TEXT)


@pytest.fixture(scope="module")
def embedded(minilm: Model) -> Trace:
    return minilm.trace(TEXT)


def naive(trace: Trace, query: int | None, sinks: Sinks) -> np.ndarray:
    """[layer, head, word] from whole patterns, a loop for each step."""
    queries, keys = (attnviz.View("word").axes(trace)[side] for side in (0, 1))
    own = Words.of(trace, query=query, sinks=sinks)
    gone = sinks.of(trace.tokens, trace.text)
    out = []
    for layer in trace.layers():
        pattern, seen = trace.pattern(layer).double(), trace.layer(layer).visible()[0]
        if sinks.active:
            pattern = pattern.masked_fill(gone, 0)
            pattern = pattern / pattern.sum(-1, keepdim=True).clamp(min=1e-30)
        rows = []
        for a, b in (keys.spans[unit] for unit in own.units):
            paid = [pattern[:, c:d, a:b].sum(-1).mean(-1) for c, d in queries.spans]
            see = [bool(seen[..., c:d, a:b].any()) for c, d in queries.spans]
            received = sum(paid) / sum(see)
            rows.append(received if query is None else paid[queries.at(query % queries.n_tokens)])
        out.append(torch.stack(rows, -1))
    return torch.stack(out).numpy()


@pytest.mark.parametrize("which", ["told", "embedded"])
@pytest.mark.parametrize("query", [None, 7, -2])
@pytest.mark.parametrize("sinks", [Sinks(), Sinks("renormalise", ("first", "special"))], ids=["shown", "taken away"])
def test_word_scores_are_sums_of_whole_patterns(
    which: str, query: int | None, sinks: Sinks, request: pytest.FixtureRequest
) -> None:
    trace = request.getfixturevalue(which)
    found = word_scores(trace, query=query, sinks=sinks)
    np.testing.assert_allclose(found, naive(trace, query, sinks), atol=1e-5)


@pytest.mark.parametrize("name", ["windowed", "sinks", "grouped"])
def test_received_attention_is_divided_by_the_queries_that_can_see_the_word(name: str) -> None:
    trace = wrap_model(tiny.EXACT[name]()).trace(input_ids=tiny.ids())
    np.testing.assert_allclose(word_scores(trace), naive(trace, None, Sinks()), atol=1e-6)


def test_words_are_what_a_person_marks(told: Trace, embedded: Trace) -> None:
    expected = ("Mary's", "unbelievable", "story", "told", "in", "Oslo", "pleased", "everybody")
    for trace in (told, embedded):
        found = Words.of(trace)
        assert found.labels == expected
        assert [words(TEXT)[numbers[0]] for numbers in found.covers] == list(found.spans)
        assert tuple(TEXT[a:b] for a, b in found.spans) == expected
        pieces = ["".join(TEXT[slice(*trace.tokens[i].span)] for i in range(a, b)).strip() for a, b in found.tokens]
        assert tuple(pieces) == expected


def test_words_behind_the_query_are_left_out_where_they_cannot_be_seen(told: Trace, embedded: Trace) -> None:
    for trace, count in ((told, 6), (embedded, 8)):
        at = query_token(trace, words(TEXT).index((TEXT.index("Oslo"), TEXT.index("Oslo") + 4)))
        assert len(Words.of(trace, query=at)) == count


def test_a_passage_and_sinks_leave_the_other_words(told: Trace) -> None:
    assert Words.of(told, passage=(TEXT.index("story"), TEXT.index("pleased"))).labels == (
        "story",
        "told",
        "in",
        "Oslo",
    )
    assert Words.of(told, sinks=Sinks("hide", tokens=tuple(range(5)))).labels[0] != "Mary's"
    with pytest.raises(InputError, match="No word is left"):
        Words.of(told, passage=(0, 2))


def test_marks_go_by_the_number_of_the_word_whatever_the_tokens(told: Trace, embedded: Trace) -> None:
    marks = characters(TEXT, [(9, 12, 0.4), (10, 25, 0.8)])
    assert sorted(marks.values()) == [0.8, 0.8]
    for trace in (told, embedded):
        np.testing.assert_array_equal(Words.of(trace).weights(marks), [0, 0.8, 0.8, 0, 0, 0, 0, 0])


def test_a_token_of_several_words_takes_the_strongest_of_their_marks() -> None:
    trace = wrap_model(tiny.grouped()).trace(input_ids=[5, 17, 8])  # whose text is "#5 #17 #8"
    found = Words.of(trace)
    assert found.labels == ("#5", "#17", "#8")
    assert found.covers == ((0, 1), (2, 3), (4, 5))
    np.testing.assert_array_equal(found.weights({3: 0.6, 2: 0.2, 5: 1.0}), [0.0, 0.6, 1.0])


@pytest.mark.parametrize(
    "given",
    [
        {"marks": {40: 1.0}},
        {"marks": {0: 1.5}},
        {"marks": {0: True}},
        {"marks": {}, "query": -1},
        {"marks": {}, "passage": (5, 5)},
    ],
)
def test_marks_that_there_are_not_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Marked(TEXT, **given)


def test_a_decoders_surprisal_is_its_tokens_negative_log_probabilities(smollm2: Model, told: Trace) -> None:
    own = Words.of(told)
    found = surprisal(smollm2, told, own)
    assert found is not None
    logits = told.logits
    assert logits is not None
    nats = -logits.float().log_softmax(-1)
    expected = [sum(float(nats[i - 1, told.input_ids[i]]) if i else np.nan for i in range(a, b)) for a, b in own.tokens]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.isnan(found[0])  # nothing comes before the first word
    assert np.isfinite(found[1:]).all()


def test_a_masked_encoders_surprisal_masks_one_token_at_a_time(minilm: Model) -> None:
    model = wrap_model(tiny.bert_masked(vocab_size=30_522), minilm.tokenizer)
    trace = model.trace("A short tale, well told.")
    own = Words.of(trace)
    found = surprisal(model, trace, own)
    assert found is not None
    expected = np.zeros(len(own))
    for word, (a, b) in enumerate(own.tokens):
        for i in range(a, b):
            ids = [*trace.input_ids[:i], model.mask_id, *trace.input_ids[i + 1 :]]
            logits = tiny.plain_run(model.hf_model, ids).logits[0, i]  # type: ignore[arg-type]
            expected[word] -= float(logits.log_softmax(-1)[trace.input_ids[i]])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_baselines_are_finite_and_those_that_there_are(smollm2: Model, minilm: Model, told: Trace) -> None:
    own = Words.of(told)
    found = baselines(smollm2, told, own)
    assert tuple(found) == tuple(BASELINES)
    assert all(np.isfinite(values).all() and values.shape == (len(own),) for values in found.values())
    assert found["length"].tolist() == [5, 12, 5, 4, 2, 4, 7, 9]
    assert found["surprisal"][0] == np.median(found["surprisal"][1:])
    assert found["early"].tolist() == (-found["late"]).tolist()
    other = minilm.trace(TEXT)
    assert tuple(baselines(minilm, other, Words.of(other), language="xx")) == ("length", "late", "early")


def test_rarity_counts_powers_of_ten_and_unknown_words_are_the_rarest(smollm2: Model) -> None:
    text = "The xqzzvk house is 你"
    own = Words.of(smollm2.trace(text))
    found = dict(zip(own.labels, rarity(own, text), strict=True))
    assert found["The"] < found["house"] < found["xqzzvk"] == 0.0
    assert found["The"] == pytest.approx(-7.7, abs=0.2)
    assert rarity(own, text, "zh")[-1] < -6
    assert {"de", "en", "zh"} <= languages()
    with pytest.raises(InputError, match="word frequencies"):
        rarity(own, text, "xx")


def test_candidates_are_every_head_layer_method_and_baseline(minilm: Model) -> None:
    marked = Marked.at(TEXT, [(TEXT.index("Oslo"), TEXT.index("Oslo") + 4, 1.0)], other="A city in Norway")
    stages: list[float] = []
    found = candidates(minilm, marked, report=lambda title, done, total: stages.append(done / total))
    kinds = [one.kind for one in found.names]
    assert [kinds.count(kind) for kind in ("head", "layer", "method", "baseline")] == [72, 6, 10, 4]
    paid = word_scores(found.trace)
    at = [one.name for one in found.names]
    np.testing.assert_array_equal(found.scores[at.index("L4H7")], paid[4, 7])
    np.testing.assert_allclose(found.scores[at.index("layer 2")], paid[2].mean(0))
    frame = found.frame()
    row = frame[frame.name == "L4H7"].iloc[0]
    assert row.auroc == agreement(paid[4, 7], found.human)["auroc"]
    assert not found.refused
    assert not found.lost
    assert stages == sorted(stages)


def test_differences_of_rounding_alone_are_no_ranking() -> None:
    found = _level(np.array([[0.1, 0.1 + 1e-9, 0.1 - 1e-9], [1e-9, 3e-9, 2e-9], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(found, [[0.1, 0.1, 0.1], [1e-9, 3e-9, 2e-9], [0.0, 0.0, 0.0]])


def test_a_gradient_without_an_outcome_is_refused_and_the_rest_stays(minilm: Model) -> None:
    marked = Marked(TEXT, {2: 1.0, 3: 1.0}, passage=(TEXT.index("story"), len(TEXT)))
    found = candidates(minilm, marked, methods=("rollout", "relevance"))
    assert set(found.refused) == {"relevance"}
    assert "second text" in found.refused["relevance"]
    assert [one.name for one in found.names if one.kind == "method"] == ["rollout"]
    assert set(found.lost) == {n for n in (2, 3) if words(TEXT)[n][0] < TEXT.index("story") or n == 3}
    with pytest.raises(InputError, match="A method is one of"):
        candidates(minilm, marked, methods=("magic",))


@pytest.mark.parametrize("n_words", [8, 9, 12])
def test_even_attention_ranks_no_word_by_its_noise(minilm: Model, n_words: int) -> None:
    plain = tiny.bert(vocab_size=30_522, num_attention_heads=12, hidden_size=48)
    for layer in plain.encoder.layer:
        torch.nn.init.zeros_(layer.attention.self.query.weight)
        torch.nn.init.zeros_(layer.attention.self.query.bias)
    model = wrap_model(plain, minilm.tokenizer)
    text = " ".join(WORDS[:n_words])
    frame = candidates(model, Marked(text, {2: 1.0, 3: 0.5}), methods=("rollout", "last")).frame()
    even = frame[frame.kind.isin(["head", "layer", "method"])]
    assert {"L0H11", "layer 1", "rollout"} <= set(even.name)
    assert even.auroc.tolist() == [0.5] * len(even)
    assert even.spearman.isna().all()
