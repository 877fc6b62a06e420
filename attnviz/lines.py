"""Attention as lines: the fewest edges, over some heads together, that hold a share of their attention.

1. Rows stream past, some hundred tokens of one head at a time; what they sum to is added up.
2. Only the `most` heaviest edges so far are kept. The fewest edges that hold a share are always the heaviest, so
   nothing that is passed over could have been among them.
3. At the end the kept edges are sorted, and cut where their sum reaches the share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.edits import Head
from attnviz.errors import HeadError, InputError
from attnviz.tap import Progress
from attnviz.trace import Trace, checked_position
from attnviz.units import Units
from attnviz.view import View

MOST_EDGES = 20_000  # more than a screen can show apart
_SLACK = 1e-9  # of the mass: a share of 1 is reached although sums are rounded


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of some heads, the heaviest first; ties in the order of heads, queries and keys.

    head      [edge], a place in `heads`
    query     [edge], a unit of `queries`
    key       [edge], a unit of `keys`
    weight    [edge], attention, a share of 1 in its row; float32, above 0
    taken     [head, query unit], the share of attention that the view took away or moved
    total     the sum of all weights that the view shows, in all these heads
    n_all     how many of them are above 0
    one       the query unit that all edges are of, or None
    """

    heads: tuple[Head, ...]
    queries: Units
    keys: Units
    head: npt.NDArray[np.int32]
    query: npt.NDArray[np.int32]
    key: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]
    taken: torch.Tensor
    total: float
    n_all: int
    one: int | None = None

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def held(self) -> float:
        """The share of `total` that these edges hold, in [0, 1]; 0 where there is no attention to hold."""
        return min(1.0, float(self.weight.sum(dtype=np.float64)) / self.total) if self.total > 0 else 0.0

    @property
    def nbytes(self) -> int:
        arrays = (self.head, self.query, self.key, self.weight)
        return sum(array.nbytes for array in arrays) + self.taken.nbytes

    def holding(self, share: float) -> Edges:
        """The fewest of these edges that hold `share` of all the mass; all of them where they hold less.

        raises   InputError unless 0 < share <= 1
        """
        if not 0 < share <= 1:
            raise InputError(f"share is a part of the attention, above 0 and at most 1; got {share!r}.")
        sums = np.cumsum(self.weight, dtype=np.float64)
        n = min(len(self), int(np.searchsorted(sums, (share - _SLACK) * self.total)) + 1)
        part = {name: getattr(self, name)[:n] for name in ("head", "query", "key", "weight")}
        return replace(self, **part)

    def frame(self) -> pd.DataFrame:
        """A row for each edge, the heaviest first: layer, head, query, query_text, key, key_text, attention."""
        names = {"query": self.queries.labels, "key": self.keys.labels}
        places = np.array([(head.layer, head.head) for head in self.heads], np.int32).reshape(-1, 2)[self.head]
        columns: dict[str, object] = {"layer": places[:, 0], "head": places[:, 1]}
        for name, units in (("query", self.query), ("key", self.key)):
            columns |= {name: units, f"{name}_text": np.array(names[name], dtype=object)[units]}
        return pd.DataFrame({**columns, "attention": self.weight})


def strongest_edges(
    trace: Trace,
    heads: Sequence[Head],
    *,
    query: int | None = None,
    share: float = 0.7,
    most: int = MOST_EDGES,
    view: View | None = None,
    progress: Progress | None = None,
) -> Edges:
    """The smallest set of edges, over all these heads together, that holds `share` of their mass.

    heads    of one site
    query    a query token: only the edges of the unit it belongs to; None for all queries
    share    above 0, at most 1
    most     edges at most; where they do not suffice, `Edges.held` says what they hold
    view     how patterns are read; mass is the sum of all weights that it shows
    raises   HeadError for heads that the trace does not have, or of several sites; InputError for no heads
    Heavy edges are where heads look, not what that does; and a share of many heads' mass says little of each one.
    """
    view = view or View()
    heads = tuple(dict.fromkeys(heads))
    if not heads or most < 1:
        raise InputError(f"Lines need a head and at least one edge to draw; got {len(heads)} heads and most={most}.")
    if strange := [head for head in heads if not isinstance(head, Head)]:
        raise HeadError(f"heads are Head(layer, head) values; got {strange[0]!r:.80}.")
    sites = {trace.info.check_head(head.layer, head.head, head.site) for head in heads}
    if len(sites) > 1:
        raise HeadError(f"Lines are drawn between two columns, so all heads are of one site; got {sorted(sites)}.")
    (site,) = sites
    queries, keys = view.axes(trace, site)
    at = None if query is None else queries.at(checked_position(query, queries.n_tokens, "query"))
    units = None if at is None else range(at, at + 1)
    kept = _Heaviest(most)
    taken = []
    for place, head in enumerate(heads):
        if progress is not None:
            progress(place, len(heads))
        parts = []
        for rows in view.rows(trace, head.layer, head.head, site, units):
            kept.add(rows.weights[0], place, rows.units.start)
            parts.append(rows.taken[0].cpu())
        taken.append(torch.cat(parts))
    if progress is not None:
        progress(len(heads), len(heads))
    arrays = kept.sorted()
    edges = Edges(heads, queries, keys, *arrays, torch.stack(taken), kept.total, kept.n_all, at)
    return edges.holding(share)


class _Heaviest:
    """The `most` heaviest of the weights it was given, in memory for no more than twice as many and one chunk."""

    def __init__(self, most: int) -> None:
        self.total, self.n_all = 0.0, 0
        self._most, self._floor = most, 0.0
        self._weight = torch.empty(0)
        self._place = torch.empty((0, 3), dtype=torch.int32)  # [edge, (head, query, key)]

    def add(self, weights: torch.Tensor, head: int, first_query: int) -> None:
        """weights: [query, key], of queries from `first_query` on; in the order of heads and queries."""
        weights = weights.cpu()
        self.total += float(weights.sum(dtype=torch.float64))
        self.n_all += int((weights > 0).sum())
        # What ties with the lightest kept edge comes after it, so it stays out.
        found = (weights > self._floor).nonzero()
        chosen = weights[found[:, 0], found[:, 1]]
        place = torch.empty((len(chosen), 3), dtype=torch.int32)
        place[:, 0] = head
        place[:, 1:] = found
        place[:, 1] += first_query
        self._weight = torch.cat([self._weight, chosen])
        self._place = torch.cat([self._place, place])
        if len(self._weight) >= 2 * self._most:
            self._prune()

    def _prune(self) -> None:
        # Stable, and edges came in order: ties stay in that order however often this is done.
        self._weight, order = self._weight.sort(descending=True, stable=True)
        self._weight, self._place = self._weight[: self._most].clone(), self._place[order[: self._most]]
        if len(self._weight) == self._most:
            self._floor = float(self._weight[-1])

    def sorted(
        self,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """(head, query, key, weight), each [edge], the heaviest first."""
        self._prune()
        head, query, key = (np.ascontiguousarray(column.numpy()) for column in self._place.T)
        return head, query, key, self._weight.numpy()
