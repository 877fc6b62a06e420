"""Looking into the forward calls of somebody else's code: a padded batch, a cache, a training step.

    with attnviz.record(hf_model, tokenizer) as recording:
        loss = hf_model(**batch).loss
    recording.traces[0].pattern(0, 0)

Within the block the model's attention goes through the tap, over the kernel that it had (flash and flex kernels take no
recorder: such a model runs on SDPA or eager meanwhile); afterwards the model is as it was. What is recorded is what the
calls were given: gradients and caches are untouched. Dropout is not recorded: patterns are those before it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from contextvars import Token as Restore
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from attnviz.encoding import Encoded
from attnviz.errors import InputError, Unsupported
from attnviz.info import Origin
from attnviz.layout import probe, start_token
from attnviz.models import Model
from attnviz.recorded import Recorded
from attnviz.tap import Call, begin, end, implementations, restore, under_way
from attnviz.tokens import Token
from attnviz.trace import Trace

_recorded_now: set[int] = set()
_lock = threading.Lock()
_MINE: ContextVar[tuple[_Calls, ...]] = ContextVar("attnviz_recordings", default=())


@dataclass
class Recording:
    """The calls made so far: `calls[i]` holds one Trace for each row of the i-th call's batch."""

    calls: list[list[Trace]] = field(default_factory=list)

    @property
    def traces(self) -> list[Trace]:
        """All traces, call by call and row by row; InputError if no call was recorded."""
        if not self.calls:
            raise InputError(
                "No forward call was recorded. Inside the block, call the very model that was passed to record, in the "
                "same thread."
            )
        return [trace for call in self.calls for trace in call]

    def __len__(self) -> int:
        return sum(map(len, self.calls))

    def __getitem__(self, index: int) -> Trace:
        return self.traces[index]


@contextmanager
def record(hf_model: Any, tokenizer: Any = None) -> Iterator[Recording]:
    """Record every forward call that this thread makes of a transformers model, one Trace a call and row.

    tokenizer   for readable tokens; without it they are shown as ids
    raises      Unsupported for a model that is not exact; InputError if the model is being recorded already
    """
    hf_model = hf_model.hf_model if isinstance(hf_model, Model) else hf_model
    if not isinstance(hf_model, PreTrainedModel):
        raise Unsupported(f"record takes a transformers PreTrainedModel, or a Model; got {type(hf_model).__name__}.")
    with _lock:
        if id(hf_model) in _recorded_now:
            raise InputError("This model is being recorded already; end that block first, or record a copy.")
        _recorded_now.add(id(hf_model))
    before = implementations(hf_model)
    try:
        model = Model(hf_model, tokenizer, _probed(hf_model), Origin(type(hf_model).__name__))
        if not model.layout.exact:
            raise Unsupported(
                f"{model.name} cannot be recorded: {model.info.reason}. Trace it with wrap_model instead."
            )
        calls = _Calls(model)
        hooks = (
            hf_model.register_forward_pre_hook(calls.before, with_kwargs=True),
            hf_model.register_forward_hook(calls.after, with_kwargs=True, always_call=True),
        )
        mine = _MINE.set((*_MINE.get(), calls))
        try:
            yield calls.recording
        finally:
            _MINE.reset(mine)
            for hook in hooks:
                hook.remove()
    finally:
        restore(before)
        with _lock:
            _recorded_now.discard(id(hf_model))


def _probed(hf_model: Any) -> Any:
    """The layout, found in evaluation mode; each module's own mode is put back."""
    training = [module for module in hf_model.modules() if module.training]
    hf_model.eval()
    try:
        return probe(hf_model)
    finally:
        for module in training:
            module.training = True


