"""Heads that agree with a person's marks, against what the best of all heads reaches by chance, as a Plotly figure."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from attnviz.errors import InputError
from attnviz.figures.drawing import INK, framed
from attnviz.figures.palette import CATEGORICAL, Theme
from attnviz.human.ranking import Ranking

METRIC_WORDS = {
    "spearman": "rank correlation",
    "auroc": "AUROC",
    "auprc": "average precision",
    "token_f1": "word F1",
    "iou_f1": "span F1",
}
_ROW = 24  # pixels
_DASHES = ("dot", "dashdot", "longdash", "longdashdot", "5px,2px")


def agreement_dots(
    ranking: Ranking, *, most: int = 15, theme: Theme = "light", title: str = "Heads that agree with the marks"
) -> go.Figure:
    """The best heads as dots with intervals over texts; chance and the baselines as upright lines.

    most     heads that are drawn, the best first
    raises   InputError where no head has a number
    The chance line is where the best of *all* heads stays with moved marks in 95% of the draws: a dot left of it is
    nothing, however well it does. Agreement says nothing of whether the model relies on these words.
    """
    name, words = ranking.metric, METRIC_WORDS[ranking.metric]
    heads = ranking.frame[(ranking.frame["kind"] == "head") & np.isfinite(ranking.frame[name])].head(most)
    if heads.empty:
        raise InputError("No head has a number by this measure here, so there is nothing to draw.")
    named = {(head.layer, head.head) for head in ranking.named}
    values = heads[name].to_numpy(float)
    is_named = [pair in named for pair in zip(heads["layer"], heads["head"], strict=True)]
    colours = CATEGORICAL[theme]
    figure = go.Figure(
        go.Scatter(
            x=values,
            y=list(range(len(heads))),
            mode="markers",
            name="heads, best first",
            error_x={
                "array": np.nan_to_num(heads[f"{name}_high"].to_numpy(float) - values),
                "arrayminus": np.nan_to_num(values - heads[f"{name}_low"].to_numpy(float)),
                "thickness": 1,
                "visible": bool(np.isfinite(heads[f"{name}_low"].to_numpy(float)).any()),
            },
            marker={
                "size": 9,
                "color": colours[0],
                "symbol": ["circle" if one else "circle-open" for one in is_named],
                "line": {"width": 2, "color": colours[0]},
            },
            hovertext=[f"{row['name']}: {row[name]:.3f}, p {row['p']:.3f}" for _, row in heads.iterrows()],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    limit = float(ranking.bands["head"].quantiles((0.95,))[0])
    if np.isfinite(limit):
        _upright(figure, limit, len(heads), f"chance: best of all heads, 95% ({limit:.3f})", colours[1], "solid")
    baselines = ranking.frame[ranking.frame["kind"] == "baseline"]
    for at, (_, row) in enumerate(baselines.iterrows()):
        if np.isfinite(row[name]):
            _upright(
                figure,
                row[name],
                len(heads),
                f"{row['name']} ({row[name]:.3f})",
                INK[theme],
                _DASHES[at % len(_DASHES)],
            )
    ends = [heads[f"{name}_low"].to_numpy(float), heads[f"{name}_high"].to_numpy(float)]
    drawn = np.concatenate([*(np.asarray(trace.x, float) for trace in figure.data), *ends])
    low, high = float(np.nanmin(drawn)), float(np.nanmax(drawn))
    pad = 0.04 * max(high - low, 0.1)
    figure.update_xaxes(
        range=[low - pad, high + pad], title=words, showgrid=True, gridcolor="rgba(128,128,128,.2)", zeroline=False
    )
    figure.update_yaxes(
        tickvals=list(range(len(heads))),
        ticktext=heads["name"].tolist(),
        range=[len(heads) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
    )
    texts = f"{len(ranking.texts)} text{'s' * (len(ranking.texts) != 1)}"
    framed(figure, title, (f"{words}, mean over {texts}; filled: named on texts held out",), theme)
    return figure.update_layout(
        height=150 + _ROW * len(heads), margin={"l": 60, "b": 50}, legend={"font": {"size": 11}, "x": 1.02, "y": 1}
    )


def _upright(figure: go.Figure, at: float, rows: int, name: str, colour: str, dash: str) -> None:
    figure.add_scatter(
        x=[at, at],
        y=[-0.5, rows - 0.5],
        mode="lines",
        name=name,
        line={"color": colour, "dash": dash, "width": 2 if dash == "solid" else 1},
        hoverinfo="name",
    )
