"""A record that contradicts itself is refused: numbers that are not those of its values, cases that count twice."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from attnviz import findings
from attnviz.ablation.cases import half_width
from attnviz.errors import InputError
from attnviz.findings import Case, Evidence, Finding, HeadAt, Measurement, ModelRecord, Outcome, Plan, Seen
from attnviz.findings.figuring import MOST_HELD
from attnviz.findings.judging import digest_of

HEAD = (HeadAt(layer=0, head=0),)
SHARE = Measurement(kind="attention", heads=HEAD)
CHANGE = Measurement(kind="ablation", what="kl", heads=HEAD)
AUROC, SPEARMAN = (Measurement(kind="agreement", what=what, heads=HEAD) for what in ("auroc", "spearman"))
MODEL = ModelRecord(name="tiny")
CASES = tuple(Case(text=f"text {n}") for n in range(4))
CONTROL = np.linspace(0.1, 0.4, 50)
KNOWN = [0.5, 0.6, None, 0.85]


def evidence(asked: Measurement, known: Sequence[float | None] = KNOWN, **parts: object) -> Evidence:
    made = findings.summed_up(asked, known, CONTROL)
    given = made.model_dump() | parts
    return Evidence(measurement=asked, cases=CASES[: len(known)], outcome=Outcome(**given), model=MODEL)


def test_an_outcome_is_the_mean_the_interval_and_the_middle_of_its_controls() -> None:
    made = evidence(CHANGE).outcome
    half = half_width(np.array([[0.5], [0.6], [0.85]]))[0]
    assert made.mean == pytest.approx(0.65)
    assert (made.low, made.high) == pytest.approx((0.65 - half, 0.65 + half))
    assert made.high > 1
    assert evidence(SHARE).outcome.high == 1
    assert (made.control_low, made.control_high) == (CONTROL[1], CONTROL[48])
    assert evidence(CHANGE, KNOWN[:2]).outcome.low is None
    below = CONTROL - 0.3
    for asked, low in ((AUROC, 0), (SPEARMAN, -1)):
        assert findings.summed_up(asked, KNOWN, CONTROL).control_low == low
        turned = findings.summed_up(asked, KNOWN, CONTROL, below=below)
        assert (turned.control_low, turned.control_high) == (below[2], CONTROL[47])


@pytest.mark.parametrize("asked", [SHARE, CHANGE, AUROC, SPEARMAN], ids=lambda one: one.what or "share")
@pytest.mark.parametrize(
    "parts",
    [
        {"mean": 0.651},
        {"low": 0.5},
        {"low": None},
        {"low": None, "high": None},
        {"high": 0.7},
        {"control_low": 0.11},
        {"control_high": 0.3},
        {"control_low": None, "control_high": None},
        {"control_low": 0.5, "control_high": 0.4},
        {"control": ()},
        {"control": tuple((CONTROL / 2).tolist())},
        {"control_below": (0.1,)},
        {"control_below": tuple((CONTROL + 0.1).tolist())},
        {"values": (None, None, None, None)},
        {"values": (0.5, 0.6, 0.85, 0.85)},
        {"values": (1e308, 1e308, None, 1e308), "mean": 1e308},
    ],
)
def test_numbers_that_are_not_those_of_the_values_are_refused(asked: Measurement, parts: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"worked out from its|value for one case|one number for each|that turns"):
        evidence(asked, **parts)


@pytest.mark.parametrize("values", [[], [None, None], [float("nan")], [0.5, float("inf"), 0.5], [1e308] * 3])
def test_no_outcome_is_made_of_no_numbers(values: list[float | None]) -> None:
    with pytest.raises(InputError, match=r"no outcome|An outcome has a value"):
        findings.summed_up(CHANGE, values, CONTROL)


def test_an_interval_is_cut_where_its_kind_ends_and_nowhere_else() -> None:
    cut = findings.summed_up(SHARE, KNOWN, CONTROL)
    with pytest.raises(ValidationError, match="high is 1, and worked out from its values it is 1"):
        Evidence(measurement=CHANGE, cases=CASES, outcome=cut, model=MODEL)
    moved = findings.summed_up(AUROC, KNOWN, CONTROL)
    with pytest.raises(ValidationError, match=r"control_low is 0, and worked out from its control it is 0\.106"):
        Evidence(measurement=SHARE, cases=CASES, outcome=moved, model=MODEL)
    by_words = AUROC.model_copy(update={"what": "token_f1"})
    turned = findings.summed_up(AUROC, KNOWN, CONTROL, below=CONTROL)
    with pytest.raises(ValidationError, match="control_below is of agreement by a measure that turns"):
        Evidence(measurement=by_words, cases=CASES, outcome=turned, model=MODEL)
    with pytest.raises(ValidationError, match="4 values of 3 texts"):
        Evidence(measurement=SHARE, cases=CASES[:3], outcome=cut, model=MODEL)


@hypothesis_settings(max_examples=80)
@given(
    asked=st.sampled_from([SHARE, CHANGE, AUROC, SPEARMAN]),
    values=st.lists(st.none() | st.floats(-1e30, 1e30), min_size=1, max_size=6),
    control=st.lists(st.floats(-1e30, 1e30), max_size=60),
    turned=st.booleans(),
)
def test_what_is_measured_comes_back_from_a_file(
    asked: Measurement, values: list[float | None], control: list[float], turned: bool
) -> None:
    turned = turned and asked.kind == "agreement"
    values[0] = 0.25 if values[0] is None else values[0]
    held = np.array(control)
    made = findings.summed_up(asked, values, held, below=held - 1 if turned else None)
    cases = tuple(Case(text=f"text {n}") for n in range(len(values)))
    one = Evidence(measurement=asked, cases=cases, outcome=made, model=MODEL)
    assert Evidence.model_validate_json(one.model_dump_json()) == one


def test_many_controls_are_thinned_and_their_ends_stay() -> None:
    control = np.random.default_rng(0).random(3 * MOST_HELD)
    made = findings.summed_up(SHARE, [0.5], control)
    assert len(made.control) == MOST_HELD
    assert (made.control_low, made.control_high) == pytest.approx(np.quantile(control, [0.025, 0.975]), abs=1e-3)


def test_a_plan_takes_each_text_once() -> None:
    for second in (Case(text=" text\n0"), Case(text="text 0", donor="other"), Case(text="text 0", marks=(1.0,))):
        with pytest.raises(ValidationError, match="text 3 is text 1 once more"):
            Plan(measurement=SHARE, cases=(CASES[0], CASES[1], second))
    for parts in ({"key": "text"}, {"query": "0"}, {"target": "a"}, {"answer": " a", "foil": " b"}):
        with pytest.raises(ValidationError, match="text 2 is text 1 once more"):
            Plan(measurement=SHARE, cases=(CASES[0], Case(text="text 0", **parts)))
    plan = Plan(measurement=SHARE, cases=CASES)
    assert plan.asks(SHARE, plan.cases[::-1])
    assert not plan.asks(SHARE, (*plan.cases, plan.cases[0]))


def test_a_text_of_many_that_it_was_seen_on_is_known_by_its_digest() -> None:
    asked = Plan(measurement=SHARE, cases=CASES[:3], bound=0.3)
    made = findings.summed_up(SHARE, [0.5, 0.51, 0.52], np.linspace(0, 0.1, 20))
    one = Evidence(measurement=SHARE, cases=CASES[:3], outcome=made, model=MODEL)
    for digests, status in (((digest_of("another"),), "supported"), ((digest_of("text  2 "),), "")):
        stated = findings.planned(Finding(claim="c", model=MODEL, seen=Seen(digests=digests)), asked)
        held = findings.attach(stated, one.model_copy(update={"at": stated.plan.stated if stated.plan else None}))
        if status:
            assert findings.with_status(held, "supported").status == status
        else:
            with pytest.raises(InputError, match="other than the one it was found on"):
                findings.with_status(held, "supported")
    with pytest.raises(ValidationError):
        Seen(digests=("ab",))


def test_a_status_stays_with_the_words_it_was_given_for() -> None:
    plan = Plan(measurement=SHARE, cases=CASES[:3], bound=0.3)
    made = findings.summed_up(SHARE, [0.5, 0.51, 0.52], np.linspace(0, 0.1, 20))
    one = Evidence(measurement=SHARE, cases=CASES[:3], outcome=made, model=MODEL, at=plan.stated)
    heads = (HeadAt(layer=0, head=0), HeadAt(layer=1, head=0))
    stated = findings.planned(Finding(claim="It reads the name", heads=heads, model=MODEL), plan)
    supported = findings.with_status(findings.attach(stated, one), "supported")
    for changes in ({"note": "n"}, {"claim": "It  reads the name "}, {"heads": heads[::-1]}, {"labels": ("sink",)}):
        assert findings.reworded(supported, changes).status == "supported"
    for changes in ({"claim": "It reads all names"}, {"heads": heads[:1]}, {"claim": "It", "note": "n"}):
        new = findings.reworded(supported, changes)
        assert (new.status, new.plan, new.evidence) == ("hypothesis", supported.plan, supported.evidence)
        assert findings.with_status(new, "supported").status == "supported"
    with pytest.raises(InputError, match="cannot be changed so: claim"):
        findings.reworded(supported, {"claim": " "})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"kind": "attention", "references": ("a",)}, "by the mean"),
        ({"kind": "ablation", "how": "zero", "references": ("a",)}, "by the mean"),
        ({"kind": "detector", "what": "sink", "anywhere": True}, "control of an ablation"),
    ],
)
def test_a_measurement_says_only_what_its_kind_reads(parts: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Measurement(heads=HEAD, **parts)
