"""Corpora and what was measured on them, in one SQLite file of the user's data folder.

    corpora   key, name, when it was made and last used, number of texts, bytes, notes
    texts     of a corpus: number, text, label, pair
    runs      of a corpus: what was measured with which model, and the shape of one text's result
    results   of a run: a text's number and its values, or why it was left out

A run that is stopped, or killed, keeps every text that was put before. The file is bounded: the least recently used
corpora go. Every call opens a connection of its own, so threads and processes share a shelf freely. A corpus is found
by its key alone, which nobody can guess: there are no users here to tell apart.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from attnviz.corpus.records import Array, Corpus, Item, Result, Run
from attnviz.errors import InputError
from attnviz.settings import settings

VERSION = 1
_PAGE = 64  # rows read at once: results are some ten kilobytes each
_WAIT_SECONDS = 60
_HALF_READ_SECONDS = 24 * 3600
_ROW_BYTES = 200  # what a row takes besides its texts and values: keys, twice for results, and their index
_TOUCHED_SECONDS = 60  # how exactly it is known when a corpus was last used

_TABLES = """
CREATE TABLE corpora (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL,
    n INTEGER NOT NULL, bytes INTEGER NOT NULL, notes TEXT NOT NULL
);
CREATE TABLE texts (
    corpus TEXT NOT NULL REFERENCES corpora ON DELETE CASCADE ON UPDATE CASCADE, number INTEGER NOT NULL,
    text TEXT NOT NULL, label TEXT NOT NULL, pair TEXT NOT NULL, PRIMARY KEY (corpus, number)
) WITHOUT ROWID;
CREATE TABLE runs (
    corpus TEXT NOT NULL REFERENCES corpora ON DELETE CASCADE, run TEXT NOT NULL,
    started REAL NOT NULL, shape TEXT NOT NULL, about TEXT NOT NULL, PRIMARY KEY (corpus, run)
) WITHOUT ROWID;
CREATE TABLE results (
    corpus TEXT NOT NULL REFERENCES corpora ON DELETE CASCADE, run TEXT NOT NULL, number INTEGER NOT NULL,
    found BLOB, chance BLOB, reason TEXT NOT NULL, PRIMARY KEY (corpus, run, number)
);
"""


class Shelf:
    """The corpora in one file, made when it is first needed.

    path         the file; None: in the folder of the settings
    most_bytes   of all corpora with their results; None: as the settings say
    """

    def __init__(self, path: str | Path | None = None, *, most_bytes: int | None = None) -> None:
        folder = settings().data_dir or Path(platformdirs.user_data_dir("attnviz", appauthor=False))
        self.path = Path(path) if path is not None else folder / "corpora.sqlite"
        self.most_bytes = settings().corpora_bytes if most_bytes is None else most_bytes

    def add(self, items: Iterable[Item], name: str, notes: Sequence[str] = (), *, key: str | None = None) -> str:
        """Keep the texts of a corpus, all or none of them; returns its key.

        notes    what to remember of them; read when all of `items` are, so a `Reading`'s own notes are complete
        key      of a corpus that everybody may know; one that is here already stays as it is. None: an unguessable one
        raises   InputError for no text, or more than the shelf can hold; what `items` raises
        """
        new, now, n, size = secrets.token_urlsafe(16), time.time(), 0, 0
        pages = iter(items)
        with self._open() as db:
            with db:
                db.execute("INSERT INTO corpora VALUES (?, ?, ?, ?, 0, 0, '[]')", (new, name, now, now))
            # Reading may take minutes: a page at a time, other threads may write in between.
            try:
                while page := list(islice(pages, 1000)):
                    with db:
                        rows = [(new, n + i, *item) for i, item in enumerate(page)]
                        db.executemany("INSERT INTO texts VALUES (?, ?, ?, ?, ?)", rows)
                    n += len(page)
                    size += sum(_ROW_BYTES + sum(len(part.encode()) for part in item) for item in page)
                    self._check(size)
                    with db:  # what is half read takes room, too
                        db.execute("UPDATE corpora SET bytes=? WHERE key=?", (size, new))
                        self._make_room(db, new)
                if not n:
                    raise InputError("A corpus needs at least one text; got none. Check the file, and the text column.")
                with db:
                    told = json.dumps(list(notes))
                    db.execute("UPDATE corpora SET n=?, bytes=?, notes=? WHERE key=?", (n, size, told, new))
                    self._make_room(db, new)
                if key is not None:
                    with db:
                        db.execute("UPDATE OR IGNORE corpora SET key=? WHERE key=?", (key, new))
                        db.execute("DELETE FROM corpora WHERE key=?", (new,))
            except BaseException:
                with db:
                    db.execute("DELETE FROM corpora WHERE key=?", (new,))
                raise
        return key or new

    def holds(self, key: str) -> bool:
        """Whether a corpus is here."""
        with self._open() as db:
            return db.execute("SELECT 1 FROM corpora WHERE key=? AND n>0", (key,)).fetchone() is not None

    def about(self, key: str) -> Corpus:
        """What is known of a corpus; InputError for a key that is not, or no longer, here."""
        with self._open() as db:
            return self._about(db, key)

    def remove(self, key: str) -> None:
        with self._open() as db, db:
            db.execute("DELETE FROM corpora WHERE key=?", (key,))

    def text(self, key: str, number: int) -> Item:
        """One text; InputError where there is none of that number."""
        with self._open() as db:
            known = self._about(db, key)
            self._touch(db, known)
            found = db.execute(
                "SELECT text, label, pair FROM texts WHERE corpus=? AND number=?", (key, number)
            ).fetchone()
        if found is None:
            raise InputError(f"'{known.name}' has texts 0 to {known.n - 1}; got {number!r}.")
        return Item(*found)

    def texts(self, key: str) -> Iterator[tuple[int, Item]]:
        """(number, text) of all texts in order, some at a time; InputError once the corpus is not here any more."""
        self.about(key)
        rows = self._pages("SELECT number, text, label, pair FROM texts WHERE corpus=? AND number>?", (key,))
        return ((number, Item(*item)) for number, *item in rows)

    def labels(self, key: str) -> dict[str, int]:
        """How many texts have each label, the commonest first."""
        with self._open() as db:
            counted = "SELECT label, count(*) c FROM texts WHERE corpus=? GROUP BY label ORDER BY c DESC, label"
            return dict(db.execute(counted, (key,)))

    def begin(self, key: str, run: str, shape: Sequence[int], about: dict[str, Any]) -> None:
        """Make a run known; one that is known already goes on."""
        with self._open() as db, db:
            self._about(db, key)
            values = (key, run, time.time(), json.dumps(list(shape)), json.dumps(about))
            db.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?)", values)

    def runs(self, key: str) -> list[Run]:
        """The runs of a corpus, the oldest first."""
        with self._open() as db:
            known = db.execute("SELECT run, started, shape, about FROM runs WHERE corpus=? ORDER BY started", (key,))
            return [
                Run(run, started, tuple(json.loads(shape)), json.loads(about), *self._state(db, key, run))
                for run, started, shape, about in known.fetchall()
            ]

    def one_run(self, key: str, run: str) -> Run:
        """One run; InputError where it, or its corpus, is not here."""
        found = next((known for known in self.runs(key) if known.run == run), None)
        if found is None:
            raise InputError(f"'{self.about(key).name}' has no run of that name. Measure it first.")
        return found

    def done(self, key: str, run: str) -> int:
        """How many texts need no more work: they have values, or were left out."""
        with self._open() as db:
            done, left = self._state(db, key, run)
        return done + sum(left.values())

    def waiting(self, key: str, run: str, most: int) -> list[tuple[int, Item]]:
        """The first texts that neither have values nor were left out."""
        asked = (
            "SELECT number, text, label, pair FROM texts t WHERE corpus=? AND NOT EXISTS (SELECT 1 FROM results r "
            "WHERE r.corpus=t.corpus AND r.run=? AND r.number=t.number) ORDER BY number LIMIT ?"
        )
        with self._open() as db:
            return [(number, Item(*item)) for number, *item in db.execute(asked, (key, run, most))]

    def put(self, key: str, run: str, found: Iterable[tuple[int, Array, Array]]) -> None:
        """Keep the values and chance levels of some texts, by number: once this returns, no kill loses them.

        raises   InputError for a corpus that was let go, or results that leave no room for themselves
        """
        rows = [(key, run, number, _blob(values), _blob(chance), "") for number, values, chance in found]
        self._keep(key, rows)

    def leave_out(self, key: str, run: str, reasons: Iterable[tuple[int, str]]) -> None:
        """Say of texts, by number, why they have no values."""
        self._keep(key, [(key, run, number, None, None, reason) for number, reason in reasons])

    def results(self, key: str, run: str) -> Iterator[Result]:
        """What was found, in the order of the texts, some at a time; NaN where a detector has no row.

        raises   InputError for a run that is not here, and once its corpus is not here any more
        """
        shape = self.one_run(key, run).shape
        rows = self._pages(
            "SELECT number, label, found, chance FROM results JOIN texts USING (corpus, number) "
            "WHERE corpus=? AND run=? AND found IS NOT NULL AND number>?",
            (key, run),
        )
        for number, label, found, chance in rows:
            values = np.frombuffer(found, np.float32).reshape(shape)
            yield Result(number, label, values, np.frombuffer(chance, np.float32).reshape(shape[:3]))

    def _keep(self, key: str, rows: list[tuple[Any, ...]]) -> None:
        asked, size = "INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?)", 0
        with self._open() as db, db:
            known = self._about(db, key)
            for row in rows:  # what another session was first to measure takes no more room
                taken = _ROW_BYTES + len(row[3] or b"") + len(row[4] or b"")
                size += taken if db.execute(asked, row).rowcount else 0
            self._check(known.nbytes + size)
            db.execute("UPDATE corpora SET bytes=bytes+?, used=? WHERE key=?", (size, time.time(), key))
            self._make_room(db, key)

    def _check(self, size: int) -> None:
        if size > self.most_bytes:
            raise InputError(
                f"This corpus with its results takes more than the {self.most_bytes / 1e6:,.0f} MB that the server "
                "keeps. Take fewer texts, or set ATTNVIZ_CORPORA_BYTES higher."
            )

    def _make_room(self, db: sqlite3.Connection, kept: str) -> None:
        """Let the least recently used corpora go until the rest fits, and what a kill left half read."""
        db.execute("DELETE FROM corpora WHERE n=0 AND key<>? AND created<?", (kept, time.time() - _HALF_READ_SECONDS))
        total = db.execute("SELECT sum(bytes) FROM corpora").fetchone()[0]
        for key, size in db.execute("SELECT key, bytes FROM corpora WHERE key<>? AND n>0 ORDER BY used", (kept,)):
            if total <= self.most_bytes:
                return
            db.execute("DELETE FROM corpora WHERE key=?", (key,))
            total -= size

    def _touch(self, db: sqlite3.Connection, known: Corpus) -> None:
        """Note that a corpus is used; rarely, since that is a write."""
        if (now := time.time()) - known.used > _TOUCHED_SECONDS:
            with db:
                db.execute("UPDATE corpora SET used=? WHERE key=?", (now, known.key))

    def _about(self, db: sqlite3.Connection, key: str) -> Corpus:
        found = db.execute("SELECT * FROM corpora WHERE key=?", (key,)).fetchone()
        if found is None:
            raise InputError("This corpus is not here any more: it made room for newer ones. Add its texts again.")
        *fields, notes = found
        return Corpus._make((*fields, tuple(json.loads(notes))))

    def _state(self, db: sqlite3.Connection, key: str, run: str) -> tuple[int, dict[str, int]]:
        counted = "SELECT reason, count(*) FROM results WHERE corpus=? AND run=? GROUP BY reason"
        counts = dict(db.execute(counted, (key, run)))
        return counts.pop("", 0), counts

    def _pages(self, asked: str, keys: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
        """The rows of a query that ends in `number>?`; no page's connection outlives it, so readers stop no writer.

        keys   the corpus's, which is used, and has to be here to the end, and others of the query
        """
        after = -1
        while True:
            with self._open() as db:
                rows = db.execute(f"{asked} ORDER BY number LIMIT {_PAGE}", (*keys, after)).fetchall()
                self._touch(db, self._about(db, keys[0]))
            yield from rows
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if not version:
                    self._create(db)
                elif version != VERSION:
                    raise InputError(
                        f"{self.path.name} was written by another version of AttnViz: its format is {version}, this "
                        f"one reads {VERSION}. Set ATTNVIZ_DATA_DIR to another folder, or move the file away."
                    )
                db.execute("PRAGMA foreign_keys=ON")
                # A kill loses nothing that was committed; only a power cut may lose the last texts, and none else.
                db.execute("PRAGMA synchronous=NORMAL")
                yield db
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"{self.path.name} cannot be used ({error}). Check that the folder can be written to and has room; if the "
            "file is damaged, move it away."
        )

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA auto_vacuum=FULL")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("PRAGMA user_version").fetchone()[0]:  # else another thread was first
            for statement in _TABLES.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={VERSION}")
        db.commit()


def _blob(values: Array) -> bytes:
    return np.ascontiguousarray(values, np.float32).tobytes()
