"""In which texts a head does most of what a detector looks for, and in which as much as it mostly does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from attnviz import heads
from attnviz.corpus import Choice, Item, Result
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.heads import DETECTORS, Measure
from attnviz.heads.detecting import masks_of, seen_by_any
from attnviz.heads.detectors import mean
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import measuring
from attnviz.ui.heads.asking import Asked
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.view import Seen, Sinks

Floats = npt.NDArray[np.float32]
MOST_TOP = 5
USUAL = 2
_HELD = 1_000  # texts whose values are held at once, for their median
_TOPS_BYTES, _FIRED_BYTES = 1 << 20, 1 << 17  # of every head's texts, and of one text with its row


@dataclass(frozen=True, eq=False)
class Tops:
    """For every head the texts in which one detector is largest: [rank, layer, head]; number -1 where there is none.

    usual, usual_values   alike, the texts nearest the median; `median` is [layer, head]
    """

    numbers: npt.NDArray[np.int64]
    values: Floats
    usual: npt.NDArray[np.int64]
    usual_values: Floats
    median: Floats


def tops(results: Iterable[Result], choice: Choice, most: int = MOST_TOP, *, every: int = 1) -> Tops:
    """The texts with the largest values and the usual ones, from results as they stream; of equal ones the earlier.

    choice   one detector and one variant
    every    the median is of every so manieth text, so that the values held stay few
    """
    found, texts = None, None
    held: list[Floats] = []
    held_of: list[int] = []
    for n, result in enumerate(results):
        value = choice.of(result.values)[0, 0]
        if n % every == 0:
            held.append(value)
            held_of.append(result.number)
        if found is None or texts is None:
            found = np.full((most, *value.shape), -np.inf, np.float32)
            texts = np.full(found.shape, -1, np.int64)
        value = np.where(np.isfinite(value), value, -np.inf)
        new = np.concatenate([found, value[None]])
        who = np.concatenate([texts, np.where(np.isfinite(value), result.number, -1)[None]])
        order = np.argsort(-new, axis=0, kind="stable")[:most]
        found, texts = np.take_along_axis(new, order, 0), np.take_along_axis(who, order, 0)
    if found is None or texts is None:
        raise InputError("There are no results to look through: no text was measured.")
    return Tops(texts, found, *_usual(np.stack(held), np.array(held_of)))


def _usual(values: Floats, numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """(numbers and values of the texts nearest the median, the median), of [text, layer, head]."""
    there = np.isfinite(values)
    count = there.sum(0)
    rising = np.sort(values, axis=0)  # NaN comes last
    sides = [np.take_along_axis(rising, at[None], 0)[0] for at in ((count - 1).clip(0) // 2, count // 2)]
    # Where no text counts, all that is taken is NaN; of an odd number both sides are the same one.
    median = np.where(count > 0, (sides[0] + sides[1]) / 2, np.nan).astype(np.float32)
    away = np.where(there, np.abs(values - median), np.inf)
    order = np.argsort(away, axis=0, kind="stable")[:USUAL]
    found = np.take_along_axis(values, order, 0)
    return np.where(np.isfinite(found), numbers[order], -1), found, median


@dataclass(frozen=True, eq=False)
class Fired:
    """A text and one of its rows.

    value            the detector's, over the whole text
    query, token     position of the row, and what stands there
    at_query         the detector's value in that row alone
    row, keys        the row as the view shows it, and the tokens it is over
    """

    number: int
    item: Item
    value: float
    query: int
    token: str
    at_query: float
    row: Seen
    keys: tuple[Token, ...]


@dataclass(frozen=True, eq=False)
class Firing:
    """Texts of one head: those in which it fires most, the most first, and those nearest its `median` over texts."""

    most: tuple[Fired, ...]
    usual: tuple[Fired, ...]
    median: float


def fired(ask: Asked, run: str, detector: str) -> Firing:
    """Where the selected head fires, each text with a row: the strongest, or in a usual text one nearest the median."""
    choice = Choice(detector, heads.VARIANTS[ask.variant])
    shelf, key, head = measuring.shelf(), ask.about.key, ask.head
    of = (*ask.of, "tops", key, run, shelf.done(key, run), choice)

    def look(job: Job) -> Tops:
        job.report("looking through the texts", 0.0)
        total = max(1, ask.about.n)

        def reported() -> Iterator[Result]:
            for done, result in enumerate(shelf.results(key, run)):
                if not done % 64:
                    job.step(done, total)
                yield result

        return tops(reported(), choice, every=-(-total // _HELD))

    every = cast(Tops, kept(ask, of, "Where heads fire most", look, lambda made: _TOPS_BYTES))
    at = (slice(None), head.layer, head.head)
    chosen = [(int(n), float(v), False) for n, v in zip(every.numbers[at], every.values[at], strict=True) if n >= 0]
    chosen += [(int(n), float(v), True) for n, v in zip(every.usual[at], every.usual_values[at], strict=True) if n >= 0]

    def trace(job: Job) -> Firing:
        made: dict[bool, list[Fired]] = {False: [], True: []}
        for done, (number, value, usual) in enumerate(chosen):
            job.report("reading its texts again", done / len(chosen))
            item = shelf.text(key, number)
            ran = ask.model.trace(item.text, item.pair or None, compact=True)
            row_of = middling if usual else strongest
            query, at_query = row_of(ran, head, detector, ask.variant, ask.sinks)
            queries, keys = ran.axes(head.site)
            row = ask.view.row(ran, head, query)
            made[usual].append(Fired(number, item, value, query, queries[query].text, at_query, row, tuple(keys)))
        return Firing(tuple(made[False]), tuple(made[True]), float(every.median[head.layer, head.head]))

    return cast(Firing, kept(ask, (*of, head), "Its texts", trace, lambda made: (MOST_TOP + USUAL) * _FIRED_BYTES))


def strongest(trace: Trace, head: Head, detector: str, variant: int, sinks: Sinks) -> tuple[int, float]:
    """(the query whose row has most of what a detector looks for, how much), of the rows that count.

    The most is told by how far it is above what even attention would give that row: of two keys any row has half.
    """
    values, even = _rows(trace, head, detector, variant, sinks)
    above = values - even
    at = int(torch.where(above.isnan(), -torch.inf, above).argmax())
    return at, float(values[at])


def middling(trace: Trace, head: Head, detector: str, variant: int, sinks: Sinks) -> tuple[int, float]:
    """(a query whose row has the median of what a detector looks for, how much), of the rows that count."""
    value, at = _rows(trace, head, detector, variant, sinks)[0].nanmedian(0)
    return int(at), float(value)


def _rows(trace: Trace, head: Head, detector: str, variant: int, sinks: Sinks) -> tuple[torch.Tensor, torch.Tensor]:
    """[query] twice: a detector's value in each row, and what even attention has there; NaN where a row counts not."""
    site = trace.info.site(head.site)
    attention = trace.layer(head.layer, site)
    every = slice(0, len(trace.axes(site)[0]))
    whole = Measure.of(masks_of(trace, site, sinks), seen_by_any(attention, every))
    # Each row as a text of its own: then what is summed over rows is the row.
    rows = Measure(*(part.transpose(0, 1) for part in (whole.seen, whole.columns, whole.counted, whole.most)))
    pattern = attention.pattern(head.head)[0].transpose(0, 1)[:, :, None]
    of = (slice(None), variant, list(DETECTORS).index(detector), 0)
    return mean(*rows.sums(pattern.float()))[of].cpu(), mean(*rows.sums(rows.even()))[of].cpu()
