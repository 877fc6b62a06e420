"""The tap: the one function through which all reading of, and all changes to, attention go.

1. `install` registers the tap with transformers' `AttentionInterface`, and with `AttentionMaskInterface` under the same
   name (without the second, decoders get no mask and stop being causal), and points a model at it. With no call under
   way the tap is the kernel it stands for, so an installed model computes what it computed before.
2. `run` opens a call in a context variable, in the thread that runs the forward. Recorders and edits live there and
   nowhere else: two threads may run different edits on one model at the same time.
3. Inside a call, the tap writes into the mask what the call's edits knock out or add to scores, records query, key,
   value and mask as the kernel gets them, delegates the attention itself, and lets the edits change what comes back.
4. When the call ends, an edit that never met its layer raises: a forward in another thread would have run unedited
   without a word.

Patterns are not made here (`attnviz.recorded` makes them when somebody looks). The tap does not know tokens, texts, or
more of a model than its attention modules.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from contextvars import Token as Restore
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask, sdpa_mask

from attnviz.edits import Edit
from attnviz.edits.attending import Change, Changed
from attnviz.errors import EditNotApplied, Unsupported
from attnviz.recorded import Eager, Recorded

_PREFIX = "attnviz_"
# All that the eager functions of transformers 5.23 read from their module, over 347 modelling files.
_EAGER_READS = ("num_key_value_groups", "head_dim", "sinks")

QKV = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Progress = Callable[[int, int], None]  # layers done, layers in all; may raise to stop the run


class Place(NamedTuple):
    """Where in the model one attention call stands."""

    site: str
    layer: int


@dataclass
class Call:
    """One forward under way: what it records, what it edits, what it has met so far.

    places     the attention modules to look at, each with its place (or places, in order, if layers share it); None to
               record whatever calls attention, as the probe does
    keep       whether to record
    keep_z     whether to keep the heads' outputs, after edits, in `z`: [batch, query, head, d_head] by place, in the
               order of the forward pass; in a run with gradients they are part of its graph
    bound      the edits bound to the run (`Model.ready`), which are then the ones applied; None where none needs it
    start      the position of the first query, where a cache holds those before it
    recorded   (module, its place or None, what it was given), in the order of the calls
    """

    places: Mapping[nn.Module, Sequence[Place]] | None
    edits: Sequence[Edit] = ()
    keep: bool = True
    progress: Progress | None = None
    keep_z: bool = False
    bound: Sequence[Edit] | None = None
    start: int = 0
    recorded: list[tuple[nn.Module, Place | None, Recorded]] = field(default_factory=list)
    z: dict[Place, torch.Tensor] = field(default_factory=dict)
    _times: Counter[nn.Module] = field(default_factory=Counter)
    _met: set[Place] = field(default_factory=set)
    _read: Counter[Place] = field(default_factory=Counter)

    @property
    def applied(self) -> Sequence[Edit]:
        """The edits that change this run: bound to it, where they have been."""
        return self.edits if self.bound is None else self.bound

    def place(self, module: nn.Module) -> Place | None:
        places = (self.places or {}).get(module)
        if not places:
            return None
        place = places[self._times[module] % len(places)]
        self._times[module] += 1
        return place

    def check(self) -> None:
        """Raise if an edit never met its layer, or if there was nothing to record."""
        for edit in self.applied:
            wanted = {p for places in (self.places or {}).values() for p in places if edit.touches(*p)}
            if not wanted <= self._met:
                raise EditNotApplied(
                    f"The edit '{edit.title}' was not applied: the forward pass never reached its layer inside this "
                    "call. Run the model in the thread that made the call, and check that the layer has attention."
                )
        if self.keep and self.places and not self.recorded:
            raise Unsupported(
                "The forward pass never went through the tap, so nothing was recorded. Somebody may have changed the "
                "model's attention implementation: wrap it again."
            )

    def attend(
        self, kernel: Callable[..., Any], module: nn.Module, args: QKV, mask: torch.Tensor | None, keywords: dict
    ) -> Any:
        place = self.place(module)
        edits = [] if place is None else self._here(place, args[0].shape[2])
        given = (module, args, mask, keywords)
        changed = None
        sizes = (*args[0].shape[1:3], args[1].shape[2])
        if place is not None and (change := Change.of(edits, *place, sizes)) is not None:
            recorded, changed = changing(_recorded(*given), change)
            mask = changed.kernel
            self.recorded += [(module, place, recorded)] * self.keep
        elif self.keep and (place is not None or self.places is None):
            self.recorded.append((module, place, _recorded(*given)))
        z, weights = kernel(module, *args, mask, **keywords)
        if changed is not None:
            z = changed.output(z, args[2])
        if place is not None:
            for edit in edits:
                z = edit.output(z, *place)
            self._met.add(place)
            if self.keep_z:
                # Frozen weights make no graph: it then starts here.
                self.z[place] = z if z.requires_grad or not torch.is_grad_enabled() else z.requires_grad_()
            if self.progress is not None:
                self.progress(len(self._met), sum(map(len, (self.places or {}).values())))
        return z, weights

    def _here(self, place: Place, n_query: int) -> list[Edit]:
        """The edits that touch a place, told which queries this is about."""
        # Several queries at once are a run's beginning; single ones follow what a cache holds.
        first = self.start + (self._read[place] if n_query == 1 else 0)
        self._read[place] = first - self.start + n_query
        return [edit.starting(first) if first else edit for edit in self.applied if edit.touches(*place)]


_CALL: ContextVar[Call | None] = ContextVar("attnviz_call", default=None)


def under_way(module: nn.Module) -> bool:
    """Whether this thread is inside a call that looks at this attention module."""
    call = _CALL.get()
    return call is not None and module in (call.places or {})


def begin(call: Call) -> Restore[Call | None]:
    """Make `call` the one that this thread's forward passes report to, until `end` is given what comes back."""
    return _CALL.set(call)


