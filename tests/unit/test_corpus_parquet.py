"""Parquet files that anybody may have made: the right texts, in little memory, or an error that says what to do."""

import io
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnviz import errors
from attnviz.corpus import Item, inspect, read
from attnviz.corpus.source import MOST_LINE


def texts(source: Any, **options: Any) -> list[str]:
    return [item.text for item in read(source, **options)]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    table = pa.table({"n": [1, 2, 3], "sentence": ["One.", None, "Three."], "kind": ["a", "b", "a"], "raw": [b"x"] * 3})
    pq.write_table(table, path)
    assert inspect(path).text == "sentence"
    assert list(read(path, label="kind")) == [Item("One.", "a"), Item("Three.", "a")]
    assert texts(path.read_bytes()) == ["One.", "Three."]
    with pytest.raises(errors.InputError, match="holds bytes"):
        texts(path, text="raw")


def test_a_parquet_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    path.write_text("text\nA fine day\n")
    with pytest.raises(errors.InputError, match="cannot be read as Parquet"):
        inspect(path)
    whole = io.BytesIO()
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(2000)]}), whole)
    damaged = bytearray(whole.getvalue())
    damaged[40:4000] = bytes(3960)
    with pytest.raises(errors.InputError, match="Parquet"):
        texts(bytes(damaged))


def parquet_of(table: pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_parquet_columns_that_python_cannot_hold_do_not_hide_the_texts() -> None:
    odd = pa.array([10**17, 2], pa.int64()).cast(pa.timestamp("ms"))
    table = pa.table({"when": odd, "text": ["One.", "Two."], "tags": [["a"], []], "n": [1, 2]})
    data = parquet_of(table)
    layout = inspect(data)
    assert (layout.columns, layout.text) == (("when", "text", "tags", "n"), "text")
    assert [(row["text"], row["n"]) for row in layout.rows] == [("One.", "1"), ("Two.", "2")]
    assert texts(data) == ["One.", "Two."]
    assert [item.label for item in read(data, label="when")][1].startswith("1970-01-01")
    with pytest.raises(errors.InputError, match="'tags' holds list"):
        texts(data, text="tags")


def test_parquet_columns_of_one_name_are_refused() -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(errors.InputError, match="called 'text'"):
        inspect(parquet_of(table))


def test_a_value_that_each_row_repeats_is_in_memory_once() -> None:
    long = pa.array(["x" * 3_000_000, "fine"])
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 300 + [1], pa.int32()), long)
    data = parquet_of(pa.table({"text": repeated}))
    assert len(data) < 1e6
    before = pa.total_allocated_bytes()
    reading = read(data, text="text")
    rows = iter(reading)
    assert next(rows).text == "fine"
    assert pa.total_allocated_bytes() - before < 40e6
    tracemalloc.start()
    try:
        assert len(list(reading)) == 1
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert reading.skipped == {"longer than 50,000 characters": (300, 1)}
    longer = parquet_of(pa.table({"text": ["fine", "x" * (4 * MOST_LINE + 1)]}))
    with pytest.raises(errors.InputError, match=r"more than 1,000,000 characters in row 2"):
        texts(longer)
