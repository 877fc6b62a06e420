"""The pictures of the Generation page: the scrubber, the text at a step, what was expected, how a head moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz import heads
from attnviz.export import about, heads_frame
from attnviz.figures.attention import head_grid
from attnviz.figures.generation import movement_map as movement_map_figure
from attnviz.figures.generation import step_unit_words
from attnviz.figures.labels import head_words, model_words, run_words, sink_words
from attnviz.figures.palette import Theme
from attnviz.figures.pooling import block_of, largest_of_blocks
from attnviz.findings import EdgeAt, HeadAt
from attnviz.generated import MOST_SHIFT, movement_frame
from attnviz.text import visible
from attnviz.trace import Trace
from attnviz.ui import say, views
from attnviz.ui.components import matrix, token_strip
from attnviz.ui.components.scrubber import scrubber
from attnviz.ui.export import export_bar
from attnviz.ui.generation.forms import Written, movement_lines, step_lines
from attnviz.ui.head_map import round_up
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.reading import palette_of
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme
from attnviz.ui.titles import SCORE_TITLES
from attnviz.ui.views import MAP_SIDE, flow, grid
from attnviz.units import Units

_WINDOW = "attnviz_generation_window"
_EXPECTED = 8  # predictions at a step
_LINK = "generation"
_SCALES = {"sqrt": "square-root", "linear": "linear", "log": "logarithmic"}


def site_picker(trace: Trace, current: str | None) -> None:
    """Which attention of an encoder-decoder's decoder to look at; its encoder writes nothing."""
    views.site_picker(
        trace.info,
        current,
        sites=[site for site in trace.info.sites if site != "encoder"],
        key="generation-site",
        use=lambda site: select(site=site, query=selection().query),
    )


def scrub(written: Written) -> None:
    """Through the steps by hand, or played."""
    start = written.queries.start
    scrubber(
        written.steps.token.tolist(),
        key="scrubber",
        step=written.step,
        label="Step of the generation",
        details=[
            " · ".join(part for part in (_likely(row.rank, row.probability), _moved(nats)) if part)
            for row, nats in zip(written.steps.itertuples(), written.shift.tolist(), strict=True)
        ],
        on_step=lambda step: select(query=start + step),
    )


def _likely(rank: Any, probability: Any) -> str:
    return "not among the likeliest 50" if pd.isna(rank) else f"rank {rank}, probability {probability:.4f}"


def _moved(nats: float) -> str:
    return "" if np.isnan(nats) else f"head moved {nats:.3f} nats"


def strips(written: Written) -> None:
    """The text, tinted by the head's row at this step: written tokens choose the step, the others the key."""
    trace, focus = written.trace, written.focus
    tokens, keys = trace.axes(focus.head.site)
    apart = tokens != keys
    row = written.moved.weights[written.step]
    if apart:
        _strip(written, written.units, np.zeros(len(written.units), np.float32), value="")
        _strip(written, written.moved.keys, row, key_only=True)
    else:
        _strip(written, written.units, row)


def _strip(
    written: Written, units: Units, weights: np.ndarray, *, value: str = "attention", key_only: bool = False
) -> None:
    focus, start = written.focus, written.queries.start
    tokens = written.trace.axes(focus.head.site)[1 if key_only else 0]

    def picked(unit: int) -> None:
        first, end = units.spans[unit]
        if key_only or end <= start + 1:
            select(**({"key": first} if value else {"query": start}))
        else:
            select(query=max(first, start + 1) - 1)

    unit = focus.view.unit
    token_strip(
        units.labels,
        weights,
        key="source-strip" if key_only else "strip",
        **flow(units, tokens),
        palettes=palette_of(selection().palette),
        scale=cast(Any, selection().scale),
        high=round_up(float(np.nanmax(weights, initial=0.0))),
        selected=None if key_only else units.at(focus.query),
        target=units.at(focus.key) if value else None,
        label=f"What was read. Pick a {unit} to make it the key."
        if key_only
        else f"Prompt and continuation. Pick a written {unit} to go to the step that wrote it"
        + (f", another {unit} to make it the key." if value else "."),
        value_name=value,
        unseen_word="faded: not written yet, or taken away",
        picks="key" if key_only else "query",
        link=_LINK,
        on_pick=picked,
    )


