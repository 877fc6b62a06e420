"""What a plan's outcome says, and what a finding lacks for a status.

The rules are not asked of what a record says of itself, since anybody can write one: a verdict is worked out again from
the figures, and a status rests on evidence that was planned, measured with a control, on the weights that the finding
is of, and on other texts than the one it was seen on. The last evidence is the one that stands last, whatever its date.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:  # these records ask here whether they may be made
    from attnviz.findings.finding import Finding
    from attnviz.findings.records import Case, Evidence, ModelRecord, Outcome, Plan, Status, Verdict

LEAST_CONTROLS = 19  # of so many, all are exceeded by one more like them with a chance of one in twenty
FOLDER = "local folder"  # the revision of a model of this machine: as good as none
_UNSEEN = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}]+")
_BETWEEN = regex.compile(r"[\p{P}\s]+")


def missing(finding: Finding, status: Status) -> str:
    """What a finding lacks for a status, in a sentence; "" where it lacks nothing.

    "supported" needs, and "refuted" too, that the planned measurement was made after it was planned, with its control,
    on the finding's model and texts other than the one it was seen on, and that its last such outcome holds, or fails.
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
        against = [reason for one, reason in zip(finding.evidence, uncounted(finding), strict=True) if one.planned]
        return (
            f"A finding is {status} by its planned measurement, made with its control on its own model, and on texts "
            f"other than the one it was found on: measure it first.{f' {against[-1]}' if against else ''}"
        )
    wanted: Verdict = "holds" if status == "supported" else "fails"
    last = judged(fresh[-1].outcome, plan)
    if last != wanted:
        return f"The planned measurement came out as “{last}”, and a finding is {status} where it {wanted}."
    return ""


def counted(finding: Finding) -> list[Evidence]:
    """What a status may rest on, the last of it last: evidence that nothing speaks against (`uncounted`)."""
    return [one for one, reason in zip(finding.evidence, uncounted(finding), strict=True) if not reason]


def uncounted(finding: Finding) -> list[str]:
    """Why no status rests on each piece of evidence, in a sentence; "" where one may.

    Counted is what was planned, with a control, on the finding's model and on fresh texts. Fresh are texts that say
    something else (`told`) than those the finding was seen on, and that nothing was measured on before the plan: who
    has seen a figure plans around it.
    """
    plan = finding.plan
    if plan is None:
        return ["It was not planned."] * len(finding.evidence)
    seen, same = known_to(finding), _on_its_model(finding)
    before = {told(case.text) for one in finding.evidence if not _after(one, plan) for case in one.cases}

    def reason(one: Evidence) -> str:
        if not (one.planned and plan.asks(one.measurement, one.cases) and _after(one, plan)):
            return "It is beside the plan."
        if not same(one.model):
            return "It was measured on another model, or on other weights, than the finding is of."
        if not one.outcome.has_control:
            return "It has no control."
        if None in one.outcome.values:
            return f"{one.outcome.values.count(None)} of its texts could not be measured."
        if any(seen(case.text) for case in one.cases):
            return "One of its texts is one that the finding was seen on."
        if any(told(case.text) in before for case in one.cases):
            return "Something was measured on one of its texts before the plan."
        return ""

    return [reason(one) for one in finding.evidence]


def _after(one: Evidence, plan: Plan) -> bool:
    """Whether it was measured after its plan; in the same instant, what was not planned was there before."""
    return one.at > plan.stated or (one.planned and one.at == plan.stated)


def _on_its_model(finding: Finding) -> Callable[[ModelRecord], bool]:
    """Whether a model is the finding's.

    A finding that was written down where its model was not in memory knows no weights: they are then those that its
    plan was first measured on, with the same name and no other revision.
    """
    own = finding.model
    first = (one.model for one in finding.evidence if one.planned and _may_be(own, one.model))
    known = own if own.fingerprint else next(first, own)
    return lambda model: same_weights(known, model)


def _may_be(one: ModelRecord, other: ModelRecord) -> bool:
    return one.name == other.name and (one.revision == other.revision or not (one.revision and other.revision))


def same_weights(one: ModelRecord, other: ModelRecord) -> bool:
    """Whether two records are of the same weights, in whatever dtype.

    By their fingerprints; where there is none, by name and revision. In another dtype the same weights have another
    fingerprint: then by name and revision, too, but not of a folder, whose weights nothing else tells.
    """
    if one.fingerprint and other.fingerprint:
        if one.dtype == other.dtype or one.fingerprint == other.fingerprint:
            return one.fingerprint == other.fingerprint
        if one.revision in ("", FOLDER):
            return False
    return (one.name, one.revision) == (other.name, other.revision)


def known_to(finding: Finding) -> Callable[[str], bool]:
    """Whether a text says what one does that the finding was seen on."""
    texts, digests = {told(text) for text in finding.seen.texts.values()}, set(finding.seen.digests)
    return lambda text: told(text) in texts or (bool(digests) and digest_of(text) in digests)


def told(text: str) -> str:
    """What a text says, to know it again: its words, whatever case, punctuation, spaces and unseen marks they have."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    shown = _UNSEEN.sub("", folded)
    return _BETWEEN.sub(" ", shown).strip() or worded(shown)


def worded(claim: str) -> str:
    """The words of a claim, whatever spaces and line breaks stand between them."""
    return " ".join(claim.split())


def digest_of(text: str) -> str:
    """SHA-256 of what a text says, in hexadecimal: to know it again without keeping it."""
    return hashlib.sha256(told(text).encode(errors="surrogatepass")).hexdigest()


def twice(cases: Sequence[Case]) -> tuple[int, int] | None:
    """The numbers, from 1, of two cases of the same text; None where there are none.

    An interval over texts takes each text for one that was drawn by itself. Nothing else makes another case of it: no
    kind reads all fields, and an encoder's heads have the same numbers whatever the target is.
    """
    first: dict[str, int] = {}
    for number, case in enumerate(cases, 1):
        known = first.setdefault(told(case.text), number)
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
        if plan is None or not _after(one, plan) or not plan.asks(one.measurement, one.cases):
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
