"""Findings as rows, and what of them is looked for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import sqlalchemy as sa
from pydantic import ValidationError

from attnviz.edits import Head
from attnviz.errors import Conflict, InputError, StoreError
from attnviz.findings import STATUSES, Annotation, Finding, HeadAt
from attnviz.findings.lines import MOST_LINES, plain
from attnviz.store import briefs, tables

MOST_FOUND = 1_000
_MOST_ASKED = 500  # characters of a search
_OWN = ""  # whose the labels of a finding itself are; no annotator has this name


class Asked(TypedDict, total=False):
    """What findings are looked for by; all of it must hold.

    text     words that must all stand in the claim or the note, in any case and any order, also within words
    label    that the finding, or anybody, gave it
    head     among its heads or at its edges. With a site: there, or in a finding that names none
    owner    who keeps it here; not_owner: anybody else
    since    changed then or later, with a time zone
    ids      of these alone
    """

    text: str
    label: str | None
    status: str | None
    model: str | None
    head: Head | HeadAt | None
    author: str | None
    owner: str | None
    not_owner: str | None
    since: datetime | None
    ids: Sequence[str] | None


def person(by: str) -> str:
    """A name as it is kept; InputError for one that is empty, too long, or not Unicode."""
    name = by.strip() if isinstance(by, str) else ""
    if not 1 <= len(name) <= tables.NAME_LENGTH or not name.isprintable():
        raise InputError(f"Findings belong to somebody: give a name of 1 to {tables.NAME_LENGTH} printed characters.")
    return name


def checked(finding: Finding) -> Finding:
    """The finding as it will be read back, without what others call it; InputError where a copy broke its rules."""
    try:
        bare = finding.model_copy(update={"annotations": ()})
        return Finding.model_validate_json(bare.model_dump_json())
    except ValidationError as error:
        raise InputError(f"This finding cannot be kept: {plain(error)}") from error
    except ValueError as error:  # halves of characters, which no file holds
        raise InputError("This finding cannot be kept: one of its texts is not Unicode. Type it again.") from error


def same(one: Finding, other: Finding) -> bool:
    """Whether they say the same; when and how often they were changed is not compared, nor what others call them."""
    over = {"version": 1, "changed": one.changed, "annotations": ()}
    return one.model_copy(update=over) == other.model_copy(update=over)


def finding_of(row: Any) -> Finding:
    try:
        return Finding.model_validate_json(row.record)
    except ValidationError as error:
        raise StoreError(
            f"The kept finding {row.id} cannot be read: {plain(error)} Take along its JSON, and import the last export."
        ) from error


def readable(rows: Iterable[Any], left_out: list[str] | None) -> list[Finding]:
    """Findings of rows; the ids of those that cannot be read are added to `left_out`."""
    found = []
    for row in rows:
        try:
            found.append(finding_of(row))
        except StoreError:
            if left_out is not None:
                left_out.append(row.id)
    return found


@dataclass(frozen=True, eq=False)
class Ready:
    """A finding as it is written: all that is worked out from it, so that a transaction only writes.

    values   of its row, but for its owner and who changed it
    given    what others call it, as rows of their table; labels: those too
    """

    id: str
    author: str
    values: dict[str, Any]
    brief: str
    heads: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    given: list[dict[str, Any]]

    @property
    def nbytes(self) -> int:
        """About what it takes on the disk."""
        return len(self.values["record"].encode()) + len(self.brief) + 100 * self.n_rows

    @property
    def n_rows(self) -> int:
        return 2 + len(self.heads) + len(self.labels) + len(self.given)


def ready(finding: Finding, given: Iterable[Annotation] = ()) -> Ready:
    """A finding and what people call it, each of them once, as rows."""
    named = {*finding.heads, *(edge.head for edge in finding.edges if edge.head)}
    people = {encodable(one.by): one for one in reversed(list(given))}
    labels = _label_rows(finding.id, _OWN, finding.labels)
    for annotator, one in people.items():
        labels += _label_rows(finding.id, annotator, one.labels)
    return Ready(
        finding.id,
        encodable(finding.author),
        _columns(finding),
        briefs.record_of(finding),
        [{"finding": finding.id, "layer": h.layer, "head": h.head, "site": h.site or ""} for h in named],
        labels,
        [{"finding": finding.id, "annotator": name, "record": one.model_dump_json()} for name, one in people.items()],
    )


def insert(db: sa.Connection, several: Sequence[Ready], *, owner: str) -> None:
    """Write findings that are not here yet."""
    values = [
        {**one.values, "id": one.id, "owner": owner, "author": one.author, "changed_by": one.author or owner}
        for one in several
    ]
    _many(db, tables.findings, values)
    _many(db, tables.briefs, [{"finding": one.id, "record": one.brief} for one in several])
    for table, name in ((tables.heads, "heads"), (tables.labels, "labels"), (tables.given, "given")):
        _many(db, table, [row for one in several for row in getattr(one, name)])


def update(db: sa.Connection, new: Ready, *, by: str) -> None:
    """Write a change of a finding; what others call it stays."""
    values = {**new.values, "changed_by": by}
    db.execute(sa.update(tables.findings).where(tables.findings.c.id == new.id).values(**values))
    db.execute(sa.delete(tables.heads).where(tables.heads.c.finding == new.id))
    db.execute(sa.delete(tables.briefs).where(tables.briefs.c.finding == new.id))
    db.execute(sa.delete(tables.labels).where(tables.labels.c.finding == new.id, tables.labels.c.annotator == _OWN))
    _many(db, tables.heads, new.heads)
    _many(db, tables.labels, new.labels)
    _many(db, tables.briefs, [{"finding": new.id, "record": new.brief}])


def annotate(db: sa.Connection, finding: str, given: Annotation) -> None:
    """Keep one person's annotation in place of an earlier one."""
    annotator = encodable(given.by)
    take_back(db, finding, annotator)
    values = {"finding": finding, "annotator": annotator, "record": given.model_dump_json()}
    db.execute(sa.insert(tables.given).values(**values))
    _many(db, tables.labels, _label_rows(finding, annotator, given.labels))


