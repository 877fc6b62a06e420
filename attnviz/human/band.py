"""What the best of many heads reaches by chance.

Among 270 random heads the best agrees well with any marks, so a head is held against the distribution of the *maximum*
over heads:

1. The marks of each text are moved along its words in a circle, which keeps how many there are and how they cluster,
   and takes away which words they are on.
2. Every head is measured against the moved marks, averaged over texts, and the largest is kept.
3. p = (1 + how many of these maxima reach the head's own number) / (1 + how many there are), which is corrected for the
   number of heads (Westfall & Young 1993, single-step).

A text of n words can be moved in n - 1 ways, so with one text p is at least 1 / n: no head can pass 5% with fewer than
20 words. With several texts the moves are independent, and there are as many as their product. Marks that recur with
a period, or metrics with few values, make equal maxima, which count against the head: p is then too large, never small.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnviz.checks import seeded
from attnviz.errors import InputError, ShapeError
from attnviz.human.agreement import Doubles, Metric, against, checked

_SAME = 1e-12  # sums in another order differ by less


@dataclass(frozen=True, eq=False)
class Band:
    """Agreement by chance of the best of some heads.

    metric     what was measured
    observed   [head], the mean over texts; NaN where the metric is not defined in any of them
    maxima     [draw], the largest over heads with moved marks, in no order; never with the marks where they are
    p          [head], corrected for the number of heads; NaN where `observed` is
    complete   whether the draws are all moves there are
    """

    metric: Metric
    observed: Doubles
    maxima: Doubles
    p: Doubles
    complete: bool

    @property
    def best(self) -> int | None:
        """The head that agrees most; None where none has a number."""
        return int(np.nanargmax(self.observed)) if np.isfinite(self.observed).any() else None

    @property
    def p_best(self) -> float:
        return np.nan if self.best is None else float(self.p[self.best])

    @property
    def least_p(self) -> float:
        """The smallest p that so many draws can give."""
        return 1 / (1 + len(self.maxima))

    def quantiles(self, shares: Sequence[float] = (0.5, 0.95, 0.99)) -> Doubles:
        """What the best head reaches by chance in such shares of the draws; NaN where no draw has a number."""
        finite = self.maxima[np.isfinite(self.maxima)]
        return np.quantile(finite, shares) if len(finite) else np.full(len(shares), np.nan)


def band(scores: Any, human: Any, *, metric: Metric = "auroc", n: int = 2000, seed: int = 0) -> Band:
    """The band of some heads on one or several texts.

    scores   [head, word] of a text, or a sequence of these; the same heads in the same order in each
    human    [word] of a text, or a sequence of these
    n        draws at most; all moves are taken where there are no more of them
    raises   ShapeError and InputError as `agreement`; InputError where nothing can be moved
    """
    texts = [checked(s, h) for s, h in _texts(scores, human)]
    if len({len(s) for s, _ in texts}) > 1:
        raise ShapeError(f"Expected the same heads in every text; got {[len(s) for s, _ in texts]} of them.")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"n counts draws from 1; got {n!r}.")
    moves, complete = _moves([len(h) for _, h in texts], n, np.random.default_rng(seeded(seed)))
    tables = [against(s, h, metric, np.arange(len(h))) for s, h in texts]  # [head, shift] each
    defined = np.stack([np.isfinite(table[:, 0]) for table in tables])  # whether does not depend on the shift
    count = defined.sum(0)
    total = np.zeros((len(count), len(moves)))
    own = np.zeros(len(count))
    for table, there, shifts in zip(tables, defined, moves.T, strict=True):
        total[there] += table[there][:, shifts]
        own[there] += table[there, 0]
    known = count > 0
    observed = np.divide(own, count, out=np.full(len(count), np.nan), where=known)
    maxima = (total[known] / count[known, None]).max(0) if known.any() else np.full(len(moves), np.nan)
    ordered = np.sort(maxima)
    reached = len(ordered) - np.searchsorted(ordered, observed - _SAME)
    p = np.where(known, (1 + reached) / (1 + len(moves)), np.nan)
    return Band(metric, observed, maxima, p, complete)


def _texts(scores: Any, human: Any) -> list[tuple[Any, Any]]:
    if not (_several(scores) and _several(human)):
        raise ShapeError(f"Expected scores [head, word] and marks [word]; got {scores!r:.60} and {human!r:.60}.")
    if not (len(human) and _several(human[0])):
        return [(scores, human)]
    if len(scores) != len(human):
        raise ShapeError(f"Expected scores and marks of the same texts; got {len(scores)} and {len(human)} of them.")
    return list(zip(scores, human, strict=True))


def _several(values: Any) -> bool:
    """Whether these are values, and no single one; also of lists that no array can be made of."""
    return values.ndim > 0 if hasattr(values, "ndim") else isinstance(values, Sized)


def _moves(lengths: Sequence[int], n: int, random: np.random.Generator) -> tuple[npt.NDArray[np.int64], bool]:
    """([draw, text] places that the marks are moved by, never all 0; whether these are all)."""
    ways = 1
    for length in lengths:
        ways *= length
    if ways < 2:
        raise InputError("Marks on a single word cannot be moved, so there is no chance to compare with.")
    if ways - 1 <= n:
        return np.stack(np.unravel_index(np.arange(1, ways), lengths), axis=-1), True
    moves = random.integers(0, lengths, size=(n, len(lengths)))
    while (still := ~moves.any(-1)).any():
        moves[still] = random.integers(0, lengths, size=(int(still.sum()), len(lengths)))
    return moves, False
