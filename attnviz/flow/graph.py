"""The graph under a target: through which states, and by which edges, its explanation runs down to the tokens.

1. The target has a mass of 1. Each step hands a state's mass down its edges by their shares, and a lower state has the
   sum of what it is given.
2. Of each step's edges the fewest are kept that hold a share of the step's mass, so that every level has its part of
   the picture: mass spreads downwards, and the heaviest edges of all would be those near the target.
3. An edge that no drawn edges join to the target is dropped, so the drawn ones may hold less; `Graph.held` says what.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.errors import InputError, ShapeError
from attnviz.flow.mixing import Stack, Step
from attnviz.units import Units

MOST_EDGES = 20_000  # more than a canvas redraws at once
_SLACK = 1e-9  # of a step's mass: a share of 1 is reached although sums are rounded

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Graph:
    """The edges that carry a target's explanation.

    columns       labels of the columns: the source's first, then the text's
    n_source      how many columns are the source's; 0 where there is one text
    levels        in words, bottom first
    edges         a row for each drawn edge, from the top down and the heaviest of a step first. start_level, start: the
                  lower state, the key's; end_level, end: the upper one, the query's; layer, site; kind: "attention" or
                  "kept"; mass: the share of the target's explanation that runs through it, the whole target being 1
    target        (level, column); column -1 where all of the text's states at that level are the target
    held          the share of all edges' mass that the drawn ones hold
    n_edges_all   how many edges have any mass
    """

    columns: tuple[str, ...]
    n_source: int
    levels: tuple[str, ...]
    edges: pd.DataFrame
    target: tuple[int, int]
    held: float
    n_edges_all: int


def trace_down(
    stack: Iterable[Step] | Stack,
    labels: Sequence[str],
    query: int | None,
    *,
    share: float = 0.7,
    level: int | None = None,
    units: Sequence[Units] = (),
    most: int = MOST_EDGES,
) -> Graph:
    """The fewest edges of each step that hold `share` of its mass, and that drawn edges join to the target.

    labels   one a column, the source's first: of tokens, or of units
    query    a token of the text (of the source, at a level up to the encoder's top); None: all, each 1/n of the target
    share    above 0, at most 1
    level    the number of steps below the state explained, from 1; None: the top
    units    (text,) or (source, text): columns are words or sentences, and the edges between two of them are one edge.
             The target is still the one token, in its unit's column
    most     edges at most, over all steps: beyond, the lightest are left out
    raises   InputError, ShapeError

    Where a method lets mass run, not what the model needs. Memory is that of a few [query, key] of one step.
    """
    stack = Stack.of(stack)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise InputError(f"share is a part of each step's mass, above 0 and at most 1; got {share!r}.")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"most counts edges from 1; got {most!r}.")
    column = _columns(stack, units)
    n_columns = int(column[-1]) + 1
    if len(labels) != n_columns:
        raise ShapeError(f"Expected {n_columns} labels, one a column, the source's first; got {len(labels)}.")
    top, mass = stack.target(query, level)
    reached = np.zeros((top + 1, n_columns), dtype=bool)
    reached[top, column[mass.numpy() > 0]] = True
    target = top, -1 if query is None else int(reached[top].argmax())
    total, n_all = 0.0, 0
    chosen: list[tuple[Indices, Floats]] = []
    for place in reversed(range(top)):
        places, masses = _edges_of(stack, place, mass, column)
        total, n_all = total + float(masses.sum()), n_all + len(masses)
        heaviest = _holding(masses, share)[:most]
        chosen.append((places[heaviest], masses[heaviest]))
        mass = stack.fall(mass, place)
    edges = _frame(stack, chosen, most, reached)
    held = min(1.0, float(edges["mass"].sum()) / total) if total else 0.0
    n_source = len(units[0]) if units and stack.n_source else stack.n_source
    return Graph(tuple(labels), n_source, stack.levels, edges, target, held, n_all)


def _columns(stack: Stack, units: Sequence[Units]) -> Indices:
    """[token], the column of each, the source's first."""
    if not units:
        return np.arange(stack.n_columns)
    sizes = [n for n in (stack.n_source, stack.n_text) if n]
    if [axis.n_tokens for axis in units] != sizes:
        raise ShapeError(f"Expected units of {sizes} tokens, the source's first; got {[a.n_tokens for a in units]}.")
    starts = np.cumsum([0, *map(len, units)])
    return np.concatenate([start + axis.index.numpy() for start, axis in zip(starts, units, strict=False)])


def _edges_of(stack: Stack, place: int, mass: torch.Tensor, column: Indices) -> tuple[Indices, Floats]:
    """All edges of a step that have mass, by queries and keys: ([edge, (place, start, end, kept)], [edge] mass)."""
    step = stack.steps[place]
    queries, keys = stack.sides(step)
    above = mass[queries]
    ends, starts = column[queries], column[keys]
    flows = above[:, None] * step.weights.double()
    own = above * step.kept.double()
    if len(column) > column[-1] + 1:
        flows = _grouped(_grouped(flows, ends).T, starts).T
        own = _grouped(own[:, None], ends)[:, 0]
    end, start = (flows.numpy() > 0).nonzero()
    stays = (own.numpy() > 0).nonzero()[0]
    places = np.zeros((len(end) + len(stays), 4), dtype=np.int64)
    places[:, 0] = place
    places[:, 1] = np.concatenate([start + starts[0], stays + ends[0]])
    places[:, 2] = np.concatenate([end, stays]) + ends[0]
    places[len(end) :, 3] = 1
    return places, np.concatenate([flows.numpy()[end, start], own.numpy()[stays]])


def _grouped(values: torch.Tensor, columns: Indices) -> torch.Tensor:
    """[token, ...] -> [column, ...], summed."""
    index = torch.from_numpy(columns - columns[0])
    return values.new_zeros((int(index[-1]) + 1, *values.shape[1:])).index_add_(0, index, values)


def _holding(masses: Floats, share: float) -> Indices:
    """The fewest edges that hold a share of their mass, the heaviest first; ties in the order they came in."""
    if not len(masses):
        return np.zeros(0, dtype=np.int64)
    total = float(masses.sum())
    # All that are lighter than this hold less than may be left out, so no more need be sorted.
    heavy = (masses >= (1 - share) * total / len(masses)).nonzero()[0]
    order = heavy[np.argsort(-masses[heavy], kind="stable")]
    sums = np.cumsum(masses[order])
    return order[: int(np.searchsorted(sums, (share - _SLACK) * total)) + 1]


def _frame(stack: Stack, chosen: list[tuple[Indices, Floats]], most: int, reached: Bools) -> pd.DataFrame:
    """The `most` heaviest of the edges that were chosen, top down, as far as they hang on the target.

    reached   [level, column], the target's; filled on the way down
    """
    places, masses = (np.concatenate(arrays) for arrays in zip(*chosen, strict=True))
    heaviest = np.sort(np.argsort(-masses, kind="stable")[:most])
    places, masses = places[heaviest], masses[heaviest]
    joined = np.zeros(len(masses), dtype=bool)
    lower = np.array([stack.key_level(place) for place in range(len(stack.steps))])
    start_level = np.where(places[:, 3] == 1, places[:, 0], lower[places[:, 0]])
    cuts = np.flatnonzero(np.diff(places[:, 0])) + 1
    for first, last in pairwise((0, *cuts, len(places))):
        own = slice(first, last)
        joined[own] = reached[places[own, 0] + 1, places[own, 2]]
        down = first + joined[own].nonzero()[0]
        reached[start_level[down], places[down, 1]] = True
    place, start, end, kept = places[joined].T
    steps = stack.steps
    return pd.DataFrame(
        {
            "start_level": start_level[joined],
            "start": start,
            "end_level": place + 1,
            "end": end,
            "layer": np.array([step.layer for step in steps], dtype=np.int64)[place],
            "site": np.array([step.site for step in steps], dtype=object)[place],
            "kind": np.array(["attention", "kept"], dtype=object)[kept],
            "mass": masses[joined],
        }
    )
