"""The clean run beside the steered one: predictions, what is written, where attention went, and a head's maps.

Each picture takes its title from its own trace, so that neither run can stand under the other's name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.errors import InputError, Unsupported
from attnviz.export import about
from attnviz.figures import head_grid
from attnviz.figures.labels import head_words, run_words
from attnviz.figures.palette import Theme
from attnviz.text import visible
from attnviz.trace import Trace
from attnviz.ui import say, taking, two_runs
from attnviz.ui.export import export_bar
from attnviz.ui.feedback import prediction_row
from attnviz.ui.head_map import head_matrix, rising
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.session import select, selection
from attnviz.ui.steering import finding, lines
from attnviz.ui.steering.finding import PREDICTED, WRITTEN, Steered
from attnviz.ui.steering.subject import Subject
from attnviz.ui.theme import theme
from attnviz.ui.views import attention_map

_CHANCE = st.column_config.ProgressColumn(format="%.4f", min_value=0.0, max_value=1.0)
_CHANGE = st.column_config.NumberColumn(format="%+.4f")


def beside(subject: Subject) -> None:
    """Everything that steering changes; the clean run alone while nothing is marked."""
    if not subject.edits:
        say.caption("Nothing is marked yet, so there is nothing to compare: paint words above.")
        if subject.model.has_vocabulary:
            _before(subject, None)
        return
    try:
        found = finding.steered_run(subject)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    _numbers(subject, found)
    if found.predicted is not None:
        left, right = st.columns(2, gap="medium")
        with left:
            _before(subject, found)
        with right:
            _after(found)
        token = subject.trace.tokens[subject.position]
        where = "at" if subject.model.family == "encoder" else "after"
        say.caption(
            f"The {PREDICTED} likeliest tokens of each run, {where} the token “{token.text}”; change is after less "
            "before.",
            f"{two_runs.titled(found.trace)}.",
            "A prediction that changed is no proof that the model understood anything, nor that it is a better one.",
        )
    if finding.writes(subject.model):
        both = (finding.written(subject, steered=False), finding.written(subject, steered=True))
        two_runs.written(*both, most=WRITTEN)
    _went(subject, found)
    _maps(subject, found.trace)


def _numbers(subject: Subject, found: Steered) -> None:
    before, after = finding.means(found.went, subject)
    n = len(subject.steered)
    with st.container(horizontal=True):
        st.metric("Attention to the words, before", f"{before:.1%}", width="content")
        st.metric("After", f"{after:.1%}", width="content")
        if found.left is not None:
            ignored = finding.means(found.left, subject)
            st.metric("To the ignored words, before", f"{ignored[0]:.1%}", width="content")
            st.metric("To these, after", f"{ignored[1]:.1%}", width="content")
        if found.moved is not None:
            st.metric("Prediction moved (KL, nats)", f"{found.moved:.4f}", width="content")
        if found.turned is not None:
            st.metric("Cosine of both embeddings", f"{found.turned:.4f}", width="content")
    harm = ""
    if subject.heads is None and subject.kind == "steer":
        harm = (
            "All heads are steered, which harms too: of 50 prompts of ours with two facts SmolLM2 then followed the "
            "emphasised one on 78%, and on all 50 with ten profiled heads: choose “Profiled” above."
        )
    words = "ignored" if subject.turned_from else "emphasised" if subject.kind == "steer" else "weighted"
    say.caption(
        f"Attention: the share that goes to the {words} words, in the mean of {n:,} steered "
        f"head{'s' * (n != 1)} and of all queries that see any of them.",
        harm,
        "That attention went there does not explain what the model then says.",
    )


def _before(subject: Subject, found: Steered | None) -> None:
    st.markdown("**Before: clean run**")
    if found is None or found.predicted is None:
        table = subject.trace.predictions(subject.position, PREDICTED)[["token", "probability"]]
        table["token"] = [visible(token) or "␣" for token in table["token"]]
    else:
        table = found.predicted.nlargest(PREDICTED, "before")[["token", "before"]]
        table = table.rename(columns={"before": "probability"})
    config = {"probability": _CHANCE}
    st.dataframe(table, hide_index=True, key="steering-before", height="content", column_config=config)
    prediction_row(
        subject.model,
        subject.trace,
        subject.position,
        name=subject.name,
        which="before steering",
        key="steering-feedback",
    )


def _after(found: Steered) -> None:
    assert found.predicted is not None
    st.markdown("**After: edited run**")
    table = found.predicted.nlargest(PREDICTED, "after")[["token", "after", "change"]]
    config = {"probability": _CHANCE, "change": _CHANGE}
    table = table.rename(columns={"after": "probability"})
    st.dataframe(table, hide_index=True, key="steering-after", height="content", column_config=config)


def _went(subject: Subject, found: Steered) -> None:
    """Where attention really went: the share on the words in every head, in both runs."""
    st.markdown("**Attention to the words in every head**")
    shares = {which: finding.by_head(found.went, subject, which) for which in ("before", "after")}
    colours = rising(np.stack([*shares.values()]))
    frame = found.went.frame()
    for place, (which, values) in zip(st.columns(2, gap="medium"), shares.items(), strict=True):
        trace = found.trace if which == "after" else subject.trace
        with place:
            st.markdown(f"{which.capitalize()}")
            head_matrix(
                values,
                subject.focus.head,
                key=f"steering-went-{which}",
                what=f"All heads, {which}",
                purpose="Pick one to see its maps.",
                value_name="share of attention",
                colours=colours,
                max_height=380,
                title=f"Attention to the marked words, {run_words(trace)}, {trace.info.name}",
                file_name=f"steering-{which}",
                on_pick=lambda layer, head: select(layer=layer, head=head),
            )
            _went_bar(subject, trace, values, frame, which)
    say.caption(
        "Layers down, heads across; colour is the mean share of 1 that queries pay to the words together, on one scale "
        "for both. Only queries that see at least one of them count.",
        "" if subject.heads is None else "Heads that were not steered change too: they read what steered ones wrote.",
    )


def _went_bar(subject: Subject, trace: Trace, values: Any, frame: pd.DataFrame, which: str) -> None:
    look, palette, info = theme(), selection().palette, trace.info
    name = f"attention to the marked words, {which}"

    def figure(scheme: Theme = look) -> go.Figure:
        return head_grid(values, info, name, palette=palette, theme=scheme, high=None)

    python = lines.went_lines(selection(), subject, steered=which == "after")
    with st.container(horizontal=True):
        export_bar(
            f"steering {info.name} {which}",
            figure,
            lambda: frame,
            python,
            about=about(trace) | {"words": list(subject.meant), "what": "share of attention, before and after"},
            key=f"steering-went-{which}",
        )
        if which == "after":
            keep_this(
                "Steering",
                heads=subject.heads or subject.focus.heads,
                figure=lambda: figure("light"),
                lines=python,
                also_seen=[text for text in (trace.text, trace.source_text) if text],
            )


def _maps(subject: Subject, steered: Trace) -> None:
    """The map of the selected head in both runs."""
    head, focus = subject.focus.head, subject.focus
    st.markdown(f"**{say.plain(head_words(steered, head))} in both runs**")
    for place, trace in zip(st.columns(2, gap="medium"), (subject.trace, steered), strict=True):
        which = "after" if trace is steered else "before"
        with place:
            st.markdown(which.capitalize())
            seen = attention_map(trace, focus, key=f"steering-map-{which}", max_height=380)
            taking.map_bar(
                trace,
                focus,
                seen,
                name=which,
                lines=lines.map_lines(selection(), subject, steered=trace is steered),
                key=f"steering-map-{which}",
            )
    own = "" if subject.heads is None or head in subject.heads else "It is not steered itself."
    say.caption(
        "Rows are queries, columns are keys; colour is attention after the softmax, on one scale for both.",
        own,
        "It shows where the head looks, not what that does to the prediction.",
    )
