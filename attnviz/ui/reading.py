"""How patterns are read, on every page alike: units, sinks, colours; and the words for it."""

from __future__ import annotations

import streamlit as st
import torch

from attnviz.figures.palette import PALETTES
from attnviz.trace import Trace
from attnviz.ui.selection import SCALES, Focus
from attnviz.ui.session import select, selection
from attnviz.units import UNITS
from attnviz.view import SINK_KINDS, SINKING, View

UNIT_TITLES = {"token": "Tokens", "word": "Words", "sentence": "Sentences"}
SINKING_TITLES = {
    "show": "Show",
    "hide": "Hide",
    "renormalise": "Hide and renormalise",
    "value-norm": "Weight by value norm",
}
KIND_TITLES = {"first": "First token", "special": "Special tokens", "punctuation": "Punctuation"}
SCALE_TITLES = {"sqrt": "Square root", "linear": "Linear", "log": "Logarithmic"}
_CHOSEN = "chosen"


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
        format_func=KIND_TITLES.__getitem__,
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


def sink_words(view: View, trace: Trace, site: str | None, taken: torch.Tensor | None) -> str:
    """What was done with sinks, and the attention that was taken away or moved; "" where nothing was done.

    taken   shares in [0, 1] of the rows that are spoken of; None where none were made
    """
    sinks = view.sinks
    if not sinks.active:
        return ""
    share = "" if taken is None or not taken.numel() else f"{float(taken.mean()):.0%} of the attention"
    if sinks.how == "value-norm":
        moved = f"; this moved {share} on average" if share else ""
        return f"Weighted by the length of the value vectors, each row scaled back to its sum{moved}."
    names = [KIND_TITLES[kind].lower() for kind in sinks.kinds]
    names += [f"{len(sinks.tokens)} chosen"] if sinks.tokens else []
    count = int(view.hidden(trace, site).sum())
    done = "hidden and the rows renormalised" if sinks.how == "renormalise" else "hidden"
    what = f"Sinks ({', '.join(names) or 'none'}: {count} key{'s' * (count != 1)}) are {done}"
    return f"{what}; {share} was taken away, on average over these rows." if share else f"{what}."


def unit_words(view: View) -> str:
    """What a row and a column stand for; "" for tokens."""
    if view.unit == "token":
        return ""
    return f"By {view.unit}: attention is summed over the tokens of a key and averaged over those of a query."
