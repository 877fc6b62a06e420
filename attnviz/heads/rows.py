"""Scores of every head on one text: one number a head, `[layer, head]`, to find heads worth a closer look.

A score on one text says what a head did there, not what it is for, and attention is not effect. Each score is a mean
over rows, as a View shows them; rows that see a single unit have no choice and are left out. Patterns are made some
rows at a time and let go, once for all scores together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from attnviz.errors import InputError
from attnviz.heads.detecting import kind_of
from attnviz.heads.divergence import entropy_nats
from attnviz.tap import Progress
from attnviz.trace import Trace, checked_position
from attnviz.view import Rows, View

Scores = npt.NDArray[np.float32]
Reader = Callable[[int, Rows], None]
_Measure = Callable[[Rows], tuple[torch.Tensor, torch.Tensor]]

TOKENS = View()
NAMES = ("entropy", "sink", "previous", "distance")


def scores(
    trace: Trace,
    names: Sequence[str] = NAMES,
    *,
    site: str | None = None,
    view: View = TOKENS,
    progress: Progress | None = None,
) -> dict[str, Scores]:
    """Several scores from one pass over the patterns: name -> [layer, head]; NaN where there is no head or no row.

    names    out of "entropy", "sink", "previous" and "distance": see the functions of this module
    raises   InputError for another name; Unsupported for value norms where none were recorded
    """
    means = row_means(trace, names, site=site, view=view)
    sweep(trace, passes(means, view), site=site, progress=progress)
    return {name: mean.result() for name, mean in means.items()}


def entropy(trace: Trace, *, site: str | None = None, view: View = TOKENS, progress: Progress | None = None) -> Scores:
    """Mean row entropy, as a share of the most it could be: [layer, head], 0 (one key) to 1 (all keys alike).

    A row's entropy in nats is divided by the log of the number of keys the query can see. A row is first
    divided by its sum: it is less than 1 where sinks are hidden, and in models with learned sinks.
    """
    return scores(trace, ("entropy",), site=site, view=view, progress=progress)["entropy"]


def sink_mass(
    trace: Trace, *, key: int = 0, site: str | None = None, view: View = TOKENS, progress: Progress | None = None
) -> Scores:
    """Mean attention that queries pay to one key, by default the first token: [layer, head], a share of 1.

    Queries before the key are left out. Read from the clean pattern also where the view takes sinks away: what it
    hides is what this measures. Much of it is a place where heads rest, not a finding (arXiv 2410.10781).
    """
    means = row_means(trace, ("sink",), site=site, view=view, key=key)
    sweep(trace, passes(means, view), site=site, progress=progress)
    return means["sink"].result()


def previous_token(
    trace: Trace, *, site: str | None = None, view: View = TOKENS, progress: Progress | None = None
) -> Scores:
    """Mean attention that queries, from the second on, pay to the unit before them: [layer, head], a share of 1.

    Queries whose previous unit is taken away are left out. NaN for cross-attention: its keys are another text.
    """
    return scores(trace, ("previous",), site=site, view=view, progress=progress)["previous"]


def distance(trace: Trace, *, site: str | None = None, view: View = TOKENS, progress: Progress | None = None) -> Scores:
    """Mean distance between a query and what it attends to: [layer, head], in units of the view.

    A row's distance is the sum over keys of attention times |query - key|, divided by the row's sum. NaN for
    cross-attention: there is no distance between two texts.
    """
    return scores(trace, ("distance",), site=site, view=view, progress=progress)["distance"]


def attention_between(
    trace: Trace,
    queries: int | Sequence[int],
    keys: int | Sequence[int],
    *,
    site: str | None = None,
    view: View = TOKENS,
) -> Scores:
    """How much attention some queries pay to some keys: [layer, head], a share of 1; NaN where there is no head.

    queries, keys   positions of tokens, one or several, each counted once; negative ones count from the end
    view            its sinks are obeyed, its units are not: NaN too where all these keys are taken away
    returns         the mean over queries of the sum over keys
    raises          InputError for no position, or one that the site's axes do not have
    """
    site = trace.info.site(site)
    query_axis, key_axis = trace.axes(site)
    chosen_queries = _positions(queries, len(query_axis), "query")
    chosen_keys = torch.tensor(_positions(keys, len(key_axis), "key"))
    view = replace(view, unit="token")
    out = _empty(trace, site)
    if view.hidden(trace, site)[chosen_keys].all():
        return out
    for layer in trace.layers(site):
        total = torch.zeros(trace.layer(layer, site).n_heads)
        for run in runs(chosen_queries):
            for rows in view.rows(trace, layer, site=site, units=run):
                total += rows.weights[..., chosen_keys.to(rows.weights.device)].sum((-2, -1)).cpu()
        out[layer, : len(total)] = (total / len(chosen_queries)).numpy()
    return out


class RowMeans:
    """The mean over rows of one measure, gathered piece by piece; call it with each piece."""

    def __init__(self, shape: tuple[int, int], measure: _Measure) -> None:
        self._measure = measure
        self._sums, self._counts = np.zeros(shape), np.zeros(shape)

    def __call__(self, layer: int, rows: Rows) -> None:
        values, counted = self._measure(rows)
        counted = counted.expand_as(values)
        self._sums[layer, : len(values)] += torch.where(counted, values, 0).sum(-1).cpu().numpy()
        self._counts[layer, : len(values)] += counted.sum(-1).cpu().numpy()

    def result(self) -> Scores:
        """[layer, head]; NaN where no row counts."""
        return (self._sums / np.where(self._counts > 0, self._counts, np.nan)).astype(np.float32)


def row_means(
    trace: Trace, names: Sequence[str], *, site: str | None = None, view: View = TOKENS, key: int = 0
) -> dict[str, RowMeans]:
    """Readers for `sweep` that come to the scores of these names.

    key   the position that the "sink" is at
    """
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise InputError(f"Scores are named {', '.join(NAMES)}; got {unknown[0]!r}.")
    site = trace.info.site(site)
    measures = _measures(trace, site, view, key)
    shape = (trace.info.layers_of(site), trace.info.heads_of(site))
    return {name: RowMeans(shape, measures[name]) for name in names}


def passes(means: Mapping[str, RowMeans], view: View) -> dict[View, list[Reader]]:
    """Which view each of the scores reads: this one, but for "sink" the clean one."""
    out: dict[View, list[Reader]] = {}
    for name, mean in means.items():
        out.setdefault(clean(view) if name == "sink" else view, []).append(mean)
    return out


def clean(view: View) -> View:
    """The same units with nothing done to sinks."""
    return replace(view, sinks=replace(view.sinks, how="show"))


def sweep(
    trace: Trace,
    readers: Mapping[View, Sequence[Reader]],
    *,
    site: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Give every piece of every layer's pattern, as each view shows it, to the readers of that view."""
    layers = trace.layers(site)
    total = len(layers) * len(readers)
    for number, (view, readings) in enumerate(readers.items()):
        for done, layer in enumerate(layers, number * len(layers)):
            if progress is not None:
                progress(done, total)
            for rows in view.rows(trace, layer, site=site):
                for reading in readings:
                    reading(layer, rows)
    if progress is not None:
        progress(total, total)


