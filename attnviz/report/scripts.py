"""The Python that makes a measurement again: a complete file, which fails where the numbers are others.

What comes from a finding stands in it as literals alone, so that nothing in a finding can become code.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attnviz.embedded import EMBEDDED
from attnviz.findings import Evidence, ModelRecord, Plan
from attnviz.findings.records import Record
from attnviz.literals import WIDTH, literal
from attnviz.report.drawing import title_of

CLOSE = 1e-5  # of the larger of 1 and what was measured
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DEVICE = re.compile(r"(cpu|cuda|mps)(:\d+)?")
_DTYPES = ("float32", "float16", "bfloat16")
_FOLDER = "local folder"


def measurement_script(evidence: Evidence, plan: Plan | None) -> str:
    """A file that measures again, draws the picture again, and fails where a number is another.

    plan   what the evidence was planned by; None where it was not
    """
    outcome, planned = evidence.outcome, plan is not None
    lines = ["import attnviz", "from attnviz.figures.evidence import evidence_dots", "", load_line(evidence.model)]
    lines.append(_assigned("measurement", evidence.measurement))
    lines.append(_assigned("cases", evidence.cases))
    if plan is not None:
        lines.append(_assigned("plan", plan, {"measurement": "measurement", "cases": "cases"}))
    names = ", ".join([*sorted({*_classes(evidence), *(["Plan"] if planned else [])}), "measure", "model_record"])
    lines.insert(2, f"from attnviz.findings import {names}")
    also = ", plan=plan" if planned else ""
    lines += [
        f"outcome = measure(model, measurement, cases{also})",
        "record = model_record(model)",
        "evidence = Evidence(measurement=measurement, cases=cases, outcome=outcome, model=record)",
        *_picture(evidence, planned),
        "",
    ]
    if evidence.model.fingerprint:
        lines.append(f'assert record.fingerprint == {literal(evidence.model.fingerprint)}, "other weights than then"')
    ends = ("mean", "low", "high", "control_low", "control_high")
    then = (*outcome.values, *(getattr(outcome, name) for name in ends))
    lines.append("# Each case, then the mean, its interval and the control's; other devices round otherwise.")
    lines.append(f"then = {_written(then, WIDTH - 7)}")
    lines.append(f"now = (*outcome.values, {', '.join(f'outcome.{name}' for name in ends)})")
    lines += [
        "for a, b in zip(now, then, strict=True):",
        f'    assert a is b is None or abs(a - b) <= {CLOSE:g} * max(1, abs(b)), f"{{a}} now, {{b}} then"',
    ]
    if planned:
        lines.append(f'assert outcome.verdict == "{outcome.verdict}"')
    return "\n".join(lines) + "\n"


def _picture(evidence: Evidence, planned: bool) -> list[str]:
    """The lines that draw the evidence; none where there is nothing to draw."""
    if all(value is None for value in evidence.outcome.values):
        return []
    bound = ", bound=plan.bound" if planned else ""
    title = _assigned("title", title_of(evidence.measurement))
    return [title, f"figure = evidence_dots(evidence{bound}, title=title)"]


def load_line(model: ModelRecord) -> str:
    """The line that loads a model; of a folder its name alone is known."""
    options = []
    known = next((name for name, entry in EMBEDDED.items() if model.name in (entry.title, name)), None)
    name, behind = known or model.name, ""
    if known is None and model.revision == _FOLDER:
        behind = "  # a folder: say where yours is"
    elif known is None and model.revision and _HUB_ID.fullmatch(model.name):
        options.append(f"revision={literal(model.revision, WIDTH * 10)}")
    device = _DEVICE.fullmatch(model.device)
    options += [f'device="{device[1]}"'] if device else []
    options += [f'dtype="{model.dtype}"'] if model.dtype in _DTYPES else []
    return f"model = attnviz.load_model({', '.join([literal(name, WIDTH * 10), *options])}){behind}"


def _classes(evidence: Evidence) -> set[str]:
    return {"Case", "Evidence", "Measurement", *(["HeadAt"] if evidence.measurement.heads else [])}


def _assigned(name: str, value: Any, said: Mapping[str, str] | None = None) -> str:
    return f"{name} = {_written(value, WIDTH - len(name) - 3, said)}"


def _written(value: Any, room: int, said: Mapping[str, str] | None = None) -> str:
    """A value as Python: of a record the fields that are not as they are without saying.

    room   letters on its first line, before it is broken
    said   fields that have a name already
    """
    if isinstance(value, str):
        return literal(value, room)
    if isinstance(value, Record):
        start, parts, lone = f"{type(value).__name__}(", [*_fields(value, room, said or {})], ""
    elif isinstance(value, tuple):
        start, parts = "(", [_written(one, room - 4) for one in value]
        lone = "," * (len(parts) == 1)
    else:
        return repr(value)
    line = f"{start}{', '.join(parts)}{lone})"
    if "\n" not in line and len(line) <= room:
        return line
    numbers = isinstance(value, tuple) and all(one is None or isinstance(one, float) for one in value)
    inside = textwrap.fill(", ".join(parts), WIDTH - 5) if numbers else ",\n".join(parts)
    return f"{start}\n{textwrap.indent(inside, '    ')},\n)"


def _fields(record: Record, room: int, said: Mapping[str, str]) -> list[str]:
    found = []
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if name in said:
            found.append(f"{name}={said[name]}")
        elif not isinstance(value, datetime) and (field.is_required() or value != field.default):
            found.append(f"{name}={_written(value, room - len(name) - 5)}")
    return found
