"""Corpora and results on disk: kept through a kill, shared by threads, bounded, found by their key alone."""

import multiprocessing
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnviz import errors
from attnviz.corpus import Item, Shelf, read

SHAPE = (2, 3, 2, 2)
ITEMS = [Item(f"text {i}", "ab"[i % 2], "" if i else "pair") for i in range(150)]


def values(number: int) -> tuple[int, Any, Any]:
    found = np.full(SHAPE, number, np.float32)
    found[1, 1] = np.nan
    return number, found, np.full(SHAPE[:3], number / 2, np.float32)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "folder" / "corpora.sqlite")


def test_what_is_put_comes_back_in_the_order_of_the_texts(shelf: Shelf) -> None:
    key = shelf.add(ITEMS, "Mine", ["a note"])
    known = shelf.about(key)
    assert (known.name, known.n, known.notes) == ("Mine", 150, ("a note",))
    assert [item for _, item in shelf.texts(key)] == ITEMS
    assert shelf.text(key, 7) == ITEMS[7]
    assert shelf.labels(key) == {"a": 75, "b": 75}
    shelf.begin(key, "run", SHAPE, {"model": "m"})
    shelf.put(key, "run", [values(number) for number in (149, 3, 70)])
    shelf.leave_out(key, "run", [(5, "too long")])
    found = list(shelf.results(key, "run"))
    assert [(r.number, r.label) for r in found] == [(3, "b"), (70, "a"), (149, "b")]
    np.testing.assert_array_equal(found[1].values, values(70)[1])
    np.testing.assert_array_equal(found[1].chance, values(70)[2])
    run = shelf.runs(key)[0]
    assert (run.run, run.shape, run.about, run.done, run.left) == ("run", SHAPE, {"model": "m"}, 3, {"too long": 1})
    assert shelf.done(key, "run") == 4
    assert [n for n, _ in shelf.waiting(key, "run", 5)] == [0, 1, 2, 4, 6]


def test_results_are_read_in_pages_and_all_of_them(shelf: Shelf) -> None:
    key = shelf.add(ITEMS, "Mine")
    shelf.begin(key, "run", SHAPE, {})
    shelf.put(key, "run", map(values, range(150)))
    assert [r.number for r in shelf.results(key, "run")] == list(range(150))
    assert not shelf.waiting(key, "run", 5)


def test_a_text_measured_twice_keeps_its_first_values(shelf: Shelf) -> None:
    key = shelf.add(ITEMS[:2], "Mine")
    for _ in range(2):
        shelf.begin(key, "run", SHAPE, {})
        shelf.put(key, "run", [values(1)])
    assert [r.number for r in shelf.results(key, "run")] == [1]


def test_notes_of_a_reading_are_kept_though_they_come_last(shelf: Shelf) -> None:
    reading = read("one\n\ntwo\n")
    key = shelf.add(reading, "Pasted", reading.notes)
    assert shelf.about(key).notes == ("1 text left out: empty (first at line 2).",)


def test_what_fails_while_it_is_read_leaves_nothing(shelf: Shelf) -> None:
    def broken() -> Iterator[Item]:
        yield from ITEMS
        raise errors.InputError("line 151 is broken")

    with pytest.raises(errors.InputError, match="line 151"):
        shelf.add(broken(), "Mine")
    with pytest.raises(errors.InputError, match="at least one text"):
        shelf.add([], "Mine")
    with sqlite3.connect(shelf.path) as db:
        assert db.execute("SELECT (SELECT count(*) FROM corpora) + (SELECT count(*) FROM texts)").fetchone() == (0,)
    db.close()


def test_a_corpus_that_everybody_knows_is_kept_once(shelf: Shelf) -> None:
    assert not shelf.holds("own")
    assert shelf.add(ITEMS, "Own", key="own") == "own"
    assert shelf.add(ITEMS[:3], "Other", key="own") == "own"
    assert shelf.holds("own")
    assert shelf.about("own").n == 150
    assert len(list(shelf.texts("own"))) == 150


def test_the_least_recently_used_corpora_make_room(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "corpora.sqlite", most_bytes=400_000)
    large = [Item("x" * 10_000)] * 15
    first, second = shelf.add(large, "First"), shelf.add(large, "Second")
    shelf.begin(first, "run", SHAPE, {})
    shelf.put(first, "run", [values(0)])
    third = shelf.add(large, "Third")
    assert [shelf.holds(key) for key in (first, second, third)] == [True, False, True]
    with pytest.raises(errors.InputError, match="made room"):
        shelf.about(second)
    with pytest.raises(errors.InputError, match="made room"):
        shelf.put(second, "run", [values(0)])
    with pytest.raises(errors.InputError, match="ATTNVIZ_CORPORA_BYTES"):
        shelf.add([Item("x" * 10_000)] * 50, "Too large")
    assert shelf.holds(third)
    shelf.remove(first)
    assert not shelf.holds(first)
    assert shelf.path.stat().st_size < 500_000


def test_what_is_half_read_takes_room_too(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "corpora.sqlite", most_bytes=400_000)
    first = shelf.add([Item("x" * 10_000)] * 15, "First")
    second = shelf.add([Item("x" * 10_000)] * 15, "Second")
    held: list[bool] = []

    def reading() -> Iterator[Item]:
        yield from [Item("x")] * 1000
        yield Item("y")
        held.extend(shelf.holds(key) for key in (first, second))

    shelf.add(reading(), "Third")
    assert held == [False, True]


