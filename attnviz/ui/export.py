"""Take it along: the picture as HTML, its numbers as CSV, JSON and Parquet, and the lines of Python that make it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz import export
from attnviz.ui import say
from attnviz.ui.lent import lent

MOST_ROWS = 1_000_000  # spreadsheets end at 1,048,576 rows, and JSON of more is hundreds of megabytes
_TITLES = {"html": "HTML", "csv": "CSV", "json": "JSON", "parquet": "Parquet"}
_BYTES_A_ROW = {"csv": 35, "json": 95, "parquet": 6}  # measured on patterns of 1,000 tokens
_SAID_FROM = 5_000_000


def export_bar(
    name: str,
    figure: Callable[[], go.Figure],
    frame: Callable[[], pd.DataFrame],
    python: str,
    *,
    rows: int = 0,
    about: export.Facts | None = None,
    caption: str = "",
    key: str = "",
    title: str = "Take it along",
    made: str = "the same picture",
) -> None:
    """A small button that opens on downloads of one view; bytes are made when somebody clicks, never before.

    name      of the files, without ending, and of the view in this page
    figure, frame   make them, in a thread that has no session: call selection() or theme() before, not in them
    python    the lines that make the figure; see python_lines
    rows      of the table, where there may be many: sizes are then said, and beyond MOST_ROWS only Parquet is offered
    about     which run: `attnviz.export.about(trace, head=..., view=...)`, written into JSON and Parquet
    caption   what the picture shows and what not; stands below it in the HTML file
    key       tells two bars of one name apart
    title     of the button
    made      what the lines make
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-").lower()[:80] or "attnviz"
    files: dict[str, tuple[str, Callable[[], bytes]]] = {
        "html": ("text/html", lambda: export.html(figure(), caption=caption)),
        "csv": ("text/csv", lambda: export.csv(frame())),
        "json": ("application/json", lambda: export.json(frame(), about)),
        "parquet": ("application/vnd.apache.parquet", lambda: export.parquet(frame(), about)),
    }
    if rows > MOST_ROWS:
        del files["csv"], files["json"]
    with st.popover(title, icon=":material/download:"):
        with st.container(horizontal=True):
            for ending, (kind, make) in files.items():
                st.download_button(
                    _TITLES[ending],
                    lent(f"{key or stem}-{ending}", make),
                    file_name=f"{stem}.{ending}",
                    mime=kind,
                    on_click="ignore",
                    key=f"take-{key or stem}-{ending}",
                )
        say.caption(*_words(rows, made))
        st.code(python, language="python", wrap_lines=True)


def _words(rows: int, made: str) -> list[str]:
    """What the files are, and how large."""
    words = ["The HTML file holds the picture to zoom and hover in, some 5 MB, and needs no network."]
    if rows > MOST_ROWS:
        words.append(
            f"The table has {rows:,} rows, more than a spreadsheet takes, so it comes as Parquet alone "
            f"({_size(rows, 'parquet')})."
        )
    elif rows * _BYTES_A_ROW["csv"] > _SAID_FROM:
        sizes = ", ".join(f"{_TITLES[ending]} {_size(rows, ending)}" for ending in _BYTES_A_ROW)
        words.append(f"The table has {rows:,} rows: {sizes}.")
    return [*words, "PNG and SVG are buttons at the picture itself.", f"These lines make {made} in Python:"]


def _size(rows: int, ending: str) -> str:
    return f"about {max(1, round(rows * _BYTES_A_ROW[ending] / 1e6))} MB"
