"""Findings in brief: what lists and maps show of many of them, without figures, texts and evidence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import AwareDatetime, ValidationError

from attnviz.findings import Finding, HeadAt
from attnviz.findings.lines import plain
from attnviz.findings.records import Label, Name, Record, Status, Words
from attnviz.store import tables

_OF_FINDING = ("id", "claim", "heads", "labels", "confidence", "status", "author", "shared", "changed", "version")
_BATCH = 100
_BESIDE = {"owner", "given", "brought_by", "brought_at", "damaged"}


class Brief(Record):
    """A finding in a line or two; what is not said here is the finding's own.

    heads      that the finding names; at_edges: those that only its edges name
    model      its name; measured: how many pieces of evidence there are
    owner      who keeps it here: its author, or who brought it; "" where that is not known
    given      labels that others gave it, each once
    brought_by who imported it, where nobody measured it here since as it was planned, and brought_at: when
    damaged    why it cannot be read, where it cannot: then only owner, author, model, status and change are known
    """

    id: str
    claim: Words
    heads: tuple[HeadAt, ...] = ()
    at_edges: tuple[HeadAt, ...] = ()
    labels: tuple[Label, ...] = ()
    confidence: float
    status: Status
    author: Name
    shared: bool
    model: Name
    measured: int
    changed: AwareDatetime
    version: int
    owner: Name = ""
    given: tuple[Label, ...] = ()
    brought_by: Name = ""
    brought_at: AwareDatetime | None = None
    damaged: str = ""


def brief_of(finding: Finding, *, owner: str = "") -> Brief:
    """What lists and maps show of a finding."""
    named, edges = set(finding.heads), dict.fromkeys(edge.head for edge in finding.edges if edge.head is not None)
    return Brief.model_construct(
        **{name: getattr(finding, name) for name in _OF_FINDING},
        at_edges=tuple(head for head in edges if head not in named),
        model=finding.model.name,
        measured=len(finding.evidence),
        owner=owner,
        given=tuple(dict.fromkeys(label for note in finding.annotations for label in note.labels)),
    )


def record_of(finding: Finding) -> str:
    """As it is kept: what changes without the finding is not in it."""
    return brief_of(finding).model_dump_json(exclude=_BESIDE)


def select() -> sa.Select[Any]:
    """The rows that `read` takes: also of findings that have no brief, since they cannot be read."""
    f, c, b = tables.findings.c, tables.briefs.c, tables.brought.c
    beside = tables.findings.outerjoin(tables.briefs, c.finding == f.id).outerjoin(tables.brought, b.finding == f.id)
    columns = (f.id, f.owner, f.author, f.status, f.model, f.shared, f.changed, f.version)
    return sa.select(*columns, c.record, b.by.label("brought_by"), b.at.label("brought_at")).select_from(beside)


def read(db: sa.Connection, query: sa.Select[Any]) -> list[Brief]:
    """Briefs of the rows that a query made of `select` gives, in its order; damaged ones say so."""
    rows, c = list(db.execute(query)), tables.labels.c
    asked = sa.select(c.finding, c.label).where(c.finding.in_([row.id for row in rows]), c.annotator != "")
    given: dict[str, dict[str, None]] = {}
    for finding, label in db.execute(asked.order_by(c.annotator, c.label)):
        given.setdefault(finding, {})[label] = None
    found = []
    for row in rows:
        try:
            brief = (
                _damaged(row, "its rules are others now")
                if row.record is None
                else Brief.model_validate_json(row.record)
            )
        except ValidationError as error:
            brief = _damaged(row, plain(error))
        beside = {
            "owner": row.owner,
            "given": tuple(given.get(row.id, ())),
            "brought_by": row.brought_by or "",
            "brought_at": None if row.brought_at is None else datetime.fromtimestamp(row.brought_at, UTC),
        }
        found.append(brief.model_copy(update=beside))
    return found


def write_all(db: sa.Connection) -> None:
    """For an older store: those of every finding that is kept there, a few at a time; none of one that is damaged."""
    f = tables.findings.c
    ids = list(db.execute(sa.select(f.id)).scalars())
    db.execute(sa.delete(tables.briefs))
    for start in range(0, len(ids), _BATCH):
        for row in db.execute(sa.select(f.id, f.record).where(f.id.in_(ids[start : start + _BATCH]))).all():
            try:
                record = record_of(Finding.model_validate_json(row.record))
            except ValidationError:  # it is said where it is looked for; the others are to be found
                continue
            db.execute(sa.insert(tables.briefs).values(finding=row.id, record=record))


def _damaged(row: Any, why: str) -> Brief:
    return Brief.model_construct(
        id=row.id,
        claim="A finding that cannot be read",
        confidence=0.0,
        status="hypothesis",
        author=row.author,
        shared=row.shared,
        model=row.model,
        measured=0,
        changed=datetime.fromtimestamp(row.changed, UTC),
        version=row.version,
        damaged=why,
    )
