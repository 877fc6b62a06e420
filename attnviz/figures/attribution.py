"""Logit attribution as Plotly figures: what each head and each layer writes, and the logit lens."""

from __future__ import annotations

from itertools import count, takewhile

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from attnviz.errors import InputError
from attnviz.figures.drawing import NO_VALUE, axes, framed
from attnviz.figures.labels import SITE_WORDS, plain
from attnviz.figures.palette import CATEGORICAL, Theme, colorscale, diverging_colorscale
from attnviz.text import visible

_PARTS = ("part", "site", "layer", "head", "logits")
_LENS = ("layer", "rank", "token_id", "token", "probability")
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

    lens     `attnviz.flow.logits.lens`. Ranks that all layers have are drawn; a token that is followed beyond them has
             a column of its own with its rank in each layer, empty where the table does not say
    raises   InputError for a table of other columns, or whose layers have not all a likeliest token
    """
    _check(lens, _LENS)
    lens = lens.reset_index(drop=True)
    layers, counts = sorted(set(lens["layer"])), lens.groupby("rank")["layer"].nunique()
    ranks = list(takewhile(lambda rank: counts.get(rank, 0) == len(layers), count(1)))
    if not ranks:
        raise InputError("Every layer of a lens has a likeliest token, of rank 1: give the table of logits.lens.")
    said = lens["token"].map(_token)
    likely = lens.assign(column=lens["rank"] - 1, word=said)[lens["rank"].isin(ranks)]
    followed = lens.loc[~lens["rank"].isin(ranks), "token_id"].unique()[:1]
    own = lens.assign(column=len(ranks), word=lens["rank"].map("rank {}".format))[lens["token_id"].isin(followed)]
    cells = pd.concat([likely, own]).drop_duplicates(["layer", "column"])
    chances, words = (cells.pivot(index="layer", columns="column", values=name) for name in ("probability", "word"))
    notes = ["Each state read as if it were the last: what could be read off there, not what the model uses."]
    heads = [f"rank {rank}" for rank in ranks]
    if len(own):
        heads.append(said[own.index[0]])
        name = visible(str(own["token"].iloc[0]))
        notes.append(f"The last column follows {name!r}, which is not everywhere among the likeliest {len(ranks)}.")
    figure = go.Figure(
        go.Heatmap(
            z=chances.to_numpy(float),
            zmin=0,
            zmax=1,
            colorscale=colorscale(theme),
            colorbar={"title": "probability"},
            text=words.fillna("").to_numpy(),
            customdata=[heads] * len(layers),
            texttemplate="%{text}",
            hovertemplate="%{y}, %{customdata}: %{text} %{z:.4f}<extra></extra>",
            hoverongaps=False,
        )
    )
    names = ["embeddings" if layer < 0 else f"after layer {layer}" for layer in layers]
    figure.update_xaxes(
        title="rank", tickvals=list(range(len(heads))), ticktext=[*map(str, ranks), *heads[len(ranks) :]]
    )
    figure.update_yaxes(tickvals=list(range(len(layers))), ticktext=names)
    framed(figure, title, tuple(notes), theme)
    return figure.update_layout(height=180 + 24 * len(layers))


def _token(token: object) -> str:
    return plain(visible(str(token)) or "\u2423", 14)


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
