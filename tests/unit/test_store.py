"""Findings in a store: kept as they are, private or shared, looked for, labelled by several people."""

import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

from attnviz import Head, settings
from attnviz.errors import Conflict, InputError, StoreError
from attnviz.findings import EdgeAt, Finding, HeadAt, ModelRecord
from attnviz.store import Store, open_store, tables
from attnviz.store.annotators import agreement_of

SMOLLM2 = ModelRecord(name="smollm2", dtype="float32")


def finding(claim: str = "L5H1 looks back by one", **keywords: Any) -> Finding:
    return Finding.model_validate({"claim": claim, "model": SMOLLM2, **keywords})


def changed(one: Finding, **keywords: Any) -> Finding:
    return one.model_copy(update=keywords)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/kept/findings.sqlite", wait_seconds=5)


def test_a_finding_comes_back_as_it_was(store: Store) -> None:
    edges = (EdgeAt(query=3, key=1, head=HeadAt(layer=5, head=1)),)
    mine = finding("“x” — \0 \U0001f600 %_", note="a\r\nb\u2028", labels=("sink",), edges=edges, figure='{"a": [1]}')
    kept = store.save(mine, by="Ada")
    assert kept == changed(mine, author="Ada")
    assert store.get(kept.id, by="Ada") == kept
    assert store.find(by="Ada") == [kept]
    assert store.owners([kept.id], by="Ada") == {kept.id: "Ada"}


def test_private_findings_are_their_owners_alone_in_every_call(store: Store) -> None:
    kept = store.save(finding("secret", labels=("sink",)), by="Ada")
    store.save_arrays(kept.id, {"a": np.ones(2)}, by="Ada")
    assert store.find(by="Bob", text="secret", label="sink") == []
    assert store.owners([kept.id], by="Bob") == {}
    assert store.export_findings(by="Bob") == ""
    assert store.agreement(by="Bob").n_findings == 0
    refused = [
        lambda: store.get(kept.id, by="Bob"),
        lambda: store.arrays(kept.id, by="Bob"),
        lambda: store.save_arrays(kept.id, {"a": np.ones(1)}, by="Bob"),
        lambda: store.labels_of(kept.id, by="Bob"),
        lambda: store.label(kept.id, ["sink"], by="Bob"),
        lambda: store.delete(kept.id, by="Bob"),
    ]
    unknown = "0" * 32
    for call in refused:
        with pytest.raises(InputError, match="no such finding") as error:
            call()
        with pytest.raises(InputError) as other:
            store.get(unknown, by="Bob")
        assert str(error.value) == str(other.value)
    with pytest.raises(InputError, match="taken"):
        store.save(changed(kept, author="Bob", claim="mine"), by="Bob")
    assert store.get(kept.id, by="Ada") == kept


def test_a_shared_finding_is_changed_by_others_but_not_what_is_its_owners(store: Store) -> None:
    kept = store.save(finding(shared=True, confidence=0.25), by="Ada")
    told = store.save(changed(kept, note="Ada saw it again"), by="Ada")
    assert (told.version, told.author, store.get(kept.id, by="Cy").note) == (2, "Ada", "Ada saw it again")
    edges = (EdgeAt(query=1, key=0),)
    theirs: list[dict[str, Any]] = [{"shared": False}, {"labels": ("sink",)}, {"confidence": 0.9}, {"author": "Bob"}]
    theirs += [{"claim": "Bob's"}, {"note": "n"}, {"heads": (HeadAt(layer=1, head=2),)}, {"edges": edges}]
    for what in theirs:
        with pytest.raises(InputError, match=f"Only Ada changes this finding's {next(iter(what))}"):
            store.save(changed(told, **what), by="Bob")
    with pytest.raises(InputError, match="author stays"):
        store.save(changed(told, author="Bob"), by="Ada")
    with pytest.raises(InputError, match="Only Ada"):
        store.delete(kept.id, by="Bob")
    with pytest.raises(InputError, match="saved by its author"):
        store.save(finding(author="Ada"), by="Bob")
    assert store.get(kept.id, by="Ada") == told