def movement_map(written: Written) -> None:
    """The head's rows, step by step: rows are steps, named by the token they wrote; columns are keys."""
    focus, moved, start = written.focus, written.moved, written.queries.start
    shape = cast(tuple[int, int], moved.weights.shape)
    kept_shape, window = st.session_state.get(_WINDOW, (shape, None))
    window = window if kept_shape == shape else None
    part = window or (0, shape[0], 0, shape[1])
    few = max(shape) <= MAP_SIDE  # then the browser has every value, and zooms by itself
    values = moved.weights[part[0] : part[1], part[2] : part[3]]
    block = (1, 1) if few else block_of(values.shape, MAP_SIDE)

    def windowed(chosen: tuple[int, int, int, int] | None) -> None:
        st.session_state[_WINDOW] = (shape, chosen)

    matrix(
        moved.weights if few else largest_of_blocks(values, block),
        key="movement",
        shape=shape,
        window=(0, shape[0], 0, shape[1]) if few else part,
        pool=block,
        zoom=window,
        row_labels=written.steps.token.tolist(),
        col_labels=moved.keys.labels,
        row_units=[(unit, unit + 1) for unit in map(written.units.at, written.queries)],
        row_axis="step",
        col_axis="key",
        value_name="attention",
        palettes=palette_of(selection().palette),
        low=0.0,
        high=1.0,
        scale=cast(Any, selection().scale),
        selected=(written.step, moved.keys.at(focus.key)),
        label="The head's attention at each step, steps down and keys across. Pick a cell to go to its step and key.",
        cell="free",
        max_height=420,
        link=_LINK,
        title=f"Attention of {head_words(written.trace, focus.head)} while writing, {run_words(written.trace)}, "
        f"{written.trace.info.name}",
        file_name=f"movement-L{focus.head.layer}H{focus.head.head}",
        on_window=windowed,
        on_pick=lambda step, key: select(query=start + step, key=moved.keys.edges[key]),
    )


def movement_caption(written: Written) -> None:
    """Which run and head the map shows, what its rows are, and what it is not."""
    trace, focus, moved, chosen = written.trace, written.focus, written.moved, selection()
    key = moved.keys.at(focus.key)
    weight = float(moved.weights[written.step, key])
    say.caption(
        f"{head_words(trace, focus.head)}, {run_words(trace)} of {model_words(trace.info)}.",
        written.how,
        "Rows are steps: each read the text up to the token before and wrote the one that names it. Columns are keys; "
        f"colour is attention after the softmax, a share of 1 in each row, on a {_SCALES[chosen.scale]} scale.",
        step_unit_words(focus.view),
        sink_words(focus.view, trace, focus.head.site, moved.taken),
        f"Selected: step {written.step} pays "
        + ("nothing that is shown" if np.isnan(weight) else f"{weight:.4f}")
        + f" to key {key} “{moved.keys.labels[key]}”.",
        "It shows where the head looked while a token was written, not why that token was.",
    )


def jump(written: Written) -> None:
    """The step at which the head's attention moved most, and a way there."""
    start = written.queries.start
    if np.isfinite(written.shift).any():
        step = int(np.nanargmax(written.shift))
        with st.container(horizontal=True, vertical_alignment="center"):
            say.caption(
                f"The head moved most at step {step}, “{written.steps.token[step]}”: {written.shift[step]:.3f} nats of "
                f"at most {MOST_SHIFT:.3f}, between its rows at this step and the one before, sinks included. A head "
                "that follows the text, such as one that looks at the token before, moves at every step."
            )
            st.button(
                "Go there",
                key="generation-jump",
                disabled=step == written.step,
                on_click=lambda: select(query=start + step),
            )


