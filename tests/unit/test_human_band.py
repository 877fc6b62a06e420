"""The band of the best head: its rate by simulation, its numbers by plain loops, and where it can say nothing."""

from itertools import product

import numpy as np
import pytest

from attnviz.errors import InputError, ShapeError
from attnviz.human import agreements, band
from attnviz.human.agreement import Metric

N_HEADS = 270


def rejections(metric: Metric, n_texts: int, n_words: int, n: int) -> int:
    """How often the best of 270 random heads comes to p <= 0.05, in 200 studies."""
    random = np.random.default_rng(5)
    count = 0
    for study in range(200):
        scores = random.normal(size=(n_texts, N_HEADS, n_words))
        weights = random.random((n_texts, n_words)) * (random.random((n_texts, n_words)) < 0.4)
        weights[:, 0], weights[:, 1] = 0.0, 1.0
        count += band(list(scores), list(weights), metric=metric, n=n, seed=study).p_best <= 0.05
    return count


def test_the_best_of_270_random_heads_passes_at_the_nominal_rate() -> None:
    # 10 of 200 are expected; outside 3 to 19 lies less than 1 in 100 of a binomial with 0.05.
    assert 3 <= rejections("spearman", n_texts=1, n_words=40, n=1000) <= 19


def test_the_rate_holds_over_several_texts() -> None:
    assert 3 <= rejections("spearman", n_texts=3, n_words=12, n=99) <= 19


def test_a_metric_with_few_values_passes_no_more_often() -> None:
    assert rejections("auroc", n_texts=1, n_words=40, n=1000) <= 19


def test_without_the_maximum_nearly_every_study_would_find_a_head() -> None:
    random = np.random.default_rng(6)
    scores, weights = random.normal(size=(N_HEADS, 40)), np.zeros(40)
    weights[3:8] = 1.0
    alone = [band(scores[[i]], weights, n=1000).p[0] for i in range(N_HEADS)]
    assert min(alone) <= 0.05
    assert (band(scores, weights, n=1000).p >= np.array(alone) - 1e-12).all()


def test_all_moves_of_one_text_by_hand() -> None:
    random = np.random.default_rng(7)
    scores, weights = random.normal(size=(4, 9)), np.array([0, 0, 1, 1, 0, 0, 0.5, 0, 0])
    found = band(scores, weights, metric="auprc")
    own = agreements(scores, weights)["auprc"].to_numpy()
    maxima = np.array([agreements(scores, np.roll(weights, k))["auprc"].max() for k in range(1, 9)])
    np.testing.assert_allclose(found.observed, own)
    np.testing.assert_allclose(np.sort(found.maxima), np.sort(maxima))
    np.testing.assert_allclose(found.p, [(1 + (maxima >= one - 1e-12).sum()) / 9 for one in own])
    assert found.complete
    assert found.best == own.argmax()
    assert found.least_p == pytest.approx(1 / 9)
    np.testing.assert_allclose(found.quantiles([0.5]), np.median(maxima))


def test_several_texts_move_each_for_itself() -> None:
    random = np.random.default_rng(8)
    scores = [random.normal(size=(3, n)) for n in (4, 5)]
    weights = [np.array([1.0, 0, 0, 0]), np.array([0, 1.0, 1.0, 0, 0])]
    found = band(scores, weights, metric="token_f1")
    tables = [
        [agreements(s, np.roll(w, k))["token_f1"].to_numpy() for k in range(len(w))]
        for s, w in zip(scores, weights, strict=True)
    ]
    maxima = [((tables[0][i] + tables[1][j]) / 2).max() for i, j in product(range(4), range(5)) if (i, j) != (0, 0)]
    np.testing.assert_allclose(np.sort(found.maxima), np.sort(maxima))
    assert len(found.maxima) == 19


def test_draws_leave_the_marks_where_they_are_in_no_case_and_repeat_by_seed() -> None:
    scores, weights = [np.eye(3)[:1]] * 3, [np.array([1.0, 0, 0])] * 3
    found = band(scores, weights, n=20, seed=3)
    assert not found.complete
    assert found.maxima.max() < 1.0  # only the marks in place agree with the head in every text
    assert found.p[0] == pytest.approx(1 / 21)
    np.testing.assert_array_equal(found.maxima, band(scores, weights, n=20, seed=3).maxima)


def test_a_head_without_a_number_is_passed_over() -> None:
    scores, weights = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 3.0, 1.0, 2.0]]), np.array([0, 1.0, 0, 0])
    found = band(scores, weights, metric="spearman")
    assert np.isnan(found.p[0])
    assert found.best == 1
    assert np.isfinite(found.maxima).all()
    nothing = band(scores, np.zeros(4))
    assert nothing.best is None
    assert np.isnan([nothing.p_best, *nothing.quantiles()]).all()


def test_few_words_can_give_no_small_p() -> None:
    found = band(np.arange(8.0)[None], np.array([0, 0, 0, 0, 0, 0, 0, 1.0]))
    assert found.p[0] == found.least_p == 1 / 8


def test_what_cannot_be_moved_is_said() -> None:
    with pytest.raises(InputError, match="single word"):
        band([[1.0]], [1.0])
    with pytest.raises(ShapeError, match="same heads"):
        band([np.ones((2, 3)), np.ones((3, 3))], [np.eye(3)[0]] * 2)
    with pytest.raises(ShapeError, match="same texts"):
        band([np.ones((2, 3))], [np.eye(3)[0]] * 2)
    with pytest.raises(InputError, match="counts draws"):
        band(np.ones((2, 3)), np.eye(3)[0], n=0)
