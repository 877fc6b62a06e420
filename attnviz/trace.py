"""A trace: what one run did with one text, kept small, with patterns made when somebody looks.

A trace holds tokens, queries, keys, values and masks (as recorded by `attnviz.tap`) and the model's outputs. It does
not hold the model: a trace in a cache keeps no evicted model alive, and a saved trace opens without one. It does not
know how a text becomes tokens, nor how a model runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import torch

from attnviz.checks import whole
from attnviz.edits import Edit
from attnviz.errors import InputError
from attnviz.info import ModelInfo
from attnviz.outputs import TopK
from attnviz.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable


class LayerAttention(Protocol):
    """One layer's attention for one text: recorded (`recorded.Recorded`) or stored (`Stored`)."""

    @property
    def n_heads(self) -> int: ...
    def pattern(self, head: int | None = None, queries: slice = ...) -> torch.Tensor: ...
    def visible(self, queries: slice = ...) -> torch.Tensor: ...
    def value_norms(self) -> torch.Tensor | None: ...
    def tensors(self) -> list[torch.Tensor]: ...


KEPT_TOKENS = 50  # likeliest tokens a position in a compact trace


@dataclass(frozen=True)
class Stored:
    """A pattern that came as it is: `[1, head, query, key]`, from a view-only model or a file."""

    weights: torch.Tensor

    @property
    def n_heads(self) -> int:
        return self.weights.shape[1]

    def pattern(self, head: int | None = None, queries: slice = slice(None)) -> torch.Tensor:
        heads = slice(None) if head is None else slice(head, head + 1)
        return self.weights[:, heads, queries].to(torch.float32, copy=True)  # never the stored one itself

    def visible(self, queries: slice = slice(None)) -> torch.Tensor:
        """Keys with any weight: all that a pattern alone can tell."""
        return self.weights[:, :, queries] > 0

    def value_norms(self) -> None:
        """A pattern alone knows no values."""

    def tensors(self) -> list[torch.Tensor]:
        return [self.weights]


