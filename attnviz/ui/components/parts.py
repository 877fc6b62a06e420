"""What the components of the page share: how they are put together, and how their data go over and come back."""

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

Scale = Literal["linear", "sqrt", "log"]
Window = tuple[int, int, int, int]  # row0, row1, col0, col1; half-open

_ASSETS = Path(__file__).resolve().parents[3] / "assets"
_SHARED = ("shared/colours.js", "shared/canvas.js", "shared/save.js", "shared/stage.js")
_HEX_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_SCALES = ("linear", "sqrt", "log")


def component(name: str, *, root: str, scripts: Sequence[str], sheet: str) -> Callable[..., object]:
    """Register the component `name`: one <div> of the class `root`, these scripts in order, and a sheet, of assets/.

    The shared texts go first: what is inline must be one module and one sheet. The last script has the default export.
    """
    return st.components.v2.component(
        f"attnviz_{name}",
        html=f'<div class="attnviz {root}"></div>',
        css=_asset("shared/shared.css") + _asset(sheet),
        js="".join(map(_asset, (*_SHARED, *scripts))),
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def float32_base64(values: NDArray[Any]) -> str:
    """`values` as the components' decodeFloats reads them: little-endian float32, rows first."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def sent(key: str, trigger: str) -> Mapping[str, object]:
    """What the browser sent with this trigger, or nothing if it is not a mapping."""
    state = st.session_state.get(key)
    value = state.get(trigger) if isinstance(state, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def as_index(value: object, size: int) -> int | None:
    """`value` if it is a whole number in [0, size), else None."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size:
        return value
    return None


def as_window(value: object, shape: tuple[int, int]) -> Window | None:
    """`value` if it is a list or tuple of four whole numbers that is a window in `shape`, else None."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in value):
        return None
    row0, row1, col0, col1 = value
    if not (0 <= row0 < row1 <= shape[0] and 0 <= col0 < col1 <= shape[1]):
        return None
    return row0, row1, col0, col1


def check_window(name: str, value: Window | None, shape: tuple[int, int]) -> None:
    if value is not None and as_window(value, shape) is None:
        raise ValueError(f"{name}: row0 < row1, col0 < col1 in {shape[0]} x {shape[1]} expected; got {value}")


def check_colours(palettes: Mapping[str, Sequence[str]], *ends: float, scale: Scale = "linear") -> None:
    for theme in ("light", "dark"):
        stops = palettes.get(theme)
        if not stops or not all(_HEX_COLOUR.fullmatch(stop) for stop in stops):
            raise ValueError('palettes: "light" and "dark", each one or more colours written #rrggbb')
    if not all(math.isfinite(end) for end in ends):
        raise ValueError("the ends of the colour scale must be finite")
    if scale not in _SCALES:
        raise ValueError(f"scale: one of {', '.join(_SCALES)} expected; got {scale!r}")


def check_number(name: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name}: a finite number expected; got {value}")
