"""A model's layers as a chain that can be entered anywhere, with as many rows as wanted; found by structure.

1. One run is watched. The layers are the elements of the lists of modules that hold the attention modules, in the order
   in which they were called; what one gives must be what the next one reads.
2. Each layer call is kept with all that it was given: positions, masks, the encoder's states. To run a layer on other
   states is to make that call again with these in their place, everything else expanded to their number of rows.
3. What comes after the last layer is a norm and an output projection, found by the numbers that they read and give; or
   else the model itself, run once more with the last layer's states replaced.

Nothing of this is believed before it was tried: on a short made-up input, all heads of each block in turn are set to
zero once through the layers and once in whole forward passes, and both must come to the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn
from transformers import Cache

from attnviz.errors import Unsupported
from attnviz.layout import main_output
from attnviz.models import Model
from attnviz.tap import Call, Place
from attnviz.watching import Event, close, same, watching

Tail = Literal["logits", "states", "model"]


@dataclass(frozen=True, eq=False)
class Visit:
    """One call of one layer in one run, which can be made again on other states.

    read     [1, position, ...], the states that it was given, among `args` and `keywords`
    gave     the states that it passed on
    blocks   how many attention blocks the run had met before and after it
    """

    module: nn.Module
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]
    read: torch.Tensor
    gave: torch.Tensor
    blocks: tuple[int, int] = (0, 0)

    def again(self, states: torch.Tensor, told: torch.Tensor | None, source: torch.Tensor | None) -> torch.Tensor:
        """What the layer makes of other states, [row, position, ...].

        told, source   the encoder's states in the run, and those to put in their place, a row each; None where the
                       layer reads none
        """

        def grown(x: Any) -> Any:
            if isinstance(x, torch.Tensor):
                if x is self.read:
                    return states
                if told is not None and source is not None and same(x, told):
                    return source
                return x.expand(len(states), *x.shape[1:]) if x.dim() > 1 and len(x) == 1 else x
            if isinstance(x, tuple | list):
                return type(x)(map(grown, x))
            return None if isinstance(x, Cache) else x  # a run that continues nothing needs none

        return _states(self.module(*map(grown, self.args), **{k: grown(v) for k, v in self.keywords.items()}))


@dataclass(frozen=True, eq=False)
class Layers:
    """The layer calls of a forward pass, in order, and what stands between and behind them.

    modules   by call; one that is called more than once stands there as often
    places    by call, its attention modules with their place
    source    how many of the calls are the encoder's, of an encoder-decoder; else 0
    bridge    what makes the states that the decoder reads of the encoder's last ones; None: nothing
    final     the norm behind the last layer; None: there is none
    head      the output projection; None without one
    tail      "logits": the head reads the final states, position by position; "states": there is no head, the final
              states are what the model gives; "model": what is behind the layers has to be left to the model itself
    """

    modules: tuple[nn.Module, ...]
    places: tuple[Mapping[nn.Module, tuple[Place, ...]], ...]
    source: int
    bridge: nn.Module | None
    final: nn.Module | None
    head: nn.Module | None
    tail: Tail

    def __len__(self) -> int:
        return len(self.modules)

    def index(self, place: Place) -> int:
        """The call in which an attention block stands."""
        return next(i for i, own in enumerate(self.places) if any(place in places for places in own.values()))

    def bridged(self, states: torch.Tensor) -> torch.Tensor:
        """What the decoder reads of the encoder's last states."""
        return states if self.bridge is None else self.bridge(states)

    def finished(self, states: torch.Tensor) -> torch.Tensor:
        """The final states, [row, position, d_model]; position by position."""
        return states if self.final is None else self.final(states)

    def checked(self, visits: Sequence[Visit]) -> Sequence[Visit]:
        """The calls of another run; Unsupported where they are not the ones that were found."""
        if tuple(visit.module for visit in visits) != self.modules:
            raise Unsupported("this text goes through other layers than the one that they were found on")
        for i, (one, following) in enumerate(pairwise(visits), 1):
            if i != self.source and not same(one.gave, following.read):
                raise Unsupported("what one layer gives is not what the next one reads")
        return visits


@dataclass(frozen=True, eq=False)
class _Taking:
    """What a run's layer calls are written down in."""

    visits: list[Visit]
    open: list[int]
    met: Callable[[], int]
    instead: tuple[int, torch.Tensor] | None


_TAKING: ContextVar[_Taking | None] = ContextVar("attnviz_taking", default=None)


