"""Pictures of attention, as Plotly figures."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from attnviz.edits import Head
from attnviz.errors import InputError, ShapeError
from attnviz.figures.drawing import MOST_CELLS, NO_VALUE, TICKS, Scale, axes, end_words, framed, middles, scaled
from attnviz.figures.labels import (
    head_words,
    model_words,
    plain,
    pooled_words,
    run_words,
    sink_words,
    ticks,
    unit_words,
)
from attnviz.figures.palette import SEQUENTIAL, Palette, Theme, colorscale
from attnviz.figures.pooling import block_of, largest_of_blocks
from attnviz.info import ModelInfo
from attnviz.trace import Trace, checked_position
from attnviz.view import View

Window = tuple[int, int, int, int]

_AS_IT_IS = View()


def attention_map(
    trace: Trace,
    head: Head,
    *,
    view: View = _AS_IT_IS,
    window: Window | None = None,
    scale: Scale = "sqrt",
    palette: Palette = "indigo",
    theme: Theme = "light",
) -> go.Figure:
    """One head's pattern: queries down, keys across, attention (share of 1) as colour; the hover gives the weight.

    view     how the pattern is read; keys that were taken away are grey
    window   the part to draw, (row, row, column, column), half-open, in units of the view; None for all
    scale    of the colours: "sqrt", so that small weights can be seen, "linear", or "log" from 0.0001
    raises   HeadError for a head that the trace does not have; InputError for a window outside the map or another scale

    Above 512 units a side a cell is the largest of a block, and the subtitle says so. It shows where the head looks,
    not what that does: compare an edited run.
    """
    if scale not in TICKS:
        raise InputError(f"scale is one of {', '.join(get_args(Scale))}; got {scale!r}.")
    seen = view.pattern(trace, head)
    row, below, col, right = _inside(window, (len(seen.queries), len(seen.keys)))
    weights = seen.shown()[row:below, col:right]
    block = block_of((below - row, right - col), MOST_CELLS)
    cells = largest_of_blocks(weights, block)
    ends = np.array(TICKS[scale])
    pooled = "largest attention" if block != (1, 1) else "attention"
    figure = go.Figure(
        go.Heatmap(
            z=scaled(cells, scale),
            customdata=cells,
            x=middles(range(col, right), block[1]),
            y=middles(range(row, below), block[0]),
            zmin=float(scaled(np.zeros(1), scale)[0]),
            zmax=float(scaled(np.ones(1), scale)[0]),
            colorscale=colorscale(theme, palette),
            colorbar={"title": pooled, "tickvals": scaled(ends, scale), "ticktext": end_words(ends, scale)},
            hoverongaps=False,
            hovertemplate=f"query %{{y}} · key %{{x}}<br>{pooled} %{{customdata:.4f}}<extra></extra>",
        )
    )
    axes(figure, "xaxis", "key", *ticks(seen.keys.labels, range(col, right)))
    axes(figure, "yaxis", "query", *ticks(seen.queries.labels, range(row, below)))
    taken = seen.taken[row:below]
    notes = [sink_words(view, trace, head.site, taken), unit_words(view), pooled_words(block)]
    notes += ["Grey: taken away."] * bool(np.isnan(cells).any())
    title = f"Attention of {head_words(trace, head)}, {run_words(trace)}"
    framed(figure, title, (model_words(trace.info), *notes), theme)
    return figure.update_layout(plot_bgcolor=NO_VALUE[theme]) if np.isnan(cells).any() else figure


def attention_row(
    trace: Trace,
    head: Head,
    query: int,
    *,
    view: View = _AS_IT_IS,
    theme: Theme = "light",
) -> go.Figure:
    """One query's attention in one head: keys across, a bar for each weight (share of 1).

    query    position of a token, negative from the end; in words and sentences, the row of the unit it belongs to
    view     how the pattern is read; keys that were taken away have no bar
    raises   HeadError for a head that the trace does not have; InputError for a query outside the text
    """
    query = checked_position(query, len(trace.axes(head.site)[0]), "query")
    seen = view.row(trace, head, query)
    names = [plain(label, 40) for label in seen.keys.labels]
    figure = go.Figure(
        go.Bar(
            x=np.arange(len(names)),
            y=seen.shown()[0],
            customdata=names,
            marker={"color": SEQUENTIAL[theme][4], "line": {"width": 0}},
            hovertemplate="key %{x} %{customdata}<br>attention %{y:.4f}<extra></extra>",
        )
    )
    axes(figure, "xaxis", "key", *ticks(seen.keys.labels))
    figure.update_yaxes(title="attention (share of 1)", rangemode="tozero", gridcolor=NO_VALUE[theme])
    words = f"Attention that {view.unit} {view.axes(trace, head.site)[0].at(query)} “{seen.queries.labels[0]}” pays"
    title = f"{words} in {head_words(trace, head)}, {run_words(trace)}"
    notes = [sink_words(view, trace, head.site, seen.taken), unit_words(view)]
    return framed(figure, title, (model_words(trace.info), *notes), theme)


def head_grid(
    scores: npt.NDArray[np.floating],
    info: ModelInfo,
    name: str,
    *,
    palette: Palette = "indigo",
    theme: Theme = "light",
    high: float | None = 1.0,
) -> go.Figure:
    """A score of every head, layers down and heads across; NaN (no head) stays empty.

    scores   [layer, head]
    name     what the score is, with its unit, for title and colour bar
    high     where the colours end; None for the largest score
    raises   ShapeError for another number of axes
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ShapeError(f"head_grid takes scores of shape [layer, head]; got {scores.shape}.")
    figure = go.Figure(
        go.Heatmap(
            z=scores,
            zmin=0,
            zmax=high if high is not None else float(np.max(scores, where=np.isfinite(scores), initial=0)) or 1.0,
            colorscale=colorscale(theme, palette),
            colorbar={"title": plain(name)},
            hovertemplate="L%{y}H%{x}<br>%{z:.4f}<extra></extra>",
        )
    )
    axes(figure, "xaxis", "head", list(range(scores.shape[1])), [str(i) for i in range(scores.shape[1])])
    axes(figure, "yaxis", "layer", list(range(scores.shape[0])), [str(i) for i in range(scores.shape[0])])
    return framed(figure, f"{name} of every head", (model_words(info),), theme)


def _inside(window: Window | None, shape: tuple[int, int]) -> Window:
    """The part to draw."""
    rows, cols = shape
    given = window or (0, rows, 0, cols)
    if len(given) == 4:
        row, below, col, right = given
        if 0 <= row < below <= rows and 0 <= col < right <= cols:
            return row, below, col, right
    raise InputError(f"A window is (row, row, column, column) within {rows} × {cols} units; got {window}.")
