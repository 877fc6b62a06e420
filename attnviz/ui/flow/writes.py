"""What writes it: each part's direct share of the logits, and what the model would say after each layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.errors import InputError, Unsupported
from attnviz.export import about
from attnviz.figures.attribution import attribution_bars, attribution_map, head_scores, lens_map
from attnviz.figures.labels import model_words, run_words
from attnviz.figures.palette import Theme
from attnviz.text import visible
from attnviz.ui import say, views
from attnviz.ui.export import export_bar
from attnviz.ui.flow import finding, picked
from attnviz.ui.flow.lines import attribution_lines, lens_lines
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.flow.target import Subject, goal_words
from attnviz.ui.focus import Focus
from attnviz.ui.head_map import head_matrix, round_up, signed
from attnviz.ui.notebook.offering_flow import keep_flow
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_LIKELIEST = 5  # tokens a layer
_NUMBERS = {"probability": st.column_config.NumberColumn(format="%.4f")}


def writes_view(subject: Subject, focus: Focus) -> None:
    """Heads as a map, layers as bars; what the selected head promotes; then the logit lens."""
    if subject.target is None or not subject.trace.info.has_vocabulary:
        say.caption(
            f"{subject.trace.info.name} predicts no tokens, so nothing is written to a logit."
            if not subject.trace.info.has_vocabulary
            else subject.lacking,
            "The graph and the methods hold here.",
        )
        return
    try:
        found = finding.attribution_for(subject)
        lens, answer = finding.lens_for(subject)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    _parts(subject, focus, found)
    _lens(subject, lens, answer)


def _parts(subject: Subject, focus: Focus, found: finding.Written) -> None:
    left, right = st.columns(2, gap="medium")
    sites = [site for site in subject.trace.info.sites if (found.parts["site"] == site).any()]
    look, title = theme(), f"What writes the {found.title}"
    with left:
        st.markdown("**What each head writes directly**")
        site = focus.head.site if focus.head.site in sites else sites[-1]
        views.site_picker(subject.trace.info, site, sites=sites, key="flow-site")
        _heads(subject, focus, found, site)
    with right:
        st.markdown("**What each layer writes**")
        show_figure(attribution_bars(found.parts, theme=look, title=""), "flow-parts")
    other = "the token it is compared with" if selection().foil is not None else "the mean of all tokens"
    say.caption(
        f"Explained: {found.title}. All parts together come to {found.total:.4f} logits.",
        f"{run_words(subject.trace).capitalize()} of {model_words(subject.trace.info)}.",
        f"In the grid blue heads raise the answer above {other}, orange heads lower it.",
        "The bars add the same up by layer: their colours tell heads from feed-forward blocks, and what stands below "
        "zero lowers the answer. “Other” is the token's embedding, at emb., "
        "and the biases.",
        "Each part is counted for what it writes to the logits itself. What later layers make of it is not counted, "
        "and it does not say what would happen without the part.",
        "Norms are held at the scale that they had in this run.",
    )

    def figure(scheme: Theme = look) -> go.Figure:
        return attribution_map(found.parts, site=site, theme=scheme, title=title)

    python = attribution_lines(selection(), subject, site)
    with st.container(horizontal=True):
        export_bar(
            "logit attribution",
            figure,
            lambda: found.parts,
            python,
            about=about(subject.trace) | {"explained": found.title, "total_logits": found.total},
            key="flow-attribution",
            caption="What each part writes straight to the logits, not what would happen without it.",
        )
        keep_flow(
            subject,
            focus,
            figure=lambda: figure("light"),
            lines=python,
            otherwise="what heads write to the logits is no share of a word, and a finding measures such shares.",
        )
    picked.promoted(subject, focus)


def _heads(subject: Subject, focus: Focus, found: finding.Written, site: str) -> None:
    scores = head_scores(found.parts, site)
    most = round_up(float(np.nanmax(np.abs(scores), initial=0.0)), limit=np.inf)
    head = focus.head
    own = (head.site or site) == site and head.layer < scores.shape[0] and head.head < scores.shape[1]
    place = {"query": subject.goal} if site != "encoder" else {}
    named = {"site": site} if len(subject.trace.info.sites) > 1 else {}
    head_matrix(
        scores,
        head if own else None,
        key="flow-attribution",
        what="What every head writes to the logits",
        purpose="Pick one to select it.",
        value_name="logits",
        colours=signed(most),
        title=f"What each head writes, {found.title}, {subject.trace.info.name}",
        file_name="logit-attribution",
        on_pick=lambda layer, index: select(**named, layer=layer, head=index, **place),
    )


def _lens(subject: Subject, lens: pd.DataFrame, answer: int) -> None:
    look, title = theme(), f"The logit lens at {goal_words(subject)}, {subject.trace.info.name}"
    st.markdown("**What the model would say after each layer**")
    st.dataframe(_by_layer(lens, answer), hide_index=True, key="flow-lens", height=420, column_config=_NUMBERS)
    say.caption(
        f"The logit lens at {goal_words(subject)}: the state after each layer, put through the final norm and the "
        "output projection as if it were the last; the likeliest tokens with their probabilities, and the answer "
        f"{visible(subject.trace.decode(answer))}.",
        "It shows what could be read off there, not what the model uses; early layers are often not in the output's "
        "terms at all.",
    )
    export_bar(
        "logit lens",
        lambda: lens_map(lens, theme=look, title=title),
        lambda: lens,
        lens_lines(selection(), subject, answer),
        about=about(subject.trace) | {"query": subject.goal},
        key="flow-lens",
    )


def _by_layer(lens: pd.DataFrame, answer: int) -> pd.DataFrame:
    """A row for each layer: its likeliest tokens, and the answer's rank and probability."""
    rows = []
    for layer in sorted(set(lens["layer"]), reverse=True):
        own = lens[lens["layer"] == layer]
        likely = own[own["rank"] <= _LIKELIEST].sort_values("rank")
        its = own[own["token_id"] == answer].iloc[0]
        row: dict[str, Any] = {"layer": "embeddings" if layer < 0 else str(layer)}
        row |= {
            str(rank): f"{visible(str(token)) or '␣'} {chance:.2f}"
            for rank, token, chance in zip(likely["rank"], likely["token"], likely["probability"], strict=True)
        }
        rows.append(row | {"answer's rank": int(its["rank"]), "probability": float(its["probability"])})
    return pd.DataFrame(rows)
