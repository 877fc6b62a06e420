"""Lines between two columns of tokens, as a Plotly figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from attnviz.edits import Head
from attnviz.figures.drawing import INK, PAPER
from attnviz.figures.labels import head_words, model_words, plain, run_words, sink_words, unit_words
from attnviz.figures.palette import CATEGORICAL, Theme
from attnviz.heads import TOKENS
from attnviz.lines import Edges
from attnviz.trace import Trace
from attnviz.view import View

_LEVELS = 6  # of opacity and width: a trace for each head and level, not for each line
_NAMED = 8
_MOST_TICKS = 60
_ROW_PIXELS = 22


def heads_words(trace: Trace, heads: Sequence[Head]) -> str:
    """Which heads, and of which attention where a model has several; a long list is cut."""
    names = [f"L{head.layer}H{head.head}" for head in heads]
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return head_words(trace, heads[0]).replace(names[0], listed, 1)


def attention_lines(trace: Trace, edges: Edges, *, view: View = TOKENS, theme: Theme = "light") -> go.Figure:
    """Queries on the left, keys on the right, and the given edges between them, a colour a head.

    edges    of `attnviz.lines.strongest_edges`, of this trace
    view     the one they were found with: it gives the words for units and sinks
    A stronger edge is wider and less transparent, the strongest sets the scale; the hover gives each one's attention.
    It shows where the heads look, not what that does: compare an edited run.
    """
    colours = CATEGORICAL[theme]
    levels = np.zeros(0, np.int64)
    if len(edges):
        levels = np.ceil(_LEVELS * np.sqrt(edges.weight / edges.weight[0])).astype(np.int64).clip(1)
    figure = go.Figure()
    for place, head in enumerate(edges.heads):
        name, first = f"L{head.layer}H{head.head}", True
        for level in range(1, _LEVELS + 1):
            chosen = (levels == level) & (edges.head == place)
            if chosen.any():
                figure.add_trace(_lines(edges, chosen, name, colours[place % len(colours)], level / _LEVELS, first))
                first = False
    _column(figure, "yaxis", "query", edges.queries.labels)
    # An axis without a trace of its own is not drawn.
    figure.add_trace(
        go.Scatter(x=[1], y=[0], yaxis="y2", mode="markers", opacity=0, showlegend=False, hoverinfo="skip")
    )
    _column(figure, "yaxis2", "key", edges.keys.labels)
    notes = [unit_words(view), sink_words(view, trace, edges.heads[0].site, edges.taken)]
    subtitles = [f"{model_words(trace.info)} · {_held_words(edges)}", *filter(None, notes)]
    figure.update_layout(
        title={
            "text": plain(f"Attention of {heads_words(trace, edges.heads)}, {run_words(trace)}"),
            "subtitle": {"text": "<br>".join(map(plain, subtitles))},
        },
        xaxis={"visible": False, "range": [0, 1], "fixedrange": True},
        yaxis2={"overlaying": "y", "side": "right"},
        height=int(np.clip(140 + _ROW_PIXELS * max(len(edges.queries), len(edges.keys)), 320, 1400)),
        paper_bgcolor=PAPER[theme],
        plot_bgcolor=PAPER[theme],
        font={"color": INK[theme]},
        margin={"l": 110, "r": 110, "t": 74 + 16 * len(subtitles), "b": 30},
        legend={"orientation": "h", "y": -0.02},
    )
    return figure


def _lines(edges: Edges, chosen: np.ndarray, name: str, colour: str, share: float, legend: bool) -> go.Scatter:
    """One head's lines of one level, with gaps between them."""
    query, key, weight = edges.query[chosen], edges.key[chosen], edges.weight[chosen]
    count = len(weight)
    x = np.tile(np.array([0.0, 1.0, np.nan]), count)
    y = np.stack([query, key, np.full(count, np.nan)], axis=1).ravel()
    queries, keys = ([plain(text, 24) for text in units.labels] for units in (edges.queries, edges.keys))
    words = [f"query {q} {queries[q]} → key {k} {keys[k]}" for q, k in zip(query, key, strict=True)]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        opacity=0.1 + 0.75 * share**2,
        line={"color": colour, "width": 0.6 + 2.2 * share},
        text=np.repeat(np.array(words, dtype=object), 3),
        customdata=np.repeat(weight, 3),
        hovertemplate="%{text}<br>attention %{customdata:.4f}<extra>" + name + "</extra>",
    )


def _column(figure: go.Figure, axis: str, title: str, labels: Sequence[str]) -> None:
    step = -(-len(labels) // _MOST_TICKS)
    positions = list(range(0, len(labels), step))
    figure.update_layout(
        {
            axis: {
                "title": title,
                "tickvals": positions,
                "ticktext": [plain(labels[i], 16) for i in positions],
                "range": [len(labels) - 0.5, -0.5],
                "showgrid": False,
                "zeroline": False,
            }
        }
    )


def _held_words(edges: Edges) -> str:
    of = "" if edges.one is None else f" of query {edges.one}"
    return f"{len(edges):,} of {edges.n_all:,} lines{of}, holding {edges.held:.1%} of the attention"
