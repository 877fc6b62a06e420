"""The player: a sentence as somebody read it, its words lighting up one after another for as long as they were read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from attnviz.ui.components.parts import check_colours, component, float32_base64

_mount = component("reading", root="attnviz-reading", scripts=("gaze/reading.js",), sheet="gaze/reading.css")


def reading(
    labels: Sequence[str],
    durations_ms: Sequence[float],
    *,
    key: str,
    counted: Sequence[bool],
    spaced: Sequence[bool],
    palettes: Mapping[str, Sequence[str]],
    label: str,
    link: str = "",
) -> None:
    """Show the rows `labels` [n] as a text, and play them in their order, each for its duration.

    `durations_ms` [n]: 0 for a word that was skipped, NaN for one that was not recorded. A row that is not `counted`
    [n] is punctuation: it has no share of the time. A row that is not `spaced` [n] is joined to the one before it.
    A word's colour is its share of the time on all counted words, from 0 to the largest. Nothing is sent back.
    Components of the page with the same `link` show which row is being read. Raises ValueError for what does not fit.
    """
    count = len(labels)
    if not count or not len(durations_ms) == len(counted) == len(spaced) == count:
        raise ValueError(f"{count} rows: one or more, and durations, counted and spaced of that length")
    if any(time < 0 or math.isinf(time) for time in durations_ms):
        raise ValueError("durations are 0 or more, or NaN")
    check_colours(palettes)
    _mount(
        key=key,
        data={
            "key": key,
            "labels": list(labels),
            "durations": float32_base64(np.array(durations_ms)),
            "counted": list(map(bool, counted)),
            "spaced": list(map(bool, spaced)),
            "palettes": {name: list(stops) for name, stops in palettes.items()},
            "label": label,
            "link": link,
        },
    )
