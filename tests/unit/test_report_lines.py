"""The lines of a report are Python that holds a finding's texts as literals, whatever the texts are."""

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import attnviz.findings
from attnviz import report
from attnviz.embedded import EMBEDDED
from attnviz.errors import InputError
from attnviz.findings import Case, Evidence, Finding, HeadAt, Measurement, ModelRecord, Outcome, Plan
from attnviz.report.scripts import load_line, measurement_script

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
NAMES = {name: getattr(attnviz.findings, name) for name in ("Case", "HeadAt", "Measurement", "Plan")}
CALLED = {"load_model", "Measurement", "Case", "HeadAt", "Plan", "Evidence", "measure", "model_record", "evidence_dots"}
CALLED |= {"zip", "abs", "max"}
MODEL = ModelRecord(name="org/model", revision="abc", fingerprint="'\"\n", dtype="float32", device="cpu")


def evidence(cases: tuple[Case, ...], measurement: Measurement, model: ModelRecord = MODEL) -> Evidence:
    outcome = Outcome(values=(0.5, *[None] * (len(cases) - 1)), mean=0.5, unit=cases[0].answer[:100])
    return Evidence(measurement=measurement, cases=cases, outcome=outcome, model=model)


@hypothesis_settings(max_examples=300)
@given(
    text=TEXT.filter(lambda text: len(text) > 0),
    others=st.tuples(TEXT, TEXT, TEXT, TEXT),
    bound=st.floats(allow_nan=False, allow_infinity=False),
    marks=st.lists(st.floats(0, 1), max_size=30),
)
def test_lines_hold_any_text_as_a_literal(
    text: str, others: tuple[str, str, str, str], bound: float, marks: list[float]
) -> None:
    what, answer, name, refuted = others
    cases = (Case(text=text, answer=answer, donor=refuted, marks=tuple(marks)), Case(text="a" + text, key=what))
    asked = Measurement(kind="ablation", what=what, heads=(HeadAt(layer=1, head=2, site="cross"),), seed=3)
    plan = Plan(measurement=asked, cases=cases, bound=bound, refuted_by=refuted, direction="below")
    model = ModelRecord(name=name, revision=answer, fingerprint=what[:64], dtype=refuted, device=answer)
    tree = ast.parse(measurement_script(evidence(cases, asked, model), plan))
    made: dict[str, object] = dict(NAMES)
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("measurement", "cases", "plan", "then"):
            exec(compile(ast.Module([node], []), "lines", "exec"), made)
    assert made["measurement"] == asked
    assert made["cases"] == cases
    assert made["then"] == (0.5, None, 0.5, None, None, None, None)
    assert isinstance(made["plan"], Plan)
    assert made["plan"].model_copy(update={"stated": plan.stated}) == plan
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    assert called <= CALLED
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    assert {text, answer, what, refuted} - {""} <= set(strings) | {what[:64]}


@hypothesis_settings(max_examples=100)
@given(text=TEXT.filter(str.strip), label=st.text(st.sampled_from("`|\\<[](!*_#~>&x"), min_size=1, max_size=20))
def test_any_claim_is_told(text: str, label: str) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    finding = Finding(
        claim=text, labels=(label,), note=label, model=ModelRecord(name=label), created=moment, changed=moment
    )
    for written in (report.html([finding], title=text, about=text), report.markdown([finding], title=text, about=text)):
        assert finding.id in written
        assert not any(mark in written for mark in "\u202e\u2028\u200b\x00")


def test_a_model_is_loaded_by_what_is_known_of_it() -> None:
    for name, entry in EMBEDDED.items():
        made = ModelRecord(name=entry.title, revision=entry.version, dtype="float32", device="cpu")
        assert load_line(made) == f'model = attnviz.load_model("{name}", device="cpu", dtype="float32")'
    assert load_line(MODEL) == (
        'model = attnviz.load_model("org/model", revision="abc", device="cpu", dtype="float32")'
    )
    assert load_line(ModelRecord(name="mine", revision="local folder", dtype="float16", device="cuda:1")) == (
        'model = attnviz.load_model("mine", device="cuda", dtype="float16")  # a folder: say where yours is'
    )
    assert load_line(ModelRecord(name="x", device="cpu\n1/0", dtype="torch.int3")) == 'model = attnviz.load_model("x")'


@pytest.mark.parametrize("n_cases", [1, 400])
def test_no_line_is_too_long_to_read(n_cases: int) -> None:
    cases = tuple(Case(text=f"{number} {'word ' * 40}", donor="", answer=" Mary") for number in range(n_cases))
    heads = tuple(HeadAt(layer=layer, head=head) for layer in range(9) for head in range(9))
    made = measurement_script(evidence(cases, Measurement(kind="ablation", heads=heads)), None)
    assert max(map(len, made.splitlines())) <= 120
    assert made.count("Case(\n") == n_cases


@pytest.mark.parametrize("write", [report.html, report.markdown])
def test_folders_are_shortened_as_it_is_written_whatever_that_would_make_of_a_record(write: Any) -> None:
    path = "/a/mine"
    folder = ModelRecord(name=path)
    cases = (Case(text=path, key="x"), Case(text="mine", key="x"))
    measured = evidence(cases, Measurement(kind="flow", what="rollout"), folder)
    hostile = Finding(
        claim=f"Of {path}", model=folder, evidence=(measured,), labels=(path, "mine"), figure="[" * 99_999
    )
    told = write([hostile], notes={hostile.id: f"Beside {path}"})
    assert path not in told.replace("&#x2F;", "/").replace("\\u002f", "/")
    assert "Of mine" in told
    assert "Beside mine" in told


def test_findings_are_read_one_after_the_other() -> None:
    asked: list[int] = []

    def each(n: int) -> Iterator[Finding]:
        for number in range(n):
            asked.append(number)
            yield Finding(claim=f"claim {number}", model=MODEL)

    assert "claim 2" in report.markdown(each(3))
    asked.clear()
    with pytest.raises(InputError, match="1 to 200 findings; got more"):
        report.html(each(10_000))
    assert len(asked) == 201
    with pytest.raises(InputError, match="got none"):
        report.html(each(0))
