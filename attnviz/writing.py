"""What a model writes after a text, with the edits that hold while it does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from attnviz.edits import Edit
from attnviz.encoding import Encoded, Reader
from attnviz.generation import Writing, continued
from attnviz.info import ModelInfo
from attnviz.layout import Layout, start_token
from attnviz.tap import Call


class Writer(Protocol):
    """What must be known of a model: `attnviz.Model` is one."""

    @property
    def hf_model(self) -> Any: ...
    @property
    def info(self) -> ModelInfo: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def reader(self) -> Reader: ...
    def inputs(self, source: Encoded, decoder: Encoded | None) -> dict[str, Any]: ...
    def ready(
        self, edits: Sequence[Edit], source: Encoded, decoder: Encoded | None, *, prompt: bool
    ) -> tuple[Edit, ...]: ...
    def running(self, call: Call | None) -> AbstractContextManager[None]: ...


def write(
    model: Writer, source: Encoded, edits: Sequence[Edit], writing: Writing
) -> tuple[list[int], tuple[Edit, ...]]:
    """(the ids of the whole sequence, as `generation.continued`, never more than the model reads; the edits bound).

    Edits tied to tokens act on what was given: the text, and the start token of an encoder-decoder's decoder.
    """
    several = model.info.family == "encoder-decoder"
    first = model.reader.encode_ids([start_token(model.hf_model)]) if several and edits else None
    bound = model.ready(edits, source, first, prompt=True)
    if model.info.max_tokens is not None:
        given = 1 if several else len(source.ids)
        model.reader.check_context(given + 1)
        writing = replace(writing, most=min(writing.most, model.info.max_tokens - given))
    inputs = model.inputs(source, None)
    inputs.pop("use_cache", None)
    with model.running(Call(model.layout.places, edits, keep=False, bound=bound)):
        return continued(model.hf_model, inputs, writing), bound


def without_end(hf_model: Any, ids: Sequence[int]) -> list[int]:
    """The ids without the model's end token at their end."""
    end = hf_model.generation_config.eos_token_id
    ends = end if isinstance(end, list) else [end]
    return list(ids[:-1] if len(ids) and ids[-1] in ends else ids)
