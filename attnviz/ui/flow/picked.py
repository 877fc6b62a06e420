"""One edge taken apart: its heads by contribution, attention beside it, and what the selected head promotes."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from attnviz.edits import Head
from attnviz.errors import AttnvizError
from attnviz.export import about
from attnviz.figures.flow import bars
from attnviz.figures.labels import SITE_WORDS, head_words
from attnviz.text import visible
from attnviz.ui import say
from attnviz.ui.export import export_bar
from attnviz.ui.flow import finding
from attnviz.ui.flow.lines import edge_lines
from attnviz.ui.flow.target import Subject
from attnviz.ui.selection import Focus
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_CHIPS = 12  # heads that can be picked by name, the strongest first


def edge_view(subject: Subject, focus: Focus) -> None:
    """The selected query and key in the selected layer: its heads, and the way to the selected head's map."""
    trace, head = subject.trace, focus.head
    site = trace.info.site(head.site)
    queries, keys = trace.axes(head.site)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Heads of the edge: {say.plain(edge_words(subject, focus))}**")
        if st.button("Open in Explore", icon=":material/visibility:", key="open-explore", type="tertiary"):
            st.switch_page("pages/explore.py")
    heads, reason = finding.heads_for(subject, site, head.layer, focus.query, focus.key)
    strongest = "attention" if "contribution" not in heads else "contribution"
    order = heads.sort_values(strongest, ascending=False, kind="stable", ignore_index=True)
    _pick(order, head)
    left, right = st.columns([4, 3], gap="medium")
    with left:
        st.dataframe(order, hide_index=True, key="flow-heads", column_config=_columns(order))
        say.caption(
            f"Heads of layer {head.layer}, {SITE_WORDS[site]}, by {strongest}: query {focus.query} "
            f"“{queries[focus.query].text}” and key {focus.key} “{keys[focus.key].text}”.",
            f"Attention alone: {reason}"
            if reason
            else "Attention is how much of the key's value the head reads; "
            "contribution is the length of what it then writes. A head may attend much and write little.",
        )
        look, title = theme(), f"Heads of {edge_words(subject, focus)}"
        names = [f"H{index}" for index in order["head"]]
        columns = {name: order[name].to_numpy() for name in order.columns if name != "head"}
        export_bar(
            "edge heads",
            lambda: bars(names, columns, theme=look, title=title),
            lambda: order,
            edge_lines(selection(), subject, focus, plain=bool(reason)),
            about=about(trace, head=head) | {"query": focus.query, "key": focus.key},
            key="flow-heads",
        )
    with right:
        promoted(subject, focus)


def edge_words(subject: Subject, focus: Focus) -> str:
    """L5: query 9 ␣gave ← key 3 ␣John."""
    queries, keys = subject.trace.axes(focus.head.site)
    several = len(subject.trace.info.sites) > 1
    layer = f"L{focus.head.layer}" + (f", {SITE_WORDS[subject.trace.info.site(focus.head.site)]}" if several else "")
    return f"{layer}: query {focus.query} {queries[focus.query].text} ← key {focus.key} {keys[focus.key].text}"


def _pick(order: pd.DataFrame, head: Head) -> None:
    shown = [int(index) for index in order["head"][:_CHIPS]]
    shown += [head.head] if head.head not in shown else []
    st.session_state["flow-head"] = head.head

    def chose() -> None:
        chosen = st.session_state["flow-head"]
        if chosen is not None:
            select(head=chosen)

    st.pills(
        "Head, the strongest first",
        shown,
        key="flow-head",
        format_func=lambda index: f"L{head.layer}H{index}",
        on_change=chose,
    )


def _columns(order: pd.DataFrame) -> dict[str, Any]:
    config = {}
    for name in order.columns:
        if name != "head":
            most = float(order[name].max()) or 1.0
            config[name] = st.column_config.ProgressColumn(min_value=0, max_value=most, format="%.4f")
    return config


def promoted(subject: Subject, focus: Focus) -> None:
    """What the selected head's output at its query speaks for and against, of all tokens."""
    head, trace = focus.head, subject.trace
    if not trace.info.has_vocabulary or subject.model is None:
        return
    st.markdown(f"**What {head_words(trace, head)} promotes and suppresses**")
    if trace.info.site(head.site) == "encoder" and trace.info.family == "encoder-decoder":
        say.caption("The encoder's heads write to no logit themselves: the decoder reads them.")
        return
    try:
        found = finding.promoted_for(subject, head, focus.query)
    except AttnvizError as error:
        say.caption(str(error))
        return
    st.dataframe(_both_ways(found), hide_index=True, key="flow-promoted", height=390)
    say.caption(
        f"What its whole output at query {focus.query} “{trace.tokens[focus.query].text}” adds to each token's logit "
        "directly, the norm held as it was. Later layers may turn it round.",
    )


def _both_ways(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each rank: the token that is promoted there, and the one that is suppressed."""
    columns = {}
    for direction, logits in (("promotes", "logits"), ("suppresses", "logits ")):
        own = found[found["direction"] == direction].sort_values("rank")
        columns[direction] = [visible(str(token)) or "␣" for token in own["token"]]
        columns[logits] = own["logits"].tolist()
    return pd.DataFrame(columns)
