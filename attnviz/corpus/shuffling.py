"""How often texts dealt anew to two sides lie as far apart: a permutation test, dealt only as far as it decides.

Where texts of one kind were divided by chance, all divisions are as likely as the one at hand. So the share of those
that have at least its difference of means is an exact p (Fisher 1935), however skewed values are and however unequal
sides: what t gets wrong where some twenty texts stand against many. A p is no smaller than 1 / (divisions + 1), and a
lone change among m measurements needs 0.05 / m: so measurements that are met too often are let go early (Besag &
Clifford 1991), and divisions are dealt until what is left would pass.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_FIRST, _AT_ONCE = 500, 2_000_000  # divisions of the first deal; numbers drawn at once
_ENOUGH = 20  # divisions at least as far apart that settle a measurement
_RATE = 0.01  # the false discovery rate at which what was never met would pass
_MOST_DRAWN = 400_000_000  # numbers: some seconds; a lone change of many thousand texts may then not pass


def shuffled(a: npt.ArrayLike, b: npt.ArrayLike, *, among: int, seed: int = 0) -> Doubles:
    """p of each measurement, two-sided, of no difference between the sides' texts.

    a, b      [text, measurement], NaN where a text does not count; texts that do are dealt to sides as large as theirs
    among     how many measurements were compared in all, whether here or not
    returns   [measurement]; 1 where all values are alike. The same seed gives the same p
    """
    both = np.concatenate([np.asarray(a, float), np.asarray(b, float)])
    first = np.arange(len(both)) < len(np.asarray(a))
    there, p = np.isfinite(both), np.ones(both.shape[1])
    _, kinds = np.unique(np.packbits(there, axis=0), axis=1, return_inverse=True)
    for kind in range(int(kinds.max(initial=-1)) + 1):
        columns = np.flatnonzero(kinds.ravel() == kind)
        rows = there[:, columns[0]]
        random = np.random.default_rng((seed, kind))
        p[columns] = _alike(both[np.ix_(rows, columns)], first[rows], among, random)
    return p


def _alike(values: Doubles, first: npt.NDArray[np.bool_], among: int, random: np.random.Generator) -> Doubles:
    """p of measurements in which the same texts count; `first` says which side each text is of."""
    n, p = len(values), np.ones(values.shape[1])
    side = first if 2 * first.sum() <= n else ~first
    few, apart = int(side.sum()), values - values.mean(0)
    spread = apart.std(0)
    left = np.flatnonzero(spread > 1e-9)
    if not few:
        return p
    apart = (apart / np.where(spread > 1e-9, spread, 1)).astype(np.float32)
    # The sides' sum is known, so the smaller one's sum orders divisions as the difference of means does.
    least = np.abs(apart[side].sum(0)) * (1 - 1e-4)
    met, dealt = np.zeros(len(p), np.int64), 0
    while len(left) and dealt * n < _MOST_DRAWN and (dealt + 1) * len(left) * _RATE < among:
        now = max(1, min(max(_FIRST, dealt), _AT_ONCE // n))
        chosen = np.argpartition(random.random((now, n), np.float32), few - 1, axis=1)[:, :few]
        dealing = np.zeros((now, n), np.float32)
        np.put_along_axis(dealing, chosen, 1, axis=1)
        met[left] += (np.abs(dealing @ apart[:, left]) >= least[left]).sum(0)
        dealt += now
        p[left] = (met[left] + 1) / (dealt + 1)
        left = left[met[left] < _ENOUGH]
    return p
