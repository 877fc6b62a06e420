"""How much of what an attention block writes comes from each key: the lengths of the parts, not the weights alone.

What a query takes from a key is, head by head, the pattern's weight times the key's value through the output
projection (Kobayashi 2020, arXiv 2004.10102); the residual and the norm behind the sum can be counted in (2021,
arXiv 2109.07152). A large weight on a short vector then counts little, as it does in the model.

Every norm on the way is held at its scale in this run. It is then a linear map of the key's vector times one number a
query, so both are worked out once (`Reading`) and no [query, key, d_model] of a whole block is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch

from attnviz.flow.mixing import Step
from attnviz.flow.run import Block, Run
from attnviz.trace import checked_position

_WEIGHTS = 8_000_000  # of [head, query, key], held at once
# Of [query, key, d_model], worked on at once. Cells that fit a core's own cache are no faster in the main thread, and
# three times slower in a server's other threads, where each parallel region costs a wake-up.
_CELL = 8_000_000
_QUERIES = 64  # of a cell, the keys being as many as fit


@dataclass(frozen=True, eq=False)
class Reading:
    """What the queries of a block take from its keys, as weights times vectors with the norms worked in.

    values   [head, key, d_model]
    scale    [query]; a query takes scale x pattern x values of a key
    """

    block: Block
    values: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(cls, block: Block, *, norm: bool) -> Reading:
        """norm   whether parts are those of the states behind the block's norm, or of what the block adds"""
        values, scale = block.values() * block.factor, torch.ones_like(block.before[:, 0])
        for passed in (block.out, block.norm if norm else None):
            if passed is not None:
                values = replace(passed, scale=scale.new_ones(1)).linear(values[None])[0]
                scale = scale * passed.scale
        return cls(block, values, scale)

    def cells(self, wanted: torch.Tensor | None = None) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """(queries, keys, weights [head, query, key]), a few at a time; no query reads a key that is in none of them.

        wanted   [query] bool; cells without any of these queries are left out
        """
        n_heads, n_keys, width = self.values.shape
        n_queries = len(self.scale)
        rows, few = max(1, _WEIGHTS // (n_heads * n_keys)), max(1, _CELL // (_QUERIES * width))
        for top in range(0, n_queries, rows):
            held = slice(top, min(top + rows, n_queries))
            weights = self.block.weights(held) * self.scale[held, None]
            seen = (weights != 0).any(0)
            first = seen.int().argmax(1).tolist()
            stop = (n_keys - seen.flip(1).int().argmax(1)).tolist()
            for start in range(0, len(seen), _QUERIES):
                inside = slice(start, min(start + _QUERIES, len(seen)))
                queries = slice(top + inside.start, top + inside.stop)
                if wanted is None or bool(wanted[queries].any()):
                    end = max(stop[inside])
                    for key in range(min(first[inside]), end, few):
                        keys = slice(key, min(key + few, end))
                        yield queries, keys, weights[:, inside, keys]


def of_keys(reading: Reading, keys: slice, weights: torch.Tensor, base: torch.Tensor, sign: float) -> torch.Tensor:
    """[key, query, d_model]: `base` [query, d_model] plus `sign` times what each query takes from each key."""
    parts, values = weights.permute(2, 1, 0), reading.values[:, keys].transpose(0, 1)
    return torch.baddbmm(base.expand(len(values), *base.shape), parts, values, alpha=sign)


def diagonal(queries: slice, keys: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Where queries meet themselves in a cell: (their places among the keys, among the queries)."""
    first = max(queries.start, keys.start)
    same = torch.arange(first, max(first, min(queries.stop, keys.stop)))
    return same - keys.start, same - queries.start


@torch.no_grad()
def head_norms(block: Block) -> torch.Tensor:
    """[head, query, key]: the length of what each head adds for each key, in units of the residual stream.

    A norm between the projection and the residual stream is counted in, held at its scale in this run.
    """
    reading = Reading.of(block, norm=False)
    lengths = reading.values.norm(dim=-1)
    found = lengths.new_zeros(len(lengths), len(reading.scale), lengths.shape[1])
    for queries, keys, weights in reading.cells():
        found[:, queries, keys] = weights.abs() * lengths[:, None, keys]
    return found


@torch.no_grad()
def norms(block: Block, *, residual: bool = False, norm: bool = False) -> torch.Tensor:
    """[query, key]: the length of what each query takes from each key, all heads together (Kobayashi 2020).

    residual   the query's own old state is added to what it takes from itself; not of a cross block, whose keys are
               other tokens
    norm       parts of the states behind the norm after the sum (BERT), not of the sum; the same thing where the norm
               stands before the next block (GPT-2, Llama)
    """
    return _norms(block, residual, norm)[0]


@torch.no_grad()
def steps(run: Run, *, residual: bool = True, norm: bool = True) -> Iterator[Step]:
    """The lengths as shares of each query's row: steps for `rollout`, `max_flow` and `graph`.

    With the residual, what a token takes from itself and what it keeps are one vector, and its length is split by
    `own_share`; across to a source, the old state is a part of its own. Without, nothing is kept, so that with
    cross-attention all of it ends in the source. A row without any length keeps its state. Feed-forward blocks are not
    looked at, as in the papers, which stop at one layer: to multiply their lengths over layers is ours.
    """
    for block in run.blocks:
        lengths, own = _norms(block, residual, norm)
        kept = lengths.new_zeros(len(lengths))
        if residual and block.site == "cross":
            kept = _old(block, norm).norm(dim=-1)
        elif residual:
            lengths, kept = split(lengths, own)
        yield step(block, lengths, kept)


def _norms(block: Block, residual: bool, norm: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """([query, key] lengths, [query] attention's share of what a query has from itself)."""
    reading, old = Reading.of(block, norm=norm), _old(block, norm)
    found, own = old.new_zeros(len(old), reading.values.shape[1]), torch.zeros_like(old[:, 0])
    mixed = residual and block.site != "cross"
    if mixed:
        found.diagonal()[:] = old.norm(dim=-1)  # of tokens that do not read themselves
    for queries, keys, weights in reading.cells():
        parts = of_keys(reading, keys, weights, torch.zeros_like(old[queries]), 1.0)
        if mixed:
            at = diagonal(queries, keys)
            mine = old[queries][at[1]]
            own[queries.start + at[1]] = own_share(parts[at], mine)
            parts[at] += mine
        found[queries, keys] = parts.norm(dim=-1).T
    return found, own


def own_share(attention: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """[...]: attention's share of `attention + old`, [..., d_model], by how far each of them reaches along the sum.

    From 0 to 1: a part that points against the sum has no share of it.
    """
    whole = attention + old
    length = (whole * whole).sum(-1)
    return ((attention * whole).sum(-1) / length.clamp(min=1e-30)).clamp(0, 1)


def split(shares: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[query, key] whose diagonal holds the old state too -> (weights [query, key], kept [query])."""
    both = shares.diagonal().clone()
    weights = shares.clone()
    weights.diagonal()[:] = both * own
    return weights, both * (1 - own)


def step(block: Block, weights: torch.Tensor, kept: torch.Tensor) -> Step:
    """Parts of each query as shares, on the CPU; a query of which nothing counts keeps its state."""
    weights, kept = weights.cpu(), kept.cpu()
    total = weights.sum(-1) + kept
    empty = total <= 0
    total = total.masked_fill(empty, 1.0)
    return Step(block.site, block.layer, weights / total[:, None], (kept / total).masked_fill(empty, 1.0))


@torch.no_grad()
def proximities(block: Block, wanted: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """([head, query, key], [query]): shares of each (head, key) and of the old state in a query's new state.

    A part's importance is how much nearer the new state y it leads than nothing does, max(0, |y| - |y - part|) in
    L1 (Ferrando & Voita 2024, arXiv 2403.00824), each query's scaled to 1. The biases are in y and in no part. Where no
    part leads nearer, the state counts as kept.

    wanted   [query] bool: rows of other queries may be left 0
    """
    reading, old, whole = Reading.of(block, norm=True), _old(block, True), block.after
    size = whole.abs().sum(-1)
    found = whole.new_zeros(len(reading.values), len(whole), reading.values.shape[1])
    for queries, keys, weights in reading.cells(wanted):
        aim = whole[queries, None]
        for head, (weight, values) in enumerate(zip(weights, reading.values[:, keys], strict=True)):
            nearer = size[queries, None] - torch.cdist(aim, weight[..., None] * values, p=1)[:, 0]
            found[head, queries, keys] = nearer.clamp(min=0).masked_fill(weight == 0, 0)
    kept = nearer_by(old, whole)
    total = found.sum((0, 2)) + kept
    empty = total <= 0
    total = total.masked_fill(empty, 1.0)
    return found.div_(total[:, None]), (kept / total).masked_fill(empty, 1.0)


def nearer_by(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """[...]: max(0, |whole| - |whole - part|) in L1, of [..., d_model]."""
    return (whole.abs().sum(-1) - (whole - part).abs().sum(-1)).clamp(min=0)


@torch.no_grad()
def mlp_share(block: Block) -> torch.Tensor:
    """[query]: the feed-forward block's share of what leaves the layer, by proximity, against the state it is added to.

    0 where the layer adds nothing after this block, and where neither leads nearer.
    """
    fed = block.mlp
    if fed is None:
        return torch.zeros_like(block.before[:, 0])
    written, stream = (part if fed.norm is None else fed.norm.linear(part) for part in (fed.written, block.after))
    own, other = nearer_by(written, fed.after), nearer_by(stream, fed.after)
    return own / (own + other).clamp(min=1e-30)


def edge_heads(block: Block, query: int, key: int) -> pd.DataFrame:
    """One edge, head by head, the largest contribution first.

    head           zero-based
    attention      the pattern's weight
    contribution   length of what the head adds to the query for this key
    proximity      share of this head and key in the query's new state (`proximities`)
    raises         InputError for a position that there is not
    """
    query = checked_position(query, len(block.before), "query")
    key = checked_position(key, block.attention.key.shape[2], "key")
    wanted = torch.arange(len(block.before)) == query
    columns = {
        "attention": block.attention.pattern(queries=slice(query, query + 1))[0, :, 0, key],
        "contribution": head_norms(block)[:, query, key],
        "proximity": proximities(block, wanted)[0][:, query, key],
    }
    table = pd.DataFrame({name: column.double().cpu().numpy() for name, column in columns.items()})
    table.insert(0, "head", range(block.n_heads))
    return table.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)


def _old(block: Block, norm: bool) -> torch.Tensor:
    return block.behind(block.before) if norm else block.before
