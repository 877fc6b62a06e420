"""The Notebook's files: what is imported is private and told to be brought, and reports hold what one may see."""

from typing import Any

import pytest
import sqlalchemy as sa
from test_notebook_page import store

from attnviz.findings import Annotation, Finding, HeadAt, ModelRecord, Seen
from attnviz.settings import settings
from attnviz.store import Store, rows, tables
from attnviz.ui.notebook import carrying
from pages import HOSTILE, assert_fine, opened, said, words_of

__all__ = ["store"]  # the fixture of the Notebook's own tests


def finding(claim: str, **parts: Any) -> Finding:
    start: dict[str, Any] = {
        "heads": (HeadAt(layer=1, head=1, site="cross"),),
        "model": ModelRecord(name="m"),
        "seen": Seen(page="Explore", params={"model": "dates"}, texts={"text": "a text"}),
    }
    return Finding(claim=claim, **start | parts)


def test_what_is_imported_is_private_and_told_to_be_brought(store: Store) -> None:
    given = (Annotation(by="Cy", labels=("sink",)), Annotation(by="Dee", labels=("sink",)))
    one = finding("of Zoe", author="Zoe", shared=True, annotations=given)
    test = opened("notebook")
    test.file_uploader[0].set_value(("all.jsonl", one.model_dump_json().encode(), "application/jsonl")).run()
    test.button(key="notebook-import").click().run()
    assert_fine(test)
    assert "private to you, whatever the file says" in said(test)
    assert "by Zoe, brought by Ada" in said(test)
    assert "not measured here: its figures are the file’s word" in said(test)
    assert "private" in said(test)
    assert store.briefs(by="Bo") == []
    test.toggle(key="notebook-agree").set_value(True).run()
    assert "no finding was labelled by two people" in said(test)
    test.toggle(key="notebook-brought").set_value(True).run()
    assert_fine(test)
    assert "2 people, 1 finding" in said(test)
    test = opened("notebook", finding=one.id)
    assert_fine(test)
    assert "Ada brought it from a file on" in words_of(test.warning)
    for ending in ("html", "md"):
        assert "Ada brought it from a file on" in carrying._report(store, "Ada", {}, one.id, ending).decode()
    assert "Cy (brought by Ada)" in str(next(frame.value for frame in test.dataframe if "who" in frame.value))


def test_a_file_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNVIZ_UPLOAD_BYTES", "100")
    settings.cache_clear()
    test = opened("notebook")
    test.file_uploader[0].set_value(("all.jsonl", b"x" * 101, "application/jsonl")).run()
    assert "at most 100" in words_of(test.error)
    assert test.button(key="notebook-import").disabled


def test_a_file_in_one_s_own_name_says_that_it_was_brought(store: Store) -> None:
    one = finding("of Ada, it says", author="Ada")
    store.import_findings(one.model_dump_json(), by="Ada")
    assert "by Ada, brought by Ada" in said(opened("notebook"))
    assert "Ada brought it from a file on" in words_of(opened("notebook", finding=one.id).warning)


def test_a_file_that_is_none_is_said_and_another_may_follow(store: Store) -> None:
    test = opened("notebook")
    test.file_uploader[0].set_value(("all.jsonl", b"{}", "application/jsonl")).run()
    test.button(key="notebook-import").click().run()
    assert "all.jsonl, line 1" in words_of(test.error)
    good = finding("good", author="Bo").model_dump_json().encode()
    test.file_uploader[0].set_value(("good.jsonl", good, "application/jsonl")).run()
    test.button(key="notebook-import").click().run()
    assert_fine(test)
    assert "1 imported" in words_of(test.markdown)


def test_what_cannot_be_read_is_named_and_can_be_taken_along_or_removed(store: Store) -> None:
    good, half, bad = (store.save(finding(claim), by="Ada") for claim in ("good", "half", "bad"))
    with store._writing() as db:
        briefs, whole = tables.briefs, tables.findings
        db.execute(sa.delete(briefs).where(briefs.c.finding == half.id))
        db.execute(sa.update(whole).where(whole.c.id == bad.id).values(record="{}"))
    test = opened("notebook")
    assert_fine(test)
    assert "1 of these cannot be read: exports and reports are made without them" in said(test)
    assert "good" in words_of(test.markdown)
    told = carrying._report(store, "Ada", {}, "", "md").decode()
    assert "1 cannot be read, and is left out" in told
    assert good.id in told
    assert half.id not in told
    test.button(key=f"notebook-damaged-{half.id}").click().run()
    assert_fine(test)
    assert {one.id for one in store.briefs(by="Ada")} == {good.id, bad.id}
    test = opened("notebook", finding=bad.id)
    assert "cannot be read" in words_of(test.error)
    test.button(key=f"notebook-damaged-{bad.id}").click().run()
    assert_fine(test)
    assert [one.id for one in store.briefs(by="Ada")] == [good.id]


