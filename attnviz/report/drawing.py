"""Figures of a report, read with care: what would ask a server is left out, and their numbers stand in a table too."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html import unescape
from itertools import islice
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import plotly.io

from attnviz.ablation.asked import IN_WORDS
from attnviz.errors import InputError
from attnviz.figures.evidence import evidence_dots
from attnviz.figures.palette import Theme
from attnviz.findings import Evidence, Measurement, Plan
from attnviz.report.blocks import Table

_HEIGHT = 240  # of evidence: beside it stands a legend of four lines
_MOST_ROWS, _MOST_HEADS, _MOST_PIXELS = 400, 4, 2_000
_FETCHING = re.compile(r".*(geo|choropleth|map|mapbox)")  # traces that ask for a map; "heatmap" is none of them
_PACKED = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
_LINK = re.compile(r"<(?=\s*/?\s*a\b)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")

Axis = npt.NDArray[Any]


def title_of(asked: Measurement) -> str:
    """What was measured, short: "ablation of L5H1, loss, set to zero"."""
    heads = " + ".join(map(str, asked.heads[:_MOST_HEADS]))
    heads += f" + {len(asked.heads) - _MOST_HEADS} more" if len(asked.heads) > _MOST_HEADS else ""
    parts = [f"{asked.kind} of {heads}" if heads else asked.kind, asked.what]
    parts += [IN_WORDS[asked.how]] if asked.kind == "ablation" else []
    return ", ".join(part for part in parts if part)


def _as_it_is(words: str) -> str:
    return words


def evidence_picture(
    evidence: Evidence, plan: Plan | None, theme: Theme, *, change: Callable[[str], str] = _as_it_is
) -> go.Figure:
    """`figures.evidence_dots`, with the plan's bound where there is one; InputError where nothing was measured."""
    bound = None if plan is None else plan.bound
    drawn = evidence_dots(evidence, bound=bound, theme=theme, title=title_of(evidence.measurement))
    return safe_figure(plotly.io.to_json(drawn), change).update_layout(height=_HEIGHT)


def safe_figure(text: str, change: Callable[[str], str] = _as_it_is) -> go.Figure:
    """A figure from its JSON, without links, without pictures from elsewhere, and no larger than a page bears.

    change   what becomes of each text in it
    raises   InputError, with the reason, for what is no figure, or one of a map that stands on a server
    """
    try:
        told = json.loads(text)
        figure = plotly.io.from_json(
            json.dumps(
                _at_home({part: told[part] for part in ("data", "layout")}, lambda one: _without_link(change(one)))
            )
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError("The figure is none that this version of Plotly reads.") from error
    for trace in figure.data:
        if trace.type != "heatmap" and _FETCHING.fullmatch(trace.type):
            raise InputError(f"A figure of {trace.type} needs a map from a server, and a report asks none.")
    layout = figure.layout
    layout.images = [one for one in layout.images if str(one.source).startswith("data:image/")]
    for side in ("width", "height"):
        if (layout[side] or 0) > _MOST_PIXELS:
            layout[side] = _MOST_PIXELS
    return cast(go.Figure, figure)


def values_of(figure: go.Figure) -> Table | None:
    """The numbers of a figure's traces, as far as they have x, y or z: the first 400, and how many more there are.

    Where colours run by another scale than the numbers, `customdata` has the numbers, as this project's figures do.
    """
    named = [_ticks(figure.layout.xaxis), _ticks(figure.layout.yaxis)]
    rows: list[tuple[str, ...]] = []
    total = 0
    for number, trace in enumerate(figure.data, 1):
        told = trace.to_plotly_json()
        x, y, z, custom = (_axis(told.get(name)) for name in ("x", "y", "z", "customdata"))
        shape: tuple[int, ...] = (max((len(axis) for axis in (x, y) if axis is not None), default=0),)
        if z is not None and z.ndim == 2:
            shape = z.shape
            z = custom if custom is not None and custom.shape == shape and custom.dtype.kind in "fiu" else z
        total += int(np.prod(shape))
        for at in islice(np.ndindex(*shape), _MOST_ROWS - len(rows)):
            value = "" if z is None or z.ndim != 2 else _cell(z[at])
            rows.append((_words(trace.name or number), _at(x, at[-1], named[0]), _at(y, at[0], named[1]), value))
    if total > len(rows):
        rows.append((f"{total - len(rows)} more", "", "", ""))
    titles = [_title(axis, name) for axis, name in ((figure.layout.xaxis, "x"), (figure.layout.yaxis, "y"))]
    return Table(("trace", *titles, "value"), tuple(rows)) if rows else None


def _at_home(value: Any, change: Callable[[str], str]) -> Any:
    """What JSON holds, with every text in it changed and, also in templates, no picture that lies elsewhere."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if name != "source" or _is_here(one)}
        return {name: _at_home(one, change) for name, one in kept.items()}
    return [_at_home(one, change) for one in value] if isinstance(value, list) else value


def _is_here(source: Any) -> bool:
    return not isinstance(source, str) or source.startswith("data:image/")


def _without_link(words: str) -> str:
    """Plotly makes links of <a>: it stands as it is written instead."""
    return _LINK.sub("&lt;", words)


def _axis(told: Any) -> Axis | None:
    """Numbers or words, also as Plotly packs them; None for none, or for what makes no array."""
    try:
        if isinstance(told, dict):
            kind = np.dtype(_PACKED[_PACKED.index(told["dtype"])]).newbyteorder("<")
            packed = np.frombuffer(base64.b64decode(told["bdata"]), kind)
            return packed.reshape([int(side) for side in str(told.get("shape", len(packed))).split(",")])
        found = None if told is None else np.asarray(told)
        return None if found is None or not found.ndim else found
    except (KeyError, TypeError, ValueError):
        return None


def _ticks(axis: Any) -> dict[str, str]:
    """What stands at places of an axis."""
    words, places = _axis(axis.ticktext), _axis(axis.tickvals)
    if words is None or places is None:
        return {}
    return {_cell(place): _words(word) for place, word in zip(places.ravel(), words.ravel(), strict=False)}


def _title(axis: Any, name: str) -> str:
    return _words(axis.title.text or name)


def _words(label: object) -> str:
    """A label as Plotly draws it."""
    return unescape(_TAG.sub(" ", str(label)))


def _at(axis: Axis | None, i: int, named: dict[str, str]) -> str:
    place = _cell(axis[i]) if axis is not None and i < len(axis) else str(i)
    return f"{place}: {named[place]}" if place in named and named[place] != place else place


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