class _Calls:
    """The hooks around a model's forward: one tap call each, turned into traces when it returns."""

    def __init__(self, model: Model) -> None:
        self.recording = Recording()
        self._model = model
        self._open: list[tuple[Call, Restore[Call | None]] | None] = []
        self._held: list[tuple[list[int], torch.Tensor]] = []  # by row: the ids and keys that a cache may hold now

    def before(self, module: Any, args: Any, keywords: dict[str, Any]) -> None:
        if self not in _MINE.get():
            return
        if under_way(next(iter(self._model.layout.places))):
            self._open.append(None)  # a trace of this model: it records for itself
            return
        call = Call(places=self._model.layout.places)
        self._open.append((call, begin(call)))

    def after(self, module: Any, args: Any, keywords: dict[str, Any], outputs: Any) -> None:
        opened = self._open.pop() if self in _MINE.get() else None
        if opened is None:
            return
        call, restore_call = opened
        end(restore_call)
        if call.recorded and outputs is not None:  # outputs are None when the forward raised
            given = inspect.signature(module.forward).bind_partial(*args, **keywords).arguments
            self.recording.calls.append(self._traces(call, outputs, {**given.pop("kwargs", {}), **given}))

    def _traces(self, call: Call, outputs: Any, given: dict[str, Any]) -> list[Trace]:
        model, rows = self._model, call.recorded[0][2].query.shape[0]
        main: dict[str, Recorded] = {}
        for _, place, recorded in call.recorded:
            if place is not None:
                main.setdefault(place.site, recorded)
        several = model.info.family == "encoder-decoder"
        site = model.info.sites[0]
        length = main[site].query.shape[2] if site in main else main["cross"].key.shape[2]
        mask = given.get("attention_mask")
        sources = self._encoded(given.get("input_ids"), mask, rows, length)
        decoders: Sequence[Encoded] = []
        if several:
            ids = _decoder_ids(model.hf_model, given)
            decoders = self._encoded(ids, given.get("decoder_attention_mask"), rows, main["decoder"].query.shape[2])
        whole = isinstance(mask, torch.Tensor) and mask.dim() == 2 and mask.shape[1] == length
        # A model told to return a tuple gives no names to its outputs; the attention is recorded all the same.
        named = None if isinstance(outputs, tuple) else outputs
        traces = model.traces(call, named, sources, decoders, mask if whole else None)
        first = main["decoder" if several else site]
        return [self._with_keys(trace, row, first.key[row]) for row, trace in enumerate(traces)]

    def _with_keys(self, trace: Trace, row: int, keys: torch.Tensor) -> Trace:
        """The trace with names for its keys, [kv_head, key, d_head]: also for those that a cache held before.

        A key is named only if it is, bit for bit, one that this recording saw before: beams change places, static
        caches keep slots, sliding windows drop what is old. Layers that hold another number of keys are left out.
        """
        n_keys, new = keys.shape[1], len(trace.tokens)
        ids, before = self._held[row] if row < len(self._held) else ([], keys[:, :0])
        grown = n_keys == len(ids) + new and torch.equal(keys[:, : len(ids)], before)
        known = [*ids, *trace.input_ids] if grown else trace.input_ids
        self._held[row : row + 1] = [(known, keys[:, -len(known) :])]
        if n_keys == new:
            self._held[row] = (trace.input_ids, keys)
            return trace
        names = self._model.reader.tokens_of(known) if grown else _unknown(n_keys, "key")
        site = "decoder" if self._model.info.family == "encoder-decoder" else self._model.info.sites[0]
        fitting = {n: layer for n, layer in trace.attention[site].items() if layer.tensors()[1].shape[2] == n_keys}
        return replace(trace, key_tokens=names, attention={**trace.attention, site: fitting})

    def _encoded(self, ids: Any, mask: Any, rows: int, length: int) -> Sequence[Encoded]:
        """The tokens of each row; padding is special, and rows given as embeddings have positions for names."""
        if ids is None or ids.shape[1] != length:
            return [Encoded("", tuple([0] * length), _unknown(length, "position"))] * rows
        out = []
        for row in range(rows):
            kept = [int(i) for i in ids[row]]
            pairs = zip(self._model.reader.tokens_of(kept), _padding(mask, row, length), strict=True)
            tokens = tuple(replace(token, special=True, word=None) if pad else token for token, pad in pairs)
            out.append(Encoded("", tuple(kept), tokens))
        return out


def _unknown(length: int, what: str) -> tuple[Token, ...]:
    return tuple(Token(f"{what} {i}", 0, (0, 0), None, True) for i in range(length))


def _padding(mask: Any, row: int, length: int) -> list[bool]:
    if not isinstance(mask, torch.Tensor) or mask.dim() != 2 or mask.shape[1] < length:
        return [False] * length
    return [not bool(kept) for kept in mask[row, -length:]]


def _decoder_ids(hf_model: Any, given: dict[str, Any]) -> Any:
    """What the decoder read: as given, or as the model makes it from labels."""
    if given.get("decoder_input_ids") is not None or given.get("labels") is None:
        return given.get("decoder_input_ids")
    labels = given["labels"]
    start = torch.full_like(labels[:, :1], start_token(hf_model))
    ids = torch.cat([start, labels[:, :-1]], dim=1)
    pad = getattr(hf_model.config, "pad_token_id", None)
    return ids.masked_fill(ids == -100, 0 if pad is None else pad)
