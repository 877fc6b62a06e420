"""“Keep this” on the Gaze page: the tables of reading times go along, as far as a finding holds them."""

from __future__ import annotations

from attnviz.ui.gaze.asking import Asked
from attnviz.ui.gaze.draft import HEAD
from attnviz.ui.notebook.keeping import Draw, keep_this
from attnviz.ui.notebook.viewing import MOST_CHARS
from attnviz.ui.session import selection


def keep_read(ask: Asked, *, figure: Draw | None = None, lines: str = "", key: str = "") -> None:
    """Gaze: the head that stands beside the readings, if it is one, and the sentences."""
    large = [table.name for table in ask.gaze.tables if len(table.text) > MOST_CHARS]
    own = [table.name for table in ask.gaze.tables if not table.made_up and table.name not in large]
    words = [
        "The tables of reading times go along: whoever you share this with sees them." if own else "",
        f"Of more than {MOST_CHARS:,} characters, and left here: {', '.join(large)}. Elsewhere upload them again."
        if large
        else "",
        "Plan an agreement in the Notebook to measure it: reading times are no marks of a finding.",
    ]
    one_head = ask.gaze.beside == HEAD or selection().layer is not None
    keep_this(
        "Gaze",
        heads=[ask.head] if one_head else (),
        figure=figure,
        lines=lines,
        also_seen=[one.text for one in ask.sentences],
        caption=" ".join(filter(None, words)),
        key=key,
    )
