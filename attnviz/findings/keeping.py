"""How a finding changes: by evidence, by a plan, by a status. Every change is a new value of the next version."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import torch
import transformers
from pydantic import ValidationError

from attnviz.errors import InputError
from attnviz.findings.finding import Finding
from attnviz.findings.judging import judged, missing, worded
from attnviz.findings.lines import plain
from attnviz.findings.records import Evidence, ModelRecord, Plan, Status
from attnviz.fingerprint import fingerprint
from attnviz.models import Model

_NAME_LETTERS = 300
_AHEAD = timedelta(minutes=5)  # of this clock another may be


def attach(finding: Finding, evidence: Evidence) -> Finding:
    """The finding with one more piece of evidence.

    It counts as planned, and is judged by the plan, where it answers the plan's question on the plan's texts, with its
    controls, and was made after the plan was stated; any other evidence is "open". A status that its last planned
    evidence no longer holds up goes back to "hypothesis".
    raises   InputError where the finding can hold no more
    """
    plan = finding.plan
    counts = plan is not None and plan.asks(evidence.measurement, evidence.cases) and evidence.at >= plan.stated
    verdict = judged(evidence.outcome, plan) if counts and plan is not None else "open"
    outcome = evidence.outcome.model_copy(update={"verdict": verdict})
    kept = evidence.model_copy(update={"planned": counts, "outcome": outcome})
    return _changed(finding, evidence=(*finding.evidence, kept))


def planned(finding: Finding, plan: Plan) -> Finding:
    """The finding with a plan, or another one: evidence from before stays, and no longer counts as planned."""
    before = tuple(
        one.model_copy(update={"planned": False, "outcome": one.outcome.model_copy(update={"verdict": "open"})})
        for one in finding.evidence
    )
    return _changed(finding, plan=plan, evidence=before)


def reworded(finding: Finding, changes: Mapping[str, Any]) -> Finding:
    """The finding with fields as `changes` has them: a status stays with the claim and the heads that it was given for.

    Another claim, or one of other heads or edges, is a hypothesis again; plan and evidence stay, so that somebody who
    weighs them anew may give it its status back. Other spaces, and heads in another order, are no other claim.
    raises   InputError for what no finding can be
    """
    new = _next(finding, {**changes, "status": "hypothesis"})
    if _claimed(new) != _claimed(finding):
        return new
    return _next(finding, {"status": finding.status, **changes})


def _claimed(finding: Finding) -> tuple[object, ...]:
    return worded(finding.claim), frozenset(finding.heads), frozenset(finding.edges)


def with_status(finding: Finding, status: Status) -> Finding:
    """The finding with a status; InputError with what it lacks for it (`judging.missing`)."""
    reason = missing(finding, status)
    if reason:
        raise InputError(reason)
    return _next(finding, {"status": status})


def check_dates(finding: Finding) -> None:
    """InputError for a finding with a date that is not yet: for who keeps or takes one in."""
    latest = datetime.now(UTC) + _AHEAD
    dated = [("it was made", finding.created), ("it was changed", finding.changed)]
    dated += [("its plan was stated", finding.plan.stated)] if finding.plan is not None else []
    dated += [(f"evidence {number} was measured", one.at) for number, one in enumerate(finding.evidence, 1)]
    dated += [(f"{one.by:.60} labelled it", one.at) for one in finding.annotations]
    for what, at in dated:
        if at > latest:
            raise InputError(
                f"The finding “{finding.claim:.60}” says that {what} at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, which "
                "is still to come: set that right, or the clock of this machine."
            )


def model_record(model: Model) -> ModelRecord:
    """Which model, by its weights too, and what it ran on."""
    info = model.info
    return ModelRecord(
        name=info.name[:_NAME_LETTERS],
        revision=info.revision[:_NAME_LETTERS],
        fingerprint=fingerprint(model),
        family=info.family,
        dtype=info.dtype,
        device=str(model.hf_model.device),
        versions={
            "attnviz": _own_version(),
            "torch": str(torch.__version__),
            "transformers": str(transformers.__version__),
        },
    )


def _own_version() -> str:
    try:
        return importlib.metadata.version("attnviz")
    except importlib.metadata.PackageNotFoundError:  # a checkout that runs without being installed
        return "not installed"


def _changed(finding: Finding, **changes: Any) -> Finding:
    """What is left of the status after a change."""
    plain_one = _next(finding, {**changes, "status": "hypothesis"})
    if finding.status == "hypothesis" or missing(plain_one, finding.status):
        return plain_one
    return plain_one.model_copy(update={"status": finding.status})


def _next(finding: Finding, changes: dict[str, Any]) -> Finding:
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        return Finding(**{**dict(finding), **changes, "version": finding.version + 1, "changed": now})
    except ValidationError as error:
        raise InputError(f"The finding cannot be changed so: {plain(error)}") from error
