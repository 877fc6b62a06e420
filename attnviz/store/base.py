"""What every part of a store stands on: its database, short transactions, and who may see which row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from attnviz.errors import InputError, StoreError
from attnviz.findings import Finding
from attnviz.store import opening, rows, tables

GUEST = "guest "  # how the name of somebody begins who gave none; nobody can take such a one


class Base:
    """A database and a folder for arrays; no connection is held between calls."""

    def __init__(
        self,
        engine: sa.Engine,
        folder: Path,
        *,
        most_array_bytes: int,
        findings_each: int,
        guest_findings: int,
        finding_bytes: int,
        store_bytes: int,
    ) -> None:
        self._engine, self._folder, self._most_array_bytes = engine, folder, most_array_bytes
        self._findings_each, self._guest_findings = findings_each, guest_findings
        self._finding_bytes, self._store_bytes = finding_bytes, store_bytes
        self._name = opening.name_of(engine.url)

    def __repr__(self) -> str:
        return f"Store({self._name})"

    def _row(self, db: sa.Connection, finding: str) -> Any:
        """A finding's row, held until the end of a transaction that writes."""
        query = sa.select(tables.findings).where(tables.findings.c.id == rows.encodable(finding))
        writes = db.get_execution_options().get(opening.WRITES, False)
        return db.execute(query.with_for_update() if writes else query).first()

    def _seen(self, db: sa.Connection, finding: str, by: str) -> Any:
        row = self._row(db, finding)
        if row is None or not may_see(row, by):
            raise InputError(
                "There is no such finding here for you: it was removed, or is not shared. Look for it anew."
            )
        return row

    def _owned(self, db: sa.Connection, finding: str, by: str) -> Any:
        row = self._seen(db, finding, by)
        if row.owner != by:
            raise InputError(f"Only {row.owner}, who keeps this finding here, can do that. Ask them, or save a copy.")
        return row

    def _fitting(self, finding: Finding) -> Finding:
        """The finding; InputError for one that is larger than this store keeps."""
        size = len(finding.model_dump_json().encode())
        if size > self._finding_bytes:
            raise InputError(
                f"This finding has {size:,} bytes, and at most {self._finding_bytes:,} are kept: leave out its "
                "picture, or texts and evidence that are not needed."
            )
        return finding

    def _make_room(self, db: sa.Connection, by: str, n: int) -> None:
        """InputError where `by` would keep more than this store lets one person keep."""
        here = sa.select(sa.func.count()).select_from(tables.findings).where(tables.findings.c.owner == by)
        kept, guest = db.execute(here).scalar_one(), by.startswith(GUEST)
        most = min(self._findings_each, self._guest_findings) if guest else self._findings_each
        if kept + n > most:
            who = "A guest" if guest else "One person"
            raise InputError(
                f"{who} keeps at most {most:,} findings here; you keep {kept:,}, and {n:,} would be new. Export some "
                "and remove them, and then try again."
            )

    def _fits(self, db: sa.Connection, nbytes: int) -> None:
        """StoreError where so many more bytes are more than the whole store may take."""
        kept = db.execute(sa.select(sa.func.coalesce(sa.func.sum(tables.arrays.c.nbytes), 0))).scalar_one()
        if self._engine.dialect.name == "sqlite":  # pages in use: what is removed makes room
            pages, free, size = (
                db.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("page_count", "freelist_count", "page_size")
            )
            kept += (pages - free) * size
        if kept + nbytes > self._store_bytes:
            raise StoreError(
                f"This server keeps {self._store_bytes / 1e6:,.0f} MB of findings at most, and they are full. Remove "
                "some that are not needed, or have the operator raise ATTNVIZ_STORE_BYTES. What was kept before is as "
                "it was."
            )

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with opening.in_words(self._name), self._engine.begin() as db:
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with opening.in_words(self._name), self._engine.execution_options(**{opening.WRITES: True}).begin() as db:
            yield db


def may_see(row: Any, by: str) -> bool:
    """Whether a finding's row is this person's, or shared."""
    return row.owner == by or bool(row.shared)
