"""Opening models and traces from the page: cached, with progress, an estimate and a cancel button."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable
from typing import Any, cast

import numpy as np
import streamlit as st

from attnviz import heads
from attnviz.admitted import check_place
from attnviz.catalogue import READING, load_model
from attnviz.embedded import EMBEDDED
from attnviz.errors import AttnvizError, Cancelled, OutOfMemory, TextError
from attnviz.metrics import Similarity
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.text import check_text
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.focus import Focus
from attnviz.ui.jobs import Job, Joined, shared
from attnviz.ui.presence import bound_here
from attnviz.ui.selection import SAVED, Selection
from attnviz.ui.session import stores, text_of

_JOBS, _FAILED, _LAST = "attnviz_jobs", "attnviz_failed", "attnviz_last_trace"
_KEPT = 2  # traces that stay with a session: two can be compared
_FEW_QUERIES = 16  # rows of every head that are made at once, on every run
_STOPPED = "Stopped. Your text is kept; change it, or run it again."
_LOOK_SECONDS = 0.1  # between two looks at a job that is waited for
_KIND = re.compile(r"[a-z-]{3,20}")
_QUIET_SECONDS = 0.4  # shorter work shows nothing: a bar that flashes is worse than none


def model_for(chosen: Selection) -> Model:
    """The chosen model, loaded if need be; stops the page with a sentence if it cannot be."""
    name = chosen.model or settings().default_model
    found = stores().models.get(name)
    if found is not None:
        return found

    def load(job: Job) -> Model:
        def stage(doing: str, share: float) -> None:
            job.report(doing, share)
            if doing == READING:  # the model is there and can be read: not before that does another one go
                stores().models.make_room()

        if name not in EMBEDDED:
            check_place(name, settings().model_dirs, only_these=not bound_here())
        while not stores().models.loading.acquire(timeout=_LOOK_SECONDS):
            job.report("waiting for another model to load", 0.0)
        try:
            ready = stores().models.get(name)
            if ready is None:
                ready = load_model(name, progress=stage)
                stores().models.put(name, ready)
        finally:
            stores().models.loading.release()
        return ready

    return cast(Model, finished(("model", name), f"Opening {name}", load))


def trace_for(model: Model, chosen: Selection) -> Trace:
    """The trace of the chosen text, compact; stops the page with a sentence if there is none."""
    target = text_of(chosen.other) if model.info.family == "encoder-decoder" else ""
    return trace_of(model, chosen.model or settings().default_model, text_of(chosen.text), target, chat=chosen.chat)


def trace_of(model: Model, name: str, text: str, target: str = "", *, chat: bool = False) -> Trace:
    """The compact trace of any text by a model that the pool holds as `name`; kept for all, waited for in view."""
    key = (name, "trace", digest(text), digest(target), chat)
    found = stores().traces.get(key)
    if found is not None:
        return cast(Trace, found)

    def trace(job: Job) -> Trace:
        check_length(model, text, chat)
        if target:
            check_length(model, target, False)
        job.report("reading the text", 0.0)
        made = model.trace(text, target or None, chat_template=chat, compact=True, progress=job.step)
        job.tokens = len(made.tokens)
        if stores().models.get(name) is model:  # else it was let go meanwhile, and its traces with it
            stores().traces.put(key, made)
        return made

    # A trace that is too large for the cache stays with the session: a click must not trace again. The others do not:
    # a session is kept for minutes after its person has gone, and a class of thirty has many.
    last: dict[tuple[Hashable, ...], Trace] = st.session_state.setdefault(_LAST, {})
    if key not in last:
        made = finished(("trace", *key), "Tracing", trace)
        if stores().traces.get(key) is not None:
            return cast(Trace, made)
        for old in list(last)[: -_KEPT + 1 or None]:
            del last[old]
        last[key] = cast(Trace, made)
    return last[key]


def scores_for(trace: Trace, chosen: Selection, focus: Focus) -> heads.Scores:
    """The chosen score of every head, [layer, head]."""
    site, view = focus.head.site, focus.view
    between = chosen.score == "between"
    place = (focus.queries, focus.keys) if between else ()
    if between and len(focus.queries) <= _FEW_QUERIES:
        return heads.attention_between(trace, focus.queries, focus.keys, site=site, view=view)
    name = chosen.model or settings().default_model
    opened = chosen.text if chosen.model == SAVED else ""  # two files may hold one text
    of = (digest(trace.text), digest(trace.source_text), chosen.chat, opened, site, view, place)

    def compute(job: Job) -> heads.Scores:
        job.report("scoring every head", 0.0)
        if between:
            return heads.attention_between(trace, focus.queries, focus.keys, site=site, view=view)
        return heads.scores(trace, [chosen.score], site=site, view=view, progress=job.step)[chosen.score]

    return cast(np.ndarray, once((name, "scores", chosen.score, *of), "Scoring every head", compute))


def similarity_for(model: Model, trace: Trace, other: str) -> float:
    """The cosine of the trace's text with another text."""
    key = (model.name, "similarity", digest(trace.text), digest(other))

    def compare(job: Job) -> float:
        check_length(model, other, False)
        return model.measure(Similarity(other), trace.text)

    return cast(float, once(key, "Comparing", compare))


