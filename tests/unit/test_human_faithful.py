"""Comprehensiveness and sufficiency against single runs of texts with tokens deleted by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import tiny
import torch

from attnviz import Model, wrap_model
from attnviz.errors import InputError, ShapeError
from attnviz.human import Marked, Words, faithful
from attnviz.text import words

TEXT = "The bell rang at noon in Pisa. It rang in"
PASSAGE = (0, TEXT.index(" It"))
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
Outcome = Callable[[list[int], int], float]  # ids, and where the token that is read stands among them


@pytest.fixture(scope="module")
def classes(minilm: Model) -> Model:
    return wrap_model(tiny.bert_classes(vocab_size=30_522), minilm.tokenizer)


def marked(**options: object) -> Marked:
    start = TEXT.index("Pisa")
    return Marked.at(TEXT, [(0, 8, 1.0), (start, start + 4, 0.5)], passage=PASSAGE, **options)  # type: ignore[arg-type]


def compared(model: Model, one: Marked, outcome: Outcome) -> None:
    """Every figure of one explanation, by deleting tokens one set at a time."""
    trace = model.trace(TEXT)
    own = Words.of(trace, passage=one.passage)
    scores = np.array([0.3, 0.9, 0.9, 0.1, 0.2, 0.05, 0.6])
    assert own.labels == ("The", "bell", "rang", "at", "noon", "in", "Pisa")
    found = faithful(model, one, own, {"L0H0": scores})
    at = one.token(trace) or len(trace.input_ids) - 1
    ids = trace.input_ids[: at + 1] if model.family == "decoder" else trace.input_ids
    inside = [i for i, t in enumerate(trace.tokens) if not t.special and 0 < t.span[1] <= PASSAGE[1]]

    def run(kept: list[int]) -> float:
        return outcome([ids[i] for i in kept], sum(i < at for i in kept))

    def without(chosen: list[int]) -> float:
        gone = {i for n in chosen for i in range(*own.tokens[n])}
        return run([i for i in range(len(ids)) if i not in gone])

    def alone(chosen: list[int]) -> float:
        kept = {i for n in chosen for i in range(*own.tokens[n])}
        return run([i for i in range(len(ids)) if i not in inside or i in kept])

    clean, order = run(list(range(len(ids)))), [1, 2, 6, 0, 4, 3, 5]
    tops = [order[: math.ceil(share * 7)] for share in SHARES]
    expected = [
        [clean - without([0, 1, 6]), clean - alone([0, 1, 6]), math.nan, math.nan],
        [
            clean - without(order[:3]),
            clean - alone(order[:3]),
            float(np.mean([clean - without(top) for top in tops])),
            float(np.mean([clean - alone(top) for top in tops])),
        ],
    ]
    assert found.clean == pytest.approx(clean, abs=1e-5)
    assert (found.n_words, found.n_marked) == (7, 3)
    assert found.frame.name.tolist() == ["marked words", "L0H0", "random words"]
    np.testing.assert_allclose(found.frame.iloc[:2, 1:].to_numpy(float), expected, atol=5e-6)
    assert np.isfinite(found.frame.iloc[2, 1:].to_numpy(float)).all()


@pytest.mark.parametrize("kind", ["grouped", "bert_masked"])
def test_the_probability_of_an_answer_with_words_deleted(kind: str, minilm: Model) -> None:
    model = wrap_model(getattr(tiny, kind)(vocab_size=30_522), minilm.tokenizer)
    query = len(words(TEXT)) - 2  # "rang", and a causal model reads nothing after it
    at = marked(query=query).token(model.trace(TEXT))
    assert at is not None
    answer = int(model.trace(TEXT).predictions(at, 1).token_id[0])
    one = marked(answer=answer, query=query)

    def outcome(ids: list[int], place: int) -> float:
        return float(tiny.plain_run(model.hf_model, ids).logits[0, place].softmax(-1)[answer])

    compared(model, one, outcome)
    found = faithful(model, one, Words.of(model.trace(TEXT), passage=PASSAGE))
    assert found.unit == "probability"
    assert found.title == f"probability of {model.reader.decode(answer)!r} at position {at}"
    assert found.clean > 0.001  # far above what differences are held to


def test_the_similarity_of_an_embedding_with_words_deleted(minilm: Model) -> None:
    other = minilm.embed("Where did it ring?")

    def outcome(ids: list[int], place: int) -> float:
        states = tiny.plain_run(minilm.hf_model, ids).last_hidden_state[0].mean(0)
        return float(torch.cosine_similarity(states, other, dim=0))

    one = marked(other="Where did it ring?")
    compared(minilm, one, outcome)
    assert faithful(minilm, one, Words.of(minilm.trace(TEXT), passage=PASSAGE)).unit == "cosine"


def test_a_class_with_words_deleted(classes: Model) -> None:
    def outcome(ids: list[int], place: int) -> float:
        return float(tiny.plain_run(classes.hf_model, ids).logits[0].softmax(-1)[2])

    compared(classes, marked(answer=2), outcome)


def test_the_likeliest_class_is_the_default(classes: Model) -> None:
    found = faithful(classes, marked(), Words.of(classes.trace(TEXT), passage=PASSAGE))
    assert found.clean == pytest.approx(float(classes.trace(TEXT).class_logits.softmax(-1).max()), abs=1e-6)  # type: ignore[union-attr]


def test_the_word_that_is_read_stays(minilm: Model) -> None:
    model = wrap_model(tiny.grouped(vocab_size=30_522), minilm.tokenizer)
    own = Words.of(model.trace(TEXT))
    last = len(words(TEXT)) - 1
    found = faithful(model, Marked(TEXT, {0: 1.0, last: 1.0}, query=last), own)
    assert (found.n_words, found.n_marked) == (len(own) - 1, 1)
    with pytest.raises(InputError, match="None of the marked words"):
        faithful(model, Marked(TEXT, {last: 1.0}, query=last), own)


def test_random_words_repeat_by_seed(minilm: Model) -> None:
    own, one = Words.of(minilm.trace(TEXT), passage=PASSAGE), marked(other="noon")
    first, again = (faithful(minilm, one, own, seed=2, n_random=2).frame for _ in range(2))
    np.testing.assert_array_equal(first.iloc[:, 1:], again.iloc[:, 1:])


def test_without_shares_there_is_no_mean_and_the_rest_is_as_before(minilm: Model) -> None:
    own, one = Words.of(minilm.trace(TEXT), passage=PASSAGE), marked(other="noon")
    scores = {"L0H0": np.arange(7.0)}
    runs: list[int] = []
    few = faithful(minilm, one, own, scores, shares=(), progress=lambda done, total: runs.append(total))
    many = faithful(minilm, one, own, scores)
    np.testing.assert_allclose(few.frame.iloc[:, 1:3], many.frame.iloc[:, 1:3], atol=5e-6)
    assert few.frame.iloc[:, 3:].isna().all(axis=None)
    assert max(runs) <= 14  # seven choices of words, without and alone


def test_what_cannot_be_measured_is_said(minilm: Model) -> None:
    own, one = Words.of(minilm.trace(TEXT), passage=PASSAGE), marked(other="noon")
    with pytest.raises(ShapeError, match="each of 7 words"):
        faithful(minilm, one, own, {"L0H0": [1.0, 2.0]})
    with pytest.raises(InputError, match="second text"):
        faithful(minilm, marked(), own)
    with pytest.raises(InputError, match="shares"):
        faithful(minilm, one, own, shares=(0.0,))
    with pytest.raises(InputError, match="n_random"):
        faithful(minilm, one, own, n_random=0)
    with pytest.raises(ShapeError, match="another text"):
        faithful(minilm, Marked("Noon.", {0: 1.0}, other="noon"), own)


def test_measuring_can_be_stopped(minilm: Model) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        faithful(minilm, marked(other="noon"), Words.of(minilm.trace(TEXT), passage=PASSAGE), progress=stop)
