"""Tokens read as words or sentences: consecutive tokens of an axis taken as one.

Attention is summed over the keys of a unit and averaged over its queries, so that a row still sums to what it did.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

import torch

from attnviz.errors import InputError
from attnviz.text import Span, sentences, visible
from attnviz.tokens import Token

Unit = Literal["token", "word", "sentence"]
UNITS: tuple[Unit, ...] = get_args(Unit)
_LABEL_CHARS = 120


@dataclass(frozen=True)
class Units:
    """An axis cut into units.

    unit     what they are
    labels   [unit], as people read them
    edges    [unit + 1], positions of tokens: unit i is the tokens edges[i] to edges[i + 1], the last not included
    """

    unit: Unit
    labels: tuple[str, ...]
    edges: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_tokens(self) -> int:
        return self.edges[-1]

    @property
    def spans(self) -> list[Span]:
        """[unit], positions of tokens `[start, end)`."""
        return list(pairwise(self.edges))

    def at(self, position: int) -> int:
        """The unit that a token belongs to."""
        return bisect_right(self.edges, position) - 1

    @cached_property
    def index(self) -> torch.Tensor:
        """[token], the unit of each."""
        return torch.repeat_interleave(torch.tensor([b - a for a, b in self.spans]))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """[..., token] -> [..., unit], summed."""
        if len(self) == self.n_tokens:
            return values
        out = values.new_zeros((*values.shape[:-1], len(self)))
        return out.index_add_(-1, self.index.to(values.device), values)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """[..., token] -> [..., unit], averaged."""
        sizes = torch.tensor([b - a for a, b in self.spans], device=values.device)
        return values if len(self) == self.n_tokens else self.sum(values) / sizes

    def part(self, units: range) -> Units:
        """Consecutive units as an axis of their own, its tokens counted from 0."""
        first = self.edges[units.start]
        edges = tuple(edge - first for edge in self.edges[units.start : units.stop + 1])
        return Units(self.unit, self.labels[units.start : units.stop], edges)


def units_of(tokens: Sequence[Token], text: str, unit: Unit = "token") -> Units:
    """Cut an axis into units.

    tokens   of one axis of a trace
    text     what the tokens' spans point into; where it is not that text, labels are put together from the tokens
    unit     "token"; "word", by Unicode's word boundaries; "sentence", in any script
    raises   InputError for another unit

    A special token is a unit of its own; so is white space that belongs to no word.
    """
    if unit not in UNITS:
        raise InputError(f"A unit is one of {', '.join(UNITS)}; got {unit!r}.")
    if unit == "token":
        return Units(unit, tuple(token.text for token in tokens), tuple(range(len(tokens) + 1)))
    names = _words(tokens) if unit == "word" else _sentences(tokens, text)
    starts = [i for i in range(len(tokens)) if i == 0 or names[i] is None or names[i] != names[i - 1]]
    edges = (*starts, len(tokens))
    return Units(unit, tuple(_label(tokens[a:b], text) for a, b in pairwise(edges)), edges)


def _words(tokens: Sequence[Token]) -> list[int | None]:
    return [token.word for token in tokens]


def _sentences(tokens: Sequence[Token], text: str) -> list[int | None]:
    """The sentence that each token belongs to, by its first visible character; None stands alone."""
    starts = [a for a, _ in sentences(text)]
    found: list[int | None] = []
    for token in tokens:
        a, b = token.span
        piece = text[a:b]
        at = a + len(piece) - len(piece.lstrip()) if piece.strip() else max(a - 1, 0)
        found.append(None if token.special else bisect_right(starts, at) - 1)
    return found


def _label(tokens: Sequence[Token], text: str) -> str:
    source = text[tokens[0].span[0] : tokens[-1].span[1]]
    if len(tokens) == 1 and (tokens[0].special or not source.strip()):
        return tokens[0].text
    if not source.strip():
        source = "".join(token.text for token in tokens)
    words = " ".join(visible(word) for word in source.split())
    return words if len(words) <= _LABEL_CHARS else words[: _LABEL_CHARS - 1] + "…"
