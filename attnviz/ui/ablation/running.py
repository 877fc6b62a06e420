"""A sweep in view: by itself up to a minute, else on request, with progress, a stop that loses nothing, and going on.

What is known so far is drawn while the rest is measured. A session has one sweep at a time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import streamlit as st

from attnviz.ablation import Sweep
from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.ui import say
from attnviz.ui.ablation import background, finding
from attnviz.ui.ablation.background import span
from attnviz.ui.ablation.subject import ONE, PLURAL, Subject
from attnviz.ui.jobs import Job

AT_ONCE, BY_ITSELF = 5.0, 60.0  # seconds of a sweep that needs no words; of one that begins unasked
MOST_WRITING = 600.0  # seconds of a sweep that writes a text for every head
SWEEP = ""  # the kind of the job
_RATE = {"cpu": 1.5e11, "cuda": 2e13}  # multiplications and additions a second, before any sweep was timed
_PACE = "attnviz_ablation_pace"


def sweeping(subject: Subject, order: Sequence[Head]) -> Sweep | None:
    """What is known so far; shows the bar of a sweep that is under way, or the button that starts it."""
    under_way = background.started(SWEEP, subject.asked)
    known = finding.swept(subject)
    whole = known is not None and known.complete
    if not (under_way or whole or background.stopped(SWEEP, subject.asked)) and seconds(subject) <= BY_ITSELF:
        if seconds(subject) > AT_ONCE:
            memory_words(subject)  # worked out before, not beside
        _start(subject, order)
        background.wait(SWEEP)
        under_way = True
    if under_way and background.watch(SWEEP, f"Measuring every {ONE[subject.parts]}"):
        if seconds(subject) > AT_ONCE:
            say.caption(memory_words(subject))
        return finding.swept(subject)
    known = finding.swept(subject)
    if known is None or not known.complete:
        _offer(subject, order, known)
    return known


def seconds(subject: Subject) -> float:
    """About how long a whole sweep takes."""
    if not subject.metric.batched:
        return len(subject.units) * finding.one_generation(subject)
    return seconds_of(subject, _n_tokens(subject))


def seconds_of(subject: Subject, n_tokens: int) -> float:
    """About how long sweeps of so many tokens take, at the pace of those before."""
    rate = _RATE.get(subject.model.hf_model.device.type, _RATE["cpu"])
    return _work(subject, n_tokens) * float(st.session_state.get(_PACE, {}).get(subject.name, 1 / rate))


def _n_tokens(subject: Subject) -> int:
    return len(subject.trace.tokens) + len(subject.trace.source_tokens)


def _work(subject: Subject, n_tokens: int) -> float:
    """Multiplications and additions of a sweep: half of a forward pass for each head."""
    info = subject.model.info
    table = subject.model.hf_model.get_input_embeddings().weight.numel()
    return float(len(subject.units) * n_tokens * max(info.n_parameters - table, table // 8))


def _start(subject: Subject, order: Sequence[Head]) -> None:
    # A thread has no session, so the job is handed what it writes its pace into.
    pace: dict[str, float] = st.session_state.setdefault(_PACE, {})
    anew, work = finding.swept(subject) is None, _work(subject, _n_tokens(subject))

    def make(job: Job) -> None:
        began = time.monotonic()
        finding.sweep(subject, list(order), job)
        known = finding.swept(subject)
        if anew and subject.metric.batched and known is not None and known.complete:
            pace[subject.name] = (time.monotonic() - began) / work

    background.start(SWEEP, subject.asked, make)


def _offer(subject: Subject, order: Sequence[Head], known: Sweep | None) -> None:
    needed, many = seconds(subject), PLURAL[subject.parts]
    if not subject.metric.batched and needed > MOST_WRITING:
        say.caption(
            f"Writing once without each of {len(subject.units):,} {many} would take about {span(needed)}, and the most "
            f"is {span(MOST_WRITING)}: shorten the text, or measure by the loss."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            f"Measure every {ONE[subject.parts]}" if known is None else "Measure the rest",
            type="primary",
            icon=":material/play_arrow:",
            key="ablation-run",
            on_click=background.asked_for,
            args=(partial(_start, subject, order),),
        )
        reached = "" if known is None else f"{known.n_reached:,} of {known.n_units:,} {many} are measured. "
        first = "the largest estimates come first" if order else "layer after layer"
        words = f"{reached}All of them take about {span(needed)}; {first}. {memory_words(subject)}"
        st.markdown(say.plain(words))


def memory_words(subject: Subject) -> str:
    """How much memory a sweep takes at most; "" for what is written, and for what the sweep itself will refuse."""
    if not subject.metric.batched:
        return ""
    try:
        budget = finding.budget(subject)
    except (InputError, Unsupported):
        return ""
    return f"At most {budget / 1e6:,.0f} MB of memory, the model aside."
