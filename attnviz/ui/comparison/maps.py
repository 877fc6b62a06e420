"""The maps of the Compare page: both heads' patterns side by side, and their difference; zooming one zooms all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import streamlit as st

from attnviz.compare import Difference, difference
from attnviz.edits import Head
from attnviz.export import about
from attnviz.figures.attention import attention_map
from attnviz.figures.comparison import both_sink_words, difference_map, lone_words
from attnviz.figures.labels import head_words, model_words, run_words, unit_words
from attnviz.figures.palette import Theme
from attnviz.figures.pooling import block_of, largest_of_blocks
from attnviz.findings import EdgeAt, HeadAt
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.comparison.lines import difference_lines, map_lines
from attnviz.ui.comparison.pair import Pair, Run, facts
from attnviz.ui.components import matrix
from attnviz.ui.export import export_bar
from attnviz.ui.focus import Focus
from attnviz.ui.head_map import round_up, signed
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.reading import SCALE_TITLES, palette_of
from attnviz.ui.selection import Window
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme
from attnviz.view import Seen, View

Places = Sequence[int | None]  # for each unit of an axis, the unit of the first run's axis, if it has one

_LINK = "trace"
_SIDE = 512  # cells a side that go to the browser; a larger part is pooled
_NOWHERE = (0, 0)  # no token of the first run


@dataclass(frozen=True, eq=False)
class Axes:
    """Rows and columns of one of the maps, and where each of them stands in the first run's pattern."""

    row_labels: Sequence[str]
    col_labels: Sequence[str]
    rows: Places
    cols: Places

    def selected(self, query: int, key: int) -> tuple[int, int] | None:
        return (self.rows.index(query), self.cols.index(key)) if query in self.rows and key in self.cols else None

    def from_first(self, window: Window | None) -> Window | None:
        """The part of this map that a part of the first run's is; None for the whole, also where nothing is in it."""
        if window is None:
            return None
        spans = [
            [i for i, unit in enumerate(places) if unit is not None and low <= unit < high]
            for places, low, high in ((self.rows, *window[:2]), (self.cols, *window[2:]))
        ]
        if not all(spans):
            return None
        (top, *_, bottom), (left, *_, right) = ([*span, span[-1]] for span in spans)
        found = top, bottom + 1, left, right + 1
        return None if found == (0, len(self.rows), 0, len(self.cols)) else found

    def to_first(self, window: Window | None) -> Window | None:
        """The part of the first run's map that a part of this one is; None for the whole, or where nothing is in it."""
        if window is None:
            return None
        spans = [
            [unit for unit in places[low:high] if unit is not None]
            for places, low, high in ((self.rows, *window[:2]), (self.cols, *window[2:]))
        ]
        return (spans[0][0], spans[0][-1] + 1, spans[1][0], spans[1][-1] + 1) if all(spans) else None


def patterns(pair: Pair) -> tuple[Seen, Seen]:
    """The patterns of the head that is looked at in each run."""
    return pair.view.pattern(pair.first, pair.head), pair.view.pattern(pair.second, pair.other)


