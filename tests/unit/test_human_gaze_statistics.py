"""Rank correlations against scipy and a naive regression; intervals, the band and the held-out head by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attnviz.human.gaze_statistics import Chance, best_elsewhere, correlation, directions, means, units

RANDOM = np.random.default_rng(3)


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 30), st.integers(0, 10_000))
def test_without_controls_it_is_spearmans(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, times = random.integers(0, 6, (3, n)).astype(float), random.integers(0, 4, n).astype(float)
    found = correlation(scores, times)
    for row, value in zip(scores, found, strict=True):
        if np.ptp(row) and np.ptp(times):
            assert value == pytest.approx(stats.spearmanr(row, times).statistic, abs=1e-12)
        else:
            assert np.isnan(value)


@settings(max_examples=25, deadline=None)
@given(st.integers(9, 30), st.integers(0, 10_000))
def test_with_controls_it_is_a_regression_on_ranks(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, times, controls = random.random((2, n)), random.random(n), random.random((4, n))
    design = np.column_stack([np.ones(n), *(stats.rankdata(one) for one in controls)])

    def residual(values: np.ndarray) -> np.ndarray:
        ranks = stats.rankdata(values)
        return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]

    expected = [stats.pearsonr(residual(row), residual(times)).statistic for row in scores]
    assert correlation(scores, times, controls) == pytest.approx(expected, abs=1e-9)


def test_what_the_controls_explain_in_full_has_no_figure() -> None:
    times, control = RANDOM.random(12), RANDOM.random(12)
    assert np.isnan(correlation(np.stack([control, 2 * control, np.ones(12)]), times, control[None])).all()
    assert np.isfinite(correlation(RANDOM.random((1, 12)), times, control[None])).all()


def test_controls_that_repeat_each_other_are_taken_out_once() -> None:
    control = RANDOM.random(12)
    assert len(directions(np.stack([control, -control, control**3]), 12)) == 2


def test_too_few_words_for_their_controls_have_no_figure() -> None:
    assert np.isnan(units(RANDOM.random((1, 6)), directions(RANDOM.random((4, 6)), 6))).all()


def test_means_leave_out_what_has_no_number() -> None:
    values = np.array([[[0.2], [0.4]], [[0.6], [np.nan]], [[np.nan], [np.nan]]])
    mean, low, high, count = means(values)
    assert mean[:, 0] == pytest.approx([0.4, 0.4, 0.4])
    assert count[:, 0].tolist() == [2, 1, 2]
    assert np.isnan([low[1, 0], high[1, 0]]).all()
    assert low[0, 0] == pytest.approx(0.2)
    assert high[0, 0] == pytest.approx(0.6)


def test_rows_are_worked_on_a_few_at_a_time_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.where(RANDOM.random((9, 3, 7)) < 0.2, np.nan, RANDOM.random((9, 3, 7)))
    whole = means(values, draws=50)
    monkeypatch.setattr("attnviz.human.gaze_statistics._MOST_DRAWN", 400)
    for one, part in zip(whole, means(values, draws=50), strict=True):
        np.testing.assert_allclose(one, part)


def test_intervals_hold_at_their_level() -> None:
    held = []
    for seed in range(100):
        values = np.random.default_rng(seed).normal(0.3, 1, (40, 1, 1))
        _, low, high, _ = means(values, draws=200, seed=seed)
        held.append(low[0, 0] <= 0.3 <= high[0, 0])
    assert 0.88 <= np.mean(held) <= 0.99


@pytest.mark.parametrize(("readers", "low", "high"), [(2, 0.60, 0.84), (10, 0.87, 0.99)])
def test_intervals_over_few_readers_are_too_short_as_the_docs_say(readers: int, low: float, high: float) -> None:
    held = []
    for seed in range(200):
        draw = np.random.default_rng(seed)
        people, sentences = draw.normal(0, 0.1, (1, readers, 1)), draw.normal(0, 0.1, (60, 1, 1))
        values = 0.3 + people + sentences + draw.normal(0, 0.2, (60, readers, 1))
        _, below, above, _ = means(values, draws=200, seed=seed)
        held.append(below[-1, 0] <= 0.3 <= above[-1, 0])
    assert low <= np.mean(held) <= high


def test_an_interval_over_readers_reaches_over_each_of_them() -> None:
    values = np.concatenate([RANDOM.normal(0.1, 0.01, (50, 1, 1)), RANDOM.normal(0.5, 0.01, (50, 1, 1))], axis=1)
    mean, low, high, _ = means(values)
    assert mean[2, 0] == pytest.approx(0.3, abs=0.01)
    assert low[2, 0] < mean[0, 0] + 0.01
    assert high[2, 0] > mean[1, 0] - 0.01


def _best(random: np.random.Generator, signal: float) -> tuple[float, np.ndarray]:
    """p of each of 270 heads over three sentences, the first following the times as far as `signal` says."""
    chance, found = Chance(99, int(random.integers(1 << 30))), []
    for _ in range(3):
        times, heads = random.random(14), random.random((270, 14))
        heads[0] += signal * times
        taken_out = directions(np.empty((0, 14)), 14)
        ranked = units(heads, taken_out)
        found.append(ranked @ units(times[None], taken_out)[0])
        chance.add(ranked, times, taken_out, chance.shares())
    return chance.band(np.mean(found, 0))


def test_the_band_for_the_best_of_270_random_heads_rejects_at_its_rate() -> None:
    random = np.random.default_rng(1)
    p = np.array([_best(random, 0.0)[1].min() for _ in range(80)])
    # Of 80 at 10%, 99% of binomial draws lie between 2 and 15.
    assert 2 <= (p <= 0.1).sum() <= 15


def test_a_head_that_follows_the_times_beats_the_band_and_no_other_does() -> None:
    limit, p = _best(np.random.default_rng(5), 4.0)
    assert p[0] == pytest.approx(0.01)
    assert (p[1:] > 0.01).mean() > 0.98
    assert 0.3 < limit < 1


def test_a_band_without_a_figure_is_none() -> None:
    limit, p = Chance(9, 0).band(np.full(3, np.nan))
    assert np.isnan(limit)
    assert np.isnan(p).all()


def test_the_best_head_of_one_half_is_read_on_the_other() -> None:
    values = np.zeros((6, 1, 2))
    values[0::2, 0, 0] = 1.0  # head 0 is best on the even sentences
    values[1::2, 0, 1] = 0.5  # head 1 on the odd ones
    elsewhere, chosen = best_elsewhere(values)
    assert chosen == (0, 1)
    assert elsewhere[:, 0].tolist() == [0, 0, 0, 0, 0, 0]


def test_the_best_of_noise_is_nothing_elsewhere() -> None:
    values = np.random.default_rng(2).normal(0, 0.3, (60, 1, 270))
    elsewhere, _ = best_elsewhere(values)
    assert abs(np.nanmean(elsewhere)) < 0.1
    assert values.mean((0, 1)).max() > 0.08
