"""What the edits of one attention layer make of it together, around a softmax that stays the model's own.

1. Before it, in the mask: knocked-out edges are hidden, and numbers are added to the scores of keys that are seen.
2. After it, patterns are mixed with others. What a head reads is linear in its pattern, so its output is mixed alike:

       z' = (1 - share) z + share (weights @ value)

What a query does not see, by the model's own mask or by an edit, it never sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, or_
from typing import Any

import torch

from attnviz.edits.base import Edit, Mixture
from attnviz.edits.edges import HIDDEN, Masks, blanked, masks

Eager = Callable[..., tuple[Any, torch.Tensor]]
_NAME = "mixed_{}_{}"


@dataclass(frozen=True, eq=False)
class Change:
    """What edits ask of a layer.

    hidden     [1 or head, query, key], boolean; None: nothing
    bias       [1 or head, query, key], added to the scores; None: nothing
    mixtures   in the order of the edits
    """

    hidden: torch.Tensor | None
    bias: torch.Tensor | None
    mixtures: tuple[Mixture, ...]

    @classmethod
    def of(cls, edits: Sequence[Edit], site: str, layer: int, sizes: tuple[int, int, int]) -> Change | None:
        """What they ask together, None for nothing; `sizes`: heads, queries, keys."""
        hidden = [x for edit in edits if (x := edit.hidden(site, layer, *sizes)) is not None]
        bias = [x for edit in edits if (x := edit.bias(site, layer, *sizes)) is not None]
        mixtures = tuple(m for edit in edits if (m := edit.mixture(site, layer, *sizes)) is not None)
        if not (hidden or bias or mixtures):
            return None
        return cls(reduce(or_, hidden) if hidden else None, reduce(add, bias) if bias else None, mixtures)

    def on(self, mask: torch.Tensor | None, visible: torch.Tensor, dtype: torch.dtype) -> Changed:
        """The change of a call whose queries have this dtype, and whose mask lets them see what is visible."""
        if self.hidden is None and self.bias is None:
            return Changed(self, mask, mask, visible, None)
        made: Masks = masks(mask, visible, self.hidden, dtype, self.bias)
        if self.hidden is None:
            return Changed(self, made.kernel, made.recorded, visible, None)
        return Changed(self, made.kernel, made.recorded, visible & ~self.hidden[None].to(visible.device), made.blank)


@dataclass(frozen=True, eq=False)
class Changed:
    """A `Change` of one attention call.

    kernel, recorded   masks for the kernel and for what is recorded, as `edges.Masks`
    visible            [1 or batch, 1 or head, query, key], after the change
    blank              [1 or batch, 1 or head, query], queries without keys; None where no edge is hidden
    """

    change: Change
    kernel: torch.Tensor | None
    recorded: torch.Tensor | None
    visible: torch.Tensor
    blank: torch.Tensor | None

    @property
    def keywords(self) -> Mapping[str, torch.Tensor]:
        """What `eager` needs to mix patterns: 4-D, so that it is cut to heads and queries as masks are."""
        each = enumerate(self.change.mixtures)
        return {
            _NAME.format(name, n): value.to(self.visible.device)
            for n, mixture in each
            for name, value in mixture._asdict().items()
        }

    def eager(self, plain: Eager) -> Eager:
        """The eager function that gives the changed patterns, of the recorded mask and these keywords."""
        eager = plain if self.blank is None else blanked(plain)
        n = len(self.change.mixtures)
        return mixing(eager, n) if n else eager

    def output(self, z: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """What the heads read, [batch, query, head, d_value]; `value` is [batch, kv_head, key, d_value]."""
        if self.blank is not None:
            z = z.masked_fill(self.blank.transpose(1, 2)[..., None], 0.0)
        for mixture in self.change.mixtures:
            weights, share = _normalised(mixture, self.visible)
            grouped = value.repeat_interleave(z.shape[2] // value.shape[1], dim=1)
            read = (weights.to(value.dtype) @ grouped).transpose(1, 2)
            share = share.transpose(1, 2)
            z = torch.where(share > 0, (1 - share).to(z.dtype) * z + share.to(z.dtype) * read, z)
        return z


def mixing(eager: Eager, n: int) -> Eager:
    """An eager attention function whose patterns are mixed with `n` others, given among its keywords."""

    def attend(*args: Any, **keywords: Any) -> tuple[Any, torch.Tensor]:
        mixtures = [Mixture(*(keywords.pop(_NAME.format(name, i)) for name in Mixture._fields)) for i in range(n)]
        out, pattern = eager(*args, **keywords)
        mask = args[4]  # as `Recorded.pattern` gives it
        visible = torch.ones_like(pattern[:1, :1], dtype=torch.bool) if mask is None else mask > HIDDEN
        for mixture in mixtures:
            weights, share = _normalised(mixture, visible)
            pattern = torch.where(share > 0, (1 - share) * pattern + share * weights, pattern)
        return out, pattern

    return attend


def _normalised(mixture: Mixture, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(weights [1 or batch, 1 or head, query, key] whose rows sum to 1, share [..., query, 1]), 0 without weights."""
    seen = mixture.weights.to(visible.device) * visible
    total = seen.sum(-1, keepdim=True)
    return seen / total.where(total > 0, 1.0), mixture.share.to(visible.device) * (total > 0)
