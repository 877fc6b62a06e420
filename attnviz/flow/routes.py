"""Information flow routes: the paths down from a prediction that matter (Ferrando & Voita 2024, arXiv 2403.00824).

1. Each block's new state is a sum of parts: one for each head and key, and the old state. A part's importance is how
   much nearer it leads than nothing does (`contributions.proximities`); so for the feed-forward block and the state
   that it is added to. Each sum's importances are scaled to 1.
2. From the state explained, go down block by block, along the edges that matter, to the embeddings. An edge is a key
   and a query with all their heads; the feed-forward block reads and writes at one position.
3. An edge's mass is its upper end's mass times its importance; the mass of the state explained is 1.

What counts is how states are written, not what they would be without a part: these are no causal effects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch

from attnviz.errors import InputError
from attnviz.flow.contributions import mlp_share, proximities
from attnviz.flow.mixing import Step
from attnviz.flow.run import Block, Run
from attnviz.trace import checked_position

THRESHOLD = 0.01
COLUMNS = ("place", "site", "layer", "kind", "start", "end", "head", "importance", "mass")


@dataclass(frozen=True, eq=False)
class Routes:
    """What was found on the way down from one state.

    query    its position; None: all positions of the text in equal parts
    edges    top first, a row for each part:
                 place             of its block in the run's
                 site, layer       of its block
                 kind              "attention", "kept" (the old state) or "mlp"
                 start, end        positions of the key and the query; the key's in the source for a cross block
                 head              of attention; -1 for others
                 importance, mass  the head's own for attention; an edge's are the sum over its heads
    held     the share of the mass that comes down to the embeddings along the edges that were followed
    """

    query: int | None
    edges: pd.DataFrame
    held: float


@torch.no_grad()
def steps(
    run: Run, *, threshold: float | None = None, share: float | None = None, feed_forward: bool = True
) -> Iterator[Step]:
    """The importances as steps for `rollout`, `max_flow` and `graph`, heads summed.

    threshold      only edges of at least this importance, as `information_flow_routes` follows them
    share          or of each query the fewest edges that hold this share of it, what it keeps being one of them
    feed_forward   whether feed-forward blocks are parts. They read where they write, so they move nothing between
                   positions: one beside attention instead of after it (GPT-NeoX) is part of what is kept, and with a
                   threshold what falls below it on either side of one is left out
    raises         InputError for a threshold or a share that there is not, or for both at once

    What is left out is nowhere else: rows then sum to less than 1.
    """
    least = _least(threshold, share, 0.0)
    for block in run.blocks:
        parts, kept = (part.cpu() for part in proximities(block))
        weights, fed = parts.sum(0), _fed_share(block, feed_forward)
        if share is not None:
            few = torch.stack([fewest(row, share) for row in torch.cat([weights, kept[:, None]], 1)])
            weights, kept = weights * few[:, :-1], kept * few[:, -1]
        through, past = _from(fed, least), _from(1 - fed, least)
        beside = _beside(block, through)
        past = past + through - beside
        yield Step(block.site, block.layer, _from(weights, least) * past[:, None], _from(kept, least) * past + beside)


@torch.no_grad()
def information_flow_routes(
    run: Run,
    query: int | None = -1,
    *,
    threshold: float | None = None,
    share: float | None = None,
    feed_forward: bool = True,
) -> Routes:
    """Follow the edges that matter down from the text's last state at `query` to the embeddings.

    Parts are heads and feed-forward blocks. `take_apart` makes the run; `steps` gives the same shares layer by layer.

    query          position in the text (the decoder's, where there are two), negative from the end; None: all of them
    threshold      follow edges of at least this importance, and nothing below a state that is not reached (the paper);
                   0.01 where no share is given either
    share          or follow all, and list of each block the fewest edges that hold this share of its mass
    feed_forward   whether feed-forward blocks are parts, too
    raises         InputError for a position, threshold or share that there is not, or for both at once
    """
    least = _least(threshold, share, THRESHOLD)
    text, source = "text", "source" if any(block.site == "cross" for block in run.blocks) else "text"
    mass = {"text": torch.zeros(len(run.last), dtype=torch.float64)}
    if query is None:
        mass[text][:] = 1 / len(run.last)
    else:
        query = checked_position(query, len(run.last), "query")
        mass[text][query] = 1
    tables = []
    for place, block in reversed(list(enumerate(run.blocks))):
        upper, lower = (source if block.site == "encoder" else text, text if block.site == "decoder" else source)
        followed = _followed(block, mass[upper], least, _fed_share(block, feed_forward).double())
        mass[upper] = followed.own
        mass.setdefault(lower, torch.zeros(followed.read.shape[2], dtype=torch.float64))
        mass[lower] += followed.read.sum((0, 1))
        tables.append(followed.table(place, share))
    return Routes(query, pd.concat(tables, ignore_index=True), float(sum(m.sum() for m in mass.values())))


@dataclass(frozen=True, eq=False)
class _Followed:
    """One block's masses on the way down, float64: what was not followed is 0.

    upper   [query], above the block
    read    [head, query, key], through attention; `kept` and `fed` [query], through the old state and the feed-forward
    past    [query], what reaches the block past the feed-forward one, or through it
    own     [query], below the block at the same position
    """

    block: Block
    upper: torch.Tensor
    read: torch.Tensor
    kept: torch.Tensor
    fed: torch.Tensor
    past: torch.Tensor
    own: torch.Tensor

    def table(self, place: int, share: float | None) -> pd.DataFrame:
        pairs = self.read.sum(0)
        listed, held = pairs > 0, self.kept > 0
        if share is not None:
            both = fewest(torch.cat([pairs.flatten(), self.kept]), share)
            listed, held = both[: pairs.numel()].view(pairs.shape), both[pairs.numel() :]
        ends = (listed.any(1) | held) & (self.fed > 0)
        heads, end, start = torch.nonzero((self.read > 0) & listed, as_tuple=True)
        alone, at = held.nonzero()[:, 0], ends.nonzero()[:, 0]
        none = torch.tensor(-1)
        parts = (
            (at, at, none.expand(len(at)), self.fed[at], self.upper[at]),
            (start, end, heads, self.read[heads, end, start], self.past[end]),
            (alone, alone, none.expand(len(alone)), self.kept[alone], self.past[alone]),
        )
        kinds = ["mlp"] * len(at) + ["attention"] * len(start) + ["kept"] * len(alone)
        names = ("start", "end", "head", "mass", "above")
        columns = {name: torch.cat([part[i] for part in parts]).numpy() for i, name in enumerate(names)}
        table = pd.DataFrame(columns).assign(kind=kinds, place=place, site=self.block.site, layer=self.block.layer)
        return table.assign(importance=table.mass / table.above)[list(COLUMNS)]


def _followed(block: Block, upper: torch.Tensor, least: float, fed_share: torch.Tensor) -> _Followed:
    """Follow every edge of at least this importance down from masses above the block, [query]."""
    fed = upper * _from(fed_share, least)
    past = upper * _from(1 - fed_share, least)
    beside = _beside(block, fed)
    past = past + fed - beside
    parts, kept = (part.cpu() for part in proximities(block, past > 0))
    read = parts.double() * (parts.sum(0) >= least) * past[:, None]
    old = past * _from(kept.double(), least)
    return _Followed(block, upper, read, old, fed, past, old + beside)


def _from(importance: torch.Tensor, least: float) -> torch.Tensor:
    return importance * (importance >= least)


def _least(threshold: float | None, share: float | None, otherwise: float) -> float:
    """The least importance that is followed; `otherwise` where neither is given."""
    for name, value in (("threshold", threshold), ("share", share)):
        if value is not None and (isinstance(value, bool) or not 0 <= value <= 1):
            raise InputError(f"A {name} is a number from 0 to 1; got {value!r}.")
    if threshold is not None and share is not None:
        raise InputError("Routes are followed by threshold or by share: give one of them.")
    if share is not None:
        return 0.0
    return otherwise if threshold is None else threshold


def _fed_share(block: Block, feed_forward: bool) -> torch.Tensor:
    """[query], the feed-forward block's share; 0 where it is not looked at."""
    share = mlp_share(block).cpu()
    return share if feed_forward else torch.zeros_like(share)


def _beside(block: Block, fed: torch.Tensor) -> torch.Tensor:
    """What of a feed-forward block's part goes past the attention block: all or nothing."""
    return fed if block.mlp is not None and block.mlp.beside else torch.zeros_like(fed)


def fewest(masses: torch.Tensor, share: float) -> torch.Tensor:
    """[edge] bool: the fewest edges, the largest first, that hold this share of all masses; none of mass 0."""
    order = masses.argsort(descending=True, stable=True)
    reached = masses[order].cumsum(0) - masses[order]
    kept = torch.zeros_like(masses, dtype=torch.bool)
    kept[order] = reached < share * masses.sum() * (1 - 1e-12)
    return kept & (masses > 0)
