"""How gates were learned, as a Plotly figure; its title comes from the gates themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from attnviz.errors import InputError
from attnviz.figures.drawing import INK, NO_VALUE, framed
from attnviz.figures.palette import CATEGORICAL, Theme
from attnviz.gates import Gates

_HEIGHT = 320
_LINES = {"train": "learned from (one batch)", "held_out": "held out"}


def learning_curve(
    learned: Gates | pd.DataFrame, *, steps: int | None = None, theme: Theme = "light", title: str = ""
) -> go.Figure:
    """The loss by step: of the batch that was learned from, before its step, and of the held-out examples after it.

    learned   gates, or a history under way: columns step, train and held_out (nats), from step 0 on
    steps     where the axis ends; None: at the last step
    title     "": the gates' own
    raises    InputError for a history without these columns, or without a step
    The step with the lowest held-out loss is marked; of gates it is the one that was kept.
    """
    history = learned.history if isinstance(learned, Gates) else learned
    if not {"step", *_LINES} <= set(history.columns) or history.empty:
        raise InputError(
            f"A learning curve needs the columns step, {', '.join(_LINES)} and a row; got {history!r:.80}."
        )
    best = learned.best if isinstance(learned, Gates) else int(history.step.iloc[int(history.held_out.argmin())])
    figure = go.Figure()
    for number, (name, words) in enumerate(_LINES.items()):
        figure.add_scatter(
            x=history.step,
            y=history[name],
            mode="lines+markers",
            name=words,
            line={"color": CATEGORICAL[theme][1 - number], "width": 2, "dash": "solid" if number else "dot"},
            marker={"size": [11 if number and step == best else 5 for step in history.step]},
            hovertemplate=f"step %{{x}}, {words}<br>%{{y:.4f}} nats<extra></extra>",
        )
    left = best <= (steps or int(history.step.max())) / 2
    figure.add_vline(
        x=best,
        line={"color": INK[theme], "dash": "dash", "width": 1},
        annotation_text=f"best step: {best}" + " (the model as it is)" * (best == 0),
        annotation_position="top right" if left else "top left",
        annotation_xshift=4 if left else -4,
    )
    grid = {"gridcolor": NO_VALUE[theme], "zerolinecolor": NO_VALUE[theme]}
    figure.update_xaxes(title="step", range=[-0.3, (steps or int(history.step.max())) + 0.3], **grid)
    highest = float(np.nanmax(history[list(_LINES)].to_numpy(float)))
    figure.update_yaxes(title="loss (nats)", range=[0, 1.2 * highest or 1.0], **grid)  # room for the words above
    words = learned.title if isinstance(learned, Gates) else "gates being learned"
    framed(figure, title or words[:1].upper() + words[1:], ("Dotted: the batch of a step, before it.",), theme)
    return figure.update_layout(height=_HEIGHT, legend={"orientation": "h", "y": -0.25}, margin_b=70)
