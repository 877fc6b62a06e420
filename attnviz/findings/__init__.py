"""Findings: what somebody saw, what would refute it, and what was measured of it."""

from attnviz.findings.records import (
    KINDS,
    LABELS,
    STATUSES,
    Case,
    EdgeAt,
    Evidence,
    Finding,
    HeadAt,
    Measurement,
    ModelRecord,
    Outcome,
    Plan,
    Seen,
    judged,
    missing,
)

__all__ = [
    "KINDS",
    "LABELS",
    "STATUSES",
    "Case",
    "EdgeAt",
    "Evidence",
    "Finding",
    "HeadAt",
    "Measurement",
    "ModelRecord",
    "Outcome",
    "Plan",
    "Seen",
    "judged",
    "missing",
]
