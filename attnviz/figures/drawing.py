"""What figures have in common: colours of weights, axes of units, titles and subtitles."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from attnviz.errors import InputError
from attnviz.figures.labels import plain
from attnviz.figures.palette import Theme

Scale = Literal["sqrt", "linear", "log"]

PAPER = {"light": "#ffffff", "dark": "#0e1117"}
INK = {"light": "#1c2030", "dark": "#e6e9f2"}
NO_VALUE = {"light": "#d9d4cc", "dark": "#4a463f"}  # a warm grey: no palette has it
MOST_CELLS = 512
LOG_FROM = 1e-4
TICKS = {"linear": (0, 0.25, 0.5, 0.75, 1), "sqrt": (0, 0.01, 0.05, 0.25, 1), "log": (1e-4, 1e-3, 1e-2, 0.1, 1)}


def scaled(weights: npt.NDArray[Any], scale: Scale) -> npt.NDArray[Any]:
    """Weights as colours run; NaN stays. InputError for a scale that there is not."""
    if scale not in TICKS:
        raise InputError(f"A scale is one of {', '.join(TICKS)}; got {scale!r:.80}.")
    if scale == "log":
        return np.log10(np.maximum(weights, LOG_FROM))
    return np.sqrt(weights) if scale == "sqrt" else weights


def end_words(ends: npt.NDArray[Any], scale: Scale) -> list[str]:
    return [f"≤ {x:.4f}" if scale == "log" and x == LOG_FROM else f"{x:g}" for x in ends]


def middles(units: range, block: int) -> npt.NDArray[Any]:
    """Where the cells of an axis stand: a block in the middle of its units."""
    starts = np.arange(units.start, units.stop, block)
    return starts if block == 1 else starts + (block - 1) / 2


def axes(figure: go.Figure, axis: str, title: str, positions: list[int], labels: list[str]) -> None:
    options: dict[str, Any] = {"title": title, "tickvals": positions, "ticktext": labels, "constrain": "domain"}
    if axis == "yaxis":
        options |= {"autorange": "reversed", "scaleanchor": "x"} if len(positions) > 1 else {"autorange": "reversed"}
    figure.update_layout({axis: options | {"showgrid": False, "zeroline": False}})


def framed(figure: go.Figure, title: str, subtitles: tuple[str, ...], theme: Theme) -> go.Figure:
    lines = [plain(words) for words in subtitles if words]
    figure.update_layout(
        title={"text": plain(title), "subtitle": {"text": "<br>".join(lines)}},
        paper_bgcolor=PAPER[theme],
        plot_bgcolor=PAPER[theme],
        font={"color": INK[theme]},
        margin={"l": 90, "r": 20, "t": 64 + 16 * len(lines), "b": 90},
    )
    return figure
