"""What a plan's outcome says, and what a finding lacks for a status.

The rules are not asked of what a record says of itself, since anybody can write one: a verdict is worked out again from
the figures, and a status rests on evidence that was planned, measured with a control, and on other texts than the one
the finding was seen on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these records ask here whether they may be made
    from attnviz.findings.finding import Finding
    from attnviz.findings.records import Case, Evidence, Outcome, Plan, Status, Verdict

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
    seen = known_to(finding)
    before = {told(case.text) for one in finding.evidence if one.at < plan.stated for case in one.cases}
    fresh = [
        one
        for one in finding.evidence
        if one.planned
        and plan.asks(one.measurement, one.cases)
        and one.at >= plan.stated
        and one.outcome.has_control
        and not any(seen(case.text) or told(case.text) in before for case in one.cases)
        and None not in one.outcome.values
    ]
    return sorted(fresh, key=lambda one: one.at)


def known_to(finding: Finding) -> Callable[[str], bool]:
    """Whether a text is, but for spaces, one that the finding was seen on."""
    texts, digests = {told(text) for text in finding.seen.texts.values()}, set(finding.seen.digests)
    return lambda text: told(text) in texts or (bool(digests) and digest_of(text) in digests)


def told(text: str) -> str:
    """What a text says, whatever spaces and line breaks stand in it."""
    return " ".join(text.split())


def digest_of(text: str) -> str:
    """SHA-256 of what a text says, in hexadecimal: to know it again without keeping it."""
    return hashlib.sha256(told(text).encode(errors="surrogatepass")).hexdigest()


def twice(cases: Sequence[Case]) -> tuple[int, int] | None:
    """The numbers, from 1, of two cases that ask the same of the same text; None where there are none.

    Donors and marks make no other case: an interval over texts takes each text for one that was drawn by itself.
    """
    first: dict[tuple[str, ...], int] = {}
    for number, case in enumerate(cases, 1):
        parts = (case.text, case.target, case.answer, case.foil, case.query, case.key)
        known = first.setdefault(tuple(map(told, parts)), number)
        if known != number:
            return known, number
    return None


def misjudged(finding: Finding) -> str:
    """Which evidence says of itself what the finding's plan does not say of it, in a sentence; "" where none does."""
    plan = finding.plan
    for number, one in enumerate(finding.evidence, 1):
        if not one.planned:
            if one.outcome.verdict != "open":
                return f"evidence {number} was not planned, so its verdict is open; got “{one.outcome.verdict}”"
            continue
        if plan is None or one.at < plan.stated or not plan.asks(one.measurement, one.cases):
            return f"evidence {number} is not what was planned, or was measured before"
        verdict = judged(one.outcome, plan)
        if one.outcome.verdict != verdict:
            return f"evidence {number} came out as “{verdict}” by the plan; got “{one.outcome.verdict}”"
    return ""


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