@pytest.mark.parametrize("use", ["results", "texts", "text"])
def test_what_is_read_counts_as_used_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str) -> None:
    shelf = Shelf(tmp_path / "corpora.sqlite", most_bytes=400_000)
    large = [Item("x" * 10_000)] * 15
    first, second = shelf.add(large, "First"), shelf.add(large, "Second")
    shelf.begin(first, "run", SHAPE, {})
    shelf.put(first, "run", [values(0)])
    with sqlite3.connect(shelf.path) as db:
        db.execute("UPDATE corpora SET used=used-1000*(1+(key=?))", (first,))
    db.close()
    calls = {"results": lambda: list(shelf.results(first, "run")), "texts": lambda: list(shelf.texts(first))}
    calls["text"] = lambda: shelf.text(first, 3)
    calls[use]()
    used = shelf.about(first).used
    calls[use]()
    assert shelf.about(first).used == used
    shelf.add(large, "Third")
    assert [shelf.holds(key) for key in (first, second)] == [True, False]


@pytest.mark.parametrize("use", ["results", "texts"])
def test_a_corpus_that_goes_while_it_is_read_is_no_end(shelf: Shelf, use: str) -> None:
    key = shelf.add(ITEMS, "Mine")
    shelf.begin(key, "run", SHAPE, {})
    shelf.put(key, "run", map(values, range(150)))
    rows = iter(shelf.results(key, "run") if use == "results" else shelf.texts(key))
    next(rows)
    shelf.remove(key)
    with pytest.raises(errors.InputError, match="not here any more"):
        list(rows)


def test_what_is_measured_twice_takes_room_once(shelf: Shelf) -> None:
    key = shelf.add(ITEMS[:4], "Mine")
    shelf.begin(key, "run", SHAPE, {})
    shelf.put(key, "run", [values(0), values(1)])
    once = shelf.about(key).nbytes
    shelf.put(key, "run", [values(0), values(1)])
    shelf.leave_out(key, "run", [(0, "too long")])
    assert shelf.about(key).nbytes == once
    shelf.put(key, "run", [values(1), values(2)])
    assert shelf.about(key).nbytes > once


def test_bytes_are_counted_as_the_file_grows(shelf: Shelf) -> None:
    key = shelf.add([Item("a text")] * 500, "Mine")
    shelf.begin(key, "r" * 32, (2, 7, 6, 12), {})
    large = np.ones((2, 7, 6, 12), np.float32)
    for start in range(0, 500, 50):
        shelf.put(key, "r" * 32, [(n, large, large[..., 0]) for n in range(start, start + 50)])
    with sqlite3.connect(shelf.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    size = shelf.path.stat().st_size
    assert 0.9 * size < shelf.about(key).nbytes < 1.3 * size


def test_only_the_owner_can_open_the_folder(shelf: Shelf) -> None:
    shelf.add(ITEMS, "Mine")
    assert stat.S_IMODE(shelf.path.parent.stat().st_mode) == 0o700
    assert len(shelf.add(ITEMS, "Mine")) >= 20


def test_a_file_of_another_format_or_none_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(ITEMS, "Mine")
    with sqlite3.connect(shelf.path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(errors.InputError, match="its format is 99"):
        shelf.add(ITEMS, "Mine")
    other = tmp_path / "other.sqlite"
    other.write_text("no database at all, but long enough to look at" * 50)
    with pytest.raises(errors.InputError, match="cannot be used"):
        Shelf(other).add(ITEMS, "Mine")
    with pytest.raises(errors.InputError, match="cannot be used"):
        Shelf(other / "under a file" / "corpora.sqlite").add(ITEMS, "Mine")


def test_unknown_numbers_and_runs(shelf: Shelf) -> None:
    key = shelf.add(ITEMS, "Mine")
    with pytest.raises(errors.InputError, match="texts 0 to 149"):
        shelf.text(key, 150)
    with pytest.raises(errors.InputError, match="no run"):
        list(shelf.results(key, "none"))


def test_threads_write_and_read_at_the_same_time(shelf: Shelf) -> None:
    failed: list[BaseException] = []
    keys: list[str] = []

    def work(start: int) -> None:
        try:
            mine = shelf.add(ITEMS, "Mine")
            keys.append(mine)
            shelf.begin(mine, "run", SHAPE, {})
            for number in range(0, 100, 10):
                shelf.put(mine, "run", map(values, range(number, number + 10)))
                assert sum(1 for _ in shelf.results(mine, "run")) == number + 10
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [shelf.done(key, "run") for key in keys] == [100] * 4


def test_a_kill_keeps_all_that_was_put(shelf: Shelf) -> None:
    key = shelf.add(ITEMS, "Mine")
    shelf.begin(key, "run", SHAPE, {})
    reading, writing = os.pipe()

    def put_all() -> None:
        for number in range(150):
            shelf.put(key, "run", [values(number)])
            os.write(writing, bytes([number]))

    process = multiprocessing.get_context("fork").Process(target=put_all)
    process.start()
    said = [os.read(reading, 1)[0] for _ in range(20)]
    process.kill()
    process.join()
    os.close(writing)
    said.extend(os.read(reading, 200))
    os.close(reading)
    assert len(said) < 150
    kept = [r.number for r in shelf.results(key, "run")]
    assert kept[: len(said)] == said
    assert len(kept) <= len(said) + 1
