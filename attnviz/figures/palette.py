"""Colours: one sequential scale for weights, light and dark.

Both run through one hue with steadily changing lightness, so that they read without colour vision and in grey print;
zero is the colour of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Theme = Literal["light", "dark"]

SEQUENTIAL: Mapping[str, Sequence[str]] = {
    "light": ("#fbfbfd", "#dfe4f7", "#b3c1ec", "#7d93dc", "#4b63c3", "#2a3c92", "#141f57"),
    "dark": ("#14161d", "#1e2748", "#2c3f80", "#4262bd", "#6c92e3", "#a9c8f7", "#eef6ff"),
}


def colorscale(theme: Theme = "light") -> list[list[float | str]]:
    """The scale as Plotly takes it."""
    stops = SEQUENTIAL[theme]
    return [[i / (len(stops) - 1), color] for i, color in enumerate(stops)]
