"""The strip: a text token by token, tinted by weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from numpy.typing import NDArray

from attnviz.ui.components.parts import (
    Scale,
    as_index,
    check_colours,
    check_number,
    component,
    float32_base64,
    sent,
)

_KINDS = frozenset({"", "special", "template"})

_mount = component(
    "token_strip",
    root="attnviz-tokens",
    scripts=("token_strip/marks.js", "token_strip/token_strip.js"),
    sheet="token_strip/token_strip.css",
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
    scale: Scale = "sqrt",
    selected: int | None,
    target: int | None,
    marked: Sequence[int] = (),
    mark_value: float | None = None,
    label: str,
    value_name: str = "attention",
    unseen_word: str = "faded: not seen",
    selected_word: str = "query",
    picks: Literal["query", "key"] = "query",
    link: str = "",
    on_pick: Callable[[int], None],
    on_mark: Callable[[tuple[int, ...]], None] | None = None,
) -> None:
    """Show the tokens `labels` [n] as a text, each tinted by its weight in `weights` [n], from 0 to `high`.

    A weight of NaN marks a token the query cannot see, which the legend calls `unseen_word`. `kinds` [n] holds "",
    "special" or "template"; after a token with `breaks` [n] a new line starts; a token without `starts_word` [n] is
    joined to the one before it. `selected` is the query and `target` the key; a click picks a new one of `picks`.
    `selected_word` says what the selected token is where it is no query. With no `value_name` there are no weights.

    With `on_mark` several tokens can be marked, by Ctrl or Shift and a click, Shift+Enter, a long touch or dragging:
    on_mark(positions) gets all of them, ascending, () when the marks are cleared. `marked` are the marks, and
    `mark_value` what is said of them in place of the sum of their weights.
    Components of a page with the same `link` show what is pointed at in one another. The callbacks run as widget
    callbacks, before the script reruns. Raises ValueError for what does not fit together.
    """
    count = len(labels)
    if weights.shape != (count,) or not len(kinds) == len(breaks) == len(starts_word) == count:
        raise ValueError(f"{count} tokens: weights, kinds, breaks and starts_word must have that length too")
    if not _KINDS.issuperset(kinds):
        raise ValueError(f"kinds: only {sorted(_KINDS)} are known")
    for name, position in (("selected", selected), ("target", target), *(("marked", i) for i in marked)):
        if position is not None and not 0 <= position < count:
            raise ValueError(f"{name}: {position} is outside the {count} tokens")
    check_colours(palettes, high, scale=scale)
    check_number("mark_value", mark_value)

    def picked() -> None:
        index = as_index(sent(key, "pick").get("index"), count)
        if index is not None:
            on_pick(index)

    def marks() -> None:
        indices = sent(key, "mark").get("indices")
        if on_mark is not None and isinstance(indices, list) and all(as_index(i, count) is not None for i in indices):
            on_mark(tuple(sorted(set(indices))))

    _mount(
        key=key,
        data={
            "key": key,
            "labels": list(labels),
            "weights": float32_base64(weights),
            "kinds": list(kinds),
            "breaks": [bool(value) for value in breaks],
            "starts_word": [bool(value) for value in starts_word],
            "palettes": {name: list(stops) for name, stops in palettes.items()},
            "high": float(high),
            "scale": scale,
            "selected": None if selected is None else int(selected),
            "target": None if target is None else int(target),
            "marks": on_mark is not None,
            "marked": sorted({int(i) for i in marked}),
            "mark_value": None if mark_value is None else float(mark_value),
            "label": label,
            "value_name": value_name,
            "unseen_word": unseen_word,
            "selected_word": selected_word,
            "picks": picks,
            "link": link,
        },
        on_pick_change=picked,
        **({} if on_mark is None else {"on_mark_change": marks}),
    )
