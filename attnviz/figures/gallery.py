"""Every head of a model in one picture, as a Plotly figure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import torch

from attnviz.errors import InputError
from attnviz.figures.drawing import TICKS, Scale, axes, end_words, framed, scaled
from attnviz.figures.labels import SITE_WORDS, model_words, run_words, sink_words, unit_words
from attnviz.figures.palette import Palette, Theme, colorscale
from attnviz.overview import Overview
from attnviz.trace import Trace
from attnviz.view import View

_AS_IT_IS = View()


def head_gallery(
    overview: Overview,
    trace: Trace,
    *,
    site: str | None = None,
    view: View = _AS_IT_IS,
    scale: Scale = "sqrt",
    palette: Palette = "indigo",
    theme: Theme = "light",
) -> go.Figure:
    """A thumbnail of every head's pattern, layers down and heads across; empty where there is no head.

    overview     made from this trace, of this site and with this view: they give the words
    scale        of the colours: "sqrt", "linear", or "log" from 0.0001
    raises       InputError for another scale

    A pixel is the largest attention of a block of queries and keys, and the hover gives it. It shows what heads look
    at on one text: a place to look closer, not a verdict.
    """
    if scale not in TICKS:
        raise InputError(f"scale is one of {', '.join(TICKS)}; got {scale!r}.")
    weights = _mosaic(overview)
    layers, heads, height, width = overview.thumbnails.shape
    ends = np.array(TICKS[scale])
    words = end_words(ends, scale)
    figure = go.Figure(
        go.Heatmap(
            z=scaled(weights, scale),
            customdata=weights,
            x=_places(heads, width),
            y=_places(layers, height),
            zmin=float(scaled(np.zeros(1), scale)[0]),
            zmax=float(scaled(np.ones(1), scale)[0]),
            colorscale=colorscale(theme, palette),
            colorbar={"title": "largest<br>attention", "tickvals": scaled(ends, scale), "ticktext": words},
            hoverongaps=False,
            hovertemplate="L%{y:.0f}H%{x:.0f}<br>largest attention %{customdata:.4f}<extra></extra>",
        )
    )
    axes(figure, "xaxis", "head", list(range(heads)), [str(i) for i in range(heads)])
    axes(figure, "yaxis", "layer", list(range(layers)), [str(i) for i in range(layers)])
    site = trace.info.site(site)
    which = f", {SITE_WORDS[site]}" if len(trace.info.sites) > 1 else ""
    taken = torch.from_numpy(overview.taken[overview.exists])
    queries, keys = (len(units) for units in view.axes(trace, site))
    notes = [sink_words(view, trace, site, taken), unit_words(view)]
    if (height, width) != (queries, keys):
        notes.append(
            f"{queries} × {keys} {view.unit}s in {height} × {width} pixels, each the largest weight of a block."
        )
    title = f"Attention of every head{which}, {run_words(trace)}"
    framed(figure, title, (model_words(trace.info), *notes), theme)
    return figure.update_layout(height=max(450, 200 + 60 * layers))


def _mosaic(overview: Overview) -> npt.NDArray[np.floating]:
    """[layer and row, head and column]: weights with a line of NaN after each thumbnail; NaN where there is no head."""
    layers, heads, height, width = overview.thumbnails.shape
    weights = (overview.thumbnails.astype(np.float32) / 255) ** 2
    weights[~overview.exists] = np.nan
    apart = np.pad(weights, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    return apart.transpose(0, 2, 1, 3).reshape(layers * (height + 1), heads * (width + 1))


def _places(count: int, size: int) -> npt.NDArray[np.float64]:
    """Where the pixels of thumbnails in a row stand: those of number i around i, so that rounding gives the number."""
    within = (np.arange(size + 1) - (size - 1) / 2) / (size + 1)
    return (np.arange(count)[:, None] + within).ravel()
