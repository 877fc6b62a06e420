"""Two runs side by side: how one head's patterns differ, and which heads differ most.

    1. Queries and keys are aligned by their words (`attnviz.alignment`).
    2. Patterns differ on what pairs; attention to what only one run has is one number a row.
    3. For all heads, each pair of aligned rows becomes two distributions over the same bins, and their Jensen-Shannon
       divergence (Lin 1991), in nats, is averaged over the rows.

One pair of texts is one pair: what differs there is a place to look closer, and a difference in attention is no effect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.alignment import Alignment, Axis, align
from attnviz.edits import Head
from attnviz.errors import ShapeError
from attnviz.heads import TOKENS, Scores
from attnviz.info import ModelInfo
from attnviz.tap import Progress
from attnviz.trace import Trace
from attnviz.view import Seen, View

_CHUNK_ROWS = 256


@dataclass(frozen=True)
class Place:
    """Where attention is read: one head, or with None all heads of a layer."""

    layer: int
    head: int | None
    site: str | None


@dataclass(frozen=True, eq=False)
class Difference:
    """One head's pattern in the second run minus that in the first, where the two texts correspond.

    weights       [pair of queries, pair of keys], in [-1, 1]; NaN where a view took the key away
    only_first    [pair of queries], attention of the first run to keys that only it has, a share of 1
    only_second   [pair of queries], the same of the second run
    nats          [pair of queries], Jensen-Shannon divergence of the two rows, in [0, ln 2]
    rows, cols    how queries and keys were aligned
    row_labels, col_labels   what a row and a column stand for
    """

    weights: npt.NDArray[np.float32]
    only_first: npt.NDArray[np.float32]
    only_second: npt.NDArray[np.float32]
    nats: npt.NDArray[np.float32]
    rows: Alignment
    cols: Alignment
    row_labels: tuple[str, ...]
    col_labels: tuple[str, ...]

    def frame(self) -> pd.DataFrame:
        """A row for each cell: the positions of query and key in both runs, their texts, and the difference."""
        rows, cols = np.array(self.rows.pairs).reshape(-1, 2), np.array(self.cols.pairs).reshape(-1, 2)
        return pd.DataFrame(
            {
                "query_first": np.repeat(rows[:, 0], len(cols)),
                "query_second": np.repeat(rows[:, 1], len(cols)),
                "query_text": np.repeat(np.array(self.row_labels, dtype=object), len(cols)),
                "key_first": np.tile(cols[:, 0], len(rows)),
                "key_second": np.tile(cols[:, 1], len(rows)),
                "key_text": np.tile(np.array(self.col_labels, dtype=object), len(rows)),
                "difference": self.weights.ravel(),
            }
        )


def alignments(
    first: Trace,
    second: Trace,
    *,
    site: str | None = None,
    other_site: str | None = None,
    view: View = TOKENS,
) -> tuple[Alignment, Alignment]:
    """(queries aligned, keys aligned) of two runs, read as a view reads them.

    site         of the first run's attention; None for its only or first one
    other_site   of the second run's; None for the one that it has by the name of `site`, or its only or first one
    raises       HeadError for a site that a model does not have
    """
    queries, keys = _axes(first, site, view)
    other_queries, other_keys = _axes(second, _other_site(second.info, site, other_site), view)
    rows = align(queries, other_queries)
    same = queries == keys and other_queries == other_keys
    return rows, rows if same else align(keys, other_keys)


def difference(first: Seen, second: Seen, rows: Alignment, cols: Alignment) -> Difference:
    """Second minus first of one head's patterns, where their queries and keys correspond.

    rows, cols   how their queries and their keys are aligned
    raises       ShapeError if the alignments are not of these patterns
    """
    for side, seen in enumerate((first, second)):
        shape = rows.size(side), cols.size(side)
        if tuple(seen.weights.shape) != shape:
            raise ShapeError(f"The alignments are of a pattern {shape}; got one of {tuple(seen.weights.shape)}.")
    ours, theirs = first.weights[rows.side(0)], second.weights[rows.side(1)]
    hidden = first.hidden[cols.side(0)] | second.hidden[cols.side(1)]
    weights = theirs[:, cols.side(1)] - ours[:, cols.side(0)]
    return Difference(
        weights=weights.masked_fill(hidden, torch.nan).numpy(),
        only_first=ours[:, cols.alone(0)].sum(-1).numpy(),
        only_second=theirs[:, cols.alone(1)].sum(-1).numpy(),
        nats=_jensen_shannon(_binned(ours, cols, 0), _binned(theirs, cols, 1)).numpy(),
        rows=rows,
        cols=cols,
        row_labels=rows.labels(first.queries, second.queries),
        col_labels=cols.labels(first.keys, second.keys),
    )


def head_difference(
    first: Trace, second: Trace, head: Head, *, other: Head | None = None, view: View = TOKENS
) -> Difference:
    """`difference` of one head of two runs, aligned here.

    other    the second run's head; None for the one of the same number
    raises   HeadError for a head that a run does not have
    """
    other_site = _other_site(second.info, head.site, other.site if other else None)
    other = replace(other or head, site=other_site)
    rows, cols = alignments(first, second, site=head.site, other_site=other_site, view=view)
    return difference(view.pattern(first, head), view.pattern(second, other), rows, cols)


def divergence(
    first: Trace,
    second: Trace,
    *,
    site: str | None = None,
    other_site: str | None = None,
    view: View = TOKENS,
    progress: Progress | None = None,
) -> Scores:
    """How much each head's attention differs between two runs: [layer, head], in nats, from 0 to ln 2.

    The mean over aligned queries of the Jensen-Shannon divergence of their two rows. The bins of a row are each pair of
    aligned keys; all keys that only the first run has; all that only the second has; and what the view took away or
    the row never had (models with sinks), so that each row is a distribution. Rows that see one key at most on both
    sides are left out. NaN where the models do not both have the head, and where no row is left.

    site, other_site   as `alignments` takes them
    progress           called with (layers done, layers in all); raise from it to stop
    The same head of two models need not do the same work: see `nearest_heads`.
    """
    other_site = _other_site(second.info, site, other_site)
    rows, cols = alignments(first, second, site=site, other_site=other_site, view=view)
    shapes = [
        (t.info.layers_of(s), t.info.heads_of(s)) for t, s in ((first, first.info.site(site)), (second, other_site))
    ]
    out = np.full(np.max(shapes, axis=0), np.nan, np.float32)
    layers = sorted({*first.layers(site)} & {*second.layers(other_site)})
    _tell(progress, 0, len(layers))
    for done, layer in enumerate(layers, 1):
        n_heads = min(first.layer(layer, site).n_heads, second.layer(layer, other_site).n_heads)
        ours = _pieces(view, first, Place(layer, None, site), rows, cols, 0)
        theirs = _pieces(view, second, Place(layer, None, other_site), rows, cols, 1)
        out[layer, :n_heads] = _mean_nats(ours, theirs, n_heads)
        _tell(progress, done, len(layers))
    return out


def nearest_heads(
    first: Trace,
    head: Head,
    second: Trace,
    *,
    other_site: str | None = None,
    view: View = TOKENS,
    progress: Progress | None = None,
) -> Scores:
    """How much one head of the first run differs from every head of the second: [layer, head] of the second, in nats.

    As `divergence`, for models whose heads do not correspond; the smallest is the head that looks most alike here.
    raises   HeadError for a head that the first run does not have
    """
    first.info.check_head(head.layer, head.head, head.site)
    other_site = _other_site(second.info, head.site, other_site)
    rows, cols = alignments(first, second, site=head.site, other_site=other_site, view=view)
    out = np.full((second.info.layers_of(other_site), second.info.heads_of(other_site)), np.nan, np.float32)
    ours = list(_pieces(view, first, Place(head.layer, head.head, head.site), rows, cols, 0))
    layers = second.layers(other_site)
    _tell(progress, 0, len(layers))
    for done, layer in enumerate(layers, 1):
        n_heads = second.layer(layer, other_site).n_heads
        out[layer, :n_heads] = _mean_nats(
            ours, _pieces(view, second, Place(layer, None, other_site), rows, cols, 1), n_heads
        )
        _tell(progress, done, len(layers))
    return out


def _axes(trace: Trace, site: str | None, view: View) -> tuple[Axis, Axis]:
    """(queries, keys) of a run."""
    parts = zip(view.axes(trace, site), trace.axes(site), trace.texts(site), strict=True)
    queries, keys = (Axis(units, tokens, text) for units, tokens, text in parts)
    return queries, keys


def _other_site(info: ModelInfo, site: str | None, other_site: str | None) -> str:
    """The second run's site."""
    return info.site(other_site if other_site is not None else site if site in info.sites else None)


