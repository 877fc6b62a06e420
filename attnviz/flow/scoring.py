"""How well explanations agree: of one text, and over many with bootstrap intervals.

Agreement is about order alone. It does not say that either side is right: a method that agrees with a yardstick agrees
with one way of changing the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from attnviz.checks import numbers
from attnviz.errors import InputError, ShapeError

_TOP = 3
_INTERVAL = (2.5, 97.5)  # percent


@dataclass(frozen=True)
class Agreement:
    """How alike two explanations order the same tokens.

    spearman   rank correlation with average ranks, in [-1, 1]; NaN where either is constant or n is below 3
    top3       share of the three tokens with the most that both name, in [0, 1]; NaN for n below 3
    n          tokens that have a number in both
    """

    spearman: float
    top3: float
    n: int


def agreement(a: Any, b: Any, *, absolute: bool = False) -> Agreement:
    """Compare two explanations of one text, [token] each; tokens without a finite number in both are left out.

    absolute   compare magnitudes: an effect is negative where a token stood in the outcome's way, while weights and
               norms only say how much a token counts. Without it, a large negative effect ranks last.

    Equal values share what they stand for: `top3` is its mean over all ways of breaking ties on either side, so that
    a constant explanation gets what chance gives, 3 / n.
    """
    x, y = _values(a, absolute), _values(b, absolute)
    if x.shape != y.shape:
        raise ShapeError(f"Expected explanations of the same tokens, got {x.shape[0]} and {y.shape[0]} of them.")
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < _TOP:
        return Agreement(np.nan, np.nan, len(x))
    ranks = pd.Series(x).rank().to_numpy(), pd.Series(y).rank().to_numpy()
    constant = any(np.ptp(r) == 0 for r in ranks)
    spearman = np.nan if constant else float(np.corrcoef(*ranks)[0, 1])
    return Agreement(spearman, float(_chances(x) @ _chances(y)) / _TOP, len(x))


def table(scores: Mapping[str, Any], *, absolute: bool = False) -> pd.DataFrame:
    """Every pair of explanations of one text: columns a, b, spearman, top3, n; see `agreement`."""
    rows = [(a, b, found.spearman, found.top3, found.n) for a, b, found in _pairs(scores, absolute)]
    return pd.DataFrame(rows, columns=["a", "b", "spearman", "top3", "n"])


def over_texts(
    per_text: Sequence[Mapping[str, Any]], *, absolute: bool = False, seed: int = 0, n_boot: int = 2000
) -> pd.DataFrame:
    """Mean agreement of every pair over texts, each text counting once.

    returns    columns a, b, spearman, spearman_low, spearman_high, top3, top3_low, top3_high, n_texts, n_skipped;
               low and high bound the middle 95% of the means of `n_boot` draws of texts, with replacement; NaN for
               fewer than two texts
    n_skipped  texts where a pair has no Spearman, or one of the two explanations is missing: in neither mean

    The interval is about these texts and others drawn like them, not about other kinds of text.
    """
    if isinstance(n_boot, bool) or not isinstance(n_boot, int) or n_boot < 1:
        raise InputError(f"n_boot counts draws of texts from 1; got {n_boot!r}.")
    names = list(dict.fromkeys(name for scores in per_text for name in scores))
    found: dict[frozenset[str], list[tuple[float, float]]] = {}
    for a, b, one in (pair for scores in per_text for pair in _pairs(scores, absolute)):
        if np.isfinite(one.spearman):
            found.setdefault(frozenset((a, b)), []).append((one.spearman, one.top3))
    rows = []
    for a, b in combinations(names, 2):
        values = np.array(found.get(frozenset((a, b)), [])).reshape(-1, 2)
        rows.append((a, b, *_summary(values, seed, n_boot), len(values), len(per_text) - len(values)))
    measures = [f"{name}{end}" for name in ("spearman", "top3") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["a", "b", *measures, "n_texts", "n_skipped"])


def _pairs(scores: Mapping[str, Any], absolute: bool) -> Iterator[tuple[str, str, Agreement]]:
    for a, b in combinations(scores, 2):
        yield a, b, agreement(scores[a], scores[b], absolute=absolute)


def _values(scores: Any, absolute: bool) -> np.ndarray:
    values = numbers(scores, "Explanations")
    if values.ndim != 1:
        raise ShapeError(f"Expected one number for each token, [token]; got shape {values.shape}.")
    return np.abs(values) if absolute else values


def _chances(values: np.ndarray) -> np.ndarray:
    """[token]: the chance of each to be among the top three when ties are broken at random; sums to 3."""
    edge = np.sort(values)[-_TOP]
    above, level = values > edge, values == edge
    return above + level * (_TOP - above.sum()) / level.sum()


def _summary(values: np.ndarray, seed: int, n_boot: int) -> list[float]:
    """[text, measure] -> mean, low, high of each measure."""
    out = []
    draws = np.random.default_rng(seed).integers(len(values), size=(n_boot, len(values))) if len(values) > 1 else None
    for column in values.T:
        mean = float(column.mean()) if len(column) else np.nan
        low, high = (np.nan, np.nan) if draws is None else np.percentile(column[draws].mean(1), _INTERVAL)
        out += [mean, float(low), float(high)]
    return out
