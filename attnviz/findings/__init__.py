"""Findings: what somebody saw, what would refute it, and what was measured of it.

findings.measure(model, measurement, cases)   an Outcome with its control, its interval and, with a plan, its verdict
findings.planned(finding, plan)               what will be measured, said beforehand
findings.attach(finding, evidence)            and what was measured; `with_status` asks whether that is enough
findings.measure_again(model, finding)        whether the evidence still says the same, on this model or another
findings.to_lines([finding]), of_lines(text)  JSON Lines, which `python -m attnviz verify` reads
"""

from attnviz.findings.ablating import METRICS
from attnviz.findings.again import Again, Repeated, measure_again, rests_on
from attnviz.findings.finding import Annotation, Finding, Seen
from attnviz.findings.judging import LEAST_CONTROLS, counted, judged, missing, same_weights, uncounted
from attnviz.findings.keeping import attach, check_dates, model_record, planned, reworded, with_status
from attnviz.findings.lines import of_lines, to_lines
from attnviz.findings.measuring import measure, summed_up
from attnviz.findings.of_heads import DETECTED
from attnviz.findings.records import (
    KINDS,
    LABELS,
    STATUSES,
    Case,
    EdgeAt,
    Evidence,
    HeadAt,
    Measurement,
    ModelRecord,
    Outcome,
    Plan,
)

__all__ = [
    "DETECTED",
    "KINDS",
    "LABELS",
    "LEAST_CONTROLS",
    "METRICS",
    "STATUSES",
    "Again",
    "Annotation",
    "Case",
    "EdgeAt",
    "Evidence",
    "Finding",
    "HeadAt",
    "Measurement",
    "ModelRecord",
    "Outcome",
    "Plan",
    "Repeated",
    "Seen",
    "attach",
    "check_dates",
    "counted",
    "judged",
    "measure",
    "measure_again",
    "missing",
    "model_record",
    "of_lines",
    "planned",
    "rests_on",
    "reworded",
    "same_weights",
    "summed_up",
    "to_lines",
    "uncounted",
    "with_status",
]