def _measures(trace: Trace, site: str, view: View, key: int) -> dict[str, _Measure]:
    """What each score says of some rows: (values [head, query unit], whether they count, broadcastable to it)."""
    keys = view.axes(trace, site)[1]
    sink = keys.at(checked_position(key, keys.n_tokens, "key"))
    gone = keys.mean(view.hidden(trace, site).float()) == 1
    own = _own_units(trace, site, view)
    causal = trace.info.family == "decoder" or site == "decoder"

    def entropy_share(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        weights = rows.weights / rows.weights.sum(-1, keepdim=True).clamp(min=1e-30)
        return entropy_nats(weights) / rows.visible.clamp(min=2).log(), rows.visible > 1

    def to_sink(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        counted = rows.visible > 1
        if causal and own is not None:
            counted = counted & (own[rows.units.start : rows.units.stop] >= sink).to(counted.device)
        return rows.weights[..., sink], counted

    def to_previous(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        if own is None:
            return _nothing(rows)
        before = own[rows.units.start : rows.units.stop] - 1
        there = (before >= 0) & ~gone[before.clamp(min=0)]
        at = before.clamp(min=0).to(rows.weights.device)
        values = rows.weights.gather(-1, at[None, :, None].expand(len(rows.weights), -1, 1))[..., 0]
        return values, (rows.visible > 1) & there.to(values.device)

    def away(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        if own is None:
            return _nothing(rows)
        here = own[rows.units.start : rows.units.stop]
        apart = (here[:, None] - torch.arange(len(keys))).abs().to(rows.weights)
        mass = rows.weights.sum(-1)
        paths = torch.einsum("hqk,qk->hq", rows.weights, apart)
        return paths / mass.clamp(min=1e-30), (rows.visible > 1) & (mass > 0)

    return {"entropy": entropy_share, "sink": to_sink, "previous": to_previous, "distance": away}


def _nothing(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    values = rows.weights[..., 0]
    return values, torch.zeros_like(values, dtype=torch.bool)


def _own_units(trace: Trace, site: str, view: View) -> torch.Tensor | None:
    """[query unit], the key unit that each is itself; None where queries are not the last of the keys."""
    if kind_of(trace, site) == "cross":
        return None
    query_tokens, key_tokens = trace.axes(site)
    before = len(key_tokens) - len(query_tokens)  # keys that a cache held
    queries, keys = view.axes(trace, site)
    return torch.tensor([keys.at(before + start) for start, _ in queries.spans])


def _positions(chosen: int | Sequence[int], length: int, what: str) -> list[int]:
    several = chosen if isinstance(chosen, Sequence) else (chosen,)
    if not several:
        raise InputError(f"Attention is between at least one query and one key; got no {what}.")
    return sorted({checked_position(position, length, what) for position in several})


def evenly(n: int, most: int, first: int = 0) -> list[int]:
    """At most so many of n positions, evenly chosen; from `first` on where there are others."""
    first = min(first, n - 1)
    return sorted({int(i) for i in np.linspace(first, n - 1, min(most, n - first)).round()})


def runs(positions: Sequence[int]) -> Iterator[range]:
    """Rising positions as ranges of neighbours."""
    start = 0
    for i, position in enumerate(positions, 1):
        if i == len(positions) or positions[i] != position + 1:
            yield range(positions[start], position + 1)
            start = i


def _empty(trace: Trace, site: str) -> Scores:
    return np.full((trace.info.layers_of(site), trace.info.heads_of(site)), np.nan, np.float32)
