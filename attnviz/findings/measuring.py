"""Measuring what a finding claims: one call for every kind, with its control, its interval and its verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from pydantic import ValidationError

from attnviz.errors import InputError
from attnviz.findings import records
from attnviz.findings.ablating import ablation_effects
from attnviz.findings.agreeing import agreement
from attnviz.findings.cases import Kind, Read
from attnviz.findings.figuring import Doubles, ends, rule_of, thinned
from attnviz.findings.flowing import flow_share
from attnviz.findings.judging import judged
from attnviz.findings.lines import plain
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
_MOST_WORDS = 2_000  # as an Outcome holds


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
    the cases, each counting once (`figuring.ends`). The same call gives the same again, `seconds` aside.
    """
    if not 0 < len(cases) <= records.MOST_CASES:
        raise InputError(f"A measurement has 1 to {records.MOST_CASES} cases, each a text; got {len(cases)}.")
    if plan is not None and not plan.asks(measurement, cases):
        raise InputError("The plan is of another measurement, or of other texts: measure what was planned.")
    start = time.perf_counter()
    read = _KINDS[measurement.kind](model, measurement, cases, progress)
    outcome = summed_up(
        measurement, read.values, read.control, below=read.below, controls=read.controls, unit=read.unit
    )
    outcome = outcome.model_copy(update={"seconds": time.perf_counter() - start})
    verdict = "open" if plan is None else judged(outcome, plan)
    return outcome.model_copy(update={"verdict": verdict, "words": _words(outcome, read, plan)})


def summed_up(
    measurement: Measurement,
    values: Sequence[float | None],
    control: Doubles,
    *,
    below: Doubles | None = None,
    controls: str = "",
    unit: str = "",
) -> Outcome:
    """The outcome of values that were measured, with the interval and the control's ends that they have.

    values, control, below   as `figuring.ends` has them; more controls than an outcome holds are thinned to quantiles
    raises                   InputError where there is no value, or one that is not finite
    """
    if all(value is None for value in values):
        raise InputError("An outcome has a value for one case at least; got none.")
    lowest = thinned(np.asarray([] if below is None else below, np.float64))
    held = thinned(np.asarray(control, np.float64))
    found = ends(values, held, lowest, rule_of(measurement))
    try:
        return Outcome(
            values=tuple(values),
            **found._asdict(),
            control=tuple(held.tolist()),
            control_below=tuple(lowest.tolist()),
            controls=controls,
            unit=unit,
        )
    except ValidationError as error:
        raise InputError(f"This is no outcome: {plain(error)}") from error


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
