"""Findings as files: JSON Lines, and CSV that a spreadsheet opens and that reads back as it was.

CSV has a column for each thing that people sort by, and a last one, `json`, with the whole finding, which is what is
read. What a spreadsheet would take for a formula has an apostrophe before it, and so has what began with one: at the
start of a cell, and behind a semicolon, tab, bar or line's end in it, where other programs begin a cell.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator

from pydantic import ValidationError

from attnviz.errors import InputError
from attnviz.findings.finding import Finding
from attnviz.findings.lines import MOST_LINES, of_lines, plain

MOST_BYTES = 256 << 20

_COLUMNS: dict[str, Callable[[Finding], str]] = {
    "id": lambda one: one.id,
    "claim": lambda one: one.claim,
    "status": lambda one: one.status,
    "labels": lambda one: "; ".join(one.labels),
    "heads": lambda one: "; ".join(map(str, one.heads)),
    "confidence": lambda one: f"{one.confidence:g}",
    "author": lambda one: one.author,
    "shared": lambda one: "yes" if one.shared else "no",
    "model": lambda one: one.model.name,
    "revision": lambda one: one.model.revision,
    "evidence": lambda one: str(len(one.evidence)),
    "note": lambda one: one.note,
    "created": lambda one: one.created.isoformat(),
    "changed": lambda one: one.changed.isoformat(),
    "version": lambda one: str(one.version),
    "json": lambda one: one.model_dump_json(),
}
# Edited in a spreadsheet these would be lost, since `json` is what is read: a difference is an error.
_COMPARED = ("id", "claim", "status", "labels", "author", "note")
_BEGINS = r"(?<![^;\t|\r\n])"  # the start, or behind what ends a cell elsewhere
_FORMULA = re.compile(_BEGINS + r"""(?=[ "]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n'])""")
_MARKED = re.compile(_BEGINS + "'")
# Our own: Python's csv has one limit on a field's length for the whole process, and figures are longer.
_CELL = re.compile(r'(?:"([^"]*(?:""[^"]*)*)"|([^",\r\n]*))(,|\r\n|\n|\r|\Z)')


def to_csv(findings: Iterable[Finding]) -> str:
    """A row of names, and a row for each finding; lines end as RFC 4180 has it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    for finding in findings:
        writer.writerow([_quoted(cell(finding)) for cell in _COLUMNS.values()])
    return file.getvalue()


def of_csv(text: str, *, name: str = "the table") -> list[Finding]:
    """What `to_csv` gave, in its order; rows and columns may have been moved, and columns but `json` left out.

    name     what to call it in messages
    raises   InputError naming the row: for no finding, one that comes twice or was edited beside its JSON; too many
    """
    rows = _rows(text.removeprefix("\ufeff"), name)
    header = next(rows, (1, []))[1]
    if header.count("json") != 1:
        raise InputError(f"{name} has no column 'json', or two: findings are read from the one that the export wrote.")
    found: dict[str, Finding] = {}
    for number, row in rows:
        if row == [""]:
            continue
        if len(found) == MOST_LINES:
            raise InputError(f"{name} holds more than {MOST_LINES:,} findings: split it.")
        if len(row) != len(header):
            raise InputError(f"{name}, row {number}: {len(row)} cells, and the first row has {len(header)}.")
        finding = _of_row(dict(zip(header, row, strict=True)), f"{name}, row {number}")
        if finding.id in found:
            raise InputError(f"{name}, row {number}: the finding {finding.id} stands in an earlier row already.")
        found[finding.id] = finding
    return list(found.values())


def read(data: str | bytes, *, as_csv: bool, name: str) -> list[Finding]:
    """Findings of a file's content; InputError for one too large, not UTF-8, or as `of_csv` and `of_lines`."""
    if len(data) > MOST_BYTES:
        raise InputError(f"{name} has {len(data) / 1e6:,.0f} MB; at most {MOST_BYTES / 1e6:,.0f} are read: split it.")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1 if isinstance(data, bytes) else 1
        raise InputError(f"{name}, line {line}: this is not UTF-8. Save it as UTF-8, and import that.") from error
    return of_csv(text, name=name) if as_csv else of_lines(text, name=name)


def _of_row(cells: dict[str, str], where: str) -> Finding:
    try:
        finding = Finding.model_validate_json(_unquoted(cells["json"]))
    except ValidationError as error:
        raise InputError(f"{where}, column json: {plain(error)}") from error
    for column in _COMPARED:
        if column in cells and _unquoted(cells[column]) != _COLUMNS[column](finding):
            raise InputError(
                f"{where}: '{column}' was changed, and the whole finding in 'json' was not. Change findings in the app."
            )
    return finding


def _rows(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """(number from 1, cells) of each row; InputError for a quote that is not closed or stands within a cell."""
    place, number, row = 0, 1, list[str]()
    while place < len(text) or row:
        cell = _CELL.match(text, place)
        if cell is None:
            raise InputError(
                f"{name}, row {number}: a quotation mark is not closed, or stands in the middle of a cell."
            )
        quoted, bare, end = cell.groups()
        row.append(quoted.replace('""', '"') if quoted is not None else bare)
        place = cell.end()
        if end != ",":
            yield number, row
            number, row = number + 1, []


def _quoted(cell: str) -> str:
    return _FORMULA.sub("'", cell)


def _unquoted(cell: str) -> str:
    return _MARKED.sub("", cell)
