"""The tables of a store; their names say whose they are, since a database server may hold others.

schema        the version of all this, one row
findings      a finding as JSON, and what it is looked for by
briefs        of a finding: what lists and maps show of it, as JSON, a thousandth of a large finding
heads         of a finding: those that it names, and those of its edges
labels        of a finding: its own, under no annotator, and each annotator's
annotations   of a finding: what one person calls it, as JSON
arrays        of a finding: the file beside the database, and its hash
gone          findings that were removed, so that nobody brings one back by saving an old copy
brought       of a finding that came with a file: who imported it, and when; until it is measured here as it was planned
"""

from __future__ import annotations

import sqlalchemy as sa

VERSION = 3  # 1 had no briefs, 2 did not say what was brought
NAME_LENGTH = 300

metadata = sa.MetaData()

# People and labels differ by a capital letter or an accent, also where a database would not mind it.
_exact = sa.String(NAME_LENGTH).with_variant(sa.String(NAME_LENGTH, collation="utf8mb4_bin"), "mysql", "mariadb")
_id = sa.String(32)
_long = sa.Text().with_variant(sa.Text(100_000_000), "mysql", "mariadb")  # where TEXT is 64 kB


def _of_finding() -> sa.Column[str]:
    return sa.Column("finding", _id, sa.ForeignKey("attnviz_findings.id", ondelete="CASCADE"), primary_key=True)


schema = sa.Table("attnviz_schema", metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
findings = sa.Table(
    "attnviz_findings",
    metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("owner", _exact, nullable=False, index=True),
    sa.Column("author", _exact, nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("model", _exact, nullable=False, index=True),
    sa.Column("searched", _long, nullable=False),
    sa.Column("changed", sa.Double, nullable=False, index=True),
    sa.Column("changed_by", _exact, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("record", _long, nullable=False),
)
briefs = sa.Table("attnviz_briefs", metadata, _of_finding(), sa.Column("record", _long, nullable=False))
heads = sa.Table(
    "attnviz_heads",
    metadata,
    _of_finding(),
    sa.Column("layer", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("head", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("site", sa.String(8), primary_key=True),
    sa.Index("attnviz_heads_by_head", "layer", "head"),
)
labels = sa.Table(
    "attnviz_labels",
    metadata,
    _of_finding(),
    sa.Column("annotator", _exact, primary_key=True),
    sa.Column("label", _exact, primary_key=True),
)
given = sa.Table(
    "attnviz_annotations",
    metadata,
    _of_finding(),
    sa.Column("annotator", _exact, primary_key=True),
    sa.Column("record", _long, nullable=False),
)
arrays = sa.Table(
    "attnviz_arrays",
    metadata,
    _of_finding(),
    sa.Column("file", sa.String(100), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("nbytes", sa.BigInteger, nullable=False),
)
brought = sa.Table(
    "attnviz_brought",
    metadata,
    _of_finding(),
    sa.Column("by", _exact, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
gone = sa.Table(
    "attnviz_gone",
    metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("by", _exact, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)
