"""The map: a matrix of any size drawn on a canvas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnviz.ui.components.parts import (
    Scale,
    Window,
    as_index,
    as_window,
    check_colours,
    check_number,
    check_window,
    component,
    float32_base64,
    sent,
)

MOST_CELLS = 4096  # along either axis of the whole matrix

_mount = component(
    "matrix",
    root="attnviz-matrix",
    scripts=(
        "matrix/part.js",
        "matrix/words.js",
        "matrix/paint.js",
        "matrix/box.js",
        "matrix/zoom.js",
        "matrix/matrix.js",
    ),
    sheet="matrix/matrix.css",
)


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
    scale: Scale = "linear",
    selected: tuple[int, int] | None,
    label: str,
    cell: Literal["square", "free"] = "square",
    max_height: int = 560,
    shape: tuple[int, int] | None = None,
    window: Window | None = None,
    pool: tuple[int, int] = (1, 1),
    zoom: Window | None = None,
    box: Window | None = None,
    box_value: float | None = None,
    link: str = "",
    row_units: Sequence[tuple[int, int]] | None = None,
    col_units: Sequence[tuple[int, int]] | None = None,
    title: str = "",
    file_name: str = "attnviz",
    on_pick: Callable[[int, int], None],
    on_window: Callable[[Window | None], None] | None = None,
    on_box: Callable[[Window | None], None] | None = None,
) -> None:
    """Draw `values` [rows, cols] as a map of colours; NaN is a cell that does not exist and cannot be picked.

    `row_labels` [rows] and `col_labels` [cols] name the cells; a label equal to its own index is not repeated in
    the line that reads out a cell. `palettes` holds #rrggbb stops from `low` to `high`, for the "light" and the "dark"
    page; a scale that is not linear is signed where `low` < 0, and "log" starts at `low`, or 0.0001 if that is not
    above zero. `max_height` is that of the canvas with its labels, in CSS pixels; a tall window gives it more.

    Of a large matrix `values` may be a part: `shape` is then that of the whole, up to 4,096 a side, which labels,
    `selected`, `zoom` and `box` speak of; `window` (row0, row1, col0, col1; half-open) is what the values cover, and
    each is the largest, or with `low` < 0 the furthest from zero, of a block of `pool` cells counted from the window's
    start. What is drawn is `zoom`, None for the whole, and stays so until another one is given or chosen.

    `box` is outlined, and the sum over its columns, mean over its rows read out, where its values are there one by
    one; `box_value` is read out in place of that. Components of a page with the same `link` show what is pointed at in
    one another; `row_units` and `col_units` give the tokens [start, stop) of each cell, by default its own position.
    A saved picture has `title` on top and is called `file_name`.

    The callbacks run as widget callbacks, before the script reruns. on_pick(row, col): a single cell was picked; a
    click on a block zooms in there instead. on_window(window): zoom was changed, None for the whole; without it
    there is no zooming. on_box(box): a box was drawn, or with None removed; without it none can be drawn.
    Raises ValueError for what does not fit together.
    """
    rows, cols = whole = _checked_shape(values, shape, window, pool)
    covered = window or (0, rows, 0, cols)
    if (len(row_labels), len(col_labels)) != whole:
        raise ValueError(f"{rows} x {cols} values, but {len(row_labels)} row and {len(col_labels)} column labels")
    if selected is not None and not (0 <= selected[0] < rows and 0 <= selected[1] < cols):
        raise ValueError(f"selected: {selected} is outside {rows} x {cols}")
    for name, units, count in (("row_units", row_units, rows), ("col_units", col_units, cols)):
        if units is not None and (len(units) != count or not all(0 <= start <= stop for start, stop in units)):
            raise ValueError(f"{name}: {count} pairs (start, stop) with 0 <= start <= stop expected")
    check_window("zoom", zoom, whole)
    check_window("box", box, whole)
    check_number("box_value", box_value)
    check_colours(palettes, low, high, scale=scale)

    def picked() -> None:
        value = sent(key, "pick")
        row, col = as_index(value.get("row"), rows), as_index(value.get("col"), cols)
        if row is not None and col is not None and _has_value(values, covered, pool, row, col):
            on_pick(row, col)

    def windowed() -> None:
        _hand_on(sent(key, "window"), "window", whole, on_window)

    def boxed() -> None:
        _hand_on(sent(key, "box"), "box", whole, on_box)

    callbacks = {"on_window_change": (on_window, windowed), "on_box_change": (on_box, boxed)}
    _mount(
        key=key,
        data={
            "key": key,
            "rows": rows,
            "cols": cols,
            "values": float32_base64(values),
            "window": [int(end) for end in covered],
            "pool": [int(size) for size in pool],
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
            "zooms": on_window is not None,
            "zoom": None if zoom is None else [int(end) for end in zoom],
            "boxes": on_box is not None,
            "box": None if box is None else [int(end) for end in box],
            "box_value": None if box_value is None else float(box_value),
            "link": link,
            "row_units": None if row_units is None else [[int(start), int(stop)] for start, stop in row_units],
            "col_units": None if col_units is None else [[int(start), int(stop)] for start, stop in col_units],
            "title": title,
            "file_name": file_name,
        },
        on_pick_change=picked,
        **{name: run for name, (wanted, run) in callbacks.items() if wanted is not None},
    )


def _checked_shape(
    values: NDArray[Any], shape: tuple[int, int] | None, window: Window | None, pool: tuple[int, int]
) -> tuple[int, int]:
    """The whole matrix's shape, once `values` is what `window` and `pool` of it leave."""
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"values: two dimensions, neither empty, expected; got the shape {values.shape}")
    rows, cols = whole = values.shape if shape is None else shape
    if not (0 < rows <= MOST_CELLS and 0 < cols <= MOST_CELLS):
        raise ValueError(f"shape: 1 to {MOST_CELLS} rows and columns expected; got {rows} x {cols}")
    if len(pool) != 2 or min(pool) < 1:
        raise ValueError(f"pool: two sizes of at least 1 expected; got {pool}")
    check_window("window", window, whole)
    row0, row1, col0, col1 = window or (0, rows, 0, cols)
    wanted = -(-(row1 - row0) // pool[0]), -(-(col1 - col0) // pool[1])
    if values.shape != wanted:
        raise ValueError(
            f"values: {wanted[0]} x {wanted[1]} expected for the window {row0, row1, col0, col1} in blocks of "
            f"{pool[0]} x {pool[1]}; got {values.shape[0]} x {values.shape[1]}"
        )
    return whole


def _has_value(values: NDArray[Any], window: Window, pool: tuple[int, int], row: int, col: int) -> bool:
    """Whether the cell (row, col) of the whole is among `values` by itself, and exists."""
    row0, row1, col0, col1 = window
    if not (row0 <= row < row1 and col0 <= col < col1):
        return False
    down, across = (row - row0) // pool[0], (col - col0) // pool[1]
    alone = min(pool[0], row1 - row0 - down * pool[0]) == 1 == min(pool[1], col1 - col0 - across * pool[1])
    return alone and not bool(np.isnan(values[down, across]))


def _hand_on(
    value: Mapping[str, object], name: str, shape: tuple[int, int], run: Callable[[Window | None], None] | None
) -> None:
    """Call `run` with the window that the browser sent, or None where it sent null; with nothing that is neither."""
    if run is None or name not in value:
        return
    window = as_window(value[name], shape)
    if window is not None or value[name] is None:
        run(window)
