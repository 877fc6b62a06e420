"""Findings in brief: what lists and maps show of many of them, without figures, texts and evidence."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from pydantic import AwareDatetime, ValidationError

from attnviz.errors import StoreError
from attnviz.findings import Finding, HeadAt
from attnviz.findings.lines import plain
from attnviz.findings.records import Label, Name, Record, Status, Words
from attnviz.store import tables

_OF_FINDING = ("id", "claim", "heads", "labels", "confidence", "status", "author", "shared", "changed", "version")
_BATCH = 100


class Brief(Record):
    """A finding in a line or two; what is not said here is the finding's own.

    heads      that the finding names; at_edges: those that only its edges name
    model      its name; measured: how many pieces of evidence there are
    owner      who keeps it here: its author, or who brought it; "" where that is not known
    given      labels that others gave it, each once
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


def brief_of(finding: Finding, *, owner: str = "") -> Brief:
    """What lists and maps show of a finding."""
    edges = dict.fromkeys(edge.head for edge in finding.edges if edge.head is not None)
    return Brief.model_construct(
        **{name: getattr(finding, name) for name in _OF_FINDING},
        at_edges=tuple(head for head in edges if head not in set(finding.heads)),
        model=finding.model.name,
        measured=len(finding.evidence),
        owner=owner,
        given=tuple(dict.fromkeys(label for note in finding.annotations for label in note.labels)),
    )


def write(db: sa.Connection, finding: Finding) -> None:
    """Keep a finding in brief, in place of what it was."""
    db.execute(sa.delete(tables.briefs).where(tables.briefs.c.finding == finding.id))
    record = brief_of(finding).model_dump_json(exclude={"owner", "given"})
    db.execute(sa.insert(tables.briefs).values(finding=finding.id, record=record))


def read(db: sa.Connection, query: sa.Select[Any]) -> list[Brief]:
    """Briefs of the rows (id, owner, record of the brief) that a query gives, in its order.

    raises   StoreError for one that is damaged
    """
    rows, c = list(db.execute(query)), tables.labels.c
    asked = sa.select(c.finding, c.label).where(c.finding.in_([row.id for row in rows]), c.annotator != "")
    given: dict[str, dict[str, None]] = {}
    for finding, label in db.execute(asked.order_by(c.annotator, c.label)):
        given.setdefault(finding, {})[label] = None
    found = []
    for row in rows:
        try:
            brief = Brief.model_validate_json(row.record)
        except ValidationError as error:
            raise StoreError(f"The kept finding {row.id} is damaged: {plain(error)} Save it once more.") from error
        found.append(brief.model_copy(update={"owner": row.owner, "given": tuple(given.get(row.id, ()))}))
    return found


def write_all(db: sa.Connection) -> None:
    """For a store that has none yet: those of every finding that is kept there, a few at a time."""
    f = tables.findings.c
    ids = list(db.execute(sa.select(f.id)).scalars())
    for start in range(0, len(ids), _BATCH):
        for row in db.execute(sa.select(f.id, f.record).where(f.id.in_(ids[start : start + _BATCH]))).all():
            try:
                write(db, Finding.model_validate_json(row.record))
            except ValidationError:  # one that is damaged is said when it is opened; the others are to be found
                continue
