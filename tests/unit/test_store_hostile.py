"""A store under careless and hostile users: what came with a file says so, damaged rows, full disks, long locks."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from test_store_rules import ASKED, CASES, changed, finding, store

from attnviz.errors import InputError, StoreError
from attnviz.findings import (
    Annotation,
    EdgeAt,
    Evidence,
    Finding,
    HeadAt,
    ModelRecord,
    Plan,
    Seen,
    attach,
    planned,
    summed_up,
    with_status,
)
from attnviz.store import Store, brief_of, carried, looking, open_store, tables

__all__ = ["store"]  # the fixture of the store's other rules
LONG_AGO = datetime.now(UTC) - timedelta(days=3)


def evidence(by: str = "Ada", days: int = 0) -> Evidence:
    outcome = summed_up(ASKED, (0.9, 0.91, 0.92), np.linspace(0.0, 0.2, 20), controls="other heads", unit="share")
    at = LONG_AGO + timedelta(days=days)
    return Evidence(measurement=ASKED, cases=CASES, outcome=outcome, model=ModelRecord(name="m"), by=by, at=at)


def faked(**keywords: Any) -> Finding:
    """A supported finding as anybody may write it down."""
    plan = Plan(measurement=ASKED, cases=CASES, bound=0.5, stated=LONG_AGO - timedelta(days=1))
    return with_status(attach(planned(finding(author="Ada", **keywords), plan), evidence()), "supported")


def lines(*found: Finding) -> str:
    return "".join(one.model_dump_json() + "\n" for one in found)


def spoil(store: Store, one: Finding, *, brief: bool = False) -> None:
    with store._writing() as db:
        table, key = (tables.briefs, "finding") if brief else (tables.findings, "id")
        db.execute(sa.update(table).where(table.c[key] == one.id).values(record='{"claim": 3}'))


def test_what_came_with_a_file_says_so_until_it_is_measured_here(store: Store, tmp_path: Path) -> None:
    made = faked()
    store.import_findings(lines(made), by="Ada")
    (brief,) = store.briefs(by="Ada")
    assert (brief.status, brief.author, brief.brought_by) == ("supported", "Ada", "Ada")
    assert brief.brought_at is not None
    assert brief.brought_at > LONG_AGO
    kept = store.save(changed(store.get(made.id, by="Ada"), shared=True), by="Ada")
    text = store.export_findings(by="Ada")
    assert store.import_findings(text, by="Ada").same == (made.id,)
    assert [one.brought_by for one in store.briefs(by="Bob")] == ["Ada"]
    store.delete(made.id, by="Ada")
    store.import_findings(text, by="Ada")
    assert [one.brought_by for one in store.briefs(by="Ada")] == ["Ada"]

    kept = store.get(made.id, by="Ada")
    beside = changed(evidence("Ada"), measurement=changed(ASKED, heads=(HeadAt(layer=3, head=3),)))
    kept = store.save(attach(kept, beside), by="Ada", base=kept.version)
    assert [one.brought_by for one in store.briefs(by="Ada")] == ["Ada"]
    kept = store.save(attach(kept, evidence("Ada", days=2)), by="Ada", base=kept.version)
    assert [(one.status, one.brought_by) for one in store.briefs(by="Ada")] == [("supported", "")]
    there = open_store(f"sqlite:///{tmp_path}/there.sqlite")
    there.import_findings(store.export_findings(by="Ada"), by="Zoe")
    assert [one.brought_by for one in there.briefs(by="Zoe")] == ["Zoe"]


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_learns_what_was_brought_and_what_cannot_be_read(store: Store, version: int) -> None:
    mine, other, broken = store.save(finding("mine"), by="Ada"), finding("Zoe's", author="Zoe"), finding("old rules")
    store.import_findings(lines(other), by="Ada")
    store.save(broken, by="Ada")
    spoil(store, broken)
    with store._writing() as db:
        tables.brought.drop(db)
        if version == 1:
            tables.briefs.drop(db)
        db.execute(sa.update(tables.schema).values(version=version))
    briefs = {one.id: one for one in open_store(store._engine.url).briefs(by="Ada")}
    assert {key: one.brought_by for key, one in briefs.items()} == {mine.id: "", other.id: "Ada", broken.id: ""}
    assert [one.id for one in briefs.values() if one.damaged] == [broken.id]


def test_a_finding_that_cannot_be_read_stops_no_other(store: Store) -> None:
    good, bad, half = (store.save(finding(claim, shared=True), by="Ada") for claim in ("good", "bad", "half"))
    spoil(store, bad)
    spoil(store, half, brief=True)
    for find in (
        lambda out: store.find(by="Ada", left_out=out),
        lambda out: store.several([good.id, bad.id, half.id], by="Bob", left_out=out),
        lambda out: store.export_findings(by="Ada", left_out=out).splitlines(),
    ):
        out: list[str] = []
        assert len(find(out)) == 2
        assert out == [bad.id]
    with pytest.raises(StoreError, match="cannot be read"):
        store.get(bad.id, by="Ada")
    briefs = {one.id: one for one in store.briefs(by="Ada")}
    assert [key for key, one in briefs.items() if one.damaged] == [half.id]
    assert briefs[half.id].owner == "Ada"
    assert json.loads(store.raw(bad.id, by="Bob")) == {"claim": 3}
    with pytest.raises(InputError, match="no such finding"):
        store.raw(store.save(finding("own"), by="Ada").id, by="Bob")
    (clash,) = store.import_findings(lines(changed(bad, shared=False)), by="Ada").conflicts
    assert "remove it first" in str(clash)
    store.delete(bad.id, by="Ada")
    assert store.import_findings(lines(bad), by="Ada").imported == (bad.id,)


def test_a_damaged_annotation_is_left_out(store: Store) -> None:
    kept = store.save(finding(shared=True), by="Ada")
    for who in ("Bob", "Cy"):
        store.label(kept.id, ["sink"], by=who)
    with store._writing() as db:
        db.execute(sa.update(tables.given).where(tables.given.c.annotator == "Cy").values(record="x"))
    assert [one.by for one in store.labels_of(kept.id, by="Ada")] == ["Bob"]
    assert store.agreement(by="Ada").n_findings == 0


def test_many_heads_and_edges_are_taken_in_quickly(store: Store) -> None:
    heads = tuple(HeadAt(layer=layer, head=1) for layer in range(5_000))
    edges = tuple(EdgeAt(query=1, key=0, head=HeadAt(layer=layer, head=2)) for layer in range(5_000))
    large = finding(heads=heads, edges=edges)
    start = time.process_time()
    assert len(brief_of(large).at_edges) == 5_000
    assert time.process_time() - start < 1
    start = time.process_time()
    assert store.import_findings(lines(large), by="Ada").imported == (large.id,)
    assert time.process_time() - start < 5
    assert store.find(by="Ada", head=HeadAt(layer=4_999, head=2)) == [changed(large, author="Ada")]


def test_what_an_import_writes_is_bounded_and_worked_out_before_the_lock(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.save(finding("here"), by="Ada")
    taken, moved = Store._taken, []

    def late(self: Store, *given: Any) -> Any:
        if not moved:  # somebody else is first, between reading and writing
            moved.append(self.save(changed(kept, note="meanwhile"), by="Ada"))
        return taken(self, *given)

    monkeypatch.setattr(Store, "_taken", late)
    new = finding("new")
    done = store.import_findings(lines(kept, new), by="Ada")
    assert (done.imported, done.same, [one.theirs for one in done.conflicts]) == ((new.id,), (), moved)
    monkeypatch.setattr(carried, "MOST_ROWS", 3)
    with pytest.raises(InputError, match="more than 3 heads and labels: split it"):
        store.import_findings(lines(finding("a"), finding("b")), by="Ada")


def test_the_whole_store_has_a_size_and_removing_makes_room(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/small.sqlite", store_bytes=2_000_000)
    kept = [store.save(finding(str(number), figure="x" * 800_000), by=f"name {number}") for number in range(2)]
    for full in (
        lambda: store.save(finding(figure="x" * 800_000), by="Bob"),
        lambda: store.save(changed(kept[0], note="n" * 50_000, figure="x" * 1_500_000), by="name 0"),
        lambda: store.import_findings(lines(finding(figure="x" * 800_000)), by="Bob"),
        lambda: store.save_arrays(kept[0].id, {"a": np.zeros(100_000)}, by="name 0"),
    ):
        with pytest.raises(StoreError, match="ATTNVIZ_STORE_BYTES"):
            full()
    assert not list((tmp_path / "small.sqlite.arrays").glob("*"))
    store.delete(kept[1].id, by="name 1")
    store.save_arrays(kept[0].id, {"a": np.zeros(10_000)}, by="name 0")
    assert store.save(finding(figure="x" * 600_000), by="Bob").version == 1


def test_guests_keep_less_and_what_they_leave_is_swept(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/guests.sqlite", guest_findings=3)
    old = {"created": LONG_AGO, "changed": LONG_AGO}
    gone = store.save(finding("left", **old), by="guest 1f")
    stay = [store.save(finding("shared", shared=True, **old), by="guest 1f"), store.save(finding("new"), by="guest 1f")]
    stay.append(store.save(finding("Ada's", **old), by="Ada"))
    with pytest.raises(InputError, match="A guest keeps at most 3 findings"):
        store.save(finding("fourth"), by="guest 1f")
    assert store.sweep_guests() == 1
    with store._reading() as db:
        assert set(db.execute(sa.select(tables.findings.c.id)).scalars()) == {one.id for one in stay}
        assert gone.id not in set(db.execute(sa.select(tables.briefs.c.finding)).scalars())


def test_what_is_still_to_come_is_not_kept(store: Store) -> None:
    late = datetime.now(UTC) + timedelta(days=1)
    for one in (finding(changed=late), finding(annotations=(Annotation(by="Bob", at=late),))):
        with pytest.raises(InputError, match="still to come"):
            store.import_findings(lines(one), by="Ada")
    with pytest.raises(InputError, match="still to come"):
        store.save(finding(created=late), by="Ada")
    assert store.find(by="Ada") == []


def test_more_than_is_opened_or_carried_at_once_is_said_before_it_is_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = store.save(finding("mine"), by="Ada")
    store.save(finding("large", figure="x" * 10_000, shared=True), by="Bob")
    monkeypatch.setattr(carried.exchange, "MOST_BYTES", 9_000)
    monkeypatch.setattr(looking, "MOST_BYTES", 9_000)
    monkeypatch.setattr("attnviz.store.rows.readable", lambda *_: pytest.fail("it was read"))
    ids = [one.id for one in store.briefs(by="Ada")]
    with pytest.raises(InputError, match="more than a file may hold"):
        store.export_findings(by="Ada")
    with pytest.raises(InputError, match="are opened at once"):
        store.several(ids, by="Ada")
    monkeypatch.undo()
    assert [json.loads(one)["id"] for one in store.export_findings(by="Ada", owner="Ada").splitlines()] == [mine.id]


def test_a_file_tells_no_folder_of_this_machine_and_is_the_same_here(store: Store) -> None:
    path = "/srv/ada/models/mine"
    seen = Seen(params={"model": path}, lines=f'load_model("{path}")', texts={"text": "see /srv/ada/notes"})
    kept = store.save(finding(model=ModelRecord(name=path), seen=seen), by="Ada")
    text = store.export_findings(by="Ada")
    told = json.loads(text)
    assert path not in text
    assert (told["model"]["name"], told["seen"]["params"]["model"]) == ("mine", "mine")
    assert (told["seen"]["lines"], told["seen"]["texts"]["text"]) == ('load_model("mine")', "see /srv/ada/notes")
    assert store.import_findings(text, by="Ada").same == (kept.id,)
    assert store.get(kept.id, by="Ada") == kept
