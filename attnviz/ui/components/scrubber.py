"""The scrubber: buttons, a slider and the written tokens, to go through the steps of a generation or to play them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attnviz.ui.components.parts import as_index, component, sent

_mount = component(
    "scrubber", root="attnviz-scrubber", scripts=("scrubber/scrubber.js",), sheet="scrubber/scrubber.css"
)
# Every component has palettes: shared/canvas.js chooses one by the theme. This one draws no values.
_NO_COLOURS = {"light": ["#ffffff"], "dark": ["#000000"]}


def scrubber(
    labels: Sequence[str],
    *,
    key: str,
    step: int,
    label: str,
    details: Sequence[str] = (),
    on_step: Callable[[int], None],
) -> None:
    """Go through the steps `labels` [n], one token each; `step` is the one that is looked at.

    `label` names the slider for screen readers; `details`, [n] or empty, says something more of each step, such as its
    probability. While it plays, the browser waits for the answer to a step before it takes the next one.
    `on_step(step)` runs as a widget callback, before the script reruns. Raises ValueError for what does not fit.
    """
    count = len(labels)
    if not 0 <= step < count:
        raise ValueError(f"step: {step} is outside the {count} steps")
    if details and len(details) != count:
        raise ValueError(f"details: {count} expected, or none; got {len(details)}")

    def stepped() -> None:
        chosen = as_index(sent(key, "step").get("index"), count)
        if chosen is not None:
            on_step(chosen)

    _mount(
        key=key,
        data={
            "key": key,
            "labels": list(labels),
            "details": list(details),
            "step": int(step),
            "label": label,
            "palettes": _NO_COLOURS,
        },
        on_step_change=stepped,
    )
