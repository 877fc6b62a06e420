"""The two components of the page: a matrix drawn on a canvas and a strip of tokens tinted by weight."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_HEX_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_KINDS = frozenset({"", "special", "template"})


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


# The shared text goes first: what is inline must be one module and one sheet.
_mount_matrix = st.components.v2.component(
    "attnviz_matrix",
    html='<div class="attnviz-matrix"></div>',
    css=_asset("shared/shared.css") + _asset("matrix/matrix.css"),
    js=_asset("shared/canvas.js") + _asset("matrix/matrix.js"),
)
_mount_token_strip = st.components.v2.component(
    "attnviz_token_strip",
    html='<div class="attnviz-tokens"></div>',
    css=_asset("shared/shared.css") + _asset("token_strip/token_strip.css"),
    js=_asset("shared/canvas.js") + _asset("token_strip/token_strip.js"),
)


def _float32_base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def _picked(key: str) -> Mapping[str, object]:
    """What the browser sent with the trigger `pick`, or nothing if it is not a mapping."""
    state = st.session_state.get(key)
    value = state.get("pick") if isinstance(state, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _index(value: object, size: int) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size:
        return value
    return None


def _check_colours(palettes: Mapping[str, Sequence[str]], *ends: float) -> None:
    for theme in ("light", "dark"):
        stops = palettes.get(theme)
        if not stops or not all(_HEX_COLOUR.fullmatch(stop) for stop in stops):
            raise ValueError('palettes: "light" and "dark", each one or more colours written #rrggbb')
    if not all(math.isfinite(end) for end in ends):
        raise ValueError("the ends of the colour scale must be finite")


def matrix(
    values: NDArray[Any],
    *,
    key: str,
    row_labels: Sequence[str],
    col_labels: Sequence[str],
    row_axis: str,
    col_axis: str,
    value_name: str,
    palettes: Mapping[str, Sequence[str]],
    low: float,
    high: float,
    scale: Literal["linear", "sqrt"] = "linear",
    selected: tuple[int, int] | None,
    label: str,
    cell: Literal["square", "free"] = "square",
    max_height: int = 560,
    on_pick: Callable[[int, int], None],
) -> None:
    """Draw `values` [rows, cols] as a map of colours; NaN is a cell that does not exist and cannot be picked.

    `row_labels` [rows] and `col_labels` [cols] name the cells; a label equal to its own index is not repeated in
    the line that reads out a cell. `palettes` holds #rrggbb stops from `low` to `high`, for the "light" and the "dark"
    page. `max_height` is that of the canvas with its labels, in CSS pixels; a tall window gives it more.
    `on_pick(row, col)` runs as a widget callback, before the script reruns.
    """
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values: two dimensions, neither empty, expected; got the shape {values.shape}")
    rows, cols = values.shape
    if (len(row_labels), len(col_labels)) != (rows, cols):
        raise ValueError(f"{rows} x {cols} values, but {len(row_labels)} row and {len(col_labels)} column labels")
    if selected is not None and not (0 <= selected[0] < rows and 0 <= selected[1] < cols):
        raise ValueError(f"selected: {selected} is outside {rows} x {cols}")
    _check_colours(palettes, low, high)

    def picked() -> None:
        value = _picked(key)
        row, col = _index(value.get("row"), rows), _index(value.get("col"), cols)
        if row is not None and col is not None and not np.isnan(values[row, col]):
            on_pick(row, col)

    _mount_matrix(
        key=key,
        data={
            "key": key,
            "rows": rows,
            "cols": cols,
            "values": _float32_base64(values),
            "row_labels": list(row_labels),
            "col_labels": list(col_labels),
            "row_axis": row_axis,
            "col_axis": col_axis,
            "value_name": value_name,
            "palettes": {name: list(stops) for name, stops in palettes.items()},
            "low": float(low),
            "high": float(high),
            "scale": scale,
            "selected": None if selected is None else [int(selected[0]), int(selected[1])],
            "label": label,
            "cell": cell,
            "max_height": max_height,
        },
        on_pick_change=picked,
    )


def token_strip(
    labels: Sequence[str],
    weights: NDArray[Any],
    *,
    key: str,
    kinds: Sequence[str],
    breaks: Sequence[bool],
    starts_word: Sequence[bool],
    palettes: Mapping[str, Sequence[str]],
    high: float,
    selected: int | None,
    target: int | None,
    label: str,
    value_name: str = "attention",
    picks: Literal["query", "key"] = "query",
    on_pick: Callable[[int], None],
) -> None:
    """Show the tokens `labels` [n] as a text, each tinted by its weight in `weights` [n], from 0 to `high`.

    A weight of NaN marks a token the query cannot see. `kinds` [n] holds "", "special" or "template"; after a token
    with `breaks` [n] a new line starts; a token without `starts_word` [n] is joined to the one before it.
    `selected` is the query and `target` the key; a click picks a new one of `picks`. With no `value_name` there are no
    weights to speak of. `on_pick(index)` runs as a widget callback, before the script reruns.
    """
    count = len(labels)
    if weights.shape != (count,) or not len(kinds) == len(breaks) == len(starts_word) == count:
        raise ValueError(f"{count} tokens: weights, kinds, breaks and starts_word must have that length too")
    if not _KINDS.issuperset(kinds):
        raise ValueError(f"kinds: only {sorted(_KINDS)} are known")
    for name, position in (("selected", selected), ("target", target)):
        if position is not None and not 0 <= position < count:
            raise ValueError(f"{name}: {position} is outside the {count} tokens")
    _check_colours(palettes, high)

    def picked() -> None:
        index = _index(_picked(key).get("index"), count)
        if index is not None:
            on_pick(index)

    _mount_token_strip(
        key=key,
        data={
            "key": key,
            "labels": list(labels),
            "weights": _float32_base64(weights),
            "kinds": list(kinds),
            "breaks": [bool(value) for value in breaks],
            "starts_word": [bool(value) for value in starts_word],
            "palettes": {name: list(stops) for name, stops in palettes.items()},
            "high": float(high),
            "selected": None if selected is None else int(selected),
            "target": None if target is None else int(target),
            "label": label,
            "value_name": value_name,
            "picks": picks,
        },
        on_pick_change=picked,
    )
