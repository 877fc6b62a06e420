"""What a report is made of, before it is HTML or Markdown. Every text in a block is plain text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from attnviz.figures.palette import Theme
from attnviz.text import visible

_SEEN = re.compile(r"[^ \n\t]+")


@dataclass(frozen=True)
class Heading:
    """level   2 for a finding, 3 for a part of it; anchor: where the contents point, "" for nowhere."""

    words: str
    level: int
    anchor: str = ""


@dataclass(frozen=True)
class Prose:
    words: str


@dataclass(frozen=True)
class Facts:
    """Names and what they are, in rows."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """rows   as many cells each as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Quoted:
    """A text as it is, with its white space."""

    name: str
    text: str


@dataclass(frozen=True)
class Code:
    """Python; `name` tells what it makes."""

    name: str
    lines: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure.

    draw      the figure for a theme; not called where no picture can stand
    caption   what it shows and what it does not
    values    the same numbers, for such a place; None where a table beside it has them
    themes    those it has a look for, the first of them light
    """

    draw: Callable[[Theme], go.Figure]
    caption: str
    values: Table | None = None
    themes: tuple[Theme, ...] = ("light", "dark")


Block = Heading | Prose | Facts | Table | Quoted | Code | Picture


def shown(text: str) -> str:
    """A text in which nothing is invisible or reorders what stands near; its spaces and lines stay."""
    return _SEEN.sub(lambda piece: visible(piece[0]), text)
