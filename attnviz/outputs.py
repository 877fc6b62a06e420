"""What a forward call gave besides attention: logits, class logits, embeddings, and the likeliest tokens kept of them.

All logits of a text are the largest tensor of a trace: 400 MB for 2,048 tokens of SmolLM2. Where a model's logits are
its output projection of its last hidden states and nothing more, which is checked on the model itself, the likeliest
tokens are found a few positions at a time and all logits never exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from attnviz.info import ModelInfo
from attnviz.layout import forward_inputs

_CHUNK_POSITIONS = 64
_CHECK_IDS = 6


@dataclass(frozen=True)
class TopK:
    """The k likeliest tokens at every position, for traces that dropped their logits.

    ids, logits   [position, k], likeliest first
    log_total     [position], log of the sum of exponentials over the whole vocabulary
    """

    ids: torch.Tensor
    logits: torch.Tensor
    log_total: torch.Tensor

    @classmethod
    def of(cls, logits: torch.Tensor, k: int) -> TopK:
        """Of all logits, [position, vocab]."""
        return cls._joined(logits.split(_CHUNK_POSITIONS), k)

    @classmethod
    def of_states(cls, hf_model: Any, states: torch.Tensor, k: int) -> TopK:
        """Of the last hidden states, [position, d_model], of a model with a `separate_head`."""
        head = hf_model.get_output_embeddings()
        return cls._joined((head(chunk) for chunk in states.split(_CHUNK_POSITIONS)), k)

    @classmethod
    def _joined(cls, chunks: Iterable[torch.Tensor], k: int) -> TopK:
        # A few positions at a time: a float32 copy of all logits would double the largest tensor there is.
        rows = [(*chunk.float().topk(min(k, chunk.shape[-1])), chunk.float().logsumexp(-1)) for chunk in chunks]
        values, ids, total = (torch.cat(column).cpu() for column in zip(*rows, strict=True))
        return cls(ids=ids, logits=values, log_total=total)


def separate_head(hf_model: Any, vocabulary: int) -> bool:
    """Whether the logits are the output projection of the base model's last hidden states, to 1e-4 of their size."""
    base, head = hf_model.base_model, hf_model.get_output_embeddings()
    if base is hf_model or head is None:
        return False
    ids = torch.arange(1, 1 + _CHECK_IDS, device=hf_model.device)[None] % vocabulary
    inputs = forward_inputs(hf_model, {"input_ids": ids})
    with torch.no_grad():
        states = getattr(base(**inputs), "last_hidden_state", None)
        logits = getattr(hf_model(**inputs), "logits", None)
        if states is None or logits is None:
            return False
        found = head(states)
    close = 1e-4 * float(logits.abs().max()) if logits.dtype == torch.float32 else 0.0
    return found.shape == logits.shape and float((found - logits).abs().max()) <= close


def vocabulary_of(hf_model: Any) -> int:
    """How many token ids the model reads; not every embedding is an nn.Embedding (I-BERT, Perceiver)."""
    table = hf_model.get_input_embeddings()
    rows = getattr(table, "num_embeddings", None)
    return int(rows or getattr(table, "weight", table).shape[0])


Results = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]


def results(outputs: Any, row: int, info: ModelInfo, pooling: str, kept: torch.Tensor | None = None) -> Results:
    """(logits [position, vocab], class logits [class], embedding [d_model]) of one text of a batch; None what is not.

    pooling   "cls" or "mean", how an embedding is made of last hidden states; anything else: there is none
    kept      [position], 0 where the row is padding; None where nothing is
    """
    logits = getattr(outputs, "logits", None)
    if logits is not None:
        logits = logits[row].detach()  # a recorded training step's graph is not ours to keep
        return (logits, None, None) if info.has_vocabulary else (None, logits, None)
    states = getattr(outputs, "last_hidden_state", None)
    if states is None or info.family == "encoder-decoder" or pooling not in ("cls", "mean"):
        return None, None, None
    states = states[row].detach()
    states = states if kept is None else states[kept.bool().to(states.device)]
    return None, None, states[0] if pooling == "cls" else states.float().mean(0)
