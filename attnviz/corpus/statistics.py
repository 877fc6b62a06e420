"""What can be said of many texts together: means with intervals, by label, and the texts that stand apart.

Texts are what varies here: each counts once, whatever its length, and intervals say how far a mean would move with
other texts of the same kind. They come from the Poisson bootstrap (Hanley & MacGibbon 2006; Chamandy et al. 2012): each
text counts in each of the replicates as often as a draw from Poisson(1) says, so replicates grow text by text, and
memory does not depend on how many texts there are. Percentile intervals are too narrow for few texts: below some twenty
they are a hint.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from attnviz.checks import numbers, seeded, whole
from attnviz.corpus.records import Result
from attnviz.edits import Head
from attnviz.errors import HeadError, InputError, ShapeError
from attnviz.heads.detectors import DETECTORS, VARIANTS

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
REPLICATES = 1000
MOST_LABELS = 12
CHUNK = 256  # texts that go into the replicates at once


@dataclass(frozen=True)
class Choice:
    """Which measurements to read: of one detector, or of one variant; None for all."""

    detector: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        for given, known, what in ((self.detector, tuple(DETECTORS), "detector"), (self.variant, VARIANTS, "variant")):
            if given is not None and given not in known:
                raise InputError(f"A {what} is one of {', '.join(known)}; got {given!r}.")

    @property
    def detectors(self) -> tuple[str, ...]:
        return tuple(DETECTORS) if self.detector is None else (self.detector,)

    @property
    def variants(self) -> tuple[str, ...]:
        return VARIANTS if self.variant is None else (self.variant,)

    def of(self, values: Floats) -> Floats:
        """The chosen part of [variant, detector, ...], with both axes kept."""
        if np.shape(values)[:2] != (len(VARIANTS), len(DETECTORS)):
            raise ShapeError(
                f"Results are [{len(VARIANTS)}, {len(DETECTORS)}, ...], variants and detectors; got "
                f"{list(np.shape(values))}. Measure the corpus again."
            )
        variants = [VARIANTS.index(name) for name in self.variants]
        return values[variants][:, [list(DETECTORS).index(name) for name in self.detectors]]


EVERYTHING = Choice()


@dataclass(frozen=True, eq=False)
class Summary:
    """Means over texts.

    mean, low, high   [variant, detector, layer, head]; NaN where no text counts, and intervals where fewer than two do
    counted           alike, how many texts count: those in which the detector has a row
    chance            [variant, detector, layer], what even attention scores, mean over the same texts
    n                 texts read
    choice            what was read of the results
    """

    mean: Floats
    low: Floats
    high: Floats
    counted: npt.NDArray[np.int64]
    chance: Floats
    n: int
    choice: Choice

    @classmethod
    def of(
        cls,
        results: Iterable[Result],
        choice: Choice = EVERYTHING,
        *,
        level: float = 0.95,
        replicates: int = REPLICATES,
        seed: int = 0,
    ) -> Summary:
        """Of results as they stream from a shelf; the same seed and texts give the same intervals.

        raises   InputError without any result, or for a level outside (0, 1)
        """
        found = dict(_summaries(((("", r)) for r in results), choice, level, replicates, seed))
        if not found:
            raise InputError("There are no results to summarise: no text was measured, or all were left out.")
        return found[""]

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.mean, self.low, self.high, self.counted, self.chance))

    def frame(self) -> pd.DataFrame:
        """A row for each measurement: detector, variant, layer, head, mean, low, high, chance, texts."""
        table = named(self.choice, np.isfinite(self.mean))
        at = _at(table, self.choice)
        for column in ("mean", "low", "high"):
            table[column] = getattr(self, column)[at]
        table["chance"] = self.chance[at[:3]]
        table["texts"] = self.counted[at]
        return table


def by_label(
    results: Iterable[Result],
    choice: Choice,
    *,
    level: float = 0.95,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Summary]:
    """A summary for each label, the commonest first; texts of labels after the twelfth that appears are left out.

    Labels are compared by their intervals at most; `compare` tests whether they differ.
    """
    found = dict(_summaries(((r.label, r) for r in results), choice, level, replicates, seed))
    return dict(sorted(found.items(), key=lambda one: -one[1].n))


def outliers(
    results: Iterable[Result], head: Head, choice: Choice, *, most: int = 20, least_score: float = 3.5
) -> pd.DataFrame:
    """The texts in which a head does something else than it mostly does, the farthest first.

    What is scored, x, is the value minus the text's chance level: values alone would in part find short texts.

    choice        one detector and one variant
    least_score   how far: the modified z-score 0.6745 (x - median) / MAD (Iglewicz & Hoaglin 1993, who take 3.5); where
                  more than half of the texts have one value, 0.7979 (x - median) / mean absolute deviation
    returns       number, label, value, chance, score; a row for each of at most `most` texts. Three numbers a text are
                  held.
    """
    if choice.detector is None or choice.variant is None:
        raise InputError("Outliers are of one detector and one variant; choose both.")
    numbers, values, chances, labels = array("q"), array("d"), array("d"), dict[int, str]()
    for result in results:
        value = float(_of_head(choice.of(result.values)[0, 0], head))
        if np.isfinite(value):
            numbers.append(result.number)
            values.append(value)
            chances.append(float(choice.of(result.chance)[0, 0, head.layer]))
            if result.label:
                labels[result.number] = result.label
    found, even = (np.frombuffer(side, float) if side else np.empty(0) for side in (values, chances))
    scores = _modified_z(found - even)
    far = np.argsort(-np.abs(scores), kind="stable")[:most]
    far = far[np.abs(scores[far]) >= least_score]
    at = [numbers[i] for i in far]
    columns = {"value": found[far], "chance": even[far], "score": scores[far]}
    return pd.DataFrame({"number": at, "label": [labels.get(n, "") for n in at], **columns})


def benjamini_hochberg(p: npt.ArrayLike) -> Doubles:
    """q-values: the least false discovery rate at which each hypothesis is rejected (Benjamini & Hochberg 1995).

    p         any shape; NaN where nothing was tested, which does not count
    returns   the same shape, at least p each
    Holds for independent tests, and for tests that rise and fall together (Benjamini & Yekutieli 2001).
    """
    p = numbers(p, "The p-values")
    out = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    order = np.argsort(p[tested])
    n = len(order)
    raised = p[tested][order] * n / np.arange(1, n + 1)
    q = np.empty(n)
    q[order] = np.minimum.accumulate(raised[::-1])[::-1].clip(max=1)
    out[tested] = q
    return out


def named(choice: Choice, there: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """detector, variant, layer, head of every true place of [variant, detector, layer, head]."""
    variant, detector, layer, head = np.nonzero(there)
    return pd.DataFrame(
        {
            "detector": np.array(choice.detectors, dtype=object)[detector],
            "variant": np.array(choice.variants, dtype=object)[variant],
            "layer": layer,
            "head": head,
        }
    )


def _at(table: pd.DataFrame, choice: Choice) -> tuple[npt.NDArray[np.intp], ...]:
    """Where the rows of `named` stand in [variant, detector, layer, head]."""
    names = ((choice.variants, "variant"), (choice.detectors, "detector"))
    columns = [pd.Index(known).get_indexer(pd.Index(table[column])) for known, column in names]
    return (*columns, table["layer"].to_numpy(np.intp), table["head"].to_numpy(np.intp))


class _Means:
    """Sums over texts, and over texts as each replicate draws them; [value] and [replicate, value]."""

    def __init__(self, choice: Choice, replicates: int, seed: Sequence[int]) -> None:
        self._choice, self._replicates, self._random = choice, replicates, np.random.default_rng(seed)
        self._waiting: list[Result] = []
        self.n = 0

    def add(self, result: Result) -> None:
        self._waiting.append(result)
        if len(self._waiting) == CHUNK:
            self._draw()

    def summary(self, level: float) -> Summary:
        self._draw()
        count = self._there
        mean = np.divide(self._sum, count, out=np.full(count.shape, np.nan), where=count > 0)
        low, high = _quantiles(self._sums, self._counts, ((1 - level) / 2, (1 + level) / 2))
        few = count < 2
        even = np.divide(
            self._even_sum, self._even_there, out=np.full(self._even_sum.shape, np.nan), where=self._even_there > 0
        )
        return Summary(
            mean=mean.astype(np.float32).reshape(self._shape),
            low=np.where(few, np.nan, low).astype(np.float32).reshape(self._shape),
            high=np.where(few, np.nan, high).astype(np.float32).reshape(self._shape),
            counted=count.astype(np.int64).reshape(self._shape),
            chance=even.astype(np.float32),
            n=self.n,
            choice=self._choice,
        )

    def _draw(self) -> None:
        if not self._waiting:
            return
        values = np.stack([self._choice.of(r.values) for r in self._waiting])
        even = np.stack([self._choice.of(r.chance) for r in self._waiting])
        if not self.n:
            self._shape = values.shape[1:]
            size = int(np.prod(self._shape))
            self._sum, self._there = np.zeros(size), np.zeros(size)
            self._even_sum, self._even_there = np.zeros(even.shape[1:]), np.zeros(even.shape[1:])
            self._sums = np.zeros((self._replicates, size), np.float32)
            self._counts = np.zeros((self._replicates, size), np.float32)
        self.n += len(values)
        self._waiting.clear()
        flat = values.reshape(len(values), -1)
        there = np.isfinite(flat)
        flat = np.where(there, flat, 0)
        self._sum += flat.sum(0, dtype=float)
        self._there += there.sum(0)
        self._even_sum += np.nansum(even, 0, dtype=float)
        self._even_there += np.isfinite(even).sum(0)
        weights = self._random.poisson(1, (self._replicates, len(flat))).astype(np.float32)
        self._sums += weights @ flat
        self._counts += weights @ there.astype(np.float32)


def _summaries(
    results: Iterable[tuple[str, Result]], choice: Choice, level: float, replicates: int, seed: int
) -> Iterator[tuple[str, Summary]]:
    if not 0 < level < 1:
        raise InputError(f"A level lies between 0 and 1, such as 0.95; got {level!r}.")
    whole(replicates, "replicates, how often texts are drawn again,")
    seeded(seed)
    means: dict[str, _Means] = {}
    for name, result in results:
        if name not in means and len(means) == MOST_LABELS:
            continue
        if name not in means:
            means[name] = _Means(choice, replicates, (seed, len(means)))
        means[name].add(result)
    for name, mean in means.items():
        yield name, mean.summary(level)


def _quantiles(sums: Floats, counts: Floats, shares: Sequence[float]) -> list[Doubles]:
    """Quantiles over replicates, [value] each; a replicate that drew no text of a value is passed over."""
    out = [np.full(sums.shape[1], np.nan) for _ in shares]
    for first in range(0, sums.shape[1], 512):  # a few values at a time: sorting needs a copy
        part = slice(first, first + 512)
        total, drawn = sums[:, part], counts[:, part]
        means = np.divide(total, drawn, out=np.full(total.shape, np.nan, np.float32), where=drawn > 0)
        means = np.sort(means.T, -1)  # NaN stand last
        last = np.isfinite(means).sum(-1) - 1
        rows = np.arange(len(means))
        for share, found in zip(shares, out, strict=True):
            place = share * last.clip(min=0)
            below = np.floor(place).astype(int)
            above = np.minimum(below + 1, last.clip(min=0))
            low, high = means[rows, below], means[rows, above]
            found[part] = low + (high - low) * (place - below)
    return out


def _modified_z(values: Doubles) -> Doubles:
    if not len(values):
        return values
    apart = values - np.median(values)
    middle = float(np.median(np.abs(apart)))
    scale = middle / 0.6745 if middle > 0 else float(np.abs(apart).mean()) / 0.7979
    return apart / scale if scale > 0 else np.zeros(len(values))


def _of_head(values: Floats, head: Head) -> np.float32:
    n_layers, n_heads = values.shape
    if not (0 <= head.layer < n_layers and 0 <= head.head < n_heads):
        raise HeadError(f"These results have heads L0H0 to L{n_layers - 1}H{n_heads - 1}; got {head}.")
    return np.float32(values[head.layer, head.head])
