"""Attention flow as Plotly figures: one explanation as a Sankey diagram, several as bars, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from attnviz.checks import numbers
from attnviz.errors import InputError, ShapeError
from attnviz.figures.drawing import INK, NO_VALUE, framed
from attnviz.figures.labels import SITE_WORDS, plain, ticks
from attnviz.figures.palette import CATEGORICAL, Theme, diverging_colorscale
from attnviz.flow.graph import Graph

KEPT = {"light": "#8b90a0", "dark": "#7d8496"}  # what the residual keeps: greys that no kind of attention has
MOST_SANKEY_EDGES = 400
_MARGIN = 0.02  # Plotly moves nodes that touch the border
_FILLED = 0.9  # of the height at the fullest level, the rest being between nodes
_ROW_PIXELS = 96
_NAME_PIXELS = 24  # of a row, for the method's name above it


def held_words(graph: Graph) -> str:
    """How many edges are drawn, and how much of the explanation they hold."""
    return f"{len(graph.edges):,} of {graph.n_edges_all:,} edges, holding {graph.held:.1%} of the mass"


def own_position(graph: Graph, column: int) -> int:
    """A column's position in its own text: the source's columns come before the text's."""
    return column - (graph.n_source if column >= graph.n_source else 0)


def token_words(graph: Graph, column: int, *, limit: int | None = None) -> str:
    """`12 ␣Mary` for Plotly, with "source" in front where it is one of two texts; the token cut at `limit`."""
    source = "source " if column < graph.n_source else ""
    return f"{source}{own_position(graph, column)} {plain(graph.columns[column], limit)}"


def target_words(graph: Graph) -> str:
    """The target in words, not yet for Plotly: a token, or the whole text, and its level."""
    level, column = graph.target
    what = "the whole text" if column < 0 else f"{own_position(graph, column)} {graph.columns[column]!r}"
    return f"{what}, {graph.levels[level]}"


def sankey(graph: Graph, *, theme: Theme = "light", title: str | None = None) -> go.Figure:
    """A graph of few edges as bands: levels from left to right, the target at the right, tokens from top to bottom.

    A band's width is the edge's share of the explanation. It shows where a method lets mass run, not what the model
    needs: compare the yardsticks.

    title    None: the target, as token or text and level
    raises   InputError for a graph of no edges or of more than 400: Plotly becomes slow and the bands too thin to read
    """
    edges = graph.edges
    if not 0 < len(edges) <= MOST_SANKEY_EDGES:
        raise InputError(
            f"A Sankey diagram has 1 to {MOST_SANKEY_EDGES} edges; this graph has {len(edges):,}. "
            + ("Lower the share of the mass to hold." if len(edges) else "Raise the share of the mass to hold.")
        )
    starts = list(zip(edges["start_level"], edges["start"], strict=True))
    stops = list(zip(edges["end_level"], edges["end"], strict=True))
    nodes = sorted(set(starts) | set(stops))
    number = {node: i for i, node in enumerate(nodes)}
    columns = sorted({column for _, column in nodes})
    figure = go.Figure(
        go.Sankey(
            arrangement="fixed",
            node={
                "label": [token_words(graph, column, limit=16) for _, column in nodes],
                "customdata": [f"{plain(graph.levels[level])}, {token_words(graph, c)}" for level, c in nodes],
                "hovertemplate": "%{customdata}: mass %{value:.4f}<extra></extra>",
                **_places(edges, nodes, columns),
                "color": [CATEGORICAL[theme][1] if _is_target(graph, node) else INK[theme] for node in nodes],
                "thickness": 8,
                "pad": 6,
                "line": {"width": 0},
            },
            link={
                "source": [number[node] for node in starts],
                "target": [number[node] for node in stops],
                "value": edges["mass"].to_numpy(),
                "color": [_band(site, kind, theme) for site, kind in zip(edges["site"], edges["kind"], strict=True)],
                "customdata": _edge_words(graph),
                "hovertemplate": "%{customdata}: mass %{value:.4f}<extra></extra>",
            },
        )
    )
    framed(figure, title or f"Flow into {target_words(graph)}", (held_words(graph), _band_words(edges)), theme)
    return figure.update_layout(
        height=int(np.clip(140 + 24 * len(columns), 320, 1000)), margin={"l": 20, "r": 20, "b": 20}
    )


