"""Attention flow: the most that can run from a state to each token, by maximum flow (Abnar & Zuidema 2020).

1. States are nodes; a share of a Step is the capacity of an edge from the upper state to the lower one, as a whole
   number of parts in 10^9. What is kept and what a token pays itself are one edge, their sum.
2. Each token is a sink of its own, and only nodes between the target and that token take part: those before a token
   lead nowhere in a causal model.
3. First only the heaviest edges of each state are used. Flow through a part of the edges is never more, and a cut is
   never less, than the maximum: where this flow fills what leaves the target or what enters the token, it is the
   maximum. Else all edges are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from attnviz.flow.mixing import Scores, Stack, Step, steps
from attnviz.flow.rollout import one_text
from attnviz.tap import Progress
from attnviz.view import View

UNIT = 1e-9  # one part of capacity; two capacities still fit int32 together, as residual edges need
_HEAVY = 16  # edges of a state that are tried first
_FEW_EDGES = 20_000  # so few take no longer than finding out whether fewer would do

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]


def max_flow(patterns: Any, query: int | None = -1, residual: float = 0.5, *, view: View | None = None) -> torch.Tensor:
    """Attention flow (Abnar & Zuidema 2020, arXiv 2005.00928), heads averaged.

    patterns   [layer, head, query, key] after the softmax, or averaged [layer, query, key]; or a Trace of one text
    query      the top state explained; None: see `max_flow_steps`
    residual   share of the skip connection in each layer, in [0, 1]
    view       of a trace: what becomes of sinks in every layer; then words or sentences: their tokens' flows summed
    returns    float64 [token], each token's own maximum in [0, 1], to the resolution of `max_flow_steps`. Not
               normalised: one token's flow takes nothing from another's, and together they exceed 1
    raises     InputError, ShapeError; InputError for an encoder-decoder's trace: `max_flow_steps` has both its texts
    Attention and the mask alone: causal masking favours the first tokens, whatever they say. No causal effect.
    """
    one_text(patterns, "max_flow_steps")
    flows = max_flow_steps(steps(patterns, residual=residual, view=view), query).text
    return flows if view is None else view.axes(patterns)[1].sum(flows)


def max_flow_steps(
    stack: Iterable[Step] | Stack,
    query: int | None,
    *,
    level: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """The maximum flow from one state through any steps to each token of the text and of the source.

    query     a position of the text (of the source, at a level up to the encoder's top). None: from all of them at
              once, each giving 1/n at most: one flow into a pooled embedding, at most 1. It is no mean of the queries'
              own flows, which would be n times the work
    level     the number of steps below the state, from 1; None: the top
    progress  called with (tokens done, all); raise from it to stop
    returns   float64, not normalised. Capacities are rounded to 1e-9 and the flow is exact for them, so that it is off
              by at most 5e-10 for each edge of the narrowest cut: 1e-6 if that has 2,000 edges
    raises    InputError or ShapeError for steps that do not fit each other, a query or a level that there is not
    """
    stack = Stack.of(stack)
    whole = _Network.of(stack, *stack.target(query, level))
    core = whole.core() if len(whole.capacity) > _FEW_EDGES else whole
    flows = torch.zeros(stack.n_columns, dtype=torch.float64)
    for sink in range(stack.n_columns):
        if progress is not None:
            progress(sink, stack.n_columns)
        flow, most = core.flow(sink)
        flows[sink] = UNIT * (flow if flow == most or core is whole else whole.flow(sink)[0])
    if progress is not None:
        progress(stack.n_columns, stack.n_columns)
    return stack.scores(flows)


@dataclass(frozen=True, eq=False)
class _Network:
    """Edges that the source reaches, in the order of their upper nodes; the nodes of embeddings are their columns.

    above, below   [edge], the nodes that an edge runs from and to
    capacity       [edge], in UNITs, above 0
    heavy          [edge], whether it is among the heaviest of its upper node
    leads          [node, column], whether the source reaches the node, and the node that column's embedding
    """

    source: int
    above: Ints
    below: Ints
    capacity: Ints
    heavy: Bools
    leads: Bools

    @classmethod
    def of(cls, stack: Stack, level: int, mass: torch.Tensor) -> _Network:
        """The steps below a level; several targets are fed by a source of their own, each with its mass."""
        used = stack.steps[:level]
        uppermost = np.arange(stack.n_columns, dtype=np.int32)  # [column], its highest node so far
        n_nodes = stack.n_columns
        leads = np.zeros((n_nodes + sum(len(step.kept) for step in used) + 1, stack.n_columns), dtype=bool)
        leads[:n_nodes] = np.eye(n_nodes, dtype=bool)
        layers = []

        def add(shares: torch.Tensor, below: Ints) -> Ints:
            """Nodes on top of others: shares are [upper node, lower node], `below` says which the lower ones are."""
            nonlocal n_nodes
            capacity = (shares.double() / UNIT).round().int()
            above = np.arange(n_nodes, n_nodes + len(capacity), dtype=np.int32)
            n_nodes += len(capacity)
            reach = (capacity > 0).float() @ torch.from_numpy(leads[below]).float()
            leads[above] = reach.numpy() > 0
            least = capacity.topk(min(_HEAVY, capacity.shape[1])).values[:, -1:]
            # As numpy's own: a torch tensor of one number would index to a scalar.
            row, column = (places.numpy() for places in capacity.nonzero(as_tuple=True))
            heavy = (capacity >= least).numpy()[row, column]
            layers.append((above[row], below[column], capacity.numpy()[row, column], heavy))
            return above

        for step in used:
            queries, keys = stack.sides(step)
            if queries == keys:
                uppermost[queries] = add(step.matrix(), uppermost[keys])
            else:
                shares = torch.cat([torch.diag(step.kept), step.weights], dim=1)
                uppermost[queries] = add(shares, np.concatenate([uppermost[queries], uppermost[keys]]))
        starts = mass.nonzero()[:, 0].numpy()
        source = uppermost[starts] if len(starts) == 1 else add(mass[None, starts], uppermost[starts])
        reached = np.zeros(len(leads), dtype=bool)
        reached[source] = True
        for above, below, _, _ in reversed(layers):
            reached[below[reached[above]]] = True
        leads[~reached] = False
        above, below, capacity, heavy = (np.concatenate(arrays) for arrays in zip(*layers, strict=True))
        network = cls(int(source[0]), above, below, capacity, heavy, leads)
        return network._only(reached[above])

    def core(self) -> _Network:
        """Without the light edges between the states in the middle."""
        return self._only(self.heavy | (self.above == self.source) | (self.below < self.leads.shape[1]))

    def flow(self, sink: int) -> tuple[int, int]:
        """(the maximum flow to a column's embedding, what leaves the source or enters the sink at most), in UNITs."""
        alive = self.leads[:, sink]
        used = alive[self.above] & alive[self.below]
        above, below, capacity = self.above[used], self.below[used], self.capacity[used]
        leaving, entering = (int(capacity[ends == end].sum()) for ends, end in ((above, self.source), (below, sink)))
        if min(leaving, entering) == 0:
            return 0, 0
        starts = np.concatenate([[0], np.bincount(above, minlength=len(alive)).cumsum()]).astype(np.int32)
        graph = csr_array((capacity, below, starts), shape=(len(alive), len(alive)))
        return int(maximum_flow(graph, self.source, sink, method="dinic").flow_value), min(leaving, entering)

    def _only(self, edges: Bools) -> _Network:
        chosen = {name: getattr(self, name)[edges] for name in ("above", "below", "capacity", "heavy")}
        return replace(self, **chosen)