def test_a_change_to_an_older_version_is_a_conflict_that_keeps_both(store: Store) -> None:
    kept = store.save(finding(shared=True), by="Ada")
    theirs = store.save(changed(kept, note="theirs"), by="Ada")
    mine = changed(kept, note="mine")
    with pytest.raises(Conflict, match=r"Ada changed this finding meanwhile, on \d\d .* version 2"):
        store.save(mine, by="Bob")
    with pytest.raises(Conflict, match=r"You changed this finding meanwhile, on \d\d .* version 2") as found:
        store.save(mine, by="Ada")
    assert (found.value.mine, found.value.theirs, found.value.by) == (mine, theirs, "Ada")
    assert found.value.at == theirs.changed
    assert store.get(kept.id, by="Ada") == theirs
    assert store.save(changed(mine, version=theirs.version), by="Ada").version == 3


def test_a_copy_that_was_counted_up_says_which_version_it_was_made_from(store: Store) -> None:
    kept = store.save(finding(), by="Ada")
    twice = changed(kept, note="two changes", version=3)
    assert store.save(twice, by="Ada", base=1).version == 2
    with pytest.raises(Conflict):
        store.save(changed(kept, note="another", version=2), by="Ada", base=1)


def test_saving_the_same_again_changes_nothing(store: Store) -> None:
    kept = store.save(finding(), by="Ada")
    new = store.save(changed(kept, note="n"), by="Ada")
    assert store.save(changed(kept, note="n"), by="Ada") == new  # as after an answer that was lost
    assert store.get(kept.id, by="Ada").version == 2


def test_a_removed_finding_is_not_brought_back_by_an_old_copy(store: Store) -> None:
    kept = store.save(finding(shared=True), by="Ada")
    store.label(kept.id, ["sink"], by="Bob")
    store.save_arrays(kept.id, {"a": np.ones(3)}, by="Ada")
    folder = next(store._folder.iterdir())
    store.delete(kept.id, by="Ada")
    assert not folder.exists()
    with pytest.raises(Conflict, match="Ada removed this finding on") as found:
        store.save(changed(kept, note="late"), by="Bob")
    assert found.value.theirs is None
    assert store.find(by="Ada", label="sink") == []
    with store._reading() as db:
        for table in (tables.heads, tables.labels, tables.given, tables.arrays):
            assert db.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"text": "ÄPFEL"}, "a"),
        ({"text": "straße"}, "b"),
        ({"text": "STRASSE 100%"}, "b"),
        ({"text": "100_"}, ""),
        ({"text": "%"}, "b"),
        ({"text": "/"}, "c"),
        ({"text": "note in"}, "c"),
        ({"text": "Ａpfel"}, ""),
        ({"text": "ｎｏｔｅ"}, "c"),
        ({"label": "sink"}, "b"),
        ({"label": "Sink"}, ""),
        ({"label": "mi\0ne"}, "c"),
        ({"status": "hypothesis"}, "cba"),
        ({"model": "gpt2"}, "c"),
        ({"head": Head(1, 2)}, "ba"),
        ({"head": Head(1, 2, "encoder")}, "ba"),
        ({"head": HeadAt(layer=1, head=2, site="cross")}, "b"),
        ({"head": Head(4, 4)}, "c"),
        ({"author": "Bob"}, ""),
        ({"author": "Ada"}, "cba"),
        ({"since": datetime(2026, 1, 2, tzinfo=UTC)}, "cb"),
        ({"since": datetime(2026, 1, 2, 0, 0, 1, tzinfo=UTC)}, "c"),
        ({"limit": 2}, "cb"),
        ({"limit": 2, "offset": 2}, "a"),
        ({"text": "äpfel", "model": "gpt2"}, ""),
    ],
)
def test_findings_are_found(store: Store, asked: dict[str, Any], found: str) -> None:
    start, one_two = datetime(2026, 1, 1, tzinfo=UTC), {"layer": 1, "head": 2}
    edge = {"query": 1, "key": 0, "head": {"layer": 4, "head": 4}}
    gpt2 = ModelRecord(name="gpt2")
    made = {
        "a": finding("a\u0308pfel", heads=({**one_two, "site": "encoder"},), changed=start),
        "b": finding("Straße 100%", heads=(one_two,), labels=("sink",), changed=start + timedelta(days=1)),
        "c": finding("and/or", note="note in it", edges=(edge,), model=gpt2, changed=start + timedelta(days=2)),
    }
    names = {store.save(one, by="Ada").id: name for name, one in made.items()}
    store.label(made["c"].id, ["mi\0ne"], by="Ada")
    assert "".join(names[one.id] for one in store.find(by="Ada", **asked)) == found


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": 0},
        {"limit": 1_001},
        {"offset": -1},
        {"text": "x" * 501},
        {"text": "\ud800"},
        {"label": "\ud800"},
        {"status": "proved"},
        {"since": datetime(2026, 1, 1)},
        {"by": " "},
        {"by": "a\nb"},
        {"by": "x" * 301},
    ],
)
def test_what_cannot_be_asked_is_said(store: Store, asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"\w{3,}.*\."):
        store.find(**{"by": "Ada", **asked})


