"""Agreement with marks: equal to scikit-learn's and scipy's where they have the metric, and to plain loops."""

import sys
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from attnviz.errors import InputError, ShapeError
from attnviz.human import METRICS, agreement, agreements
from attnviz.human.agreement import Doubles, against, auprc_by_chance


def cases() -> list[tuple[Doubles, Doubles]]:
    """Scores and weights at random; every second case has many ties in both."""
    random = np.random.default_rng(0)
    found = []
    for n in range(2, 42):
        scores, weights = random.normal(size=n), random.random(n) * (random.random(n) < 0.4)
        if n % 2:
            scores, weights = random.integers(0, 3, n).astype(float), np.round(weights, 1)
        weights[random.integers(n)] = 0.0
        weights[(np.flatnonzero(weights == 0)[0] + 1) % n] = 0.7
        found.append((scores, weights))
    return found


def spans(mask: list[bool]) -> list[set[int]]:
    found: list[set[int]] = []
    for i, there in enumerate(mask):
        if there and (i == 0 or not mask[i - 1]):
            found.append(set())
        if there:
            found[-1].add(i)
    return found


def iou_f1(scores: Doubles, weights: Doubles) -> float:
    """ERASER's, one span at a time."""
    marked = weights > 0
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: int(marked.sum())]
    own, wanted = spans([i in order for i in range(len(scores))]), spans(marked.tolist())
    hits = sum(max(len(p & g) / len(p | g) for g in wanted) >= 0.5 for p in own)
    precision, recall = hits / len(own), hits / len(wanted)
    return 0.0 if not hits else 2 * precision * recall / (precision + recall)


def token_f1(scores: list[float], weights: list[float]) -> float:
    """The mean over all orders of equal words."""
    marked = {i for i, w in enumerate(weights) if w > 0}
    found = []
    for order in permutations(range(len(scores))):
        ranked = sorted(order, key=lambda i: -scores[i])
        found.append(len(marked & set(ranked[: len(marked)])) / len(marked))
    return float(np.mean(found))


@pytest.mark.parametrize("at", range(40))
def test_metrics_equal_scikit_learn_and_scipy(at: int) -> None:
    scores, weights = cases()[at]
    found = agreement(scores, weights)
    marked = weights > 0
    assert found["auroc"] == pytest.approx(roc_auc_score(marked, scores), abs=1e-12)
    assert found["auprc"] == pytest.approx(average_precision_score(marked, scores), abs=1e-12)
    assert found["iou_f1"] == pytest.approx(iou_f1(scores, weights), abs=1e-12)
    if np.ptp(scores):
        assert found["spearman"] == pytest.approx(spearmanr(scores, weights).statistic, abs=1e-12)
    else:
        assert np.isnan(found["spearman"])
    assert (found["n"], found["n_marked"]) == (len(scores), marked.sum())


def test_token_f1_is_the_mean_over_all_orders_of_equal_words() -> None:
    for scores, weights in (
        ([3.0, 1.0, 2.0, 2.0, 2.0], [1.0, 0.0, 0.5, 0.0, 0.0]),
        ([1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]),
        ([5.0, 4.0, 3.0, 2.0, 1.0], [0.0, 0.2, 0.0, 0.9, 1.0]),
    ):
        assert agreement(scores, weights)["token_f1"] == pytest.approx(token_f1(scores, weights), abs=1e-12)


def test_spearman_reads_weights_and_the_others_only_whether_there_is_one() -> None:
    scores, light = [0.1, 0.9, 0.5, 0.2], np.array([0.0, 0.3, 0.9, 0.0])
    heavy = np.array([0.0, 1.0, 0.1, 0.0])
    a, b = agreement(scores, light), agreement(scores, heavy)
    assert a["spearman"] < b["spearman"]
    assert {name: a[name] for name in METRICS[1:]} == {name: b[name] for name in METRICS[1:]}


def test_no_marks_leave_nothing_to_agree_with() -> None:
    found = agreement([0.1, 0.5, 0.2], [0.0, 0.0, 0.0])
    assert all(np.isnan(found[name]) for name in METRICS)
    assert (found["n"], found["n_marked"]) == (3, 0)


