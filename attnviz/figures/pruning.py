"""What is left of an outcome while heads are removed, as a Plotly figure; its title comes from the curve itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from attnviz.ablation import Curve
from attnviz.errors import InputError
from attnviz.figures.drawing import INK, NO_VALUE, framed
from attnviz.figures.labels import plain
from attnviz.figures.palette import CATEGORICAL, Theme

_HEIGHT, _WITH_TIME = 420, 600
_MAIN, _TIME = [0.4, 1.0], [0.0, 0.24]  # of the height, where time is drawn below


def was_timed(curve: Curve | None) -> bool:
    """Whether heads were really taken out at one step at least, and the time of that measured."""
    return curve is not None and bool(np.isfinite(curve.ms[curve.removed > 0]).any())


def pruning_curve(
    curve: Curve,
    controls: Sequence[Curve] = (),
    *,
    timed: Curve | None = None,
    theme: Theme = "light",
    title: str = "",
) -> go.Figure:
    """An outcome against the number of heads that are gone: its mean over texts, the interval of that, and the knee.

    curve      of `ablation.curve`
    controls   curves of the same heads and steps in random orders; two or more are drawn as a band
    timed      the curve whose milliseconds are drawn below, of `ablation.curve(..., timed=True)`; nothing is drawn
               where no head could be taken out
    title      "": the curve's own
    raises     InputError for controls of another outcome or other steps
    """
    for other in controls:
        if (other.metric, other.removed.tolist()) != (curve.metric, curve.removed.tolist()):
            raise InputError("Controls have the curve's outcome and steps: make both with the same texts and steps.")
    figure = go.Figure()
    _drawn_controls(figure, curve, controls, theme)
    _drawn_curve(figure, curve, theme)
    knee = curve.knee
    if knee is not None:
        at = int(curve.removed[knee])
        figure.add_vline(
            x=at, line={"color": INK[theme], "dash": "dash", "width": 1}, annotation_text=f"knee: {at} heads"
        )
    grid = {"gridcolor": NO_VALUE[theme], "zerolinecolor": NO_VALUE[theme]}
    figure.update_xaxes(title="heads removed", **grid)
    figure.update_yaxes(title=plain(curve.unit or "outcome", 40), **grid)
    if timed is not None and was_timed(timed):
        _drawn_time(figure, timed, theme)
    n = curve.values.shape[1]
    words = (
        "Band: 95% interval of the mean over texts." if n > 1 else "One text, so there is no interval.",
        "Grey: the same number of heads, drawn at random." if controls else "",
        f"No knee: {curve.no_knee}." if curve.no_knee else "",
    )
    framed(figure, title or curve.title[:1].upper() + curve.title[1:], (" ".join(filter(None, words)),), theme)
    return figure.update_layout(
        height=_WITH_TIME if was_timed(timed) else _HEIGHT, legend={"orientation": "h", "y": -0.22}
    )


def _drawn_curve(figure: go.Figure, curve: Curve, theme: Theme) -> None:
    low, high, color = curve.low, curve.high, CATEGORICAL[theme][0]
    if np.isfinite(low).all():
        _band(figure, curve.removed, low, high, color, 0.18)
    said = []
    for step, n in enumerate(curve.removed):
        last = f", last {curve.order[n - 1]}" if n else ""
        spread = f" ({low[step]:.4f} to {high[step]:.4f})" if np.isfinite(low[step]) else ""
        share = f"{curve.removable[step]:,} parameters removable ({curve.removable[step] / curve.n_parameters:.1%})"
        said.append(f"{n:,} heads removed{last}<br>{curve.mean[step]:.4f}{spread}<br>{share}")
    figure.add_scatter(
        x=curve.removed,
        y=curve.mean,
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"size": [11 if step == curve.knee else 6 for step in range(len(curve.removed))], "color": color},
        hovertext=said,
        hovertemplate="%{hovertext}<extra></extra>",
        name="mean over texts",
    )


def _drawn_controls(figure: go.Figure, curve: Curve, controls: Sequence[Curve], theme: Theme) -> None:
    if not controls:
        return
    means = np.stack([other.mean for other in controls])
    if len(controls) > 1:
        _band(figure, curve.removed, means.min(0), means.max(0), NO_VALUE[theme], 0.45)
    figure.add_scatter(
        x=curve.removed,
        y=means.mean(0),
        mode="lines",
        line={"color": INK[theme], "width": 1.5, "dash": "dot"},
        opacity=0.6,
        hovertemplate="%{x} heads removed at random<br>%{y:.4f}<extra></extra>",
        name="random order" if len(controls) == 1 else f"{len(controls)} random orders",
    )


def _drawn_time(figure: go.Figure, timed: Curve, theme: Theme) -> None:
    """Milliseconds below the curve, on axes of their own."""
    for column, (name, dash) in enumerate((("heads taken out", "solid"), ("whole model, in turn", "dot"))):
        figure.add_scatter(
            x=timed.removed,
            y=timed.ms[:, column],
            yaxis="y2",
            mode="lines+markers" if dash == "solid" else "lines",
            line={"color": CATEGORICAL[theme][1], "dash": dash, "width": 2 if dash == "solid" else 1.5},
            hovertemplate=f"%{{x}} heads, {name}: %{{y:.1f}} ms<extra></extra>",
            name=name,
        )
    figure.update_layout(
        yaxis={"domain": _MAIN},
        yaxis2={"domain": _TIME, "title": "ms", "rangemode": "tozero", "gridcolor": NO_VALUE[theme], "anchor": "x"},
        xaxis={"anchor": "y2"},
    )


def _band(
    figure: go.Figure,
    x: npt.NDArray[np.int64],
    low: npt.NDArray[np.float64],
    high: npt.NDArray[np.float64],
    color: str,
    opacity: float,
) -> None:
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=f"rgba({r}, {g}, {b}, {opacity})",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
