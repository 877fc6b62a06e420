"""Who may change what of a shared finding, what an imported one may claim, how much is kept, and findings in brief."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from attnviz import settings
from attnviz.errors import InputError
from attnviz.findings import (
    Annotation,
    Case,
    EdgeAt,
    Evidence,
    Finding,
    HeadAt,
    Measurement,
    ModelRecord,
    Plan,
    Seen,
    attach,
    planned,
    reworded,
    summed_up,
    with_status,
)
from attnviz.store import Store, brief_of, open_store, tables

HEAD, OTHER = HeadAt(layer=1, head=2), HeadAt(layer=4, head=4)
ASKED = Measurement(kind="attention", heads=(HEAD,))
CASES = tuple(Case(text=f"text {number}", key="text") for number in range(3))
VALUES = (0.9, 0.91, 0.92)


def finding(claim: str = "L1H2 looks back", **keywords: Any) -> Finding:
    return Finding.model_validate({"claim": claim, "model": ModelRecord(name="m"), "heads": (HEAD,), **keywords})


def changed(one: Any, **keywords: Any) -> Any:
    return one.model_copy(update=keywords)


def plan(bound: float = 0.5) -> Plan:
    return Plan(measurement=ASKED, cases=CASES, bound=bound)


def evidence(by: str = "Ada", note: str = "") -> Evidence:
    """As `findings.measure` would make it of these values."""
    outcome = summed_up(ASKED, VALUES, np.linspace(0.0, 0.2, 20), controls="every other head", unit="share")
    return Evidence(measurement=ASKED, cases=CASES, outcome=outcome, model=ModelRecord(name="m"), by=by, note=note)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/findings.sqlite", wait_seconds=5)


@pytest.fixture
def supported(store: Store) -> Finding:
    """A shared one of Ada's, whose status rests on evidence of hers."""
    return store.save(with_status(attach(planned(finding(shared=True), plan()), evidence()), "supported"), by="Ada")


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ({"seen": Seen(page="Flow")}, "seen"),
        ({"figure": "{}"}, "figure"),
        ({"edges": (EdgeAt(query=1, key=0),), "status": "hypothesis"}, "edges and status"),
        ({"status": "hypothesis"}, "status"),
        ({"confidence": 0.1, "figure": "{}"}, "confidence and figure"),
    ],
)
def test_others_change_nothing_that_is_the_owners(
    store: Store, supported: Finding, what: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=f"Only Ada changes this finding's {named}: "):
        store.save(changed(supported, **what), by="Bob")
    assert store.get(supported.id, by="Ada") == supported
    assert store.save(changed(supported, **what), by="Ada").version == supported.version + 1


def test_others_neither_plan_nor_decide(store: Store) -> None:
    kept = store.save(attach(planned(finding(shared=True), plan()), evidence()), by="Ada")
    with pytest.raises(InputError, match="Only Ada changes this finding's plan"):
        store.save(planned(kept, plan(0.1)), by="Bob", base=kept.version)
    with pytest.raises(InputError, match="Only Ada changes this finding's status"):
        store.save(with_status(kept, "supported"), by="Bob", base=kept.version)
    assert store.save(with_status(kept, "supported"), by="Ada", base=kept.version).status == "supported"


def test_evidence_is_added_in_ones_own_name_and_never_altered(store: Store, supported: Finding) -> None:
    first = supported.evidence[0]
    forged = changed(first, note="as I would have it")
    unplanned = changed(first, planned=False, outcome=changed(first.outcome, verdict="open"))
    for bad in ((), (forged,), (unplanned,), (evidence("Bob"), first)):
        for who in ("Ada", "Bob"):
            with pytest.raises(InputError, match="neither altered nor dropped" if who == "Ada" else "neither|Only Ada"):
                store.save(changed(supported, evidence=bad, status="hypothesis"), by=who)
    for by in ("Ada", ""):
        with pytest.raises(InputError, match="own name"):
            store.save(attach(supported, evidence(by)), by="Bob", base=supported.version)
    with pytest.raises(InputError, match="own name"):
        store.save(attach(supported, evidence("Bob")), by="Ada", base=supported.version)
    theirs = store.save(attach(supported, evidence("Bob")), by="Bob", base=supported.version)
    assert (theirs.status, [one.by for one in theirs.evidence]) == ("supported", ["Ada", "Bob"])


