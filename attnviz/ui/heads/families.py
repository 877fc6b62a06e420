"""Which heads do alike: an ordered matrix under its dendrogram, a map of heads, and who might be one too many."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz import heads
from attnviz.errors import InputError, Unsupported
from attnviz.figures import heads as figures
from attnviz.figures.heads import Measure, name_of
from attnviz.heads import Pairs
from attnviz.heads.families import places
from attnviz.ui import measuring, say
from attnviz.ui.components.parts import as_index
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.heads.asking import LIKENESS_TITLES, Asked
from attnviz.ui.heads.comparing import Compared, family
from attnviz.ui.heads.lines import family_lines
from attnviz.ui.heads.overview import facts
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_SCOPES = {True: "All", False: "One"}
_SCOPE, _PLACES = "heads-scope", "heads-places"
_MOST_ROWS = 30


def families_view(ask: Asked, layer: int | None) -> None:
    """The matrix beside the map of heads, and under them the table of candidates; of one layer, or None for all."""
    likeness = selection().likeness
    measure: Measure = "cosine" if likeness == "writes" else "nats"
    try:
        compared = family(ask, likeness, layer)
        shown = figures.of_layer(compared.pairs, layer)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    read = (
        ask.sink_words if measure == "nats" else "What a head writes has the sink in it: its value is added like any."
    )
    means = f"Means over {shown.rows:,} rows of {shown.texts} texts, evenly chosen of {ask.about.n:,}."
    where = "all layers" if layer is None else f"layer {layer}"
    title = f"{LIKENESS_TITLES[likeness]}{ask.site_words}, {where}, {ask.model.info.name}, {ask.about.name}"
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Every head with every head**")
        _matrix(ask, compared, measure, layer, title, (figures.WORDS[measure], means, read))
    with right:
        st.markdown("**Heads near those that do alike**")
        _places(ask, compared, measure, layer, title, (figures.WORDS[measure], means, read))
    _candidates(ask, layer)


def scope(ask: Asked) -> int | None:
    """The layer whose heads are shown, as somebody chooses; None for all."""
    n_heads = sum(ask.model.info.layer_heads[ask.site])
    st.session_state.setdefault(_SCOPE, n_heads <= figures.MOST_HEADS)
    whole = st.segmented_control("Layers", tuple(_SCOPES), key=_SCOPE, format_func=_SCOPES.__getitem__, required=True)
    return None if whole else ask.head.layer


def _matrix(
    ask: Asked, compared: Compared, measure: Measure, layer: int | None, title: str, words: tuple[str, ...]
) -> None:
    look, palette = theme(), selection().palette
    pairs = figures.of_layer(compared.pairs, layer)

    def draw() -> go.Figure:
        return figures.family_map(pairs, measure=measure, palette=palette, theme=look, title=title)

    show_figure(draw(), "heads-family")
    caption = (
        *words,
        "Heads are ordered so that like stands by like (average linkage); above is the tree that joins them.",
        "Heads that attend alike may write different things." if measure == "nats" else "",
        "Heads that write alike may look elsewhere." if measure == "cosine" else "",
    )
    say.caption(*caption)
    frame = partial(_pair_frame, pairs, measure)
    _bar(ask, f"families {measure}", draw, frame, caption, "family_map", measure, layer, compared.numbers)


def _places(
    ask: Asked, compared: Compared, measure: Measure, layer: int | None, title: str, words: tuple[str, ...]
) -> None:
    look, palette, head = theme(), selection().palette, (ask.head.layer, ask.head.head)
    pairs = figures.of_layer(compared.pairs, layer)

    def draw() -> go.Figure:
        return figures.family_places(pairs, measure=measure, selected=head, palette=palette, theme=look, title=title)

    def chose() -> None:
        points = st.session_state[_PLACES].selection.points
        at = as_index(points[0].get("point_index"), len(pairs.heads)) if points else None
        if at is not None:
            select(layer=pairs.heads[at][0], head=pairs.heads[at][1])

    figure = draw().update_layout(
        title=None, margin_t=32, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", dragmode="pan"
    )
    config = {"displaylogo": False}
    st.plotly_chart(figure, key=_PLACES, theme=None, on_select=chose, selection_mode="points", config=config)
    share = figures.plane_share(pairs, measure)
    caption = (
        f"A point is a head, coloured by its layer; {name_of(head)} is ringed. Pick another to select it.",
        f"The plane holds {share:.0%} of the variance (classical scaling): near here may still be far in truth.",
        *words[1:],
    )
    say.caption(*caption)
    frame = partial(_place_frame, pairs, measure)
    _bar(ask, f"places {measure}", draw, frame, caption, "family_places", measure, layer, compared.numbers)


def _bar(
    ask: Asked,
    name: str,
    draw: Callable[[], go.Figure],
    frame: Callable[[], pd.DataFrame],
    caption: tuple[str, ...],
    drawn: str,
    measure: Measure,
    layer: int | None,
    numbers: tuple[int, ...],
) -> None:
    shelf, key = measuring.shelf(), ask.about.key
    items = [shelf.text(key, number) for number in numbers]
    texts = [(item.text, item.pair) for item in items]
    export_bar(
        name,
        draw,
        frame,
        family_lines(selection(), ask, texts, layer=layer, measure=measure, drawn=drawn),
        about=facts(ask) | {"measure": measure, "compared": len(texts)},
        key=f"heads-{drawn}",
        caption=" ".join(filter(None, caption)),
    )


def _pair_frame(pairs: Pairs, measure: Measure) -> pd.DataFrame:
    """A row for each pair of heads, once: layer, head, other_layer, other_head, and the measure."""
    first, second = np.triu_indices(len(pairs.heads), 1)
    at = np.array(pairs.heads)
    columns = {"layer": at[first, 0], "head": at[first, 1], "other_layer": at[second, 0], "other_head": at[second, 1]}
    return pd.DataFrame(columns | {measure: pairs.values[first, second]})


def _place_frame(pairs: Pairs, measure: Measure) -> pd.DataFrame:
    """A row for each head: layer, head, x, y."""
    found = places(figures.straight(pairs, measure))
    at = np.array(pairs.heads)
    return pd.DataFrame({"layer": at[:, 0], "head": at[:, 1], "x": found.points[:, 0], "y": found.points[:, 1]})


def _candidates(ask: Asked, layer: int | None) -> None:
    """Each head with the one that attends most like it, and whether the two write alike."""
    st.markdown("**Heads that attend alike**")
    reason = ""
    try:
        near, alike = figures.of_layer(family(ask, "attends", layer).pairs, layer), None
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    try:
        alike = figures.of_layer(family(ask, "writes", layer).pairs, layer)
    except (InputError, Unsupported) as error:
        reason = str(error)
    found = heads.redundant(near, alike)
    both = [
        frozenset(((one.layer, one.head), (one.near_layer, one.near_head))) for one in found.itertuples(index=False)
    ]
    found = found[~pd.Series(both).duplicated()].head(_MOST_ROWS)  # two that are each other's nearest come once
    names = [name_of(one) for one in zip(found["layer"], found["head"], strict=True)]
    others = [name_of(one) for one in zip(found["near_layer"], found["near_head"], strict=True)]
    table = pd.DataFrame({"head": names, "attends most like": others, "nats": found["nats"].to_numpy()})
    if alike is not None:
        table["cosine of what they write"] = found["cosine"].to_numpy()
        table["candidate"] = found["candidate"].to_numpy()
    number = st.column_config.NumberColumn(format="%.4f")
    config = {name: number for name in table.columns if name in ("nats", "cosine of what they write")}
    st.dataframe(table, hide_index=True, key="heads-candidates", height=300, column_config=config)
    say.caption(
        f"The {len(table)} nearest pairs among {len(near.heads)} heads: 0 nats is the same pattern, and a "
        "cosine near 1 that both write the same.",
        f"What they write is not known here, so none is a candidate for pruning: {reason}" if reason else "",
        "A candidate for pruning also writes in a like direction: a cosine above 0, and better the nearer to 1."
        if not reason
        else "",
        ask.sink_words,
        "A candidate is not a finding: take the head out and measure it.",
    )
