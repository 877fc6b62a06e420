"""Knocking out edges: a query that no longer reads a key, from before the softmax on.

A query that is left without keys reads nothing: its pattern row and its head's output are zero, where a softmax over
hidden keys alone would give NaN, or the mean over all keys, later ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from attnviz.edits.base import Edit, Head, Lengths, check_site, heads_of, listed, positions_of, within
from attnviz.errors import HeadError, InputError

_HIDDEN = torch.finfo(torch.float16).min  # what is added to a hidden score, at most, in any dtype


@dataclass(frozen=True)
class KnockOut(Edit):
    """Hide keys from queries before the softmax: the other keys take their share of the pattern.

    query   one position, several, or None for all queries, those of a continuation too
    key     one position, or several; every edge between these queries and keys is knocked out
    heads   where; None: all heads of the site, in all layers
    site    with heads=None, and needed there for an encoder-decoder
    Negative positions count from the run's end (while a text is being continued, from the end of what was given). An
    edge that the model's own mask hides already stays hidden.
    """

    query: tuple[int, ...] | None
    key: tuple[int, ...]
    heads: tuple[Head, ...]
    site: str | None

    def __init__(
        self,
        query: int | Sequence[int] | None,
        key: int | Sequence[int],
        heads: Iterable[Head] | None = None,
        site: str | None = None,
    ) -> None:
        keys = positions_of(key, "KnockOut's key")
        if keys is None:
            raise InputError("KnockOut needs a key, or several, e.g. KnockOut(query=5, key=0); got None.")
        check_site(site, "KnockOut's")
        if heads is not None and site is not None:
            raise HeadError("KnockOut takes heads, which say their own site, or a site for all of its heads; got both.")
        object.__setattr__(self, "query", positions_of(query, "KnockOut's query"))
        object.__setattr__(self, "key", keys)
        object.__setattr__(self, "heads", () if heads is None else heads_of(heads, "KnockOut"))
        object.__setattr__(self, "site", site)

    @property
    def title(self) -> str:
        queries = "all queries" if self.query is None else _named("query", "queries", self.query)
        heads = ", ".join(map(str, self.heads)) or f"all {self.site} heads" * bool(self.site) or "all heads"
        return f"{_named('key', 'keys', self.key)} knocked out for {queries} in {heads}"

    @property
    def tied(self) -> bool:
        return True

    def bound(self, lengths: Lengths, values: object = None, *, prompt: bool = False) -> Edit:
        sites = {h.site for h in self.heads} if self.heads else {self.site}
        edges = {}
        for site in lengths if None in sites else sites:
            assert site is not None
            n_query, n_key = lengths[site]
            query = (
                None if self.query is None else tuple(within(self.query, n_query, "KnockOut's query", prompt=prompt))
            )
            key = tuple(within(self.key, n_key, "KnockOut's key", prompt=prompt))
            if site == "decoder" and query is not None and min(key) > max(query):
                raise InputError(
                    "A decoder's query reads no later key, so there is no edge between "
                    f"{_named('query', 'queries', query)} and {_named('key', 'keys', key)}."
                )
            edges[site] = (query, key)
        return _Edges(self, edges)

    def hidden(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        raise InputError(f"'{self.title}' is not bound to a run: pass it through `model.ready(edits, source)` first.")


@dataclass(frozen=True, eq=False)
class _Edges(Edit):
    """A KnockOut for one run: by site, queries (None: all) and keys, counted from the run's start."""

    asked: KnockOut
    edges: dict[str, tuple[tuple[int, ...] | None, tuple[int, ...]]]
    first: int = 0

    @property
    def heads(self) -> tuple[Head, ...]:  # type: ignore[override]
        return self.asked.heads

    @property
    def site(self) -> str | None:  # type: ignore[override]
        return self.asked.site

    @property
    def title(self) -> str:
        return self.asked.title

    @property
    def tied(self) -> bool:
        return True

    def starting(self, first: int) -> Edit:
        return replace(self, first=first)

    def hidden(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        queries, keys = self.edges[site]
        # A cache may hold the last keys alone (sliding windows); those of cross-attention are all there, always.
        first_key = max(0, self.first + n_query - n_key) if site == "decoder" else 0
        rows = torch.zeros(n_query, dtype=torch.bool)
        rows[slice(None) if queries is None else _inside(queries, self.first, n_query)] = True
        columns = torch.zeros(n_key, dtype=torch.bool)
        columns[_inside(keys, first_key, n_key)] = True
        chosen = torch.zeros(n_heads, dtype=torch.bool)
        chosen[self.at(site, layer) if self.heads else slice(None)] = True
        edges = chosen[:, None, None] & rows[:, None] & columns
        return edges if bool(edges.any()) else None


class Masks(NamedTuple):
    """What a layer's mask becomes when edges are knocked out.

    kernel     for the kernel: as `recorded`, but rows without keys keep those they had
    recorded   [1 or batch, head, query, key], boolean or additive as the mask was; additive where there was none
    blank      [1 or batch, head, query], queries without keys
    """

    kernel: torch.Tensor
    recorded: torch.Tensor
    blank: torch.Tensor


def masks(mask: torch.Tensor | None, visible: torch.Tensor, hidden: torch.Tensor, dtype: torch.dtype) -> Masks:
    """The masks of a layer in which `hidden`, `[head, query, key]`, is knocked out.

    mask      what the kernel was given: None, boolean (True: visible), or additive
    visible   what each query sees by it, `[1 or batch, 1 or head, query, key]`, boolean
    dtype     of the queries
    """
    hidden = hidden[None].to(visible.device)
    if mask is None:
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
        mask = mask.masked_fill(~visible, torch.finfo(dtype).min)
    blank = ~(visible & ~hidden).any(-1)
    gone = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    none = torch.tensor(gone, dtype=mask.dtype, device=mask.device)
    recorded = torch.where(hidden, none, mask)
    return Masks(torch.where(blank[..., None], mask, recorded), recorded, blank)


def blanked(eager: Callable[..., tuple[Any, torch.Tensor]]) -> Callable[..., tuple[Any, torch.Tensor]]:
    """An eager attention function whose pattern rows are zero where its additive mask leaves no key."""

    def attend(*args: Any, **keywords: Any) -> tuple[Any, torch.Tensor]:
        mask: torch.Tensor = args[4]  # as `Recorded.pattern` gives it
        out, weights = eager(*args, **keywords)
        return out, weights.masked_fill((mask <= _HIDDEN).all(-1, keepdim=True), 0.0)

    return attend


def _inside(positions: Iterable[int], first: int, length: int) -> list[int]:
    return [p - first for p in positions if 0 <= p - first < length]


def _named(one: str, several: str, positions: Sequence[int]) -> str:
    return f"{one if len(positions) == 1 else several} {listed(positions)}"
