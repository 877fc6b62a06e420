"""Logit attribution as Plotly figures: what each head and each layer writes, and the logit lens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from attnviz.errors import InputError
from attnviz.figures.drawing import NO_VALUE, axes, framed
from attnviz.figures.labels import SITE_WORDS, plain
from attnviz.figures.palette import CATEGORICAL, Theme, colorscale, diverging_colorscale
from attnviz.text import visible

_PARTS = ("part", "site", "layer", "head", "logits")
_LENS = ("layer", "rank", "token", "probability")
_BELOW = "embedding"


def attribution_map(
    parts: pd.DataFrame, *, site: str | None = None, theme: Theme = "light", title: str = "What each head writes"
) -> go.Figure:
    """What every head of one site adds to an outcome, layers down and heads across; blue for it, orange against it.

    parts    `attnviz.flow.logits.Attribution.frame()`
    site     None: the last one that has heads in it
    title    the outcome in words
    raises   InputError for a table of other columns, or without heads of that site
    """
    _check(parts, _PARTS)
    scores = head_scores(parts, site)
    most = float(np.nanmax(np.abs(scores), initial=0.0)) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=scores,
            zmin=-most,
            zmax=most,
            colorscale=diverging_colorscale(theme),
            colorbar={"title": "logits"},
            hovertemplate="L%{y}H%{x}<br>%{z:.4f} logits<extra></extra>",
            hoverongaps=False,
        )
    )
    axes(figure, "xaxis", "head", list(range(scores.shape[1])), [str(i) for i in range(scores.shape[1])])
    axes(figure, "yaxis", "layer", list(range(scores.shape[0])), [str(i) for i in range(scores.shape[0])])
    where = SITE_WORDS[str(_of_site(parts, site)["site"].iloc[0])]
    note = f"What each head of the {where} adds directly, the norms held as they were in this run."
    return framed(figure, title, (note,), theme)


def head_scores(parts: pd.DataFrame, site: str | None = None) -> np.ndarray:
    """[layer, head]: what every head of one site adds, in logits; NaN where there is no head."""
    rows = _of_site(parts, site)
    layers, heads = rows["layer"].astype(int).to_numpy(), rows["head"].astype(int).to_numpy()
    out = np.full((layers.max() + 1, heads.max() + 1), np.nan)
    out[layers, heads] = rows["logits"].to_numpy()
    return out


def attribution_bars(
    parts: pd.DataFrame, *, theme: Theme = "light", title: str = "What each layer writes"
) -> go.Figure:
    """What the heads of each layer, its feed-forward block and the rest add, stacked; the embedding first.

    parts    `attnviz.flow.logits.Attribution.frame()`; all bars together are its total
    raises   InputError for a table of other columns
    """
    _check(parts, _PARTS)
    names = {"head": "heads", "mlp": "feed-forward"}
    kinds = parts["part"].map(lambda part: names.get(str(part), "other"))
    layers = parts["layer"].where(parts["part"] != "embedding", -1).astype(int)
    summed = parts.assign(kind=kinds, layer=layers).groupby(["kind", "layer"])["logits"].sum()
    columns = list(range(-1, int(layers.max()) + 1))
    colours = {"heads": CATEGORICAL[theme][0], "feed-forward": CATEGORICAL[theme][1], "other": NO_VALUE[theme]}
    figure = go.Figure(
        [
            go.Bar(
                x=columns,
                y=[float(summed.get((kind, layer), 0.0)) for layer in columns],
                name=kind,
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="%{x}: %{y:.4f} logits<extra>" + kind + "</extra>",
            )
            for kind, colour in colours.items()
        ]
    )
    step = max(1, len(columns) // 8)
    ticks = [layer for layer in columns if layer < 0 or (layer % step == 0 and (layer or step == 1))]
    figure.update_xaxes(
        title="layer", tickangle=0, tickvals=ticks, ticktext=["emb." if i < 0 else str(i) for i in ticks]
    )
    figure.update_yaxes(title="logits", zerolinecolor=NO_VALUE[theme], gridcolor=NO_VALUE[theme])
    framed(figure, title, ("All bars together are the outcome. Other: embedding (emb.) and biases.",), theme)
    return figure.update_layout(barmode="relative", height=420, legend={"orientation": "h", "y": -0.25})


def lens_map(lens: pd.DataFrame, *, theme: Theme = "light", title: str = "The logit lens") -> go.Figure:
    """The likeliest tokens after each layer, the last layer on top; colour is their probability.

    lens     `attnviz.flow.logits.lens`; the row of an answer that is not among the likeliest is left out
    raises   InputError for a table of other columns
    """
    _check(lens, _LENS)
    layers = sorted(set(lens["layer"]))
    ranks = list(range(1, min(int((lens["layer"] == layer).sum()) for layer in layers) + 1))
    rows = lens[lens["rank"] <= len(ranks)].drop_duplicates(["layer", "rank"])
    grid = rows.pivot(index="layer", columns="rank", values=["token", "probability"])
    tokens = [[plain(visible(str(token)) or "\u2423", 14) for token in row] for row in grid["token"].to_numpy()]
    figure = go.Figure(
        go.Heatmap(
            z=grid["probability"].to_numpy(float),
            zmin=0,
            zmax=1,
            colorscale=colorscale(theme),
            colorbar={"title": "probability"},
            text=tokens,
            texttemplate="%{text}",
            hovertemplate="%{y}, rank %{x}: %{text} %{z:.4f}<extra></extra>",
        )
    )
    names = ["embeddings" if layer < 0 else f"after layer {layer}" for layer in layers]
    figure.update_xaxes(title="rank", tickvals=list(range(len(ranks))), ticktext=[str(rank) for rank in ranks])
    figure.update_yaxes(tickvals=list(range(len(layers))), ticktext=names)
    note = "Each state read as if it were the last: what could be read off there, not what the model uses."
    framed(figure, title, (note,), theme)
    return figure.update_layout(height=180 + 24 * len(layers))


def _check(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing or table.empty:
        lacks = f"has no column {', '.join(missing)}" if missing else "has no rows"
        raise InputError(f"A table with the columns {', '.join(columns)} is expected; this one {lacks}.")


def _of_site(parts: pd.DataFrame, site: str | None) -> pd.DataFrame:
    heads = parts[parts["part"] == "head"]
    if site is None and len(heads):
        site = str(heads["site"].iloc[-1])
    rows = heads[heads["site"] == site]
    if rows.empty:
        raise InputError(f"This attribution has no heads at {site!r}.")
    return rows
