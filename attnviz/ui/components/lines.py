"""The lines component: two columns of tokens and the lines between them, drawn on a canvas."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from attnviz.figures.palette import CATEGORICAL
from attnviz.lines import Edges
from attnviz.ui.components.parts import as_index, component, float32_base64, sent

_mount = component("lines", root="attnviz-lines", scripts=("lines/paint.js", "lines/lines.js"), sheet="lines/lines.css")


def lines(
    edges: Edges,
    *,
    key: str,
    heads: Sequence[str],
    selected: tuple[int, int],
    label: str,
    title: str,
    file_name: str = "attnviz-lines",
    max_height: int = 560,
    on_query: Callable[[int], None],
    on_key: Callable[[int], None],
) -> None:
    """Draw edges as lines from queries on the left to keys on the right, each head in a colour of its own.

    `heads` names the heads of `edges`, in their order. `selected` is the query and the key unit that are marked.
    `max_height` is that of the columns in CSS pixels; a tall window gives them more, and longer columns scroll.
    `on_query(unit)` and `on_key(unit)` run as widget callbacks, before the script reruns.
    """
    n_query, n_key = len(edges.queries), len(edges.keys)
    if len(heads) != len(edges.heads):
        raise ValueError(f"heads: {len(heads)} names for {len(edges.heads)} heads")
    if not (0 <= selected[0] < n_query and 0 <= selected[1] < n_key):
        raise ValueError(f"selected: {selected} is outside {n_query} queries and {n_key} keys")

    # Places are far below 2**24, so they are exact as float32.
    columns = np.stack([edges.head, edges.query, edges.key, edges.weight]).astype(np.float32)

    def picked() -> None:
        value = sent(key, "pick")
        for name, size, use in (("query", n_query, on_query), ("key", n_key, on_key)):
            unit = as_index(value.get(name), size)
            if unit is not None:
                use(unit)

    _mount(
        key=key,
        data={
            "key": key,
            "queries": list(edges.queries.labels),
            "keys": list(edges.keys.labels),
            "heads": list(heads),
            "edges": float32_base64(columns),
            "palettes": {theme: list(colours) for theme, colours in CATEGORICAL.items()},
            "selected": [int(selected[0]), int(selected[1])],
            "label": label,
            "title": title,
            "file_name": file_name,
            "max_height": max_height,
        },
        on_pick_change=picked,
    )
