"""Heads that changed: the level holds where nothing did, and what changed is found."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from attnviz import errors
from attnviz.corpus import Choice, Comparison, Result, benjamini_hochberg, compare, compare_paired
from attnviz.corpus.changes import LEAST_TEXTS
from attnviz.corpus.shuffling import shuffled
from attnviz.heads.detectors import DETECTORS

SHAPE = (2, len(DETECTORS), 30, 9)
PREVIOUS = Choice("previous", "with sink")


def results(heads: np.ndarray, first: int = 0) -> list[Result]:
    """Results whose "previous" with the sink is [text, layer, head], and all else missing."""
    found = []
    for i, one in enumerate(heads):
        values = np.full((2, len(DETECTORS), *one.shape), np.nan, np.float32)
        values[0, 0] = one
        found.append(Result(first + i, "", values, np.zeros(values.shape[:3], np.float32)))
    return found


def skewed(n: int, seed: int) -> np.ndarray:
    """Values of 270 heads as they are: near 0 or 1 for many heads, and heads of one text go together."""
    random = np.random.default_rng(seed)
    middle = np.linspace(0.03, 0.97, 270).reshape(30, 9)
    shared = random.normal(0, 0.3, (n, 1, 1))
    return 1 / (1 + np.exp(-(np.log(middle / (1 - middle)) + shared + random.normal(0, 1, (n, 30, 9)))))


def heavy(n: int, seed: int) -> np.ndarray:
    """Values that are 0 in most texts, as those of heads that wait for one word; they go together within a text."""
    random = np.random.default_rng(seed)
    there = random.random((n, 1, 1)) < 0.15
    values = there * random.beta(0.6, 2, (n, 30, 9)) + 0.01 * random.random((n, 30, 9))
    return np.where(random.random((n, 1, 1)) < 0.1, np.nan, values)


def test_two_corpora_are_welchs_test_and_dealing_anew() -> None:
    one, other = skewed(40, 1), skewed(25, 2)
    one[:5, 0, 0] = np.nan
    found = compare(results(one), results(other), PREVIOUS)
    expected = stats.ttest_ind(other, one, equal_var=False, nan_policy="omit")
    passing = expected.pvalue <= 0.1
    assert (found.p[0, 0] >= expected.pvalue * (1 - 1e-4)).all()
    np.testing.assert_allclose(found.p[0, 0][~passing], expected.pvalue[~passing], rtol=1e-4)
    again = shuffled(one[:, passing], other[:, passing], among=270)
    np.testing.assert_allclose(found.p[0, 0][passing], np.maximum(again, expected.pvalue[passing]), rtol=0.01)
    interval = expected.confidence_interval()
    np.testing.assert_allclose(found.interval()[0][0, 0], interval.low, atol=1e-6)
    np.testing.assert_allclose(found.interval()[1][0, 0], interval.high, atol=1e-6)
    assert found.n == (40, 25)


def test_two_runs_on_one_corpus_are_compared_text_by_text() -> None:
    one = skewed(40, 1)
    other = np.clip(one + np.random.default_rng(3).normal(0.01, 0.02, one.shape), 0, 1)
    missing = [r for r in results(other) if r.number not in (3, 9)]
    found = compare_paired(results(one), missing, PREVIOUS)
    both = [i for i in range(40) if i not in (3, 9)]
    expected = stats.ttest_rel(other[both].astype(np.float32), one[both].astype(np.float32))
    np.testing.assert_allclose(found.p[0, 0], expected.pvalue, rtol=1e-3)
    np.testing.assert_allclose(found.mean_a[0, 0], one[both].mean(0), rtol=1e-5)
    assert found.n == (38, 38)
    assert found.paired


def _false(test: Callable[[int], np.ndarray], runs: int) -> tuple[float, float]:
    """(share of p below 5%, share of runs in which anything passes the false discovery rate)."""
    p = np.stack([test(seed) for seed in range(runs)])
    return float((p < 0.05).mean()), float(np.mean([(benjamini_hochberg(one) <= 0.05).any() for one in p]))


@pytest.mark.parametrize(("n", "most"), [(20, 0.10), (60, 0.09)])
def test_where_nothing_changed_little_is_found(n: int, most: float) -> None:
    def two_corpora(seed: int) -> np.ndarray:
        return compare(results(skewed(n, 2 * seed)), results(skewed(n, 2 * seed + 1)), PREVIOUS).p

    share, anything = _false(two_corpora, 40)
    assert 0.02 < share < 0.06
    assert anything <= most

    def two_runs(seed: int) -> np.ndarray:
        text = skewed(n, seed)
        one, other = (text + 0.05 * np.random.default_rng((seed, i)).exponential(1, text.shape) for i in range(2))
        return compare_paired(results(one), results(other), PREVIOUS).p

    share, anything = _false(two_runs, 40)
    assert 0.03 < share < 0.07
    assert anything <= most


def test_few_texts_against_many_differ_no_more_often_than_they_should() -> None:
    by_t = 0

    def unequal(seed: int) -> np.ndarray:
        nonlocal by_t
        sides = (20, 180) if seed % 2 else (180, 20)
        one, other = (heavy(n, 2 * seed + i) for i, n in enumerate(sides))
        found = compare(results(one), results(other), PREVIOUS)
        t = 2 * stats.t.sf(np.abs(found.difference) / found.error, found.freedom)
        by_t += bool((benjamini_hochberg(t) <= 0.05).any())
        return found.p

    share, anything = _false(unequal, 20)
    assert share < 0.06
    assert anything <= 0.1
    assert by_t > 5  # what these values would pass for


def test_few_texts_against_many_that_changed_are_found() -> None:
    one, other = skewed(20, 1), skewed(180, 2)
    one[:, 3, 3:6] = 0.5 + one[:, 3, 3:6] / 2
    seen = compare(results(one), results(other), PREVIOUS).changed()[0, 0]
    assert seen[3, 3:6].all()
    assert seen.sum() == 3


def test_dealing_anew_is_the_exact_test() -> None:
    random = np.random.default_rng(1)
    a, b = random.exponential(1, (7, 40)), random.exponential(1, (12, 40))
    a[2, :20] = np.nan
    b[:, 0] = a[:, 0] = 0.5
    found = shuffled(a, b, among=100_000)
    assert found[0] == 1
    for i in range(1, 40):
        sides = [side[np.isfinite(side)] for side in (a[:, i], b[:, i])]

        def apart(x: np.ndarray, y: np.ndarray) -> float:
            return abs(x.mean() - y.mean())

        exact = stats.permutation_test(sides, apart, n_resamples=1000, alternative="greater", random_state=i).pvalue
        assert found[i] == pytest.approx(exact, abs=5 * np.sqrt(0.25 / 500))
    np.testing.assert_array_equal(found, shuffled(a, b, among=100_000))
    np.testing.assert_array_equal(shuffled(a[:, :0], b[:, :0], among=1), np.empty(0))


def test_what_changed_is_found_among_all_heads() -> None:
    one, other = skewed(100, 1), skewed(100, 2)
    changed = np.zeros((30, 9), bool)
    changed[::10, ::3] = True
    # The sum of a skewed value and a shift of one standard deviation.
    other[:, changed] = np.clip(other[:, changed] + one.std(0)[changed], 0, 1)
    found = compare(results(one), results(other), PREVIOUS)
    seen = found.changed()[0, 0]
    assert seen[changed].mean() > 0.85
    assert seen[~changed].sum() <= 2
    table = found.frame()
    assert len(table) == 270
    assert table["changed"].sum() == seen.sum()
    top = table[table["changed"]]
    assert ((top["low"] > 0) | (top["high"] < 0)).all()
    assert (top["high"] - top["low"] > 2 * 1.96 * found.error[0, 0][top["layer"], top["head"]]).all()
    assert table["q"].is_monotonic_increasing or table["changed"].iloc[0]


def test_a_difference_of_rounding_is_no_change() -> None:
    one = skewed(30, 1)
    found = compare_paired(results(one), results(one + 1e-6), PREVIOUS)
    assert not found.changed().any()
    same = compare_paired(results(one), results(one), PREVIOUS)
    np.testing.assert_array_equal(same.p, 1)


def test_texts_that_all_have_one_value() -> None:
    one, other = np.full((LEAST_TEXTS, 1, 2), 0.5), np.full((LEAST_TEXTS, 1, 2), 0.5)
    other[:, 0, 1] = 0.75
    for test in (compare, compare_paired):
        found = test(results(one), results(other), PREVIOUS)
        assert found.p[0, 0, 0, 0] == 1
        assert 0 < found.p[0, 0, 0, 1] < 0.01
        assert (found.error[0, 0] > 0).all()
        np.testing.assert_array_equal(found.changed()[0, 0, 0], [False, True])


@pytest.mark.parametrize("test", [compare, compare_paired])
def test_fewer_texts_that_count_than_ten_are_not_tested(test: Callable[..., Comparison]) -> None:
    one, other = np.full((12, 1, 2), 0.5), np.full((12, 1, 2), 0.75)
    other[:3, 0, 1] = np.nan
    found = test(results(one), results(other), PREVIOUS)
    np.testing.assert_array_equal(np.isfinite(found.p[0, 0, 0]), [True, False])
    assert not found.changed()[0, 0, 0, 1]
    assert found.difference[0, 0, 0, 1] == pytest.approx(0.25)
    two = test(results(one[:2]), results(other[:2]), PREVIOUS)
    assert np.isnan(two.p).all()
    assert two.frame().empty


def test_a_rate_that_was_not_tested_is_refused() -> None:
    found = compare(results(skewed(12, 1)), results(skewed(12, 2)), PREVIOUS)
    for rate in (0.2, 0, 5):
        with pytest.raises(errors.InputError, match="between 0 and 0"):
            found.changed(rate)


def test_too_few_texts_and_other_shapes() -> None:
    with pytest.raises(errors.InputError, match="at least two texts on each side; got 5 and 1"):
        compare(results(skewed(5, 1)), results(skewed(1, 2)), PREVIOUS)
    with pytest.raises(errors.InputError, match="got 0 and 0"):
        compare_paired(results(skewed(5, 1)), results(skewed(5, 1), first=10), PREVIOUS)
    for test in (compare, compare_paired):
        with pytest.raises(errors.ShapeError, match="same layers and heads"):
            test(results(skewed(5, 1)), results(skewed(5, 1)[:, :4]), PREVIOUS)
