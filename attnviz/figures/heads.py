"""What heads do over many texts, as Plotly figures: a number for every head, and which heads do alike."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from scipy.cluster.hierarchy import dendrogram

from attnviz.errors import InputError, ShapeError
from attnviz.figures.drawing import INK, NO_VALUE, axes, framed
from attnviz.figures.palette import CATEGORICAL, DIVERGING, Palette, Theme, colorscale, diverging_colorscale
from attnviz.heads.divergence import LN2
from attnviz.heads.families import Pairs, ordered, places

Measure = Literal["nats", "cosine"]
Scale = list[list[float | str]]
Tree = tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]
MOST_HEADS = 512  # of a map of pairs; more cells than pixels would be drawn, and some ten megabytes sent
_STOPS = 65
_LEAST = 0.1  # from chance, for the full strength of a colour
_TREE, _GAP = 0.2, 0.01  # of the height: the dendrogram, and what is between it and the map
_HEIGHT = 560
_MOST_NAMES = 40
_SOLID = 0.85
_FAINT = 0.2  # of a scale of colours, from its beginning
WORDS = {
    "nats": "Jensen-Shannon divergence of two heads' rows in nats: 0 is the same, 0.69 has nothing in common.",
    "cosine": "Cosine of what two heads add to the residual stream: 1 is the same direction, −1 the opposite.",
}


def detector_map(
    values: npt.ArrayLike,
    *,
    chance: float | None = None,
    name: str = "score",
    note: str = "",
    palette: Palette = "indigo",
    theme: Theme = "light",
    title: str = "What each head does",
) -> go.Figure:
    """A number for every head, layers down and heads across.

    values   [layer, head]; NaN where there is none
    chance   what even attention scores: colours then part there, blue above it and orange below; None: they run from
             zero to the largest
    name     of the numbers, for the legend; `note` is what stands under the title
    raises   ShapeError for other shapes; InputError where no head has a value
    A mean over texts says what a head does on these texts, not what its doing so is for.
    """
    scores = np.asarray(values, float)
    if scores.ndim != 2:
        raise ShapeError(f"A map of heads takes numbers [layer, head]; got {list(scores.shape)}.")
    if not np.isfinite(scores).any():
        raise InputError("No head has a value here, so there is nothing to draw.")
    low, high = span(scores, chance)
    scale = colorscale(theme, palette)
    if chance is not None:
        scale = [[i / (_STOPS - 1), stop] for i, stop in enumerate(parted(theme, low, chance, high))]
    figure = go.Figure(
        go.Heatmap(
            z=scores,
            zmin=low,
            zmax=high,
            colorscale=scale,
            colorbar={"title": name},
            hovertemplate="L%{y}H%{x}<br>%{z:.4f}<extra></extra>",
            hoverongaps=False,
        )
    )
    axes(figure, "xaxis", "head", list(range(scores.shape[1])), [str(i) for i in range(scores.shape[1])])
    axes(figure, "yaxis", "layer", list(range(scores.shape[0])), [str(i) for i in range(scores.shape[0])])
    even = "" if chance is None else f"Even attention scores {chance:.3f}: blue is above it, orange below."
    framed(figure, title, (note, even), theme)
    return figure.update_layout(plot_bgcolor=NO_VALUE[theme])


def span(scores: npt.ArrayLike, chance: float | None) -> tuple[float, float]:
    """(low, high) of a scale of colours that holds all finite scores, zero, and the chance level."""
    values = np.asarray(scores, float)
    there = [*values[np.isfinite(values)].ravel().tolist(), 0.0, *([] if chance is None else [chance])]
    return min(there), max(there) if max(there) > min(there) else min(there) + 1.0


def parted(theme: Theme, low: float, chance: float, high: float) -> list[str]:
    """Evenly spaced #rrggbb stops from low to high whose colours part at the chance level.

    The same distance from chance has the same strength of colour on both sides, also where one side is longer; where
    all are within a tenth of chance, all stay pale.
    """
    most = max(high - chance, chance - low, _LEAST)
    at = (np.linspace(low, high, _STOPS) - chance) / most  # -1 to 1
    known = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in DIVERGING[theme]])
    places_of = np.linspace(-1, 1, len(known))
    mixed = np.stack([np.interp(at, places_of, known[:, i]) for i in range(3)], -1).round().astype(int)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mixed.tolist()]


def family_map(
    pairs: Pairs,
    *,
    measure: Measure,
    layer: int | None = None,
    palette: Palette = "indigo",
    theme: Theme = "light",
    title: str = "Which heads do alike",
) -> go.Figure:
    """Every head against every head, in an order that puts like by like, under its dendrogram (average linkage).

    measure   "nats" for `heads.pattern_distance`, "cosine" for `heads.output_similarity`
    layer     only the heads of one layer
    raises    InputError for fewer than two heads, or more than 512
    Heads that look alike may write different things, and heads that write alike may look elsewhere.
    """
    pairs = of_layer(pairs, layer)
    order, tree = tree_of(pairs, measure)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[_TREE, 1 - _TREE], vertical_spacing=_GAP)
    drawn = dendrogram(tree, no_plot=True)
    lines = zip(drawn["icoord"], drawn["dcoord"], strict=True)
    ends = [(x, y) for across, up in lines for x, y in [*zip(across, up, strict=True), (None, None)]]
    figure.add_scatter(
        x=[None if x is None else (x - 5) / 10 for x, _ in ends],  # scipy's leaves stand at 5, 15, 25, ...
        y=[y for _, y in ends],
        mode="lines",
        line={"color": INK[theme], "width": 1},
        hoverinfo="skip",
        row=1,
        col=1,
    )
    cosine = measure == "cosine"
    figure.add_heatmap(
        z=pairs.values[np.ix_(order, order)],
        zmin=-1 if cosine else 0,
        zmax=1 if cosine else LN2,
        colorscale=diverging_colorscale(theme) if cosine else _turned(colorscale(theme, palette)),
        colorbar={"title": measure, "len": 1 - _TREE, "y": 0, "yanchor": "bottom", "thickness": 14},
        hovertemplate="%{y} and %{x}: %{z:.4f}<extra></extra>",
        row=2,
        col=1,
    )
    names = [name_of(pairs.heads[i]) for i in order]
    few = len(names) <= _MOST_NAMES
    # All names are ticks, shown or not: the hover reads them there.
    named: dict[str, Any] = {"tickvals": list(range(len(names))), "ticktext": names, "showticklabels": few, "ticks": ""}
    figure.update_xaxes(showgrid=False, zeroline=False, **named, row=2, col=1)
    figure.update_xaxes(showgrid=False, zeroline=False, showticklabels=False, row=1, col=1)
    figure.update_yaxes(showgrid=False, zeroline=False, autorange="reversed", **named, row=2, col=1)
    figure.update_yaxes(showgrid=False, zeroline=False, nticks=3, rangemode="tozero", row=1, col=1)
    framed(figure, title, (WORDS[measure], counted(pairs)), theme)
    return figure.update_layout(
        height=_HEIGHT, showlegend=False, margin={"l": 70 if few else 40, "b": 60 if few else 30}
    )


def family_places(
    pairs: Pairs,
    *,
    measure: Measure,
    layer: int | None = None,
    selected: tuple[int, int] | None = None,
    palette: Palette = "indigo",
    theme: Theme = "light",
    title: str = "Heads by what they do alike",
) -> go.Figure:
    """Heads as points, those that do alike near each other: classical scaling (Torgerson 1952) into a plane.

    measure    as in `family_map`; distances are the square root of the divergence, or sqrt(2 - 2 cosine), the chord
               between directions, since both can be drawn without error if there are enough dimensions
    layer      only the heads of one layer
    selected   (layer, head), ringed
    raises     InputError for fewer than two heads
    Two dimensions hold part of the variance, which the subtitle states: near in the plane may be far in truth.
    """
    pairs = of_layer(pairs, layer)
    found = places(straight(pairs, measure))
    layers = [at for at, _ in pairs.heads]
    ring = [3.0 if head == selected else 0.0 for head in pairs.heads]
    figure = go.Figure(
        go.Scatter(
            x=found.points[:, 0],
            y=found.points[:, 1],
            mode="markers",
            customdata=[list(head) for head in pairs.heads],
            hovertext=[name_of(head) for head in pairs.heads],
            hovertemplate="%{hovertext}<extra></extra>",
            marker={
                "color": layers,
                "colorscale": _visible(colorscale(theme, palette)),
                "colorbar": {"title": "layer", "thickness": 14, "dtick": max(1, max(layers) // 6)},
                "size": [15 if one else 9 for one in ring],
                "line": {"width": ring, "color": CATEGORICAL[theme][1]},
                "opacity": _SOLID,
            },
            unselected={"marker": {"opacity": _SOLID}},  # a click picks a head; the others are not to fade
        )
    )
    bare = {"showgrid": False, "zeroline": False, "showticklabels": False, "title": ""}
    share = f"These two dimensions hold {found.share:.0%} of the variance: near here may still be far in truth."
    framed(figure, title, (WORDS[measure], share), theme)
    return figure.update_layout(
        xaxis=bare, yaxis=bare | {"scaleanchor": "x"}, height=_HEIGHT, showlegend=False, margin={"l": 20, "b": 30}
    )


def plane_share(pairs: Pairs, measure: Measure, layer: int | None = None) -> float:
    """The share of the variance that the plane of `family_places` holds."""
    return places(straight(of_layer(pairs, layer), measure)).share


def tree_of(pairs: Pairs, measure: Measure) -> Tree:
    """(order, linkage) of `heads.ordered`, by divergence, or by 1 - cosine."""
    return ordered(_apart(pairs, measure))


def of_layer(pairs: Pairs, layer: int | None) -> Pairs:
    """The pairs within one layer, or all of them; InputError where too few or too many are left to draw."""
    at = [i for i, head in enumerate(pairs.heads) if layer is None or head[0] == layer]
    check_drawn(len(at), layer)
    return Pairs(tuple(pairs.heads[i] for i in at), pairs.values[np.ix_(at, at)], pairs.rows, pairs.texts)


def check_drawn(n_heads: int, layer: int | None) -> None:
    """InputError where the heads of a layer, or of the model, are too few or too many to draw."""
    if not 2 <= n_heads <= MOST_HEADS:
        where = "the model" if layer is None else f"layer {layer}"
        remedy = "Choose one layer." if n_heads > MOST_HEADS else "Choose another layer, or all."
        raise InputError(f"2 to {MOST_HEADS} heads can be drawn against each other; {where} has {n_heads}. {remedy}")


def counted(pairs: Pairs) -> str:
    """What the numbers are means of."""
    return f"Means over {pairs.rows:,} rows of {pairs.texts} text{'s' * (pairs.texts != 1)}."


def name_of(head: tuple[int, int]) -> str:
    """L5H1."""
    return f"L{head[0]}H{head[1]}"


def straight(pairs: Pairs, measure: Measure) -> npt.NDArray[np.float64]:
    """[n, n], the distances of `family_places`."""
    apart = _apart(pairs, measure)
    return np.sqrt(apart) if measure == "nats" else np.sqrt(2 * apart)


def _apart(pairs: Pairs, measure: Measure) -> npt.NDArray[np.float64]:
    """Distances with a zero diagonal, which a head that wrote nothing somewhere would not have by its cosine."""
    distance = np.asarray(pairs.values, float) if measure == "nats" else 1 - np.asarray(pairs.values, float)
    np.fill_diagonal(distance, 0)
    return distance.clip(min=0)


def _turned(scale: Scale) -> Scale:
    """The scale the other way round: what is alike has the stronger colour."""
    return [[1 - at, stop] for at, stop in [(float(at), stop) for at, stop in scale][::-1]]


def _visible(scale: Scale) -> Scale:
    """The scale without its beginning, which is near the page's own colour."""
    stops = sample_colorscale(scale, np.linspace(_FAINT, 1, 9).tolist())
    return [[i / (len(stops) - 1), stop] for i, stop in enumerate(stops)]