def test_a_copy_that_broke_the_rules_is_not_kept(store: Store) -> None:
    for what in ({"status": "supported"}, {"claim": " "}, {"confidence": 2.0}, {"claim": "\ud800"}):
        with pytest.raises(InputError, match="cannot be kept"):
            store.save(changed(finding(), **what), by="Ada")
    assert store.find(by="Ada") == []


def test_each_annotator_has_labels_of_their_own(store: Store) -> None:
    kept = store.save(finding(shared=True), by="Ada")
    store.label(kept.id, ["sink", "copying", "sink"], by="Bob", confidence=0.75)
    store.label(kept.id, [], by="Cy")
    store.label(kept.id, ["syntax"], by="Bob", confidence=0.5)
    assert [(a.by, a.labels, a.confidence) for a in store.labels_of(kept.id, by="Dee")] == [
        ("Bob", ("syntax",), 0.5),
        ("Cy", (), None),
    ]
    assert store.find(by="Dee", label="sink") == []
    assert store.label(kept.id, None, by="Bob") is None
    assert [a.by for a in store.labels_of(kept.id, by="Ada")] == ["Cy"]
    assert store.get(kept.id, by="Ada") == kept
    for labels in ("sink", [" "], ["x" * 61], [1], ["\ud800"]):
        with pytest.raises(InputError):
            store.label(kept.id, labels, by="Bob")  # type: ignore[arg-type]


def naive_alpha(units: list[list[bool]]) -> float:
    """Krippendorff's nominal alpha from its definition, pair by pair."""
    n = sum(map(len, units))
    values = [value for unit in units for value in unit]
    observed = sum(sum(a != b for a in unit for b in unit) / (len(unit) - 1) for unit in units) / n
    expected = sum(a != b for a in values for b in values) / (n * (n - 1))
    return 1 - observed / expected


def test_agreement_is_krippendorffs_alpha_of_each_label(store: Store) -> None:
    draw = np.random.default_rng(0)
    opinions: dict[str, dict[str, frozenset[str]]] = {}
    for number in range(12):
        kept = store.save(finding(f"claim {number}", shared=True), by="Ada")
        people = [who for who in "ABCD" if draw.random() < 0.7]
        for who in people:
            given = {label for label in ("sink", "copying") if draw.random() < 0.5} | {"always"}
            store.label(kept.id, given, by=who)
            opinions.setdefault(kept.id, {})[who] = frozenset(given)
    found = store.agreement(by="Zoe")
    units = [people for people in opinions.values() if len(people) >= 2]
    assert found.n_findings == len(units) < 12
    assert found.n_people == 4
    alphas = {one.label: one.alpha for one in found.labels}
    for label in ("sink", "copying"):
        expected = naive_alpha([[label in labels for labels in people.values()] for people in units])
        assert alphas[label] == pytest.approx(expected, abs=1e-12)
    assert alphas["always"] is None
    assert found.mean == pytest.approx((alphas["sink"] + alphas["copying"]) / 2)
    assert "1 more cannot be told from chance" in found.words
    assert store.agreement(by="Zoe", by_model="gpt2").n_findings == 0


