"""Heads that differ between two corpora, or between two models on one corpus.

1. Every measurement is tested by the t of its mean over texts: Welch's for two corpora, of the differences text by text
   for two runs on one. With fewer than `LEAST_TEXTS` texts that count on a side nothing is tested.
2. Of two corpora t alone is wrong where few skewed values stand against many: some twenty texts that happen to be alike
   have next to no variance, and Welch's t takes that for certainty. So what passes t is tested again, by dealing the
   texts anew to the two sides (`shuffling`), and the larger p counts: both tests have to say that they differ.
3. q-values of all that was compared (Benjamini & Hochberg 1995).

Dealing anew is exact where one kind of text was divided by chance; t is needed where two kinds have one mean and two
variances. docs/CORPUS.md has the rates of false changes, by both and by t alone, and benchmarks/corpus.py makes them.

Differences below `LEAST` are not changes, whatever their p: two kernels differ by as much on the same weights. Values
are therefore known to `LEAST` only, and no error is taken for smaller than that of texts that differ by as much.
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
from attnviz.corpus.shuffling import shuffled
from attnviz.corpus.statistics import CHUNK, EVERYTHING, Choice, Doubles, Floats, benjamini_hochberg, named
from attnviz.errors import InputError, ShapeError

LEAST = 1e-4
LEAST_TEXTS = 10  # that count, on each side
MOST_RATE = 0.1  # what passes t at this level is tested again, so a false discovery rate above it has no meaning


@dataclass(frozen=True, eq=False)
class Comparison:
    """Means of `b` minus means of `a`; all arrays [variant, detector, layer, head], NaN where nothing can be tested.

    error, freedom   the difference's standard error, and its t distribution's degrees of freedom
    p                two-sided, of no difference; of two corpora the larger one of both tests'
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
        """Which measurements changed, at this false discovery rate: boolean.

        raises   InputError for a rate over MOST_RATE
        """
        if not 0 < rate <= MOST_RATE:
            raise InputError(f"A false discovery rate lies between 0 and {MOST_RATE}, such as 0.05; got {rate!r}.")
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
        # Of two corpora the surest changes share the smallest p that texts can be dealt to.
        table["t"] = (np.abs(self.difference) / self.error)[tested]
        order = table.sort_values(["changed", "q", "p", "t"], ascending=[False, True, True, False], kind="stable")
        return order.drop(columns="t").reset_index(drop=True)


def compare(a: Iterable[Result], b: Iterable[Result], choice: Choice = EVERYTHING) -> Comparison:
    """Two corpora measured with one model, or two labels of one: do their texts differ?

    Welch's t (1947), and a permutation test of what passes it. Memory: four bytes for each chosen value of each text.
    raises   ShapeError for runs of two shapes; InputError with fewer than two texts on a side
    """
    kept: tuple[list[Floats], list[Floats]] = ([], [])
    one, other = (_Moments.of(side, choice, keep) for side, keep in zip((a, b), kept, strict=True))
    _check(one, other)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [side.variance / side.count for side in (one, other)]
        whole = parts[0] + parts[1]
        freedom = whole**2 / sum(part**2 / (side.count - 1) for part, side in zip(parts, (one, other), strict=True))
    least = np.minimum(one.count, other.count)
    freedom = np.where(np.isfinite(freedom), freedom, least - 1.0)
    floor = LEAST**2 * (1 / np.maximum(one.count, 1) + 1 / np.maximum(other.count, 1))
    squared = np.where(least < LEAST_TEXTS, np.nan, np.maximum(whole, floor))
    error, p = _tested(other.mean - one.mean, squared, freedom)
    again = p <= MOST_RATE
    if again.any():
        sides = (np.concatenate([chunk[:, again] for chunk in side]) for side in kept)
        p[again] = np.maximum(p[again], shuffled(*sides, among=int(np.isfinite(p).sum())))
    q = benjamini_hochberg(p)
    return Comparison(one.mean, other.mean, error, freedom, p, q, (one.n, other.n), False, choice)


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
    count = np.maximum(apart.count, 1)
    squared = np.where(apart.count < LEAST_TEXTS, np.nan, np.maximum(apart.variance, LEAST**2) / count)
    error, p = _tested(apart.mean, squared, count - 1.0)
    q, second = benjamini_hochberg(p), first.mean + apart.mean
    return Comparison(first.mean, second, error, count - 1.0, p, q, (apart.n,) * 2, True, choice)


class _Moments:
    """Mean and variance of each measurement over texts, gathered some texts at a time (Chan et al. 1983)."""

    n = 0

    def __init__(self) -> None:
        self.count = self.mean = self._squares = np.zeros(())

    @classmethod
    def of(cls, results: Iterable[Result], choice: Choice, kept: list[Floats]) -> Self:
        """Of results as they stream; `kept` takes what was read."""
        made, waiting = cls(), iter(results)
        while chunk := list(islice(waiting, CHUNK)):
            values = _stacked(chunk, choice)
            made.add(values)
            kept.append(values.astype(np.float32))
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


def _tested(difference: Doubles, squared: Doubles, freedom: Doubles) -> tuple[Doubles, Doubles]:
    """(standard error, p) of differences with this variance, NaN where nothing is tested."""
    error = np.sqrt(squared)
    p = 2 * special.stdtr(freedom, -np.abs(difference) / error)
    return error, np.where(np.isfinite(error), p, np.nan).clip(max=1)


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
