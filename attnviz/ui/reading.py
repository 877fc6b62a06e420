"""How patterns are read, on every page alike: units, sinks, colours; and the words for it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attnviz.figures.labels import KIND_WORDS
from attnviz.figures.palette import PALETTES
from attnviz.trace import Trace
from attnviz.ui.focus import Focus
from attnviz.ui.pickers import dropdown, pills, tokens_picker
from attnviz.ui.session import select, selection
from attnviz.view import SINK_KINDS

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
    _choice("unit", "Read by", UNIT_TITLES, chosen.unit)
    _choice("sinks", "Sinks", SINKING_TITLES, chosen.sinks, help=_SINKS_HELP)
    if chosen.sinks in ("hide", "renormalise"):
        _sink_kinds(trace, focus)
    with st.expander("Colours"):
        _choice("scale", "Scale", SCALE_TITLES, chosen.scale)
        _choice("palette", "Palette", {name: name.capitalize() for name in PALETTES}, chosen.palette)


_SINKS_HELP = (
    "Heads with nothing to do rest on the first token, on special tokens or on punctuation. Hiding takes these "
    "columns out; renormalising divides each row by what is left; weighting by value norm lets keys fade whose values "
    "are short. The attention that was taken away is always stated."
)


def _choice(name: str, title: str, titles: dict[str, str], current: str, help: str | None = None) -> None:
    dropdown(title, titles, current, key=f"read-{name}", use=lambda value: select(**{name: value}), help=help)


def _sink_kinds(trace: Trace, focus: Focus) -> None:
    chosen = selection()
    kinds_picker("Taken as sinks", chosen.kinds, key="read-kinds")
    tokens_picker(
        "And these tokens",
        trace.axes(focus.head.site)[1],
        chosen.sunk,
        key="read-sunk",
        use=lambda positions: select(sunk=positions),
        placeholder="None",
    )


def kinds_picker(
    title: str, chosen: Sequence[str], *, key: str, least: tuple[str, ...] = (), help: str | None = None
) -> None:
    """Which keys count as sinks; `least` where none is left."""
    titles: dict[str, str] = {kind: KIND_WORDS[kind].capitalize() for kind in SINK_KINDS}
    pills(title, titles, chosen, key=key, use=lambda kinds: select(kinds=kinds or least), help=help)


def palette_of(name: str) -> dict[str, list[str]]:
    """A sequential palette for both themes, as components take it."""
    return {theme: list(stops) for theme, stops in PALETTES[name].items()}
