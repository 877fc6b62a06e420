"""What a store goes through: kills in the middle of saving, two writers at once, a full disk, torn files."""

import multiprocessing
import os
import random
import resource
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnviz.errors import Conflict, InputError, StoreError
from attnviz.store import Store, arrays, open_store
from benchmarks.crashing import (
    Acknowledged,
    address,
    check,
    fill_up,
    finding,
    forked,
    kill_while_writing,
    limit_pages,
    said,
)

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(address(tmp_path), wait_seconds=20)


def test_fifty_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    draw, acknowledged, written = random.Random(5), Acknowledged(), []
    for number in range(50):
        seconds = draw.uniform(0.0, 0.05)
        written.append(kill_while_writing(tmp_path, acknowledged, seed=number, seconds=seconds))
        check(tmp_path, acknowledged)
    assert min(written) >= 1
    store = check(tmp_path, acknowledged)
    assert store.save(finding("after it all"), by="Ada").version == 1


def in_turns(folder: Path, me: str, rounds: int, meet: Any) -> Any:
    """Both read the same version and then write it: one of them conflicts, tries again, and both are there."""

    def work(pipe: int) -> None:
        store = open_store(address(folder), wait_seconds=20)
        (shared,) = store.find(by="Ada", text="both")
        for number in range(rounds):
            seen = store.get(shared.id, by="Ada")
            meet.wait(20)
            while True:
                try:
                    store.save(seen.model_copy(update={"note": f"{seen.note} {me}{number}"}), by="Ada")
                    break
                except Conflict as conflict:
                    os.write(pipe, f"conflict with {conflict.by}\n".encode())
                    seen = conflict.theirs
            os.write(pipe, (store.save(finding(f"{me} {number}"), by=me).id + "\n").encode())
            meet.wait(20)

    return work


def test_two_processes_write_at_once_and_lose_nothing(store: Store, tmp_path: Path) -> None:
    shared, meet = store.save(finding("both"), by="Ada"), FORK.Barrier(2)
    children = [forked(in_turns(tmp_path, me, 12, meet)) for me in ("Ada", "Bob")]
    lines = [line for _, pipe in children for line in said(pipe)]
    assert [os.waitpid(process, 0)[1] for process, _ in children] == [0, 0], lines
    clashes = [line for line in lines if line.startswith("conflict")]
    assert len(clashes) == 12
    assert set(clashes) == {"conflict with Ada"}
    end = store.get(shared.id, by="Ada")
    assert sorted(end.note.split()) == sorted(f"{me}{n}" for me in ("Ada", "Bob") for n in range(12))
    assert end.version == 25
    assert {one.id for one in store.find(by="Ada")} == {shared.id, *lines} - set(clashes)


def test_threads_write_at_once_and_lose_nothing(store: Store) -> None:
    kept: list[str] = []

    def write() -> None:
        kept.extend(store.save(finding(f"claim {number}"), by="Ada").id for number in range(10))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(kept) == 60
    assert {one.id for one in store.find(by="Ada", limit=100)} == set(kept)


def test_processes_that_open_an_empty_file_at_once_find_one_store(tmp_path: Path) -> None:
    for number in range(4):
        folder, meet = tmp_path / str(number), FORK.Barrier(6)

        def work(pipe: int, folder: Path = folder, meet: Any = meet) -> None:
            meet.wait(20)
            os.write(pipe, (open_store(address(folder)).save(finding("x"), by="Ada").id + "\n").encode())

        children = [forked(work) for _ in range(6)]
        lines = [line for _, pipe in children for line in said(pipe)]
        assert [os.waitpid(process, 0)[1] for process, _ in children] == [0] * 6, lines
        check(folder, dict.fromkeys(lines, 1))
        assert len(lines) == 6


def test_a_writer_waits_for_a_lock_and_then_says_so(store: Store, tmp_path: Path) -> None:
    quick, kept = open_store(address(tmp_path), wait_seconds=0.1), store.save(finding("first"), by="Ada")
    with sqlite3.connect(tmp_path / "findings.sqlite", check_same_thread=False) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="holds it locked"):
            quick.save(finding("x"), by="Ada")
        assert quick.get(kept.id, by="Ada") == kept  # readers do not wait
        with pytest.raises(StoreError, match="holds it locked"):
            quick.save_arrays(kept.id, {"a": np.ones(3)}, by="Ada")
        assert list(quick._folder.iterdir()) == []
        freed = threading.Timer(0.2, other.rollback)
        freed.start()
        assert store.save(finding("x"), by="Ada").version == 1
        freed.join()
    other.close()


def test_a_new_store_waits_for_who_holds_its_file(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "findings.sqlite", check_same_thread=False) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="holds it locked"):
            open_store(address(tmp_path), wait_seconds=0.05)
        freed = threading.Timer(0.2, other.rollback)
        freed.start()
        assert open_store(address(tmp_path), wait_seconds=20).save(finding("x"), by="Ada").version == 1
        freed.join()
    other.close()


def test_a_full_database_is_said_and_left_whole(store: Store, tmp_path: Path) -> None:
    kept = store.save(finding("first"), by="Ada")
    room_again = limit_pages(store, 5)
    with pytest.raises(StoreError, match=r"disk is full\. Make room, and save again"):
        store.save(finding("big", note="x" * 50_000), by="Ada")
    with pytest.raises(StoreError, match="disk is full"):
        store.save(kept.model_copy(update={"note": "y" * 50_000}), by="Ada")
    lines = "".join(finding(f"{n}", author="Ada", note="x" * 9_000).model_dump_json() + "\n" for n in range(9))
    with pytest.raises(StoreError, match="disk is full"):
        store.import_findings(lines, by="Ada")
    assert store.find(by="Ada") == [kept]
    room_again()
    check(tmp_path, {kept.id: 1})
    assert len(store.import_findings(lines, by="Ada").imported) == 9