def bars(
    labels: Sequence[str], methods: Mapping[str, Any], *, theme: Theme = "light", title: str = "Methods side by side"
) -> go.Figure:
    """One row of bars a method over the same tokens, so that explanations of one target can be compared by eye.

    labels   [token]
    methods  name -> [token] scores, tensor or array; NaN has no bar; a method with a score below zero diverges at zero
    Each row is scaled to its own largest size, which its axis names: heights compare within a row, never between two.
    The hover gives the score itself.
    raises   InputError without methods; ShapeError for scores that are not one a token; InputError for infinite ones
    """
    if not methods:
        raise InputError("No methods to compare: give at least one, as a name and its scores.")
    rows = {name: _scores(name, scores, len(labels)) for name, scores in methods.items()}
    figure = make_subplots(
        rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=_NAME_PIXELS / (_ROW_PIXELS * len(rows))
    )
    positions, texts = ticks(labels)
    words = [f"{i} {plain(label)}" for i, label in enumerate(labels)]
    over, under = CATEGORICAL[theme][0], CATEGORICAL[theme][1]
    for row, (name, scores) in enumerate(rows.items(), 1):
        most = float(np.nanmax(np.abs(scores), initial=0.0))
        signed = bool((scores < 0).any())
        figure.add_trace(
            go.Bar(
                x=np.arange(len(labels)),
                y=scores / (most or 1.0),
                marker={"color": [under if score < 0 else over for score in scores], "line": {"width": 0}},
                customdata=scores,
                hovertext=[f"{plain(name)}, {word}" for word in words],
                hovertemplate="%{hovertext}: %{customdata:.4g}<extra></extra>",
            ),
            row=row,
            col=1,
        )
        figure.update_yaxes(
            range=[-1.05 if signed else 0, 1.05],
            tickvals=[-1, 0, 1] if signed else [0, 1],
            ticktext=[f"{-most:.2g}", "0", f"{most:.2g}"] if signed else ["0", f"{most:.2g}"],
            zeroline=True,
            zerolinecolor=NO_VALUE[theme],
            showgrid=False,
            fixedrange=True,
            row=row,
            col=1,
        )
        figure.add_annotation(
            text=plain(name),
            xref="paper",
            x=0,
            yref=f"{figure.data[-1].yaxis} domain",
            y=1,
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 12},
        )
    figure.update_xaxes(showgrid=False, zeroline=False, tickangle=-90 if len(labels) > 12 else 0)
    figure.update_xaxes(tickvals=positions, ticktext=texts, title="token", row=len(rows), col=1)
    note = "Each row is scaled to its own largest size: compare heights within a row, not between rows."
    framed(figure, title, (note,), theme)
    margin = {"t": 80 + _NAME_PIXELS, "b": 90}
    height = _ROW_PIXELS * len(rows) + sum(margin.values())
    return figure.update_layout(height=height, margin=margin, showlegend=False, bargap=0.2)


def agreement_map(
    table: pd.DataFrame, *, theme: Theme = "light", title: str = "How far the methods agree"
) -> go.Figure:
    """Spearman's rank correlation of each method with each, as a square.

    table    columns a, b, spearman: a pair a row, in either order and each once; NaN where it has no value
    Methods come in the order they are first named. A cell without a pair, such as a method with itself, stays empty.
    Two methods that agree may be wrong together: compare the yardsticks.
    raises   InputError for a table without pairs, a column that is missing, or a pair that comes twice
    """
    missing = {"a", "b", "spearman"} - set(table.columns)
    if missing or table.empty:
        lacks = f"has no column {', '.join(sorted(missing))}" if missing else "has no rows"
        raise InputError(f"A table with the columns a, b and spearman is expected; this one {lacks}.")
    names = list(dict.fromkeys(str(name) for name in table[["a", "b"]].to_numpy().ravel()))
    cells = np.full((len(names), len(names)), np.nan)
    done: set[frozenset[str]] = set()
    for a, b, value in zip(table["a"].astype(str), table["b"].astype(str), table["spearman"], strict=True):
        if frozenset((a, b)) in done:
            raise InputError(f"The pair {a!r} and {b!r} comes twice; give each pair of methods once.")
        done.add(frozenset((a, b)))
        i, j = names.index(a), names.index(b)
        cells[i, j] = cells[j, i] = value
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            zmin=-1,
            zmax=1,
            colorscale=diverging_colorscale(theme),
            colorbar={"title": "Spearman"},
            text=[["" if np.isnan(cell) else f"{cell:.2f}" for cell in row] for row in cells],
            texttemplate="%{text}",
            customdata=[[f"{plain(a)} and {plain(b)}" for b in names] for a in names],
            hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            hoverongaps=False,
            xgap=1,
            ygap=1,
        )
    )
    shown = {"tickvals": list(range(len(names))), "ticktext": [plain(name, 24) for name in names], "showgrid": False}
    framed(figure, title, ("Spearman's rank correlation over tokens: 1 is the same order, −1 the reverse.",), theme)
    return figure.update_layout(
        xaxis=shown | {"zeroline": False},
        yaxis=shown | {"zeroline": False, "autorange": "reversed"},
        plot_bgcolor=NO_VALUE[theme],
        height=int(np.clip(220 + 40 * len(names), 320, 900)),
        margin={"l": 150, "b": 130},
    )


