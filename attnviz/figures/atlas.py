"""What is known of every head of a model: its findings and labels by layer and head, as a table and a Plotly figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from attnviz.errors import ShapeError
from attnviz.figures.drawing import NO_VALUE, axes, framed
from attnviz.figures.labels import plain
from attnviz.figures.palette import Palette, Theme, colorscale
from attnviz.findings import Finding, HeadAt
from attnviz.store import Brief, brief_of

Pair = tuple[int, int]
_MOST_TOLD = 4  # labels in a cell's hover
_MOST_ROWS = 48  # layers of a figure with its cells square


@dataclass(frozen=True)
class Known:
    """What stands about one head.

    findings   in brief, that name it, or an edge of it, the last changed first
    labels     that somebody gave these, the most frequent first
    """

    findings: tuple[Brief, ...] = ()
    labels: tuple[str, ...] = field(default=())

    @property
    def confidence(self) -> float:
        """The largest of those that are not refuted; 0 where there is none."""
        return max((one.confidence for one in self.findings if one.status != "refuted"), default=0.0)


def known_of(findings: Iterable[Finding | Brief], *, site: str | None = None) -> dict[Pair, Known]:
    """Findings by (layer, head).

    findings   whole, or in brief as `Store.briefs` gives them
    site       whose heads are meant; None where the model has one. A finding that names no site counts at every one
    """
    found: dict[Pair, list[Brief]] = {}
    for each in findings:
        one = brief_of(each) if isinstance(each, Finding) else each
        named = (*one.heads, *one.at_edges)
        for pair in dict.fromkeys((head.layer, head.head) for head in named if _at(head, site)):
            found.setdefault(pair, []).append(one)
    return {pair: Known(tuple(several), _labels(several)) for pair, several in found.items()}


def counts(known: Mapping[Pair, Known], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """[layer, head], how many findings name it; heads outside of the shape, of another checkpoint, are left out."""
    values = np.zeros(shape, np.float32)
    for (layer, head), one in _inside(known, shape):
        values[layer, head] = len(one.findings)
    return values


def confidences(known: Mapping[Pair, Known], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """[layer, head], the largest confidence of a finding that is not refuted; 0 where there is none."""
    values = np.zeros(shape, np.float32)
    for (layer, head), one in _inside(known, shape):
        values[layer, head] = one.confidence
    return values


def atlas_frame(known: Mapping[Pair, Known], detected: pd.DataFrame | None = None) -> pd.DataFrame:
    """A row for each head of which something is known: layer, head, findings, supported, refuted, confidence, labels.

    detected   `heads.Labelled.rows`: its two labels stand beside; None: they are left out
    """
    rows = [
        {
            "layer": layer,
            "head": head,
            "findings": len(one.findings),
            "supported": sum(finding.status == "supported" for finding in one.findings),
            "refuted": sum(finding.status == "refuted" for finding in one.findings),
            "confidence": one.confidence,
            "labels": "; ".join(one.labels),
        }
        for (layer, head), one in sorted(known.items())
    ]
    columns = ["layer", "head", "findings", "supported", "refuted", "confidence", "labels"]
    table = pd.DataFrame(rows, columns=columns)
    if detected is None:
        return table
    beside = detected[["layer", "head", "with sink", "without sink"]]
    whole = table.merge(beside, on=["layer", "head"], how="outer").sort_values(["layer", "head"], ignore_index=True)
    numbers = {"findings": 0, "supported": 0, "refuted": 0, "confidence": 0.0}
    return whole.fillna(numbers | {"labels": "", "with sink": "", "without sink": ""}).astype(
        {"layer": int, "head": int, "findings": int, "supported": int, "refuted": int}
    )


def atlas_map(
    values: npt.ArrayLike,
    *,
    told: Mapping[Pair, Sequence[str]] | None = None,
    name: str = "findings",
    note: str = "",
    palette: Palette = "indigo",
    theme: Theme = "light",
    title: str = "What is known of each head",
) -> go.Figure:
    """A number for every head, layers down and heads across, with what is said of it where the pointer stands.

    values   [layer, head], as `counts` and `confidences` have them; NaN where there is no head
    told     labels by (layer, head), for the hover
    raises   ShapeError for other shapes
    A head without a colour is one that nobody wrote of: it says nothing of what the head does.
    """
    numbers = np.asarray(values, float)
    if numbers.ndim != 2:
        raise ShapeError(f"An atlas takes numbers [layer, head]; got {list(numbers.shape)}.")
    layers, heads = numbers.shape
    words = told or {}
    text = [
        [plain(", ".join(list(words.get((layer, head), ()))[:_MOST_TOLD])) for head in range(heads)]
        for layer in range(layers)
    ]
    most = float(np.nanmax(numbers, initial=0.0))
    figure = go.Figure(
        go.Heatmap(
            z=numbers,
            zmin=0,
            zmax=most or 1.0,
            colorscale=colorscale(theme, palette),
            colorbar={"title": name},
            customdata=text,
            hovertemplate="L%{y}H%{x}<br>%{z:.3g}<br>%{customdata}<extra></extra>",
            hoverongaps=False,
        )
    )
    axes(figure, "xaxis", "head", list(range(heads)), [str(i) for i in range(heads)])
    axes(figure, "yaxis", "layer", list(range(layers)), [str(i) for i in range(layers)])
    if layers > _MOST_ROWS:
        figure.update_yaxes(scaleanchor=None)
    framed(figure, title, (note,), theme)
    return figure.update_layout(plot_bgcolor=NO_VALUE[theme])


def _at(head: HeadAt, site: str | None) -> bool:
    return site is None or head.site in (None, site)


def _inside(known: Mapping[Pair, Known], shape: tuple[int, int]) -> list[tuple[Pair, Known]]:
    return [(pair, one) for pair, one in known.items() if pair[0] < shape[0] and pair[1] < shape[1]]


def _labels(findings: Sequence[Brief]) -> tuple[str, ...]:
    given: dict[str, int] = {}
    for one in findings:
        for label in {*one.labels, *one.given}:
            given[label] = given.get(label, 0) + 1
    return tuple(sorted(given, key=lambda label: (-given[label], label)))
