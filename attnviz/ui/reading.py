"""How patterns are read, on every page alike: units, sinks, colours; and the words for it."""

from __future__ import annotations

import streamlit as st

from attnviz.figures.labels import KIND_WORDS
from attnviz.figures.palette import PALETTES
from attnviz.trace import Trace
from attnviz.ui.selection import SCALES, Focus
from attnviz.ui.session import select, selection
from attnviz.units import UNITS
from attnviz.view import SINK_KINDS, SINKING

UNIT_TITLES = {"token": "Tokens", "word": "Words", "sentence": "Sentences"}
SINKING_TITLES = {
    "show": "Show",
    "hide": "Hide",
    "renormalise": "Hide and renormalise",
    "value-norm": "Weight by value norm",
}
SCALE_TITLES = {"sqrt": "Square root", "linear": "Linear", "log": "Logarithmic"}


def reading_panel(trace: Trace, focus: Focus) -> None:
    """Units, sinks and colours in the sidebar; they hold on all pages."""
    chosen = selection()
    _choice("unit", "Read by", UNITS, UNIT_TITLES, chosen.unit)
    _choice("sinks", "Sinks", SINKING, SINKING_TITLES, chosen.sinks, help=_SINKS_HELP)
    if chosen.sinks in ("hide", "renormalise"):
        _sink_kinds(trace, focus)
    with st.expander("Colours"):
        _choice("scale", "Scale", SCALES, SCALE_TITLES, chosen.scale)
        _choice("palette", "Palette", tuple(PALETTES), {name: name.capitalize() for name in PALETTES}, chosen.palette)


_SINKS_HELP = (
    "Heads with nothing to do rest on the first token, on special tokens or on punctuation. Hiding takes these "
    "columns out; renormalising divides each row by what is left; weighting by value norm lets keys fade whose values "
    "are short. The attention that was taken away is always stated."
)


def _choice(
    name: str, title: str, options: tuple[str, ...], titles: dict[str, str], current: str, help: str | None = None
) -> None:
    st.session_state[f"read-{name}"] = current
    st.selectbox(
        title,
        options,
        key=f"read-{name}",
        format_func=titles.__getitem__,
        help=help,
        on_change=lambda: select(**{name: st.session_state[f"read-{name}"]}),
    )


def _sink_kinds(trace: Trace, focus: Focus) -> None:
    chosen = selection()
    st.session_state["read-kinds"] = list(chosen.kinds)
    st.pills(
        "Taken as sinks",
        SINK_KINDS,
        key="read-kinds",
        selection_mode="multi",
        format_func=lambda kind: KIND_WORDS[kind].capitalize(),
        on_change=lambda: select(kinds=tuple(k for k in SINK_KINDS if k in st.session_state["read-kinds"])),
    )
    keys = trace.axes(focus.head.site)[1]
    st.session_state["read-sunk"] = [i for i in chosen.sunk if i < len(keys)]
    st.multiselect(
        "And these tokens",
        range(len(keys)),
        key="read-sunk",
        format_func=lambda i: f"{i} {keys[i].text}",
        placeholder="None",
        on_change=lambda: select(sunk=tuple(sorted(st.session_state["read-sunk"]))),
    )


def palette_of(name: str) -> dict[str, list[str]]:
    """A sequential palette for both themes, as components take it."""
    return {theme: list(stops) for theme, stops in PALETTES[name].items()}
