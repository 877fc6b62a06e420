"""The figure that a finding was kept with, shown without believing it: a finding may come from anybody's file."""

from __future__ import annotations

import json
import re
from typing import Any

import plotly.graph_objects as go

_KINDS = {"bar", "box", "heatmap", "histogram", "sankey", "scatter", "scattergl"}
_AXES = re.compile(r"[xy]axis\d{0,2}")
_LAYOUT = {
    "annotations",
    "barmode",
    "coloraxis",
    "font",
    "height",
    "hovermode",
    "legend",
    "margin",
    "paper_bgcolor",
    "plot_bgcolor",
    "shapes",
    "showlegend",
    "title",
}
_LINK = re.compile(r"<(?=[\s/<]*a\b)", re.IGNORECASE)
_MOST_HEIGHT = 2_000  # pixels


def figure_of(made: str) -> go.Figure | None:
    """The figure, of what this app draws alone: no pictures from elsewhere, no links. None for no figure."""
    try:
        given = json.loads(made)
        traces = [one for one in given["data"] if one.get("type", "scatter") in _KINDS]
        layout = {name: value for name, value in given["layout"].items() if name in _LAYOUT or _AXES.fullmatch(name)}
        figure = go.Figure(data=_bare(traces), layout=_bare(layout), skip_invalid=True)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    height = figure.layout.height
    if height is not None and height > _MOST_HEIGHT:
        figure.update_layout(height=_MOST_HEIGHT)
    return figure if figure.data else None


def _bare(value: Any) -> Any:
    """Without links, which Plotly makes of its bit of HTML."""
    if isinstance(value, str):
        return _LINK.sub("&lt;", value)
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return {name: _bare(one) for name, one in value.items()} if isinstance(value, dict) else value
