"""Measuring what was planned, what came of it, whether it still does, and the status that this allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pandas as pd
import streamlit as st

from attnviz import findings
from attnviz.errors import AttnvizError, Conflict, InputError
from attnviz.figures.evidence import evidence_dots
from attnviz.findings import (
    STATUSES,
    Again,
    Case,
    Evidence,
    Finding,
    Measurement,
    Outcome,
    Repeated,
    attach,
    missing,
    uncounted,
    with_status,
)
from attnviz.findings.records import Verdict
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import say, work
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.jobs import Job
from attnviz.ui.notebook.listing import BADGES
from attnviz.ui.notebook.planning import cases_frame, measured_words
from attnviz.ui.notebook.shelf import by, complained, opened_as, save, seen_on_another, store, tell
from attnviz.ui.session import act, selection
from attnviz.ui.theme import theme

_ASKED, _AGAIN = "attnviz_notebook_asked", "attnviz_notebook_again"
_SHOWN = 4  # pieces of evidence that are drawn unasked
_VERDICTS: dict[Verdict, str] = {
    "holds": "As expected, and beyond the control",
    "fails": "Not as expected: this refutes it",
    "open": "Neither: nothing is decided by it",
}


def status_row(one: Finding) -> None:
    """What the status is, and a button for each other one; what is missing for it stands below."""
    reasons = {status: missing(one, status) for status in STATUSES if status != one.status}
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for status, reason in reasons.items():
            st.button(
                f"Mark {status}",
                key=f"notebook-status-{status}",
                icon=BADGES[status][0],
                disabled=bool(reason),
                on_click=_mark,
                args=(one, status),
            )
    said = {status: reason for status, reason in reasons.items() if reason}
    either = {reason.replace(f"is {status}", "is supported or refuted") for status, reason in said.items()}
    say.caption(*(either if len(said) > len(either) else said.values()))


def _mark(one: Finding, status: findings.records.Status) -> None:
    with complained():
        save(with_status(one, status), one, f"It is {status} now.")


def measure_buttons(one: Finding) -> None:
    """Measure as planned, and measure again what was."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Measure as planned",
            key="notebook-measure",
            icon=":material/straighten:",
            type="primary",
            disabled=one.plan is None,
            on_click=_ask,
            args=("plan", one),
        )
        st.button(
            "Measure again",
            key="notebook-again",
            icon=":material/replay:",
            disabled=not one.evidence,
            on_click=_ask,
            args=("again", one),
            help="Every measurement once more, with the same texts and seeds: does it still come out so?",
        )


def _ask(what: str, one: Finding, sure: bool = False) -> None:
    """For callbacks. sure: the person knows that this is another model than the finding's view opens."""
    act()
    work.retry()
    st.session_state[_ASKED] = (what, one.id, one.version, sure)


def forget() -> None:
    """For callbacks: nothing is to be measured any more."""
    st.session_state.pop(_ASKED, None)


def measure_asked(one: Finding) -> None:
    """Do what was asked for, in view; the page stops here where it fails or is cancelled, so this comes last."""
    what, of, version, sure = st.session_state.get(_ASKED, ("", "", 0, False))
    if (of, version) != (one.id, one.version):
        return
    name = opened_as(one)
    other = seen_on_another(one)
    if other and not sure:
        st.warning(
            say.plain(
                f"This finding says that it is of {one.model.name}, and its view opens {other}. It is measured on the "
                "model that it says it is of. Whoever made it wrote that there: open no model that you do not know."
            ),
            icon=":material/help:",
        )
        st.button(say.plain(f"Measure on {name}"), key="notebook-sure", on_click=_ask, args=(what, one, True))
        return
    model = work.model_for(replace(selection(), model=name))
    if what == "again":
        again = _measured_again(model, name, one)
        st.session_state[_AGAIN] = (one.id, one.version, again)
        forget()
    elif one.plan is not None:
        _measure_planned(model, name, one)
    st.rerun()


def _measure_planned(model: Model, name: str, one: Finding) -> None:
    plan = one.plan
    assert plan is not None

    def measure(job: Job) -> tuple[Outcome, findings.ModelRecord]:
        job.report("reading the texts", 0.0)
        _check_lengths(model, plan.measurement, plan.cases)
        outcome = findings.measure(model, plan.measurement, plan.cases, plan=plan, progress=job.step)
        return outcome, findings.model_record(model)

    key = ("finding", name, one.id, work.digest(plan.model_dump_json()))
    outcome, record = cast(
        tuple[Outcome, findings.ModelRecord],
        work.finished(key, "Measuring as planned", measure, stopped="Stopped. Nothing was measured."),
    )
    evidence = Evidence(
        measurement=plan.measurement,
        cases=plan.cases,
        outcome=outcome,
        model=record,
        by=by(),
    )
    forget()
    with complained():
        for base in (one, store().get(one.id, by=by())):  # somebody may have changed its words while it was measured
            try:
                store().save(attach(base, evidence), by=by(), base=base.version)
            except Conflict:
                continue
            tell("Measured, and kept with the finding.")
            return
        tell("Others change this finding right now, so nothing was kept. Measure once more.")


