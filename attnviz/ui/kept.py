"""What a page finds out by a job, kept for all who look at the same; what is refused is kept as its words."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import streamlit as st

from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.models import Model
from attnviz.ui import work
from attnviz.ui.jobs import Job
from attnviz.ui.session import stores

_KEPT_BYTES = 4_096  # of a small result's Python objects
_LAST, _MOST_LAST = "attnviz_kept", 2  # results too large for the cache that a session holds: a run and its steps


class Asking(Protocol):
    """Who asks: a model, None where a saved trace came without it, and its name in the pool."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> Model | None: ...


@dataclass(frozen=True, eq=False)
class _Kept:
    value: Any
    nbytes: int


@dataclass(frozen=True)
class Refused:
    """An error without its traceback, whose frames may hold a model."""

    kind: type[AttnvizError]
    words: str


def kept(
    ask: Asking,
    key: tuple[Hashable, ...],
    title: str,
    make: Callable[[Job], Any],
    nbytes: Callable[[Any], int] = lambda made: 0,
) -> Any:
    """What `make` gives, from the cache or as a job that is waited for in view.

    key      all that it depends on, the model's name first
    nbytes   of what was made, besides some kilobytes
    raises   what `make` refuses as Unsupported, or as an InputError, so that a page can show the rest
    """
    assert key[0] == ask.name
    last: dict[tuple[Hashable, ...], _Kept] = st.session_state.setdefault(_LAST, {})
    for old in [old for old in last if old[0] != ask.name]:
        del last[old]  # it may hold a model that was let go
    found = stores().traces.get(key) or last.get(key)
    if found is None:
        found = work.finished(("kept", *key), title, lambda job: _made(ask, key, make, nbytes, job))
        if stores().traces.get(key) is not found:  # too large: it stays with the session, not to be made at each click
            for old in list(last)[: -_MOST_LAST + 1 or None]:
                del last[old]
            last[key] = found
    if isinstance(found.value, Refused):
        raise found.value.kind(found.value.words)
    return found.value


def kept_before(key: tuple[Hashable, ...]) -> Any:
    """What was kept for all; None where nothing was, or where it was refused."""
    found = stores().traces.get(key)
    return None if found is None or isinstance(found.value, Refused) else found.value


def _made(
    ask: Asking,
    key: tuple[Hashable, ...],
    make: Callable[[Job], Any],
    nbytes: Callable[[Any], int],
    job: Job,
) -> _Kept:
    try:
        made = make(job)
        size = nbytes(made)
    except (InputError, Unsupported) as error:
        made, size = Refused(type(error), str(error)), 0
    result = _Kept(made, _KEPT_BYTES + size)
    if ask.model is None or stores().models.get(ask.name) is ask.model:  # else it was let go meanwhile
        stores().traces.put(key, result)
    return result
