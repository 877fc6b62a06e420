"""Pictures and numbers to take along: one HTML file that needs no network; CSV, JSON and Parquet.

Bytes out, never files: the caller decides where they go. A lone surrogate, which no UTF-8 file can hold, becomes
U+FFFD in all of them; every other text comes back as it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from html import escape, unescape
from json import dumps
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from attnviz.edits import Head
from attnviz.errors import ShapeError
from attnviz.figures.labels import run_words
from attnviz.trace import Trace
from attnviz.view import View

Facts = Mapping[str, Any]

_AS_IT_IS = View()
_SURROGATE = re.compile("[\ud800-\udfff]")
# What a spreadsheet takes for a formula, also behind white space; the apostrophes make the mark reversible.
_FORMULA = re.compile(r"[\s']*[=+\-@＝＋－＠\t\r\n]")
_IN_SCRIPT = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_CONFIG = {"displaylogo": False, "responsive": True}
_DRAW = """
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const figure = read("figure");
Plotly.newPlot("picture", figure.data, figure.layout, read("config"));
"""
_STYLE = """
body { margin: 0; min-height: 100vh; display: flex; flex-direction: column; font: 14px/1.5 system-ui, sans-serif; }
#picture { flex: 1; min-height: 480px; }
p { margin: 0 auto; max-width: 70em; padding: 0 1.5em 1.5em; overflow-wrap: anywhere; }
"""


def about(trace: Trace, *, head: Head | None = None, view: View = _AS_IT_IS) -> dict[str, Any]:
    """Which run numbers come from, for the head of a file: model, revision, run, head, view and the text's digest."""
    info, sinks = trace.info, view.sinks
    facts: dict[str, Any] = {
        "model": info.name,
        "revision": info.revision,
        "dtype": info.dtype,
        "run": run_words(trace),
        "tokens": len(trace.tokens),
        "text_sha256": _digest(trace.text),
        "source_sha256": _digest(trace.source_text) if trace.source_text else None,
        "site": info.site(head.site) if head else None,
        "head": f"L{head.layer}H{head.head}" if head else None,
        "unit": view.unit,
        "sinks": sinks.how,
    }
    if sinks.how in ("hide", "renormalise"):
        facts |= {"sink_kinds": list(sinks.kinds), "sink_tokens": list(sinks.tokens)}
    return {name: value for name, value in facts.items() if value is not None}


def heads_frame(scores: Mapping[str, npt.NDArray[np.floating]]) -> pd.DataFrame:
    """A row for each head: layer, head, and a column for each score by its name; without heads that have none.

    scores   name -> [layer, head], all of one shape; NaN where there is no head
    raises   ShapeError for another number of axes, or shapes that differ
    """
    shapes = {np.shape(values) for values in scores.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2:
        raise ShapeError(
            f"heads_frame takes scores of one shape, [layer, head]; got {[*map(np.shape, scores.values())]}."
        )
    layers, heads = np.indices(shape)
    frame = pd.DataFrame({name: np.ravel(values) for name, values in scores.items()})
    frame.insert(0, "head", heads.ravel())
    frame.insert(0, "layer", layers.ravel())
    return frame.dropna(subset=list(scores), how="all").reset_index(drop=True)


def html(figure: go.Figure, *, caption: str = "") -> bytes:
    """A figure as one HTML file, some 5 MB: Plotly's program stands in it, and its policy forbids every request.

    caption   what the picture shows and what it does not; stands below it, as text
    """
    layout = figure.layout
    title = _whole(unescape(layout.title.text or "AttnViz"))
    ink, paper = layout.font.color or "#000000", layout.paper_bgcolor or "#ffffff"
    colours = f"body {{ color: {escape(ink)}; background: {escape(paper)}; }}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}{colours}</style></head>",
        '<body><div id="picture"></div>',
        f"<p>{escape(_whole(caption))}</p>" if caption else "",
        _data("figure", plotly.io.to_json(figure, engine="json")),
        _data("config", dumps(_CONFIG)),
        f"<script>{get_plotlyjs()}</script>",
        f"<script>{_DRAW}</script></body></html>",
    ]
    return "\n".join(part for part in parts if part).encode()


def csv(frame: pd.DataFrame) -> bytes:
    """A table as UTF-8 CSV: a row of names, texts in quotes, numbers as short as they come back the same.

    A text that a spreadsheet would run as a formula (it begins with = + - @, tab or a line end) gets an apostrophe in
    front, as people write it there; Parquet and JSON have every text as it is. What is missing is empty. The index is
    left out, and so is the run, which a comment would have to hold: readers differ over those.
    """
    columns = [_cells(frame[name], _quoted, "") for name in frame.columns]
    lines = [",".join(_quoted(str(name)) for name in frame.columns), *map(",".join, zip(*columns, strict=True))]
    return ("\r\n".join(lines) + "\r\n").encode()


def json(frame: pd.DataFrame, facts: Facts | None = None) -> bytes:
    """A table as UTF-8 JSON: {"about": the facts, "rows": [{name: value}, ...]}; what is missing is null."""
    names = [_json_text(str(name)) for name in frame.columns]
    columns = [_cells(frame[name], _json_text, "null") for name in frame.columns]
    rows = (
        "{" + ", ".join(f"{name}: {cell}" for name, cell in zip(names, row, strict=True)) + "}"
        for row in zip(*columns, strict=True)
    )
    run = _whole(dumps(dict(facts or {}), ensure_ascii=False))
    return "".join(['{"about": ', run, ', "rows": [\n', ",\n".join(rows), "\n]}\n"]).encode()


def parquet(frame: pd.DataFrame, facts: Facts | None = None) -> bytes:
    """A table as Parquet, types and all; `pandas.read_parquet(file).attrs` are the facts."""
    whole = frame.reset_index(drop=True)
    for name in [name for name in whole.columns if pd.api.types.is_object_dtype(whole[name])]:
        whole[name] = [value if pd.isna(value) else _whole(str(value)) for value in whole[name]]
    whole.attrs = {name: _whole(value) if isinstance(value, str) else value for name, value in (facts or {}).items()}
    return whole.to_parquet(None, index=False, compression="zstd")


def _data(name: str, text: str) -> str:
    """JSON that stands in a page: nothing in it can end its element."""
    return f'<script type="application/json" id="{name}">{_whole(text).translate(_IN_SCRIPT)}</script>'


def _cells(column: pd.Series[Any], text: Callable[[str], str], missing: str) -> list[str]:
    """A column as it is written; numbers by the shortest form that reads as the same number of their type."""
    if pd.api.types.is_bool_dtype(column):
        return [str(value).lower() for value in column]
    if pd.api.types.is_numeric_dtype(column):
        gone = ~np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan))
        # Elements of the column's own type: as a Python float, a float32 of 0.1 would print 17 digits.
        values = column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array
        return [missing if lacking else str(x) for x, lacking in zip(values, gone, strict=True)]
    known = {value: text(_whole(str(value))) for value in column.dropna().unique()}
    return [known.get(value, missing) for value in column]


def _quoted(text: str) -> str:
    mark = "'" if _FORMULA.match(text) else ""
    return f'"{mark}{text.replace(chr(34), chr(34) * 2)}"'


def _json_text(text: str) -> str:
    return dumps(_whole(text), ensure_ascii=False)


def _whole(text: str) -> str:
    """Text without lone surrogates, which UTF-8 cannot hold."""
    return _SURROGATE.sub("\ufffd", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
