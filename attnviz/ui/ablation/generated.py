"""Heads taken out one by one, measured by what the model then writes: a generation each.

`attnviz.ablation.sweep` refuses such outcomes, since nothing of them can be read off a batch of runs. The page says how
long it will take, and refuses what takes too long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from attnviz.ablation import Sweep
from attnviz.edits import Edit, Head
from attnviz.errors import Cancelled
from attnviz.tap import Progress
from attnviz.ui.ablation.subject import Subject

_SECONDS = 0.5  # between two partial sweeps


def pieces(
    subject: Subject, edits: Callable[[Sequence[Head]], list[Edit]], *, progress: Progress, done: Sweep | None
) -> Iterator[Sweep]:
    """What is known after about every half second, and all of it last; ends with what it has where it is cancelled.

    edits      what takes heads out together
    progress   called with (units done, in all); may raise Cancelled
    done       what is known already: it is not measured again
    """
    info, units = subject.model.info, subject.units
    found = {site: np.full(_shape(subject, site), np.nan) for site in info.sites}
    if done is not None:
        found = {site: values.copy() for site, values in done.found.items()}
    baseline = subject.model.measure(subject.metric, **subject.given) if done is None else done.baseline

    def made() -> Sweep:
        known = {site: values.copy() for site, values in found.items()}
        return Sweep(
            baseline=baseline,
            found=known,
            site=subject.site,
            metric=subject.metric.title,
            unit=subject.metric.unit,
            how=subject.how,
            units=subject.parts,
            noise=float("nan"),
            note="Each cell is a text of its own, written greedily.",
            budget=0,
            n_units=len(units),
        )

    last = time.perf_counter()
    try:
        for number, heads in enumerate(units):
            site, layer = info.site(heads[0].site), heads[0].layer
            column = heads[0].head // len(heads)
            if np.isnan(found[site][layer, column]):
                score = subject.model.measure(subject.metric, **subject.given, edits=edits(heads))
                found[site][layer, column] = score - baseline
            progress(number + 1, len(units))
            if time.perf_counter() - last >= _SECONDS:
                yield made()
                last = time.perf_counter()
    except Cancelled:
        pass
    yield made()


def _shape(subject: Subject, site: str) -> tuple[int, int]:
    mine = [heads for heads in subject.units if subject.model.info.site(heads[0].site) == site]
    return subject.model.info.layers_of(site), 1 + max(heads[0].head // len(heads) for heads in mine)