def _pieces(
    view: View, trace: Trace, place: Place, rows: Alignment, cols: Alignment, side: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Aligned rows of one side, some at a time: (bins [head, pair, bin], whether a row has a choice [head, pair])."""
    wanted = rows.side(side)
    for start in range(0, len(wanted), _CHUNK_ROWS):
        units = wanted[start : start + _CHUNK_ROWS]
        bins, choices = [], []
        for part in view.rows(trace, place.layer, place.head, place.site, range(units[0], units[-1] + 1)):
            own = [unit - part.units.start for unit in units if unit in part.units]
            weights = part.weights[:, own]
            bins.append(_binned(weights, cols, side))
            choices.append((part.visible[:, own] > 1).expand(weights.shape[:2]))
        yield torch.cat(bins, 1), torch.cat(choices, 1)


def _binned(weights: torch.Tensor, cols: Alignment, side: int) -> torch.Tensor:
    """[..., key] -> [..., bin]: aligned keys, the first's alone, the second's alone, what is missing."""
    shared = weights[..., cols.side(side)]
    alone = weights[..., cols.alone(side)].sum(-1, keepdim=True)
    none = torch.zeros_like(alone)
    missing = (1 - weights.sum(-1, keepdim=True)).clamp(min=0)
    return torch.cat([shared, *((alone, none), (none, alone))[side], missing], -1)


def _jensen_shannon(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """In nats, over the last axis; broadcasts."""
    middle = ((p + q) / 2).clamp(min=torch.finfo(p.dtype).tiny)
    nats = (torch.special.xlogy(p, p / middle) + torch.special.xlogy(q, q / middle)).sum(-1) / 2
    return nats.clamp(0, math.log(2))


def _mean_nats(
    ours: Iterable[tuple[torch.Tensor, torch.Tensor]], theirs: Iterable[tuple[torch.Tensor, torch.Tensor]], n_heads: int
) -> npt.NDArray[np.float32]:
    """[head], the mean over rows where one side has a choice; NaN where none has."""
    found = [torch.empty(n_heads, 0)]
    for (p, p_choice), (q, q_choice) in zip(ours, theirs, strict=True):
        nats = _jensen_shannon(p[:n_heads], q[:n_heads].to(p.device))
        found.append(nats.where(p_choice[:n_heads] | q_choice[:n_heads].to(p.device), torch.nan).cpu())
    return torch.cat(found, 1).nanmean(1).numpy()


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
