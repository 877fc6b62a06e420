"""The store: findings that last, who may see them, and what happens when two people change one.

    private   a finding is its owner's alone until the owner shares it; then everybody sees it, may add evidence, and
              label it under a name of their own. The rest is its owner's (see `changing`)
    brought   what came with a file says so, and who imported it, until it is measured here as it was planned
    saved     when `save` returns, the finding is on the disk. Until then it is as it was
    version   a change is made to the version it was read at; on another, `Conflict`, and nothing is written

A store holds no connection between calls, and may be used by any number of threads and processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import platformdirs
import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import URL

from attnviz.errors import Conflict, InputError
from attnviz.findings import Annotation, Finding, check_dates, counted
from attnviz.findings.lines import plain
from attnviz.settings import settings
from attnviz.store import arrays as files
from attnviz.store import opening, rows, tables
from attnviz.store.annotators import Agreement, agreement_of
from attnviz.store.base import GUEST, may_see
from attnviz.store.carried import MOST_ANNOTATIONS, Carried
from attnviz.store.changing import check_change
from attnviz.store.kept_arrays import KeptArrays
from attnviz.store.looking import Looked

MOST_ARRAY_BYTES = 64 << 20
WAIT_SECONDS = 30.0
GUESTS_KEEP = timedelta(days=1)


def open_store(
    url: str | URL | None = None,
    *,
    arrays_dir: str | Path | None = None,
    most_array_bytes: int = MOST_ARRAY_BYTES,
    findings_each: int | None = None,
    guest_findings: int | None = None,
    finding_bytes: int | None = None,
    store_bytes: int | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Store:
    """Open a store, or make one.

    url                a database, as SQLAlchemy has it; None: the one that the settings name, else SQLite in the user's
                       data folder
    arrays_dir         where large arrays are; None: beside the SQLite file, or else in the user's data folder
    most_array_bytes   of one finding
    findings_each      that one person keeps, and guest_findings: a guest; finding_bytes: of one as JSON, and
                       store_bytes: of all and their arrays. None: as the settings say
    wait_seconds       how long one writer waits for another
    raises             InputError for an address of nothing; StoreError for one that cannot be used: not writable,
                       damaged, another program's, or of a schema that this version does not know
    """
    limits = settings()
    home = limits.data_dir or Path(platformdirs.user_data_dir("attnviz", appauthor=False))
    address = url if url is not None else URL.create("sqlite", database=str(home / "findings.sqlite"))
    if url is None and limits.store_url is not None:
        address = limits.store_url.get_secret_value()
    engine = opening.engine_of(address, wait_seconds=wait_seconds)
    opening.make_ready(engine, wait_seconds=wait_seconds)
    folder = home / "findings.arrays"
    if engine.dialect.name == "sqlite":
        path = Path((engine.url.database or "").removeprefix("file:"))
        folder = path.with_name(f"{path.name}.arrays")
    store = Store(
        engine,
        folder if arrays_dir is None else Path(arrays_dir),
        most_array_bytes=most_array_bytes,
        findings_each=limits.findings_each if findings_each is None else findings_each,
        guest_findings=limits.guest_findings if guest_findings is None else guest_findings,
        finding_bytes=limits.finding_bytes if finding_bytes is None else finding_bytes,
        store_bytes=limits.store_bytes if store_bytes is None else store_bytes,
    )
    store.sweep()
    return store


class Store(Looked, KeptArrays, Carried):
    """See `open_store`. Every method says who asks, `by`; what that person may not see is not there."""

    def save(self, finding: Finding, *, by: str, base: int | None = None) -> Finding:
        """Keep a finding, new or changed; on the disk when this returns. Saying the same again changes nothing.

        base      the version that it was made from; None: its own, as `get`, `find` and `save` gave it
        returns   the finding as it is kept, its version counted up; what others call it is not part of it
        raises    Conflict if it was changed or removed meanwhile; InputError for a change that `by` may not make, a
                  finding that is too large, or one more than `by` may keep
        """
        by, new = rows.person(by), self._fitting(rows.checked(finding))
        check_dates(new)
        with self._writing() as db:
            row = self._row(db, new.id)
            if row is None:
                kept = self._first(db, new, by=by)
            elif not may_see(row, by):
                raise InputError("This finding's id is taken. Make a new finding.")
            else:
                kept = self._change(db, row, new, by=by, base=new.version if base is None else base)
        return kept

    def delete(self, finding: str, *, by: str) -> None:
        """Remove a finding, its arrays and what others call it; InputError for anybody but its owner."""
        by = rows.person(by)
        with self._writing() as db:
            self._owned(db, finding, by)
            old = list(db.execute(sa.select(tables.arrays.c.file).where(tables.arrays.c.finding == finding)).scalars())
            db.execute(sa.delete(tables.findings).where(tables.findings.c.id == finding))
            db.execute(sa.insert(tables.gone).values(id=finding, by=by, at=datetime.now(UTC).timestamp()))
        files.remove(self._folder, old)

    def sweep_guests(self) -> int:
        """Remove what guests kept for themselves and did not change for a day; returns how many findings.

        For a server that starts: the sessions that those guests were have ended. What they shared stays.
        """
        f, before = tables.findings.c, (datetime.now(UTC) - GUESTS_KEEP).timestamp()
        lost = f.owner.startswith(GUEST, autoescape=True), sa.not_(f.shared), f.changed < before
        with self._writing() as db:
            return int(db.execute(sa.delete(tables.findings).where(*lost)).rowcount)

    def label(
        self, finding: str, labels: Iterable[str] | None, *, by: str, confidence: float | None = None
    ) -> Annotation | None:
        """What `by` calls a finding, in place of what it was; no labels: none fits; None: takes it back."""
        by, given = rows.person(by), None
        if isinstance(labels, str):
            raise InputError(f"Labels are a list of them; got the text {labels!r}. Write [{labels!r}].")
        if labels is not None:
            try:
                given = Annotation.model_validate({"by": by, "labels": tuple(labels), "confidence": confidence})
            except ValidationError as error:
                raise InputError(f"These labels cannot be kept: {plain(error)}") from error
        with self._writing() as db:
            self._seen(db, finding, by)
            if given is None:
                rows.take_back(db, finding, by)
            else:
                c = tables.given.c
                others = sa.select(sa.func.count()).where(c.finding == finding, c.annotator != by)
                if db.execute(others).scalar_one() >= MOST_ANNOTATIONS:
                    raise InputError(f"{MOST_ANNOTATIONS:,} people label a finding at most. Keep one of your own.")
                self._fits(db, len(given.model_dump_json()))
                rows.annotate(db, finding, given)
        return given

    def labels_of(self, finding: str, *, by: str) -> tuple[Annotation, ...]:
        """What each annotator calls a finding, in the order of their names."""
        with self._reading() as db:
            self._seen(db, finding, rows.person(by))
            return tuple(rows.annotations_of(db, [finding]).get(finding, ()))

    def agreement(self, *, by: str, by_model: str | None = None, brought: bool = False) -> Agreement:
        """How far people agree on labels, over the findings, of one model or all, that `by` may see.

        An author who did not label a finding as an annotator is counted with the finding's own labels, if it has any.
        brought   count what came with files, too: its names are whatever somebody wrote there
        """
        with self._reading() as db:
            return agreement_of(rows.opinions(db, rows.person(by), by_model, brought=brought))

    def _first(self, db: sa.Connection, new: Finding, *, by: str) -> Finding:
        gone = db.execute(sa.select(tables.gone).where(tables.gone.c.id == new.id)).first()
        if gone is not None:
            at = datetime.fromtimestamp(gone.at, UTC)
            raise Conflict(
                f"{gone.by} removed this finding on {at:%d %B %Y at %H:%M} UTC. Nothing was written. Keep yours as a "
                "new finding, if it is to stay.",
                mine=new,
                by=gone.by,
                at=at,
            )
        if new.author not in ("", by):
            raise InputError("A new finding is saved by its author. Import the findings of others.")
        kept = new.model_copy(update={"author": by})
        ready = rows.ready(kept)
        self._make_room(db, by, 1)
        self._fits(db, ready.nbytes)
        rows.insert(db, [ready], owner=by)
        return kept

    def _change(self, db: sa.Connection, row: Any, new: Finding, *, by: str, base: int) -> Finding:
        kept = rows.finding_of(row)
        if rows.same(kept, new):
            return kept
        if base != row.version:
            raise rows.conflict(row, new, by=by)
        check_change(kept, new, owner=row.owner, by=by)
        now = datetime.now(UTC).replace(microsecond=0)
        changed = new.model_copy(update={"version": row.version + 1, "changed": now})
        ready = rows.ready(changed)
        self._fits(db, max(0, len(ready.values["record"]) - len(row.record)))
        rows.update(db, ready, by=by)
        added = new.evidence[len(kept.evidence) :]
        if any(one is other for one in counted(changed) for other in added):
            db.execute(sa.delete(tables.brought).where(tables.brought.c.finding == changed.id))
        return changed