def test_an_export_is_of_what_was_searched_for_and_else_of_ones_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = store.save(finding("mine", labels=("sink",)), by="Ada")
    other = store.save(finding("another", shared=True, labels=("sink",)), by="Bo")
    wanted: tuple[rows.Asked, ...] = ({"owner": "Ada"}, {"label": "sink"})
    assert "Export mine (JSON Lines)" in [one.label for one in opened("notebook").get("download_button")]
    first, second = (carrying._file(store, "Ada", one, False).decode() for one in wanted)
    assert (mine.id in first, other.id in first) == (True, False)
    assert (mine.id in second, other.id in second) == (True, True)
    monkeypatch.setattr("attnviz.store.exchange.MOST_BYTES", 10)
    told = carrying._file(store, "Ada", wanted[0], False).decode()
    assert told.startswith("There is no export. These are 1 findings")


def test_what_somebody_else_keeps_is_neither_planned_nor_decided(store: Store) -> None:
    one = store.save(finding("shared", shared=True), by="Bo")
    test = opened("notebook", finding=one.id)
    assert_fine(test)
    assert "Its status and its plan are set by Bo" in said(test)
    keys = {str(button.key) for button in test.button}
    assert not keys & {"notebook-status-supported", "notebook-status-refuted", "notebook-state"}
    assert not [area for area in test.text_area if str(area.key).startswith("notebook-edit")]
    assert "notebook-measure" in keys


def test_heads_in_the_list_open_the_finding_s_own_view(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "attnviz.ui.notebook.listing.restore_head", lambda one, head: went.append((one.seen.page, str(head)))
    )
    one = store.save(finding("x"), by="Ada")
    test = opened("notebook")
    test.button(key=f"notebook-head-{one.id}-0").click().run()
    assert_fine(test)
    assert went == [("Explore", "cross L1H1")]


def test_reports_hold_what_is_searched_for_and_may_be_seen(store: Store) -> None:
    mine = store.save(finding(HOSTILE, labels=("sink",)), by="Ada")
    other = store.save(finding("another", shared=True), by="Bo")
    secret = store.save(finding("Bo's own"), by="Bo")
    assert_fine(opened("notebook", finding=mine.id))
    whole = carrying._report(store, "Ada", {}, "", "md").decode()
    assert mine.id in whole
    assert other.id in whole
    assert secret.id not in whole
    assert other.id not in carrying._report(store, "Ada", {"label": "sink"}, "", "md").decode()
    page = carrying._report(store, "Ada", {}, mine.id, "html").decode()
    assert page.startswith("<!DOCTYPE html>")
    assert HOSTILE not in page
    for nobodys in (secret.id, "0" * 32):
        told = carrying._report(store, "Ada", {}, nobodys, "html").decode()
        assert "There is no report." in told
        assert "Bo" not in told


def test_a_report_has_the_last_changed_and_says_that_there_are_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "MOST_REPORTED", 2)
    kept = [store.save(finding(str(number)), by="Ada") for number in range(3)]
    told = carrying._report(store, "Ada", {}, "", "md").decode()
    assert sum(one.id in told for one in kept) == 2
    assert "The 2 that were changed last; there are more" in told


def test_others_read_no_folder_of_this_machine_and_its_owner_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/srv/ada/models/mine"
    seen = Seen(page="Explore", params={"model": path}, texts={"text": "a text"}, lines=f'load_model("{path}")')
    for owner in ("Ada", "Bo"):
        one = store.save(finding("x", shared=True, model=ModelRecord(name=path), seen=seen), by=owner)
        test = opened("notebook", finding=one.id)
        assert_fine(test)
        assert [area.value for area in test.code] == [f'load_model("{path if owner == "Ada" else "mine"}")']
        assert (path in said(test).partition("Seen on")[2]) == (owner == "Ada")