def expected(written: Written) -> None:
    """What the model expected at this step, and what was written."""
    own = written.steps.iloc[written.step]
    table = written.trace.predictions(written.focus.query, k=_EXPECTED)
    if own.token_id not in set(table.token_id) and not pd.isna(own["rank"]):
        text = written.trace.decode(int(own.token_id))
        more = {"rank": own["rank"], "token": text, "token_id": own.token_id, "probability": own.probability}
        table = pd.concat([table, pd.DataFrame([more])], ignore_index=True)
    table["token"] = [visible(text) or "␣" for text in table["token"]]
    table["written"] = np.where(table.token_id == own.token_id, "✓", "")
    st.markdown("**Expected at this step**")
    st.dataframe(
        table[["written", "rank", "token", "probability"]],
        hide_index=True,
        column_config={
            "written": st.column_config.TextColumn("", width=30),
            "probability": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.4f"),
        },
    )
    read = written.trace.tokens[written.focus.query].text
    fate = (
        "It is beyond the 50 likeliest, which are all that is kept"
        if pd.isna(own["rank"])
        else (f"It had rank {own['rank']} and the probability {own.probability:.4f}")
    )
    say.caption(
        f"After token {written.focus.query} “{read}”, “{own.token}” was written. {fate}. Probabilities are the "
        "model's own, before any temperature, and not calibrated."
    )


def every_head(written: Written) -> None:
    """All heads by the attention that this step pays to the key; pick one to see how it moved."""
    focus, keys = written.focus, written.moved.keys
    start, stop = keys.spans[keys.at(focus.key)]
    seen = range(start, stop if focus.head.site == "cross" else min(stop, focus.query + 1)) or range(start, start + 1)
    trace, chosen, look = written.trace, selection(), theme()
    between = replace(focus, queries=(focus.query,), keys=tuple(seen), view=replace(focus.view, unit="token"))
    scores = heads.attention_between(trace, focus.query, seen, site=focus.head.site, view=between.view)
    st.markdown("**Every head at this step**")
    grid(trace, scores, "between", between)
    export_bar(
        "heads at a step",
        lambda: head_grid(scores, trace.info, SCORE_TITLES["between"], palette=chosen.palette, theme=look, high=None),
        lambda: heads_frame({"between": scores}),
        step_lines(between),
        about=about(trace, view=between.view) | {"query": focus.query, "keys": list(seen)},
    )


def take_along(written: Written) -> None:
    """The movement map as a file, as numbers and as Python."""
    trace, focus, chosen, look = written.trace, written.focus, selection(), theme()

    def figure(scheme: Theme = look) -> go.Figure:
        return movement_map_figure(
            trace,
            focus.head,
            view=focus.view,
            scale=cast(Any, chosen.scale),
            palette=cast(Any, chosen.palette),
            theme=scheme,
        )

    python = movement_lines(written)
    with st.container(horizontal=True):
        export_bar(
            "movement",
            figure,
            lambda: movement_frame(trace, focus.head, view=focus.view),
            python,
            rows=written.moved.weights.size,
            about=about(trace, head=focus.head, view=focus.view),
            caption="Rows are steps, named by the token that each wrote. It shows where the head looked while a token "
            "was written, not why that token was.",
        )
        keep_this(
            "Generation",
            heads=[focus.head],
            edges=[EdgeAt(query=focus.query, key=focus.key, head=HeadAt.of(focus.head))],
            figure=lambda: figure("light"),
            lines=python,
            also_seen=[trace.text],
            caption="Queries and keys are counted in what was written.",
        )


def every_step(written: Written) -> None:
    """The steps as a table: what was written, how likely it was, and how far the head moved."""
    with st.expander("All steps"):
        st.dataframe(
            written.steps.assign(moved=written.shift)[["step", "token", "rank", "probability", "moved"]],
            hide_index=True,
            column_config={
                "probability": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.4f"),
                "moved": st.column_config.ProgressColumn(
                    "moved (nats)", min_value=0, max_value=MOST_SHIFT, format="%.3f"
                ),
            },
        )
