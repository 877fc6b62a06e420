"""What of Explore's pictures can be taken along: which figure, which numbers, which lines of Python."""

from __future__ import annotations

import pandas as pd

from attnviz import export, figures
from attnviz.edits import Head
from attnviz.heads import Scores
from attnviz.trace import Trace
from attnviz.ui import python_lines
from attnviz.ui.export import export_bar
from attnviz.ui.selection import Focus
from attnviz.ui.session import selection, text_of
from attnviz.ui.theme import theme
from attnviz.ui.views import SCORE_TITLES
from attnviz.view import Seen


def map_bar(trace: Trace, focus: Focus, seen: Seen) -> None:
    """The selected head's map, the part that is shown."""
    chosen, head = selection(), focus.head
    export_bar(
        f"attention {trace.info.name} {Head(head.layer, head.head)}",
        lambda: figures.attention_map(
            trace,
            head,
            view=focus.view,
            window=focus.window,
            scale=chosen.scale,
            palette=chosen.palette,
            theme=theme(),
        ),
        seen.frame,
        python_lines.map_lines(chosen, focus, *_texts(trace)),
        rows=seen.weights.numel(),
        about=export.about(trace, head=head, view=focus.view),
        key="map",
    )


def grid_bar(trace: Trace, focus: Focus, scores: Scores) -> None:
    """The chosen score of every head."""
    chosen = selection()
    title = SCORE_TITLES[chosen.score]
    export_bar(
        f"heads {trace.info.name} {chosen.score}",
        lambda: figures.head_grid(scores, trace.info, title, palette=chosen.palette, theme=theme(), high=None),
        lambda: pd.DataFrame(
            [(layer, head, value) for (layer, head), value in _cells(scores)], columns=["layer", "head", chosen.score]
        ),
        python_lines.grid_lines(chosen, focus, *_texts(trace)),
        about=export.about(trace, view=focus.view),
        key="grid",
    )


def _cells(scores: Scores) -> list[tuple[tuple[int, int], float]]:
    rows, columns = scores.shape
    return [((i, j), float(scores[i, j])) for i in range(rows) for j in range(columns)]


def _texts(trace: Trace) -> tuple[str, str]:
    """(text, target) as a person gave them."""
    chosen = selection()
    target = text_of(chosen.other) if trace.info.family == "encoder-decoder" else ""
    return text_of(chosen.text), target
