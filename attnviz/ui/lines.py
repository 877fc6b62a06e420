"""The pieces of the Lines page: which heads, what share of their attention, and the lines."""

from __future__ import annotations

from typing import cast

import plotly.graph_objects as go
import streamlit as st

from attnviz.edits import Head
from attnviz.export import about
from attnviz.figures.labels import model_words, run_words, sink_words, unit_words
from attnviz.figures.lines import attention_lines, heads_words
from attnviz.figures.palette import Theme
from attnviz.findings import EdgeAt
from attnviz.heads import Scores
from attnviz.lines import MOST_EDGES, Edges, strongest_edges
from attnviz.settings import settings
from attnviz.trace import Trace
from attnviz.ui import say, views, work
from attnviz.ui.components.lines import lines as lines_component
from attnviz.ui.export import export_bar
from attnviz.ui.focus import Focus
from attnviz.ui.jobs import Job
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.notebook.viewing import LINES_ONE
from attnviz.ui.pickers import held, share_slider
from attnviz.ui.python_lines import lines_lines
from attnviz.ui.session import select, selection, text_of
from attnviz.ui.theme import theme


def head_chooser(trace: Trace, focus: Focus, scores: Scores) -> None:
    """Every head, coloured by the chosen score; a click takes one in or out. Below, what was chosen."""
    views.score_grid(
        trace,
        scores,
        selection().score,
        focus,
        purpose="Pick one to draw its lines too, or to leave them out again.",
        max_height=330,
        on_pick=lambda layer, head: _toggle(focus, Head(layer, head, focus.head.site)),
    )
    head, layer = focus.head, focus.head.layer
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            f"Only {_name(head)}",
            key="lines-only",
            on_click=lambda: _choose((head,)),
            disabled=focus.heads == (head,),
        )
        mates = tuple(Head(layer, i, head.site) for i in range(trace.layer(layer, head.site).n_heads))
        st.button(
            f"All of layer {layer}",
            key="lines-layer",
            on_click=lambda: _choose(mates),
            disabled=focus.heads == mates,
        )
    with st.container(horizontal=True, gap="small"):
        for one in focus.heads:
            st.button(
                _name(one),
                key=f"lines-chip-{_name(one)}",
                icon=":material/close:",
                help="Leave this head out",
                on_click=_toggle,
                args=(focus, one),
                disabled=len(focus.heads) == 1,
            )


def _name(head: Head) -> str:
    return f"L{head.layer}H{head.head}"


def _choose(heads: tuple[Head, ...]) -> None:
    select(heads=tuple((head.layer, head.head) for head in heads))


def _toggle(focus: Focus, head: Head) -> None:
    """Take a head in, which then is the selected one, or out, unless it is the last."""
    left = tuple(other for other in focus.heads if other != head)
    if len(left) == len(focus.heads):
        _choose((*left, head))
        select(layer=head.layer, head=head.head)
    elif left:
        _choose(left)


def share_controls(focus: Focus) -> bool:
    """How much of the attention the lines hold, and whether of the selected query alone; returns the latter."""
    left, right = st.columns([3, 2], vertical_alignment="center", gap="medium")
    with left:
        words = "The fewest lines are drawn that hold this share of the attention of all chosen heads together."
        share_slider("Attention that the lines hold", key="lines-share", help=words)
    hold = held(LINES_ONE, False, key="lines-one")
    return right.toggle("Only the selected query", key="lines-one", on_change=hold)


def edges_of(trace: Trace, focus: Focus, one: bool) -> Edges:
    """The edges to draw. All that could be drawn are kept, so that the slider costs nothing."""
    chosen, query = selection(), focus.query if one else None
    name = chosen.model or settings().default_model
    texts = (work.digest(trace.text), work.digest(trace.source_text))
    key = (name, "lines", *texts, chosen.text, chosen.chat, focus.heads, query, focus.view)

    def find(job: Job) -> Edges:
        job.report("going through the heads", 0.0)
        return strongest_edges(trace, focus.heads, query=query, share=1.0, view=focus.view, progress=job.step)

    return cast(Edges, work.once(key, "Finding the strongest lines", find)).holding(chosen.share)


def picture(trace: Trace, focus: Focus, edges: Edges) -> None:
    """The lines; a click on a token selects it."""
    lines_component(
        edges,
        key="lines",
        heads=[_name(head) for head in focus.heads],
        selected=(edges.queries.at(focus.query), edges.keys.at(focus.key)),
        label="Queries on the left, keys on the right, and the strongest lines between them. Pick a token to make it "
        "the query or the key.",
        title=f"Attention of {heads_words(trace, focus.heads)}, {run_words(trace)}, {trace.info.name}",
        file_name="attention-lines",
        # As query its last token, after which the model predicts; as key its first.
        on_query=lambda unit: select(query=edges.queries.edges[unit + 1] - 1),
        on_key=lambda unit: select(key=edges.keys.edges[unit]),
    )


def caption(trace: Trace, focus: Focus, edges: Edges) -> None:
    """How many lines of how many, what they hold, of which run; and what they do not show."""
    units = focus.view.unit + "s"
    of = f"query {edges.one} “{edges.queries.labels[edges.one]}”" if edges.one is not None else f"all query {units}"
    share, together = selection().share, " together" if len(focus.heads) > 1 else ""
    attention = f"the attention of {heads_words(trace, focus.heads)}{together}"
    full = len(edges) == MOST_EDGES and edges.held < share - 1e-6
    chosen = (
        f"the strongest, more than that are not drawn; they hold {edges.held:.1%} of {attention}"
        if full
        else f"the fewest that hold {share:.0%} of {attention}, to be exact {edges.held:.1%}"
    )
    say.caption(
        f"{len(edges):,} of {edges.n_all:,} lines, for {of}: {chosen}; {run_words(trace)} of "
        f"{model_words(trace.info)}.",
        "Queries are on the left, keys on the right; a stronger line is darker and wider, the strongest drawn one "
        "sets the scale.",
        unit_words(focus.view),
        sink_words(focus.view, trace, focus.head.site, edges.taken),
        *["Each row is the step that reads its token and writes the next one."]
        * (focus.head.site in ("decoder", "cross")),
        "A line that is missing is weak, not absent; and lines show where heads look, not what that does to the "
        "prediction.",
    )


def take_along(trace: Trace, focus: Focus, edges: Edges) -> None:
    """The lines as a file, as a table and as Python."""
    chosen, look = selection(), theme()

    def figure(scheme: Theme = look) -> go.Figure:
        return attention_lines(trace, edges, view=focus.view, theme=scheme)

    python = lines_lines(chosen, focus, text_of(chosen.text), text_of(chosen.other), one=edges.one is not None)
    facts = about(trace, view=focus.view) | {
        "site": trace.info.site(focus.head.site),
        "heads": [_name(head) for head in focus.heads],
        "share": chosen.share,
        "query": "all" if edges.one is None else edges.one,
    }
    with st.container(horizontal=True):
        export_bar("lines", figure, edges.frame, python, rows=len(edges), about=facts)
        keep_this(
            "Lines",
            heads=focus.heads,
            edges=[EdgeAt(query=focus.query, key=focus.key)],
            figure=lambda: figure("light"),
            lines=python,
            also_seen=[trace.text] if trace.text != text_of(chosen.text) else (),
        )
