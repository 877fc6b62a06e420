"""Work of this page that goes on while the page shows what is known so far: one job of a kind in a session.

The page is drawn again as long as something is under way (`again`), so what a job has kept is soon seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.errors import AttnvizError, Cancelled
from attnviz.ui import say, work
from attnviz.ui.jobs import Job
from attnviz.ui.session import act

LOOK_SECONDS, _MOST_SECONDS = 1.2, 5.0  # between two pictures of work that is under way: more of long work
_TICK = 0.3  # seconds between two looks at its bar alone
Asked = tuple[object, ...]


@dataclass
class _State:
    """asked: the question that `job` answers, with its bar and title; stopped: the last question that was stopped."""

    asked: Asked = ()
    job: Job | None = None
    stopped: Asked = ()
    title: str = ""
    bar: DeltaGenerator | None = None


def _state(kind: str) -> _State:
    return cast(_State, st.session_state.setdefault(f"attnviz_ablation_job_{kind}", _State()))


def start(kind: str, asked: Asked, make: Callable[[Job], Any]) -> None:
    """Begin to answer a question."""
    state = _state(kind)
    if state.job is not None:
        state.job.cancel()
    state.asked, state.job, state.stopped = asked, Job(make), ()


def started(kind: str, asked: Asked) -> bool:
    """Whether there is a job for this question; one for another is stopped, and what it has is kept."""
    state = _state(kind)
    if state.job is not None and state.asked != asked:
        state.job.cancel()
        state.job = None
    return state.job is not None


def stopped(kind: str, asked: Asked) -> bool:
    """Whether somebody stopped this question's job, or it failed: then it does not begin again by itself."""
    return _state(kind).stopped == asked


def watch(kind: str, title: str) -> bool:
    """The bar of the kind's job, with a way to stop it; False once it is over. What went wrong is said."""
    state = _state(kind)
    job = state.job
    assert job is not None

    def stop() -> None:
        act()
        job.cancel()
        state.stopped = state.asked

    if not job.cancelled and not job.wait(0):
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            state.title, state.bar = title, st.progress(job.share, _words(title, job), width="stretch")
            st.button(
                "Cancel", on_click=stop, key=f"ablation-cancel{kind and '-'}{kind}", icon=":material/stop_circle:"
            )
        return True
    job.wait(2 * LOOK_SECONDS)  # one that was stopped ends at its next step, with what it has
    state.job = None
    try:
        if job.wait(0):
            job.result()
    except Cancelled:
        return False
    except AttnvizError as error:
        state.stopped = state.asked
        say.problem(error)
    return False


def wait(kind: str) -> None:
    """Give a job a moment, so that a short one is over before anything is drawn."""
    job = _state(kind).job
    if job is not None:
        job.wait(LOOK_SECONDS)


def asked_for(make: Callable[[], None]) -> None:
    """In a button's callback: what failed before is tried again."""
    act()
    work.retry()
    make()


def again(*kinds: str) -> None:
    """Call last: draws the page again, after a moment, where one of these jobs goes on."""
    going = [(state, state.job) for state in map(_state, kinds) if state.job is not None]
    if not going:
        return
    oldest = max(job.elapsed for _, job in going)
    until = time.monotonic() + min(max(LOOK_SECONDS, oldest / 10), _MOST_SECONDS)
    while time.monotonic() < until and not any(job.wait(_TICK) for _, job in going):
        for state, job in going:
            if state.bar is not None:
                state.bar.progress(job.share, _words(state.title, job))
    st.rerun()


def _words(title: str, job: Job) -> str:
    left = job.seconds_left
    return say.plain(f"{title}: {job.doing}" + ("" if left is None else f" · about {span(left)} left"))


def span(value: float) -> str:
    """Seconds in words."""
    return f"{max(1, round(value))} s" if value < 90 else f"{round(value / 60)} min"
