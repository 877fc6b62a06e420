"""Looking into the forward calls of somebody else's code: a padded batch, a cache, a training step.

    with attnviz.record(hf_model, tokenizer) as recording:
        loss = hf_model(**batch).loss
    recording.traces[0].pattern(0, 0)

Within the block the model's attention goes through the tap, over the kernel that it had; afterwards the model is as it
was. What is recorded is what the calls were given: gradients, caches and outputs are untouched. Dropout is not
recorded: patterns are those before it.
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

from attnviz.encoding import Encoded
from attnviz.errors import InputError, Unsupported
from attnviz.info import Origin
from attnviz.layout import probe, start_token
from attnviz.models import Model
from attnviz.tap import Call, begin, end, implementations, restore
from attnviz.tokens import Token
from attnviz.trace import Trace

_recorded_now: set[int] = set()
_lock = threading.Lock()
_MINE: ContextVar[Recording | None] = ContextVar("attnviz_recording", default=None)


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
        recording, calls = Recording(), _Calls(model)
        hooks = (
            hf_model.register_forward_pre_hook(calls.before, with_kwargs=True),
            hf_model.register_forward_hook(calls.after, with_kwargs=True, always_call=True),
        )
        mine = _MINE.set(recording)
        try:
            yield recording
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
        self._model = model
        self._open: list[tuple[Call, Restore[Call | None]]] = []
        self._seen: list[list[int]] = []  # ids that a cache holds, by row

    def before(self, module: Any, args: Any, keywords: dict[str, Any]) -> None:
        if _MINE.get() is not None:
            call = Call(places=self._model.layout.places)
            self._open.append((call, begin(call)))

    def after(self, module: Any, args: Any, keywords: dict[str, Any], outputs: Any) -> None:
        recording = _MINE.get()
        if recording is None:
            return
        call, restore = self._open.pop()
        end(restore)
        if call.recorded and outputs is not None:  # outputs are None when the forward raised
            given = inspect.signature(module.forward).bind_partial(*args, **keywords).arguments
            recording.calls.append(self._traces(call, outputs, {**given.pop("kwargs", {}), **given}))

    def _traces(self, call: Call, outputs: Any, given: dict[str, Any]) -> list[Trace]:
        if isinstance(outputs, tuple):
            raise InputError("A call with return_dict=False cannot be recorded; leave return_dict out.")
        model, rows = self._model, call.recorded[0][2].query.shape[0]
        main = {place.site: recorded for _, place, recorded in call.recorded if place is not None}
        several = model.info.family == "encoder-decoder"
        site = model.info.sites[0]
        lengths = {
            "source": main[site].query.shape[2] if site in main else main["cross"].key.shape[2],
            "decoder": main["decoder"].query.shape[2] if several else 0,
        }
        sources = self._encoded(given.get("input_ids"), given.get("attention_mask"), rows, lengths["source"])
        decoders: Sequence[Encoded] = []
        if several:
            ids, mask = _decoder_ids(model.hf_model, given), given.get("decoder_attention_mask")
            decoders = self._encoded(ids, mask, rows, lengths["decoder"])
        traces = model.traces(call, outputs, sources, decoders)
        queries = decoders or sources
        keys = main["decoder" if several else site].key.shape[2]
        return [self._with_past(trace, row, keys - len(queries[row].ids)) for row, trace in enumerate(traces)]

    def _with_past(self, trace: Trace, row: int, held: int) -> Trace:
        """The trace with the tokens that a cache held before it, as far as this recording saw them."""
        seen = self._seen[row] if row < len(self._seen) else []
        past = seen[-held:] if held and len(seen) >= held else []
        now = past + trace.input_ids
        self._seen[row : row + 1] = [now]
        if not held:
            return trace
        tokens = self._model.reader.encode_ids(past).tokens if past else _unknown(held, "cached")
        return replace(trace, past_tokens=tokens)

    def _encoded(self, ids: Any, mask: Any, rows: int, length: int) -> Sequence[Encoded]:
        """The tokens of each row; padding is special, and rows given as embeddings have positions for names."""
        if ids is None or ids.shape[1] != length:
            return [Encoded("", tuple([0] * length), _unknown(length, "position"))] * rows
        out = []
        for row in range(rows):
            encoded = self._model.reader.encode_ids(ids[row].cpu())
            padded = _padding(mask, row, length)
            tokens = (
                replace(t, special=True, word=None) if p else t for t, p in zip(encoded.tokens, padded, strict=True)
            )
            out.append(replace(encoded, tokens=tuple(tokens)))
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