def end(restore: Restore[Call | None]) -> None:
    _CALL.reset(restore)


@contextmanager
def run(call: Call) -> Iterator[Call]:
    """A block whose forward passes report to `call`; raises at its end if an edit never met its layer."""
    restore = begin(call)
    try:
        yield call
    finally:
        end(restore)
    call.check()


def changing(recorded: Recorded, change: Change) -> tuple[Recorded, Changed]:
    """A layer's attention as it is under a change, and what the change comes to there."""
    changed = change.on(recorded.mask, recorded.visible(), recorded.query.dtype)
    keywords = {**recorded.keywords, **changed.keywords}
    eager = changed.eager(recorded.eager)
    return replace(recorded, mask=changed.recorded, eager=eager, keywords=keywords), changed


def _recorded(module: nn.Module, args: QKV, mask: torch.Tensor | None, keywords: dict) -> Recorded:
    query, key, value = args
    eager = eager_of(module)
    known = inspect.signature(eager).parameters
    kept = {name: value for name, value in keywords.items() if name in known and name != "dropout"}
    kept = {name: value.detach() if isinstance(value, torch.Tensor) else value for name, value in kept.items()}
    if "dropout" in known:
        kept["dropout"] = 0.0
    reads = {name: getattr(module, name) for name in _EAGER_READS if hasattr(module, name)}
    reads = {name: x.detach().clone() if isinstance(x, torch.Tensor) else x for name, x in reads.items()}
    causal = keywords.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    return Recorded(
        query=query.detach(),
        key=key.detach(),
        value=value.detach(),
        mask=None if mask is None else mask.detach(),
        causal=bool(causal) and query.shape[2] > 1,
        eager=eager,
        module=SimpleNamespace(training=False, **reads),
        keywords=kept,
    )