def _is_target(graph: Graph, node: tuple[int, int]) -> bool:
    level, column = graph.target
    return node[0] == level and (column < 0 or node[1] == column)


def _places(edges: pd.DataFrame, nodes: Sequence[tuple[int, int]], columns: Sequence[int]) -> dict[str, list[float]]:
    """x by level and y by column, as shares of the picture; nodes of a level are moved apart as far as they need it."""
    above = edges.groupby(["start_level", "start"])["mass"].sum()
    below = edges.groupby(["end_level", "end"])["mass"].sum()
    heights = [max(above.get(node, 0.0), below.get(node, 0.0)) for node in nodes]
    levels = np.array([level for level, _ in nodes])
    tallest = max(sum(h for h, own in zip(heights, levels == level, strict=True) if own) for level in set(levels))
    sizes = np.array(heights) / tallest * (1 - 2 * _MARGIN) * _FILLED
    wished = np.array([(columns.index(column) + 0.5) / len(columns) for _, column in nodes])
    down = np.empty(len(nodes))
    for level in set(levels):
        own = np.flatnonzero(levels == level)  # in the order of their columns
        end = 1 - _MARGIN
        for i in own[::-1]:  # nothing below the picture or over what comes next
            down[i] = min(wished[i], end - sizes[i] / 2)
            end = down[i] - sizes[i] / 2
        end = _MARGIN
        for i in own:
            down[i] = max(down[i], end + sizes[i] / 2)
            end = down[i] + sizes[i] / 2
    across = (levels - levels.min()) / max(1, levels.max() - levels.min())
    return {"x": (_MARGIN + (1 - 2 * _MARGIN) * across).tolist(), "y": down.tolist()}


def _edge_words(graph: Graph) -> list[str]:
    """An edge in words, as the canvas says it."""
    several = graph.edges["site"].nunique() > 1
    words = []
    columns = [graph.edges[name].tolist() for name in ("layer", "site", "kind", "start", "end")]
    for layer, site, kind, start, end in zip(*columns, strict=True):
        place = f"L{layer}" + (f", {SITE_WORDS[site]}" if several else "")
        query = token_words(graph, end)
        between = f"query {query} ← key {token_words(graph, start)}"
        words.append(f"{place}: {between if kind == 'attention' else f'{query} kept'}")
    return words


def _band(site: str, kind: str, theme: Theme) -> str:
    colour = KEPT[theme] if kind != "attention" else CATEGORICAL[theme][2 if site == "cross" else 0]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.45)"


def _band_words(edges: pd.DataFrame) -> str:
    crossed = bool((edges["site"] == "cross").any())
    return f"Blue: attention{'; green: cross-attention' if crossed else ''}; grey: what the residual keeps."


def _scores(name: str, scores: Any, count: int) -> npt.NDArray[np.float64]:
    values = numbers(scores, name)
    if values.shape != (count,):
        raise ShapeError(f"{name}: one score for each of the {count} tokens expected; got the shape {values.shape}.")
    if np.isinf(values).any():
        raise InputError(f"{name}: finite scores expected, NaN for none; got an infinite one.")
    return values
