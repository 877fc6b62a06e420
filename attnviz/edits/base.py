"""What every edit is: the heads it names, where it touches, and how it learns of the run that it is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from attnviz.errors import HeadError, InputError

SITES = ("encoder", "decoder", "cross")

Lengths = Mapping[str, tuple[int, int]]  # by site, how many queries and keys a run has
Values = Mapping[tuple[str, int], torch.Tensor]  # by site and layer, [query, head, d_head]


@dataclass(frozen=True, slots=True)
class Head:
    """One attention head, counted from zero; `str()` gives "L23H3".

    site   "encoder", "decoder" or "cross"; None is the model's only site, and must be given for an encoder-decoder
    """

    layer: int
    head: int
    site: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("layer", self.layer), ("head", self.head)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise HeadError(f"A head's {name} is a whole number counted from 0; got {value!r}.")
        check_site(self.site, "A head's")

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}" if self.site is None else f"{self.site} L{self.layer}H{self.head}"


class Mixture(NamedTuple):
    """Weights that are mixed into the patterns of a layer.

    weights   [1, 1, 1, key], float32, 0 or more, normalised later over what a query sees
    share     [1, 1 or head, 1, 1], float32, what they get of a pattern; 0 where it stays as it is
    """

    weights: torch.Tensor
    share: torch.Tensor


class Edit(ABC):
    """One change to attention, applied wherever `touches` says so.

    heads   the heads that the edit names, so that a model can check that it has them; () for all heads of `site`
    site    with no heads named: the site meant; None: a model's only one, or all where no tokens are meant (`tied`)
    """

    heads: tuple[Head, ...]
    site: str | None = None

    @property
    @abstractmethod
    def title(self) -> str:
        """What the edit does, in words, for captions."""

    @property
    def tied(self) -> bool:
        """Whether it means tokens of one run, so that it must be bound to it and says nothing of another text."""
        return False

    def touches(self, site: str, layer: int) -> bool:
        """Whether the edit changes anything in this layer."""
        return bool(self.at(site, layer)) if self.heads else self.site in (None, site)

    def at(self, site: str, layer: int) -> list[int]:
        """The heads of this layer that the edit names, in the order given."""
        return [h.head for h in self.heads if h.layer == layer and h.site in (None, site)]

    def bound(self, lengths: Lengths, values: Values | None = None, *, prompt: bool = False) -> Edit:
        """The edit for one run.

        lengths   of that run
        values    what stands in for the heads' outputs, where the edit needs such
        prompt    the run is the beginning of a longer one, and what is tied to its tokens ends with it
        raises    InputError for positions outside the run
        """
        return self

    def starting(self, first: int) -> Edit:
        """The edit in a forward pass whose first query is token `first` of the run: what came before is in a cache."""
        return self

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        """Edited head outputs; `[batch, query, head, d_head]` in and out, `z` itself untouched."""
        return z

    def hidden(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        """What no longer reads what: boolean, `[1 or head, query, key]` on the CPU; None for nothing."""
        return None

    def bias(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> torch.Tensor | None:
        """What is added to the scores of keys that are seen: float32, `[1 or head, query, key]`, CPU; None: nothing."""
        return None

    def mixture(self, site: str, layer: int, n_heads: int, n_query: int, n_key: int) -> Mixture | None:
        """What is mixed into the patterns, on the CPU; None for nothing."""
        return None


def checked(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The edits of a call as a tuple; InputError for anything else."""
    if isinstance(edits, Edit) or not isinstance(edits, Iterable):
        raise InputError(f"edits is a sequence, such as edits=[ZeroHeads([Head(0, 0)])]; got {edits!r}.")
    kept = tuple(edits)
    for edit in kept:
        if not isinstance(edit, Edit):
            raise InputError(f"edits holds attnviz.edits values, such as ZeroHeads([Head(0, 0)]); got {edit!r}.")
    return kept


def check_site(site: str | None, whose: str) -> None:
    if site is not None and site not in SITES:
        raise HeadError(f"{whose} site is one of {', '.join(SITES)}, or None; got {site!r}.")


def heads_of(heads: Iterable[Head], what: str) -> tuple[Head, ...]:
    """One or more heads as a tuple; HeadError for anything else."""
    if isinstance(heads, Head) or not isinstance(heads, Iterable):
        raise HeadError(f"{what} takes several heads, e.g. {what}([Head(0, 0)]); got {heads!r}.")
    kept = tuple(heads)
    for head in kept:
        if not isinstance(head, Head):
            raise HeadError(f"{what} takes Head(layer, head) values; got {head!r}.")
    if not kept:
        raise HeadError(f"{what} needs at least one head, e.g. {what}([Head(0, 0)]).")
    return kept


def positions_of(given: int | Sequence[int] | None, what: str) -> tuple[int, ...] | None:
    """Positions as a tuple, None for all of them; InputError for anything else."""
    if given is None:
        return None
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    kept = tuple(several)
    for position in kept:
        if isinstance(position, bool) or not isinstance(position, int):
            raise InputError(f"{what} is whole numbers from 0, or negative from the end; got {given!r}.")
    if not kept:
        raise InputError(f"{what} needs at least one position, or None for all; got {given!r}.")
    return kept


def within(positions: Iterable[int], length: int, what: str, *, prompt: bool = False) -> list[int]:
    """Positions counted from the start; InputError for one outside the run, or what was given of it."""
    tokens = f"{length} token{'s' * (length != 1)} of {'what was given' if prompt else 'the run'}"
    kept = []
    for position in positions:
        if not -length <= position < length:
            raise InputError(f"{what} lies within the {tokens}; got {position}.")
        kept.append(position % length)
    return kept


def listed(positions: Sequence[int]) -> str:
    """Positions in words: "5", "2 and 5", "2, 5 and 7"."""
    words = [str(position) for position in positions]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
