"""Means over texts, their intervals, labels, and the texts that stand apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnviz import Head, errors
from attnviz.corpus import Choice, Result, Summary, benjamini_hochberg, by_label, outliers
from attnviz.heads.detectors import DETECTORS

N_DETECTORS = len(DETECTORS)
SHAPE = (2, N_DETECTORS, 3, 4)
SINK = Choice("sink", "with sink")


def results(values: np.ndarray, labels: list[str] | None = None) -> list[Result]:
    chance = np.full(SHAPE[:3], 0.25, np.float32)
    return [Result(i, labels[i] if labels else "", v.astype(np.float32), chance) for i, v in enumerate(values)]


def random_values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).beta(1, 4, (n, *SHAPE))


def test_means_count_each_text_once_and_leave_out_what_is_missing() -> None:
    values = random_values(700)
    values[:, 1, 2] = np.nan
    values[::2, 0, 1, 0, 0] = np.nan
    summary = Summary.of(results(values))
    assert summary.n == 700
    np.testing.assert_allclose(summary.mean[0, 0], values.mean(0)[0, 0], rtol=1e-5)
    assert summary.mean[0, 1, 0, 0] == pytest.approx(values[1::2, 0, 1, 0, 0].mean(), rel=1e-5)
    assert summary.counted[0, 1, 0, 0] == 350
    assert np.isnan(summary.mean[1, 2]).all()
    assert np.isnan(summary.high[1, 2]).all()
    np.testing.assert_allclose(summary.chance, 0.25)
    assert (summary.low[0, 0] < summary.mean[0, 0]).all()
    assert (summary.high[0, 0] > summary.mean[0, 0]).all()


def test_intervals_are_as_wide_as_the_normal_ones_for_many_texts() -> None:
    values = random_values(900, seed=3)
    summary = Summary.of(results(values))
    half = 1.96 * values.std(0, ddof=1) / 30
    np.testing.assert_allclose((summary.high - summary.low) / 2, half, rtol=0.15)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    values = random_values(60, seed=5)
    held = []
    for seed in range(12):
        summary = Summary.of(results(random_values(60, seed=seed)), Choice(variant="with sink"), replicates=400)
        held.append((summary.low < 0.2) & (summary.high > 0.2))
    assert 0.90 < np.mean(held) < 0.97
    assert values.mean() == pytest.approx(0.2, abs=0.02)


def test_the_same_seed_gives_the_same_intervals_and_another_does_not() -> None:
    values = results(random_values(50))
    one, same, other = (Summary.of(values, SINK, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.low, same.low)
    assert (one.low != other.low).any()


def test_one_text_has_a_mean_and_no_interval() -> None:
    summary = Summary.of(results(random_values(1)), SINK)
    assert np.isfinite(summary.mean).all()
    assert np.isnan(summary.low).all()
    with pytest.raises(errors.InputError, match="no results"):
        Summary.of([])
    with pytest.raises(errors.InputError, match="level"):
        Summary.of(results(random_values(2)), level=95)


def test_the_frame_has_a_row_for_each_measurement_that_there_is() -> None:
    values = random_values(20)
    values[:, 1, 4] = np.nan
    values[:, :, :, 2, 3] = np.nan
    summary = Summary.of(results(values), Choice(detector="sink"))
    table = summary.frame()
    assert list(table) == ["detector", "variant", "layer", "head", "mean", "low", "high", "chance", "texts"]
    assert len(table) == 11  # "sink" is the fifth detector
    assert set(table["variant"]) == {"with sink"}
    one = table[(table["layer"] == 1) & (table["head"] == 2)].iloc[0]
    assert one["mean"] == pytest.approx(values[:, 0, 4, 1, 2].mean(), rel=1e-5)
    assert one["texts"] == 20


def test_labels_are_summarised_apart() -> None:
    values = random_values(40)
    labels = ["many" if i % 4 else "few" for i in range(40)]
    found = by_label(results(values, labels), SINK)
    assert list(found) == ["many", "few"]
    assert found["few"].n == 10
    np.testing.assert_allclose(found["few"].mean[0, 0], values[::4, 0, 4].mean(0), rtol=1e-5)
    assert len(by_label(results(values, [str(i) for i in range(40)]), SINK)) == 12


def test_texts_that_stand_apart_come_first() -> None:
    values = random_values(101)
    values[:, 0, 0, 1, 1] = np.linspace(0.4, 0.6, 101)
    values[17, 0, 0, 1, 1], values[80, 0, 0, 1, 1], values[3, 0, 0, 1, 1] = 0.99, 0.0, np.nan
    labels = ["odd" if i == 17 else "" for i in range(101)]
    found = outliers(results(values, labels), Head(1, 1), Choice("previous", "with sink"))
    assert found["number"].tolist() == [80, 17]
    assert found["label"].tolist() == ["", "odd"]
    middle = np.nanmedian(values[:, 0, 0, 1, 1])
    mad = np.nanmedian(abs(values[:, 0, 0, 1, 1] - middle))
    assert found["score"].iloc[0] == pytest.approx(0.6745 * (0.0 - middle) / mad, rel=1e-4)


def test_a_short_text_does_not_stand_apart_for_its_chance_level() -> None:
    chance = 0.2 + np.random.default_rng(0).normal(0, 0.01, 60)
    chance[7] = 0.9  # a text of two words
    found = results(np.full((60, *SHAPE), 0.05) + chance.reshape(-1, 1, 1, 1, 1) + random_values(60) / 50)
    found = [r._replace(chance=np.full(SHAPE[:3], even, np.float32)) for r, even in zip(found, chance, strict=True)]
    assert outliers(found, Head(0, 0), SINK).empty
    found[7] = found[7]._replace(values=np.full(SHAPE, 0.25, np.float32))
    far = outliers(found, Head(0, 0), SINK)
    assert far["number"].tolist() == [7]
    assert far["chance"].item() == pytest.approx(0.9)
    assert far["score"].item() < -3.5


def test_one_text_apart_from_many_alike_is_found() -> None:
    values = np.full((30, *SHAPE), 0.5)
    values[4, 0, 4, 0, 0] = 0.9
    assert outliers(results(values), Head(0, 0), SINK)["number"].tolist() == [4]
    assert outliers(results(values), Head(0, 1), SINK).empty
    assert outliers([], Head(0, 1), SINK).empty


def test_what_is_chosen_has_to_be_there() -> None:
    with pytest.raises(errors.InputError, match="A detector is one of"):
        Choice("sinks")
    with pytest.raises(errors.InputError, match="A variant is one of"):
        Choice(variant="sink")
    with pytest.raises(errors.InputError, match="choose both"):
        outliers(results(random_values(3)), Head(0, 0), Choice("sink"))
    with pytest.raises(errors.HeadError, match="L0H0 to L2H3"):
        outliers(results(random_values(3)), Head(3, 0), SINK)


def test_benjamini_hochberg_by_hand() -> None:
    q = benjamini_hochberg([[0.01, 0.04], [np.nan, 0.03], [0.5, 0.04]])
    np.testing.assert_allclose(q, [[0.05, 0.05], [np.nan, 0.05], [0.5, 0.05]])
    assert benjamini_hochberg([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_q_values_reject_what_the_step_up_rule_rejects(p: list[float], rate: float) -> None:
    ordered = np.sort(p)
    passing = np.flatnonzero(ordered <= rate * np.arange(1, len(p) + 1) / len(p))
    most = ordered[passing[-1]] if len(passing) else -1
    q = benjamini_hochberg(p)
    assert (q >= np.array(p) - 1e-12).all()
    near = np.abs(q - rate) < 1e-12
    assert (((q <= rate) == (np.array(p) <= most)) | near).all()