def test_all_words_marked_say_nothing() -> None:
    found = agreement([0.1, 0.5, 0.2], [1.0, 1.0, 1.0])
    assert np.isnan(found["auroc"])
    assert np.isnan(found["spearman"])
    assert [found[name] for name in ("auprc", "token_f1", "iou_f1")] == [1.0, 1.0, 1.0]


def test_one_word_says_nothing() -> None:
    found = agreement([0.1], [1.0])
    assert np.isnan(found["auroc"])
    assert np.isnan(found["spearman"])
    assert [found[name] for name in ("auprc", "token_f1", "iou_f1")] == [1.0, 1.0, 1.0]


def test_constant_scores_are_chance() -> None:
    found = agreement([2.0, 2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0, 0.0])
    assert np.isnan(found["spearman"])
    assert found["auroc"] == 0.5
    assert found["auprc"] == pytest.approx(2 / 5)
    assert found["token_f1"] == pytest.approx(2 / 5)
    assert found["iou_f1"] == 0.0  # of equal words the earlier go first: 0 and 1 against 2 and 3


@pytest.mark.parametrize(("n", "n_marked"), [(5, 1), (12, 3), (40, 8), (2, 2)])
def test_average_precision_by_chance_is_the_mean_of_random_scores(n: int, n_marked: int) -> None:
    scores = np.random.default_rng(5).normal(size=(40_000, n))
    found = against(scores, np.repeat([1.0, 0.0], [n_marked, n - n_marked]), "auprc")
    assert auprc_by_chance(n, n_marked) == pytest.approx(found.mean(), abs=5 * found.std() / 200 + 1e-12)
    assert auprc_by_chance(n, n_marked) >= n_marked / n


def test_average_precision_by_chance_needs_a_mark() -> None:
    assert auprc_by_chance(1, 1) == 1.0
    for marked in (0, 4):
        with pytest.raises(InputError, match="are marked"):
            auprc_by_chance(3, marked)


def test_a_span_that_is_half_met_counts() -> None:
    weights = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert agreement([0, 9, 0, 0, 0, 8, 7, 0], weights)["iou_f1"] == 1.0  # 1 of 2, and 1 of 2
    assert agreement([0, 9, 0, 8, 0, 0, 0, 7], weights)["iou_f1"] == pytest.approx(2 / 5)  # 1 of 3 spans against 2


def test_many_heads_are_what_each_is_alone() -> None:
    random = np.random.default_rng(1)
    scores = np.concatenate([random.normal(size=(5, 17)), random.integers(0, 3, (5, 17))])
    weights = random.random(17) * (random.random(17) < 0.4)
    found = agreements(scores, weights)
    assert len(found) == 10
    for row, own in zip(found.to_dict("records"), scores, strict=True):
        assert row == pytest.approx(agreement(own, weights), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_shifts_are_the_marks_moved_in_a_circle(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["attnviz.human.agreement"], "_MOST_NUMBERS", 40)  # several parts
    random = np.random.default_rng(2)
    scores = np.concatenate([random.normal(size=(2, 13)), random.integers(0, 3, (2, 13))])
    weights = np.array([0, 0.5, 1, 0, 0, 0, 0, 0.5, 0, 0, 0, 1, 0.2])
    found = against(scores, weights, metric, np.arange(13))  # type: ignore[arg-type]
    for shift in range(13):
        expected = agreements(scores, np.roll(weights, shift))[metric]
        np.testing.assert_allclose(found[:, shift], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("scores", "weights", "error"),
    [
        ([1.0, 2.0], [1.0], ShapeError),
        ([[1.0, 2.0]], [1.0, 0.0], ShapeError),
        ([], [], InputError),
        ([1.0, np.nan], [1.0, 0.0], InputError),
        ([1.0, 2.0], [2.0, 0.0], InputError),
        ([1.0, 2.0], [np.nan, 0.0], InputError),
    ],
)
def test_what_cannot_be_compared_is_said(scores: list[float], weights: list[float], error: type[Exception]) -> None:
    with pytest.raises(error):
        agreement(scores, weights)
