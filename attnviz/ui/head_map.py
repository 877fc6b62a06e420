"""Every head of a model as a map of colours to pick one from, and the colours that numbers get."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from attnviz.edits import Head
from attnviz.figures.palette import DIVERGING
from attnviz.heads import Scores
from attnviz.ui.components import matrix
from attnviz.ui.reading import palette_of
from attnviz.ui.session import selection


class Colours(NamedTuple):
    """What `matrix` colours by: stops for the "light" and the "dark" page, from `low` to `high`."""

    palettes: Mapping[str, Sequence[str]]
    low: float
    high: float


def rising(values: Scores, *, limit: float = 1.0) -> Colours:
    """The chosen palette from zero to a round number, `limit` at most."""
    return Colours(palette_of(selection().palette), 0.0, round_up(float(np.nanmax(values, initial=0.0)), limit))


def signed(most: float) -> Colours:
    """Orange for what is below zero and blue for what is above, as far as `most` either way."""
    return Colours(DIVERGING, -most, most)


def head_matrix(
    values: Scores,
    selected: Head | None,
    *,
    key: str,
    what: str = "All heads",
    purpose: str,
    value_name: str,
    colours: Colours | None = None,
    max_height: int = 400,
    title: str,
    file_name: str,
    on_pick: Callable[[int, int], None],
) -> None:
    """A number for every head as a map of colours.

    values    [layer, head]; NaN where there is no head
    selected  None where it is none of these
    what      what the map shows, for those who hear the page; `purpose` is a sentence: what a pick does
    colours   by default `rising`
    """
    matrix(
        values,
        key=key,
        row_labels=[str(i) for i in range(values.shape[0])],
        col_labels=[str(i) for i in range(values.shape[1])],
        row_axis="layer",
        col_axis="head",
        value_name=value_name,
        **(colours or rising(values))._asdict(),
        selected=None if selected is None else (selected.layer, selected.head),
        label=f"{what}, layers down and heads across. {purpose}",
        cell="free",
        max_height=max_height,
        title=title,
        file_name=file_name,
        on_pick=on_pick,
    )


def round_up(value: float, limit: float = 1.0) -> float:
    """The next of 1, 2, 5 times a power of ten, so that a colour scale ends on a round number; at most `limit`."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return min(limit, next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999))
