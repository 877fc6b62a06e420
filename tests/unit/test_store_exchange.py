"""Findings to a file and back: the same whatever their texts, nothing overwritten, and errors that name the line."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnviz.errors import Conflict, InputError
from attnviz.findings import Annotation, Finding, HeadAt, ModelRecord, Seen
from attnviz.store import Store, exchange, open_store

NASTY = st.text(
    st.one_of(
        st.sampled_from("'\"=+-@,;\r\n\t\\ \0\u2028\u2029\x85\ufeff\x1c%_/{}"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)
LABELS = st.lists(NASTY.map(str.strip).filter(lambda s: s and "\n" not in s), max_size=3, unique=True).map(tuple)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(2026, 1, 1), timezones=st.just(UTC))


def finding(claim: str = "L5H1 looks back", **keywords: Any) -> Finding:
    return Finding.model_validate({"claim": claim, "model": ModelRecord(name="m"), "author": "Ada", **keywords})


def people() -> st.SearchStrategy[tuple[Annotation, ...]]:
    one = st.builds(
        lambda by, labels, confidence, at: Annotation.model_construct(
            by=by, labels=labels, confidence=confidence, at=at, brought_by=""
        ),
        st.sampled_from(["Ada", "Bob", "=Cy", 'Dee, "D"']),
        LABELS,
        st.none() | st.floats(0, 1),
        MOMENTS,
    )
    return st.lists(one, max_size=3, unique_by=lambda a: a.by).map(tuple)


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    asked = {
        "claim": draw(NASTY.filter(lambda s: s.strip())),
        "note": draw(NASTY),
        "author": draw(NASTY),
        "labels": draw(LABELS),
        "confidence": draw(st.floats(0, 1)),
        "figure": draw(NASTY),
        "heads": tuple(HeadAt(layer=layer, head=1) for layer in draw(st.lists(st.integers(0, 99), max_size=2))),
        "seen": Seen(params={"t": draw(NASTY)}, texts={"text": draw(NASTY)}, lines=draw(NASTY)),
        "annotations": draw(people()),
        "created": draw(MOMENTS),
        "changed": draw(MOMENTS),
        "version": draw(st.integers(1, 2**31 - 1)),
    }
    return finding(**asked)


@settings(max_examples=100)
@given(st.lists(findings(), max_size=4, unique_by=lambda one: one.id))
def test_csv_reads_back_what_was_written(made: list[Finding]) -> None:
    text = exchange.to_csv(made)
    assert exchange.of_csv(text) == made
    assert exchange.of_csv("\ufeff" + text) == made
    assert exchange.read(text.encode(), as_csv=True, name="a.csv") == made
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == len(made) + 1
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for row in rows for cell in row)
    for separator in ";\t|":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            assert not any(part.lstrip(' "').startswith(("=", "+", "-", "@")) for part in row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@settings(max_examples=15)
@given(st.lists(findings(), max_size=3, unique_by=lambda one: one.id), st.booleans())
def test_a_file_goes_through_two_stores_unchanged(folder: Path, made: list[Finding], as_csv: bool) -> None:
    with_author = [one.model_copy(update={"author": one.author or "Ada"}) for one in made]
    first, second = (open_store(f"sqlite:///{folder}/{name}-{len(list(folder.iterdir()))}") for name in "ab")
    taken = first.import_findings(exchange.to_csv(made), by="Ada", as_csv=True)
    assert taken.imported == tuple(one.id for one in made)
    text = first.export_findings(by="Ada", as_csv=as_csv)
    assert second.import_findings(text, by="Ada", as_csv=as_csv).conflicts == ()
    assert second.export_findings(by="Ada", as_csv=as_csv) == text
    for one in with_author:
        assert second.get(one.id, by="Ada") == one.model_copy(update={"annotations": ()})
        given = sorted((a.by, a.labels, a.confidence, a.at) for a in one.annotations)
        assert [(a.by, a.labels, a.confidence, a.at) for a in second.labels_of(one.id, by="Ada")] == given
        assert all(a.brought_by == ("" if a.by == "Ada" else "Ada") for a in second.labels_of(one.id, by="Ada"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/findings.sqlite", wait_seconds=5)


def lines(*found: Finding) -> str:
    return "".join(one.model_dump_json() + "\n" for one in found)


def test_what_is_here_is_never_overwritten(store: Store) -> None:
    here = store.save(finding("here", shared=True), by="Ada")
    private = store.save(finding("private", author=""), by="Bob")
    same = here.model_copy(update={"version": 9, "annotations": (Annotation(by="Bob", labels=("sink",)),)})
    other, new = here.model_copy(update={"claim": "other"}), finding("new", author="Zoe")
    taken = store.import_findings(lines(same, new, private), by="Ada")
    assert (taken.imported, taken.same) == ((new.id,), (here.id,))
    assert [type(one) for one in taken.conflicts] == [Conflict]
    assert taken.conflicts[0].theirs is None
    assert "Bob" not in str(taken.conflicts[0])
    assert [(a.by, a.brought_by) for a in store.labels_of(here.id, by="Ada")] == [("Bob", "Ada")]
    store.label(here.id, ["syntax"], by="Bob")
    assert store.import_findings(lines(same), by="Ada").same == (here.id,)
    assert store.labels_of(here.id, by="Ada")[0].labels == ("syntax",)
    (clash,) = store.import_findings(lines(other), by="Bob").conflicts
    assert (clash.mine, clash.theirs, clash.by) == (other, here, "Ada")
    assert store.get(here.id, by="Ada") == here
    assert store.owners([new.id], by="Ada") == {new.id: "Ada"}
    assert store.get(new.id, by="Ada").author == "Zoe"


def test_labels_are_not_put_on_the_findings_of_others_in_anybodys_name(store: Store) -> None:
    here = store.save(finding(shared=True), by="Ada")
    forged = here.model_copy(update={"annotations": (Annotation(by="Cy", labels=("sink",)),)})
    assert store.import_findings(lines(forged), by="Bob").same == (here.id,)
    assert store.labels_of(here.id, by="Ada") == ()


def test_a_removed_finding_comes_back_from_its_export(store: Store) -> None:
    here = store.save(finding(), by="Ada")
    text = store.export_findings(by="Ada")
    store.delete(here.id, by="Ada")
    assert store.import_findings(text, by="Ada").imported == (here.id,)
    assert store.save(here.model_copy(update={"note": "n"}), by="Ada").version == 2


def test_only_the_asked_findings_are_exported(store: Store) -> None:
    kept = [store.save(finding(f"claim {n}"), by="Ada") for n in range(3)]
    found = [
        json.loads(line)["id"] for line in store.export_findings(by="Ada", ids=[kept[1].id, "0" * 32]).splitlines()
    ]
    assert found == [kept[1].id]
    with pytest.raises(InputError, match="got 10,001"):
        store.export_findings(by="Ada", ids=[str(n) for n in range(10_001)])


def cells(**other: str) -> str:
    rows = list(csv.DictReader(io.StringIO(exchange.to_csv([finding("one"), finding("two")]), newline="")))
    rows[1] |= other
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


ONE = finding("one")


@pytest.mark.parametrize(
    ("data", "as_csv", "said"),
    [
        (lines(ONE) + "{}\n", False, "a.txt, line 2"),
        (lines(ONE) + "nonsense", False, "a.txt, line 2"),
        (lines(ONE, ONE), False, "a.txt, line 2"),
        (lines(ONE).encode() + b"\xff", False, "a.txt, line 2: this is not UTF-8"),
        (lines(ONE).replace('"shared"', '"secret"'), False, "line 1"),
        ("[" * 100_000, False, "line 1"),
        ("", True, "no column 'json'"),
        ("a,b\r\n1,2\r\n", True, "no column 'json'"),
        (cells(claim="'=edited"), True, "row 3: 'claim' was changed"),
        (cells(json="{}"), True, "row 3, column json"),
        (cells(json=ONE.model_dump_json()[:200]), True, "row 3, column json"),
        (cells() + 'x,"y', True, "row 4: a quotation mark"),
        (cells() + "x,y", True, "row 4: 2 cells"),
        (exchange.to_csv([ONE, ONE]), True, "row 3: the finding .* stands in an earlier row"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_line_and_changes_nothing(
    store: Store, data: str | bytes, as_csv: bool, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        store.import_findings(data, by="Ada", as_csv=as_csv, name="a.txt")
    assert store.find(by="Ada") == []


def test_files_are_read_up_to_a_size_and_a_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    text = exchange.to_csv([finding("one"), finding("two")])
    monkeypatch.setattr(exchange, "MOST_LINES", 1)
    with pytest.raises(InputError, match="more than 1 findings"):
        store.import_findings(text, by="Ada", as_csv=True)
    monkeypatch.setattr(exchange, "MOST_BYTES", 100)
    for data in (text, text.encode()):
        with pytest.raises(InputError, match="split it"):
            store.import_findings(data, by="Ada", as_csv=True)
    store.save(finding("long " * 30), by="Ada")
    with pytest.raises(InputError, match="by their ids"):
        store.export_findings(by="Ada")


def test_a_table_may_be_rearranged_as_long_as_its_json_stands() -> None:
    made = [finding("one"), finding("=two")]
    rows = list(csv.DictReader(io.StringIO(exchange.to_csv(made), newline="")))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["claim", "json", "mine"], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "mine": "x"} for row in reversed(rows))
    assert exchange.of_csv(file.getvalue()) == made[::-1]


@pytest.mark.parametrize(
    "cell", ["a;=1+1", "a\t@x", "a|-1", 'x; "=1', "a\n=1", "a\r+1", "=a;'b;''=", ";;=", " =1", "\uff1d1"]
)
def test_no_separator_makes_a_formula_of_a_part_of_a_cell(cell: str) -> None:
    one = finding("x", note=cell)
    text = exchange.to_csv([one])
    assert exchange.of_csv(text) == [one]
    for separator in ",;\t|":
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            assert not [part for part in row if part.lstrip(' "').startswith(("=", "+", "-", "@", "\uff1d"))]
