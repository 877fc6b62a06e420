"""Naming heads: a planted one is named, random ones are not, and nothing is from one text or where words are few."""

from collections.abc import Callable

import numpy as np
import pytest

from attnviz import Head, Model, Trace
from attnviz.errors import InputError
from attnviz.human import Candidate, Candidates, Marked, Words, agreement, band, rank, ranking
from attnviz.human.agreement import Doubles

N_WORDS = 30
HEADS = tuple(Candidate("head", str(Head(layer, head)), layer, head) for layer in range(6) for head in range(12))
NAMES = (*HEADS, Candidate("layer", "layer 0", 0), Candidate("method", "rollout"), Candidate("baseline", "length"))
PLANTED = HEADS.index(Candidate("head", "L3H5", 3, 5))

Make = Callable[..., list[Candidates]]


@pytest.fixture(scope="module")
def make(minilm: Model) -> Make:
    trace = minilm.trace("One of the words", compact=True)
    words = Words.of(trace)

    def texts(n: int, *, planted: float = 0.0, baseline: float = 0.0, seed: int = 0) -> list[Candidates]:
        """Texts with random scores; some of them follow the marks by so much."""
        random = np.random.default_rng(seed)
        found = []
        for _ in range(n):
            human = np.zeros(N_WORDS)
            start = random.integers(0, N_WORDS - 5)
            human[start : start + 5] = 1.0
            scores: Doubles = random.normal(size=(len(NAMES), N_WORDS))
            scores[PLANTED] += planted * human
            scores[-1] += baseline * human
            found.append(Candidates(trace, "encoder", words, human, NAMES, scores, {}, {"zeroing": "no values"}))
        return found

    return texts


def test_a_planted_head_is_named_and_stands_first(make: Make) -> None:
    found = ranking(make(6, planted=6.0))
    assert found.named == (Head(3, 5),)
    assert found.frame.name[0] == "L3H5"
    assert found.held == (1, 3, 5)
    row = found.frame.iloc[0]
    assert max(row.p, row.p_found, row.p_held) <= 0.05
    assert row.auroc_low <= row.auroc <= row.auroc_high
    assert "beat chance again on the 3 held out" in found.why
    assert found.refused == {"zeroing": "no values"}


def test_random_heads_are_not_named(make: Make) -> None:
    found = ranking(make(6, seed=1))
    assert found.named == ()
    assert "none" in found.why
    assert found.frame[found.frame.kind == "head"].p.min() > 0.05


def test_a_head_that_only_wins_where_it_was_found_is_not_named(make: Make) -> None:
    texts = make(6, seed=1)
    for number, one in enumerate(make(6, planted=6.0, seed=1)):
        if number % 2 == 0:
            texts[number] = one
    found = ranking(texts)
    row = found.frame[found.frame.name == "L3H5"].iloc[0]
    assert row.p_found <= 0.05 < row.p_held
    assert found.named == ()
    assert "none did so again" in found.why


def test_a_head_below_a_baseline_is_not_named(make: Make) -> None:
    found = ranking(make(6, planted=3.0, baseline=9.0))
    row = found.frame[found.frame.name == "L3H5"].iloc[0]
    assert max(row.p_found, row.p_held) <= 0.05
    assert found.named == ()


def test_one_text_names_no_head(make: Make) -> None:
    found = ranking(make(1, planted=9.0))
    assert found.named == ()
    assert found.held == ()
    assert "one text" in found.why
    row = found.frame.iloc[0]
    assert (row.name, row.iloc[1]) == (0, "L3H5")
    assert np.isnan([row.auroc_low, row.p_found, row.p_held]).all()


