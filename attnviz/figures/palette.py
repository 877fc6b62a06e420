"""Colours: sequential scales for weights and a diverging one for differences, light and dark; and colours for heads.

Every sequential scale runs with steadily changing lightness, so that it reads without colour vision and in grey print.
Viridis and cividis are those of matplotlib (CC0), turned round on a light page: little is always near its colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from attnviz.errors import InputError

Theme = Literal["light", "dark"]
Palette = Literal["indigo", "viridis", "cividis", "grey"]
Stops = Mapping[str, Sequence[str]]

SEQUENTIAL: Stops = {
    "light": ("#fbfbfd", "#dfe4f7", "#b3c1ec", "#7d93dc", "#4b63c3", "#2a3c92", "#141f57"),
    "dark": ("#14161d", "#1e2748", "#2c3f80", "#4262bd", "#6c92e3", "#a9c8f7", "#eef6ff"),
}
_VIRIDIS = ("#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90d743", "#fde725")
_CIVIDIS = ("#00224e", "#2a3f6d", "#575d6d", "#7d7c78", "#a59c74", "#d2c060", "#fee838")
PALETTES: Mapping[str, Stops] = {
    "indigo": SEQUENTIAL,
    "viridis": {"light": _VIRIDIS[::-1], "dark": _VIRIDIS},
    "cividis": {"light": _CIVIDIS[::-1], "dark": _CIVIDIS},
    "grey": {"light": ("#ffffff", "#000000"), "dark": ("#000000", "#ffffff")},
}
# Orange below zero, blue above: told apart by people with any of the common colour blindnesses.
DIVERGING: Stops = {
    "light": ("#7f3b08", "#c8741a", "#f5b96d", "#fbfbfd", "#a3bdea", "#4b63c3", "#141f57"),
    "dark": ("#ffd3a1", "#e08a33", "#7a4310", "#14161d", "#24407f", "#5f8be0", "#d6e8ff"),
}
# For twelve kinds; more heads repeat them. The first three are Okabe & Ito's, darker or lighter where the page asks for
# it; the others were searched for so that any of them stays apart from every other in protanopia, deuteranopia and
# tritanopia too, the most different first.
CATEGORICAL: Stops = {
    "light": (
        *("#0072b2", "#d55e00", "#007a5a", "#780f00", "#690f96", "#870fff"),
        *("#0000d2", "#2d3c4b", "#a58796", "#ff1ef0", "#b41e1e", "#4b87ff"),
    ),
    "dark": (
        *("#56b4e9", "#ff9a3c", "#2fd0a0", "#870fff", "#c31e1e", "#ffd2ff"),
        *("#78ff00", "#f03c96", "#00785a", "#6978f0", "#a5873c", "#a52da5"),
    ),
}


def colorscale(theme: Theme = "light", palette: Palette = "indigo") -> list[list[float | str]]:
    """A sequential scale as Plotly takes it."""
    if palette not in PALETTES:
        raise InputError(f"A palette is one of {', '.join(PALETTES)}; got {palette!r:.80}.")
    return _plotly(PALETTES[palette][theme])


def diverging_colorscale(theme: Theme = "light") -> list[list[float | str]]:
    """The diverging scale as Plotly takes it, zero in the middle."""
    return _plotly(DIVERGING[theme])


def _plotly(stops: Sequence[str]) -> list[list[float | str]]:
    return [[i / (len(stops) - 1), color] for i, color in enumerate(stops)]
