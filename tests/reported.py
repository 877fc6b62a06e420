"""Ten findings of all kinds, measured on the dates model, with a stranger's texts among them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import plotly.io

import attnviz
from attnviz import Head, Model, figures, findings
from attnviz.findings import Annotation, Case, EdgeAt, Evidence, Finding, HeadAt, Measurement, ModelRecord, Plan, Seen
from attnviz.text import words

HOSTILE = (
    '</script></pre><img src=x onerror="window.__pwned=1"><svg/onload=window.__pwned=1> ``` [a](https://evil.test) '
    "'''\"\"\" \\ {{x}} | \u202egnp.exe \u2028 <a href='https://evil.test'>here</a> Jun 12, 1918"
)
FENCES = "````\n# out of it\n```\n<b>"
SHORT = "</script><svg/onload=window.__pwned=1> \u202e`|' Jun 12, 1918"  # the dates model reads 64 letters
ROOT = Path(__file__).parents[1]
DATES = (("12 June 1918", "1918-06-12"), ("May 3, 2003", "2003-05-03"), ("1 Dec 1999", "1999-12-01"))
CASES = tuple(Case(text=text, target=iso, query="", key=text.split()[-1]) for text, iso in DATES)
STRONG = (*(HeadAt(site="cross", layer=1, head=head) for head in (0, 2, 3)), HeadAt(site="encoder", layer=1, head=2))
WEAK = (HeadAt(site="cross", layer=0, head=1), HeadAt(site="decoder", layer=0, head=3))
CROSS, ENCODER = HeadAt(site="cross", layer=1, head=1), HeadAt(site="encoder", layer=0, head=0)
LINES = """import attnviz

model = attnviz.load_model("dates", device="cpu", dtype="float32")
trace = model.trace("12 June 1918", "1918-06-12")
figure = attnviz.figures.attention_map(trace, attnviz.Head(1, 1, "cross"))
figure.show()
"""


@cache
def dates() -> Model:
    return attnviz.load_model("dates", device="cpu", dtype="float32")


@cache
def ten() -> tuple[Finding, ...]:
    """Two with a status, of each kind of measurement and each way to remove heads one, one with a kept view, and
    strangers'."""
    record = findings.model_record(dates())
    marked = tuple(
        Case(text=text, marks=tuple(float(text[a:b].isdigit()) for a, b in words(text))) for text, _ in DATES
    )
    removed = Measurement(kind="ablation", what="loss", how="resample", heads=WEAK, n_controls=3, seed=11)
    as_a_page = removed.model_copy(update={"how": "mean", "references": tuple(d[0] for d in DATES), "anywhere": True})
    one_text = (Case(text=SHORT, target="1918-06-12", query="", key="Jun"),)
    return (
        decided(STRONG, "supported", record),
        decided(WEAK, "refuted", record),
        measured("Years are read from the last word", record, Measurement(kind="attention", heads=(CROSS,)), CASES),
        measured("It reads the word before", record, Measurement(kind="detector", what="previous", heads=(ENCODER,))),
        measured("It agrees with a person", record, Measurement(kind="agreement", heads=(ENCODER,)), marked),
        measured("Rollout finds the year", record, Measurement(kind="flow", what="rollout"), CASES),
        measured("Its loss hardly moves", record, removed, CASES[:2], also=as_a_page),
        measured(HOSTILE, record, Measurement(kind="attention", heads=(CROSS,)), one_text),
        Finding(
            claim="The key that is looked at is the year",
            heads=(CROSS,),
            edges=(EdgeAt(query=1, key=2, head=CROSS),),
            labels=("retrieval", "<b>bold</b>"),
            author="ada@example.org",
            note=HOSTILE,
            model=record,
            seen=Seen(
                page="Explore",
                params={
                    "model": "dates",
                    "layer": "1",
                    "text": "Xk3k2jd8fjw09d2jdkw0",
                    "other": "Ak3k2jd8fjw09d2jdkw0",
                },
                texts={"text": DATES[0][0], "other": HOSTILE, "second": FENCES},
                lines=LINES,
            ),
            figure=plotly.io.to_json(figures.attention_map(dates().trace(*DATES[0]), Head(1, 1, "cross"))),
            annotations=(Annotation(by="eve@example.org", labels=("position",), confidence=0.5),),
        ),
        Finding(claim="A guess that nobody measured", model=ModelRecord(name="org/some-model", revision="abc")),
    )


def decided(heads: Sequence[HeadAt], status: findings.records.Status, record: ModelRecord) -> Finding:
    asked = Measurement(kind="ablation", what="loss", how="zero", heads=tuple(heads))
    rows = [line.split("\t") for line in (ROOT / "assets/dates/dates.tsv").read_text("utf-8").splitlines()[:6]]
    cases = tuple(Case(text=text, target=iso) for text, iso in rows)
    plan = Plan(measurement=asked, cases=cases, bound=0.3, refuted_by=f"a loss that hardly moves {HOSTILE}")
    stated = findings.planned(Finding(claim=f"{len(heads)} heads are needed", heads=tuple(heads), model=record), plan)
    made = findings.measure(dates(), asked, cases, plan=plan)
    return findings.with_status(
        findings.attach(stated, Evidence(measurement=asked, cases=cases, outcome=made, model=record)), status
    )


def measured(
    claim: str,
    record: ModelRecord,
    asked: Measurement,
    cases: tuple[Case, ...] = CASES,
    also: Measurement | None = None,
) -> Finding:
    """A finding with evidence beside any plan, as pages attach it."""
    made = Finding(claim=claim, heads=asked.heads, model=record)
    for one in (asked, *([also] if also else [])):
        outcome = findings.measure(dates(), one, cases)
        evidence = Evidence(measurement=one, cases=cases, outcome=outcome, model=record, by="bob@example.org")
        made = findings.attach(made, evidence)
    return made
