"""May it be called important: the set by every method on every prompt, against random heads of the same layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
import streamlit as st

from attnviz import ablation
from attnviz.ablation import Table, Verdict
from attnviz.errors import InputError, Unsupported
from attnviz.figures.ablation import band_words, control_dots, sets_words
from attnviz.ui import say, work
from attnviz.ui.ablation import finding, lines
from attnviz.ui.ablation.subject import MOST_TOKENS, Subject
from attnviz.ui.ablation.trial import Trial, trial_of
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.jobs import Job
from attnviz.ui.notebook.offering import keep_ablated
from attnviz.ui.session import act, selection
from attnviz.ui.theme import theme

_ASKED, _N = "attnviz_ablation_controlled", "attnviz_ablation_random"


@dataclass(frozen=True, eq=False)
class Checked:
    """The set's effects by method and prompt, random sets' likewise, and what follows."""

    rows: Table
    controls: Table
    verdict: Verdict


def believing(subject: Subject) -> None:
    """The button that tries the set, and what came of it."""
    if not subject.heads:
        return
    st.markdown("**May it be called important?**")
    if subject.chat:
        say.caption("Controls read plain texts: switch the chat template off.")
        return
    if not subject.metric.batched:
        say.caption("Controls do not write: measure by the loss to see whether the set may be called important.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["ablation-n"] = st.session_state.get(_N, 20)
        n = st.number_input(
            "Random sets",
            2,
            100,
            key="ablation-n",
            width=120,
            on_change=lambda: st.session_state.update({_N: st.session_state["ablation-n"]}),
        )
        try:
            trial = trial_of(subject, int(n))
        except InputError as error:
            say.caption(str(error))
            return
        key = (*subject.asked, "controls", subject.heads, trial)
        st.button(
            "Try every method and random heads",
            key="ablation-controls",
            icon=":material/balance:",
            on_click=_ask,
            args=(key,),
        )
    if st.session_state.get(_ASKED) != key:
        say.caption("Not tried yet: one way of taking heads out, on one text, is no evidence of importance.")
        return
    try:
        found = _checked(subject, trial, key)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    _shown(subject, trial, found)


def _ask(key: tuple[Any, ...]) -> None:
    act()
    work.retry()
    st.session_state[_ASKED] = key


def _checked(subject: Subject, trial: Trial, key: tuple[Any, ...]) -> Checked:
    def make(job: Job) -> Checked:
        longest = max(len(subject.model.encode(case.clean).ids) for case in trial.cases)
        if longest > MOST_TOKENS:
            raise InputError(f"A prompt has {longest:,} tokens; heads are taken out of {MOST_TOKENS} at most.")
        options = trial.options(subject)
        job.report("every method", 0.0)
        rows = ablation.table(
            subject.model, trial.cases, [subject.heads], progress=lambda a, b: job.step(a, 3 * b), **options
        )
        job.report("random heads", 0.33)
        controls = ablation.band(
            subject.model,
            trial.cases,
            subject.heads,
            n=trial.n,
            anywhere=trial.anywhere,
            progress=lambda a, b: job.step(b + 2 * a, 3 * b),
            **options,
        )
        return Checked(rows, controls, ablation.verdict(rows, controls)[0])

    return cast(Checked, finding.kept(subject, key, "Trying the set", make))


def _shown(subject: Subject, trial: Trial, found: Checked) -> None:
    rows, controls, verdict = found.rows, found.controls, found.verdict
    word = "It may be called important here" if verdict.important else "Not shown to be important"
    icon = ":material/check_circle:" if verdict.important else ":material/help:"
    st.info(say.plain(f"{word}: {verdict.reason}."), icon=icon)
    scheme = theme()

    def figure() -> Any:
        return control_dots(rows, controls, theme=scheme)

    left, right = st.columns([3, 2], gap="medium")
    with left:
        show_figure(figure(), "ablation-controls-dots")
    table = frame(found)
    with right:
        numbers = {
            name: st.column_config.NumberColumn(format="%.3f") for name in ("effect", "random_low", "random_high")
        }
        st.dataframe(
            table[["how", *numbers, "prompt"]], hide_index=True, key="ablation-controls-table", column_config=numbers
        )
    say.caption(
        f"Change in {rows.metric}. Grey: {sets_words(controls, rows)}, and the band, {band_words(controls)}; blue: the "
        "set.",
        "The layers of the set have too few other heads, so random heads come from all layers: they differ from the "
        "set in where they stand too."
        if trial.anywhere
        else "",
        "A set is called important only where all methods agree in sign and leave the band, on most of at least three "
        f"prompts. {verdict.caution}.",
        f"There are only {len(controls.heads)} such sets." if len(controls.heads) < trial.n else "",
        "" if "resample" in trial.hows else "No donor could be proposed for a prompt, so nothing is resampled.",
    )
    export_bar(
        "controls",
        figure,
        lambda: table,
        lines.control_lines(selection(), subject, trial),
        about={"model": subject.model.info.name, "metric": rows.metric, "verdict": verdict.reason},
        key="ablation-controls",
    )
    keep_ablated(subject, trial, rows, controls, figure, lines.control_lines(selection(), subject, trial))


def frame(found: Checked) -> pd.DataFrame:
    """A row for each prompt and method: heads, how, prompt, baseline, effect, metric, random_low, random_high."""
    low, high = found.controls.middle()
    return found.rows.frame().assign(random_low=low.ravel(), random_high=high.ravel())