def test_a_limit_on_files_is_said_and_left_whole(store: Store, tmp_path: Path) -> None:
    first = store.save(finding("first"), by="Ada")
    acknowledged, error = fill_up(tmp_path, 600_000)
    assert "Make room" in error
    assert len(acknowledged) >= 5
    check(tmp_path, dict.fromkeys([first.id, *acknowledged], 1))
    assert len(store.find(by="Ada")) == len(acknowledged) + 1
    store.save(finding("again"), by="Ada")


def test_arrays_come_back_as_they_were(store: Store) -> None:
    kept = store.save(finding("x"), by="Ada")
    assert store.arrays(kept.id, by="Bob") == {}
    half, one = np.arange(6, dtype=np.float16).reshape(2, 3), np.array(2.5)
    made = {
        "half": half.T,
        "ä": np.array([np.nan, np.inf]),
        "yes": np.array([True]),
        "empty": np.zeros((0, 3)),
        "0": one,
    }
    made["big end"] = np.arange(3, dtype=">i4")
    store.save_arrays(kept.id, made, by="Ada")
    found = store.arrays(kept.id, by="Bob")
    assert found.keys() == made.keys()
    for name, array in made.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape
    store.save_arrays(kept.id, {"new": one}, by="Ada")
    assert list(store.arrays(kept.id, by="Ada")) == ["new"]
    assert len(list(store._folder.iterdir())) == 1
    with pytest.raises(InputError, match="Only Ada"):
        store.save_arrays(kept.id, {"new": one}, by="Bob")


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"a": np.array(["x"])},
        {"a": np.array([{}], object)},
        {"a": np.array([1j])},
        {"a": [1, 2]},
        {"": np.ones(1)},
        {"\ud800": np.ones(1)},
        {"__metadata__": np.ones(1)},
        {"a": np.ones(2_000)},
    ],
)
def test_what_is_no_array_or_too_large_is_refused(tmp_path: Path, made: Any) -> None:
    store = open_store(address(tmp_path), most_array_bytes=10_000)
    kept = store.save(finding("x"), by="Ada")
    with pytest.raises(InputError):
        store.save_arrays(kept.id, made, by="Ada")
    assert store.arrays(kept.id, by="Ada") == {}
    assert not store._folder.exists()


def test_torn_changed_and_missing_arrays_are_said(store: Store) -> None:
    kept = store.save(finding("x"), by="Ada")
    store.save_arrays(kept.id, {"a": np.arange(100)}, by="Ada")
    (path,) = store._folder.iterdir()
    whole = path.read_bytes()
    for data in (whole[:-1], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(data)
        with pytest.raises(StoreError, match="not what was written"):
            store.arrays(kept.id, by="Ada")
    path.unlink()
    with pytest.raises(StoreError, match="copy both"):
        store.arrays(kept.id, by="Ada")
    assert store.get(kept.id, by="Ada") == kept


def test_arrays_that_do_not_fit_leave_the_earlier_ones(store: Store, tmp_path: Path) -> None:
    kept = store.save(finding("x"), by="Ada")
    store.save_arrays(kept.id, {"v": np.ones(100)}, by="Ada")

    def work(pipe: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            store.save_arrays(kept.id, {"v": np.ones(100_000)}, by="Ada")
        except StoreError as error:
            os.write(pipe, f"{error}\n".encode())

    process, pipe = forked(work)
    (line,) = said(pipe)
    assert os.waitpid(process, 0)[1] == 0
    assert "could not be written" in line
    room_again = limit_pages(store, 0)
    with pytest.raises(StoreError, match="disk is full"):
        store.save(finding("y", note="y" * 50_000), by="Ada")
    room_again()
    check(tmp_path, {kept.id: 1})
    assert len(list(store._folder.iterdir())) == 1
    assert store.arrays(kept.id, by="Ada")["v"].shape == (100,)


def test_a_file_that_no_finding_knows_is_swept_up_a_day_later(store: Store, tmp_path: Path) -> None:
    kept = store.save(finding("x"), by="Ada")
    store.save_arrays(kept.id, {"a": np.ones(3)}, by="Ada")
    new, old, other = (store._folder / name for name in ("1.partial", "2.safetensors", "letter.txt"))
    for path in (new, old, other):
        path.write_bytes(b"x")
    for path in store._folder.iterdir():
        if path != new:
            os.utime(path, (1, 1))
    open_store(address(tmp_path))
    assert (new.exists(), old.exists(), other.exists()) == (True, False, True)
    assert store.arrays(kept.id, by="Ada")["a"].shape == (3,)


def test_what_may_only_be_read_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.save(finding("x"), by="Ada")
    reading = open_store(f"sqlite:///file:{tmp_path}/findings.sqlite?mode=ro&uri=true", wait_seconds=0.2)
    assert reading.get(kept.id, by="Ada") == kept
    with pytest.raises(StoreError, match="may only be read"):
        reading.save(finding("y"), by="Ada")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="folder can be written to"):
        open_store(f"sqlite:///{tmp_path}/file/findings.sqlite")
    monkeypatch.setattr(arrays.os, "replace", lambda *paths: (_ for _ in ()).throw(PermissionError(13, "Not allowed")))
    with pytest.raises(StoreError, match="Not allowed"):
        store.save_arrays(kept.id, {"a": np.ones(1)}, by="Ada")
    assert list(store._folder.iterdir()) == []
