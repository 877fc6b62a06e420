"""Files that anybody may have made: the right texts, or an error that says what to do."""

import csv
import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnviz import errors
from attnviz.corpus import Item, inspect, read
from attnviz.corpus.source import MOST_LINE, encoding_of, opened
from attnviz.corpus.tables import MOST_COLUMNS


def texts(source: Any, **options: Any) -> list[str]:
    return [item.text for item in read(source, **options)]


def test_pasted_text_has_a_text_on_each_line() -> None:
    reading = read("One, two.\n\nThree.\r\n   \nFour")
    assert list(reading) == [Item("One, two."), Item("Three."), Item("Four")]
    assert reading.skipped == {"empty": (2, 2)}
    assert reading.notes == ["2 texts left out: empty (first at line 2)."]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_and_quotes_are_respected(mark: str) -> None:
    rows = [
        ["id", "review", "stars"],
        ["1", f'A "fine"{mark} long day', "5"],
        ["2", "Two\nlines; and, more | so\tit", "1"],
    ]
    out = io.StringIO()
    csv.writer(out, delimiter=mark).writerows(rows)
    layout = inspect(out.getvalue(), kind="csv")
    assert (layout.delimiter, layout.columns, layout.text) == (mark, ("id", "review", "stars"), "review")
    found = list(read(out.getvalue(), kind="csv", label="stars"))
    assert found == [Item(rows[1][1], "5"), Item(rows[2][1], "1")]


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """A block whose largest memory, in bytes, can be asked for."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_with_and_without_a_mark(encoding: str) -> None:
    table = "text,label\nÉtude für Flöte 你好,a\nA second one,b\n"
    assert texts(table.encode(encoding), kind="csv") == ["Étude für Flöte 你好", "A second one"]


@pytest.mark.parametrize(("encoding", "said"), [("cp1252", "Windows-1252"), ("latin-1", "Latin-1")])
def test_old_encodings_are_read_and_said(encoding: str, said: str) -> None:
    data = "text;label\nUn été à Brême;x\n".encode("cp1252") + (b"\x81;y\n" if encoding == "latin-1" else b"")
    layout = inspect(data, kind="csv")
    assert layout.encoding == encoding
    assert said in layout.notes[0]
    assert "Byte 15" in layout.notes[0]
    assert texts(data, kind="csv")[0] == "Un été à Brême"


def test_one_bad_byte_at_the_end_of_a_large_file_is_found() -> None:
    data = b"a fine line of text\n" * 100_000 + b"caf\xe9\n"
    with opened(data) as file:
        assert encoding_of(file).name == "cp1252"
    assert texts(data, most=200_000)[-1] == "café"


def test_a_character_that_lies_on_the_border_of_two_pieces_is_no_fault() -> None:
    data = b"x" * ((1 << 20) - 1) + "é".encode() * 3
    with opened(data) as file:
        assert encoding_of(file).name == "utf-8"


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl", "parquet", None])
def test_an_empty_file_is_refused(kind: Any) -> None:
    with pytest.raises(errors.InputError, match=r"empty|Parquet"):
        texts(b"", kind=kind)


@pytest.mark.parametrize("name", ["c{}", "a long name of a column {}"])
def test_a_million_columns_are_refused_by_number_from_the_first_line(name: str) -> None:
    file = io.BytesIO(",".join(name.format(i) for i in range(1_000_000)).encode() + b"\n1,2,3\n")
    with traced() as bytes_held:
        with pytest.raises(errors.InputError, match=rf"1,000,000 columns.*{MOST_COLUMNS:,}"):
            inspect(file, kind="csv")
        assert bytes_held() < 15e6


def test_many_columns_in_a_short_first_line_are_refused() -> None:
    with pytest.raises(errors.InputError, match="5,000 columns"):
        inspect(",".join("x" * 5_000) + "\n", kind="csv")


@pytest.mark.parametrize("ending", ["", " and on\n" * 3, " and on" * 200_000])
def test_a_quote_that_is_never_closed_is_refused_with_its_line(ending: str) -> None:
    with pytest.raises(errors.InputError, match=r"line 3 .*never closed|Line 3 has more"):
        texts('text,label\n"fine",a\n"not, closed' + ending, kind="csv")


def test_quotes_in_the_wrong_place_are_refused_with_their_line() -> None:
    with pytest.raises(errors.InputError, match="line 3 has quotes"):
        texts('text,label\nfine,a\n"half" quoted,b\n', kind="csv")


def test_a_row_with_other_fields_is_left_out_and_said_with_its_line() -> None:
    reading = read('text,label\n"two\nlines",a\nunquoted, comma,b\nfine,c\nalone\nlast,d\n', kind="csv")
    for _ in range(2):
        assert [item.text for item in reading] == ["two\nlines", "fine", "last"]
        assert reading.skipped == {"more or fewer fields than the first row": (2, 4)}
        assert reading.notes == ["2 texts left out: more or fewer fields than the first row (first at line 4)."]


@pytest.mark.parametrize(("ragged", "refused"), [(2, False), (3, True)])
def test_a_table_is_refused_where_most_rows_have_other_fields(ragged: int, refused: bool) -> None:
    source = "text,label\na fine one,a\nanother,b\n" + "bare, comma,b\n" * ragged
    if not refused:
        assert texts(source, kind="csv", delimiter=",") == ["a fine one", "another"]
        return
    with pytest.raises(errors.InputError, match="line 4 has 3 fields, where the first has 2; 3 of 5 rows"):
        texts(source, kind="csv", delimiter=",")


def test_a_table_of_one_column_may_hold_commas() -> None:
    layout = inspect("text\nHello, world\nNo comma\nOne, two, three\n", kind="csv")
    assert layout.columns == ("text",)
    assert texts("text\nHello, world\nNo comma\n", kind="csv") == ["Hello, world", "No comma"]


def test_a_table_without_a_header_keeps_its_first_text() -> None:
    source = "The first text is here.,1\nThe second one too.,2\n"
    layout = inspect(source, kind="csv")
    assert (layout.header, layout.columns) == (False, ("column 1", "column 2"))
    assert "first row" in layout.notes[0]
    assert texts(source, kind="csv") == ["The first text is here.", "The second one too."]
    assert texts(source, kind="csv", header=True) == ["The second one too."]


def test_columns_are_named_once_and_chosen_by_name() -> None:
    with pytest.raises(errors.InputError, match=r"no column 'texts'; the columns are: text, label"):
        read("text,label\na b,1\n", kind="csv", text="texts")
    with pytest.raises(errors.InputError, match="called 'text'"):
        inspect("text,text\na,1\n", kind="csv", header=True)


def test_nul_bytes_and_control_characters_are_left_out_and_counted() -> None:
    reading = read(b"text,label\nfine,a\nbad\x00one,b\nbell\x07,c\nfine too,d\n", kind="csv")
    assert [item.text for item in reading] == ["fine", "fine too"]
    assert reading.skipped == {"control characters or broken ones": (2, 3)}
    assert texts("a\ud800b\nfine") == ["fine"]


def test_a_line_or_a_text_that_is_too_long() -> None:
    with pytest.raises(errors.InputError, match="Line 2 has more than"):
        texts("short\n" + "x" * (MOST_LINE + 1))
    reading = read("short\n" + "x " * 30_000)
    assert len(list(reading)) == 1
    assert "longer than 50,000 characters" in reading.notes[0]


def test_no_more_texts_than_asked_for_and_the_rest_is_said() -> None:
    reading = read("a\nb\nc\n", most=2)
    assert len(list(reading)) == 2
    assert reading.notes == ["Only the first 2 texts were taken; the file has more."]
    assert not (exact := read("a\nb\n", most=2)).notes
    assert [item.text for item in exact] == ["a", "b"]
    assert not exact.notes


def test_jsonl_with_columns_inside_columns() -> None:
    lines = [
        {"data": {"text": "One here.", "n": 1}, "label": True},
        {"data": {"text": None}},
        {"data": {"text": "Two."}},
    ]
    source = "\n".join(map(json.dumps, lines))
    assert inspect(source, kind="jsonl").columns == ("data.text", "data.n", "label")
    reading = read(source, kind="jsonl", text="data.text", label="label")
    assert list(reading) == [Item("One here.", "True"), Item("Two.")]
    assert reading.skipped == {"empty": (1, 2)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('"a string"', "holds str"),
        ("[1, 2]", "holds list"),
        ("{'text': 1}", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"text": ' + "9" * 5_000 + "}", "not JSON"),
        ('{"text": ["a"]}', "Column 'text' holds list at line 2"),
        ("[\n{}", "one object on each line"),
    ],
)
def test_a_line_that_is_no_object_is_refused_with_its_number(line: str, said: str) -> None:
    with pytest.raises(errors.InputError, match="ine 2") as raised:
        texts('{"text": "fine"}\n' + line, kind="jsonl")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"text": "a"}\n{"text": "b"}', "jsonl"),
        (b"text;n\na;1\nb;2\n", "csv"),
        (b"Just a line.\nAnd another.\n", "txt"),
    ],
)
def test_the_kind_is_found_from_the_name_or_from_what_is_there(data: bytes, kind: str, tmp_path: Path) -> None:
    assert inspect(data).kind == kind
    path = tmp_path / f"file.{kind.upper()}"
    path.write_bytes(data)
    assert inspect(path).kind == kind
    with path.open("rb") as file:
        assert len(texts(file)) == 2
        assert len(texts(file)) == 2
        assert not file.closed


@pytest.mark.parametrize("named", [True, False])
def test_a_sample_may_end_within_a_record(named: bool) -> None:
    poem = "\n".join(f"line {i}; and so on, and on" for i in range(190))
    out = io.StringIO()
    rows = [["One, two.", "a"], [poem, "b"], [poem * 2, "c"], ["Last, here.", "d"]]
    csv.writer(out).writerows([["text", "label"]] * named + rows)
    layout = inspect(out.getvalue(), kind="csv")
    assert (layout.delimiter, len(layout.rows)) == (",", 4)
    assert [item.text for item in read(out.getvalue(), kind="csv")] == [text for text, _ in rows]


def test_columns_inside_columns_are_counted() -> None:
    deep = {"text": "fine", **{f"a{i}": {f"b{j}": 1 for j in range(40)} for i in range(30)}}
    with pytest.raises(errors.InputError, match="object on line 1 has 1,201 columns"):
        inspect(json.dumps(deep), kind="jsonl")
    apart = "\n".join(json.dumps({f"c{n}-{i}": "x" for i in range(600)}) for n in range(2))
    with pytest.raises(errors.InputError, match="The file has 1,200 columns"):
        inspect(apart, kind="jsonl")


def test_halves_of_characters_are_in_no_column_and_no_row() -> None:
    lines = '{"te\\ud800xt": "one \\udc00 more", "label": "a"}\n{"te\\ud800xt": "fine", "label": "b"}'
    for layout in (inspect(lines, kind="jsonl"), inspect("te\ud800xt,label\none \udc00 more,a\n", kind="csv")):
        assert layout.columns == ("te?xt", "label")
        assert layout.rows[0] == {"te?xt": "one ? more", "label": "a"}
        assert repr(layout).encode()
    assert texts(lines, kind="jsonl", text="te?xt") == ["fine"]


def test_no_file_and_no_such_kind(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match=r"gone.txt cannot be opened"):
        inspect(tmp_path / "gone.txt")
    with pytest.raises(errors.InputError, match="kind of file"):
        inspect("a", kind="xls")  # type: ignore[arg-type]
    with pytest.raises(errors.InputError, match="one character"):
        inspect("a", kind="csv", delimiter="::")


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        path = tmp_path / "large.csv"
        with path.open("w") as file:
            file.write("text,label\n")
            file.writelines(
                f'"A line, number {i}, of some length that a text might have","{i % 3}"\n' for i in range(rows)
            )
        with traced() as bytes_held:
            assert sum(1 for _ in read(path, label="label", most=10**9)) == rows
            return bytes_held()

    assert peak(40_000) < peak(20_000) + 1e6


@given(st.binary(max_size=400), st.sampled_from(["txt", "csv", "tsv", "jsonl", "parquet", None]))
def test_any_bytes_give_texts_or_an_error_of_ours(data: bytes, kind: Any) -> None:
    try:
        found = texts(data, kind=kind)
    except errors.InputError:
        return
    assert all(text.strip() for text in found)


_FIELD = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip)


@given(st.lists(st.tuples(_FIELD, _FIELD), min_size=1, max_size=8), st.sampled_from([",", ";", "\t", "|"]))
def test_what_the_csv_module_writes_is_read_back(rows: list[tuple[str, str]], mark: str) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=mark, quoting=csv.QUOTE_ALL).writerows([("text", "other"), *rows])
    source = out.getvalue()
    assert texts(source, kind="csv", text="text", delimiter=mark, header=True) == [text for text, _ in rows]