def eager_of(module: nn.Module) -> Eager:
    """The `eager_attention_forward` of the file that defines this attention module."""
    eager = getattr(sys.modules.get(type(module).__module__), "eager_attention_forward", None)
    if eager is None:
        raise Unsupported(f"{type(module).__name__} has no eager_attention_forward beside it to compute patterns with.")
    return eager


def _kernel(name: str, module: nn.Module) -> Callable[..., Any]:
    if name == "eager":
        return eager_of(module)
    # A modelling file may override a kernel in an interface of its own.
    interface = getattr(sys.modules[type(module).__module__], "ALL_ATTENTION_FUNCTIONS", None)
    if interface is None:
        from transformers import AttentionInterface

        interface = AttentionInterface()
    return interface[name]


def _tap(name: str) -> Callable[..., Any]:
    def attention(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **keywords: Any,
    ) -> Any:
        kernel, call = _kernel(name, module), _CALL.get()
        # Sparse attention (DeepSeek) folds the keys that its indexer chose into the mask only under the names "eager"
        # and "sdpa"; under any other it hands them to the kernel, and neither kernel here would heed them.
        chosen = keywords.pop("indices", None)
        if chosen is not None:
            attention_mask = _only(chosen, attention_mask, query, key)
        if call is None:
            return kernel(module, query, key, value, attention_mask, **keywords)
        return call.attend(kernel, module, (query, key, value), attention_mask, keywords)

    return attention


def _only(chosen: torch.Tensor, mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The mask with all keys hidden but the chosen ones, [batch, query, k]."""
    shape = (*chosen.shape[:-1], key.shape[2])
    hidden = torch.ones(shape, dtype=torch.bool, device=key.device).scatter(-1, chosen.long(), False)[:, None]
    if mask is None:
        return ~hidden
    if mask.dtype == torch.bool:
        return mask & ~hidden
    return mask.masked_fill(hidden, torch.finfo(query.dtype).min)


def implementations(hf_model: Any) -> list[tuple[Any, str]]:
    """(configuration, its attention implementation) of the model and of every model inside it, outer ones first."""
    found = {id(m.config): m.config for m in hf_model.modules() if isinstance(m, PreTrainedModel)}
    return [(config, config._attn_implementation) for config in found.values()]


def restore(before: list[tuple[Any, str]]) -> None:
    """Give every configuration back what `implementations` found."""
    for config, name in before:
        config._attn_implementation = name


def text_model(hf_model: Any) -> Any:
    """The part that reads text: inside a model with vision or audio towers, the language model."""
    config = hf_model.config
    config = config if getattr(config, "is_encoder_decoder", False) else config.get_text_config()
    parts = (m for m in hf_model.modules() if isinstance(m, PreTrainedModel) and m.config is config)
    return next(parts, hf_model)


def kernel_name(hf_model: Any) -> str:
    """The kernel that the model's attention runs on, "sdpa" or "eager", whether or not the tap is installed."""
    hf_model = text_model(hf_model)
    current = str(getattr(hf_model.config, "_attn_implementation", None) or "eager").removeprefix(_PREFIX)
    # SDPA where the class does not support it is silently wrong (gpt_oss drops its sinks); flash kernels take no edits.
    return "sdpa" if current != "eager" and getattr(hf_model, "_supports_sdpa", False) else "eager"


def install(hf_model: Any) -> str:
    """Point the model at the tap over its own kernel; returns the kernel's name. Doing it twice changes nothing."""
    kernel = kernel_name(hf_model)
    name = _PREFIX + kernel
    if text_model(hf_model).config._attn_implementation != name:
        AttentionInterface.register(name, _tap(kernel))
        AttentionMaskInterface.register(name, sdpa_mask if kernel == "sdpa" else eager_mask)
        hf_model.set_attn_implementation(name)
        if text_model(hf_model).config._attn_implementation != name:
            raise Unsupported(
                f"{type(hf_model).__name__} does not send its attention through transformers' AttentionInterface, so "
                "it cannot be recorded or edited."
            )
    return kernel
