"""Edits that mean tokens of one run: which of its queries and keys a forward pass reads, also after a cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from attnviz.edits.base import Edit, Head, Lengths, check_site, heads_of, listed, within
from attnviz.errors import HeadError, InputError

Places = Mapping[str, tuple[tuple[int, ...] | None, tuple[int, ...]]]  # by site, queries (None: all) and keys


class Grid(NamedTuple):
    """What an edit means in one forward pass of one layer; `&` of the three is [1 or head, query, key].

    heads     [1 or head, 1, 1], boolean; one for all of them
    queries   [query, 1]
    keys      [key]
    """

    heads: torch.Tensor
    queries: torch.Tensor
    keys: torch.Tensor


@dataclass(frozen=True, eq=False)
class Tied(Edit):
    """An edit for one run.

    asked    the edit as it was asked for
    places   by site, the queries and keys that it names, counted from the run's start
    first    the position of the forward pass's first query
    """

    asked: Edit
    places: Places
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

    def first_key(self, site: str, n_query: int, n_key: int) -> int:
        """The position of the forward pass's first key."""
        # A cache may hold the last keys alone (sliding windows); those of cross-attention are all there, always.
        return max(0, self.first + n_query - n_key) if site == "decoder" else 0

    def chosen(self, site: str, layer: int, n_heads: int) -> torch.Tensor:
        """[1 or head], the heads that the edit means in a layer."""
        if not self.heads:
            return torch.ones(1, dtype=torch.bool)
        chosen = torch.zeros(n_heads, dtype=torch.bool)
        chosen[self.at(site, layer)] = True
        return chosen

    def grid(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> Grid:
        queries, keys = self.places[site]
        rows = torch.zeros(n_query, dtype=torch.bool)
        rows[slice(None) if queries is None else _inside(queries, self.first, n_query)] = True
        columns = torch.zeros(n_key, dtype=torch.bool)
        columns[_inside(keys, self.first_key(site, n_query, n_key), n_key)] = True
        return Grid(self.chosen(site, layer, n_heads)[:, None, None], rows[:, None], columns)


def sites_of(edit: Edit, lengths: Lengths) -> list[str]:
    """The sites of a run that an edit acts at."""
    named = {h.site for h in edit.heads} if edit.heads else {edit.site}
    return [site for site in lengths if None in named or site in named]


def places_of(
    edit: Edit,
    queries: Sequence[int] | None,
    keys: Sequence[int],
    lengths: Lengths,
    what: tuple[str, str],
    *,
    prompt: bool,
) -> Places:
    """Positions counted from the start of a run; `what` they are called.

    raises   InputError for one outside the run, and where no query of a decoder could read any of the keys
    """
    places = {}
    for site in sites_of(edit, lengths):
        n_query, n_key = lengths[site]
        query = None if queries is None else tuple(within(queries, n_query, what[0], prompt=prompt))
        key = tuple(within(keys, n_key, what[1], prompt=prompt))
        if site == "decoder" and query is not None and min(key) > max(query):
            raise InputError(
                "A decoder's query reads no later key, so there is no edge between "
                f"{named('query', 'queries', query)} and {named('key', 'keys', key)}."
            )
        places[site] = (query, key)
    return places


def heads_or_site(heads: Iterable[Head] | None, site: str | None, what: str) -> tuple[Head, ...]:
    """The heads as a tuple, () for all of a site; HeadError for both or for what is no head or site."""
    check_site(site, f"{what}'s")
    if heads is not None and site is not None:
        raise HeadError(f"{what} takes heads, which say their own site, or a site for all of its heads; got both.")
    return () if heads is None else heads_of(heads, what)


def where(edit: Edit) -> str:
    """The heads of an edit in words."""
    return ", ".join(map(str, edit.heads)) or f"all {edit.site} heads" * bool(edit.site) or "all heads"


def named(one: str, several: str, positions: Sequence[int]) -> str:
    return f"{one if len(positions) == 1 else several} {listed(positions)}"


def unbound(edit: Edit) -> InputError:
    return InputError(f"'{edit.title}' is not bound to a run: pass it through `model.ready(edits, source)` first.")


def _inside(positions: Iterable[int], first: int, length: int) -> list[int]:
    return [p - first for p in positions if 0 <= p - first < length]
