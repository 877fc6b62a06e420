"""The flow graphs that harness_components.py shows and test_flow_graph.py compares with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from harness_data import words

from attnviz.flow.graph import Graph

NAMES = ["start_level", "start", "end_level", "end", "layer", "site", "kind", "mass"]
HUGE = 20_000


@dataclass(frozen=True)
class Shape:
    """How many tokens, of these how many of a source, how many layers of each text, and how many edges at most."""

    tokens: int
    layers: int
    most: int
    source: int = 0
    whole: bool = False  # all of the text is the target


FLOWS = {
    "flow": Shape(14, 4, 60),
    "flow-source": Shape(16, 4, 90, source=9),
    "flow-long": Shape(120, 6, 300),
    "flow-all": Shape(10, 3, 80, whole=True),
    "flow-huge": Shape(512, 30, HUGE),
}


@cache
def flow_of(name: str) -> Graph:
    """What runs down from the last token's top state, or from all of them, the heaviest edges of it and in no order.

    With a source, its levels come first, and the text starts at the level at which the source ends.
    """
    shape = FLOWS[name]
    levels = ["embeddings", *(f"after layer {layer}" for layer in range(shape.layers))]
    if shape.source:
        levels = [f"source {level}" for level in levels] + levels[1:]
    edges = scattered(shape) if name == "flow-huge" else traced(shape, len(levels) - 1)
    kept = edges.sort_values("mass", ascending=False, kind="stable").head(shape.most)
    return Graph(
        columns=tuple(words(shape.tokens)),
        n_source=shape.source,
        levels=tuple(levels),
        edges=kept.sample(frac=1, random_state=1),
        target=(len(levels) - 1, -1 if shape.whole else shape.tokens - 1),
        held=float(kept.mass.sum() / edges.mass.sum()),
        n_edges_all=len(edges),
    )


def traced(shape: Shape, top: int) -> pd.DataFrame:
    """All edges below the target: half of a node's mass is kept, the rest goes down through random patterns."""
    draw = np.random.default_rng(shape.tokens)
    n, source = shape.tokens, shape.source
    mass = np.zeros((top + 1, n))
    mass[top, source if shape.whole else n - 1 :] = 1 / n if shape.whole else 1
    rows: list[tuple[object, ...]] = []
    for level in range(top, 0, -1):
        encodes = bool(source) and level <= shape.layers
        columns = range(source) if encodes else range(source, n)
        layer = (level - 1) % shape.layers
        for end in columns:
            here, site = mass[level, end], "encoder" if encodes else "decoder"
            sites = [(site, range(source) if encodes else range(source, end + 1), level - 1, 0.5)]
            if source and not encodes:
                sites = [(*sites[0][:3], 0.3), ("cross", range(source), shape.layers, 0.2)]
            moves = [(level - 1, end, site, "kept", 0.5 * here)]
            for name, keys, below, share in sites:
                weights = draw.random(len(keys)) ** 8
                shares = share * here * weights / weights.sum()
                moves += [(below, k, name, "attention", part) for k, part in zip(keys, shares, strict=True)]
            for below, start, name, kind, part in moves if here else []:
                mass[below, start] += part
                rows.append((below, start, level, end, layer, name, kind, part))
    return pd.DataFrame(rows, columns=NAMES)


def scattered(shape: Shape) -> pd.DataFrame:
    """Attention between random nodes of all levels, each pair once, of random mass."""
    draw = np.random.default_rng(shape.tokens)
    n = shape.tokens
    place = draw.choice(shape.layers * n * n, 3 * shape.most, replace=False)
    layer, end, start = place // n**2, place // n % n, place % n
    part = draw.random(len(place)) ** 40
    columns = [layer, start, layer + 1, end, layer, "decoder", "attention", part]
    edges = pd.DataFrame(dict(zip(NAMES, columns, strict=True)))
    return edges[edges.start <= edges.end]
