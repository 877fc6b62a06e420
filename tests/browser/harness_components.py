"""A page with the components alone, on numbers of numpy's; `?case=` says what is on it. For test_components.py."""

from __future__ import annotations

import json

import numpy as np
import streamlit as st
from harness_data import DIVERGING, HOSTILE_LABELS, Case, case_of
from harness_flow import FLOWS, flow_of

from attnviz.figures.palette import SEQUENTIAL
from attnviz.ui.components import matrix, token_strip
from attnviz.ui.components.flowgraph import flow_graph
from attnviz.ui.components.parts import Window

state = st.session_state


def said(name: str, value: object) -> None:
    """Keep what a callback was given, in order; the page shows it for the test to read."""
    state.setdefault("said", []).append([name, value])


def show_map(case: Case) -> None:
    values = case.values
    whole = (0, values.shape[0], 0, values.shape[1])
    window: Window = state.get("window") or whole
    row0, row1, col0, col1 = window
    pool = max(1, -(-max(row1 - row0, col1 - col0) // case.most))
    exact_whole = pool == 1 and window == whole
    if case.few:
        window, pool, exact_whole = whole, 1, True
    part = values if exact_whole else values[window[0] : window[1], window[2] : window[3]]

    rows, cols = values.shape
    pairs = [(2 * i, 2 * i + 2) for i in range(rows)] if case.tokens == 2 * rows else None

    def windowed(new: Window | None) -> None:
        state["window"] = new
        said("window", new)

    def boxed(new: Window | None) -> None:
        state["box"] = new
        said("box", new)

    matrix(
        part if pool == 1 else blocks(part, pool, signed=case.low < 0),
        key="map",
        shape=(rows, cols),
        window=window,
        pool=(pool, pool),
        zoom=state.get("window"),
        row_labels=case.labels[:rows],
        col_labels=case.labels[:cols],
        row_axis="query",
        col_axis="key",
        value_name="attention",
        palettes=DIVERGING if case.low < 0 else SEQUENTIAL,
        low=case.low,
        high=case.high,
        scale=case.scale,
        selected=(3, 2),
        label="A map",
        box=state.get("box"),
        box_value=0.625 if pairs and state.get("box") else None,
        row_units=pairs,
        col_units=pairs,
        link="page",
        title=f"A title {HOSTILE_LABELS[0]}",
        file_name="a map/of <mine>",
        on_pick=lambda row, col: said("pick", [row, col]),
        on_window=windowed,
        on_box=boxed,
    )


def blocks(values: np.ndarray, size: int, *, signed: bool) -> np.ndarray:
    """[rows, cols] -> the largest of each block, or the one furthest from zero."""
    rows, cols = (-(-count // size) for count in values.shape)
    padded = np.zeros((rows * size, cols * size), np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    cut = padded.reshape(rows, size, cols, size)
    high, low = cut.max((1, 3)), cut.min((1, 3))
    return np.where(-low > high, low, high) if signed else high


def show_strip(case: Case) -> None:
    count = case.tokens
    weights = np.linspace(0, 1, count, dtype=np.float32) ** 2
    weights[-1] = np.nan

    def marked(positions: tuple[int, ...]) -> None:
        state["marked"] = positions
        said("mark", list(positions))

    token_strip(
        case.labels[:count],
        weights,
        key="strip",
        kinds=[""] * count,
        breaks=[False] * count,
        starts_word=[True] * count,
        palettes=SEQUENTIAL,
        high=1.0,
        scale=case.scale,
        selected=1,
        target=3,
        marked=state.get("marked", ()),
        label="A text",
        unseen_word="faded: taken away or not seen",
        link="page",
        on_pick=lambda index: said("pick", index),
        on_mark=marked,
    )


def show_flow(name: str) -> None:
    def took(*edge: object) -> None:
        state["edge"] = edge
        said("edge", list(edge))

    flow_graph(
        flow_of(name),
        key="graph",
        label="A graph",
        title=f"A title {HOSTILE_LABELS[0]}",
        picked=state.get("edge"),
        file_name="a graph/of <mine>",
        on_edge=took,
        on_node=lambda level, column: said("node", [level, column]),
    )


name = st.query_params.get("case", "small")
st.markdown(f"**{name}**")
if name in FLOWS:
    show_flow(name)
else:
    shown = case_of(name)
    if shown.tokens:
        show_strip(shown)
    if shown.values.size:
        show_map(shown)
st.text(json.dumps(state.get("said", [])))
