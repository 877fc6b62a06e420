"""A run of the Flow page taken apart, and whatever is made of it: as jobs with progress, kept for all who look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import streamlit as st

from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.flow.run import Run, take_apart
from attnviz.trace import Trace
from attnviz.ui import work
from attnviz.ui.flow.target import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.session import stores

MOST_TOKENS = 512  # of a text whose run is taken apart, drawn as a graph, or changed token by token
_KEPT_BYTES = 4_096  # of a small result's Python objects
_LAST, _MOST_LAST = "attnviz_flow_last", 2  # results too large for the cache that a session holds: a run and its steps


@dataclass(frozen=True, eq=False)
class _Kept:
    value: Any
    nbytes: int


@dataclass(frozen=True)
class _Refused:
    """An error without its traceback, whose frames may hold a model."""

    kind: type[AttnvizError]
    words: str


def kept(
    subject: Subject,
    key: tuple[Any, ...],
    title: str,
    make: Callable[[Job], Any],
    nbytes: Callable[[Any], int] = lambda made: _KEPT_BYTES,
) -> Any:
    """What `make` gives, from the cache or as a job that is waited for in view.

    key      all that it depends on, the model's name first: often (*subject.run, what, ...)
    raises   what `make` refuses as Unsupported, or as an InputError, so that a page can show the rest
    """
    last: dict[tuple[Any, ...], _Kept] = st.session_state.setdefault(_LAST, {})
    for old in [old for old in last if old[0] != subject.name]:
        del last[old]  # it may hold a model that was let go
    found = stores().traces.get(key) or last.get(key)
    if found is None:
        found = work.finished(("flow", *key), title, lambda job: _made(subject, key, make, nbytes, job))
        if (
            stores().traces.get(key) is not found
        ):  # too large: it stays with the session, so that no click makes it again
            for old in list(last)[: -_MOST_LAST + 1 or None]:
                del last[old]
            last[key] = found
    if isinstance(found.value, _Refused):
        raise found.value.kind(found.value.words)
    return found.value


def _made(
    subject: Subject, key: tuple[Any, ...], make: Callable[[Job], Any], nbytes: Callable[[Any], int], job: Job
) -> _Kept:
    try:
        made = make(job)
        size = nbytes(made)
    except (InputError, Unsupported) as error:
        made, size = _Refused(type(error), str(error)), 0
    result = _Kept(made, _KEPT_BYTES + size)
    if subject.model is None or stores().models.get(subject.name) is subject.model:  # else it was let go meanwhile
        stores().traces.put(key, result)
    return result


def ids_of(trace: Trace) -> dict[str, Any]:
    """The very ids of a run, as the library's functions take them; a template's tokens are among them."""
    if trace.info.family == "encoder-decoder":
        return {"input_ids": [token.id for token in trace.source_tokens], "decoder_input_ids": trace.input_ids}
    return {"input_ids": trace.input_ids}


def too_long(trace: Trace) -> str:
    """Why a text is too long for all but rollout; "" where it is not."""
    longest = max(len(trace.tokens), len(trace.source_tokens))
    if longest <= MOST_TOKENS:
        return ""
    return (
        f"The text has {longest:,} tokens. Beyond {MOST_TOKENS} only rollout and the two baselines are offered; "
        "shorten the text for the rest."
    )


def run_of(subject: Subject) -> Run:
    """The subject's run taken apart; raises Unsupported where the model's parts cannot be told."""
    model, trace = subject.model, subject.trace
    if model is None:
        raise InputError("This needs the model, and a saved trace comes without it. Choose the model and run the text.")
    if too_long(trace):
        raise InputError(too_long(trace))

    def make(job: Job) -> Run:
        job.report("taking the run apart", 0.0)
        return take_apart(model, **ids_of(trace), progress=job.step)

    return cast(Run, kept(subject, (*subject.run, "run"), "Running the model", make, lambda run: run.nbytes))
