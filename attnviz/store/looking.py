"""The part of a store that looks for findings: whole ones, or many in brief."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

import sqlalchemy as sa

from attnviz.errors import InputError
from attnviz.findings import Finding
from attnviz.store import briefs, rows, tables
from attnviz.store.base import Base
from attnviz.store.briefs import Brief

MOST_BRIEFS = 10_000
MOST_BYTES = 64 << 20  # of whole findings at once


class Looked(Base):
    """Finding findings; what the one who asks may not see is not there."""

    def get(self, finding: str, *, by: str) -> Finding:
        """One finding; InputError where there is none that `by` may see."""
        with self._reading() as db:
            return rows.finding_of(self._seen(db, finding, rows.person(by)))

    def raw(self, finding: str, *, by: str) -> str:
        """A finding's JSON as it is kept, also where it cannot be read any more; InputError as `get` has it."""
        with self._reading() as db:
            return str(self._seen(db, finding, rows.person(by)).record)

    def find(
        self,
        *,
        by: str,
        limit: int = 100,
        offset: int = 0,
        left_out: list[str] | None = None,
        **asked: Unpack[rows.Asked],
    ) -> list[Finding]:
        """Findings that `by` may see, the last changed first.

        asked    what they are looked for by: `rows.Asked`
        limit    at most 1,000; left_out takes the ids of those among them that cannot be read
        raises   InputError for a limit, status, text or time that cannot be
        """
        f = tables.findings.c
        query = _some(sa.select(f.id, f.record), by, asked, limit, offset, rows.MOST_FOUND)
        with self._reading() as db:
            return rows.readable(db.execute(query), left_out)

    def briefs(self, *, by: str, limit: int = 100, offset: int = 0, **asked: Unpack[rows.Asked]) -> list[Brief]:
        """The same in brief, damaged ones too, so that thousands may be looked at; `limit` is at most 10,000."""
        with self._reading() as db:
            return briefs.read(db, _some(briefs.select(), by, asked, limit, offset, MOST_BRIEFS))

    def several(self, ids: Iterable[str], *, by: str, left_out: list[str] | None = None) -> list[Finding]:
        """Those of some findings that `by` may see, in the order of their ids, with what others call them.

        left_out   takes the ids of those that cannot be read
        raises     InputError for more than 1,000, or 64 MB, before any is read
        """
        order = list(dict.fromkeys(ids))
        if len(order) > rows.MOST_FOUND:
            raise InputError(f"At most {rows.MOST_FOUND:,} findings are opened at once; got {len(order):,} ids.")
        f = tables.findings.c
        where = f.id.in_(list(map(rows.encodable, order))), rows.visible(rows.person(by))
        with self._reading() as db:
            size = db.execute(
                sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(f.record)), 0)).where(*where)
            ).scalar_one()
            if size > MOST_BYTES:
                raise InputError(
                    f"These findings have {size / 1e6:,.0f} MB, and {MOST_BYTES / 1e6:,.0f} MB are opened at once: "
                    "take fewer."
                )
            several = rows.readable(db.execute(sa.select(f.id, f.record).where(*where)), left_out)
            found = {one.id: one for one in several}
            given = rows.annotations_of(db, found)
        return [rows.with_annotations(found[one], given) for one in order if one in found]

    def owners(self, ids: Iterable[str], *, by: str) -> dict[str, str]:
        """Who keeps each finding here: its author, or who imported it."""
        f = tables.findings.c
        with self._reading() as db:
            found = db.execute(sa.select(f.id, f.owner).where(f.id.in_(list(ids)), rows.visible(rows.person(by))))
            return {row.id: row.owner for row in found}


def _some(query: sa.Select[Any], by: str, asked: rows.Asked, limit: int, offset: int, most: int) -> sa.Select[Any]:
    if not 1 <= limit <= most or offset < 0:
        raise InputError(f"'limit' is from 1 to {most:,}, 'offset' 0 or more; got {limit} and {offset}.")
    f = tables.findings.c
    found = query.where(*rows.wanted(by=rows.person(by), **asked))
    return found.order_by(f.changed.desc(), f.id).limit(limit).offset(offset)
