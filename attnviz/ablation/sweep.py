"""Every head ablated, exactly: how far each moves an outcome.

1. The clean run is made once; its layers' states are kept.
2. How many rows fit into the memory allowed, and into the processor's cache, is worked out before anything is run.
3. The growing pass (`attnviz.ablation.growing`) runs the rows in batches, and can be left after any layer: `pieces`
   gives what is known so far, by default with the aim of twice a second or oftener (a slow layer takes what it takes),
   and begins where another sweep of the same run ended.

A model whose layers cannot be called by themselves runs whole, one row a head, and the sweep's note says so.
An effect is about this text and this way of ablating. A small one does not mean that a head does nothing: later heads
may make up for it (self-repair).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from attnviz.ablation.asked import IN_WORDS, Asked, How, Question, UnitName
from attnviz.ablation.growing import Unit
from attnviz.ablation.passes import Passes
from attnviz.edits import Head
from attnviz.errors import Cancelled, InputError
from attnviz.metrics import Metric
from attnviz.models import Model
from attnviz.tap import Progress

_SECONDS = 0.3  # between two partial sweeps, and what a layer takes comes on top


@dataclass(frozen=True, eq=False)
class Sweep:
    """How far each head moves an outcome: metric(ablated) - metric(clean).

    baseline   the metric of the clean run
    found      by site, [layer, head] float64; NaN where there is no head, or where it was not reached; [layer, 1] for
               whole layers, [layer, group] for key/value groups
    site       the one that `effects` shows
    metric     in words, with its unit; `unit` the unit alone
    how, units as asked
    noise      the largest |difference| of unedited copies that rode along: effects below it are nothing; NaN where none
               was run
    note       what else to know of these numbers, in words
    budget     bytes that the rows were to take at most, worked out beforehand; the model's weights not counted
    n_units    how many effects there will be; `n_reached` of them are there
    """

    baseline: float
    found: Mapping[str, npt.NDArray[np.float64]]
    site: str
    metric: str
    unit: str
    how: How
    units: UnitName
    noise: float
    note: str
    budget: int
    n_units: int
    about: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def effects(self) -> npt.NDArray[np.float64]:
        """[layer, head] of the site asked for; NaN where there is no head or none was reached."""
        return self.found[self.site]

    @property
    def n_reached(self) -> int:
        return sum(int(np.isfinite(effects).sum()) for effects in self.found.values())

    @property
    def complete(self) -> bool:
        return self.n_reached == self.n_units

    @property
    def title(self) -> str:
        """What was done, in words, for captions."""
        each = {"head": "each head", "layer": "each layer's heads", "group": "each key/value group's heads"}[self.units]
        return f"change in {self.metric}, {each} {IN_WORDS[self.how]}"

    def frame(self) -> pd.DataFrame:
        """Columns site, layer, head (or group; none for layers), effect, metric: a row for each that was reached."""
        name = {"head": "head", "layer": "", "group": "group"}[self.units]
        rows = []
        for site, effects in self.found.items():
            for layer, column in np.argwhere(np.isfinite(effects)).tolist():
                rows.append((site, layer, column, float(effects[layer, column]), self.metric))
        frame = pd.DataFrame(rows, columns=["site", "layer", name or "none", "effect", "metric"])
        return frame if name else frame.drop(columns="none")

    def ranked(self) -> list[Head]:
        """The heads that were reached, at all sites, by |effect|, the largest first; of heads one by one alone."""
        if self.units != "head":
            raise InputError(f"This sweep is of {self.units}s, which are no heads: use frame().")
        frame = self.frame()
        several = len(self.found) > 1
        order = frame.effect.abs().to_numpy().argsort(kind="stable")[::-1]
        rows = [(str(site), int(layer), int(head)) for site, layer, head, *_ in frame.itertuples(index=False)]
        return [Head(layer, head, site if several else None) for site, layer, head in (rows[i] for i in order)]


def sweep(
    model: Model,
    text: str | None,
    metric: Metric,
    *,
    heads: Iterable[Head] | None = None,
    order: Iterable[Head] | None = None,
    memory: int | None = None,
    piece: int | None = None,
    progress: Progress | None = None,
    done: Sweep | None = None,
    **question: Unpack[Question],
) -> Sweep:
    """The exact effect of ablating every head of a model on one text, one at a time, at all sites.

    heads         only these; None: all
    order         heads to take first, for example `Screened.ranked()`
    memory        bytes that the sweep may take, model aside; None: 1 GB, on a GPU a quarter of what is free
    piece         most positions of one batch; None: what suits the device
    progress      called with (layer calls done, in all), each counted by its rows. If it raises Cancelled, what is
                  known so far is returned: see `Sweep.complete`
    done          a sweep of the same run that was stopped: what it has is not run again
    question      how="zero", donor, texts, by_position, target, input_ids, decoder_input_ids, site, edits and
                  units="head": see `attnviz.ablation.Question`
    raises        Unsupported for a view-only model; InputError, also where memory does not even hold one row; as
                  `Model.trace`
    """
    *_, found = pieces(
        model,
        text,
        metric,
        heads=heads,
        order=order,
        memory=memory,
        piece=piece,
        progress=progress,
        done=done,
        seconds=math.inf,
        **question,
    )
    return found


def pieces(
    model: Model,
    text: str | None,
    metric: Metric,
    *,
    heads: Iterable[Head] | None = None,
    order: Iterable[Head] | None = None,
    memory: int | None = None,
    piece: int | None = None,
    progress: Progress | None = None,
    done: Sweep | None = None,
    seconds: float = _SECONDS,
    **question: Unpack[Question],
) -> Iterator[Sweep]:
    """`sweep` bit by bit: what is known after about every `seconds`, and all of it last; stop whenever you like.

    The other arguments are those of `sweep`.
    """
    asked = Asked.of(model, text, metric, **question)
    units = asked.all_units(heads)
    if order is not None:
        first = dict.fromkeys(unit for unit in map(asked.unit_of, order) if unit in set(units))
        units = list(first | dict.fromkeys(units))
    if done is not None and done.about != asked.about:
        raise InputError(
            "`done` is a sweep of another run: its model, text, metric, edits and ablation must be the same."
        )
    known = {} if done is None else _known(asked, done)
    left = [unit for unit in units if unit not in known]
    noise = np.nan if done is None else done.noise
    passes = Passes.of(asked, memory, piece)

    def made() -> Sweep:
        n_units, budget = len({*units, *known}), passes.budget.total
        return swept(asked, known, passes.baseline, float(noise), n_units, note=passes.note, budget=budget)

    if left and np.isnan(noise):
        # Unedited copies, from the lowest place and from the middle up, whatever the order.
        upwards = [unit for unit in asked.all_units(None) if unit in set(left)]
        copies = [Unit(upwards[n].place, ()) for n in (0, len(left) // 2)]
        left = [copies[0], *left[: len(left) // 2], copies[1], *left[len(left) // 2 :]]
    worked, work = 0, passes.work(left)
    last = time.perf_counter()
    try:
        for more, scored in passes.run(left):
            for unit, score in scored:
                effect = score - passes.baseline
                if unit.heads:
                    known[unit] = effect
                else:
                    noise = np.fmax(noise, abs(effect))
            worked += more
            if progress is not None and more:
                progress(worked, work)
            if time.perf_counter() - last >= seconds and worked < work:
                yield made()
                last = time.perf_counter()
    except Cancelled:
        pass
    yield made()


def _known(asked: Asked, done: Sweep) -> dict[Unit, float]:
    """What a sweep has reached, by unit."""
    effects = {}
    for unit in asked.all_units(None):
        effect = done.found[unit.place.site][unit.place.layer, unit.heads[0] // len(unit.heads)]
        if np.isfinite(effect):
            effects[unit] = float(effect)
    return effects


_Kind = TypeVar("_Kind", bound=Sweep)


def swept(
    asked: Asked,
    known: Mapping[Unit, float],
    baseline: float,
    noise: float,
    n_units: int,
    *,
    note: str,
    budget: int = 0,
    kind: type[_Kind] = Sweep,  # type: ignore[assignment]
) -> _Kind:
    """What is known of a question, as a Sweep or its like."""
    found = {site: np.full(asked.shape(site), np.nan) for site in asked.model.layout.sites}
    for unit, effect in known.items():
        found[unit.place.site][unit.place.layer, unit.heads[0] // len(unit.heads)] = effect
    return kind(
        baseline=baseline,
        found=found,
        site=asked.site,
        metric=asked.metric.title,
        unit=asked.metric.unit,
        how=asked.how,
        units=asked.units,
        noise=noise,
        note=note,
        budget=budget,
        n_units=n_units,
        about=asked.about,
    )