def test_intervals_over_four_texts_hold_the_mean_as_often_as_they_say(minilm: Model) -> None:
    trace = minilm.trace("One of the words", compact=True)
    words, random = Words.of(trace), np.random.default_rng(3)
    names = tuple(Candidate("head", f"L0H{head}", 0, head) for head in range(2000))  # of random scores: a mean of 0.5
    human = np.repeat([1.0, 0.0], [6, 24])
    texts = [
        Candidates(trace, "encoder", words, human, names, random.normal(size=(2000, 30)), {}, {}) for _ in range(4)
    ]
    frame = ranking(texts, n=1).frame
    held = frame.auroc_low.le(0.5) & frame.auroc_high.ge(0.5)
    assert 0.93 < held.mean() < 0.97
    assert frame.auroc_low.ge(0).all()
    assert frame.auroc_high.le(1).all()
    assert frame.spearman_low.min() < 0
    assert ranking(texts[:2], n=1).frame.auroc_low.isna().all()


def test_too_few_words_for_a_small_p_are_told(make: Make) -> None:
    found = ranking(make(2, planted=9.0), level=0.01)
    assert found.named == ()
    assert "smallest p is 0.033" in found.why


def test_figures_are_means_over_texts_and_p_is_the_bands(make: Make) -> None:
    texts = make(4, planted=2.0)
    found = ranking(texts, metric="auprc", held=[0], n=500, seed=4)
    row = found.frame[found.frame.name == "L1H2"].iloc[0]
    at = HEADS.index(Candidate("head", "L1H2", 1, 2))
    own = [agreement(one.scores[at], one.human) for one in texts]
    for metric in ("spearman", "auroc", "auprc", "token_f1", "iou_f1"):
        assert row[metric] == pytest.approx(np.mean([values[metric] for values in own]))
    heads = [one.scores[: len(HEADS)] for one in texts]
    expected = band(heads, [one.human for one in texts], metric="auprc", n=500, seed=4)
    assert row.p == expected.p[at]
    alone = band([one.scores[-1:] for one in texts], [one.human for one in texts], metric="auprc", n=500, seed=4)
    assert found.frame[found.frame.name == "length"].p.item() == alone.p[0]
    assert found.frame.auprc.is_monotonic_decreasing
    assert set(found.bands) == {"head", "layer", "method"}


def test_what_a_text_lacks_is_left_out_of_all(make: Make) -> None:
    texts = make(2)
    first = texts[0]
    texts[0] = Candidates(
        first.trace, first.site, first.words, first.human, NAMES[:-2], first.scores[:-2], {}, first.refused
    )
    assert "rollout" not in set(ranking(texts).frame.name)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"held": [2]}, "numbered 0 to 1"),
        ({"held": [0, 1]}, "leave at least one"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"metric": "luck"}, "A metric is one of"),
    ],
)
def test_what_cannot_be_ranked_is_said(make: Make, options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ranking(make(2), **options)  # type: ignore[arg-type]


def test_texts_without_a_mark_or_of_other_heads_are_refused(make: Make) -> None:
    texts = make(2)
    one: Trace = texts[0].trace
    none = Candidates(one, "encoder", texts[0].words, np.zeros(N_WORDS), NAMES, texts[0].scores, {}, {})
    with pytest.raises(InputError, match="Text 1 has 0 of 30 words marked"):
        ranking([texts[0], none])
    fewer = Candidates(one, "encoder", texts[0].words, texts[0].human, NAMES[1:], texts[0].scores[1:], {}, {})
    with pytest.raises(InputError, match="different heads"):
        ranking([texts[0], fewer])
    with pytest.raises(InputError, match="no text"):
        ranking([])


def test_a_model_ranks_marked_texts_and_can_be_stopped(minilm: Model) -> None:
    texts = ("The old harbour of Genoa was rebuilt in 1992.", "A baker in Lyon sells bread to forty shops.")
    marked = [Marked.at(text, [(text.index(" in "), len(text), 1.0)], other="where and when") for text in texts]
    said: list[tuple[str, float, int]] = []
    found = rank(minilm, marked, methods=("rollout", "relevance"), report=lambda *now: said.append(now))
    assert (found.frame.kind == "head").sum() == 72
    assert found.frame.n_texts.eq(2).all()
    assert found.named == ()
    assert "smallest p" in found.why
    assert [done for _, done, _ in said] == sorted(done for _, done, _ in said)
    assert said[-1][0].startswith("Text 2 of 2")

    def stop(title: str, done: float, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank(minilm, marked, report=stop)
