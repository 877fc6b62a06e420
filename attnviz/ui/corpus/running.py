"""Measuring a corpus in view: an estimate before, a bar with the time left, a stop that loses nothing, and going on.

The first batch is measured when a corpus is first looked at: it is kept like any other, and says how long the rest
will take. A short rest follows by itself; a long one waits for its button, and so does what somebody stopped. A session
has one such job at a time; it goes on while other pages are looked at.
"""

from __future__ import annotations

import time

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.ui import say, work
from attnviz.ui.corpus.subject import Subject
from attnviz.ui.jobs import Job, Joined, shared
from attnviz.ui.measuring import measure, of_run
from attnviz.ui.session import act

_RUNNING, _PACE = "attnviz_corpus_running", "attnviz_corpus_pace"
BRIEF_SECONDS = 10.0  # a rest that takes less asks nobody
_Id = tuple[str, str]


def measuring(subject: Subject, *, which: str = "") -> Subject:
    """The subject as far as it is now; shows what is under way, or the button that starts it.

    which   tells two of them on one page apart
    """
    running = _running()
    if running is not None and running[0] == subject.id:
        _watch(running[1])
    subject = subject.again()
    if not subject.whole and subject.id not in _paces():
        _first_batch(subject)
        subject, running = subject.again(), _running()
        idle, stopped = running is None or running[1].job.wait(0), _paces()[subject.id][1]
        if idle and not stopped and not subject.whole and _seconds_left(subject) < BRIEF_SECONDS:
            _watch(_start(subject))
            subject = subject.again()
    if not subject.whole:
        _offer(subject, which)
    words = _left_words(subject)
    if words:
        say.caption(*words)
    return subject


def _first_batch(subject: Subject) -> None:
    """Measure one batch, and note how long a text takes, and how many were done when this session came."""

    def run(job: Job) -> float:
        started = time.monotonic()
        measure(job, subject.model, subject.known.key, site=subject.site, sinks=subject.sinks, first=True)
        return time.monotonic() - started

    seconds = work.finished(("corpus-first", *subject.id), "Measuring the first texts", run)
    now = subject.again()
    _paces()[subject.id] = seconds / max(now.done - subject.done, 1), subject.done > 0


def _offer(subject: Subject, which: str) -> None:
    """How far the measurement is, how long the rest will take, and the button that goes on."""
    n, rest = subject.known.n, subject.known.n - subject.done

    def start() -> None:
        act()
        before = _running()
        if before is not None:
            before[1].cancel()
        _start(subject)

    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(
            f"{subject.done:,} of {n:,} texts done. The other {rest:,} take about {_span(_seconds_left(subject))}."
        )
        st.space("stretch")
        st.button(
            "Resume" if _paces()[subject.id][1] else "Run",
            type="primary",
            icon=":material/play_arrow:",
            key=f"corpus-run{which}",
            on_click=start,
        )


def _start(subject: Subject) -> Joined:
    """The job that measures the rest, from now on the one of this session; another's, where one is under way."""
    model, key, site, sinks = subject.model, subject.known.key, subject.site, subject.sinks
    job = shared(of_run(*subject.id), lambda job: measure(job, model, key, site=site, sinks=sinks))
    _paces()[subject.id] = _paces()[subject.id][0], True
    st.session_state[_RUNNING] = subject.id, job
    return job


def _watch(mine: Joined) -> None:
    """Show a job until it is over or stopped, and forget it then."""
    job = mine.job
    if not mine.cancelled and not job.wait(0.1):
        place = st.empty()
        with place.container(border=True):
            bar = st.progress(0.0, "Measuring every head")
            st.button("Cancel", on_click=mine.cancel, key="corpus-cancel", icon=":material/stop_circle:")
            while not job.wait(0.2) and not mine.cancelled:
                bar.progress(job.share, _words(job))
        place.empty()
    st.session_state.pop(_RUNNING, None)
    if not mine.cancelled:
        try:
            job.result()
        except AttnvizError as error:
            say.problem(error)


def _words(job: Job) -> str:
    left = job.seconds_left
    return say.plain(f"Measuring every head: {job.doing}") + ("" if left is None else f" · {_span(left)} left")


def _left_words(subject: Subject) -> list[str]:
    """Which texts have no values, and that texts measured so far are no fair sample."""
    words = [f"{n:,} left out: {reason}." for reason, n in subject.left.items()]
    if not subject.whole:
        words.append(
            "What is shown so far is no fair sample: some hundred texts at a time, the longest are measured first."
        )
    return words


def _seconds_left(subject: Subject) -> float:
    """How long the rest takes at the pace of the first batch; that is of long texts, so rather less."""
    return _paces()[subject.id][0] * (subject.known.n - subject.done)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _running() -> tuple[_Id, Joined] | None:
    found: tuple[_Id, Joined] | None = st.session_state.get(_RUNNING)
    return found


def _paces() -> dict[_Id, tuple[float, bool]]:
    """Of each measurement: seconds a text, and whether it was under way before the first batch that was timed."""
    found: dict[_Id, tuple[float, bool]] = st.session_state.setdefault(_PACE, {})
    return found
