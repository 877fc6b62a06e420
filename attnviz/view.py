"""How a pattern is read: which keys count as sinks and what becomes of them, and what one row and one column stand for.

A View changes what is shown, never what the model did. It works on rows of query units, so that a pattern of thousands
of tokens is never held for all heads at once:

    pattern rows -> sinks hidden, renormalised or weighted -> summed over a unit's keys -> averaged over its queries
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.tokens import Token
from attnviz.trace import LayerAttention, Trace
from attnviz.units import Unit, Units, units_of

Sinking = Literal["show", "hide", "renormalise", "value-norm"]
SinkKind = Literal["first", "special", "punctuation"]
SINKING: tuple[Sinking, ...] = get_args(Sinking)
SINK_KINDS: tuple[SinkKind, ...] = get_args(SinkKind)
_CHUNK_TOKENS = 256
_CHUNK_WEIGHTS = 1_500_000  # some copies of so many are held at once


@dataclass(frozen=True)
class Sinks:
    """Keys where heads rest, and what becomes of the attention paid to them.

    how      "show": nothing is done. "hide": their columns are taken out. "renormalise": and each row is divided by
             what is left of it (a row with nothing left is zero). "value-norm": every weight is multiplied by the
             length of its value vector and the row scaled back to its sum, so that keys whose values are short fade
             (after Kobayashi et al. 2020, arXiv 2004.10102, without the output projection)
    kinds    which keys: the "first" token, "special" tokens, tokens that are all "punctuation"
    tokens   and these positions of keys
    """

    how: Sinking = "show"
    kinds: tuple[SinkKind, ...] = ("first",)
    tokens: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.how not in SINKING:
            raise InputError(f"how is one of {', '.join(SINKING)}; got {self.how!r}.")
        if isinstance(self.kinds, str) or not set(self.kinds) <= set(SINK_KINDS):
            raise InputError(f"kinds is a tuple out of {', '.join(SINK_KINDS)}; got {self.kinds!r}.")

    @property
    def active(self) -> bool:
        return self.how != "show"

    def of(self, keys: Sequence[Token], text: str) -> torch.Tensor:
        """Which keys these are: boolean, [key]; positions beyond the text are passed over."""
        tests = {
            "first": lambda i, token: i == 0,
            "special": lambda i, token: token.special,
            "punctuation": lambda i, token: _is_punctuation(token, text),
        }
        chosen = set(self.tokens)
        return torch.tensor(
            [i in chosen or any(tests[kind](i, t) for kind in self.kinds) for i, t in enumerate(keys)], dtype=torch.bool
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of one layer as a View shows them, on the recording's device.

    weights   [head, query unit, key unit]
    taken     [head, query unit], the share of attention taken away, or moved by weighting; in [0, 1]
    visible   [1 or head, query unit], how many key units can be seen and were not taken away
    """

    units: range
    weights: torch.Tensor
    taken: torch.Tensor
    visible: torch.Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """One head's pattern as a View shows it.

    weights   [query unit, key unit], a share of 1 in each row, float32 on the CPU
    taken     [query unit], the share of attention taken away, or moved by weighting; in [0, 1]
    hidden    [key unit], units all of whose keys were taken away
    """

    weights: torch.Tensor
    taken: torch.Tensor
    hidden: torch.Tensor
    queries: Units
    keys: Units

    def shown(self) -> npt.NDArray[np.float32]:
        """The weights to draw: NaN in columns that were taken away."""
        return self.weights.masked_fill(self.hidden, torch.nan).numpy()

    def frame(self) -> pd.DataFrame:
        """A row for each cell: query, query_text, key, key_text, attention (NaN where taken away)."""
        n_query, n_key = self.weights.shape
        return pd.DataFrame(
            {
                "query": np.repeat(np.arange(n_query), n_key),
                "query_text": np.repeat(np.array(self.queries.labels, dtype=object), n_key),
                "key": np.tile(np.arange(n_key), n_query),
                "key_text": np.tile(np.array(self.keys.labels, dtype=object), n_query),
                "attention": self.shown().ravel(),
            }
        )


