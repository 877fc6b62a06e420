"""What the Heads page finds out: each thing as a job with progress, kept for all who look at the same texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from attnviz import flow, heads
from attnviz.corpus import Choice, Item, Result, Summary
from attnviz.edits import Head
from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.heads import DETECTORS, Labelled, Measure, Pairs, Probed
from attnviz.heads.detecting import masks_of, seen_by_any
from attnviz.heads.detectors import mean
from attnviz.models import Model
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import measuring, work
from attnviz.ui.heads.asking import Asked, numbers
from attnviz.ui.jobs import Job
from attnviz.ui.session import selection, stores
from attnviz.view import Seen, Sinks

Floats = npt.NDArray[np.float32]
MOST_TOP = 5
FAMILY_TEXTS = 16
_KEPT_BYTES = 4_096  # of a small result's Python objects
_DRAWS = 1_000


@dataclass(frozen=True, eq=False)
class _Kept:
    value: Any
    nbytes: int


@dataclass(frozen=True)
class _Refused:
    """An error without its traceback, whose frames may hold a model."""

    kind: type[AttnvizError]
    words: str


def kept(ask: Asked, key: tuple[Any, ...], title: str, make: Callable[[Job], Any], nbytes: int = 0) -> Any:
    """What `make` gives, from the cache or as a job that is waited for in view.

    key      all that it depends on besides the model
    raises   what `make` refuses as Unsupported, or as an InputError, so that the page can show the rest
    """
    of = (ask.name, "heads", *key)
    found = stores().traces.get(of)
    if found is None:

        def run(job: Job) -> _Kept:
            try:
                made = make(job)
            except (InputError, Unsupported) as error:
                made = _Refused(type(error), str(error))
            result = _Kept(made, _KEPT_BYTES + nbytes)
            if stores().models.get(ask.name) is ask.model:  # else it was let go meanwhile
                stores().traces.put(of, result)
            return result

        found = work.finished(of, title, run)
    if isinstance(found.value, _Refused):
        raise found.value.kind(found.value.words)
    return found.value


def summarised(ask: Asked) -> tuple[str, Summary]:
    """(name of the run, every detector's means with intervals), measured first where something is missing."""
    run = measuring.measured(ask.model, ask.about.key, selection(), site=ask.head.site)
    return run, measuring.summary(ask.name, ask.about.key, run, Choice())


def left_out(ask: Asked, run: str) -> dict[str, int]:
    """How many texts were left out, by reason."""
    return next((one.left for one in measuring.shelf().runs(ask.about.key) if one.run == run), {})


@dataclass(frozen=True, eq=False)
class Means:
    """One measure of every head: the mean over texts or samples, with its 95% interval.

    mean, low, high   [variant, layer, head]; intervals NaN where fewer than two texts count
    chance            [variant, layer], what even attention scores there
    counted           [variant, layer, head], texts or samples that count
    """

    mean: Floats
    low: Floats
    high: Floats
    chance: Floats
    counted: npt.NDArray[np.int64]


def of_texts(summary: Summary, detector: str) -> Means:
    at = list(DETECTORS).index(detector)
    return Means(
        summary.mean[:, at], summary.low[:, at], summary.high[:, at], summary.chance[:, at], summary.counted[:, at]
    )


def probed_key(ask: Asked) -> tuple[Any, ...]:
    return ("probes", ask.sinks)


def probed(ask: Asked) -> Probed:
    """Induction, copying and position on random tokens; Unsupported or InputError where a model cannot be probed."""

    def make(job: Job) -> Probed:
        job.report("reading random tokens", 0.0)
        return heads.induction(ask.model, sinks=ask.sinks, progress=job.step)

    return cast(Probed, kept(ask, probed_key(ask), "Probing every head", make, nbytes=1 << 20))


def probed_before(ask: Asked) -> Probed | None:
    """What was probed already, of the heads that are looked at; None where nothing was, or it was refused."""
    found = stores().traces.get((ask.name, "heads", *probed_key(ask)))
    value = None if found is None else found.value
    return value if isinstance(value, Probed) and value.site == ask.site else None


def of_samples(found: Probed, name: str, *, seed: int = 0) -> Means:
    """A probe's mean over samples; intervals by drawing samples again and again, a hint with so few."""
    values = found.scores[name]
    drawn = np.random.default_rng(seed).integers(0, len(values), (_DRAWS, len(values)))
    weights = np.stack([(drawn == i).sum(1) for i in range(len(values))], 1) / len(values)
    means = np.tensordot(weights, values, 1)
    low, high = (_quantile(means, share) for share in (0.025, 0.975))
    layers = values.shape[2]
    chance = np.repeat(found.chance[name][:, None], layers, 1)
    return Means(values.mean(0), low, high, chance, np.isfinite(values).sum(0))


def _quantile(means: npt.NDArray[np.float64], share: float) -> Floats:
    return np.sort(means, 0)[round(share * (len(means) - 1))].astype(np.float32)


def labelled(summary: Summary, found: Probed | None) -> Labelled:
    """A label for every head; induction is among them only where it was probed."""
    parts, names = [of_texts(summary, name) for name in DETECTORS], tuple(DETECTORS)
    if found is not None:
        parts, names = [*parts, of_samples(found, "induction")], (*names, "induction")
    values, low, high, chance = (
        np.stack([getattr(part, field) for part in parts], 1) for field in ("mean", "low", "high", "chance")
    )
    return heads.labels(values, chance, (low, high), names=names)


@dataclass(frozen=True, eq=False)
class Tops:
    """For every head the texts in which one detector is largest: [rank, layer, head]; number -1 where there is none."""

    numbers: npt.NDArray[np.int64]
    values: Floats


def tops(results: Iterable[Result], choice: Choice, most: int = MOST_TOP) -> Tops:
    """The texts with the largest values, from results as they stream; of equal ones the earlier text.

    choice   one detector and one variant
    """
    found, texts = None, None
    for result in results:
        value = choice.of(result.values)[0, 0]
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
    return Tops(texts, found)


@dataclass(frozen=True, eq=False)
class Fired:
    """A text in which a head scores high, and its row with the most of what the detector looks for.

    value            the detector's, over the whole text
    query, token     position of that row, and what stands there
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


def fired(ask: Asked, run: str, detector: str) -> list[Fired]:
    """The texts where the selected head fires most, the most first."""
    choice = Choice(detector, heads.VARIANTS[ask.variant])
    shelf, key, head = measuring.shelf(), ask.about.key, ask.head
    of = ("tops", key, run, shelf.done(key, run), choice)

    def look(job: Job) -> Tops:
        job.report("looking through the texts", 0.0)
        total = max(1, ask.about.n)

        def reported() -> Iterator[Result]:
            for done, result in enumerate(shelf.results(key, run)):
                if not done % 64:
                    job.step(done, total)
                yield result

        return tops(reported(), choice)

    every = cast(Tops, kept(ask, of, "Where heads fire most", look, nbytes=1 << 20))
    at = (slice(None), head.layer, head.head)
    best = [(int(n), float(v)) for n, v in zip(every.numbers[at], every.values[at], strict=True) if n >= 0]

    def trace(job: Job) -> list[Fired]:
        made = []
        for done, (number, value) in enumerate(best):
            job.report("reading its texts again", done / len(best))
            item = shelf.text(key, number)
            ran = ask.model.trace(item.text, item.pair or None, compact=True)
            query, most = strongest(ran, head, detector, ask.variant, ask.sinks)
            queries, keys = ran.axes(head.site)
            row = ask.view.row(ran, head, query)
            made.append(Fired(number, item, value, query, queries[query].text, most, row, tuple(keys)))
        return made

    return cast(list[Fired], kept(ask, (*of, head), "Its texts", trace, nbytes=MOST_TOP << 17))


def strongest(trace: Trace, head: Head, detector: str, variant: int, sinks: Sinks) -> tuple[int, float]:
    """(the query whose row has most of what a detector looks for, how much), of the rows that count.

    The most is told by how far it is above what even attention would give that row: of two keys any row has half.
    """
    site = trace.info.site(head.site)
    attention = trace.layer(head.layer, site)
    every = slice(0, len(trace.axes(site)[0]))
    whole = Measure.of(masks_of(trace, site, sinks), seen_by_any(attention, every))
    # Each row as a text of its own: then what is summed over rows is the row.
    rows = Measure(*(part.transpose(0, 1) for part in (whole.seen, whole.columns, whole.counted, whole.most)))
    pattern = attention.pattern(head.head)[0].transpose(0, 1)[:, :, None]
    of = (slice(None), variant, list(DETECTORS).index(detector), 0)
    values = mean(*rows.sums(pattern.float()))[of]
    above = values - mean(*rows.sums(rows.even()))[of]
    at = int(torch.where(above.isnan(), -torch.inf, above).argmax())
    return at, float(values[at])


def family(ask: Asked, likeness: str) -> Pairs:
    """How alike heads attend, or what they write, on some of the texts.

    raises   Unsupported where what heads write cannot be told; InputError without a text that can be read
    """
    writes = likeness == "writes"

    def make(job: Job) -> Pairs:
        job.report("comparing heads, text by text", 0.0)
        texts = numbers(ask.about.n, FAMILY_TEXTS)

        def read(one: Callable[[Model, Item], Any]) -> Iterator[Any]:
            refused: list[InputError] = []
            for done, number in enumerate(texts):
                job.step(done, len(texts))
                try:
                    yield one(ask.model, measuring.shelf().text(ask.about.key, number))
                except InputError as error:  # too long, or without a token: the run says so
                    refused.append(error)
            if len(refused) == len(texts):
                raise refused[0]

        if writes:
            runs = read(lambda model, item: flow.take_apart(model, item.text, item.pair or None))
            return heads.output_similarity(runs, site=ask.head.site)
        traces = read(lambda model, item: model.trace(item.text, item.pair or None, compact=True))
        return heads.pattern_distance(traces, site=ask.head.site, view=ask.view)

    key = ("family", likeness, ask.about.key, ask.head.site, None if writes else ask.view)
    size = 4 * (ask.model.info.heads_of(ask.site) * ask.model.info.layers_of(ask.site)) ** 2
    title = "What heads write" if writes else "What heads attend to"
    return cast(Pairs, kept(ask, key, title, make, nbytes=size))
