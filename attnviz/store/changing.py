"""Who may change what of a finding that is kept, and what nobody changes.

nobody      its author and the day it was made; evidence that is kept: more is added behind it, none altered or
            dropped. That it counts as planned goes with another plan, as `findings.planned` has it
its owner   all the rest. Reworded, a claim is a hypothesis again: its evidence was planned for another
others      of a shared finding: they add evidence in their own name, and leave its owner the last places for more
"""

from __future__ import annotations

from attnviz.errors import InputError
from attnviz.findings import Evidence, Finding
from attnviz.findings.finding import MOST_EVIDENCE
from attnviz.findings.judging import missing, worded

OWNERS_PLACES = 20  # of a finding's evidence

_FIXED = ("author", "created")
_ANYBODYS = ("evidence",)
_COUNTED = ("version", "changed", "annotations")  # by the store itself


def check_change(kept: Finding, new: Finding, *, owner: str, by: str) -> None:
    """InputError for a change of a kept finding that `by` may not make."""
    changed = [name for name in type(kept).model_fields if getattr(kept, name) != getattr(new, name)]
    fixed = [name for name in changed if name in _FIXED]
    others = [name for name in changed if name not in (*_ANYBODYS, *_COUNTED)]
    reworded = _said(kept) != _said(new)
    if owner != by and "status" in others and new.status == "hypothesis" and missing(new, kept.status):
        others.remove("status")  # what they measured took it away
    if owner != by and others:
        raise InputError(
            f"Only {owner} changes this finding's {' and '.join(others)}: label it as yourself, add evidence, or keep "
            "a finding of your own."
        )
    if fixed:
        raise InputError(f"A finding's {' and '.join(fixed)} stays as it was: make a new finding instead.")
    if reworded and new.status != "hypothesis":
        raise InputError(
            f"This finding says something else now, and what was measured was planned for what it said: it is no "
            f"longer {new.status}. Save it as a hypothesis, and plan again."
        )
    _check_evidence(kept, new, owner=owner, by=by)


def _said(finding: Finding) -> tuple[object, ...]:
    """What a status was given for, as `findings.reworded` has it."""
    return worded(finding.claim), frozenset(finding.heads), frozenset(finding.edges)


def _check_evidence(kept: Finding, new: Finding, *, owner: str, by: str) -> None:
    n = len(kept.evidence)
    before = kept.evidence if kept.plan == new.plan else tuple(map(_unplanned, kept.evidence))
    if new.evidence[:n] != before:
        raise InputError(
            "Evidence that is kept is neither altered nor dropped, and does not count for another plan: add the new "
            "measurement behind it, or make a new finding."
        )
    if owner != by and n < len(new.evidence) > MOST_EVIDENCE - OWNERS_PLACES:
        raise InputError(
            f"This finding has {n} pieces of evidence, and the last {OWNERS_PLACES} places of {MOST_EVIDENCE} are "
            f"{owner}'s. Keep a finding of your own."
        )
    names = {one.by for one in new.evidence[n:]}
    if names - ({by, ""} if owner == by else {by}):
        raise InputError(f"Evidence is added in one's own name: say by={by!r}, or import the findings of others.")


def _unplanned(evidence: Evidence) -> Evidence:
    outcome = evidence.outcome.model_copy(update={"verdict": "open"})
    return evidence.model_copy(update={"planned": False, "outcome": outcome})
