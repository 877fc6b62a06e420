"""Pictures of generations, as Plotly figures."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from attnviz.edits import Head
from attnviz.figures.drawing import NO_VALUE, TICKS, Scale, axes, end_words, framed, middles, scaled
from attnviz.figures.labels import head_words, model_words, run_words, sink_words, ticks
from attnviz.figures.palette import Palette, Theme, colorscale
from attnviz.figures.pooling import block_of, largest_of_blocks
from attnviz.generated import movement, writers
from attnviz.trace import Trace
from attnviz.view import View

MOST_CELLS = 512


def movement_map(
    trace: Trace,
    head: Head,
    *,
    view: View = View(),  # noqa: B008  # a frozen value
    scale: Scale = "sqrt",
    palette: Palette = "indigo",
    theme: Theme = "light",
) -> go.Figure:
    """How one head's attention moved while the model wrote: steps down, keys across, attention (share of 1) as colour.

    A row is the query that wrote the token it is named by. Grey: a key that was not there yet, or is taken away.

    view     how the pattern is read; a row stays one step in every unit
    scale    of the colours: "sqrt", so that small weights can be seen, "linear", or "log" from 0.0001
    raises   InputError for a trace that was not generated; HeadError for a head that it does not have

    Beyond 512 keys a cell is the largest of a block, and the subtitle says so. It shows where the head looked while a
    token was written, not why it was.
    """
    moved = movement(trace, head, view=view)
    block = block_of(moved.weights.shape, MOST_CELLS)
    cells = largest_of_blocks(moved.weights, block)
    colours = scaled(cells, scale)
    ends = np.array(TICKS[scale])
    pooled = "attention" if block == (1, 1) else "largest attention"
    written = [trace.tokens[query + 1].text for query in writers(trace)]
    rows, cols = range(len(written)), range(len(moved.keys))
    figure = go.Figure(
        go.Heatmap(
            z=colours,
            customdata=cells,
            x=middles(cols, block[1]),
            y=middles(rows, block[0]),
            zmin=float(scaled(np.zeros(1), scale)[0]),
            zmax=float(scaled(np.ones(1), scale)[0]),
            colorscale=colorscale(theme, palette),
            colorbar={"title": pooled, "tickvals": scaled(ends, scale), "ticktext": end_words(ends, scale)},
            hoverongaps=False,
            hovertemplate=f"step %{{y}} · key %{{x}}<br>{pooled} %{{customdata:.4f}}<extra></extra>",
        )
    )
    axes(figure, "xaxis", "key", *ticks(moved.keys.labels, cols))
    axes(figure, "yaxis", "token written", *ticks(written, rows))
    taken = sink_words(view, trace, head.site, moved.taken)
    notes = [taken, step_unit_words(view)]
    notes += [f"Each cell is the largest weight of {block[0]} × {block[1]} cells."] * (block != (1, 1))
    notes += ["Grey: not there yet, or taken away."] * bool(np.isnan(cells).any())
    title = f"Attention of {head_words(trace, head)} while writing, {run_words(trace)}"
    framed(figure, title, (model_words(trace.info), " ".join(note for note in notes if note)), theme)
    return figure.update_layout(plot_bgcolor=NO_VALUE[theme])


def step_unit_words(view: View) -> str:
    """What a column stands for where it is no token; a row stays a step."""
    return "" if view.unit == "token" else f"By {view.unit}: summed over the tokens of a key; a row stays one step."
