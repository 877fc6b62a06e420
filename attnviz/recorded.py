"""One layer's attention as it was recorded, and the pattern made from it when somebody looks.

The softmax is never rewritten here: soft-capping and sinks would silently go wrong. The eager function of the model's
own modelling file does the arithmetic, on the recorded queries and keys, in chunks of query rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch

Eager = Callable[..., tuple[torch.Tensor, torch.Tensor]]

_CHUNK_ROWS = 256


@dataclass(frozen=True)
class Recorded:
    """One layer's attention, as the kernel was given it; nothing here refers to the model.

    query      [batch, head, query, d_head]
    key        [batch, kv_head, key, d_head]
    value      [batch, kv_head, key, d_value]
    mask       None, or boolean (True: visible) or additive, broadcastable to [batch, head, query, key]
    causal     with no mask: whether a query sees only keys up to its own position
    eager      the modelling file's own `eager_attention_forward`
    module     stand-in with what `eager` reads from its module
    keywords   the call's keywords that `eager` understands; tensors are [1 or batch, head, 1 or query, key]
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    causal: bool
    eager: Eager
    module: SimpleNamespace
    keywords: Mapping[str, Any]

    @property
    def n_heads(self) -> int:
        return self.query.shape[1]

    @property
    def group(self) -> int:
        """Query heads per key/value head."""
        return self.query.shape[1] // self.key.shape[1]

    def row(self, batch: int) -> Recorded:
        """The same layer for one text of the batch."""

        def one(x: Any) -> Any:
            return x[batch : batch + 1] if isinstance(x, torch.Tensor) and x.dim() == 4 and x.shape[0] > 1 else x

        return replace(
            self,
            query=one(self.query),
            key=one(self.key),
            value=one(self.value),
            mask=one(self.mask),
            keywords={name: one(value) for name, value in self.keywords.items()},
        )

    def tensors(self) -> list[torch.Tensor]:
        held = [self.query, self.key, self.value, self.mask, *self.keywords.values(), *vars(self.module).values()]
        return [x for x in held if isinstance(x, torch.Tensor)]

    @torch.no_grad()
    def pattern(self, head: int | None = None, queries: slice = slice(None)) -> torch.Tensor:
        """The attention pattern, made now: float32, `[batch, head, query, key]` on the recording's device.

        The model's own eager function does the arithmetic, in float32 and in chunks of query rows, on whole key/value
        groups. With `head` the head axis has length 1; `queries` selects query rows.
        """
        # A whole group of query heads shares one key/value head: smaller slices would confuse repeat_kv.
        kv = slice(None) if head is None else slice(head // self.group, head // self.group + 1)
        heads = slice(None) if head is None else slice(kv.start * self.group, kv.stop * self.group)
        keep = slice(None) if head is None else slice(head - heads.start, head - heads.start + 1)
        key = self.key[:, kv].float()
        value = self.value[:, kv, :, :1].float()  # the pattern does not depend on it; one column is the least work
        module = SimpleNamespace(**{name: _slice_heads(x, heads) for name, x in vars(self.module).items()})
        rows = range(self.query.shape[2])[queries]
        out = self.query.new_empty(
            (self.query.shape[0], len(range(self.n_heads)[heads][keep]), len(rows), key.shape[2]), dtype=torch.float32
        )
        for first in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[first : first + _CHUNK_ROWS]
            span = slice(chunk.start, chunk.stop)
            keywords = {
                name: _slice_mask(x, heads, span) if isinstance(x, torch.Tensor) and x.dim() == 4 else x
                for name, x in self.keywords.items()
            }
            _, weights = self.eager(
                module,
                self.query[:, heads, span].float(),
                key,
                value,
                self.scores_mask(heads, span),
                **keywords,
            )
            out[:, :, first : first + len(chunk)] = weights[:, keep]
        return out

    def scores_mask(self, heads: slice, queries: slice) -> torch.Tensor | None:
        """What is added to the scores, `[1 or batch, 1 or head, query, key]`: 0 where visible; None if all is."""
        low = torch.finfo(torch.float32).min
        if self.mask is not None:
            mask = _slice_mask(self.mask, heads, queries)
            if mask.dtype == torch.bool:
                return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, low)
            return mask.float().clamp(min=low)
        if not self.causal:
            return None
        n_query, n_key = self.query.shape[2], self.key.shape[2]
        positions = torch.arange(n_query, device=self.query.device)[queries]
        # SDPA's is_causal aligns the first query with the first key.
        hidden = torch.arange(n_key, device=self.query.device)[None, :] > positions[:, None]
        return torch.zeros((1, 1, *hidden.shape), device=hidden.device).masked_fill_(hidden, low)

    def visible(self, queries: slice = slice(None)) -> torch.Tensor:
        """Whether each query can see each key: boolean, `[1 or batch, 1 or head, query, key]`."""
        mask = self.scores_mask(slice(None), queries)
        if mask is None:
            n_rows = len(range(self.query.shape[2])[queries])
            return torch.ones((1, 1, n_rows, self.key.shape[2]), dtype=torch.bool, device=self.query.device)
        # An additive mask may carry finite biases; only what the softmax cannot see is hidden.
        seen = mask > torch.finfo(torch.float16).min
        return seen.expand(-1, -1, len(range(self.query.shape[2])[queries]), -1)

    def value_norms(self) -> torch.Tensor:
        """The length of each head's value vectors, `[batch, head, key]`; heads of a group share theirs."""
        norms = self.value.float().norm(dim=-1)
        return norms.repeat_interleave(self.query.shape[1] // norms.shape[1], dim=1)


def _slice_heads(x: Any, heads: slice) -> Any:
    """Per-head parameters (attention sinks) follow the heads; everything else stays."""
    return x[heads].float() if isinstance(x, torch.Tensor) else x


def _slice_mask(x: torch.Tensor, heads: slice, queries: slice) -> torch.Tensor:
    x = x[:, heads] if x.shape[1] > 1 else x
    return x[:, :, queries] if x.shape[2] > 1 else x
