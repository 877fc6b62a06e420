"""A report as one HTML document that opens from a disk, without a network.

Its policy forbids every request, and lets two scripts run alone, named by their hashes: Plotly's, and the few lines
below that draw. No text that slips through as markup could run. Styles may be inline, since Plotly writes its own.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape

import plotly.io
from plotly.offline import get_plotlyjs

from attnviz.errors import InputError
from attnviz.findings import Finding
from attnviz.report.blocks import Block, Code, Facts, Heading, Picture, Prose, Quoted, Table, shown
from attnviz.report.telling import anchor, blocks, care, checked, shortened

MOST_BYTES = 64 << 20  # of a report without Plotly: more makes a browser slow
_IN_SCRIPT = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"})
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2030; --paper: #ffffff; --soft: #f3f4f8; --line: #d4d8e4; --link: #2a3c92; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f2; --paper: #0e1117; --soft: #1a1f2b; --line: #363d4e; --link: #a9c8f7; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; font: 15px/1.55 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { line-height: 1.2; }
h2 { margin-top: 3rem; padding-top: 1rem; border-top: 2px solid var(--line); }
h1, h2, h3, td, th, dd, p, li a { unicode-bidi: plaintext; }
a { color: var(--link); }
table { border-collapse: collapse; width: 100%; margin: .75rem 0; font-size: 14px; }
td, th { padding: .25rem .5rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  white-space: pre-wrap; }
th { font-weight: 600; }
.facts th { width: 11rem; font-weight: 400; opacity: .75; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { padding: .75rem; background: var(--soft); border-radius: 6px; overflow-x: auto; font-size: 13px; }
pre.quoted { white-space: pre-wrap; unicode-bidi: plaintext; font-family: inherit; }
summary { cursor: pointer; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption, .status { font-size: 13px; opacity: .8; }
@media print {
  :root { --ink: #000; --paper: #fff; --soft: #f6f6f6; --line: #bbb; --link: #000; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2 { break-before: page; }
  h2, h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  figure > div { zoom: .7; }
  pre { white-space: pre-wrap; }
}
"""
_DRAW = """
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)"), print = matchMedia("print");
const places = [...document.querySelectorAll("[data-figure]")];
const config = { displaylogo: false, responsive: true, showSendToCloud: false, showEditInChartStudio: false };
async function draw(place) {
  try {
    const looks = JSON.parse(document.getElementById(place.dataset.figure).textContent);
    const one = (dark.matches && !print.matches && looks.dark) || looks.light;
    place.style.height = `${one.layout.height || 450}px`;  // where a new width is measured, Plotly forgets its own
    await Plotly.react(place, one.data, one.layout, config);
  } catch (error) {
    place.textContent = "This figure could not be drawn.";
  }
}
async function drawAll() {
  for (const place of places) {
    await draw(place);
    await new Promise((done) => setTimeout(done));
  }
  document.body.dataset.drawn = places.length;
}
function again() { for (const place of places) draw(place); }
dark.addEventListener("change", again);
print.addEventListener("change", again);
drawAll();
"""


def html(
    findings: Iterable[Finding], *, title: str = "Findings", about: str = "", notes: Mapping[str, str] | None = None
) -> str:
    """All findings as one document: some 5 MB for Plotly, and what their texts, figures and lines take.

    findings written one after the other: none is held once it stands there
    about    a paragraph below the title: whose report this is, and what for
    notes    by id, a paragraph for a finding: what is to be known of it beside what it says of itself
    raises   InputError for no findings, more than 200, or more than 64 MB
    """
    parts, size, links = [], 0, list[str]()
    for part in _body(findings, notes or {}, links):
        size += len(part)
        if size > MOST_BYTES:
            raise InputError(f"This report would have more than {MOST_BYTES >> 20} MB: choose fewer findings.")
        parts.append(part)
    plotly_js, allowed = _plotly(), f"script-src {_hash(_plotly())} {_hash(_DRAW)}"
    head = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(allowed)}">',
        '<meta name="viewport" content="width=device-width">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        *([f"<p>{_text(about)}</p>"] if about else []),
        *_contents(links),
    ]
    tail = [f"<script>{plotly_js}</script>", f"<script>{_DRAW}</script>", "</body></html>", ""]
    whole = "\n".join([*head, *parts, f"<p>{_made_with()}</p>", *tail])
    return whole.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no UTF-8


def _body(findings: Iterable[Finding], notes: Mapping[str, str], links: list[str]) -> Iterator[str]:
    """The parts of a report, and for each finding a line of the contents, added to `links`."""
    figures = 0
    yield _block(care())
    for number, finding in checked(findings):
        link = f'<a href="#{anchor(number)}">{_text(shortened(finding))}</a>'
        links.append(f'<li>{link} <span class="status">{finding.status}</span></li>')
        for block in blocks(number, finding, notes.get(finding.id, "")):
            if isinstance(block, Picture):
                figures += 1
                yield _picture(block, f"figure-{figures}")
            else:
                yield _block(block)


def _contents(links: Sequence[str]) -> Iterator[str]:
    yield '<nav aria-label="Contents"><ol>'
    yield from links
    yield "</ol></nav>"


def _block(block: Block) -> str:
    match block:
        case Heading(words, level, at):
            return f"<h{level}{_attribute('id', at)}>{_text(words)}</h{level}>"
        case Prose(words):
            return f"<p>{_text(words)}</p>"
        case Facts(rows):
            cells = "".join(
                f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in rows
            )
            return f'<table class="facts"><tbody>{cells}</tbody></table>'
        case Table():
            return _table(block)
        case Quoted(name, text):
            return f'<p>{_text(name)}:</p><pre class="quoted">{_text(text)}</pre>'
        case Code(name, lines):
            return f"<details><summary>{_text(name)}</summary><pre><code>{escape(lines)}</code></pre></details>"
    raise TypeError(block)


def _table(table: Table) -> str:
    columns = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.columns)
    rows = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in table.rows)
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"


def _td(cell: str) -> str:
    try:
        float(cell)
    except ValueError:
        return f"<td>{_text(cell)}</td>"
    return f'<td class="number">{_text(cell)}</td>'


def _picture(picture: Picture, name: str) -> str:
    drawn = ",".join(f'"{theme}":{plotly.io.to_json(picture.draw(theme), engine="json")}' for theme in picture.themes)
    data = f'<script type="application/json" id="{name}">{f"{{{drawn}}}".translate(_IN_SCRIPT)}</script>'
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>"
    return f'<figure><div data-figure="{name}"></div>{caption}</figure>{data}'


def _text(words: str) -> str:
    return escape(shown(words))


def _attribute(name: str, value: str) -> str:
    return f' {name}="{escape(value)}"' if value else ""


def _policy(allowed: str) -> str:
    styles = "style-src 'unsafe-inline'; img-src data: blob:"
    return f"default-src 'none'; {allowed}; {styles}; base-uri 'none'; form-action 'none'"


@cache
def _plotly() -> str:
    """Plotly's program, which cannot end its element early: in JavaScript, the escape changes no string."""
    return get_plotlyjs().replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _made_with() -> str:
    return f"Made with AttnViz {escape(importlib.metadata.version('attnviz'))}. This file asks no server for anything."
