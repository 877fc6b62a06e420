"""Opening a store's database: how SQLite is set, which schemas are known, and what its errors are in words.

SQLite: a write-ahead log, so readers stop no writer; every commit is on the disk before it is acknowledged (synchronous
FULL); a writer takes the lock when it begins, so two writers wait for each other and never fail half way. Each call has
a connection of its own: threads, processes and forks share a store freely. Other databases have SQLAlchemy's pool.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from attnviz.errors import InputError, StoreError
from attnviz.store import briefs, tables

_OLDER = (1, 2)  # schemas that are made into this one when they are opened
WRITES = "attnviz_writes"  # an execution option: this connection's transactions write

_SAID = {
    sqlite3.SQLITE_FULL: "the disk is full. Make room, and save again",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written, or a limit on the size of files was met. Make room, "
    "check the disk, and try again",
    sqlite3.SQLITE_READONLY: "it may only be read. Give this user the right to write to the file and to its folder",
    sqlite3.SQLITE_BUSY: "another program holds it locked. Try again, or end that program",
    sqlite3.SQLITE_LOCKED: "another program holds it locked. Try again, or end that program",
    sqlite3.SQLITE_CORRUPT: "the file is damaged. Move it away, and import the last export into a new one",
    sqlite3.SQLITE_NOTADB: "the file is damaged, or no database. Move it away, and import the last export into a new "
    "one",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened. Check that the folder is there and this user may write to it",
    sqlite3.SQLITE_TOOBIG: "a text is too long for the database. Shorten it",
}


def name_of(url: URL) -> str:
    """What a database is called in messages: never its user, password, host or folder."""
    return f"{url.get_backend_name()} database '{Path(url.database or '').name}'"


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """Turn what the database raises into a StoreError that says what to do."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = (isinstance(error, DBAPIError) and error.orig) or error
        code, kind = getattr(cause, "sqlite_errorcode", None), type(cause).__name__
        said = _SAID.get(code & 0xFF) if isinstance(code, int) else None
        said = (
            said or f"it answered with {kind}. Check that it runs, that this user may write to it, and that it has room"
        )
        raise StoreError(f"The {name} did not do it: {said}. What was kept before is as it was.") from error


def engine_of(address: str | URL, *, wait_seconds: float) -> sa.Engine:
    """An engine for a database, which need not be there yet; nothing is opened.

    wait_seconds   how long a write waits for another one
    raises         InputError for an address that names no file, or nothing that SQLAlchemy knows
    """
    try:
        url = make_url(address)
        if url.get_backend_name() != "sqlite":
            return sa.create_engine(url, hide_parameters=True, pool_pre_ping=True)
        if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
            raise InputError("A store is a file that lasts: name it, as in sqlite:///findings.sqlite.")
        engine = sa.create_engine(
            url, hide_parameters=True, poolclass=sa.NullPool, connect_args={"timeout": wait_seconds}
        )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        # What SQLAlchemy says may quote the address, and the address may hold a password.
        raise InputError(
            "The store's address is not one that can be opened here. Expected one like sqlite:///findings.sqlite or "
            "postgresql+psycopg://user@host/name, with that database's driver installed."
        ) from None
    sa.event.listen(engine, "connect", _set_up)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # `_begin` begins
    for setting in ("foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def make_ready(engine: sa.Engine, *, wait_seconds: float) -> None:
    """Make the tables if there are none, and what an older store lacks; any number of processes may do so at once.

    raises   StoreError for a schema that is newer or unknown, or a file of something else
    """
    name = name_of(engine.url)
    if engine.dialect.name == "sqlite":
        with _folder_in_words():
            _make_file(engine.url)
    with in_words(name):
        known = _version(engine, name)  # before anything is set: the file may be somebody else's
        if engine.dialect.name == "sqlite":
            _write_ahead(engine, wait_seconds)
        if known == tables.VERSION:
            return
        try:
            with engine.execution_options(**{WRITES: True}).begin() as db:
                if not sa.inspect(db).has_table(tables.schema.name):  # else another process was first
                    tables.metadata.create_all(db)
                    db.execute(sa.insert(tables.schema).values(version=tables.VERSION))
                else:
                    _upgrade(db)
        except DBAPIError:  # where tables are not made in a transaction that others wait for
            if _version(engine, name) != tables.VERSION:
                raise
        _version(engine, name)


def _upgrade(db: sa.Connection) -> None:
    """Make of an older store one of this version, once: whoever comes second finds it done.

    Every finding is read by today's rules, and what another one keeps than its author was brought by them.
    """
    version = tables.schema.c.version
    if db.execute(sa.select(version).with_for_update()).scalar() in _OLDER:
        tables.briefs.create(db, checkfirst=True)
        briefs.write_all(db)
        tables.brought.create(db, checkfirst=True)
        f, names = tables.findings.c, ["finding", "by", "at"]
        brought = sa.select(f.id, f.owner, f.changed).where(f.owner != f.author)
        db.execute(sa.insert(tables.brought).from_select(names, brought))
        db.execute(sa.update(tables.schema).values(version=tables.VERSION))


def _version(engine: sa.Engine, name: str) -> int:
    """Which schema is there, 0 for none; StoreError for one that is not known, or another program's tables."""
    with engine.connect() as db:
        found = set(sa.inspect(db).get_table_names())
        if tables.schema.name not in found:
            if any(one.startswith("attnviz_") for one in found) or (found and engine.dialect.name == "sqlite"):
                raise StoreError(f"The {name} holds the tables of something else. Give the store one of its own.")
            return 0
        versions = list(db.execute(sa.select(tables.schema.c.version)).scalars())
    if len(versions) != 1 or versions[0] not in (*_OLDER, tables.VERSION):
        told = " and ".join(map(str, versions)) or "not written down"
        raise StoreError(
            f"The {name} was written by another version of AttnViz: its schema is {told}, this one knows "
            f"{tables.VERSION}. Use that version to export the findings, or give the store another database."
        )
    return int(versions[0])


def _write_ahead(engine: sa.Engine, wait_seconds: float) -> None:
    """Set the journal, which stays set. SQLite does not wait for a lock here, so this does.

    Where the file system cannot have a write-ahead log, SQLite keeps its older journal, which is as safe.
    """
    deadline = time.monotonic() + wait_seconds
    with engine.connect() as db:
        raw: Any = db.connection.driver_connection  # outside a transaction, where alone it can be set
        if raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        while True:
            try:
                raw.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def _make_file(url: URL) -> None:
    """The file and its folder, for this user alone; SQLite gives its log the same rights."""
    if url.query.get("uri"):
        return
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


@contextmanager
def _folder_in_words() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"The store's file cannot be made: {reason}. Check that its folder can be written to and has room."
        ) from error
