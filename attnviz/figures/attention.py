"""Pictures of attention, as Plotly figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from attnviz.edits import Head
from attnviz.errors import ShapeError
from attnviz.figures.labels import head_words, model_words, plain, run_words, token_ticks
from attnviz.figures.palette import Theme, colorscale
from attnviz.info import ModelInfo
from attnviz.trace import Trace

_PAPER = {"light": "#ffffff", "dark": "#0e1117"}
_INK = {"light": "#1c2030", "dark": "#e6e9f2"}


def attention_map(trace: Trace, head: Head, *, theme: Theme = "light") -> go.Figure:
    """One head's pattern: query tokens down, key tokens across, attention (share of 1) as colour.

    The colour runs with the square root of the weight, so that small weights can be seen; the hover gives the weight.
    It shows where the head looks, not what that does: compare an edited run.

    raises   HeadError for a head that the trace does not have
    """
    weights = trace.pattern(head.layer, head.head, head.site).numpy()
    queries, keys = trace.axes(head.site)
    ends = np.array([0.0, 0.01, 0.05, 0.25, 1.0])
    figure = go.Figure(
        go.Heatmap(
            z=np.sqrt(weights),
            customdata=weights,
            zmin=0,
            zmax=1,
            colorscale=colorscale(theme),
            colorbar={"title": "attention", "tickvals": np.sqrt(ends), "ticktext": [f"{x:g}" for x in ends]},
            text=None,
            hovertemplate="query %{y} · key %{x}<br>attention %{customdata:.4f}<extra></extra>",
        )
    )
    _axes(figure, "xaxis", "key", *token_ticks(keys))
    _axes(figure, "yaxis", "query", *token_ticks(queries))
    title = f"Attention of {head_words(trace, head)}, {run_words(trace)}"
    return _framed(figure, title, model_words(trace.info), theme)


def head_grid(
    scores: np.ndarray, info: ModelInfo, name: str, *, theme: Theme = "light", high: float = 1.0
) -> go.Figure:
    """A score of every head, layers down and heads across; NaN (no head) stays empty.

    scores   [layer, head]
    name     what the score is, with its unit, for title and colour bar
    raises   ShapeError for another number of axes
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ShapeError(f"head_grid takes scores of shape [layer, head]; got {scores.shape}.")
    figure = go.Figure(
        go.Heatmap(
            z=scores,
            zmin=0,
            zmax=high,
            colorscale=colorscale(theme),
            colorbar={"title": plain(name)},
            hovertemplate="L%{y}H%{x}<br>%{z:.4f}<extra></extra>",
        )
    )
    _axes(figure, "xaxis", "head", list(range(scores.shape[1])), [str(i) for i in range(scores.shape[1])])
    _axes(figure, "yaxis", "layer", list(range(scores.shape[0])), [str(i) for i in range(scores.shape[0])])
    return _framed(figure, f"{name} of every head", model_words(info), theme)


def _axes(figure: go.Figure, axis: str, title: str, positions: list[int], labels: list[str]) -> None:
    options: dict[str, Any] = {"title": title, "tickvals": positions, "ticktext": labels, "constrain": "domain"}
    if axis == "yaxis":
        options |= {"autorange": "reversed", "scaleanchor": "x"} if len(positions) > 1 else {"autorange": "reversed"}
    figure.update_layout({axis: options | {"showgrid": False, "zeroline": False}})


def _framed(figure: go.Figure, title: str, subtitle: str, theme: Theme) -> go.Figure:
    figure.update_layout(
        title={"text": plain(title), "subtitle": {"text": plain(subtitle)}},
        paper_bgcolor=_PAPER[theme],
        plot_bgcolor=_PAPER[theme],
        font={"color": _INK[theme]},
        margin={"l": 90, "r": 20, "t": 80, "b": 90},
    )
    return figure
