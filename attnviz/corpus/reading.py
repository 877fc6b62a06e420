"""Texts out of a file that anybody may have made: TXT, CSV, TSV, JSONL, Parquet, or pasted.

    bytes -> encoding -> lines -> rows of named fields -> Item(text, label, pair)

`inspect` looks at the beginning and says how a file would be read, `read` reads it, a row at a time, so that 200 MB
take no more memory than 2. A file that cannot be what it says is refused with its line; a text that no tokenizer takes
is left out and counted, as is a row of a table that does not fit its columns, and the notes say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from attnviz.corpus import tables
from attnviz.corpus.parquet import parquet_rows, parquet_sample
from attnviz.corpus.records import Item
from attnviz.corpus.source import Encoding, Source, clean, encoding_of, lines_of, opened
from attnviz.errors import InputError, TextError
from attnviz.settings import settings
from attnviz.text import check_text

Kind = Literal["txt", "csv", "tsv", "jsonl", "parquet"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LINE = "text"  # the one column of a plain text
_SUFFIXES: dict[str, Kind] = {".txt": "txt", ".md": "txt", ".ndjson": "jsonl", ".json": "jsonl", ".pq": "parquet"}
_SUFFIXES |= {f".{kind}": kind for kind in KINDS}
_LIKELY = ("text", "sentence", "content", "review", "prompt", "question", "document", "source", "input", "body")
_SAMPLED = 20
_MOST_LABEL = 100  # characters
_RAGGED = "more or fewer fields than the first row"


@dataclass(frozen=True)
class Layout:
    """How a file would be read.

    delimiter   of a CSV or TSV file, else ""; `tables.ALONE` for a table of one column
    header      whether the first row names the columns
    rows        the first rows, fields as text, cut to a line of a table
    text        the column that seems to hold the texts
    notes       what was guessed and should be looked at
    """

    kind: Kind
    encoding: str
    delimiter: str
    header: bool
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    text: str
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class Reading:
    """The texts of a file, read anew by each loop over it.

    notes     what there is to say of the last loop once it is through: what was guessed, left out, cut off
    skipped   texts left out, by reason: (how many, the first one's line)
    """

    layout: Layout
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, tuple[int, int]] = field(default_factory=dict)
    # Called with what is told the line of each row that does not fit the columns.
    _rows: Callable[[Callable[[int], None]], Iterator[tables.Row]] = field(default=lambda _: iter(()), repr=False)
    _columns: Mapping[str, str] = field(default_factory=dict, repr=False)
    _most: int = 0

    def __iter__(self) -> Iterator[Item]:
        self.skipped.clear()
        self.notes[:] = self.layout.notes
        taken, cut = 0, False
        for line, fields in self._rows(lambda line: self._skip(_RAGGED, line)):
            item = self._item(line, fields)
            if item is None:
                continue
            if taken == self._most:
                cut = True
                break
            taken += 1
            yield item
        if cut:
            self.notes.append(f"Only the first {taken:,} texts were taken; the file has more.")
        for reason, (n, first) in self.skipped.items():
            self.notes.append(f"{n:,} {'text' if n == 1 else 'texts'} left out: {reason} (first at line {first:,}).")

    def _item(self, line: int, fields: Mapping[str, Any]) -> Item | None:
        text, label, pair = (
            _as_text(fields.get(self._columns[name]), line, self._columns[name]) if name in self._columns else ""
            for name in ("text", "label", "pair")
        )
        reason = _refused(text) or ("" if not pair.strip() else _refused(pair))
        if reason:
            self._skip(reason, line)
            return None
        return Item(text, clean(label.strip()[:_MOST_LABEL]), pair)

    def _skip(self, reason: str, line: int) -> None:
        n, first = self.skipped.get(reason, (0, line))
        self.skipped[reason] = (n + 1, first)


def inspect(
    source: Source, *, kind: Kind | None = None, delimiter: str | None = None, header: bool | None = None
) -> Layout:
    """How a source would be read, from its beginning.

    source      pasted text (str), bytes, a path, or an open file that can be read twice
    kind        one of KINDS; None: by the file's name, or by what stands in it; pasted text has a text on each line
    delimiter   of a table; None: the one of comma, semicolon, tab and vertical bar that fits best
    header      whether a table's first row names its columns; None: guessed
    raises      InputError for what cannot be read, with what to do
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"A kind of file is one of {', '.join(KINDS)}; got {kind!r}.")
    if delimiter is not None and len(delimiter) != 1:
        raise InputError(f"A delimiter is one character, such as a comma; got {delimiter!r}.")
    with opened(source) as file:
        if (kind or _kind_by_name(source)) == "parquet" or file.read(4) == b"PAR1":
            file.seek(0)
            columns, shown = parquet_sample(file, _SAMPLED)
            return _layout("parquet", Encoding(""), "", True, columns, shown, [])
        encoding = encoding_of(file)
        notes = [encoding.note] if encoding.note else []
        kind = kind or _kind_by_name(source) or ("txt" if isinstance(source, str) else _kind_by_content(file, encoding))
        if kind == "txt":
            rows = ((n, {LINE: line}) for n, line in enumerate(lines_of(file, encoding), 1))
            return _layout(kind, encoding, "", False, [LINE], rows, notes)
        if kind == "jsonl":
            return _layout(kind, encoding, "", True, None, tables.json_rows(lines_of(file, encoding)), notes)
        tables.check_first_line(file, encoding)
        sample = tables.sample_lines(lines_of(file, encoding, keep_ends=True))
        mark = delimiter or ("\t" if kind == "tsv" else tables.delimiter_of(sample))
        if delimiter is None and kind == "csv" and mark not in (",", tables.ALONE):
            notes.append(f"The columns are divided by a {tables.DELIMITERS[mark]}.")
        # Of the file itself: the sample may end within a record.
        first = list(islice(tables.csv_rows(lines_of(file, encoding, keep_ends=True), mark), _SAMPLED + 1))
        if not first:
            raise InputError("The table has no rows. Choose a file with a row for each text.")
        tables.check_columns(len(first[0][1]), "The first row")
        named = tables.has_header([fields for _, fields in first[:2]]) if header is None else header
        if not named and header is None:
            notes.append("The first row was taken for a text, not for the names of columns.")
        columns = _names(first[0][1]) if named else [f"column {i}" for i in range(1, len(first[0][1]) + 1)]
        # A row with other fields is left out when the file is read; here it must not hide the rest.
        rows = ((n, dict(zip(columns, fields, strict=False))) for n, fields in first[named:])
        return _layout(kind, encoding, mark, named, columns, rows, notes)


