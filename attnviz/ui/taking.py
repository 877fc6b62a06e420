"""What of a page's pictures can be taken along: which figure, numbers and lines of Python."""

from __future__ import annotations

from attnviz import export, figures
from attnviz.edits import Head
from attnviz.heads import Scores
from attnviz.trace import Trace
from attnviz.ui import python_lines
from attnviz.ui.export import export_bar
from attnviz.ui.focus import Focus
from attnviz.ui.session import selection, text_of
from attnviz.ui.theme import theme
from attnviz.ui.titles import SCORE_TITLES
from attnviz.view import Seen


def map_bar(
    trace: Trace, focus: Focus, seen: Seen, *, name: str = "attention", lines: str = "", key: str = "map"
) -> None:
    """The selected head's map, the part that is shown.

    name    what its files are called, before the model and the head
    lines   Python that makes it; "": that of the Selection's own trace
    key     tells the maps of one page apart
    """
    chosen, head, look = selection(), focus.head, theme()  # a download is made where no session is
    export_bar(
        f"{name} {trace.info.name} {Head(head.layer, head.head)}",
        lambda: figures.attention_map(
            trace,
            head,
            view=focus.view,
            window=focus.window,
            scale=chosen.scale,
            palette=chosen.palette,
            theme=look,
        ),
        seen.frame,
        lines or python_lines.map_lines(chosen, focus, *_texts(trace)),
        rows=seen.weights.numel(),
        about=export.about(trace, head=head, view=focus.view),
        key=key,
    )


def row_bar(trace: Trace, focus: Focus) -> None:
    """The selected query's row, as the strip shows it."""
    head, look, seen = focus.head, theme(), focus.view.row(trace, focus.head, focus.query)
    export_bar(
        f"row {trace.info.name} {Head(head.layer, head.head)} query {focus.query}",
        lambda: figures.attention_row(trace, head, focus.query, view=focus.view, theme=look),
        seen.frame,
        python_lines.row_lines(selection(), focus, *_texts(trace)),
        about=export.about(trace, head=head, view=focus.view),
        key="row",
        title="The row alone",
    )


def grid_bar(trace: Trace, focus: Focus, scores: Scores) -> None:
    """The chosen score of every head."""
    chosen, look = selection(), theme()
    title = SCORE_TITLES[chosen.score]
    export_bar(
        f"heads {trace.info.name} {chosen.score}",
        lambda: figures.head_grid(scores, trace.info, title, palette=chosen.palette, theme=look, high=None),
        lambda: export.heads_frame({chosen.score: scores}),
        python_lines.grid_lines(chosen, focus, *_texts(trace)),
        about=export.about(trace, view=focus.view),
        key="grid",
    )


def _texts(trace: Trace) -> tuple[str, str]:
    """(text, target) as a person gave them."""
    chosen = selection()
    target = text_of(chosen.other) if trace.info.family == "encoder-decoder" else ""
    return text_of(chosen.text), target