def take_back(db: sa.Connection, finding: str, annotator: str) -> None:
    c = tables.given.c
    db.execute(sa.delete(tables.given).where(c.finding == finding, c.annotator == annotator))
    own = tables.labels.c
    db.execute(sa.delete(tables.labels).where(own.finding == finding, own.annotator == annotator))


def annotations_of(db: sa.Connection, ids: Iterable[str]) -> dict[str, list[Annotation]]:
    """By finding, in the order of their names; findings without any are left out."""
    c = tables.given.c
    found: dict[str, list[Annotation]] = {}
    for row in db.execute(sa.select(c.finding, c.record).where(c.finding.in_(list(ids))).order_by(c.annotator)):
        given = _annotation(row.record)
        if given is not None:
            found.setdefault(row.finding, []).append(given)
    return found


def with_annotations(finding: Finding, given: Mapping[str, Sequence[Annotation]]) -> Finding:
    """The finding with what others call it, as `annotations_of` has it."""
    return finding.model_copy(update={"annotations": tuple(given.get(finding.id, ()))})


def opinions(db: sa.Connection, by: str, model: str | None, *, brought: bool) -> dict[str, dict[str, frozenset[str]]]:
    """What each person calls each finding that `by` may see: the author by the finding's labels, if by nothing else.

    brought   also what a file says that people called it, and the author of a finding that another one imported: of
              these the names are whatever somebody wrote. Else only what was given here, by whoever it stands under
    """
    f, a, own = tables.findings.c, tables.given.c, tables.labels.c
    where = [visible(by), *([] if model is None else [f.model == model])]
    theirs = f.author != "" if brought else f.author == f.owner
    found: dict[str, dict[str, set[str]]] = {}
    asked = sa.select(f.id, f.author, own.label).join(tables.labels, own.finding == f.id)
    for one, author, label in db.execute(asked.where(own.annotator == _OWN, theirs, *where)):
        found.setdefault(one, {}).setdefault(author, set()).add(label)
    for one, record in db.execute(sa.select(f.id, a.record).join(tables.given, a.finding == f.id).where(*where)):
        given = _annotation(record)
        if given is not None and (brought or not given.brought_by):
            found.setdefault(one, {})[given.by] = set(given.labels)
    return {key: {who: frozenset(labels) for who, labels in people.items()} for key, people in found.items()}


