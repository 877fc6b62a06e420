"""Measuring again: the evidence of a finding repeated on a model, and whether it still says the same.

Two rules, by what the evidence was:

    planned   its verdict was "holds" or "fails": it has to come out the same, by the same plan
    other     the new mean has to lie within the old 95% interval; where there was none (fewer than three texts), no
              farther from the old mean than 5% of it, or than 0.01 of its unit

By both, every text that had a value has to have one again: a mean over fewer texts is another claim.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnviz.errors import AttnvizError, Cancelled, OutOfMemory
from attnviz.findings.finding import Finding
from attnviz.findings.judging import counted
from attnviz.findings.keeping import model_record
from attnviz.findings.measuring import measure
from attnviz.findings.records import Evidence, ModelRecord, Outcome
from attnviz.models import Model
from attnviz.tap import Progress

_SHARE, _LEAST = 0.05, 0.01
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Again:
    """One piece of evidence, measured again.

    now      None where it cannot be measured on this model, for `reason`; also where some of its texts cannot
    holds    None where `now` is
    rule     by which, in words
    counts   whether the finding's status rests on it
    model    what is another than it was, in words; () for nothing
    """

    evidence: Evidence
    now: Outcome | None
    holds: bool | None
    rule: str
    counts: bool
    model: tuple[str, ...]
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Now minus then, in the outcome's unit."""
        return None if self.now is None else self.now.mean - self.evidence.outcome.mean


@dataclass(frozen=True)
class Repeated:
    """A finding, measured again."""

    finding: Finding
    evidence: tuple[Again, ...]

    @property
    def holds(self) -> bool | None:
        """Whether what its status rests on came out the same; of a hypothesis, None: nothing rests on it."""
        counted = [one for one in self.evidence if one.counts]
        return all(one.holds is True for one in counted) if counted else None


def measure_again(model: Model, finding: Finding, *, progress: Progress | None = None) -> Repeated:
    """Every piece of evidence again: the same measurement, cases and seeds.

    progress   called with (texts done, all of all pieces); raise from it to stop
    What cannot be measured on this model has its reason; only a lack of memory and a wish to stop are raised.
    """
    here = model_record(model)
    last = rests_on(finding)
    found: list[Again] = []
    texts = [len(evidence.cases) for evidence in finding.evidence]

    def told(done: int, n: int) -> None:
        if progress is not None:
            now = sum(texts[: len(found)])
            progress(now + (texts[len(found)] * done // max(n, 1) if len(found) < len(texts) else 0), sum(texts))

    for evidence in finding.evidence:
        told(0, 1)
        found.append(_again(model, finding, evidence, evidence is last, differing(evidence.model, here), told))
    told(0, 1)
    return Repeated(finding, tuple(found))


def rests_on(finding: Finding) -> Evidence | None:
    """The evidence that a status rests on: the last that counts; None of a hypothesis."""
    return None if finding.status == "hypothesis" else next(reversed(counted(finding)), None)


def differing(then: ModelRecord, now: ModelRecord) -> tuple[str, ...]:
    """What is another model, or another program, in words."""
    fields = {"name": "model", "revision": "revision", "fingerprint": "weights", "dtype": "dtype", "device": "device"}
    told = [
        f"{word} {getattr(then, name) or 'unknown'} then, {getattr(now, name)} now"
        for name, word in fields.items()
        if getattr(then, name) != getattr(now, name)
    ]
    programs = sorted({*then.versions, *now.versions})
    told += [
        f"{name} {then.versions.get(name, 'unknown')} then, {now.versions.get(name, 'unknown')} now"
        for name in programs
        if then.versions.get(name) != now.versions.get(name)
    ]
    return tuple(told)


def _again(
    model: Model, finding: Finding, evidence: Evidence, counts: bool, other: tuple[str, ...], progress: Progress
) -> Again:
    then = evidence.outcome
    plan = finding.plan if evidence.planned else None
    judged = plan is not None and then.verdict != "open"
    rule = f"still “{then.verdict}” by its plan" if judged else _tolerance(then)[2]
    try:
        now = measure(model, evidence.measurement, evidence.cases, plan=plan, progress=progress)
    except (Cancelled, OutOfMemory):
        raise
    except AttnvizError as error:
        return Again(evidence, None, None, rule, counts, other, str(error))
    low, high, _ = _tolerance(then)
    holds = now.verdict == then.verdict if judged else low <= now.mean <= high
    lost = sum(new is None for old, new in zip(then.values, now.values, strict=True) if old is not None)
    reason = f"{lost} of the {len(now.values)} texts cannot be measured any more, so it does not hold" if lost else ""
    return Again(evidence, now, holds and not lost, rule, counts, other, reason)


def _tolerance(then: Outcome) -> tuple[float, float, str]:
    """(low, high, in words): where the mean may lie."""
    if then.low is not None and then.high is not None:
        slack = _ROUNDING * max(1.0, abs(then.mean))
        return then.low - slack, then.high + slack, f"within the interval then, {then.low:.3g} to {then.high:.3g}"
    within = max(_SHARE * abs(then.mean), _LEAST)
    return then.mean - within, then.mean + within, f"no farther than {within:.3g} from {then.mean:.3g}"
