"""One label a head: what it does most above chance, with the sink and without it; "none" where nothing stands out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from attnviz.checks import numbers
from attnviz.errors import ShapeError
from attnviz.heads.detectors import DETECTORS, VARIANTS

_HOW = ("entropy", "distance")  # these say how a head attends, not to what: they give no label
NONE = "none"
THRESHOLD = 0.25


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels of heads.

    rows      a row for each head whose intervals are known, where any were given: layer, head, "with sink",
              "without sink" (labels), "margin with sink", "margin without sink" (of the label, NaN for "none"), changed
    changed   the share of heads whose label is another, or gone, when the sink is taken away
    of_sink   the share of heads that are labelled "sink" with it: these change by what "without sink" means
    Shares are NaN where there is no row.
    """

    rows: pd.DataFrame
    changed: float
    of_sink: float


def labels(
    values: npt.ArrayLike,
    chance: npt.ArrayLike,
    intervals: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    *,
    names: Sequence[str] = tuple(DETECTORS),
    threshold: float = THRESHOLD,
) -> Labelled:
    """Label every head with the detector of the largest margin, (value - chance) / (1 - chance).

    values      [variant, detector, layer, head], of one text or the mean over many; NaN where there is nothing
    chance      [variant, detector], or [variant, detector, layer]
    intervals   (low, high), each like values: a detector whose interval holds its chance level gives no label, and a
                head whose values have no intervals, as over one text, has no row
    names       of the detectors' axis; all but "entropy" and "distance" may be labels, also a caller's own
    threshold   the least margin of a label, a share of the way from chance to 1
    raises      ShapeError where these do not fit each other
    A label is the best of a few descriptions, not what a head is for.
    """
    value, even = numbers(values, "Values of heads"), numbers(chance, "Chance levels")
    even = even[..., None] if even.ndim == 2 else even
    if value.ndim != 4 or value.shape[:2] != (len(VARIANTS), len(names)) or even.shape[:2] != value.shape[:2]:
        raise ShapeError(
            f"Labels need values [{len(VARIANTS)}, {len(names)}, layer, head] and their chance levels; got "
            f"{list(value.shape)} and {list(even.shape)}."
        )
    meant = [i for i, name in enumerate(names) if name not in _HOW]
    there = np.isfinite(value[0]).any(0)
    margin = (value - even[..., None]) / np.maximum(1 - even[..., None], 1e-6)
    if intervals is not None:
        low = numbers(intervals[0], "Intervals")
        margin = np.where(low > even[..., None], margin, np.nan)
        known = np.isfinite(low[:, meant]).any(1) | ~np.isfinite(value[:, meant]).any(1)  # variant layer head
        there &= known.all(0)
    margin = np.where(np.isfinite(margin), margin, -np.inf)[:, meant]
    best, most = margin.argmax(1), margin.max(1)  # variant layer head
    said = np.where(most >= threshold, np.array([names[i] for i in meant], dtype=object)[best], NONE)
    layer, head = np.nonzero(there)
    rows = pd.DataFrame({"layer": layer, "head": head})
    for n, variant in enumerate(VARIANTS):
        rows[variant] = said[n][there]
    for n, variant in enumerate(VARIANTS):
        rows[f"margin {variant}"] = np.where(said[n] == NONE, np.nan, most[n])[there]
    rows["changed"] = rows[VARIANTS[0]] != rows[VARIANTS[1]]
    if rows.empty:
        return Labelled(rows, np.nan, np.nan)
    return Labelled(rows, float(rows["changed"].mean()), float((rows[VARIANTS[0]] == "sink").mean()))
