"""Knocking out edges, a query that no longer reads a key, and the masks that make it so, from before the softmax on.

A query that is left without keys reads nothing: its pattern row and its head's output are zero, where a softmax over
hidden keys alone would give NaN, or the mean over all keys, later ones too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from attnviz.edits.base import Edit, Head, Lengths, positions_of
from attnviz.edits.tied import Tied, heads_or_site, named, places_of, unbound, where
from attnviz.errors import InputError

HIDDEN = torch.finfo(torch.float16).min  # what is added to a hidden score, at most, in any dtype
_MOST = -HIDDEN / 2  # what is added to any other, at most: with this it is not yet a hidden one


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
        object.__setattr__(self, "heads", heads_or_site(heads, site, "KnockOut"))
        object.__setattr__(self, "query", positions_of(query, "KnockOut's query"))
        object.__setattr__(self, "key", keys)
        object.__setattr__(self, "site", site)

    @property
    def title(self) -> str:
        queries = "all queries" if self.query is None else named("query", "queries", self.query)
        return f"{named('key', 'keys', self.key)} knocked out for {queries} in {where(self)}"

    @property
    def tied(self) -> bool:
        return True

    def bound(self, lengths: Lengths, values: object = None, *, prompt: bool = False) -> Edit:
        what = ("KnockOut's query", "KnockOut's key")
        return _Edges(self, places_of(self, self.query, self.key, lengths, what, prompt=prompt))

    def hidden(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        raise unbound(self)


class _Edges(Tied):
    """A KnockOut for one run."""

    def hidden(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        heads, queries, keys = self.grid(site, layer, n_heads, n_query, n_key)
        edges = heads & queries & keys
        return edges if bool(edges.any()) else None


class Masks(NamedTuple):
    """What a layer's mask becomes when edges are knocked out, or numbers added to its scores.

    kernel     for the kernel: as `recorded`, but rows without keys keep those they had
    recorded   [1 or batch, 1 or head, query, key], boolean or additive as the mask was; additive where there was none,
               or where numbers are added
    blank      [1 or batch, 1 or head, query], queries without keys
    """

    kernel: torch.Tensor
    recorded: torch.Tensor
    blank: torch.Tensor


def masks(
    mask: torch.Tensor | None,
    visible: torch.Tensor,
    hidden: torch.Tensor | None,
    dtype: torch.dtype,
    bias: torch.Tensor | None = None,
) -> Masks:
    """The masks of a layer in which `hidden`, `[1 or head, query, key]`, is knocked out.

    mask      what the kernel was given: None, boolean (True: visible), or additive
    visible   what each query sees by it, `[1 or batch, 1 or head, query, key]`, boolean
    hidden    None: nothing
    dtype     of the queries
    bias      `[1 or head, query, key]`, added to the scores of visible keys; None: nothing
    """
    low = torch.finfo(dtype if mask is None or mask.dtype == torch.bool else mask.dtype).min
    if mask is None or (bias is not None and mask.dtype == torch.bool):
        mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, low)
    if bias is not None:
        added = bias[None].to(mask).clamp(-_MOST, _MOST)
        mask = torch.where(visible, mask + added, mask)
    if hidden is None:
        return Masks(mask, mask, torch.zeros_like(visible[..., 0]))
    hidden = hidden[None].to(visible.device)
    gone = False if mask.dtype == torch.bool else low
    recorded = torch.where(hidden, torch.tensor(gone, dtype=mask.dtype, device=mask.device), mask)
    blank = ~(visible & ~hidden).any(-1)
    return Masks(torch.where(blank[..., None], mask, recorded), recorded, blank)


def blanked(eager: Callable[..., tuple[Any, torch.Tensor]]) -> Callable[..., tuple[Any, torch.Tensor]]:
    """An eager attention function whose pattern rows are zero where its additive mask leaves no key."""

    def attend(*args: Any, **keywords: Any) -> tuple[Any, torch.Tensor]:
        mask: torch.Tensor = args[4]  # as `Recorded.pattern` gives it
        out, weights = eager(*args, **keywords)
        return out, weights.masked_fill((mask <= HIDDEN).all(-1, keepdim=True), 0.0)

    return attend
