"""The marker: a text word by word, which a person paints with brushes before looking at what the model does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attnviz.ui.components.parts import component, sent

_mount = component("marker", root="attnviz-marker", scripts=("marker/marker.js",), sheet="marker/marker.css")
# Every component has palettes: shared/canvas.js chooses one by the theme. This one draws no values.
_NO_COLOURS = {"light": ["#ffffff"], "dark": ["#000000"]}
_ROUNDING = 1e-6  # of a weight in steps


def marker(
    labels: Sequence[str],
    weights: Sequence[float],
    *,
    key: str,
    brushes: Sequence[tuple[str, float]],
    custom: float | None = None,
    spaced: Sequence[bool] = (),
    label: str,
    idle: str = "Choose a brush, then click words or drag over them.",
    on_mark: Callable[[tuple[float, ...]], None],
) -> None:
    """Show the words `labels` [n], painted with `weights` [n] in [-1, 1]: 0 is not marked, below zero is struck out.

    `brushes` are (name, weight), one or more, the first one in hand; no weight is 0 and each stands once. A word is
    painted by a click, several by dragging or with Shift and an arrow key; painting what has the brush's weight clears
    it. With `custom` one more brush has a slider for its weight, in such steps up to 1. A word with `spaced` [n] has
    room behind it; () for all. `idle` is said while nothing is marked.
    `on_mark(weights)` runs as a widget callback, before the script reruns, after each stroke: with all of them, each 0
    or a weight that a brush can have. Raises ValueError for what does not fit together.
    """
    count = len(labels)
    if len(weights) != count or len(spaced) not in (0, count):
        raise ValueError(f"{count} words: weights must have that length, and spaced too or be empty")
    given = [float(weight) for weight in weights]
    known = [float(weight) for _, weight in brushes]
    if not all(math.isfinite(weight) and abs(weight) <= 1 for weight in [*given, *known]):
        raise ValueError("weights lie between -1 and 1")
    if not known or 0.0 in known or len(set(known)) < len(known):
        raise ValueError("brushes: one or more, each with a weight of its own that is not 0")
    if custom is not None and not 0 < custom < 1:
        raise ValueError("custom: a step between 0 and 1")
    allowed = {0.0, *known, *given}

    def paintable(weight: float) -> bool:
        if weight in allowed:
            return True
        return custom is not None and 0 < weight <= 1 and abs(weight / custom - round(weight / custom)) < _ROUNDING

    def marked() -> None:
        got = sent(key, "mark").get("weights")
        if not isinstance(got, list) or len(got) != count:
            return
        if all(isinstance(weight, int | float) and not isinstance(weight, bool) for weight in got):
            new = tuple(float(weight) for weight in got)
            if all(map(paintable, new)):
                on_mark(new)

    _mount(
        key=key,
        data={
            "key": key,
            "labels": list(labels),
            "weights": given,
            "spaced": list(map(bool, spaced)) or [True] * count,
            "brushes": [{"name": name, "weight": float(weight)} for name, weight in brushes],
            "custom": custom,
            "label": label,
            "idle": idle,
            "palettes": _NO_COLOURS,
        },
        on_mark_change=marked,
    )
