"""One edge taken apart: its heads by contribution, attention beside it, and what the selected head promotes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd
import streamlit as st

from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.export import about
from attnviz.figures.flow import bars
from attnviz.figures.labels import SITE_WORDS, head_words
from attnviz.text import visible
from attnviz.ui import say
from attnviz.ui.export import export_bar
from attnviz.ui.flow.edge import TO_TARGET, Edge, heads_for, promoted_for
from attnviz.ui.flow.lines import edge_lines
from attnviz.ui.flow.target import Subject
from attnviz.ui.focus import Focus
from attnviz.ui.pickers import held, segments
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_CHIPS = 12  # heads that can be picked by name, the strongest first
_WHOLE = "attnviz_flow_whole_head"


def edge_view(subject: Subject, focus: Focus, *, drawn: bool = True) -> None:
    """The selected query and key in the selected layer: its heads, and the way to the selected head's map.

    drawn   whether the picture above has this edge
    """
    trace, head = subject.trace, focus.head
    edge = Edge.of(subject, focus)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**Heads of the edge: {say.plain(edge_words(subject, edge))}**")
        if not drawn:
            st.markdown(":small[not among those drawn: click one that is]")
        if st.button("Open in Explore", icon=":material/visibility:", key="open-explore", type="tertiary"):
            st.switch_page("pages/explore.py")
    heads, reason = heads_for(subject, edge)
    strongest = "attention" if "contribution" not in heads else "contribution"
    order = heads.sort_values(strongest, ascending=False, kind="stable", ignore_index=True)
    _pick(order, head)
    left, right = st.columns([4, 3], gap="medium")
    with left:
        st.dataframe(order, hide_index=True, key="flow-heads", column_config=_columns(order))
        say.caption(
            f"Heads of layer {edge.layer}, {SITE_WORDS[edge.site]}, by {strongest}: {edge.query_words} and "
            f"{edge.key_words}.",
            ""
            if edge.single
            else f"Over all tokens of both {subject.view.unit}s: summed over the keys, then the mean over the queries.",
            f"Attention alone: {reason}" if reason else _COLUMN_WORDS,
            "" if reason else _target_words(subject, edge, order.columns),
        )
        look, title = theme(), f"Heads of {edge_words(subject, edge)}"
        names = [f"H{index}" for index in order["head"]]
        columns = {name: order[name].to_numpy() for name in order.columns if name != "head"}
        export_bar(
            "edge heads",
            lambda: bars(names, columns, theme=look, title=title),
            lambda: order,
            edge_lines(selection(), subject, edge, measured=tuple(order.columns)),
            about=about(trace, head=head) | {"queries": list(range(*edge.queries)), "keys": list(range(*edge.keys))},
            key="flow-heads",
        )
    with right:
        promoted(subject, focus, edge)


_COLUMN_WORDS = (
    "Attention is how much of the key's value the head reads. Contribution is the length of what it then writes, so a "
    "head may attend much and write little. Proximity is its share of the query's new state."
)


def _target_words(subject: Subject, edge: Edge, measured: Collection[str]) -> str:
    """What the last column is; or for which edges there is one."""
    if TO_TARGET not in measured:
        named = subject.target is not None and subject.trace.info.has_vocabulary
        return f"Edges into token {subject.goal} also say what each head writes to the target." if named else ""
    several = edge.queries[1] - edge.queries[0] > 1
    return (
        f"To the target: what the head's part along this edge{f' at token {subject.goal}' * several} adds to the "
        "answer's logit directly, above that of "
        + ("the token it is compared with." if selection().foil is not None else "the mean token.")
        + " What later layers make of it is not counted."
    )


def edge_words(subject: Subject, edge: Edge) -> str:
    """L5: query 9 ␣gave ← key 3 ␣John."""
    several = len(subject.trace.info.sites) > 1
    return f"L{edge.layer}{f', {SITE_WORDS[edge.site]}' * several}: " + edge.title


def _pick(order: pd.DataFrame, head: Head) -> None:
    shown = [int(index) for index in order["head"][:_CHIPS]]
    shown += [head.head] if head.head not in shown else []
    segments(
        "Head, the strongest first",
        shown,
        head.head,
        key="flow-head",
        use=lambda index: select(head=index),
        words=lambda index: f"L{head.layer}H{index}",
        apart=True,
    )


def _columns(order: pd.DataFrame) -> dict[str, Any]:
    config = {}
    for name in order.columns:
        if name == "head":
            config[name] = st.column_config.NumberColumn(width=52)
        elif name == TO_TARGET:
            config[name] = st.column_config.NumberColumn(format="%+.4f", width=92)
        else:
            most = float(order[name].max()) or 1.0
            config[name] = st.column_config.ProgressColumn(min_value=0, max_value=most, format="%.4f", width=122)
    return config


def promoted(subject: Subject, focus: Focus, edge: Edge | None = None) -> None:
    """What the selected head's output at its query speaks for and against, of all tokens.

    edge   what it moves along this edge alone, with a switch to its whole output; None: its whole output
    """
    head, trace = focus.head, subject.trace
    if not trace.info.has_vocabulary or subject.model is None:
        return
    st.markdown(f"**What {head_words(trace, head)} promotes and suppresses**")
    if trace.info.site(head.site) == "encoder" and trace.info.family == "encoder-decoder":
        say.caption("The encoder's heads write to no logit themselves: the decoder reads them.")
        return
    alone = edge is not None and not _whole_head()
    try:
        found = promoted_for(subject, head, focus.query, edge.keys if edge is not None and alone else None)
    except (InputError, Unsupported) as error:
        say.caption(str(error))
        return
    st.dataframe(_both_ways(found), hide_index=True, key="flow-promoted", height=390)
    query = f"query {focus.query} “{trace.tokens[focus.query].text}”"
    what = (
        f"What the head takes from {edge.key_words} and writes at {query}"
        if edge is not None and alone
        else f"What the head writes at {query}, from all keys together"
    )
    say.caption(
        f"{what}: the logits that this adds to each token directly, the norm held as it was.",
        "Later layers may turn it round.",
    )


def _whole_head() -> bool:
    return st.toggle(
        "The head's whole output",
        key="flow-whole-head",
        on_change=held(_WHOLE, False, key="flow-whole-head"),
        help="Off: only what the head moves along this edge. On: what it writes at the query, from all keys.",
    )


def _both_ways(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each rank: the token that is promoted there, and the one that is suppressed."""
    columns = {}
    for direction, logits in (("promotes", "logits"), ("suppresses", "logits ")):
        own = found[found["direction"] == direction].sort_values("rank")
        columns[direction] = [visible(str(token)) or "␣" for token in own["token"]]
        columns[logits] = own["logits"].tolist()
    return pd.DataFrame(columns)
