"""Agreement of explanations against hand-made cases, an independent Spearman and the tie-breaking it averages over."""

from itertools import pairwise, permutations, product

import numpy as np
import pytest

from attnviz.errors import InputError, ShapeError
from attnviz.flow.scoring import agreement, over_texts, table


def spearman_by_hand(x: list[float], y: list[float]) -> float:
    """Pearson of average ranks, each rank counted from its definition."""

    def ranks(values: list[float]) -> np.ndarray:
        return np.array([sum(v < w for v in values) + (sum(v == w for v in values) + 1) / 2 for w in values])

    a, b = ranks(x) - np.mean(ranks(x)), ranks(y) - np.mean(ranks(y))
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def top3_by_every_order(x: list[float], y: list[float]) -> float:
    """The overlap, averaged over all orders of the tokens that agree with each side's values."""

    def tops(values: list[float]) -> list[set[int]]:
        orders = permutations(range(len(values)))
        return [set(o[:3]) for o in orders if all(values[i] >= values[j] for i, j in pairwise(o))]

    return float(np.mean([len(a & b) / 3 for a, b in product(tops(x), tops(y))]))


def test_spearman_without_ties_is_the_textbook_formula() -> None:
    x, y = [1.0, 5.0, 2.0, 9.0, 4.0], [2.0, 3.0, 1.0, 5.0, 8.0]
    # ranks 1 4 2 5 3 and 2 3 1 4 5: squared differences 1 1 1 1 4
    assert agreement(x, y).spearman == pytest.approx(1 - 6 * 8 / (5 * 24))


@pytest.mark.parametrize("seed", range(20))
def test_ties_take_average_ranks_and_the_mean_over_orders(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 3, (2, 6)).astype(float).tolist()
    if len(set(x)) == 1 or len(set(y)) == 1:
        x[0], y[1] = 7.0, 8.0
    found = agreement(x, y)
    assert found.spearman == pytest.approx(spearman_by_hand(x, y), abs=1e-12)
    assert found.top3 == pytest.approx(top3_by_every_order(x, y), abs=1e-12)


def test_top3_counts_the_tokens_that_both_name() -> None:
    assert agreement([9, 8, 7, 1, 0], [9, 0, 7, 8, 1]).top3 == pytest.approx(2 / 3)
    assert agreement([9, 8, 7, 0, 0, 0], [0, 0, 0, 9, 8, 7]).top3 == 0


def test_a_constant_explanation_gets_chance_and_no_correlation() -> None:
    found = agreement([1.0] * 5, [5, 4, 3, 2, 1])
    assert np.isnan(found.spearman)
    assert found.top3 == pytest.approx(3 / 5)


def test_tokens_without_a_number_on_either_side_are_left_out() -> None:
    nan = np.nan
    assert agreement([nan, 1, 2, 3, 9], [5, 1, 2, 3, nan]) == agreement([1, 2, 3], [1, 2, 3])
    few = agreement([nan, 1, 2], [3, 1, 2])
    assert few.n == 2
    assert np.isnan(few.spearman)
    assert np.isnan(few.top3)


def test_absolute_compares_magnitudes() -> None:
    effects, norms = [-4.0, 1.0, 2.0, 3.0], [4.0, 1.0, 2.0, 3.0]
    assert agreement(effects, norms, absolute=True).spearman == pytest.approx(1)
    # ranks 1 2 3 4 and 4 1 2 3: squared differences 9 1 1 1
    assert agreement(effects, norms).spearman == pytest.approx(1 - 6 * 12 / (4 * 15))


def test_a_table_has_every_pair_once() -> None:
    scores = {"rollout": [1, 2, 3], "flow": [3, 2, 1], "delete": [1.0, 2.0, np.nan]}
    found = table(scores)
    assert list(zip(found.a, found.b, strict=True)) == [("rollout", "flow"), ("rollout", "delete"), ("flow", "delete")]
    assert found.spearman[0] == pytest.approx(-1)
    assert found.n.tolist() == [3, 2, 2]


def test_over_texts_means_are_of_the_texts_that_have_the_pair() -> None:
    texts = [
        {"a": [1, 2, 3], "b": [1, 2, 3]},
        {"b": [3, 2, 1], "a": [1, 2, 3]},
        {"a": [1, 2, 3], "b": [1, 1, 1]},
        {"a": [1, 2, 3]},
    ]
    row = over_texts(texts, n_boot=200).iloc[0]
    assert (row.a, row.b, row.n_texts, row.n_skipped) == ("a", "b", 2, 2)
    assert row.spearman == pytest.approx(0)
    assert (row.spearman_low, row.spearman_high) == pytest.approx((-1, 1))
    assert row.top3 == row.top3_low == row.top3_high == 1


def test_the_interval_is_the_normal_one_for_many_texts_and_repeats() -> None:
    rng = np.random.default_rng(3)
    texts = [{"a": rng.normal(size=8), "b": rng.normal(size=8)} for _ in range(80)]
    row = over_texts(texts, seed=5).iloc[0]
    each = np.array([agreement(t["a"], t["b"]).spearman for t in texts])
    half = 1.96 * each.std() / np.sqrt(80)
    assert row.spearman == pytest.approx(each.mean())
    assert row.spearman_low == pytest.approx(each.mean() - half, abs=0.15 * half)
    assert row.spearman_high == pytest.approx(each.mean() + half, abs=0.15 * half)
    assert over_texts(texts, seed=5).equals(over_texts(texts, seed=5))


def test_one_text_has_a_mean_and_no_interval() -> None:
    row = over_texts([{"a": [1, 2, 3], "b": [1, 2, 3]}]).iloc[0]
    assert row.spearman == pytest.approx(1)
    assert np.isnan(row.spearman_low)
    assert np.isnan(row.top3_high)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ShapeError, match="same tokens, got 3 and 2"):
        agreement([1, 2, 3], [1, 2])
    with pytest.raises(ShapeError, match=r"shape \(1, 3\)"):
        agreement([[1, 2, 3]], [[1, 2, 3]])
    with pytest.raises(InputError, match="n_boot"):
        over_texts([], n_boot=0)
