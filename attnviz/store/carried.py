"""The part of a store that writes findings to files, and takes them in again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from attnviz.errors import Conflict, InputError
from attnviz.findings import Finding
from attnviz.findings.lines import MOST_LINES, to_lines
from attnviz.store import exchange, rows, tables
from attnviz.store.base import Base, may_see


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the findings of a file, by id; `conflicts` are those whose id is here with something else."""

    imported: tuple[str, ...]
    same: tuple[str, ...]
    conflicts: tuple[Conflict, ...]


class Carried(Base):
    """Export and import."""

    def export_findings(self, *, by: str, ids: Iterable[str] | None = None, as_csv: bool = False) -> str:
        """Findings that `by` may see, with what everybody calls them, as JSON Lines or CSV: the oldest change first.

        ids      only these; None: all
        raises   InputError for more than can be imported again
        """
        f, only = tables.findings.c, None if ids is None else list(ids)
        if only is not None and len(only) > MOST_LINES:
            raise InputError(f"At most {MOST_LINES:,} findings are exported at once; got {len(only):,} ids.")
        where = [rows.visible(rows.person(by)), *([] if only is None else [f.id.in_(only)])]
        with self._reading() as db:
            counted = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(f.record)), 0))
            n, size = db.execute(counted.select_from(tables.findings).where(*where)).one()
            if n > MOST_LINES or size > exchange.MOST_BYTES:
                raise InputError(
                    f"These are {n:,} findings, more than a file may hold: export some of them by their ids."
                )
            query = sa.select(f.id, f.record).where(*where).order_by(f.changed, f.id)
            found = [rows.finding_of(row) for row in db.execute(query)]
            given = rows.annotations_of(db, [one.id for one in found])
        whole = [rows.with_annotations(one, given) for one in found]
        return exchange.to_csv(whole) if as_csv else to_lines(whole)

    def import_findings(self, data: str | bytes, *, by: str, as_csv: bool = False, name: str = "the file") -> Imported:
        """Findings of an export, all that are new or, where this raises, none; `by` owns them, their authors stay.

        They are private to `by`, whatever the file says. A finding that is here as it is in the file, shared or not, is
        left; one that is here otherwise is a conflict, and left too.
        raises   InputError naming the line for what cannot be read; for a finding that is too large, or too many
        """
        by, found = rows.person(by), exchange.read(data, as_csv=as_csv, name=name)
        ready = [(one, self._ready(one, by)) for one in found]
        imported, same, conflicts = [], [], []
        with self._writing() as db:
            f = tables.findings.c
            here = db.execute(sa.select(f.id).where(f.id.in_([new.id for _, new in ready]))).all()
            self._make_room(db, by, len(ready) - len(here))
            for one, new in ready:
                row = self._row(db, new.id)
                if row is None:
                    db.execute(sa.delete(tables.gone).where(tables.gone.c.id == new.id))
                    rows.insert(db, new, owner=by)
                    imported.append(new.id)
                elif not may_see(row, by):
                    conflicts.append(Conflict("This finding's id is taken here. Nothing was written.", mine=one))
                    continue
                elif not rows.same(rows.finding_of(row).model_copy(update={"shared": False}), new):
                    conflicts.append(rows.conflict(row, one, by=by))
                    continue
                else:
                    same.append(new.id)
                if row is None or row.owner == by:
                    self._bring(db, one, by)
        return Imported(tuple(imported), tuple(same), tuple(conflicts))

    def _ready(self, one: Finding, by: str) -> Finding:
        """As it is kept: private, and too large for nobody."""
        private = one.model_copy(update={"author": one.author or by, "shared": False})
        try:
            return self._fitting(rows.checked(private))
        except InputError as error:
            raise InputError(f"Finding {one.id}: {error}") from error

    def _bring(self, db: sa.Connection, one: Finding, by: str) -> None:
        """The annotations of an imported finding, of those who have none here; each says who brought it."""
        here = {given.by for given in rows.annotations_of(db, [one.id]).get(one.id, ())}
        for given in one.annotations:
            if given.by not in here:
                rows.annotate(db, one.id, given.model_copy(update={"brought_by": "" if given.by == by else by}))
                here.add(given.by)
