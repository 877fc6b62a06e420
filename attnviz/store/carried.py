"""The part of a store that writes findings to files, and takes them in again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Unpack

import sqlalchemy as sa

from attnviz.errors import Conflict, InputError, StoreError
from attnviz.findings import Annotation, Finding, check_dates
from attnviz.findings.lines import MOST_LINES, to_lines
from attnviz.store import exchange, rows, tables
from attnviz.store.base import Base, may_see
from attnviz.store.shorn import shorn

MOST_ROWS = 500_000  # of heads, labels and people that one import writes, so that nobody waits long for the store
MOST_ANNOTATIONS = 1_000  # of a finding, as a file holds them
_BATCH, _ROUNDS = 50, 5


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the findings of a file, by id; `conflicts` are those whose id is here with something else."""

    imported: tuple[str, ...]
    same: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True)
class _Brought:
    """A finding of a file: as it stands there, as it would be kept, and what people are said to call it."""

    one: Finding
    new: Finding
    given: tuple[Annotation, ...]
    row: rows.Ready


@dataclass(frozen=True, slots=True)
class _Here:
    """What is here under the id of a finding of a file; `conflict` None: the same."""

    version: int
    owner: str
    conflict: Conflict | None


class Carried(Base):
    """Export and import."""

    def export_findings(
        self, *, by: str, as_csv: bool = False, left_out: list[str] | None = None, **asked: Unpack[rows.Asked]
    ) -> str:
        """Findings that `by` may see, with what everybody calls them, as JSON Lines or CSV: the oldest change first.

        left_out   takes the ids of those that cannot be read, and are not in it
        asked      what they are looked for by: `rows.Asked`; nothing: all
        raises     InputError for more than can be imported again, before any is read
        """
        f, where = tables.findings.c, rows.wanted(by=rows.person(by), **asked)
        with self._reading() as db:
            counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(f.record)), 0))
            n, size = db.execute(counted.select_from(tables.findings).where(*where)).one()
            if n > MOST_LINES or size > exchange.MOST_BYTES:
                raise InputError(
                    f"These are {n:,} findings of {size / 1e6:,.0f} MB, more than a file may hold: search for some of "
                    "them, or export them by their ids."
                )
            ids = list(db.execute(sa.select(f.id).where(*where).order_by(f.changed, f.id)).scalars())
            whole = _some(db, ids, left_out)
            return exchange.to_csv(whole) if as_csv else to_lines(whole)

    def import_findings(self, data: str | bytes, *, by: str, as_csv: bool = False, name: str = "the file") -> Imported:
        """Findings of an export, all that are new or, where this raises, none; `by` owns them, their authors stay.

        They are private to `by`, whatever the file says, and say that `by` brought them. A finding that is here as it
        is in the file, shared or not, is left; one that is here otherwise is a conflict, and left too. All is worked
        out before the store is locked.
        raises   InputError naming the line for what cannot be read; for a finding that is too large, or too many;
                 StoreError where the store is full, or is changed all the time meanwhile
        """
        by, found = rows.person(by), exchange.read(data, as_csv=as_csv, name=name)
        several = [self._ready(one, by) for one in found]
        if sum(one.row.n_rows for one in several) > MOST_ROWS:
            raise InputError(f"{name} names more than {MOST_ROWS:,} heads and labels: split it.")
        for _ in range(_ROUNDS):
            done = self._taken(several, self._compared(several, by), by)
            if done is not None:
                return done
        raise StoreError("The same findings are being changed here all the time. Nothing was imported: try again.")

    def _ready(self, one: Finding, by: str) -> _Brought:
        """As it is kept: private, and too large for nobody."""
        private = one.model_copy(update={"author": one.author or by, "shared": False})
        try:
            check_dates(one)
            new = self._fitting(rows.checked(private))
        except InputError as error:
            raise InputError(f"Finding {one.id}: {error}") from error
        given = [note.model_copy(update={"brought_by": "" if note.by == by else by}) for note in one.annotations]
        return _Brought(one, new, tuple(given), rows.ready(new, given))

    def _compared(self, several: Sequence[_Brought], by: str) -> dict[str, _Here]:
        """What is here under the ids of a file."""
        here = {}
        with self._reading() as db:
            for one in several:
                row = self._row(db, one.new.id)
                if row is not None:
                    here[one.new.id] = _Here(row.version, row.owner, _conflict(row, one, by))
        return here

    def _taken(self, several: Sequence[_Brought], here: Mapping[str, _Here], by: str) -> Imported | None:
        """Write what is new; None where what is here is not what was compared any more."""
        new = [one for one in several if one.new.id not in here]
        same = [one for one in several if one.new.id in here and here[one.new.id].conflict is None]
        ids, f = [one.new.id for one in several], tables.findings.c
        with self._writing() as db:
            found = {row.id: row.version for row in db.execute(sa.select(f.id, f.version).where(f.id.in_(ids)))}
            if found != {one: kept.version for one, kept in here.items()}:
                return None
            self._make_room(db, by, len(new))
            self._fits(db, sum(one.row.nbytes for one in new))
            db.execute(sa.delete(tables.gone).where(tables.gone.c.id.in_([one.new.id for one in new])))
            rows.insert(db, [one.row for one in new], owner=by)
            at = datetime.now(UTC).timestamp()
            marks = [{"finding": one.new.id, "by": by, "at": at} for one in new]
            if marks:
                db.execute(sa.insert(tables.brought), marks)
            for one in same:
                if one.given and here[one.new.id].owner == by:
                    self._bring(db, one)
        conflicts = [here[one].conflict for one in ids if one in here]
        return Imported(
            tuple(one.new.id for one in new),
            tuple(one.new.id for one in same),
            tuple(one for one in conflicts if one is not None),
        )

    def _bring(self, db: sa.Connection, one: _Brought) -> None:
        """The annotations of a finding that is here already, of those who have none, as far as there is room."""
        c = tables.given.c
        here = set(db.execute(sa.select(c.annotator).where(c.finding == one.new.id)).scalars())
        for note in one.given:
            name = rows.encodable(note.by)
            if name not in here and len(here) < MOST_ANNOTATIONS:
                rows.annotate(db, one.new.id, note)
                here.add(name)


def _conflict(row: object, one: _Brought, by: str) -> Conflict | None:
    if not may_see(row, by):
        return Conflict("This finding's id is taken here. Nothing was written.", mine=one.one)
    try:
        kept = rows.finding_of(row)
    except StoreError as error:
        return Conflict(f"{error} Or remove it first, and import this again.", mine=one.one)
    if rows.same(shorn(kept).model_copy(update={"shared": False}), shorn(one.new)):
        return None
    return rows.conflict(row, one.one, by=by)


def _some(db: sa.Connection, ids: Sequence[str], left_out: list[str] | None) -> Iterator[Finding]:
    """Whole findings, a few at a time, with what others call them and without folders of this machine."""
    f = tables.findings.c
    for start in range(0, len(ids), _BATCH):
        some = ids[start : start + _BATCH]
        given = rows.annotations_of(db, some)
        for one in some:
            for found in rows.readable(db.execute(sa.select(f.id, f.record).where(f.id == one)), left_out):
                yield shorn(rows.with_annotations(found, given))
