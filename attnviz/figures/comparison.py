"""Two runs compared, as Plotly figures: how one head's patterns differ, and how much every head's do."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import plotly.graph_objects as go
import torch

from attnviz.compare import Difference, alignments, difference
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.figures.attention import head_grid
from attnviz.figures.drawing import LOG_FROM, MOST_CELLS, Scale, axes, framed, middles
from attnviz.figures.labels import (
    SITE_WORDS,
    head_words,
    model_words,
    pooled_words,
    run_words,
    sink_words,
    ticks,
    unit_words,
)
from attnviz.figures.palette import Palette, Theme, diverging_colorscale
from attnviz.figures.pooling import block_of, largest_of_blocks
from attnviz.heads import TOKENS, Scores
from attnviz.trace import Trace
from attnviz.view import View


def difference_map(
    first: Trace,
    second: Trace,
    head: Head,
    *,
    other: Head | None = None,
    view: View = TOKENS,
    scale: Scale = "sqrt",
    theme: Theme = "light",
) -> go.Figure:
    """The second run's pattern minus the first's where their texts correspond: queries down, keys across.

    Blue where the second pays more, orange where the first does; the hover gives the difference, a share of 1. Above
    512 units a side a cell is the one of a block that is furthest from zero.

    head     of the first run; `other` of the second, None for the one of the same number
    view     how both patterns are read
    scale    of the colours on both sides of zero: "sqrt", "linear", or "log" from 0.0001
    raises   HeadError for a head that a run does not have; InputError where nothing of the texts corresponds

    A difference in attention is not one in what the models do: compare their predictions.
    """
    theirs = _other_head(second, head, other)
    rows, cols = alignments(first, second, site=head.site, other_site=theirs.site, view=view)
    seen = view.pattern(first, head), view.pattern(second, theirs)
    found = difference(*seen, rows, cols)
    if not found.weights.size:
        raise InputError("Nothing in the two texts corresponds, so there is nothing to draw. Compare other texts.")
    block = block_of((len(found.row_labels), len(found.col_labels)), MOST_CELLS)
    cells = largest_of_blocks(found.weights, block, signed=True)
    most = float(np.nanmax(np.abs(cells), initial=0)) or 1.0
    ends = np.array([-1, -0.5, -0.1, 0, 0.1, 0.5, 1]) * most
    figure = go.Figure(
        go.Heatmap(
            z=_signed(cells, scale),
            customdata=cells,
            x=middles(range(len(found.col_labels)), block[1]),
            y=middles(range(len(found.row_labels)), block[0]),
            zmin=-float(_signed(np.array([most]), scale)[0]),
            zmax=float(_signed(np.array([most]), scale)[0]),
            colorscale=diverging_colorscale(theme),
            colorbar={
                "title": "second − first",
                "tickvals": _signed(ends, scale),
                "ticktext": [f"{end:+.2g}" if end else "0" for end in ends],
            },
            hoverongaps=False,
            hovertemplate="query %{y} · key %{x}<br>difference %{customdata:+.4f}<extra></extra>",
        )
    )
    axes(figure, "xaxis", "key", *ticks(found.col_labels))
    axes(figure, "yaxis", "query", *ticks(found.row_labels))
    title = f"{_heads(first, head, second, other)}: second minus first, in attention"
    sinks = both_sink_words(view, (first, head.site, seen[0].taken), (second, theirs.site, seen[1].taken))
    notes = [unit_words(view), *sinks, lone_words(found), pooled_words(block)]
    return framed(figure, title, (*_runs(first, second), *notes), theme)


def divergence_grid(
    scores: Scores,
    first: Trace,
    second: Trace,
    *,
    head: Head | None = None,
    site: str | None = None,
    other_site: str | None = None,
    view: View = TOKENS,
    palette: Palette = "indigo",
    theme: Theme = "light",
) -> go.Figure:
    """How much every head differs between two runs, in nats: layers down and heads across; NaN stays empty.

    scores   [layer, head], of `compare.divergence`; with `head`, of `compare.nearest_heads` for that head of the first
             run, and layers and heads are the second's
    site, other_site, view   what the scores were made with: they give the words; with `head`, `site` is the head's
    raises   ShapeError for another number of axes; HeadError for a site that a model does not have
    """
    name = "Jensen-Shannon divergence (nats)"
    figure = head_grid(scores, second.info, name, palette=palette, theme=theme, high=None)
    what = f"{head_words(first, head)} of the first from every head of the second" if head else "of every head"
    ours = first.info.site(head.site if head else site)
    theirs = second.info.site(other_site if other_site else ours if ours in second.info.sites else None)
    of = second if head else first
    which = f", {SITE_WORDS[theirs if head else ours]}" if len(of.info.sites) > 1 else ""
    sinks = both_sink_words(view, (first, ours, None), (second, theirs, None))
    return framed(figure, f"{name} {what}{which}", (*_runs(first, second), unit_words(view), *sinks), theme)


def both_sink_words(view: View, *sides: tuple[Trace, str | None, torch.Tensor | None]) -> list[str]:
    """`labels.sink_words` of both runs: one sentence where it is true of both, none where nothing was done.

    sides   the run, the site, and the shares taken away, or None where none were made; the first run's first
    """
    first, second = (sink_words(view, *side) for side in sides)
    if first == second:
        return [first] * bool(first)
    return [f"First: {first}", f"Second: {second}"]


def lone_words(found: Difference) -> str:
    """How much attention goes to what only one text has; "" where all of it corresponds."""
    shares = [
        f"{float(values.mean()):.1%} of the {which}'s attention goes to keys that only it has"
        for which, values, alone in (
            ("first", found.only_first, found.cols.deleted),
            ("second", found.only_second, found.cols.inserted),
        )
        if alone and values.size
    ]
    return f"Not in the map, on average over its rows: {', '.join(shares)}." if shares else ""


def _signed(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Differences as colours run, the same on both sides of zero; NaN stays."""
    if scale not in get_args(Scale):
        raise InputError(f"scale is one of {', '.join(get_args(Scale))}; got {scale!r}.")
    size = np.abs(values)
    if scale == "log":
        return np.sign(values) * np.log10(np.maximum(size, LOG_FROM) / LOG_FROM)
    return np.sign(values) * np.sqrt(size) if scale == "sqrt" else values


def _other_head(second: Trace, head: Head, other: Head | None) -> Head:
    """The second run's head, of the site that `compare.head_difference` takes."""
    if other is not None and other.site is not None:
        return other
    return replace(other or head, site=head.site if head.site in second.info.sites else None)


def _heads(first: Trace, head: Head, second: Trace, other: Head | None) -> str:
    ours = head_words(first, head)
    theirs = ours if other is None else head_words(second, other)
    return ours if theirs == ours else f"{ours} and {theirs}"


def _runs(first: Trace, second: Trace) -> tuple[str, ...]:
    """Which runs: one line where both are of one model."""
    words = [f"{run_words(trace)} of {model_words(trace.info)}" for trace in (first, second)]
    if words[0] == words[1]:
        return (f"Two texts, each a {words[0]}",)
    return tuple(f"{which}: {line}" for which, line in zip(("First", "Second"), words, strict=True))