def _measured_again(model: Model, name: str, one: Finding) -> Repeated:
    def measure(job: Job) -> Repeated:
        job.report("reading the texts", 0.0)
        for part in one.evidence:
            _check_lengths(model, part.measurement, part.cases)
        job.report("measuring again", 0.0)
        return findings.measure_again(model, one, progress=job.step)

    key = ("finding-again", name, one.id, one.version)
    return cast(Repeated, work.finished(key, "Measuring again", measure, stopped="Stopped. What was found stays."))


def _check_lengths(model: Model, asked: Measurement, cases: Sequence[Case]) -> None:
    """Raise for what is longer than this app takes, naming it; what cannot be read is told when it is measured."""
    parts = ("text", "target", "donor")
    given = [(f"the {name} of case {n}", getattr(case, name)) for n, case in enumerate(cases, 1) for name in parts]
    given += [(f"reference text {n}", text) for n, text in enumerate(asked.references, 1)]
    for name, text in given:
        if not text or (len(text) <= settings().max_chars and not _readable(model, text)):
            continue
        try:
            work.check_length(model, text, False)
        except InputError as error:
            raise type(error)(f"{measured_words(asked)}, {name}: {error}") from error


def _readable(model: Model, text: str) -> bool:
    try:
        model.encode(text)
    except InputError:
        return False
    return True


def again_table(one: Finding) -> None:
    """Then and now, and whether it still holds."""
    of, version, again = st.session_state.get(_AGAIN, ("", 0, None))
    if (of, version) != (one.id, one.version) or again is None:
        return
    st.markdown("**Measured again**")
    words = {
        True: "It still holds.",
        False: "It does not hold any more.",
        None: "No status rests on it yet; the table says how each came out.",
    }[again.holds]
    (st.warning if again.holds is False else st.info)(words, icon=":material/replay:")
    st.dataframe(pd.DataFrame([_row(part) for part in again.evidence]), hide_index=True, key="notebook-again-table")
    others = dict.fromkeys(word for part in again.evidence for word in part.model)
    say.caption(
        "The same texts and seeds. “Counts” is what the status rests on.",
        f"Not as it was: {'; '.join(others)}." if others else "Model, weights and programs are as they were.",
        *dict.fromkeys(part.reason for part in again.evidence if part.reason),
    )


def _row(part: Again) -> dict[str, object]:
    then = part.evidence.outcome
    return {
        "measured": measured_words(part.evidence.measurement),
        "then": round(then.mean, 4),
        "now": None if part.now is None else round(part.now.mean, 4),
        "unit": then.unit,
        "holds": {True: "yes", False: "no", None: "cannot be measured"}[part.holds],
        "counts": "yes" if part.counts else "no",
        "by": part.rule,
    }


def evidence_list(one: Finding) -> None:
    """What was measured of it, the last first."""
    if not one.evidence:
        say.caption("Nothing is measured yet: the claim rests on one look at one text.")
        return
    several = list(enumerate(zip(one.evidence, uncounted(one), strict=True)))[::-1]
    for number, (part, against) in several[:_SHOWN]:
        _piece(one, number, part, against)
    if len(several) > _SHOWN and st.toggle(f"All {len(several)}", key="notebook-all-evidence"):
        for number, (part, against) in several[_SHOWN:]:
            _piece(one, number, part, against)


def _piece(one: Finding, number: int, part: Evidence, against: str) -> None:
    """One piece of evidence; `against`: why no status rests on it."""
    outcome, key = part.outcome, f"notebook-evidence-{number}"
    with st.container(border=True, key=key):
        st.markdown(f"**{say.plain(measured_words(part.measurement))}**")
        try:
            bound = one.plan.bound if one.plan is not None and part.planned else None
            show_figure(evidence_dots(part, bound=bound, theme=theme()), f"{key}-figure")
        except AttnvizError as error:
            say.caption(str(error))
        n = sum(value is not None for value in outcome.values)
        say.caption(
            outcome.words or f"Control: {outcome.controls}.",
            "The diamond is the mean with its 95% interval, small dots are single texts; the band holds the controls."
            if outcome.has_control
            else "It was measured without a control: random heads, or words, might do the same.",
            f"With {n} text{'s' * (n != 1)} there is no interval." if outcome.low is None else "",
        )
        say.caption(
            f"{'As planned: ' + _VERDICTS[outcome.verdict] if part.planned else 'Beside the plan: it decides nothing'}."
            + (f" It does not count. {against}" if against and part.planned else ""),
            f"By {part.by or 'unknown'}, {part.at:%d %b %Y %H:%M} UTC, on {part.model.name}, {part.model.dtype}.",
            part.note,
        )
        with st.expander("By text"):
            table = cases_frame(part.cases)
            table.insert(0, "value", list(outcome.values))
            st.dataframe(table, hide_index=True, key=f"{key}-table")
