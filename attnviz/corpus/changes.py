"""Heads that differ between two corpora, or between two models on one corpus.

Every measurement is tested by the t of its mean over texts: Welch's for two corpora, of the differences text by text
for two runs on one. Why not by permutation: with B shufflings no p is below 1 / (B + 1), and among m measurements the
false discovery rate lets a lone change pass only from p = 0.05 / m on, which for all measurements of 270 heads takes
some 75,000 shufflings at the least, and all values at hand. t needs three sums a measurement, whatever the number of
texts. What is averaged lies in [0, 1], and from some twenty texts on the level holds on skewed values too
(tests/unit/test_corpus_changes.py simulates it).

Differences below `LEAST` are not changes, whatever their p: two kernels differ by as much on the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from attnviz.corpus.records import Result
from attnviz.corpus.statistics import CHUNK, EVERYTHING, Choice, Doubles, benjamini_hochberg, named
from attnviz.errors import InputError, ShapeError

LEAST = 1e-4


@dataclass(frozen=True, eq=False)
class Comparison:
    """Means of `b` minus means of `a`; all arrays [variant, detector, layer, head], NaN where nothing can be tested.

    error, freedom   the difference's standard error, and its t distribution's degrees of freedom
    p                two-sided, of no difference
    q                the same, corrected for all that was compared here (Benjamini & Hochberg)
    n                texts of a and of b; of a paired comparison, the texts that both have
    """

    mean_a: Doubles
    mean_b: Doubles
    error: Doubles
    freedom: Doubles
    p: Doubles
    q: Doubles
    n: tuple[int, int]
    paired: bool
    choice: Choice

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.mean_a, self.mean_b, self.error, self.freedom, self.p, self.q))

    @property
    def difference(self) -> Doubles:
        return self.mean_b - self.mean_a

    def interval(self, level: float = 0.95) -> tuple[Doubles, Doubles]:
        """Of each difference by itself."""
        half = special.stdtrit(self.freedom, (1 + level) / 2) * self.error
        return self.difference - half, self.difference + half

    def changed(self, rate: float = 0.05) -> npt.NDArray[np.bool_]:
        """Which measurements changed, at this false discovery rate: boolean."""
        return (self.q <= rate) & (np.abs(self.difference) >= LEAST)

    def frame(self, *, rate: float = 0.05) -> pd.DataFrame:
        """A row for each measurement, the surest change first.

        columns   detector, variant, layer, head, mean_a, mean_b, difference, low, high, p, q, changed
        low, high are wider than by themselves where something changed: of the intervals of what changed, a share of
        `rate` misses (false coverage rate, Benjamini & Yekutieli 2005).
        """
        tested, changed = np.isfinite(self.p), self.changed(rate)
        share = rate * max(int(changed.sum()), 1) / max(int(tested.sum()), 1) if changed.any() else rate
        low, high = self.interval(1 - share)
        table = named(self.choice, tested)
        columns = {
            "mean_a": self.mean_a,
            "mean_b": self.mean_b,
            "difference": self.difference,
            "low": low,
            "high": high,
        }
        for name, values in {**columns, "p": self.p, "q": self.q, "changed": changed}.items():
            table[name] = values[tested]
        return table.sort_values(["changed", "q", "p"], ascending=[False, True, True], ignore_index=True, kind="stable")


def compare(a: Iterable[Result], b: Iterable[Result], choice: Choice = EVERYTHING) -> Comparison:
    """Two corpora measured with one model, or two labels of one: do their texts differ? Welch's t (1947).

    raises   ShapeError for runs of two shapes; InputError with fewer than two texts on a side
    """
    one, other = _Moments.of(a, choice), _Moments.of(b, choice)
    _check(one, other)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [side.variance / side.count for side in (one, other)]
        whole = parts[0] + parts[1]
        freedom = whole**2 / sum(part**2 / (side.count - 1) for part, side in zip(parts, (one, other), strict=True))
    few = np.minimum(one.count, other.count) < 2
    smallest = np.minimum(one.count, other.count) - 1.0
    freedom = np.where(np.isfinite(freedom), freedom, smallest)
    return _tested(one.mean, other.mean, np.where(few, np.nan, whole), freedom, (one.n, other.n), False, choice)


def compare_paired(a: Iterable[Result], b: Iterable[Result], choice: Choice = EVERYTHING) -> Comparison:
    """Two runs, such as two checkpoints, on one corpus: did a head change what it does? Differences text by text.

    Texts that either run left out do not count.
    raises   ShapeError for runs of two shapes; InputError with fewer than two texts in both
    """
    first, apart = _Moments(), _Moments()
    pairs = _met(a, b)
    while chunk := list(islice(pairs, CHUNK)):
        _same_shape(chunk[0][0].values.shape, chunk[0][1].values.shape)
        ours, theirs = (_stacked(side, choice) for side in zip(*chunk, strict=True))
        first.add(np.where(np.isfinite(theirs), ours, np.nan))
        apart.add(theirs - ours)
    _check(first, apart)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(apart.count < 2, np.nan, apart.variance / apart.count)
    return _tested(first.mean, first.mean + apart.mean, error, apart.count - 1.0, (apart.n,) * 2, True, choice)


class _Moments:
    """Mean and variance of each measurement over texts, gathered some texts at a time (Chan et al. 1983)."""

    n = 0

    def __init__(self) -> None:
        self.count = self.mean = self._squares = np.zeros(())

    @classmethod
    def of(cls, results: Iterable[Result], choice: Choice) -> Self:
        made, waiting = cls(), iter(results)
        while chunk := list(islice(waiting, CHUNK)):
            made.add(_stacked(chunk, choice))
        return made

    @property
    def variance(self) -> Doubles:
        return self._squares / np.where(self.count > 1, self.count - 1, np.nan)

    def add(self, values: Doubles) -> None:
        """[text, ...], NaN where a text does not count."""
        there = np.isfinite(values)
        count = there.sum(0)
        mean = np.where(there, values, 0).sum(0) / np.maximum(count, 1)
        squares = np.where(there, values - mean, 0)
        total = np.maximum(self.count + count, 1)
        step = mean - self.mean
        self._squares = self._squares + (squares**2).sum(0) + step**2 * self.count * count / total
        self.mean = self.mean + step * count / total
        self.count = self.count + count
        self.n += len(values)


def _tested(
    mean_a: Doubles,
    mean_b: Doubles,
    squared: Doubles,
    freedom: Doubles,
    n: tuple[int, int],
    paired: bool,
    choice: Choice,
) -> Comparison:
    """The comparison of two means whose difference has this variance."""
    error, apart = np.sqrt(squared), np.abs(mean_b - mean_a)
    # Texts that all have one value, such as 0 of a head that never looks there, leave no error to divide by.
    t = np.divide(apart, error, out=np.where(apart > 0, np.inf, 0.0), where=error > 0)
    p = np.where(np.isfinite(error), 2 * special.stdtr(freedom, -t), np.nan).clip(max=1)
    return Comparison(mean_a, mean_b, error, freedom, p, benjamini_hochberg(p), n, paired, choice)


def _stacked(results: Sequence[Result], choice: Choice) -> Doubles:
    return np.stack([choice.of(r.values) for r in results]).astype(float)


def _met(a: Iterable[Result], b: Iterable[Result]) -> Iterator[tuple[Result, Result]]:
    """Results of the texts that both have; both come in the order of the texts."""
    others = iter(b)
    other = next(others, None)
    for one in a:
        while other is not None and other.number < one.number:
            other = next(others, None)
        if other is not None and other.number == one.number:
            yield one, other


def _check(one: _Moments, other: _Moments) -> None:
    if min(one.n, other.n) < 2:
        raise InputError(f"A comparison needs at least two texts on each side; got {one.n} and {other.n}.")
    _same_shape(one.mean.shape, other.mean.shape)


def _same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    if one != other:
        raise ShapeError(
            f"Heads are compared one by one, so both runs need the same layers and heads; got {one[-2:]} and "
            f"{other[-2:]}. Compare a checkpoint with another of the same architecture."
        )
