"""The numbers and labels that harness_components.py shows and test_components.py compares with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np

SIDE = 4096  # the largest map
HOSTILE_LABELS = (
    '</script><img src=x onerror="window.__pwned=1">',
    "quotes \"'` and \\ back\\slash ${1}",
    "line\u2028separator\u2029",
    "bidi \u202eevil\u202c \u2067x",
    "]]>&lt;&amp;<!--",
    "🎂é北",
)
DIVERGING = {"light": ("#a01030", "#ffffff", "#1030a0"), "dark": ("#ff8090", "#101010", "#80a0ff")}


def words(count: int) -> list[str]:
    """Labels, none of them its own index; the first ones hostile."""
    return [*HOSTILE_LABELS, *(f"w{i}" for i in range(len(HOSTILE_LABELS), count))]


@cache
def pattern(count: int) -> np.ndarray:
    """[count, count] float32: rows that sum to 1, with nothing above the diagonal."""
    draw = np.random.default_rng(count)
    values = np.tril(draw.random((count, count), dtype=np.float32) ** 6)
    return values / values.sum(1, keepdims=True)


@dataclass(frozen=True)
class Case:
    """What a page of the harness shows.

    most     blocks a side
    few      whole and exact whatever the window
    tokens   in the strip; twice as many as cells: each cell is then a word of two, and a box has a value of the page's
    """

    values: np.ndarray
    labels: list[str] = field(default_factory=lambda: words(SIDE))
    low: float = 0.0
    high: float = 1.0
    scale: Literal["linear", "sqrt", "log"] = "sqrt"
    most: int = 512
    few: bool = False
    tokens: int = 0


_STEPS = np.array([[0.0, 1e-5, 1e-4, 1e-3], [1e-2, 0.1, 0.25, 0.5], [0.75, 1.0, np.nan, 0.0], [0.0] * 4], np.float32)
_SIGNED = np.array([[-1.0, -0.25, -1e-2, 0.0], [1e-2, 0.25, 1.0, 0.0]] * 2, np.float32)
NOTHING = np.zeros((0, 0), np.float32)

CASES = {
    "small": Case(pattern(24), few=True, tokens=24),
    "pooled": Case(pattern(200), most=50, tokens=40),
    "signed-pooled": Case(pattern(64) - pattern(64).T, most=16, low=-1.0, scale="linear"),
    "words": Case(pattern(12), few=True, tokens=24),
    "strip": Case(NOTHING, tokens=2048),
    **{f"steps-{scale}": Case(_STEPS, scale=scale, few=True) for scale in ("linear", "sqrt", "log")},
    **{f"signed-{scale}": Case(_SIGNED, low=-1.0, scale=scale, few=True) for scale in ("linear", "sqrt", "log")},
}


def case_of(name: str) -> Case:
    """The case; the largest map is made only when it is asked for."""
    return Case(pattern(SIDE), high=0.01) if name == "huge" else CASES[name]
