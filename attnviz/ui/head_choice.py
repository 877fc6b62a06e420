"""Which heads the gallery shows and in what order: the controls, the filters, and the list that comes of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import streamlit as st

from attnviz.errors import HeadError, InputError
from attnviz.heads import Scores
from attnviz.info import ModelInfo
from attnviz.overview import Overview
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.components.gallery import Pair
from attnviz.ui.focus import Focus
from attnviz.ui.pickers import segments, tokens_picker
from attnviz.ui.session import act, select, selection
from attnviz.ui.titles import SCORE_TITLES

_CHOICE = "attnviz_gallery"
_ORDERS = {"layer": "By layer", "ranked": "Ranked"}
_NAME = re.compile(r"L(\d{1,5})(?:-L?(\d{1,5})|H(\d{1,5})(?:-H?(\d{1,5}))?)?", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """Which heads are shown, and in what order; kept for the session.

    order    "layer" or "ranked"
    lowest   the scores whose lowest come first
    layers   the first and the last layer; None for all
    bound    the least score that is shown, the most where the lowest come first; None for all
    only     the heads as they were typed; "" for all
    """

    order: str = "layer"
    lowest: tuple[str, ...] = ("entropy",)
    layers: Pair | None = None
    bound: float | None = None
    only: str = ""

    @property
    def filters(self) -> int:
        """How many filters are set."""
        return sum((self.layers is not None, self.bound is not None, bool(self.only.strip())))


def choice() -> Choice:
    return cast(Choice, st.session_state.get(_CHOICE, Choice()))


def choose(**changes: Any) -> None:
    """Change parts of the choice, in a widget's callback."""
    act()
    st.session_state[_CHOICE] = replace(choice(), **changes)


def controls(trace: Trace, focus: Focus, scores: Scores) -> None:
    """Order, score and filters, in a row."""
    now, score = choice(), selection().score
    with st.container(horizontal=True, vertical_alignment="bottom"):
        segments("Order", _ORDERS, now.order, key="gallery-order", use=lambda value: choose(order=value))
        segments("Score", SCORE_TITLES, score, key="gallery-score", use=_use_score)
        st.session_state["gallery-lowest"] = score in now.lowest
        others = tuple(name for name in now.lowest if name != score)
        st.toggle(
            "Lowest first",
            key="gallery-lowest",
            on_change=lambda: choose(
                bound=None, lowest=(*others, score) if st.session_state["gallery-lowest"] else others
            ),
        )
        with st.popover(f"Filters · {now.filters} set" if now.filters else "Filters", icon=":material/filter_alt:"):
            _layer_filter(trace.info, focus)
            _score_filter(scores, score)
            st.session_state["gallery-only"] = now.only
            st.text_input(
                "Only heads",
                key="gallery-only",
                max_chars=1_000,
                placeholder="L5, L7H2, L10-12",
                on_change=lambda: choose(only=st.session_state["gallery-only"]),
            )
            st.button("Show all heads", on_click=_show_all, disabled=not now.filters, key="gallery-all")
    if score == "between":
        queries, keys = trace.axes(focus.head.site)
        sides = st.columns(2)
        with sides[0]:
            _token_set("queries", queries, selection().queries, focus.query)
        with sides[1]:
            _token_set("keys", keys, selection().keys, focus.key)


def _use_score(score: str) -> None:
    choose(bound=None)
    select(score=score)


def _show_all() -> None:
    choose(layers=None, bound=None, only="")


def _layer_filter(info: ModelInfo, focus: Focus) -> None:
    last = info.layers_of(info.site(focus.head.site)) - 1
    if last < 1:
        return
    low, high = choice().layers or (0, last)
    st.session_state["gallery-layers"] = (min(low, last), min(high, last))

    def moved() -> None:
        chosen = st.session_state["gallery-layers"]
        choose(layers=None if chosen == (0, last) else chosen)

    st.slider("Layers", 0, last, key="gallery-layers", on_change=moved)


def _score_filter(scores: Scores, score: str) -> None:
    """A bound on the score: the least, or the most where the lowest come first."""
    there = scores[np.isfinite(scores)]
    if not there.size or there.min() == there.max():
        return
    lowest = score in choice().lowest
    low, high = math.floor(float(there.min()) * 1000) / 1000, math.ceil(float(there.max()) * 1000) / 1000
    end = high if lowest else low
    bound = choice().bound
    st.session_state["gallery-bound"] = end if bound is None else min(high, max(low, bound))

    def moved() -> None:
        chosen = st.session_state["gallery-bound"]
        choose(bound=None if chosen == end else chosen)

    title = f"{SCORE_TITLES[score]} at {'most' if lowest else 'least'}"
    st.slider(title, low, high, key="gallery-bound", step=0.001, format="%.3f", on_change=moved)


def _token_set(name: str, tokens: Sequence[Token], chosen: Sequence[int], one: int) -> None:
    """The tokens that attention is measured between; none chosen stands for the one selected."""
    tokens_picker(
        f"{name.capitalize()} of the score",
        tokens,
        chosen,
        key=f"gallery-{name}",
        use=lambda positions: select(**{name: positions}),
        placeholder=f"{one} {tokens[one].text}, the selected one",
        help="Tokens can also be marked in the text or on the map of Explore.",
    )


def read_heads(text: str, info: ModelInfo, site: str | None = None) -> set[Pair] | None:
    """The heads that somebody typed: "L5, L7H2, L10-12, L7H0-3"; None for a blank text.

    raises   InputError for what is no name of heads; HeadError for a layer or head that the model does not have
    """
    found: set[Pair] = set()
    pieces = [piece for piece in re.split(r"[,;\s]+", text) if piece]
    site = info.site(site)
    for piece in pieces:
        match = _NAME.fullmatch(piece)
        if match is None:
            shown = piece if len(piece) <= 40 else f"{piece[:39]}…"
            raise InputError(f"Heads are written L5, L7H2, L10-12 or L7H0-3, with commas between; got {shown!r}.")
        layer, last_layer, head, last_head = (None if part is None else int(part) for part in match.groups())
        assert layer is not None
        for end in (layer, last_layer):
            if end is not None and end >= info.layers_of(site):
                raise HeadError(f"{info.name} has layers 0 to {info.layers_of(site) - 1}; got {piece!r}.")
        for end in (head, last_head):
            if end is not None:
                info.check_head(layer, end, site)
        for each, count in zip(info.layers[site], info.layer_heads[site], strict=True):
            if layer <= each <= (layer if last_layer is None else last_layer):
                heads = range(count) if head is None else range(head, (head if last_head is None else last_head) + 1)
                found |= {(each, number) for number in heads}
    return found if pieces else None


def order_of(trace: Trace, focus: Focus, found: Overview, scores: Scores) -> list[Pair]:
    """The heads that pass the filters, best first; what is wrong with a filter is said, and the filter left out."""
    now, lowest = choice(), selection().score in choice().lowest
    try:
        only = read_heads(now.only, trace.info, focus.head.site)
    except InputError as error:
        say.problem(error)
        only = None
    first, last = now.layers or (0, len(scores))
    kept: list[tuple[bool, float, int, int]] = []
    for layer, head in np.argwhere(found.exists).tolist():
        value = float(scores[layer, head])
        within = now.bound is None or (value <= now.bound if lowest else value >= now.bound)
        if within and first <= layer <= last and (only is None or (layer, head) in only):
            missing = math.isnan(value)
            kept.append((missing, 0.0 if missing else value if lowest else -value, layer, head))
    return [(layer, head) for *_, layer, head in sorted(kept)]
