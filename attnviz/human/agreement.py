"""How well numbers for words agree with a person's marks: one text, any number of heads at once.

    scores [head, word], human [word]  ->  one number a head and metric

The metrics are those of rationales (ERASER, DeYoung et al. 2020, arXiv 1911.03429) and rank correlation. A word is
marked where its weight is above 0; only Spearman reads how much above. Agreement is about order alone, and an
explanation that agrees with a person is plausible, which is not the same as faithful (`attnviz.human.faithful`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from attnviz.checks import numbers
from attnviz.errors import InputError, ShapeError

Metric = Literal["spearman", "auroc", "auprc", "token_f1", "iou_f1"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_LEAST_IOU = 0.5
_MOST_NUMBERS = 2_000_000  # of one array [shift, head, word]


def agreement(scores: Any, human: Any) -> dict[str, float]:
    """Agreement of one number a word with a person's marks.

    scores    [word], finite, any scale
    human     [word], weights from 0 (not marked) to 1
    returns   spearman   rank correlation with the weights, average ranks, in [-1, 1]
              auroc      chance that a marked word scores above one that is not, ties half, in [0, 1]; chance is 0.5
              auprc      average precision (a sum over distinct scores, not interpolated); chance is
                         `auprc_by_chance`, which is above n_marked / n where words are few
              token_f1   F1 of the n_marked highest words; chance is n_marked / n
              iou_f1     F1 of spans: neighbouring marked words against neighbouring words among the n_marked highest,
                         a pair counting where intersection over union is at least 0.5
              n, n_marked
    raises    ShapeError for two lengths or another shape; InputError for numbers that are not finite, weights outside
              [0, 1], or no word

    NaN where a metric is not defined: all of them without a mark, auroc where every word is marked, spearman where the
    scores or the weights are constant. So with one word all but those that are then 1: where every word is marked,
    auprc, token_f1 and iou_f1 are 1 whatever the scores, and say nothing.
    Ties: auroc and auprc depend on no order among equals; token_f1 is its mean over all orders; spans have no such
    mean in closed form, so for iou_f1 the earlier of equal words goes first.
    """
    values = numbers(scores, "Scores")
    if values.ndim != 1:
        raise ShapeError(f"Expected one number for each word, [word]; got shape {values.shape}. Use `agreements`.")
    row = agreements(values[None], human).iloc[0]
    return {str(name): float(row[name]) for name in row.index}


def agreements(scores: Any, human: Any) -> pd.DataFrame:
    """`agreement` for many heads at once: a row a head in the order given, the same columns.

    scores   [head, word]; human [word]
    """
    values, weights = checked(scores, human)
    columns: dict[str, Any] = {name: against(values, weights, name)[:, 0] for name in METRICS}
    return pd.DataFrame(columns | {"n": len(weights), "n_marked": int((weights > 0).sum())})


def auprc_by_chance(n: int, n_marked: int) -> float:
    """The mean of average precision over all orders of n distinct scores, n_marked of them on marked words.

    (H + (n_marked - 1) / (n - 1) * (n - H)) / n, where H = 1 + 1/2 + ... + 1/n. Constant scores have n_marked / n.
    raises   InputError unless 1 <= n_marked <= n
    """
    if not 1 <= n_marked <= n:
        raise InputError(f"From one word to all {n} are marked; got {n_marked}.")
    if n == 1:
        return 1.0
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return (harmonic + (n_marked - 1) / (n - 1) * (n - harmonic)) / n


def against(scores: Doubles, human: Doubles, metric: Metric, shifts: npt.ArrayLike = 0) -> Doubles:
    """One metric for every head and every circular shift of the marks: [head, shift].

    scores   [head, word], and human [word], as `checked` gives them
    shifts   how many places to the right the marks are moved; what leaves the end comes in at the start
    """
    if metric not in METRICS:
        raise InputError(f"A metric is one of {', '.join(METRICS)}; got {metric!r}.")
    n_heads, n = scores.shape
    moved = np.atleast_1d(np.asarray(shifts, np.int64))
    n_marked = int((human > 0).sum())
    if not n_marked or (metric == "auroc" and n_marked == n):
        return np.full((n_heads, len(moved)), np.nan)
    made = _READERS[metric](scores, n_marked)
    out = np.empty((n_heads, len(moved)))
    for part in _parts(len(moved), n_heads * n):
        out[:, part] = made(human[(np.arange(n) - moved[part, None]) % n])
    return out


def checked(scores: Any, human: Any) -> tuple[Doubles, Doubles]:
    """(scores [head, word], human [word]) as float64; raises as `agreement`."""
    values, weights = numbers(scores, "Scores"), numbers(human, "Weights")
    if values.ndim != 2 or weights.ndim != 1 or values.shape[1] != len(weights):
        raise ShapeError(
            f"Expected scores [head, word] and weights [word] of the same words; got shapes {values.shape} and "
            f"{weights.shape}."
        )
    if not len(weights):
        raise InputError("There is no word to compare; give scores and weights for at least one.")
    if not np.isfinite(values).all():
        raise InputError("A score is a finite number for every word; got NaN or infinity. Leave such words out.")
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1):
        raise InputError("A mark's weight lies from 0 (not marked) to 1; got another number.")
    return values, weights


_Reader = Callable[[Doubles], Doubles]  # weights [shift, word] -> values [head, shift]


def _spearman(scores: Doubles, n_marked: int) -> _Reader:
    ranks = _unit(rankdata(scores, axis=-1))
    return lambda human: np.asarray(ranks @ _unit(rankdata(human, axis=-1)).T).clip(-1, 1)


def _auroc(scores: Doubles, n_marked: int) -> _Reader:
    """By the rank sum of Mann and Whitney."""
    ranks = rankdata(scores, axis=-1)
    least = n_marked * (n_marked + 1) / 2
    pairs = n_marked * (scores.shape[1] - n_marked)
    return lambda human: np.asarray((ranks @ (human > 0).T - least) / pairs)


def _auprc(scores: Doubles, n_marked: int) -> _Reader:
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered = np.take_along_axis(scores, order, -1)
    n = scores.shape[1]
    is_last = np.ones(scores.shape, bool)
    is_last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    # Equal scores share one threshold: precision is read where the last of them is in.
    last = np.minimum.accumulate(np.where(is_last, np.arange(n), n)[:, ::-1], axis=-1)[:, ::-1]

    def read(human: Doubles) -> Doubles:
        marked = (human > 0)[:, order]  # [shift, head, word]
        found = np.take_along_axis(marked.cumsum(-1), np.broadcast_to(last, marked.shape), -1)
        return np.asarray((marked * found / (last + 1)).sum(-1).T / n_marked)

    return read


def _token_f1(scores: Doubles, n_marked: int) -> _Reader:
    edge = np.sort(scores, axis=-1)[:, -n_marked, None]
    above, level = scores > edge, scores == edge
    chance = above + level * (n_marked - above.sum(-1, keepdims=True)) / level.sum(-1, keepdims=True)
    # As many words are taken as are marked, so precision, recall and F1 are one number.
    return lambda human: np.asarray(chance @ (human > 0).T / n_marked)


def _iou_f1(scores: Doubles, n_marked: int) -> _Reader:
    order = np.argsort(-scores, axis=-1, kind="stable")
    taken = np.zeros(scores.shape, bool)
    np.put_along_axis(taken, order[:, :n_marked], True, axis=-1)
    sizes, starts = _spans(taken)

    def read(human: Doubles) -> Doubles:
        marked = human > 0
        marked_sizes, marked_starts = _spans(marked)
        # Two spans meet in one span at most, and at 0.5 no span has two partners: starts of meetings count pairs.
        shared, meets = _spans(taken & marked[:, None])  # [shift, head, word]
        union = sizes + marked_sizes[:, None] - shared
        pairs = (meets & (shared >= _LEAST_IOU * union)).sum(-1)
        return np.asarray((2 * pairs / (starts.sum(-1) + marked_starts.sum(-1)[:, None])).T)

    return read


_READERS: dict[Metric, Callable[[Doubles, int], _Reader]] = {
    "spearman": _spearman,
    "auroc": _auroc,
    "auprc": _auprc,
    "token_f1": _token_f1,
    "iou_f1": _iou_f1,
}


def _unit(ranks: Doubles) -> Doubles:
    """[..., word], centred and of length 1, so that a product is a correlation; NaN where constant."""
    apart = ranks - ranks.mean(-1, keepdims=True)
    length = np.sqrt((apart**2).sum(-1, keepdims=True))
    return np.divide(apart, length, out=np.full(apart.shape, np.nan), where=length > 0)


def _spans(mask: Bools) -> tuple[npt.NDArray[np.int64], Bools]:
    """(size of the run of true words that each word is in, 0 outside; whether a run starts there): [..., word]."""
    places = np.arange(mask.shape[-1])
    start = np.maximum.accumulate(np.where(mask, 0, places + 1), axis=-1)
    end = np.minimum.accumulate(np.where(mask, len(places), places)[..., ::-1], axis=-1)[..., ::-1]
    return (end - start) * mask, mask & (start == places)


def _parts(n_shifts: int, numbers: int) -> Iterator[slice]:
    """Shifts, some at a time, so that no array [shift, head, word] grows large."""
    step = max(1, _MOST_NUMBERS // max(1, numbers))
    return (slice(first, first + step) for first in range(0, n_shifts, step))
