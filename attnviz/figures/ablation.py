"""What taking heads out changes, as Plotly figures; every title comes from the sweep that is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from attnviz.ablation import Screened, Sweep, Table
from attnviz.ablation.asked import UnitName
from attnviz.errors import InputError, ShapeError
from attnviz.figures.drawing import INK, NO_VALUE, axes, framed
from attnviz.figures.labels import plain
from attnviz.figures.palette import CATEGORICAL, Theme, diverging_colorscale

_NAMED = 8  # heads of a scatter that are named: those farthest out
_ROOM = (0.14, 0.045)  # of a name, as shares of the axes of a figure in half a page
_HEIGHT = 440
ONE_TEXT = "One text is one text: a head is important only where several texts and methods agree."
CORNERS = ("looks much, small effect here", "large effect here, looks elsewhere", "looks much, large effect here")


def effects(sweep: Sweep, site: str | None = None) -> npt.NDArray[np.float64]:
    """[layer, unit]: a site's effects as they are drawn: those under the noise floor are nothing.

    raises   InputError for a site that the sweep does not have
    """
    if site is not None and site not in sweep.found:
        raise InputError(f"This sweep has effects at {', '.join(sweep.found)}; got {site!r}.")
    found = sweep.found[site or sweep.site].copy()
    found[np.abs(found) <= sweep.noise] = 0.0  # never for a noise of NaN
    return found


def noise_words(sweep: Sweep) -> str:
    """How large an effect is nothing."""
    if isinstance(sweep, Screened):
        return "An estimate to first order, from one pass forward and one back: it says where to look first."
    if not np.isfinite(sweep.noise):
        return "No unedited copy ran along, so the noise floor is not known."
    return f"Exact. Unedited copies differ by {sweep.noise:.1g}: effects up to that are drawn as nothing."


def effect_map(sweep: Sweep, *, site: str | None = None, theme: Theme = "light", title: str = "") -> go.Figure:
    """Every head's effect, layers down and heads across; zero in the middle of the colours.

    sweep    of `ablation.sweep`, or estimates of `ablation.screen`
    site     None: the sweep's own
    title    "": the sweep's own
    raises   InputError where the sweep has no effects there
    """
    values = effects(sweep, site)
    if not np.isfinite(values).any():
        raise InputError("No head was reached yet, so there is nothing to draw: let the sweep go on.")
    most = float(np.nanmax(np.abs(values))) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            zmin=-most,
            zmax=most,
            colorscale=diverging_colorscale(theme),
            colorbar={"title": sweep.unit},
            hovertemplate=f"{named('%{y}', '%{x}', sweep.units)}<br>%{{z:.4f}}<extra></extra>",
            hoverongaps=False,
        )
    )
    of_layers(figure, values.shape, sweep.units)
    clean = f"Clean run: {sweep.baseline:.4f}. {sweep.n_reached:,} of {sweep.n_units:,} reached."
    framed(figure, title or _titled(sweep), (noise_words(sweep), clean), theme)
    return figure.update_layout(plot_bgcolor=NO_VALUE[theme])


def estimate_scatter(
    screened: Screened, sweep: Sweep, *, site: str | None = None, theme: Theme = "light", title: str = ""
) -> go.Figure:
    """The estimate of every head against its exact effect: on the line they agree.

    raises   InputError where they are of two questions, or nothing was reached
    """
    if screened.about != sweep.about:
        raise InputError("The estimate and the sweep are of two questions: ask both of one model, text and metric.")
    exact, guess = effects(sweep, site), screened.found[site or sweep.site]
    there = np.isfinite(exact) & np.isfinite(guess)
    if not there.any():
        raise InputError("No head was reached yet, so there is nothing to compare: let the sweep go on.")
    at = np.argwhere(there)
    ends = [float(np.nanmin([exact[there], guess[there]])), float(np.nanmax([exact[there], guess[there]]))]
    figure = _points(exact[there], guess[there], at.tolist(), theme, sweep.units)
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": NO_VALUE[theme], "dash": "dot"}, hoverinfo="skip", showlegend=False
    )
    unit = f" ({sweep.unit})" if sweep.unit else ""
    _lined(figure, f"exact effect{unit}", f"estimate{unit}", theme)
    words = f"{len(at):,} {sweep.units}s. On the dotted line both agree."
    return framed(figure, title or f"Estimate against exact: {sweep.title}", (words,), theme).update_layout(
        height=_HEIGHT
    )


def attention_scatter(
    attention: npt.ArrayLike,
    sweep: Sweep,
    *,
    site: str | None = None,
    between: str = "the chosen query and key",
    theme: Theme = "light",
    title: str = "",
) -> go.Figure:
    """How much each head looks, against how much taking it out changes; the corners are named.

    attention   [layer, head], shares of 1 as of `heads.attention_between`; NaN where there is no head
    between     what the attention is between, for the axis
    raises      ShapeError for other shapes than the sweep's; InputError where nothing was reached
    """
    looks, size = np.asarray(attention, float), np.abs(effects(sweep, site))
    if looks.shape != size.shape:
        raise ShapeError(f"Attention and effects are of the same heads; got {looks.shape} and {size.shape}.")
    there = np.isfinite(looks) & np.isfinite(size)
    if not there.any():
        raise InputError("No head was reached yet, so there is nothing to compare: let the sweep go on.")
    figure = _points(looks[there], size[there], np.argwhere(there).tolist(), theme)
    far = (0.99, 0.14), (0.01, 0.98), (0.99, 0.98)
    for words, (x, y) in zip(CORNERS, far, strict=True):
        figure.add_annotation(
            text=f"<i>{plain(words)}</i>",
            x=x,
            y=y,
            xref="paper",
            yref="paper",
            xanchor="left" if x < 0.5 else "right",
            yanchor="bottom" if y < 0.5 else "top",
            showarrow=False,
            font={"size": 12},
            opacity=0.75,
        )
    unit = f" ({sweep.unit})" if sweep.unit else ""
    _lined(figure, f"attention, {between} (share of 1)", f"size of the effect{unit}", theme)
    figure.update_yaxes(rangemode="tozero", range=[0, 1.25 * float(size[there].max()) or 1.0])
    note = "Attention is what a head reads; its effect is what the outcome loses without it."
    return framed(figure, title or f"Attention against effect: {sweep.title}", (note,), theme).update_layout(
        height=_HEIGHT
    )


def position_bars(
    tokens: Sequence[str], moved: npt.ArrayLike, *, theme: Theme = "light", title: str = "How far each prediction moved"
) -> go.Figure:
    """KL(clean || edited) of the prediction at each token, in nats.

    raises   ShapeError where there is not one number for each token
    """
    values = np.asarray(moved, float)
    if values.shape != (len(tokens),):
        raise ShapeError(f"One number for each of {len(tokens)} tokens is expected; got {values.shape}.")
    figure = go.Figure(
        go.Bar(
            x=list(range(len(tokens))),
            y=values,
            marker={"color": CATEGORICAL[theme][0], "line": {"width": 0}},
            hovertext=[plain(token, 40) for token in tokens],
            hovertemplate="%{x} %{hovertext}: %{y:.4f} nats<extra></extra>",
        )
    )
    step = max(1, -(-len(tokens) // 40))
    shown = list(range(0, len(tokens), step))
    figure.update_xaxes(tickvals=shown, ticktext=[plain(tokens[i], 12) for i in shown], showgrid=False)
    figure.update_yaxes(title="nats", gridcolor=NO_VALUE[theme], rangemode="tozero")
    return framed(
        figure, title, ("KL of the edited from the clean prediction after each token.",), theme
    ).update_layout(height=300)


def control_dots(rows: Table, controls: Table, *, theme: Theme = "light", title: str = "") -> go.Figure:
    """The effect of one set of heads by each method on each prompt, before those of random sets and their band.

    rows, controls   of `ablation.table` and `ablation.band`, of the same prompts and methods; the first row is drawn
    raises           InputError where prompts or methods differ
    """
    if (rows.hows, rows.prompts) != (controls.hows, controls.prompts):
        raise InputError("A set and its controls have the same prompts and methods: make both alike.")
    (low, high), figure = controls.middle(), go.Figure()
    columns = [(h, p) for p in range(len(rows.prompts)) for h in range(len(rows.hows))]
    for x, (h, p) in enumerate(columns):
        figure.add_shape(
            type="rect", x0=x - 0.3, x1=x + 0.3, y0=low[h, p], y1=high[h, p], line_width=0, fillcolor=NO_VALUE[theme],
            opacity=0.45, layer="below",
        )  # fmt: skip
        figure.add_scatter(
            x=[x] * len(controls.heads),
            y=controls.effects[:, h, p],
            mode="markers",
            marker={"size": 6, "color": INK[theme], "opacity": 0.35},
            hovertext=list(controls.names),
            hovertemplate="%{hovertext}: %{y:.4f}<extra></extra>",
            name="random sets",
            showlegend=x == 0,
        )
    figure.add_scatter(
        x=list(range(len(columns))),
        y=[rows.effects[0, h, p] for h, p in columns],
        mode="markers",
        marker={"size": 13, "symbol": "diamond", "color": CATEGORICAL[theme][0]},
        hovertemplate=f"{plain(rows.names[0], 60)}: %{{y:.4f}}<extra></extra>",
        name="the set",
    )
    several = len(rows.prompts) > 1
    words = [f"{rows.hows[h]}<br>prompt {p + 1}" if several else rows.hows[h] for h, p in columns]
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=words, showgrid=False, zeroline=False)
    figure.update_yaxes(title="effect", gridcolor=NO_VALUE[theme], zerolinecolor=NO_VALUE[theme])
    note = f"{sets_words(controls, rows)}; the band is {band_words(controls)}."
    framed(figure, title or f"Against random heads: change in {rows.metric}", (note,), theme)
    return figure.update_layout(height=360, legend={"orientation": "h", "y": -0.3})


def sets_words(controls: Table, rows: Table) -> str:
    """How many random sets there are, and of which heads."""
    layers = [sorted((head.site or "", head.layer) for head in heads) for heads in (*controls.heads, rows.heads[0])]
    where = "the same layers" if all(one == layers[-1] for one in layers) else "any layers"
    return f"{len(controls.heads)} random sets of as many heads of {where}"


def band_words(controls: Table) -> str:
    """What the band is that `Table.middle` gives."""
    low, high = controls.middle()
    whole = np.array_equal([low, high], [controls.effects.min(0), controls.effects.max(0)])
    return "their whole range" if whole else "the middle 95% of them"


def _titled(sweep: Sweep) -> str:
    return sweep.title[:1].upper() + sweep.title[1:]


def named(layer: object, column: object, units: UnitName) -> str:
    """A head, group or layer as it is written beside its point: L5H1, L5G1, L5."""
    return {"head": f"L{layer}H{column}", "group": f"L{layer}G{column}", "layer": f"L{layer}"}[units]


def of_layers(figure: go.Figure, shape: tuple[int, ...], units: UnitName) -> None:
    """Layers down, units across."""
    names = ["all heads"] if units == "layer" else [str(i) for i in range(shape[1])]
    axes(figure, "xaxis", "key/value group" if units == "group" else units, list(range(shape[1])), names)
    axes(figure, "yaxis", "layer", list(range(shape[0])), [str(i) for i in range(shape[0])])
    if units == "layer":
        figure.layout.yaxis.scaleanchor = None  # one cell a row, as wide as the figure


def _points(
    x: npt.NDArray[Any], y: npt.NDArray[Any], at: Sequence[Sequence[int]], theme: Theme, units: UnitName = "head"
) -> go.Figure:
    """Heads, groups or layers as points; those farthest out on either axis are named, where names have room."""
    shown = _with_room(x, y)
    names = [named(layer, column, units) for layer, column in at]
    return go.Figure(
        go.Scatter(
            x=x,
            y=y,
            mode="markers+text",
            text=[name if i in shown else "" for i, name in enumerate(names)],
            textposition="top center",
            textfont={"size": 11, "color": INK[theme]},
            hovertext=names,
            customdata=[list(pair) for pair in at],
            hovertemplate="%{hovertext}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
            marker={"size": 7, "color": CATEGORICAL[theme][0], "opacity": 0.75},
            showlegend=False,
        )
    )


def _with_room(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> set[int]:
    """The points farthest out on either axis whose names do not lie on one that is farther out."""
    out = np.maximum(*(np.abs(v) / (np.abs(v).max() or 1.0) for v in (x, y)))
    places = np.stack([(v - v.min()) / (np.ptp(v) or 1.0) for v in (x, y)], axis=1)
    shown: list[int] = []
    for i in np.argsort(out)[::-1][: 2 * _NAMED].tolist():
        if all((np.abs(places[i] - places[j]) > _ROOM).any() for j in shown):
            shown.append(i)
    return set(shown[:_NAMED])


def _lined(figure: go.Figure, x: str, y: str, theme: Theme) -> None:
    grid = {"gridcolor": NO_VALUE[theme], "zerolinecolor": NO_VALUE[theme]}
    figure.update_xaxes(title=plain(x, 90), **grid)
    figure.update_yaxes(title=plain(y, 60), **grid)