@dataclass(frozen=True)
class View:
    """How patterns are read, in every picture alike.

    unit    what a row and a column stand for: "token", "word" or "sentence"
    sinks   what becomes of attention to the first token, special tokens, punctuation or chosen tokens
    """

    unit: Unit = "token"
    sinks: Sinks = Sinks()

    def axes(self, trace: Trace, site: str | None = None) -> tuple[Units, Units]:
        """(query units, key units) of a site."""
        queries, keys = trace.axes(site)
        query_text, key_text = trace.texts(site)
        return units_of(queries, query_text, self.unit), units_of(keys, key_text, self.unit)

    def hidden(self, trace: Trace, site: str | None = None) -> torch.Tensor:
        """Which keys are taken away: boolean, [key]; none where sinks are shown or weighted."""
        keys = trace.axes(site)[1]
        if self.sinks.how not in ("hide", "renormalise"):
            return torch.zeros(len(keys), dtype=torch.bool)
        return self.sinks.of(keys, trace.texts(site)[1])

    def pattern(self, trace: Trace, head: Head) -> Seen:
        """One head's pattern as this view shows it.

        raises   HeadError for a head that the trace does not have; Unsupported for value norms where none were recorded
        """
        trace.info.check_head(head.layer, head.head, head.site)
        queries, keys = self.axes(trace, head.site)
        parts = [
            (rows.weights[0].cpu(), rows.taken[0].cpu()) for rows in self.rows(trace, head.layer, head.head, head.site)
        ]
        hidden = keys.mean(self.hidden(trace, head.site).float()) == 1
        return Seen(torch.cat([w for w, _ in parts]), torch.cat([t for _, t in parts]), hidden, queries, keys)

    def row(self, trace: Trace, head: Head, query: int) -> Seen:
        """The row of the unit that a query token belongs to: `pattern` with one query unit."""
        trace.info.check_head(head.layer, head.head, head.site)
        queries, keys = self.axes(trace, head.site)
        at = queries.at(query)
        (rows,) = self.rows(trace, head.layer, head.head, head.site, range(at, at + 1))
        hidden = keys.mean(self.hidden(trace, head.site).float()) == 1
        one = Units(queries.unit, queries.labels[at : at + 1], (0, queries.edges[at + 1] - queries.edges[at]))
        return Seen(rows.weights[0].cpu(), rows.taken[0].cpu(), hidden, one, keys)

    def rows(
        self, trace: Trace, layer: int, head: int | None = None, site: str | None = None, units: range | None = None
    ) -> Iterator[Rows]:
        """One layer as this view shows it, some query units at a time, to be reduced and let go.

        head    None for all heads
        units   query units; None for all
        """
        queries, keys = self.axes(trace, site)
        attention = trace.layer(layer, site)
        removed, norms = self._prepared(trace, attention, head, site)
        weights_a_query = (attention.n_heads if head is None else 1) * keys.n_tokens
        for part in _chunks(queries, units, min(_CHUNK_TOKENS, max(16, _CHUNK_WEIGHTS // weights_a_query))):
            tokens = slice(queries.edges[part.start], queries.edges[part.stop])
            weights = attention.pattern(head, tokens)[0]
            weights, taken = self._without_sinks(weights, removed, norms)
            seen = attention.visible(tokens)[0]
            seen = seen[head : head + 1] if head is not None and seen.shape[0] > 1 else seen
            seen = seen if removed is None else seen & ~removed
            own = queries.part(part)
            if self.unit == "token":
                yield Rows(part, weights, taken, seen.sum(-1))
                continue
            within = own.sum(keys.sum(seen.float()).transpose(-1, -2)).transpose(-1, -2)
            read = own.mean(keys.sum(weights).transpose(-1, -2)).transpose(-1, -2)
            yield Rows(part, read, own.mean(taken), (within > 0).sum(-1))

    def _prepared(
        self, trace: Trace, attention: LayerAttention, head: int | None, site: str | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """(keys taken away, [key] boolean; value norms, [head, 1, key]), each None where not needed."""
        if not self.sinks.active:
            return None, None
        if self.sinks.how != "value-norm":
            removed = self.hidden(trace, site)
            return removed.to(attention.tensors()[0].device), None
        norms = attention.value_norms()
        if norms is None:
            raise Unsupported(
                f"{trace.info.name} is view-only: its values were not recorded, so attention cannot be weighted by "
                "their length. Choose another way with sinks."
            )
        return None, norms[0, slice(None) if head is None else slice(head, head + 1), None, :]

    def _without_sinks(
        self, weights: torch.Tensor, removed: torch.Tensor | None, norms: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(weights, taken) with weights [head, query, key]."""
        if norms is not None:
            scaled = weights * norms
            scaled = scaled * (weights.sum(-1, keepdim=True) / scaled.sum(-1, keepdim=True).clamp(min=1e-30))
            return scaled, (scaled - weights).abs().sum(-1) / 2
        if removed is None:
            return weights, weights.new_zeros(weights.shape[:-1])
        taken = weights[..., removed].sum(-1)
        kept = weights.masked_fill(removed, 0)
        if self.sinks.how == "renormalise":
            left = kept.sum(-1, keepdim=True)
            kept = torch.where(left > 0, kept / left.clamp(min=1e-30), 0)
        return kept, taken


def _chunks(queries: Units, units: range | None, tokens: int) -> Iterator[range]:
    """Ranges of units, each of about so many tokens; a longer unit is a chunk of its own."""
    units = range(len(queries)) if units is None else units
    start = units.start
    for at in units:
        if queries.edges[at + 1] - queries.edges[start] >= tokens or at + 1 == units.stop:
            yield range(start, at + 1)
            start = at + 1


def _is_punctuation(token: Token, text: str) -> bool:
    source = text[slice(*token.span)].strip() or token.text.strip("␣")
    return not token.special and bool(source) and all(unicodedata.category(c).startswith("P") for c in source)