@dataclass(frozen=True, eq=False)
class Trace:
    """One run on one text.

    tokens          the tokens whose positions the outputs have: the decoder's, or the encoder's where it stands alone
    source_tokens   the encoder's tokens of an encoder-decoder, else ()
    key_tokens      of a call with a cache (`attnviz.record`), all keys of the self-attention; else ()
    prompt_length   of a generated trace, how many of the tokens were given
    logits          [position, vocab] in the model's dtype and on its device; None without a vocabulary head
    class_logits    [class] for sequence classification, else None
    embedding       [d_model] pooled, for models without a head, else None
    edits           what was changed in this run
    """

    info: ModelInfo
    text: str
    tokens: tuple[Token, ...]
    attention: Mapping[str, Mapping[int, LayerAttention]]
    source_text: str = ""
    source_tokens: tuple[Token, ...] = ()
    key_tokens: tuple[Token, ...] = ()
    edits: tuple[Edit, ...] = ()
    edit_titles: tuple[str, ...] = ()
    raw_logits: torch.Tensor | None = None
    class_logits: torch.Tensor | None = None
    embedding: torch.Tensor | None = None
    top: TopK | None = None
    decode: Callable[[int], str] = "#{}".format
    prompt_length: int | None = None

    def __repr__(self) -> str:
        run = f", {'; '.join(self.edit_titles)}" if self.edit_titles else ""
        return f"<Trace of {len(self.tokens)} tokens by {self.info.name}{run}>"

    @property
    def input_ids(self) -> list[int]:
        return [token.id for token in self.tokens]

    @property
    def logits(self) -> torch.Tensor | None:
        if self.raw_logits is None and self.top is not None:
            raise InputError("This trace was made compact and keeps only its likeliest tokens; trace the text again.")
        return self.raw_logits

    def axes(self, site: str | None = None) -> tuple[tuple[Token, ...], tuple[Token, ...]]:
        """(query tokens, key tokens) of a site."""
        site = self.info.site(site)
        if self.info.family != "encoder-decoder":
            return self.tokens, self.key_tokens or self.tokens
        queries = self.source_tokens if site == "encoder" else self.tokens
        keys = (self.key_tokens or self.tokens) if site == "decoder" else self.source_tokens
        return queries, keys

    def texts(self, site: str | None = None) -> tuple[str, str]:
        """What the spans of a site's query and key tokens point into."""
        site = self.info.site(site)
        if self.info.family != "encoder-decoder":
            return self.text, self.text
        return self.source_text if site == "encoder" else self.text, (
            self.text if site == "decoder" else self.source_text
        )

    def layers(self, site: str | None = None) -> tuple[int, ...]:
        """The layers of a site that have attention."""
        return tuple(sorted(self.attention[self.info.site(site)]))

    def layer(self, layer: int, site: str | None = None) -> LayerAttention:
        site = self.info.check_head(layer, None, site)
        if layer not in self.attention[site]:
            raise InputError(f"This run did not pass through {site} layer {layer}, so there is nothing to show of it.")
        return self.attention[site][layer]

    def pattern(self, layer: int, head: int | None = None, site: str | None = None) -> torch.Tensor:
        """The attention pattern after the softmax, made now from this run's queries and keys.

        returns   float32 on the CPU, [query, key], or [head, query, key] without `head`; rows sum to 1 (to less on
                  models with sinks), and a new tensor every time
        raises    HeadError for a layer, head or site that the model does not have
        """
        self.info.check_head(layer, head, site)
        weights = self.layer(layer, site).pattern(head)[0].cpu()
        return weights if head is None else weights[0]

    def patterns(self, site: str | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """(layer, [head, query, key]) one layer at a time, on the recording's device, to be reduced and let go."""
        for layer in self.layers(site):
            yield layer, self.layer(layer, site).pattern()[0]

    def row(self, query: int, site: str | None = None) -> torch.Tensor:
        """One query's attention in every head: float32 CPU, [layer, head, key]; NaN where there is no head."""
        site = self.info.site(site)
        queries, keys = self.axes(site)
        query = checked_position(query, len(queries), "query")
        out = torch.full((self.info.layers_of(site), self.info.heads_of(site), len(keys)), torch.nan)
        for layer, attention in self.attention[site].items():
            out[layer, : attention.n_heads] = attention.pattern(queries=slice(query, query + 1))[0, :, 0].cpu()
        return out

    def predictions(self, position: int = -1, k: int = 10) -> pd.DataFrame:
        """The likeliest tokens at one position: rank, token, token_id, probability, logit.

        For a decoder these are continuations after the position; for a masked encoder, fillings of it.
        raises   InputError without a vocabulary head, or for a k beyond what a compact trace keeps
        """
        whole(k, "k, the number of predictions,")
        at = checked_position(position, len(self.tokens), "position")
        top = self.top
        if self.raw_logits is not None:
            top, at = TopK.of(self.raw_logits[at][None], k), 0
        if top is None:
            raise InputError(f"{self.info.name} has no vocabulary head, so it predicts no tokens.")
        if k > top.ids.shape[1] and self.raw_logits is None:
            raise InputError(f"This compact trace keeps {top.ids.shape[1]} predictions a position; got k={k}.")
        ids, logits = top.ids[at, :k], top.logits[at, :k]
        return pd.DataFrame(
            {
                "rank": range(1, len(ids) + 1),
                "token": [self.decode(int(i)) for i in ids],
                "token_id": ids.tolist(),
                "probability": (logits - top.log_total[at]).exp().tolist(),
                "logit": logits.tolist(),
            }
        )

    @property
    def nbytes(self) -> int:
        """Bytes of tensors held, shared ones counted once."""
        held: dict[int, int] = {}
        tensors: list[Any] = [self.raw_logits, self.class_logits, self.embedding]
        tensors += [x for site in self.attention.values() for layer in site.values() for x in layer.tensors()]
        if self.top is not None:
            tensors += [self.top.ids, self.top.logits, self.top.log_total]
        for x in tensors:
            if x is not None:
                storage = x.untyped_storage()
                held[storage.data_ptr()] = storage.nbytes()
        return sum(held.values())

    def compact(self, k: int = KEPT_TOKENS) -> Trace:
        """The same trace with its `k` likeliest tokens a position in place of all logits: for caches.

        raises   InputError for a k below 1
        """
        whole(k, "k, the number of tokens kept a position,")
        if self.raw_logits is None:
            return self
        return replace(self, raw_logits=None, top=TopK.of(self.raw_logits, k))

    def save(self, path: str | Path) -> Path:
        """Write the trace to one safetensors file, its description as JSON in the file's header.

        `attnviz.load_trace(path)` opens it again, without the model.
        """
        from attnviz.tracefile import write

        return write(self, Path(path))


def checked_position(value: int, length: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -length <= value < length:
        raise InputError(f"A {what} is a position from 0 to {length - 1}, or negative from the end; got {value!r}.")
    return value % length
