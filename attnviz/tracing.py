"""From a forward call that ran through the tap to its traces: one for each text of the batch.

It does not run anything; what a model is, it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from attnviz.encoding import Encoded, Reader
from attnviz.info import ModelInfo, Origin
from attnviz.layout import Layout
from attnviz.outputs import results
from attnviz.returned import returned_attentions
from attnviz.tap import Call
from attnviz.trace import LayerAttention, Stored, Trace


class Traced(Protocol):
    """What a trace must know of a model: `attnviz.Model` is one."""

    @property
    def hf_model(self) -> Any: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def info(self) -> ModelInfo: ...
    @property
    def reader(self) -> Reader: ...


def traces(
    model: Traced,
    call: Call,
    outputs: Any,
    sources: Sequence[Encoded],
    decoders: Sequence[Encoded],
    masks: torch.Tensor | None = None,
) -> list[Trace]:
    """One trace for each text of a batch that ran as `call`; `decoders` is empty but for encoder-decoders.

    masks   [batch, position], 0 where a row is padding, for pooling; None where nothing is
    """
    made = []
    for row, source in enumerate(sources):
        kept = None if masks is None else masks[row]
        logits, class_logits, embedding = results(outputs, row, model.info, model.origin.pooling, kept)
        main = decoders[row] if decoders else source
        made.append(
            Trace(
                info=model.info,
                text=main.text,
                tokens=main.tokens,
                source_text=source.text if decoders else "",
                source_tokens=source.tokens if decoders else (),
                attention=_attention(model, call, outputs, row),
                edits=tuple(call.edits),
                edit_titles=tuple(edit.title for edit in call.edits),
                raw_logits=logits,
                class_logits=class_logits,
                embedding=embedding,
                decode=model.reader.decode,
            )
        )
    return made


def _attention(model: Traced, call: Call, outputs: Any, row: int) -> dict[str, dict[int, LayerAttention]]:
    """By site and layer, what was recorded; of a view-only model, the attentions that it returned."""
    attention: dict[str, dict[int, LayerAttention]] = {site: {} for site in model.info.sites}
    for _, place, recorded in call.recorded:
        if place is not None:
            attention[place.site][place.layer] = recorded.row(row)
    for site in () if model.layout.exact else model.info.sites:
        weights = returned_attentions(model.hf_model, outputs, site)
        attention[site] = {n: Stored(w[row : row + 1]) for n, w in zip(model.layout.layers[site], weights, strict=True)}
    return attention
