"""What a finding may be called, and how it changes: nothing without a planned measurement with its control."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from attnviz import Model, findings
from attnviz.errors import InputError
from attnviz.findings import (
    LEAST_CONTROLS,
    Case,
    Evidence,
    Finding,
    HeadAt,
    Measurement,
    ModelRecord,
    Outcome,
    Plan,
    Seen,
    judged,
    missing,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ASKED = Measurement(kind="attention", heads=(HeadAt(layer=1, head=2),))
CASES = (Case(text="a b", key="a"), Case(text="c d", key="c"), Case(text="e f", key="e"))
PLAN = Plan(measurement=ASKED, cases=CASES, bound=0.5, stated=NOW)
MODEL = ModelRecord(name="tiny")


def outcome(mean: float = 0.8, half: float = 0.1, n: int = LEAST_CONTROLS, controls: float = 0.2) -> Outcome:
    """Three values with this mean and, where no end of a share cuts it, an interval of this half width."""
    values = mean + half * np.sqrt(3) / stats.t.ppf(0.975, 2) * np.array([-1, 0, 1])
    return findings.summed_up(ASKED, values.tolist(), np.array([0.0] + [controls] * (n - 1))[:n])


def evidence(
    made: Outcome, at: datetime = NOW, asked: Measurement = ASKED, cases: tuple[Case, ...] = CASES
) -> Evidence:
    return Evidence(measurement=asked, cases=cases, outcome=made, model=MODEL, at=at)


def finding(**more: object) -> Finding:
    return Finding(**{"claim": "L1H2 attends to the first word", "model": MODEL, **more})


@pytest.mark.parametrize(
    ("made", "direction", "bound", "verdict"),
    [
        (outcome(0.8), "above", 0.5, "holds"),
        (outcome(0.8), "below", 0.5, "fails"),
        (outcome(0.8), "above", 0.75, "open"),
        (outcome(0.8), "above", 0.95, "fails"),
        (outcome(0.8, controls=0.85), "above", 0.5, "open"),
        (outcome(0.8, controls=0.95), "above", 0.5, "fails"),
        (outcome(-0.8), "below", -0.5, "holds"),
        (outcome(0.8, n=LEAST_CONTROLS - 1), "above", 0.5, "open"),
        (outcome(0.8, n=0), "above", 0.95, "open"),
        (outcome(0.8).model_copy(update={"low": None, "high": None}), "above", 0.5, "open"),
    ],
)
def test_an_outcome_is_judged_by_its_interval_and_its_control(made, direction, bound, verdict) -> None:
    plan = PLAN.model_copy(update={"direction": direction, "bound": bound})
    assert judged(made, plan) == verdict


def test_a_finding_is_supported_by_what_was_planned_and_measured_elsewhere() -> None:
    seen = finding(seen=Seen(texts={"text": "found here"}))
    with pytest.raises(InputError, match="say first what is measured"):
        findings.with_status(seen, "supported")
    stated = findings.planned(seen, PLAN)
    with pytest.raises(InputError, match="measure it first"):
        findings.with_status(stated, "supported")
    held = findings.attach(stated, evidence(outcome()))
    supported = findings.with_status(held, "supported")
    assert (seen.version, stated.version, held.version, supported.version) == (1, 2, 3, 4)
    assert supported.evidence[0].planned
    assert supported.changed >= seen.changed
    with pytest.raises(InputError, match="came out as “holds”"):
        findings.with_status(held, "refuted")
    failed = findings.attach(supported, evidence(outcome(0.1, 0.05)))
    assert failed.status == "hypothesis"
    assert findings.with_status(failed, "refuted").status == "refuted"
    later, other = NOW + timedelta(seconds=1), Measurement(kind="flow", what="rollout")
    beside = findings.attach(supported, evidence(outcome(), later, other))
    assert beside.status == "supported"
    assert beside.evidence[-1].outcome.verdict == "open"


@pytest.mark.parametrize(
    "one",
    [
        evidence(outcome(), at=NOW - timedelta(seconds=1)),
        evidence(outcome(), asked=ASKED.model_copy(update={"heads": (HeadAt(layer=1, head=3),)})),
        evidence(findings.summed_up(ASKED, [0.8, 0.8], np.full(20, 0.2)), cases=CASES[:2]),
        evidence(outcome(n=0)),
    ],
    ids=["before the plan", "of another head", "on other texts", "without a control"],
)
def test_evidence_that_is_not_what_was_planned_supports_nothing(one: Evidence) -> None:
    held = findings.attach(findings.planned(finding(), PLAN), one)
    assert missing(held, "supported")
    assert missing(held, "refuted")


def test_the_text_it_was_found_on_supports_nothing() -> None:
    seen = finding(seen=Seen(texts={"text": CASES[1].text}))
    held = findings.attach(findings.planned(seen, PLAN), evidence(outcome()))
    assert "other than the one it was found on" in missing(held, "supported")


@pytest.mark.parametrize("drawn", [{"seed": 5}, {"n_controls": 40}])
def test_another_draw_of_controls_is_beside_the_plan(drawn: dict[str, int]) -> None:
    """Draws could be tried until one holds."""
    failed = findings.attach(findings.planned(finding(), PLAN), evidence(outcome(0.1, 0.05)))
    again = evidence(outcome(), NOW + timedelta(seconds=1), ASKED.model_copy(update=drawn))
    held = findings.attach(failed, again)
    assert not held.evidence[-1].planned
    assert "came out as “fails”" in missing(held, "supported")
    with pytest.raises(ValidationError, match="is not what was planned"):
        finding(plan=PLAN, evidence=(again.model_copy(update={"planned": True}),))


def test_a_plan_stated_later_does_not_count_what_is_there() -> None:
    first = findings.attach(finding(), evidence(outcome()))
    assert not first.evidence[0].planned
    assert missing(findings.planned(first, PLAN), "supported")
    peeked = findings.planned(first, PLAN.model_copy(update={"stated": first.evidence[0].at + timedelta(seconds=1)}))
    again = evidence(outcome()).model_copy(update={"at": peeked.plan.stated if peeked.plan else None})
    assert missing(findings.attach(peeked, again), "supported")  # on texts that were measured before the plan
    at_once = findings.planned(first, PLAN.model_copy(update={"stated": first.evidence[0].at}))
    assert missing(findings.attach(at_once, evidence(outcome(), NOW + timedelta(seconds=1))), "supported")
    stated = findings.planned(finding(), PLAN)
    supported = findings.with_status(findings.attach(stated, evidence(outcome())), "supported")
    other = findings.planned(supported, PLAN.model_copy(update={"bound": 0.6}))
    assert other.status == "hypothesis"
    assert len(other.evidence) == 1
    assert not any(one.planned for one in other.evidence)


def test_the_last_of_two_measurements_in_one_second_is_the_last_one_attached() -> None:
    stated = findings.planned(finding(), PLAN)
    both = findings.attach(findings.attach(stated, evidence(outcome())), evidence(outcome(0.1, 0.05)))
    assert missing(both, "supported")
    assert not missing(both, "refuted")


@settings(max_examples=150)
@given(
    planned=st.booleans(),
    late=st.integers(-2, 2),
    mean=st.floats(-1, 1),
    half=st.floats(0, 0.5),
    n=st.integers(0, 40),
    controls=st.floats(0, 1),
    own_text=st.booleans(),
    verdict=st.sampled_from(["holds", "fails", "open"]),
    status=st.sampled_from(["supported", "refuted"]),
)
def test_no_record_can_claim_a_status_that_its_figures_do_not_give(
    planned, late, mean, half, n, controls, own_text, verdict, status
) -> None:
    made = outcome(mean, half, n, controls).model_copy(update={"verdict": verdict})
    one = evidence(made, NOW + timedelta(seconds=late)).model_copy(update={"planned": planned})
    texts = {"text": CASES[0].text} if own_text else {}
    wanted = "holds" if status == "supported" else "fails"
    fits = late >= 0 and verdict == judged(made, PLAN) if planned else verdict == "open"
    earned = planned and fits and n >= LEAST_CONTROLS and not own_text and verdict == wanted
    record = {"plan": PLAN, "evidence": (one,), "seen": Seen(texts=texts)}
    for asked, may in ((status, earned), ("hypothesis", fits)):
        if may:
            assert finding(**record, status=asked).status == asked
        else:
            with pytest.raises(ValidationError):
                finding(**record, status=asked)


def test_a_finding_holds_no_more_than_it_can() -> None:
    full = finding(evidence=(evidence(outcome()),) * 200)
    with pytest.raises(InputError, match="at most 200 items"):
        findings.attach(full, evidence(outcome()))


def test_a_model_is_recorded_with_its_weights_and_programs(minilm: Model) -> None:
    record = findings.model_record(minilm)
    assert record.name == "all-MiniLM-L6-v2"
    assert record.dtype == "float32"
    assert record.device == "cpu"
    assert len(record.fingerprint) == 16
    assert set(record.versions) == {"attnviz", "torch", "transformers"}


def test_evidence_is_measured_again_by_the_rule_that_fits_it(minilm: Model) -> None:
    head = HeadAt(layer=3, head=5)
    asked = Measurement(kind="attention", heads=(head,))
    cases = tuple(Case(text=f"the {a} saw a {b} there", query="saw", key=b) for a, b in ("ab", "cd", "xy"))
    plan = Plan(measurement=asked, cases=cases, bound=0.9, stated=NOW)
    here = findings.model_record(minilm)
    stated = findings.planned(finding(model=here), plan)
    by_plan = Evidence(
        measurement=asked, cases=cases, outcome=findings.measure(minilm, asked, cases, plan=plan), model=here
    )
    single = Evidence(
        measurement=asked, cases=cases[:1], outcome=findings.measure(minilm, asked, cases[:1]), model=MODEL
    )
    other = findings.summed_up(asked, [single.outcome.mean + 0.1], np.array(single.outcome.control))
    moved = single.model_copy(update={"outcome": other})
    gone = single.model_copy(update={"cases": (cases[0].model_copy(update={"key": "cow"}),)})
    held = stated
    for one in (by_plan, single, moved, gone):
        held = findings.attach(held, one)
    refuted = findings.with_status(held, "refuted")
    found = findings.measure_again(minilm, refuted)
    assert [one.holds for one in found.evidence] == [True, True, False, None]
    assert [one.counts for one in found.evidence] == [True, False, False, False]
    assert found.holds is True
    assert found.evidence[0].difference == 0
    assert found.evidence[0].model == ()
    assert "still “fails”" in found.evidence[0].rule
    assert found.evidence[2].difference == pytest.approx(-0.1)
    assert "no farther than" in found.evidence[2].rule
    assert "no word 'cow'" in found.evidence[3].reason
    assert "model tiny then, all-MiniLM-L6-v2 now" in found.evidence[1].model
    assert findings.measure_again(minilm, held).holds is None