def read(
    source: Source,
    *,
    kind: Kind | None = None,
    text: str | None = None,
    label: str | None = None,
    pair: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    most: int | None = None,
) -> Reading:
    """The texts of a source, to be looped over.

    text     the column of texts; None: the likeliest
    label    the column to split by; None: no labels
    pair     the column of each text's partner, what the decoder of an encoder-decoder reads; None: none
    most     texts to take; None: as the settings say. What is left is said in the notes
    others   as `inspect` has them
    raises   InputError for a column that is not there, and as `inspect`; later ones as rows are read
    """
    layout = inspect(source, kind=kind, delimiter=delimiter, header=header)
    chosen = {"text": layout.text if text is None else text, "label": label, "pair": pair}
    columns = {what: name for what, name in chosen.items() if name is not None}
    for name in columns.values():
        if name not in layout.columns:
            known = ", ".join(layout.columns[:_SAMPLED])
            raise InputError(f"There is no column '{name:.80}'; the columns are: {known:.400}.")
    most = settings().corpus_texts if most is None else most
    return Reading(layout, _rows=lambda ragged: _rows_of(source, layout, columns, ragged), _columns=columns, _most=most)


def _rows_of(
    source: Source, layout: Layout, columns: Mapping[str, str], ragged: Callable[[int], None]
) -> Iterator[tables.Row]:
    encoding = Encoding(layout.encoding)
    with opened(source) as file:
        if layout.kind == "parquet":
            yield from parquet_rows(file, sorted(set(columns.values())))
        elif layout.kind == "txt":
            yield from ((n, {LINE: line}) for n, line in enumerate(lines_of(file, encoding), 1))
        elif layout.kind == "jsonl":
            yield from tables.json_rows(lines_of(file, encoding))
        else:
            rows = tables.csv_rows(lines_of(file, encoding, keep_ends=True), layout.delimiter)
            yield from tables.named_rows(islice(rows, int(layout.header), None), layout.columns, ragged)


def _layout(
    kind: Kind,
    encoding: Encoding,
    delimiter: str,
    header: bool,
    columns: list[str] | None,
    rows: Iterator[tables.Row],
    notes: list[str],
) -> Layout:
    sample = [fields for _, fields in islice(rows, _SAMPLED)]
    names = columns if columns is not None else list(dict.fromkeys(chain.from_iterable(sample)))
    tables.check_columns(len(names), "The file")
    if not names:
        raise InputError("The file has no columns with texts. Choose one with a row for each text.")
    return Layout(
        kind=kind,
        encoding=encoding.name,
        delimiter=delimiter,
        header=header,
        columns=tuple(names),
        rows=tuple({name: clean(str(fields.get(name, ""))[:200]) for name in names} for fields in sample),
        text=_likeliest(names, sample),
        notes=tuple(notes),
    )


def _likeliest(names: list[str], sample: list[Mapping[str, Any]]) -> str:
    """The column of texts: by its name, else the one with the longest strings."""
    lengths = {
        name: sum(len(value) for fields in sample if isinstance(value := fields.get(name), str)) for name in names
    }
    known = [name for likely in _LIKELY for name in names if name.strip().lower() == likely and lengths[name]]
    return known[0] if known else max(names, key=lambda name: lengths[name])


def _kind_by_name(source: Source) -> Kind | None:
    name = source.name if isinstance(source, Path) else getattr(source, "name", "")
    return _SUFFIXES.get(Path(name).suffix.lower()) if isinstance(name, str) else None


def _kind_by_content(file: BinaryIO, encoding: Encoding) -> Kind:
    tables.check_first_line(file, encoding)
    sample = tables.sample_lines(lines_of(file, encoding, keep_ends=True))
    if next((line for line in sample if line.strip()), "").lstrip().startswith("{"):
        return "jsonl"
    return "txt" if tables.delimiter_of(sample) == tables.ALONE else "csv"


def _names(fields: list[str]) -> list[str]:
    names = [clean(name.strip()) or f"column {i}" for i, name in enumerate(fields, 1)]
    tables.check_names(names)
    return names


def _as_text(value: Any, line: int, column: str) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list | bytes):
        raise InputError(
            f"Column '{column:.80}' holds {type(value).__name__} at line {line:,}, not a text. Choose a column of "
            'texts; a column inside another is called "outer.inner".'
        )
    return str(value)


def _refused(text: str) -> str:
    """Why a text cannot be taken; "" where it can."""
    if not text.strip():
        return "empty"
    if len(text) > settings().max_chars:
        return f"longer than {settings().max_chars:,} characters"
    try:
        check_text(text)
    except TextError:
        return "control characters or broken ones"
    return ""
