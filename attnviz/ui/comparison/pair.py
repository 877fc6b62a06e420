"""Two runs aligned, with the head that is looked at in each, and how much all heads differ between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from attnviz import compare
from attnviz.alignment import Alignment
from attnviz.edits import Head
from attnviz.errors import HeadError, InputError
from attnviz.export import about
from attnviz.heads import Scores
from attnviz.trace import Trace
from attnviz.ui import say, work
from attnviz.ui.focus import Focus
from attnviz.ui.jobs import Job
from attnviz.ui.session import selection
from attnviz.view import View

_OF_THE_VIEW = ("unit", "sinks", "sink_kinds", "sink_tokens")  # the same in both runs


@dataclass(frozen=True, eq=False)
class Run:
    """One side: the model by the name that the pool has for it, what it was given, and what it did.

    target   what an encoder-decoder's decoder was given to read; "" where it wrote that itself
    """

    name: str
    text: str
    target: str
    chat: bool
    trace: Trace


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs, the head that is looked at in each, and how their queries and keys correspond.

    alike     the models have heads of the same numbers, so that each head has its like
    """

    runs: tuple[Run, Run]
    head: Head
    other: Head
    view: View
    rows: Alignment
    cols: Alignment
    alike: bool

    @property
    def first(self) -> Trace:
        return self.runs[0].trace

    @property
    def second(self) -> Trace:
        return self.runs[1].trace

    @property
    def turned(self) -> Pair:
        """The same with the second run as the first."""
        return Pair(
            runs=self.runs[::-1],
            head=self.other,
            other=self.head,
            view=self.view,
            rows=_turned(self.rows),
            cols=_turned(self.cols),
            alike=self.alike,
        )


def _turned(alignment: Alignment) -> Alignment:
    return Alignment(
        pairs=tuple((theirs, ours) for ours, theirs in alignment.pairs),
        changed=frozenset((theirs, ours) for ours, theirs in alignment.changed),
        deleted=alignment.inserted,
        inserted=alignment.deleted,
    )


def paired(runs: tuple[Run, Run], focus: Focus) -> Pair:
    """The runs aligned, with the head that is looked at in each.

    raises   InputError where nothing in the two texts corresponds
    """
    first, second = (run.trace for run in runs)
    site = first.info.site(focus.head.site)
    other_site = site if site in second.info.sites else second.info.sites[-1]
    rows, cols = compare.alignments(first, second, site=site, other_site=other_site, view=focus.view)
    if not rows.pairs or not cols.pairs:
        raise InputError(
            "The two texts have no words in common places, so nothing can be compared. Choose texts that share words."
        )
    shapes = [(t.info.layers_of(s), t.info.heads_of(s)) for t, s in ((first, site), (second, other_site))]
    pair = Pair(
        runs=runs,
        head=focus.head,
        other=replace(focus.head, site=other_site),
        view=focus.view,
        rows=rows,
        cols=cols,
        alike=shapes[0] == shapes[1],
    )
    return replace(pair, other=_other_head(pair, other_site))


def _other_head(pair: Pair, site: str) -> Head:
    """The second run's head: the chosen one, that of the same number, or else the one that looks most alike."""
    chosen = selection()
    named = None if len(pair.second.info.sites) == 1 else site
    if chosen.other_layer is not None and chosen.other_head is not None:
        try:
            pair.second.info.check_head(chosen.other_layer, chosen.other_head, site)
        except HeadError as error:
            say.problem(error)
        else:
            return Head(chosen.other_layer, chosen.other_head, named)
    if pair.alike:
        return Head(pair.head.layer, pair.head.head, named)
    scores = nearest(replace(pair, other=Head(pair.second.info.layers[site][0], 0, named)))
    layer, head = np.unravel_index(int(np.nanargmin(np.nan_to_num(scores, nan=np.inf))), scores.shape)
    return Head(int(layer), int(head), named)


def facts(pair: Pair, head: Head | None, other: Head | None) -> dict[str, Any]:
    """Both runs for the head of a file: `attnviz.export.about` of the first, and "second_" before the second's facts.

    head, other   that the file is of, in the first and in the second run; None where it is of all
    """
    first, second = (
        about(trace, head=one, view=pair.view) for trace, one in ((pair.first, head), (pair.second, other))
    )
    sites = pair.first.info.site(pair.head.site), pair.second.info.site(pair.other.site)
    own = {f"second_{name}": value for name, value in second.items() if name not in _OF_THE_VIEW}
    return {**first, "site": sites[0], **own, "second_site": sites[1]}


def divergence(pair: Pair) -> Scores:
    """How much each head differs, [layer, head], in nats."""

    def compute(job: Job) -> Scores:
        return compare.divergence(
            pair.first,
            pair.second,
            site=pair.head.site,
            other_site=pair.other.site,
            view=pair.view,
            progress=job.step,
        )

    return _scored(pair, ("divergence", pair.head.site, pair.other.site), compute)


def nearest(pair: Pair) -> Scores:
    """How much the first's head differs from each head of the second, [layer, head], in nats."""
    head, site = pair.head, pair.other.site

    def compute(job: Job) -> Scores:
        return compare.nearest_heads(pair.first, head, pair.second, other_site=site, view=pair.view, progress=job.step)

    return _scored(pair, ("nearest", head, site), compute)


def _scored(pair: Pair, what: tuple[Any, ...], compute: Callable[[Job], Scores]) -> Scores:
    texts = [text for trace in (pair.first, pair.second) for text in (trace.text, trace.source_text)]
    names = [run.name for run in pair.runs]
    key = (names[0], *what, names[1], *map(work.digest, texts), *(run.chat for run in pair.runs), pair.view)

    def run(job: Job) -> Scores:
        job.report("comparing every head", 0.0)
        return compute(job)

    return cast(Scores, work.once(key, "Comparing", run))
