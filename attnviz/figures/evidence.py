"""A piece of evidence as a small Plotly figure: what was measured, its interval, and what the controls came to."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attnviz.errors import InputError
from attnviz.figures.drawing import INK, framed
from attnviz.figures.labels import plain
from attnviz.figures.palette import CATEGORICAL, Theme
from attnviz.findings import Evidence

_HEIGHT = 190
_MOST_POINTS = 500  # controls or cases that are drawn one by one
_ROWS = ("control", "measured")


def evidence_dots(
    evidence: Evidence, *, bound: float | None = None, theme: Theme = "light", title: str = ""
) -> go.Figure:
    """The mean with its 95% interval above the controls: the band is what a finding has to lie beyond.

    bound    of the plan, as an upright line; None: none
    raises   InputError where no case could be measured
    Without three texts there is no interval, and without controls no band. It says how large the outcome is beside
    chance on these texts, not why.
    """
    outcome, colours = evidence.outcome, CATEGORICAL[theme]
    cases = [value for value in outcome.values if value is not None][:_MOST_POINTS]
    if not cases:
        raise InputError("No case could be measured, so there is nothing to draw.")
    figure = go.Figure()
    if outcome.control_low is not None and outcome.control_high is not None:
        figure.add_shape(
            type="rect",
            x0=outcome.control_low,
            x1=outcome.control_high,
            y0=-0.5,
            y1=1.5,
            fillcolor=INK[theme],
            opacity=0.12,
            line_width=0,
            layer="below",
        )
    control = outcome.control[:_MOST_POINTS]
    _dots(figure, control, 0, "controls", INK[theme])
    _dots(figure, cases, 1, "single texts", colours[0])
    ends = {"array": [0.0], "arrayminus": [0.0], "visible": False}
    if outcome.low is not None and outcome.high is not None:
        ends = {"array": [outcome.high - outcome.mean], "arrayminus": [outcome.mean - outcome.low], "thickness": 2}
    figure.add_scatter(
        x=[outcome.mean],
        y=[1],
        mode="markers",
        name="mean, 95% interval",
        error_x=ends,
        marker={"size": 11, "color": colours[0], "symbol": "diamond"},
        hovertemplate="mean %{x:.4f}<extra></extra>",
    )
    if bound is not None:
        figure.add_scatter(
            x=[bound, bound],
            y=[-0.5, 1.5],
            mode="lines",
            name=f"bound of the plan ({bound:g})",
            line={"color": colours[1], "width": 2},
            hoverinfo="name",
        )
    figure.update_xaxes(
        title=plain(outcome.unit), gridcolor="rgba(128,128,128,.2)", zeroline=True, zerolinecolor=INK[theme]
    )
    figure.update_yaxes(
        tickvals=[0, 1], ticktext=list(_ROWS), range=[-0.5, 1.5], showgrid=False, zeroline=False, fixedrange=True
    )
    framed(figure, title or outcome.words[:120], (outcome.controls[:160],), theme)
    return figure.update_layout(
        height=_HEIGHT, margin={"l": 70, "r": 10, "b": 40}, legend={"font": {"size": 11}, "x": 1.02, "y": 1}
    )


def _dots(figure: go.Figure, values: Sequence[float], row: int, name: str, colour: str) -> None:
    if values:
        figure.add_scatter(
            x=list(values),
            y=[row] * len(values),
            mode="markers",
            name=name,
            marker={"size": 5, "color": colour, "opacity": 0.45},
            hovertemplate="%{x:.4f}<extra></extra>",
        )
