"""Findings as JSON Lines: what goes out comes back, and what is no finding is refused with its line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnviz import findings
from attnviz.errors import InputError
from attnviz.findings import Case, Finding, Measurement, ModelRecord, Plan

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@settings(max_examples=60)
@given(claim=TEXTS.filter(str.strip), note=TEXTS, text=TEXTS, bound=st.floats(allow_nan=False, allow_infinity=False))
def test_findings_come_back_as_they_were(claim: str, note: str, text: str, bound: float) -> None:
    plan = Plan(measurement=Measurement(kind="flow", what="rollout"), cases=(Case(text=text),), bound=bound)
    made = [
        Finding(claim=claim, note=note, plan=plan, model=ModelRecord(name=text)),
        Finding(claim="\u2028 two\nlines", model=ModelRecord(name="m")),
    ]
    assert findings.of_lines(findings.to_lines(made)) == made


def test_what_is_no_finding_is_refused_with_its_line() -> None:
    good = findings.to_lines([Finding(claim="a claim", model=ModelRecord(name="m"))])
    row = json.loads(good)
    for wrong, said in (
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        (json.dumps({**row, "id": "x"}), "id: "),
        (json.dumps({**row, "extra": 1}), "extra: "),
        (json.dumps({**row, "status": "supported"}), "planned"),
        (json.dumps({**row, "confidence": 2}), "confidence: "),
        (good, "stands in line 1 already"),
    ):
        with pytest.raises(InputError, match=r"^a\.jsonl, line 3: ") as caught:
            findings.of_lines(f"{good}\n{wrong}", name="a.jsonl")
        assert said in str(caught.value)
        assert len(str(caught.value)) < 400


def test_blank_lines_and_a_byte_order_mark_are_nothing() -> None:
    good = findings.to_lines([Finding(claim="a claim", model=ModelRecord(name="m"))])
    assert len(findings.of_lines(f"\ufeff\n{good}\r\n \n")) == 1
    assert findings.of_lines("") == []
