"""What can be changed in a run, as small frozen dataclasses.

An edit is a value: it holds what to change, never a model or a tensor of one, so it can be compared, hashed, written
down and handed to any number of runs at once. The tap (`attnviz.tap`) asks each edit of a call whether it touches a
layer and hands it that layer's head outputs. Every edit works out of place.

Head outputs are z, `[batch, query, head, d_head]`: what a head has read, before the output projection mixes the heads
(docs/DESIGN.md says why not after it).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from attnviz.errors import HeadError, InputError

SITES = ("encoder", "decoder", "cross")


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
        if self.site is not None and self.site not in SITES:
            raise HeadError(f"A head's site is one of {', '.join(SITES)}, or None; got {self.site!r}.")

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}" if self.site is None else f"{self.site} L{self.layer}H{self.head}"


class Edit(ABC):
    """One change to attention, applied wherever `touches` says so.

    heads   the heads that the edit names, so that a model can check that it has them
    """

    heads: tuple[Head, ...]

    @property
    @abstractmethod
    def title(self) -> str:
        """What the edit does, in words, for captions."""

    def touches(self, site: str, layer: int) -> bool:
        """Whether the edit changes anything in this layer."""
        return bool(self.at(site, layer))

    def at(self, site: str, layer: int) -> list[int]:
        """The heads of this layer that the edit names, in the order given."""
        return [h.head for h in self.heads if h.layer == layer and h.site in (None, site)]

    @abstractmethod
    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        """Edited head outputs; `[batch, query, head, d_head]` in and out, `z` itself untouched."""


def checked(edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The edits of a call as a tuple; InputError for anything else."""
    if isinstance(edits, Edit) or not isinstance(edits, Iterable):
        raise InputError(f"edits is a sequence, such as edits=[ZeroHeads([Head(0, 0)])]; got {edits!r}.")
    kept = tuple(edits)
    for edit in kept:
        if not isinstance(edit, Edit):
            raise InputError(f"edits holds attnviz.edits values, such as ZeroHeads([Head(0, 0)]); got {edit!r}.")
    return kept


def _heads(heads: Iterable[Head], what: str) -> tuple[Head, ...]:
    if isinstance(heads, Head) or not isinstance(heads, Iterable):
        raise HeadError(f"{what} takes several heads, e.g. {what}([Head(0, 0)]); got {heads!r}.")
    kept = tuple(heads)
    for head in kept:
        if not isinstance(head, Head):
            raise HeadError(f"{what} takes Head(layer, head) values; got {head!r}.")
    if not kept:
        raise HeadError(f"{what} needs at least one head, e.g. {what}([Head(0, 0)]).")
    return kept


@dataclass(frozen=True)
class ZeroHeads(Edit):
    """Set the outputs of some heads to zero.

    A zero is something the model never met in training: zero ablation is off-distribution, and its effect is an upper
    bound on nothing.
    """

    heads: tuple[Head, ...]

    def __init__(self, heads: Iterable[Head]) -> None:
        object.__setattr__(self, "heads", _heads(heads, "ZeroHeads"))

    @property
    def title(self) -> str:
        return f"{', '.join(map(str, self.heads))} set to zero (off-distribution)"

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        index = torch.tensor(self.at(site, layer), device=z.device)
        return z.index_fill(2, index, 0.0)


@dataclass(frozen=True)
class ScaleHeads(Edit):
    """Multiply the outputs of some heads: 1 changes nothing, 0 is `ZeroHeads`."""

    heads: tuple[Head, ...]
    scales: tuple[float, ...]

    def __init__(self, scales: Mapping[Head, float]) -> None:
        if not isinstance(scales, Mapping):
            raise HeadError("ScaleHeads takes a mapping of heads to factors, e.g. ScaleHeads({Head(0, 0): 0.5}).")
        for head, scale in scales.items():
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
                raise InputError(f"A head's scale is a finite number; {head} got {scale!r}.")
        object.__setattr__(self, "heads", _heads(scales, "ScaleHeads"))
        object.__setattr__(self, "scales", tuple(map(float, scales.values())))

    @property
    def title(self) -> str:
        return ", ".join(f"{head} scaled by {scale:g}" for head, scale in zip(self.heads, self.scales, strict=True))

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        factors = torch.ones(z.shape[2], dtype=z.dtype, device=z.device)
        for head, scale in zip(self.heads, self.scales, strict=True):
            if head.layer == layer and head.site in (None, site):
                factors[head.head] = scale
        return z * factors[:, None]
