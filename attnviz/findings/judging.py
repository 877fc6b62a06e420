"""What a plan's outcome says, and what a finding lacks for a status.

The rules are not asked of what a record says of itself, since anybody can write one: a verdict is worked out again from
the figures, and a status rests on evidence that was planned, measured with a control, and on other texts than the one
the finding was seen on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these records ask here whether they may be made
    from attnviz.findings.records import Evidence, Finding, Outcome, Plan, Status, Verdict

LEAST_CONTROLS = 19  # of so many, all are exceeded by one more like them with a chance of one in twenty


def missing(finding: Finding, status: Status) -> str:
    """What a finding lacks for a status, in a sentence; "" where it lacks nothing.

    "supported" needs, and "refuted" too, that the planned measurement was made after it was planned, with its control,
    on texts other than the one the finding was seen on, and that its last such outcome holds, or fails.
    """
    if status == "hypothesis":
        return ""
    plan = finding.plan
    if plan is None:
        return (
            f"A finding is {status} by a measurement that was planned: say first what is measured, and what refutes it."
        )
    fresh = counted(finding)
    if not fresh:
        return (
            f"A finding is {status} by its planned measurement, made with its control on texts other than the one it "
            "was found on: measure it first."
        )
    wanted: Verdict = "holds" if status == "supported" else "fails"
    last = judged(fresh[-1].outcome, plan)
    if last != wanted:
        return f"The planned measurement came out as “{last}”, and a finding is {status} where it {wanted}."
    return ""


def counted(finding: Finding) -> list[Evidence]:
    """What a status may rest on, the last of it last: evidence that was planned, with a control, on fresh texts.

    Fresh are texts that differ in more than spaces from those the finding was seen on, and that nothing was measured on
    before the plan: who has seen a figure plans around it.
    """
    plan = finding.plan
    if plan is None:
        return []
    known = {_told(text) for text in finding.seen.texts.values()}
    known |= {_told(case.text) for one in finding.evidence if one.at < plan.stated for case in one.cases}
    fresh = [
        one
        for one in finding.evidence
        if one.planned
        and plan.same_question(one.measurement)
        and one.at >= plan.stated
        and one.outcome.has_control
        and not any(_told(case.text) in known for case in one.cases)
        and set(one.cases) == set(plan.cases)
        and len(one.outcome.values) == len(one.cases)
        and None not in one.outcome.values
    ]
    return sorted(fresh, key=lambda one: one.at)


def _told(text: str) -> str:
    return " ".join(text.split())


def judged(outcome: Outcome, plan: Plan) -> Verdict:
    """What an outcome says of its plan.

    holds   the interval lies wholly on the expected side of the bound, and the mean beyond the control's middle
    fails   the interval lies wholly on the other side, or it lies wholly within the control's middle
    open    anything else, and everything without an interval or with fewer than 19 controls
    """
    low, high, least, most = outcome.low, outcome.high, outcome.control_low, outcome.control_high
    if low is None or high is None or least is None or most is None or len(outcome.control) < LEAST_CONTROLS:
        return "open"
    if plan.direction == "above":
        holds, against, beyond = low > plan.bound, high < plan.bound, outcome.mean > most
    else:
        holds, against, beyond = high < plan.bound, low > plan.bound, outcome.mean < least
    if holds and beyond:
        return "holds"
    return "fails" if against or (least <= low and high <= most) else "open"