def visible(by: str) -> sa.ColumnElement[bool]:
    return sa.or_(tables.findings.c.owner == by, tables.findings.c.shared)


def conflict(row: Any, mine: Finding, *, by: str) -> Conflict:
    """That `mine` was made from another version than the row's."""
    at = datetime.fromtimestamp(row.changed, UTC)
    who = "You" if row.changed_by == by else row.changed_by
    return Conflict(
        f"{who} changed this finding meanwhile, on {at:%d %B %Y at %H:%M} UTC: it is at version {row.version}, and "
        "yours was made from another. Nothing was written. Open the kept one and make your change there, or keep yours "
        "as a new finding.",
        mine=mine,
        theirs=finding_of(row),
        by=row.changed_by,
        at=at,
    )


def wanted(
    *,
    by: str,
    text: str = "",
    label: str | None = None,
    status: str | None = None,
    model: str | None = None,
    head: Head | HeadAt | None = None,
    author: str | None = None,
    owner: str | None = None,
    not_owner: str | None = None,
    since: datetime | None = None,
    ids: Sequence[str] | None = None,
) -> list[sa.ColumnElement[bool]]:
    """The conditions of what is `Asked` for by somebody, who sees what they may."""
    f = tables.findings.c
    found = [visible(by)]
    if len(text) > _MOST_ASKED:
        raise InputError(f"A search has at most {_MOST_ASKED} characters; got {len(text):,}. Take fewer words.")
    found += [f.searched.contains(word, autoescape=True) for word in folded(text).split()]
    if status is not None and status not in STATUSES:
        raise InputError(f"A finding's status is one of {', '.join(STATUSES)}; got {status!r}.")
    for column, value in ((f.status, status), (f.model, model), (f.author, author), (f.owner, owner)):
        if value is not None:
            found.append(column == encodable(value))
    if not_owner is not None:
        found.append(f.owner != encodable(not_owner))
    if ids is not None:
        if len(ids) > MOST_LINES:
            raise InputError(f"At most {MOST_LINES:,} findings are looked for by their ids; got {len(ids):,}.")
        found.append(f.id.in_(list(map(encodable, ids))))
    if label is not None:
        c = tables.labels.c
        found.append(sa.exists().where(c.finding == f.id, c.label == encodable(label)))
    if head is not None:
        h = tables.heads.c
        sites = [] if head.site is None else [h.site.in_((head.site, ""))]
        found.append(sa.exists().where(h.finding == f.id, h.layer == head.layer, h.head == head.head, *sites))
    if since is not None:
        if since.tzinfo is None:
            raise InputError("'since' needs its time zone, as in datetime(2026, 1, 1, tzinfo=UTC).")
        found.append(f.changed >= since.timestamp())
    return found


def encodable(text: str) -> str:
    """As a column holds it: without NUL, which PostgreSQL does not take; InputError for half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError("This holds half a character, which no finding does. Type it again.") from error
    return text.replace("\0", "\ufffd")


def folded(text: str) -> str:
    """As it is searched: without case, and with one way of writing what looks alike."""
    once = unicodedata.normalize("NFKC", encodable(text)).casefold()
    return unicodedata.normalize("NFKC", once)


def _columns(finding: Finding) -> dict[str, Any]:
    return {
        "shared": finding.shared,
        "status": finding.status,
        "model": encodable(finding.model.name),
        "searched": folded(f"{finding.claim}\n{finding.note}"),
        "changed": finding.changed.timestamp(),
        "version": finding.version,
        "record": finding.model_dump_json(),
    }


def _label_rows(finding: str, annotator: str, labels: Iterable[str]) -> list[dict[str, Any]]:
    kept = dict.fromkeys(map(encodable, labels))
    return [{"finding": finding, "annotator": annotator, "label": label} for label in kept]


def _many(db: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        db.execute(sa.insert(table), rows)


def _annotation(record: str) -> Annotation | None:
    """What one person calls a finding; None where it is damaged."""
    try:
        return Annotation.model_validate_json(record)
    except ValidationError:
        return None
