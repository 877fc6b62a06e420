"""The flow graph component: tokens across, levels upwards, and the edges that carry a target's explanation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attnviz.figures.flow import KEPT, held_words, own_position
from attnviz.figures.labels import SITE_WORDS
from attnviz.figures.palette import CATEGORICAL
from attnviz.flow.graph import Graph
from attnviz.ui.components.parts import as_index, component, float32_base64, sent

EdgePlace = tuple[int, str, int, int]  # layer, site, query, key; each counts in its own text

_SCRIPTS = ("place", "graph", "paint", "words", "walk", "play", "flow")
_mount = component(
    "flow", root="attnviz-flow", scripts=tuple(f"flow/{name}.js" for name in _SCRIPTS), sheet="flow/flow.css"
)
# Attention, cross-attention, what is kept, and the marks of the target and of the picked edge.
_PALETTES = {theme: [colours[0], colours[2], KEPT[theme], colours[1]] for theme, colours in CATEGORICAL.items()}


def flow_graph(
    graph: Graph,
    *,
    key: str,
    label: str,
    title: str,
    picked: EdgePlace | None = None,
    file_name: str = "attnviz-flow",
    max_height: int = 560,
    on_edge: Callable[[int, str, int, int], None],
    on_node: Callable[[int, int], None],
) -> None:
    """Draw a graph on a canvas: a dot's size is its node's mass, an edge's width and ink are its own.

    A node's mass is that of its drawn edges towards the target, so it misses what the graph left out. `label` names the
    picture for screen readers, `title` stands over it in files. `picked` is the attention edge that is marked, if it is
    drawn. `max_height` is in CSS pixels; a tall window gives the graph more, and tokens that are too many scroll.
    `on_edge(layer, site, query, key)` and `on_node(level, column)` run as widget callbacks, before the script reruns:
    the edge is one of attention, and the node may be any, also one of level 0 or without mass.
    """
    edges = graph.edges.sort_values("mass", ascending=False, kind="stable")
    sites = list(dict.fromkeys(edges["site"]))
    attends = (edges["kind"] == "attention").to_numpy()
    crosses = (edges["site"] == "cross").to_numpy()
    colours = np.where(attends, np.where(crosses, 1, 0), 2)
    # Places are far below 2**24, so they are exact as float32.
    fields = [edges[name].to_numpy() for name in ("start_level", "start", "end_level", "end", "layer")]
    fields += [edges["site"].map(sites.index).to_numpy(), attends, colours, edges["mass"].to_numpy()]

    def row(layer: int, site: str, start: int, end: int) -> int | None:
        """The place of an attention edge between two columns, if it is drawn."""
        same = attends & (edges["layer"] == layer) & (edges["site"] == site)
        found = np.flatnonzero(same & (edges["start"] == start) & (edges["end"] == end))
        return int(found[0]) if found.size else None

    def picked_now() -> None:
        match sent(key, "pick"):
            case {"node": [level, column]}:
                node = as_index(level, len(graph.levels)), as_index(column, len(graph.columns))
                if node[0] is not None and node[1] is not None:
                    on_node(node[0], node[1])
            case {"edge": [int(layer), int(site), int(start), int(end)]} if as_index(site, len(sites)) is not None:
                if row(layer, sites[site], start, end) is not None:
                    on_edge(layer, sites[site], own_position(graph, end), own_position(graph, start))

    _mount(
        key=key,
        data={
            "key": key,
            "columns": list(graph.columns),
            "n_source": graph.n_source,
            "levels": list(graph.levels),
            "target": [int(graph.target[0]), int(graph.target[1])],
            "edges": float32_base64(np.stack(fields).astype(np.float32)),
            "site_words": [SITE_WORDS[site] if len(sites) > 1 else "" for site in sites],
            "kinds": ["attention", "cross-attention" if crosses.any() else "", "kept (residual)", ""],
            "marked": None if picked is None else row(picked[0], picked[1], *_columns(graph, picked)),
            "held": held_words(graph),
            "palettes": _PALETTES,
            "label": label,
            "title": title,
            "file_name": file_name,
            "max_height": max_height,
        },
        on_pick_change=picked_now,
    )


def _columns(graph: Graph, edge: EdgePlace) -> tuple[int, int]:
    """The columns of an edge's lower and upper end: its key's and its query's."""
    _, site, query, position = edge
    return (
        position + (graph.n_source if site == "decoder" else 0),
        query + (0 if site == "encoder" else graph.n_source),
    )
