"""Steering attention towards chosen tokens, or away from them, by a factor on what their keys weigh.

PASTA (Zhang et al. 2023, arXiv 2311.02262): in the chosen heads, exp(score) of every key outside the chosen tokens is
multiplied by `strength` before rows are normalised, which is adding log(strength) to these scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real

import torch

from attnviz.edits.base import Edit, Head, Lengths, positions_of
from attnviz.edits.tied import Tied, heads_or_site, named, places_of, unbound, where
from attnviz.errors import InputError


@dataclass(frozen=True)
class Steer(Edit):
    """Emphasise tokens, or ignore them: the scores of the other keys, or of theirs, fall by -log(strength).

    tokens     key positions, one or several; negative ones from the run's end (while a text is being continued, from
               the end of what was given)
    heads      where; None: all heads of the site, in all layers, which harms more than it steers
    strength   in (0, 1]: what a key that loses weighs, in parts of what it did; 1 changes nothing
    site       with heads=None, and needed there for an encoder-decoder
    ignore     False: every key outside `tokens` loses, those of a continuation too; True: the tokens themselves lose
    queries    whose attention is steered; None for all queries, those of a continuation too

    Rows are normalised after it. A query that sees no emphasised token (it stands before them) attends as before, but
    on a model with sinks, whose sink keeps its score, all of its keys lose to that. Nothing is ever hidden.
    """

    tokens: tuple[int, ...]
    heads: tuple[Head, ...]
    strength: float
    ignore: bool
    queries: tuple[int, ...] | None
    site: str | None

    def __init__(
        self,
        tokens: int | Sequence[int],
        heads: Iterable[Head] | None = None,
        strength: float = 0.01,
        site: str | None = None,
        *,
        ignore: bool = False,
        queries: int | Sequence[int] | None = None,
    ) -> None:
        keys = positions_of(tokens, "Steer's tokens")
        if keys is None:
            raise InputError("Steer needs tokens, e.g. Steer(tokens=[3, 4]); got None.")
        if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 < strength <= 1:
            raise InputError(f"Steer's strength is above 0 and at most 1, which changes nothing; got {strength!r}.")
        if not isinstance(ignore, bool):
            raise InputError(f"ignore is True, for tokens to turn from, or False; got {ignore!r}.")
        object.__setattr__(self, "heads", heads_or_site(heads, site, "Steer"))
        object.__setattr__(self, "tokens", keys)
        object.__setattr__(self, "strength", float(strength))
        object.__setattr__(self, "site", site)
        object.__setattr__(self, "ignore", ignore)
        object.__setattr__(self, "queries", positions_of(queries, "Steer's queries"))

    @property
    def title(self) -> str:
        keys, by = named("key", "keys", self.tokens), f"{self.strength:g}"
        done = f"{keys} scaled by {by}" if self.ignore else f"all but {keys} scaled by {by}"
        queries = "" if self.queries is None else f" for {named('query', 'queries', self.queries)}"
        return f"{done}{queries} in {where(self)}"

    @property
    def tied(self) -> bool:
        return True

    def bound(self, lengths: Lengths, values: object = None, *, prompt: bool = False) -> Edit:
        what = ("Steer's query", "Steer's token")
        places = places_of(self, self.queries, self.tokens, lengths, what, prompt=prompt)
        return _Steered(self, places, steer=self)

    def bias(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        raise unbound(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Steered(Tied):
    """A Steer for one run."""

    steer: Steer

    def bias(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        heads, queries, keys = self.grid(site, layer, n_heads, n_query, n_key)
        loses = heads & queries & (keys if self.steer.ignore else ~keys)
        if self.steer.strength == 1 or not bool(loses.any()):
            return None
        return loses.float() * math.log(self.steer.strength)
