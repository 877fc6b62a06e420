"""Many texts as Plotly figures: a detector's mean of every head, one head's values over the texts, what differs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from attnviz.corpus import Choice, Comparison, Summary
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.figures.attention import head_grid
from attnviz.figures.drawing import INK, axes, framed
from attnviz.figures.labels import SITE_WORDS, model_words, plain
from attnviz.figures.palette import CATEGORICAL, Palette, Theme, diverging_colorscale
from attnviz.heads import DETECTORS
from attnviz.info import ModelInfo

MOST_DOTS, MOST_STRIPS = 2_000, 12
_GOLDEN = 0.6180339887  # multiples of it, less their whole part, fill a strip evenly


def means_grid(
    summary: Summary,
    info: ModelInfo,
    corpus: str,
    *,
    site: str | None = None,
    palette: Palette = "indigo",
    theme: Theme = "light",
) -> go.Figure:
    """A detector's mean over texts of every head: layers down and heads across; NaN (no head, no text) stays empty.

    summary   of one detector and one variant
    corpus    what the texts are called
    site      that was measured; None: the model's only one, or its first
    raises    InputError for a summary of several detectors
    Means describe attention over these texts; they are no effect on what the model writes.
    """
    name = choice_words(summary.choice)
    figure = head_grid(summary.mean[0, 0], info, name, palette=palette, theme=theme, high=None)
    figure.data[0].colorbar.title.text = "mean"
    return framed(figure, f"{name}: mean over texts, of every head", _runs(info, site, [(corpus, summary.n)]), theme)


def text_dots(
    values: pd.DataFrame,
    summary: Summary,
    head: Head,
    info: ModelInfo,
    corpus: str,
    *,
    theme: Theme = "light",
) -> go.Figure:
    """One head's value on every text as dots, a strip for each of the commonest labels; mean, interval, chance level.

    With several labels a short line in each strip is its own mean; the long line and the band are of all texts.

    values    number, label, value of each text; at most some 2,000 are drawn, spread over all
    summary   of the same detector, variant and texts
    raises    InputError for a summary of several detectors
    A dot's height in its strip means nothing.
    """
    name, shown = choice_words(summary.choice), values.iloc[:: -(-len(values) // MOST_DOTS) or 1]
    counts = values["label"].value_counts()
    labels = sorted(counts.index, key=lambda label: (-counts[label], label))[:MOST_STRIPS]
    figure = go.Figure()
    for row, label in enumerate(labels):
        own = shown[shown["label"] == label]
        spread = (own["number"].to_numpy(float) * _GOLDEN) % 1 - 0.5
        dots = {"color": CATEGORICAL[theme][row % len(CATEGORICAL[theme])], "size": 6, "opacity": 0.55}
        figure.add_scatter(
            x=own["value"],
            y=row + 0.6 * spread,
            mode="markers",
            marker=dots,
            customdata=own["number"],
            hovertemplate="text %{customdata}: %{x:.4f}<extra></extra>",
            showlegend=False,
        )
        if len(labels) > 1:
            own_mean = float(values.loc[values["label"] == label, "value"].mean())
            line = {"color": INK[theme], "width": 4}
            figure.add_shape(type="line", x0=own_mean, x1=own_mean, y0=row - 0.36, y1=row + 0.36, line=line)
    at = (0, 0, head.layer, head.head)
    mean, low, high, even = (
        float(x) for x in (summary.mean[at], summary.low[at], summary.high[at], summary.chance[at[:3]])
    )
    if np.isfinite(low):
        figure.add_vrect(low, high, fillcolor=INK[theme], opacity=0.15, line_width=0)
    figure.add_vline(mean, line={"color": INK[theme], "width": 1 if len(labels) > 1 else 2})
    if np.isfinite(even):
        figure.add_vline(even, line={"color": INK[theme], "width": 1, "dash": "dot"})
    axes(figure, "yaxis", "", list(range(len(labels))), [plain(label or "all texts", 24) for label in labels])
    figure.update_layout(height=150 + 70 * len(labels), yaxis={"range": [len(labels) - 0.4, -0.6], "scaleanchor": None})
    x_axis = {"title": f"{name}, one dot a text", "zeroline": False, "showgrid": False}
    figure.update_layout(xaxis=x_axis | {"range": _around(np.append(shown["value"].to_numpy(float), [mean, even]))})
    drawn = int(shown["label"].isin(labels).sum())
    notes = [
        f"{'Long line: the mean of all texts' if len(labels) > 1 else 'Line: the mean'}, {mean:.4f}; band: its 95% "
        f"interval over texts; dotted: attention spread evenly, {even:.4f}.",
        "Short lines: the mean of each label's texts." if len(labels) > 1 else "",
        f"{drawn:,} of {len(values):,} texts are drawn." if drawn < len(values) else "",
    ]
    title = f"L{head.layer}H{head.head}, {name}, on each text"
    framed(figure, title, (*_runs(info, head.site, [(corpus, summary.n)]), *notes), theme)
    return figure.update_layout(margin_b=56)


def change_grid(
    found: Comparison,
    info: ModelInfo,
    names: tuple[str, str],
    *,
    site: str | None = None,
    rate: float = 0.05,
    theme: Theme = "light",
) -> go.Figure:
    """The second side's mean minus the first's, of every head; a ring marks what changed at a false discovery rate.

    found    of one detector and one variant
    names    of the two sides, in the order of their means
    raises   InputError for a comparison of several detectors
    """
    name, apart, changed = choice_words(found.choice), found.difference[0, 0], found.changed(rate)[0, 0]
    most = widest(apart)
    figure = go.Figure(
        go.Heatmap(
            z=apart,
            zmin=-most,
            zmax=most,
            colorscale=diverging_colorscale(theme),
            colorbar={"title": "second − first"},
            hoverongaps=False,
            hovertemplate="L%{y}H%{x}<br>difference %{z:+.4f}<extra></extra>",
        )
    )
    layer, head = np.nonzero(changed)
    ring = {"symbol": "circle-open", "size": 9, "color": INK[theme], "line": {"width": 1.5}}
    figure.add_scatter(x=head, y=layer, mode="markers", marker=ring, hoverinfo="skip", showlegend=False)
    axes(figure, "xaxis", "head", list(range(apart.shape[1])), [str(i) for i in range(apart.shape[1])])
    axes(figure, "yaxis", "layer", list(range(apart.shape[0])), [str(i) for i in range(apart.shape[0])])
    tested = int(np.isfinite(found.p).sum())
    note = f"Rings: {len(layer)} of {tested} heads, at a false discovery rate of {rate:.0%}."
    sides = [(f"{which}: {words}", n) for which, words, n in zip(("First", "Second"), names, found.n, strict=True)]
    return framed(figure, f"{name}: second minus first, means over texts", (*_runs(info, site, sides), note), theme)


def choice_words(choice: Choice) -> str:
    """One detector, and whether the sink is in; raises InputError for several."""
    if choice.detector is None or choice.variant is None:
        raise InputError("A picture is of one detector and one variant; choose both, as Choice(detector, variant).")
    return f"{DETECTORS[choice.detector].title} {choice.variant}"


def widest(apart: npt.NDArray[np.floating]) -> float:
    """The largest difference on either side; 1 where there is none."""
    return float(np.max(np.abs(apart), where=np.isfinite(apart), initial=0)) or 1.0


def _around(values: npt.NDArray[np.float64]) -> list[float]:
    """A range that holds all values, with some room at both ends."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = 0.04 * (high - low) or 0.01
    return [low - room, high + room]


def _runs(info: ModelInfo, site: str | None, sides: list[tuple[str, int]]) -> tuple[str, ...]:
    where = f", {SITE_WORDS[info.site(site)]}" if len(info.sites) > 1 else ""
    return (f"{model_words(info)}{where}", *(f"{words}: {n:,} texts" for words, n in sides))
