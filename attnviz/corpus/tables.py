"""Rows of CSV and JSONL files, one at a time, refused where they cannot be what they say."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from attnviz.corpus.source import MOST_LINE, Encoding, clean, first_line
from attnviz.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ALONE = "\x1f"  # the delimiter of a table with one column: the unit separator, which no text that is taken holds
MOST_COLUMNS = 1_000
_SAMPLE_LINES = 200
_NESTED = 5  # how deep columns inside columns of JSON are named, as "a.b.c"

Row = tuple[int, Mapping[str, Any]]  # its line (of a Parquet file, its number) from 1, and its fields by column


def check_columns(n: int, what: str) -> None:
    if n > MOST_COLUMNS:
        raise InputError(
            f"{what} has {n:,} columns; at most {MOST_COLUMNS:,} are taken. Keep the column of texts, and those of "
            "labels or pairs, and check the delimiter."
        )


def check_names(names: Sequence[str]) -> None:
    name, n = Counter(names).most_common(1)[0] if names else ("", 0)
    if n > 1:
        raise InputError(f"Two columns are called '{name:.80}'. Give each column a name of its own.")


def check_first_line(file: BinaryIO, encoding: Encoding) -> None:
    """Refuse a first line that is too long to be taken and has too many columns: of the two, that says more."""
    counts = dict.fromkeys(DELIMITERS, 0)
    for number, piece in enumerate(first_line(file, encoding)):
        if not number and len(piece) < MOST_LINE:
            return
        counts = {mark: n + piece.count(mark) for mark, n in counts.items()}
    check_columns(max(counts.values(), default=0) + 1, "The first line")


def delimiter_of(lines: Sequence[str]) -> str:
    """The delimiter that gives most rows of a sample one number of fields, quotes respected; ALONE if none does."""
    best, found = (0.0, 0), ALONE
    for mark in DELIMITERS:
        widths = Counter(len(fields) for fields in _lenient(lines, mark))
        width, rows = widths.most_common(1)[0] if widths else (0, 0)
        share = rows / max(1, sum(widths.values()))
        if width > 1 and share > 0.5 and (round(share, 1), width) > best:
            best, found = (round(share, 1), width), mark
    return found


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names columns: short, different names, none of them a number or a sentence."""
    names = [name.strip() for name in rows[0]] if rows else []
    short = all(name and len(name) <= 64 and len(name.split()) <= 4 for name in names)
    plain = not any(_is_number(name) or name.endswith((".", "!", "?")) for name in names)
    return bool(names) and short and plain and len(set(names)) == len(names) and len(rows) > 1


def csv_rows(lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, fields) of every record; empty lines are none.

    raises   InputError for a quote that is not closed, with its line
    """
    since = 0

    def counted() -> Iterator[str]:
        nonlocal since
        for line in lines:
            since += len(line)
            if since > MOST_LINE:
                # The csv module's own limit belongs to the whole process, which others may have raised.
                raise csv.Error("field larger than field limit")
            yield line

    reader = csv.reader(counted(), delimiter=delimiter, strict=True)
    while True:
        start, since = reader.line_num + 1, 0
        try:
            fields = next(reader, None)
        except csv.Error as error:
            long = "limit" in str(error) or "unexpected end" in str(error)
            fault = "opens a quote that is never closed" if long else f"has quotes that cannot be read ({error})"
            raise InputError(
                f"The row at line {start:,} {fault}. A field with quotes in it stands in quotes, each written twice: "
                '"so ""it"" goes". If the quotes are part of the texts, read the file as plain text.'
            ) from error
        if fields is None:
            return
        if fields:
            yield start, fields


def named_rows(
    rows: Iterator[tuple[int, list[str]]], columns: Sequence[str], ragged: Callable[[int], None]
) -> Iterator[Row]:
    """Rows with names, without those that have more or fewer fields than there are columns.

    ragged   is told the line of each row that is passed over
    raises   InputError after the last row where more than half were: the table is not what it was taken for
    """
    taken = passed = 0
    first = (0, 0)  # line and fields of the first row that is passed over
    for line, fields in rows:
        if len(fields) == len(columns):
            taken += 1
            yield line, dict(zip(columns, fields, strict=True))
        else:
            first = first if passed else (line, len(fields))
            passed += 1
            ragged(line)
    if passed > taken:
        raise InputError(
            f"The row at line {first[0]:,} has {first[1]:,} fields, where the first has {len(columns):,}; "
            f"{passed:,} of {taken + passed:,} rows do not fit the first. Put texts that hold the delimiter in "
            "quotes, or choose another delimiter."
        )


def sample_lines(lines: Iterator[str]) -> list[str]:
    """The first lines, some hundred and on to where no quote is open, or a million characters of them."""
    found: list[str] = []
    size = quotes = 0
    for line in lines:
        found.append(line)
        size += len(line)
        quotes += line.count('"')
        if (len(found) >= _SAMPLE_LINES and not quotes % 2) or size > MOST_LINE:
            break
    return found


def json_rows(lines: Iterator[str]) -> Iterator[Row]:
    """One object a line, with columns inside columns as "a.b"; raises InputError for a line that is none."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = (
                "The file looks like one JSON array; write one object on each line." if line.lstrip()[0] == "[" else ""
            )
            said = str(error) if isinstance(error, ValueError) else "nested too deep"
            raise InputError(
                f"Line {number:,} is not JSON ({said:.120}). JSONL has one object on each line. {hint}"
            ) from error
        if not isinstance(record, dict):
            raise InputError(
                f"Line {number:,} holds {type(record).__name__}, not an object. JSONL has one object on each line, "
                'such as {"text": "..."}.'
            )
        fields = _flat(record)
        check_columns(len(fields), f"The object on line {number:,}")
        yield number, fields


def _lenient(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Records of a sample; what stands after a fault is passed over, and so is the last, which may be cut."""
    found: list[list[str]] = []
    reader = csv.reader(iter(lines), delimiter=delimiter)
    try:
        found.extend(fields for fields in reader if fields)
    except csv.Error:
        return found
    return (found[:-1] or found) if len(lines) >= _SAMPLE_LINES else found


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _flat(record: Mapping[str, Any], before: str = "", depth: int = 1) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, dict) and depth < _NESTED:
            out |= _flat(value, f"{before}{clean(name)}.", depth + 1)
        else:
            out[f"{before}{clean(name)}"] = value
    return out
