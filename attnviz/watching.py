"""Watching modules at work: what each reads and gives in this thread's forward passes, and in no other's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

# How far a sum may lie from what it must equal, as a share of the largest number in it.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}


@dataclass(frozen=True, eq=False)
class Event:
    """One call of a module: what it read first and what it gave first, [batch, position, width]."""

    module: nn.Module
    read: torch.Tensor | None
    gave: torch.Tensor | None


@dataclass
class Watch:
    """Calls of the watched modules in this thread, in the order in which they ended.

    spans   (module, first, last): the events that ended within each call, the last being the call's own
    """

    events: list[Event] = field(default_factory=list)
    spans: list[tuple[nn.Module, int, int]] = field(default_factory=list)
    _open: list[tuple[nn.Module, int]] = field(default_factory=list)


_WATCH: ContextVar[Watch | None] = ContextVar("attnviz_watch", default=None)


@contextmanager
def watching(modules: Iterable[nn.Module]) -> Iterator[Watch]:
    """Note what these modules read and give in this thread's forward passes; other threads' pass unseen."""
    watch = Watch()

    # A thread that is calling a module while this one adds or removes its hooks may take them for hooks without
    # keywords, so they are ready for both ways of being called.
    def opened(module: nn.Module, *_: Any) -> None:
        if _WATCH.get() is watch:
            watch._open.append((module, len(watch.events)))

    def closed(module: nn.Module, args: Any, *rest: Any) -> None:
        if _WATCH.get() is watch:
            *keywords, gave = rest
            read = [*args, *(value for named in keywords for value in named.values())]
            _, first = watch._open.pop()
            watch.spans.append((module, first, len(watch.events)))
            watch.events.append(Event(module, states_in(read), states_in(gave)))

    hooks = []
    restore = _WATCH.set(watch)
    try:
        for module in modules:
            hooks.append(module.register_forward_pre_hook(opened, with_kwargs=True))
            hooks.append(module.register_forward_hook(closed, with_kwargs=True))
        yield watch
    finally:
        _WATCH.reset(restore)
        for hook in hooks:
            hook.remove()


def states_in(given: Any) -> torch.Tensor | None:
    """The first tensor of states, [batch, position, width]; some modules flatten their positions."""
    for one in given if isinstance(given, tuple | list) else (given,):
        if isinstance(one, torch.Tensor) and one.is_floating_point() and one.dim() in (2, 3):
            return one.detach() if one.dim() == 3 else one.detach()[None]
    return None


def chain(events: Sequence[Event], start: torch.Tensor, end: Event) -> tuple[nn.Module, ...]:
    """The modules that, one after the other, make of `start` what `end` gave; () where no such chain does it again."""
    path, until = [end], events.index(end)
    while not same(path[0].read, start):
        before = [n for n in range(until) if path[0].read is not None and same(events[n].gave, path[0].read)]
        if not before:
            return ()
        until = before[-1]  # the outermost of nested modules ends last
        path.insert(0, events[until])
    modules = tuple(event.module for event in path)
    try:
        again = applied(modules, start)
    except TypeError:  # a module that reads more than states
        return ()
    return modules if same(again, end.gave) else ()


def applied(modules: Iterable[nn.Module], states: torch.Tensor) -> torch.Tensor:
    """What these modules make of states, [batch, position, width], one after the other."""
    for module in modules:
        given = states_in(module(states))
        assert given is not None
        states = given
    return states


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Whether both are the same numbers."""
    return a is not None and b is not None and a.shape == b.shape and torch.equal(a, b)


def tolerance(dtype: torch.dtype) -> float:
    return TOLERANCE.get(dtype, 4e-2)


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are the same up to rounding in their dtype."""
    if a.shape != b.shape:
        return False
    a32, b32 = a.float(), b.float()
    return bool((a32 - b32).abs().max() <= tolerance(a.dtype) * b32.abs().max().clamp(min=1e-6))


def affine(module: nn.Module, width: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """([width, d_model], [d_model]) float32: the matrix and the bias of a module that multiplies and adds.

    Its hooks are passed by: they would take this for a run.
    """
    eye = torch.eye(width, dtype=like.dtype, device=like.device)
    bias = module.forward(torch.zeros_like(eye[:1]))[0].float()
    matrix = module.forward(eye).float() - bias
    weight = getattr(module, "weight", None)
    if isinstance(weight, torch.Tensor) and weight.dtype == torch.float32 and weight.dim() == 2:
        # What the module holds already needs no second copy.
        matrix = next((one.detach() for one in (weight, weight.T) if close(one, matrix)), matrix)
    return matrix, bias