def both_maps(pair: Pair, focus: Focus, seen: tuple[Seen, Seen]) -> None:
    """The two heads' patterns, side by side."""
    inverse = [{j: i for i, j in alignment.pairs} for alignment in (pair.rows, pair.cols)]
    axes = (
        Axes(seen[0].queries.labels, seen[0].keys.labels, range(len(seen[0].queries)), range(len(seen[0].keys))),
        Axes(
            seen[1].queries.labels,
            seen[1].keys.labels,
            [inverse[0].get(j) for j in range(len(seen[1].queries))],
            [inverse[1].get(j) for j in range(len(seen[1].keys))],
        ),
    )
    for place, side, (run, head) in zip(st.columns(2, gap="medium"), (0, 1), _sides(pair), strict=True):
        with place:
            words, which = head_words(run, head), ("first", "second")[side]
            st.markdown(f"**{which.capitalize()}: attention of {words}**")
            _map(
                seen[side].shown(),
                axes[side],
                focus,
                seen[0],
                key=f"map-{which}",
                value_name="attention",
                palettes=palette_of(selection().palette),
                low=0.0,
                high=1.0,
                label=f"The {which} run's attention, queries down and keys across. Pick a cell to select its query and "
                "key.",
                title=f"Attention of {words}, {run_words(run)}, {run.info.name}",
                file_name=f"{which}-{Head(head.layer, head.head)}",
            )
            _map_export(which, pair.runs[side], head, pair.view, seen[side], axes[side].from_first(focus.window))
    say.caption(
        *_runs(pair),
        "Rows are queries, columns are keys; colour is attention after the softmax, a share of 1 in each row, on one "
        f"{SCALE_TITLES[selection().scale].lower()} scale for both.",
        unit_words(pair.view),
        *_sink_words(pair, seen),
    )


def _map_export(which: str, run: Run, head: Head, view: View, seen: Seen, window: Window | None) -> None:
    """One run's map as a file, as numbers and as Python."""
    chosen, look = selection(), theme()
    export_bar(
        f"{which} {run.trace.info.name} {Head(head.layer, head.head)}",
        lambda: attention_map(
            run.trace, head, view=view, window=window, scale=chosen.scale, palette=chosen.palette, theme=look
        ),
        seen.frame,
        map_lines(run, head, view, window, chosen),
        rows=seen.weights.numel(),
        about=about(run.trace, head=head, view=view),
        key=f"map-{which}",
    )


def difference_view(pair: Pair, focus: Focus, seen: tuple[Seen, Seen]) -> None:
    """Where the second head's attention differs from the first's, on what both texts have."""
    found = difference(*seen, pair.rows, pair.cols)
    axes = Axes(found.row_labels, found.col_labels, pair.rows.side(0), pair.cols.side(0))
    most = round_up(float(np.nanmax(np.abs(found.weights), initial=0.0)))
    st.markdown("**Second minus first**")
    _map(
        found.weights,
        axes,
        focus,
        seen[0],
        key="map-difference",
        value_name="difference",
        **signed(most)._asdict(),
        label="The second run's attention minus the first's, queries down and keys across. Pick a cell to select its "
        "query and key.",
        title=f"Second minus first, {_heads(pair)}",
        file_name="difference",
    )
    say.caption(
        f"{_heads(pair)}, on the queries and keys that correspond.",
        "Blue: the second pays more attention; orange: the first does.",
        lone_words(found),
        _sight_words(pair),
        _cell_words(pair, focus, seen, found),
        unit_words(pair.view),
        *_sink_words(pair, seen),
        "It shows where attention differs, not what that does to the prediction, nor that the change in the text is "
        "the reason.",
    )
    chosen, look = selection(), theme()

    def figure(scheme: Theme = look) -> go.Figure:
        return difference_map(
            pair.first, pair.second, pair.head, other=pair.other, view=pair.view, scale=chosen.scale, theme=scheme
        )

    python = difference_lines(pair, chosen)
    with st.container(horizontal=True):
        export_bar(
            "difference",
            figure,
            found.frame,
            python,
            rows=found.weights.size,
            about=facts(pair, pair.head, pair.other),
        )
        one_model = pair.runs[0].name == pair.runs[1].name
        keep_this(
            "Compare",
            heads=list(dict.fromkeys([pair.head, pair.other])) if one_model else [pair.head],
            edges=[EdgeAt(query=focus.query, key=focus.key, head=HeadAt.of(pair.head))],
            figure=lambda: figure("light"),
            lines=python,
            also_seen=[text for run in pair.runs for text in (run.trace.text, run.trace.source_text) if text],
            caption="" if one_model else "It is a finding about the first model; the second stands in the view alone.",
        )


