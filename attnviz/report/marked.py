"""A report as Markdown (GitHub's): the same words, numbers and lines, with tables in place of pictures."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attnviz.errors import InputError
from attnviz.findings import Finding
from attnviz.report.blocks import Block, Code, Facts, Heading, Picture, Prose, Quoted, Table, shown
from attnviz.report.telling import anchor, blocks, care, checked, shortened
from attnviz.report.web import MOST_BYTES

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKS = re.compile(r"[\\`*_{}\[\]#|~!$^@]")
_ADDRESS = re.compile(r"(?i)\b(https?|ftp|mailto|xmpp)(?=:)|\bwww(?=\.)")
_FIRST = re.compile(r"^(\d+)(?=[.)](?:\s|$))|^(?=[-+=])")
_TICKS = re.compile(r"`+")


def markdown(
    findings: Iterable[Finding], *, title: str = "Findings", about: str = "", notes: Mapping[str, str] | None = None
) -> str:
    """All findings as one text; `title`, `about` and `notes` as `html` has them, and the same InputErrors.

    Whatever a claim or a text holds is escaped: no link, no picture, no HTML.
    """
    head = [f"# {_line(title)}", *([_line(about)] if about else [])]
    parts, links, size = list[str](), list[str](), 0
    for part in _body(findings, notes or {}, links):
        size += len(part)
        if size > MOST_BYTES:
            raise InputError(f"This report would have more than {MOST_BYTES >> 20} MB: choose fewer findings.")
        parts.append(part)
    parts = [*head, "\n".join(links), *parts]
    parts.append(f"Made with AttnViz {importlib.metadata.version('attnviz')}.")
    return ("\n\n".join(parts) + "\n").encode("utf-8", "replace").decode("utf-8")


def _body(findings: Iterable[Finding], notes: Mapping[str, str], links: list[str]) -> Iterator[str]:
    """The parts of a report, and for each finding a line of the contents, added to `links`."""
    yield from _block(care())
    for number, finding in checked(findings):
        links.append(f"{number}. [{_line(shortened(finding))}](#{anchor(number)}): {finding.status}")
        for block in blocks(number, finding, notes.get(finding.id, "")):
            yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Heading(words, level, at):
            target = f'<a id="{at}"></a>\n\n' if at else ""
            yield f"{target}{'#' * level} {_line(words)}"
        case Prose(words):
            yield _line(words)
        case Facts(rows):
            yield _table(("", ""), rows)
        case Table(columns, rows):
            yield _table(columns, rows)
        case Quoted(name, text):
            yield f"{_line(name)}:"
            yield _fenced(shown(text), "text")
        case Code(name, lines):
            yield f"{_line(name)}:"
            yield _fenced(lines, "python")
        case Picture(caption=caption, values=values):
            if values is not None:
                yield f"The figure's values. {_line(caption)}"
                yield _table(values.columns, values.rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, *rows]
    written = [f"| {' | '.join(map(_line, line))} |" for line in lines]
    return "\n".join([written[0], f"|{' --- |' * len(columns)}", *written[1:]])


def _line(text: str) -> str:
    """A text on one line that means nothing to Markdown."""
    line = " ".join(shown(text).split()).translate(_ENTITIES)
    line = _ADDRESS.sub(lambda found: f"{found[0]}\\", _MARKS.sub(lambda mark: f"\\{mark[0]}", line))
    return _FIRST.sub(lambda found: f"{found[1] or ''}\\", line)


def _fenced(text: str, language: str) -> str:
    """A block of code that nothing in it can end."""
    fence = "`" * max(3, 1 + max((len(run) for run in _TICKS.findall(text)), default=0))
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"
