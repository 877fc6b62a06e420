"""A sweep in view: at once where it is short, else on request, with progress, a stop that loses nothing, and going on.

What is known so far is drawn while the rest is measured. A session has one sweep at a time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import streamlit as st

from attnviz.ablation import Sweep
from attnviz.edits import Head
from attnviz.errors import AttnvizError, Cancelled
from attnviz.ui import say, work
from attnviz.ui.ablation import finding
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.session import act

AT_ONCE = 5.0  # seconds that a sweep may take without being asked for
_RATE = {"cpu": 1.5e11, "cuda": 2e13}  # multiplications and additions a second, before any sweep was timed
_JOB, _PACE, _STOPPED = "attnviz_ablation_job", "attnviz_ablation_pace", "attnviz_ablation_stopped"
_LOOK_SECONDS = 1.2  # between two pictures of a sweep that is under way
_Running = tuple[tuple[object, ...], Job, float | None]  # question, job, when it began; None where it goes on


def sweeping(subject: Subject, order: Sequence[Head]) -> tuple[Sweep | None, bool]:
    """(what is known so far, whether the rest is under way); shows the bar, or the button that starts it."""
    running: _Running | None = st.session_state.get(_JOB)
    if running is not None and running[0] != subject.asked:
        running[1].cancel()  # the person has moved on; what it has is kept
        st.session_state.pop(_JOB)
        running = None
    known = finding.swept(subject)
    whole = known is not None and known.complete
    stopped = st.session_state.get(_STOPPED) == subject.asked
    if running is None and not whole and not stopped and seconds(subject) <= AT_ONCE:
        _start(subject, order)
        running = st.session_state[_JOB]
        running[1].wait(_LOOK_SECONDS)
    if running is not None:
        if _watch(subject, running):
            return finding.swept(subject), True
        known = finding.swept(subject)
    if known is None or not known.complete:
        _offer(subject, order, known)
    return known, False


def again(under_way: bool) -> None:
    """Call last: draws the page again where a sweep goes on."""
    if under_way:
        running: _Running = st.session_state[_JOB]
        running[1].wait(_LOOK_SECONDS)
        st.rerun()


def seconds(subject: Subject) -> float:
    """About how long a whole sweep takes."""
    rate = _RATE.get(subject.model.hf_model.device.type, _RATE["cpu"])
    return _work(subject) * float(st.session_state.get(_PACE, {}).get(subject.name, 1 / rate))


def _work(subject: Subject) -> float:
    """Multiplications and additions of a sweep: half of a forward pass for each head."""
    info = subject.model.info
    n_heads = sum(info.layers_of(site) * info.heads_of(site) for site in info.sites)
    tokens = len(subject.trace.tokens) + len(subject.trace.source_tokens)
    table = subject.model.hf_model.get_input_embeddings().weight.numel()
    return float(n_heads * tokens * max(info.n_parameters - table, table // 8))


def _start(subject: Subject, order: Sequence[Head]) -> None:
    began = time.monotonic() if finding.swept(subject) is None else None
    job = Job(partial(finding.sweep, subject, list(order)))
    st.session_state.pop(_STOPPED, None)
    st.session_state[_JOB] = (subject.asked, job, began)


def _offer(subject: Subject, order: Sequence[Head], known: Sweep | None) -> None:
    def start() -> None:
        act()
        work.retry()
        _start(subject, order)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Measure every head" if known is None else "Measure the rest",
            type="primary",
            icon=":material/play_arrow:",
            key="ablation-run",
            on_click=start,
        )
        reached = "" if known is None else f"{known.n_reached:,} of {known.n_units:,} heads are measured. "
        words = f"{reached}All of them take about {_span(seconds(subject))}; the largest estimates come first."
        st.markdown(say.plain(words))


def _watch(subject: Subject, running: _Running) -> bool:
    """The bar of a sweep; False once it is over."""
    _, job, began = running

    def stop() -> None:
        act()
        job.cancel()
        st.session_state[_STOPPED] = subject.asked

    if not job.cancelled and not job.wait(0):
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            left = job.seconds_left
            words = f"Measuring every head: {job.doing}" + ("" if left is None else f" · about {_span(left)} left")
            st.progress(job.share, say.plain(words), width="stretch")
            st.button("Cancel", on_click=stop, key="ablation-cancel", icon=":material/stop_circle:")
        return True
    job.wait(2 * _LOOK_SECONDS)  # one that was stopped ends at its next step, with what it has
    st.session_state.pop(_JOB, None)
    known = finding.swept(subject)
    if known is not None and known.complete and began is not None:
        st.session_state.setdefault(_PACE, {})[subject.name] = job.elapsed / _work(subject)
    try:
        if job.wait(0):
            job.result()
    except Cancelled:
        return False
    except AttnvizError as error:
        st.session_state[_STOPPED] = subject.asked
        say.problem(error)
    return False


def _span(value: float) -> str:
    return f"{max(1, round(value))} s" if value < 90 else f"{round(value / 60)} min"