def once(key: tuple[Hashable, ...], title: str, make: Callable[[Job], Any]) -> Any:
    """What `make` gives, from the cache or as a job that is waited for in view; then kept for all.

    key   all that it depends on: the model's name, what it is, and of what
    """
    found = stores().traces.get(key)
    if found is not None:
        return found

    def run(job: Job) -> Any:
        made = make(job)
        stores().traces.put(key, made)
        return made

    return finished((key[1], *key), title, run)


def digest(text: str) -> str:
    """A short stand-in for a text in a cache's key: the key's own size is not counted."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def check_length(model: Model, text: str, chat: bool) -> None:
    """Raise unless the text is one that this app takes: in characters before, in tokens after tokenising."""
    check_text(text, max_chars=settings().max_chars)
    length, most = len(model.encode(text, chat_template=chat).ids), settings().max_tokens
    if length > most:
        raise TextError(
            f"The text has {length:,} tokens; this app shows at most {most:,}. Shorten it, or have the operator raise "
            "ATTNVIZ_MAX_TOKENS."
        )


def finished(key: tuple[Hashable, ...], title: str, work: Callable[[Job], Any], *, stopped: str = _STOPPED) -> Any:
    """The result of a job of this session, waited for in view; the page stops where it fails or is cancelled.

    stopped   what is said to somebody who cancels
    """
    jobs: dict[tuple[Hashable, ...], Joined] = st.session_state.setdefault(_JOBS, {})
    failed: dict[tuple[Hashable, ...], AttnvizError] = st.session_state.setdefault(_FAILED, {})
    if key in failed:
        _stop(key, failed, stopped)
    for other in [other for other in jobs if other != key]:
        jobs.pop(other).cancel()  # the person has moved on
    if key not in jobs:
        jobs[key] = shared(key, work, model=_model_of(key), kind=_kind_of(key))
    mine = jobs[key]
    job = mine.job
    if not mine.cancelled and not job.wait(_QUIET_SECONDS):
        place = st.empty()
        with place.container(border=True):
            bar = st.progress(0.0, _progress_words(title, job))
            st.button(
                "Cancel",
                on_click=_cancel,
                args=(key,),
                key=f"cancel-{key[0]}-{digest(repr(key))[:8]}",
                icon=":material/stop_circle:",
            )
            while not job.wait(_LOOK_SECONDS) and not mine.cancelled:
                bar.progress(job.share, _progress_words(title, job))
        place.empty()
    jobs.pop(key, None)
    try:
        if mine.cancelled:  # it ends by itself at its next step; nobody waits for that
            raise Cancelled("Stopped on request.")
        return job.result()
    except AttnvizError as error:
        failed.clear()
        if isinstance(error, OutOfMemory):
            stores().traces.clear()
        # Without its traceback: the frames there may hold a model that was refused.
        failed[key] = type(error)(str(error))
        _stop(key, failed, stopped)


def _cancel(key: tuple[Hashable, ...]) -> None:
    """For callbacks, which hold no job: its result would stay with a session that has gone."""
    mine: Joined | None = st.session_state.get(_JOBS, {}).get(key)
    if mine is not None:
        mine.cancel()


def _model_of(key: tuple[Hashable, ...]) -> str | None:
    """The model that a key names, where it is not the one that the session looks at."""
    if key[0] == "model":
        return str(key[1])
    held = stores().models.names()
    return next((part for part in key if isinstance(part, str) and part in held), None)


def _kind_of(key: tuple[Hashable, ...]) -> str:
    """What a key is of, for the log: its first word that names no model, and no text."""
    known = (part for part in key[:2] if isinstance(part, str) and part not in stores().models.names())
    return next((part for part in known if _KIND.fullmatch(part)), "")


def _progress_words(title: str, job: Job) -> str:
    left = job.seconds_left
    parts = [title, job.doing] + ([] if left is None else [f"about {max(1, round(left))} s left"])
    return say.plain(": ".join(part for part in parts[:2] if part) + "".join(f" · {part}" for part in parts[2:]))


def retry() -> None:
    """Forget what failed, so that the same text or model is tried again."""
    st.session_state.pop(_FAILED, None)


def _stop(key: tuple[Hashable, ...], failed: dict[tuple[Hashable, ...], AttnvizError], stopped: str) -> None:
    """Say why there is no result, offer to try again, and end this run of the page."""
    error = failed[key]
    if isinstance(error, Cancelled):
        st.info(stopped, icon=":material/stop_circle:")
    else:
        say.problem(error)
    st.button("Try again", on_click=retry, key="try-again", icon=":material/refresh:")
    st.stop()
