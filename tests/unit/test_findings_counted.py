"""What evidence a status rests on: of the finding's own weights, on texts that are new, each counted once."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from attnviz import findings
from attnviz.errors import InputError
from attnviz.findings import Annotation, Case, Evidence, Finding, HeadAt, Measurement, ModelRecord, Plan, Seen
from attnviz.findings.judging import FOLDER, digest_of, told

NOW = datetime(2026, 11, 23, tzinfo=UTC)
AFTER = NOW + timedelta(seconds=1)
ASKED = Measurement(kind="detector", what="previous", heads=(HeadAt(layer=0, head=0),))
CASES = (Case(text="one"), Case(text="two"), Case(text="three"))
PLAN = Plan(measurement=ASKED, cases=CASES, bound=0.5, stated=NOW)
MODEL = ModelRecord(name="tiny", revision="r1", fingerprint="a" * 16, dtype="float32")
CONTROL = np.linspace(0, 0.2, 20)


def evidence(*values: float, at: datetime = AFTER, model: ModelRecord = MODEL) -> Evidence:
    made = findings.summed_up(ASKED, values or (0.8, 0.82, 0.84), CONTROL)
    return Evidence(measurement=ASKED, cases=CASES, outcome=made, model=model, at=at)


def stated(model: ModelRecord = MODEL, plan: Plan = PLAN, **parts: object) -> Finding:
    return findings.planned(Finding(claim="it looks back", model=model, **parts), plan)


def other(**parts: str) -> ModelRecord:
    return MODEL.model_copy(update=parts)


@pytest.mark.parametrize("field", ["answer", "foil", "query", "key", "donor", "target"])
def test_one_text_under_many_names_is_no_plan(field: str) -> None:
    """Three cases of one text have an interval of width 0 where the kind does not read what tells them apart."""
    cases = [{"text": "one", field: name} for name in ("a", "b", "c")]
    for kind in ("detector", "attention", "ablation", "agreement", "flow"):
        asked = Measurement(kind=kind, heads=() if kind == "flow" else ASKED.heads)
        with pytest.raises(ValidationError, match="text 2 is text 1 once more"):
            Plan(measurement=asked, cases=cases)


@pytest.mark.parametrize(
    "text",
    [
        "Mary met John in the park.",
        "mary met john  in the park",
        "Mary, met John in the park!",
        "\ufeffMary met John in the park",
        "Ma\u200bry met John in the par\u00adk",
        "\uff2d\uff41ry met John in the park",
        "Mary met John in the park \ufe0f\u3164",
    ],
)
def test_a_text_with_another_full_stop_is_no_other_text(text: str) -> None:
    first = "Mary met John in the park"
    assert told(text) == told(first)
    assert digest_of(text) == digest_of(first)
    with pytest.raises(ValidationError, match="text 2 is text 1 once more"):
        Plan(measurement=ASKED, cases=(Case(text=first), Case(text=text)))
    for seen in (Seen(texts={"text": first}), Seen(digests=(digest_of(first),))):
        plan = PLAN.model_copy(update={"cases": (Case(text=text), *CASES[1:])})
        made = evidence().model_copy(update={"cases": plan.cases})
        held = findings.attach(stated(plan=plan, seen=seen), made)
        assert "One of its texts is one that the finding was seen on" in findings.missing(held, "supported")


def test_other_texts_are_other_texts() -> None:
    several = ["1/12 2003", "11/2 2003", "a b", "ab", "...", "!", "", "\u0915\u093e", "\u0915\u0940", "x + y", "x = y"]
    assert len({told(text) for text in several}) == len(several)


def test_claims_differ_by_their_punctuation() -> None:
    held = findings.with_status(findings.attach(stated(), evidence()), "supported")
    assert findings.reworded(held, {"claim": "it  looks back"}).status == "supported"
    for claim in ("it looks -back", "It looks back", "it looks back?"):
        assert findings.reworded(held, {"claim": claim}).status == "hypothesis"


@pytest.mark.parametrize(
    ("own", "measured", "counts"),
    [
        (MODEL, MODEL, True),
        (MODEL, other(fingerprint="b" * 16), False),
        (MODEL, other(name="renamed", device="cuda"), True),
        (MODEL, other(dtype="bfloat16", fingerprint="b" * 16), True),
        (MODEL, other(dtype="bfloat16", fingerprint="b" * 16, revision="r2"), False),
        (other(revision=FOLDER), other(revision=FOLDER, dtype="bfloat16", fingerprint="b" * 16), False),
        (MODEL, other(fingerprint=""), True),
        (MODEL, other(fingerprint="", revision=""), False),
        (MODEL, other(fingerprint="", name="evil"), False),
        (other(fingerprint="", revision="", dtype=""), MODEL, True),
        (other(fingerprint=""), other(revision="r2"), False),
        (other(fingerprint=""), other(name="evil"), False),
    ],
)
def test_evidence_of_another_model_holds_nothing_up(own: ModelRecord, measured: ModelRecord, counts: bool) -> None:
    held = findings.attach(stated(own), evidence(model=measured))
    assert held.evidence[0].outcome.verdict == "holds"
    assert bool(findings.counted(held)) is counts
    (reason,) = findings.uncounted(held)
    assert reason == (
        "" if counts else "It was measured on another model, or on other weights, than the finding is of."
    )
    assert bool(findings.missing(held, "supported")) is not counts
    if not counts:
        with pytest.raises(ValidationError, match="measured on another model"):
            Finding(**{**dict(held), "status": "supported"})


def test_a_finding_without_weights_has_those_it_was_first_measured_on() -> None:
    unread = ModelRecord(name="tiny")
    foreign, tuned = other(name="evil", fingerprint="c" * 16), other(fingerprint="b" * 16)
    held = stated(unread)
    for one in (evidence(model=foreign), evidence(), evidence(model=tuned)):
        held = findings.attach(held, one)
    assert findings.counted(held) == [held.evidence[1]]


def test_evidence_that_is_dated_later_is_not_the_last() -> None:
    held = findings.attach(stated(), evidence(at=datetime(2999, 1, 1, tzinfo=UTC)))
    refuted = findings.attach(held, evidence(0.1, 0.11, 0.12))
    assert "came out as “fails”" in findings.missing(refuted, "supported")
    assert findings.with_status(refuted, "refuted").status == "refuted"


def test_dates_to_come_are_refused() -> None:
    soon, late = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (4, 6))
    held = findings.attach(stated(), evidence())
    for at, wrong in ((soon, False), (late, True)):
        for one in (
            held.model_copy(update={"created": at}),
            held.model_copy(update={"changed": at}),
            held.model_copy(update={"plan": PLAN.model_copy(update={"stated": at})}),
            held.model_copy(update={"evidence": (evidence(at=at),)}),
            held.model_copy(update={"annotations": (Annotation(by="Bo", at=at),)}),
        ):
            if wrong:
                with pytest.raises(InputError, match="which is still to come"):
                    findings.check_dates(one)
            else:
                findings.check_dates(one)


def test_a_plan_restated_at_once_makes_no_text_fresh() -> None:
    """To the microsecond: a plan and what was measured before it may stand in one second."""
    held = findings.attach(
        findings.planned(stated(), Plan(measurement=ASKED, cases=CASES)), evidence(at=datetime.now(UTC))
    )
    again = findings.planned(held, Plan(measurement=ASKED, cases=CASES, bound=0.1))
    assert again.plan is not None
    assert again.plan.stated > held.evidence[0].at
    measured = findings.attach(again, evidence(at=datetime.now(UTC)))
    assert measured.evidence[-1].planned
    assert findings.uncounted(measured)[-1] == "Something was measured on one of its texts before the plan."
    assert Evidence.model_validate_json(measured.evidence[-1].model_dump_json()) == measured.evidence[-1]


def test_what_does_not_count_says_why() -> None:
    bare = findings.summed_up(ASKED, (0.8, 0.82, 0.84), np.zeros(0))
    short = findings.summed_up(ASKED, (0.8, None, 0.84), CONTROL)
    held = findings.attach(stated(), evidence().model_copy(update={"outcome": bare}))
    held = findings.attach(held, evidence().model_copy(update={"outcome": short}))
    held = findings.attach(
        held, evidence().model_copy(update={"measurement": Measurement(kind="flow", what="rollout")})
    )
    assert findings.uncounted(held) == [
        "It has no control.",
        "1 of its texts could not be measured.",
        "It is beside the plan.",
    ]