def test_an_author_counts_with_the_findings_own_labels(store: Store) -> None:
    for labels in (("sink",), ("copying",)):
        kept = store.save(finding(shared=True, labels=labels), by="Ada")
        store.label(kept.id, labels, by="Bob")
    assert [one.alpha for one in store.agreement(by="Bob").labels] == [1.0, 1.0]
    store.label(kept.id, [], by="Ada")
    assert store.agreement(by="Bob").mean < 1  # type: ignore[operator]


def test_where_agreement_cannot_be_told_it_says_why() -> None:
    assert "no finding was labelled by two people" in agreement_of({"a": {"A": frozenset(["x"])}}).words
    none = agreement_of({"a": {"A": frozenset(), "B": frozenset()}})
    assert (none.mean, none.n_findings) == (None, 1)
    assert "no label fits" in none.words
    alike = agreement_of({k: {"A": frozenset(["x"]), "B": frozenset(["x"])} for k in "abc"})
    assert alike.mean is None
    assert "cannot be told from chance" in alike.words


def test_the_file_is_for_this_user_alone_and_written_ahead(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "kept" / "findings.sqlite"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with store._reading() as db:
        asked = {name: db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")}
        assert asked == {"journal_mode": "wal", "foreign_keys": 1}
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_without_an_address_a_store_is_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnviz.store.store.settings", lambda: settings.Settings(data_dir=tmp_path))
    kept = open_store().save(finding(), by="Ada")
    assert (tmp_path / "findings.sqlite").exists()
    assert open_store().get(kept.id, by="Ada") == kept


@pytest.mark.parametrize("versions", [(4,), (0,), (), (1, 2)])
def test_a_schema_that_is_not_known_is_refused(store: Store, versions: tuple[int, ...]) -> None:
    with store._writing() as db:
        db.execute(sa.delete(tables.schema))
        for version in versions:
            db.execute(sa.insert(tables.schema).values(version=version))
    with pytest.raises(StoreError, match="another version of AttnViz"):
        open_store(store._engine.url)


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other, torn = (tmp_path / name for name in ("text", "other", "torn"))
    text.write_text("This is a letter, and no database at all.\n" * 50)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE letters (a)")
    db.close()
    open_store(f"sqlite:///{torn}").save(finding(), by="Ada")
    torn.write_bytes(torn.read_bytes()[:100] + bytes(8_000))
    for path, said in ((text, "damaged, or no database"), (other, "something else"), (torn, "damaged")):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=said):
            open_store(f"sqlite:///{path}", wait_seconds=0.2)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "sqlite://", "sqlite:///:memory:", "oddsql://u:hunter2@h/d", "sqlite:///a?mode=memory&uri=true"],
)
def test_an_address_of_nothing_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"sqlite:///findings\.sqlite") as error:
        open_store(url)
    assert "hunter2" not in str(error.value)


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        paramstyle, Error = "pyformat", sqlite3.Error

        @staticmethod
        def connect(*args: Any, **keywords: Any) -> None:
            raise sqlite3.OperationalError(f"cannot connect as {keywords}")

    engine = sa.create_engine("postgresql+psycopg2://ada:hunter2@h/notes", module=Driver, _initialize=False)
    monkeypatch.setattr("attnviz.store.opening.sa.create_engine", lambda *args, **keywords: engine)
    with pytest.raises(StoreError, match="postgresql database 'notes'") as error:
        open_store("postgresql+psycopg2://ada:hunter2@h/notes")
    kept = Store(engine, Path(), most_array_bytes=1, findings_each=1, guest_findings=1, finding_bytes=1, store_bytes=1)
    shown = str(error.value) + repr(kept)
    assert "hunter2" not in shown
    assert "ada" not in shown


def test_the_tables_are_said_for_other_databases_too() -> None:
    for dialect in (postgresql.dialect(), mysql.dialect()):
        written = "\n".join(str(CreateTable(one).compile(dialect=dialect)) for one in tables.metadata.sorted_tables)
        assert written.count("CREATE TABLE") == 9
        assert ("TEXT(100000000)" in written) == (dialect.name == "mysql")
        assert ("utf8mb4_bin" in written) == (dialect.name == "mysql")