def test_another_plan_leaves_evidence_that_no_longer_counts(store: Store, supported: Finding) -> None:
    again = planned(supported, plan(0.1))
    believed = changed(again, evidence=supported.evidence)
    with pytest.raises(InputError, match=r"does not count for another plan|not what was planned"):
        store.save(believed, by="Ada", base=supported.version)
    kept = store.save(again, by="Ada", base=supported.version)
    assert [(one.planned, one.outcome.verdict) for one in kept.evidence] == [(False, "open")]


@pytest.mark.parametrize("what", [{"claim": "another"}, {"heads": (OTHER,)}])
def test_what_says_something_else_is_a_hypothesis_again(store: Store, supported: Finding, what: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no longer supported"):
        store.save(changed(supported, **what), by="Ada")
    again = reworded(supported, what)
    with pytest.raises(InputError, match="Only Ada changes"):
        store.save(again, by="Bob", base=supported.version)
    assert store.save(again, by="Ada", base=supported.version).status == "hypothesis"


def test_other_spaces_say_nothing_else(store: Store, supported: Finding) -> None:
    assert store.save(changed(supported, claim="L1H2  looks back"), by="Ada").status == "supported"


def test_others_take_no_status_with_evidence_that_does_not(store: Store, supported: Finding) -> None:
    harmless = attach(supported, changed(evidence("Bob"), measurement=changed(ASKED, what="beside it")))
    assert harmless.status == "supported"
    with pytest.raises(InputError, match="Only Ada changes this finding's status"):
        store.save(changed(harmless, status="hypothesis"), by="Bob", base=supported.version)


def test_the_last_places_of_evidence_and_of_labels_are_kept_free(
    store: Store, supported: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnviz.store.changing.MOST_EVIDENCE", 22)
    kept = store.save(attach(supported, evidence("Bob")), by="Bob", base=supported.version)
    with pytest.raises(InputError, match="the last 20 places of 22 are Ada's"):
        store.save(attach(kept, evidence("Bob")), by="Bob", base=kept.version)
    assert len(store.save(attach(kept, evidence()), by="Ada", base=kept.version).evidence) == 3
    monkeypatch.setattr("attnviz.store.store.MOST_ANNOTATIONS", 2)
    for who in ("Bob", "Cy", "Bob"):
        store.label(kept.id, ["sink"], by=who)
    with pytest.raises(InputError, match="2 people label a finding at most"):
        store.label(kept.id, ["sink"], by="Dee")
    assert store.import_findings(store.export_findings(by="Ada"), by="Cy").same == (kept.id,)


def test_what_is_imported_is_private_and_whose_it_is_is_told(store: Store, tmp_path: Path) -> None:
    there = open_store(f"sqlite:///{tmp_path}/there.sqlite")
    kept = there.save(finding(shared=True, labels=("sink",)), by="Zoe")
    text = there.export_findings(by="Zoe")
    assert store.import_findings(text, by="Ada").imported == (kept.id,)
    assert store.get(kept.id, by="Ada") == changed(kept, shared=False)
    assert store.find(by="Bob") == []
    (brief,) = store.briefs(by="Ada")
    assert (brief.author, brief.owner, brief.shared) == ("Zoe", "Ada", False)
    shared = store.save(changed(store.get(kept.id, by="Ada"), shared=True), by="Ada")
    assert shared.shared
    assert store.import_findings(text, by="Ada").same == (kept.id,)
    assert there.import_findings(store.export_findings(by="Ada"), by="Zoe").same == (kept.id,)
    assert there.get(kept.id, by="Zoe") == kept


def test_agreement_counts_what_was_given_here_unless_it_is_told(store: Store) -> None:
    given = tuple(Annotation(by=who, labels=("sink",)) for who in ("Bob", "Cy"))
    made = [finding(f"claim {n}", author="Zoe", labels=("sink",), annotations=given) for n in range(3)]
    store.import_findings("".join(one.model_dump_json() + "\n" for one in made), by="Ada")
    for one in made:
        store.label(one.id, ["sink"], by="Ada")
    assert store.agreement(by="Ada").n_findings == 0
    told = store.agreement(by="Ada", brought=True)
    assert (told.n_findings, told.n_people) == (3, 4)
    store.save(changed(store.get(made[0].id, by="Ada"), shared=True), by="Ada")
    store.label(made[0].id, ["copying"], by="Bob")
    here = store.agreement(by="Ada")
    assert (here.n_findings, here.n_people, {one.label for one in here.labels}) == (1, 2, {"sink", "copying"})


def test_one_person_keeps_so_many_findings_of_such_a_size(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/few.sqlite"
    store = open_store(address, findings_each=2, finding_bytes=5_000)
    first, _ = (store.save(finding(str(number)), by="Ada") for number in range(2))
    with pytest.raises(InputError, match=r"at most 2 findings here; you keep 2, and 1 would be new"):
        store.save(finding("third"), by="Ada")
    lines = "".join(finding(str(number), author="Zoe").model_dump_json() + "\n" for number in range(3))
    with pytest.raises(InputError, match="you keep 0, and 3 would be new"):
        store.import_findings(lines, by="guest 1f")
    assert store.find(by="guest 1f") == []
    assert store.save(changed(first, note="n"), by="Ada").version == 2
    for call in (
        lambda: store.save(finding(note="ä" * 3_000), by="Bob"),
        lambda: store.save(changed(store.get(first.id, by="Ada"), figure="x" * 6_000), by="Ada"),
        lambda: store.import_findings(finding(note="x" * 6_000).model_dump_json(), by="Bob"),
    ):
        with pytest.raises(InputError, match=r"bytes, and at most 5,000 are kept"):
            call()
    assert store.find(by="Bob") == []
    assert open_store(address).save(finding("third"), by="Ada").version == 1


def test_the_settings_say_where_findings_are_and_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/of-settings.sqlite"
    limits = settings.Settings.model_validate({"store_url": url, "findings_each": 1, "data_dir": tmp_path})
    monkeypatch.setattr("attnviz.store.store.settings", lambda: limits)
    open_store().save(finding(), by="Ada")
    assert (tmp_path / "of-settings.sqlite").exists()
    with pytest.raises(InputError, match="at most 1 findings"):
        open_store().save(finding(), by="Ada")


def test_briefs_are_what_lists_show_and_need_no_whole_finding(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = (EdgeAt(query=1, key=0, head=OTHER), EdgeAt(query=2, key=0, head=HEAD), EdgeAt(query=1, key=1))
    kept = store.save(finding(figure="x" * 100_000, edges=edges, labels=("sink",), shared=True), by="Ada")
    theirs = store.save(finding("of Bob"), by="Bob")
    store.label(kept.id, ["copying", "sink"], by="Bob")
    store.label(kept.id, ["copying"], by="Cy")
    monkeypatch.setattr("attnviz.store.rows.finding_of", lambda row: pytest.fail("a whole finding was read"))
    (brief,) = store.briefs(by="Ada", head=OTHER)
    assert brief == changed(brief_of(kept, owner="Ada"), given=("copying", "sink"))
    assert (brief.heads, brief.at_edges, brief.measured) == ((HEAD,), (OTHER,), 0)
    assert {one.id for one in store.briefs(by="Bob")} == {kept.id, theirs.id}
    assert [one.id for one in store.briefs(by="Bob", owner="Bob")] == [theirs.id]
    assert [one.id for one in store.briefs(by="Bob", not_owner="Bob")] == [kept.id]
    assert [one.id for one in store.briefs(by="Ada", ids=[theirs.id, kept.id, "0" * 32])] == [kept.id]
    with pytest.raises(InputError, match="'limit'"):
        store.briefs(by="Ada", limit=10_001)


def test_several_come_in_their_order_with_what_others_call_them(store: Store) -> None:
    kept = [store.save(finding(str(number), shared=number > 0), by="Ada") for number in range(3)]
    store.label(kept[2].id, ["sink"], by="Bob")
    found = store.several([one.id for one in reversed(kept)], by="Bob")
    assert [one.claim for one in found] == ["2", "1"]
    assert [note.by for note in found[0].annotations] == ["Bob"]
    with pytest.raises(InputError, match="1,001 ids"):
        store.several(map(str, range(1_001)), by="Bob")


def test_a_store_of_version_1_is_made_into_one_of_today(store: Store, supported: Finding) -> None:
    several = {supported.id, *(store.save(finding(str(number)), by="Ada").id for number in range(120))}
    before = store.briefs(by="Ada", limit=1_000)
    with store._writing() as db:
        tables.briefs.drop(db)
        tables.brought.drop(db)
        db.execute(sa.update(tables.schema).values(version=1))
    again = open_store(store._engine.url)
    assert again.briefs(by="Ada", limit=1_000) == before
    assert {one.id for one in before} == several
    assert open_store(store._engine.url).get(supported.id, by="Ada") == supported
