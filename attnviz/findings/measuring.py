"""Measuring what a finding claims: one call for every kind, with its control, its interval and its verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from attnviz.ablation.cases import half_width
from attnviz.errors import InputError
from attnviz.findings import records
from attnviz.findings.ablating import ablation_effects
from attnviz.findings.agreeing import agreement
from attnviz.findings.cases import Kind, Read
from attnviz.findings.flowing import flow_share
from attnviz.findings.judging import judged
from attnviz.findings.of_heads import attention, detector
from attnviz.findings.records import Case, Measurement, Outcome, Plan
from attnviz.models import Model
from attnviz.tap import Progress

_KINDS: dict[records.Kind, Kind] = {
    "ablation": ablation_effects,
    "attention": attention,
    "detector": detector,
    "agreement": agreement,
    "flow": flow_share,
}
_LEAST_CASES = 3  # for an interval
_MOST_CONTROLS, _MOST_WORDS = 5_000, 2_000  # as an Outcome holds


def measure(
    model: Model,
    measurement: Measurement,
    cases: Sequence[Case],
    *,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Measure on each case, with the control that the kind brings (`Measurement` says which).

    plan       what was said before: the outcome is then judged by it (`judging.judged`), else it stays "open"
    progress   called with (cases done, all); raise from it to stop
    raises     InputError where no case can be measured, with the first reason, or for a plan of something else

    A case that cannot be measured has None in its place, and `Outcome.words` says why. The interval is Student's t over
    the cases, each counting once (`ablation.cases.half_width`), cut where the unit ends, and there for three cases at
    least: a percentile bootstrap of so few is far too narrow. The same call gives the same again, `seconds` aside.
    """
    if not 0 < len(cases) <= records.MOST_CASES:
        raise InputError(f"A measurement has 1 to {records.MOST_CASES} cases, each a text; got {len(cases)}.")
    if plan is not None and not (plan.same_question(measurement) and set(plan.cases) == set(cases)):
        raise InputError("The plan is of another measurement, or of other texts: measure what was planned.")
    start = time.perf_counter()
    read = _KINDS[measurement.kind](model, measurement, cases, progress)
    known = np.array([value for value in read.values if value is not None])
    low = high = None
    if len(known) >= _LEAST_CASES:
        half = float(half_width(known[:, None])[0])
        low, high = max(read.least, known.mean() - half), min(read.most, known.mean() + half)
    outcome = Outcome(
        values=read.values,
        mean=float(known.mean()),
        low=low,
        high=high,
        control=_thinned(read.control),
        controls=read.controls,
        control_low=read.low,
        control_high=read.high,
        unit=read.unit,
        seconds=time.perf_counter() - start,
    )
    verdict = "open" if plan is None else judged(outcome, plan)
    return outcome.model_copy(update={"verdict": verdict, "words": _words(outcome, read, plan)})


def _thinned(control: np.ndarray) -> tuple[float, ...]:
    """All controls in order, or as many quantiles as a record holds; its bounds are of all of them."""
    if len(control) > _MOST_CONTROLS:
        control = np.quantile(control, np.linspace(0, 1, _MOST_CONTROLS), method="nearest")
    return tuple(control.tolist())


def _words(outcome: Outcome, read: Read, plan: Plan | None) -> str:
    n, unit = sum(value is not None for value in read.values), f" {outcome.unit}" if outcome.unit else ""
    texts = "1 text" if n == 1 else f"{n} texts"
    said = f"{read.title}: {outcome.mean:+.3g}{unit} on {texts}"
    if outcome.low is not None and outcome.high is not None:
        said += f", 95% interval {outcome.low:+.3g} to {outcome.high:+.3g}"
    said += f". Control: {read.controls}"
    if outcome.control_low is not None and outcome.control_high is not None:
        said += f", {outcome.control_low:+.3g} to {outcome.control_high:+.3g}"
    if plan is not None:
        said += f". Planned: {plan.direction} {plan.bound:g}"
    if read.reasons:
        number, reason = next(iter(sorted(read.reasons.items())))
        said += f". Not measured on {len(read.reasons)} of {len(read.values)}; on text {number + 1}: {reason}"
    return said[: _MOST_WORDS - 1].rstrip(".") + "."