def _map(values: npt.NDArray[np.float32], axes: Axes, focus: Focus, first: Seen, *, key: str, **looks: Any) -> None:
    """One of the maps, in the part that the Selection's window of the first run's map is."""
    shape = len(axes.row_labels), len(axes.col_labels)
    zoom = axes.from_first(focus.window)
    whole: Window = (0, shape[0], 0, shape[1])
    few = max(shape) <= _SIDE  # then the browser has every value, and zooms by itself
    window = whole if few or zoom is None else zoom
    part = values[window[0] : window[1], window[2] : window[3]]
    block = (1, 1) if few else block_of(part.shape, _SIDE)

    def pick(row: int, col: int) -> None:
        query, key = axes.rows[row], axes.cols[col]
        if query is None or key is None:
            st.toast("The first text has nothing that corresponds to this, so it cannot be selected in both.")
            return
        select(query=first.queries.spans[query][1] - 1, key=first.keys.spans[key][0])

    matrix(
        largest_of_blocks(part, block, signed=looks["low"] < 0),
        key=key,
        shape=shape,
        window=window,
        pool=block,
        zoom=zoom,
        row_labels=axes.row_labels,
        col_labels=axes.col_labels,
        row_axis="query",
        col_axis="key",
        scale=selection().scale,
        selected=axes.selected(first.queries.at(focus.query), first.keys.at(focus.key)),
        max_height=400,
        link=_LINK,
        row_units=[_NOWHERE if unit is None else first.queries.spans[unit] for unit in axes.rows],
        col_units=[_NOWHERE if unit is None else first.keys.spans[unit] for unit in axes.cols],
        on_pick=pick,
        on_window=lambda window: select(window=axes.to_first(window)),
        **looks,
    )


def _cell_words(pair: Pair, focus: Focus, seen: tuple[Seen, Seen], found: Difference) -> str:
    """The selected cell in both runs."""
    rows, cols = dict(pair.rows.pairs), dict(pair.cols.pairs)
    query, key = seen[0].queries.at(focus.query), seen[0].keys.at(focus.key)
    if query not in rows or key not in cols:
        return "The selected query or key stands only in the first text."
    before, after = float(seen[0].weights[query, key]), float(seen[1].weights[rows[query], cols[key]])
    row, col = pair.rows.pairs.index((query, rows[query])), pair.cols.pairs.index((key, cols[key]))
    return (
        f"Selected: query “{found.row_labels[row]}” pays key “{found.col_labels[col]}” {before:.4f} in the first and "
        f"{after:.4f} in the second ({after - before:+.4f}); the whole row differs by {found.nats[row]:.4f} nats."
    )


def _sight_words(pair: Pair) -> str:
    """That one model reads ahead and the other does not; "" where both do alike."""
    ahead = [trace.info.family == "encoder" or head.site == "encoder" for trace, head in _sides(pair)]
    if ahead[0] == ahead[1]:
        return ""
    which = "first", "second"
    return f"The {which[ahead.index(True)]} also reads ahead of a query, which the {which[ahead.index(False)]} cannot."


def _sink_words(pair: Pair, seen: tuple[Seen, Seen]) -> list[str]:
    """What was done with sinks in each run, and how much attention that took away; nothing where nothing was done."""
    sides = zip(_sides(pair), seen, strict=True)
    return both_sink_words(pair.view, *((trace, head.site, one.taken) for (trace, head), one in sides))


def _sides(pair: Pair) -> tuple[tuple[Trace, Head], tuple[Trace, Head]]:
    return (pair.first, pair.head), (pair.second, pair.other)


def _heads(pair: Pair) -> str:
    ours, theirs = (head_words(*side) for side in _sides(pair))
    return ours if ours == theirs else f"{theirs} of the second minus {ours} of the first"


def _runs(pair: Pair) -> list[str]:
    def words(run: Run) -> str:
        return f"{run_words(run.trace)} of {model_words(run.trace.info)}"

    first, second = map(words, pair.runs)
    return [f"Both: {first}."] if first == second else [f"First: {first}.", f"Second: {second}."]
