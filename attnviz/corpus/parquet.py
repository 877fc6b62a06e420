"""Rows of a Parquet file, one at a time, refused where they cannot be what they say.

A small file can unpack to a large one: a value that stands in it once may be in each of a million rows. So columns of
strings stay dictionaries, each value in memory once, a row group is looked at before it is unpacked, and one value at a
time becomes text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attnviz.corpus.source import MOST_LINE
from attnviz.corpus.tables import Row, check_columns, check_names
from attnviz.errors import InputError

_BATCH_ROWS = 64
_MOST_GROUP_BYTES = 1 << 30  # of a row group's chosen columns, unpacked
_CHARACTER_BYTES = 4  # in UTF-8, at most
# What pyarrow raises for a damaged file, and for times and numbers that Python does not have.
_FAULTS = (pa.ArrowException, OSError, ValueError, OverflowError)


def parquet_sample(file: BinaryIO, most: int) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the first rows of those that can be shown.

    raises   InputError for a file that is no Parquet, too many columns, or two of one name
    """
    schema = _parquet(file).schema_arrow
    check_columns(len(schema.names), "The Parquet file")
    check_names(schema.names)
    strings = [field.name for field in schema if _is_string(field.type)]
    others = [field.name for field in schema if not (_is_string(field.type) or _holds_others(field.type))]
    rows: list[Mapping[str, Any]] = [fields for _, fields in islice(parquet_rows(file, strings), most)]
    try:
        more = [fields for _, fields in islice(parquet_rows(file, others), most)]
    except InputError:  # of a column that nobody may want
        more = []
    if not strings:
        rows = more
    elif more:
        rows = [{**one, **other} for one, other in zip(rows, more, strict=True)]
    return schema.names, iter(list(enumerate(rows, 1)))


def parquet_rows(file: BinaryIO, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of some columns.

    raises   InputError for a damaged file, columns of lists, a row group that is too large unpacked, or a value that is
    """
    if not columns:
        return
    parquet = _parquet(file, columns)
    for name in columns:
        kind = parquet.schema_arrow.field(name).type
        if _holds_others(kind):
            raise InputError(f"Column '{name:.80}' holds {kind!s:.80}, not a text. Choose a column of texts.")
    _check_groups(parquet, columns)
    number = 0
    try:
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=list(columns)):
            fields = {name: _plain(batch.column(name), name, number) for name in columns}
            for i in range(batch.num_rows):
                number += 1
                yield number, {name: values[i].as_py() for name, values in fields.items()}
    except InputError:
        raise
    except _FAULTS as error:
        raise _damaged(error) from error


def _check_groups(parquet: pq.ParquetFile, columns: Sequence[str]) -> None:
    for group in range(parquet.metadata.num_row_groups):
        parts = [parquet.metadata.row_group(group).column(i) for i in range(parquet.metadata.num_columns)]
        size = sum(p.total_uncompressed_size for p in parts if p.path_in_schema in columns)
        if size > _MOST_GROUP_BYTES:
            raise InputError(
                f"Row group {group} of the Parquet file takes {size / 1e9:.1f} GB unpacked; at most "
                f"{_MOST_GROUP_BYTES / 1e9:.1f} GB are taken. Write it with smaller row groups."
            )


def _plain(values: pa.Array, name: str, before: int) -> pa.Array:
    """A column's values as Python can have them: times as text; raises InputError for one that is too long."""
    if pa.types.is_temporal(values.type):
        return values.cast(pa.string())
    if pa.types.is_dictionary(values.type) and _is_string(values.type.value_type):
        lengths = pc.take(pc.binary_length(values.dictionary), values.indices)
        if (pc.max(lengths).as_py() or 0) > MOST_LINE * _CHARACTER_BYTES:
            row = before + 1 + pc.index(lengths, pc.max(lengths)).as_py()
            raise InputError(
                f"Column '{name:.80}' has more than {MOST_LINE:,} characters in row {row:,}. Each text stands in a row "
                "of its own: split it, or choose another column."
            )
    return values


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _holds_others(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind.value_type if pa.types.is_dictionary(kind) else kind))


def _parquet(file: BinaryIO, columns: Sequence[str] = ()) -> pq.ParquetFile:
    """The file, from its start; raises InputError for one that is no Parquet."""
    file.seek(0)
    try:
        plain = pq.ParquetFile(file)
        strings = [name for name in columns if name in plain.schema_arrow.names]
        strings = [name for name in strings if _is_string(plain.schema_arrow.field(name).type)]
        file.seek(0)
        return pq.ParquetFile(file, read_dictionary=strings) if strings else plain
    except _FAULTS as error:
        raise _damaged(error) from error


def _damaged(error: BaseException) -> InputError:
    return InputError(
        f"The file cannot be read as Parquet ({error!s:.160}). Write it again, or save it as CSV or JSONL."
    )