@contextmanager
def taking(
    modules: Iterable[nn.Module],
    met: Callable[[], int] = lambda: 0,
    *,
    instead: tuple[int, torch.Tensor] | None = None,
) -> Iterator[list[Visit]]:
    """Keep what these layers are given and give in this thread's forward passes; other threads' pass unseen.

    met       how many attention blocks the run has met so far
    instead   (n, states): have the n-th call give these states, a row each, in place of its own
    """
    note = _Taking([], [], met, instead)

    def opened(module: nn.Module, *_: Any) -> None:
        if _TAKING.get() is note:
            note.open.append(note.met())

    def closed(module: nn.Module, args: Any, *rest: Any) -> Any:
        if _TAKING.get() is note:
            *named, gave = rest
            keywords = named[0] if named else {}
            blocks = (note.open.pop(), note.met())
            read = next((x for x in (*args, *keywords.values()) if _is_states(x)), None)
            if read is None:
                raise Unsupported(f"a {type(module).__name__} reads no states, [1, position, d_model]")
            note.visits.append(Visit(module, args, keywords, read, _states(gave), blocks))
            if note.instead is not None and len(note.visits) == note.instead[0]:
                states = note.instead[1]
                return (states, *gave[1:]) if isinstance(gave, tuple) else states
        return None

    hooks = []
    restore = _TAKING.set(note)
    try:
        for module in dict.fromkeys(modules):
            hooks.append(module.register_forward_pre_hook(opened, with_kwargs=True))
            hooks.append(module.register_forward_hook(closed, with_kwargs=True))
        yield note.visits
    finally:
        _TAKING.reset(restore)
        for hook in hooks:
            hook.remove()


def _is_states(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_floating_point() and x.dim() >= 3 and len(x) == 1


def _states(gave: Any) -> torch.Tensor:
    states = gave[0] if isinstance(gave, tuple | list) else gave
    if not isinstance(states, torch.Tensor):
        raise Unsupported("a layer passes no states on")
    return states


@torch.no_grad()
def find(model: Model, inputs: Mapping[str, torch.Tensor]) -> Layers:
    """The layers of a model, from one short run on these inputs; Unsupported with the reason where there is no chain.

    What is found is not tried yet: `attnviz.ablation.growing.layers_of` does.
    """
    hf_model = model.hf_model
    layers = list(dict.fromkeys(m for module in model.layout.places for m in _siblings(hf_model, module)))
    inside = {m for layer in layers for m in layer.modules()}
    call = Call(places=model.layout.places, keep=False, keep_z=True)
    outside = [m for m in hf_model.modules() if m not in inside]
    with model.running(call), taking(layers, lambda: len(call.z)) as visits, watching(outside) as watch:
        outputs = hf_model(**inputs)
    if not visits or visits[-1].blocks[1] != len(call.z):
        raise Unsupported("some attention stands outside the layers")
    order = list(call.z)
    turns = {place: module for module, places in model.layout.places.items() for place in places}
    places = []
    for visit in visits:
        own: dict[nn.Module, tuple[Place, ...]] = {}
        for place in order[slice(*visit.blocks)]:
            own[turns[place]] = (*own.get(turns[place], ()), place)
        places.append(own)
    source, bridge = 0, None
    if model.family == "encoder-decoder":
        source = next(i for i, visit in enumerate(visits) if order[visit.blocks[0]].site != "encoder")
        bridge = _bridge(watch.events, visits, source)
    final, head, tail = _tail(hf_model, watch.events, visits[-1].gave, outputs)
    found = Layers(tuple(visit.module for visit in visits), tuple(places), source, bridge, final, head, tail)
    found.checked(visits)
    return found


def _siblings(hf_model: nn.Module, attention: nn.Module) -> list[nn.Module]:
    """The elements of the outermost list of modules that holds this one."""
    name = next(name for name, module in hf_model.named_modules() if module is attention)
    match = re.match(r"(.*?)\.\d+(\.|$)", name)
    if match is None:
        raise Unsupported("its attention stands in no list of layers")
    return list(hf_model.get_submodule(match[1]).children())


def _bridge(events: Sequence[Event], visits: Sequence[Visit], source: int) -> nn.Module | None:
    last, reader = visits[source - 1].gave, visits[source]
    given = [
        x for x in (*reader.args, *reader.keywords.values()) if isinstance(x, torch.Tensor) and x is not reader.read
    ]
    if any(same(x, last) for x in given):
        return None
    made = [event for event in events if same(event.read, last)]
    found = next((event.module for event in made if any(same(event.gave, x) for x in given)), None)
    if found is None:
        raise Unsupported("it cannot be told what the decoder reads of the encoder's states")
    return found


def _tail(
    hf_model: Any, events: Sequence[Event], last: torch.Tensor, outputs: Any
) -> tuple[nn.Module | None, nn.Module | None, Tail]:
    """(final norm, head, tail): how the model's outputs come from the last layer's states."""
    nothing: tuple[None, None, Tail] = (None, None, "model")
    head, given = hf_model.get_output_embeddings(), main_output(outputs)
    norms: list[nn.Module | None] = [None]
    norms += [e.module for e in events if same(e.read, last) and e.gave is not None and e.gave.shape == last.shape]
    at = last[:, -1:]  # one position by itself must come to the same as among all
    for norm in norms:
        states = at if norm is None else _states(norm(at))
        if head is None and getattr(outputs, "logits", None) is None and close(states, given[:, -1:]):
            return norm, None, "states"
        if isinstance(head, nn.Module) and head.__dict__.get("in_features", states.shape[-1]) == states.shape[-1]:
            logits = head(states)
            if logits.shape == given[:, -1:].shape and close(logits, given[:, -1:]):
                return norm, head, "logits"
    return nothing
