"""Claims about SmolLM2 planned, measured and judged; and how often a claim that was found by looking holds by chance.

    python benchmarks/findings.py story FILE       twelve claims, planned and measured, written to FILE for `verify`
    python benchmarks/findings.py chance           the best of 72 heads for random words, on its own texts and others

After the first:  python -m attnviz verify FILE --model smollm2 --dtype bfloat16
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import attnviz
from attnviz import findings, heads
from attnviz.findings import Case, Evidence, Finding, HeadAt, Measurement, Plan, Seen
from attnviz.findings.cases import keys_of, query_of
from attnviz.findings.records import Direction, How
from attnviz.text import words

ROOT = Path(__file__).resolve().parents[1]
REPEATED = (
    "one two three four one two three four one two",
    "The cat sat on the mat and the cat sat on the mat",
    "Anna met Paul in Rome. Later Anna met Paul in",
    "red green blue red green blue red green",
)
TRIALS, TEXTS = 60, 10


def story(path: Path) -> None:
    model = attnviz.load_model("smollm2", device="cpu", dtype="float32")
    pairs = attnviz.ablation.read_cases(ROOT / "benchmarks" / "ablation_pairs.jsonl")
    found_on, *others = [
        Case(text=p.clean, donor=p.corrupted, answer=p.answer, foil=p.foil, key=p.answer.strip()) for p in pairs[:6]
    ]
    probed = heads.induction(model, samples=2).scores
    ranked = {
        name: np.argsort(-np.nan_to_num(probed[name][:, 0].mean(0)).ravel()) for name in ("induction", "previous")
    }

    def at(name: str, rank: int) -> HeadAt:
        layer, head = np.unravel_index(ranked[name][rank], probed[name].shape[-2:])
        return HeadAt(layer=int(layer), head=int(head))

    name_mover, early, late = HeadAt(layer=23, head=3), HeadAt(layer=1, head=5), HeadAt(layer=29, head=1)
    lost: list[tuple[HeadAt, How]] = [(name_mover, "resample"), (name_mover, "mean"), (early, "zero")]
    lost += [(early, "resample"), (late, "resample"), (HeadAt(layer=12, head=4), "resample")]
    claims: list[tuple[str, Measurement, Direction, float]] = [
        (
            f"Without {head} the name is lost ({how})",
            Measurement(kind="ablation", heads=(head,), how=how),
            "below",
            -1.0,
        )
        for head, how in lost
    ]
    claims += [
        (f"{head} reads the answer", Measurement(kind="attention", heads=(head,)), "above", 0.1)
        for head in (name_mover, late)
    ]
    claims += [("ALTI gives the answer more than other words", Measurement(kind="flow", what="alti"), "above", 0.1)]
    detected = [("induction", at("induction", 0), 0.3), ("induction", at("induction", 2), 0.3)]
    detected += [("previous", at("previous", 0), 0.4)]
    claims += [
        (f"{head}: {what}", Measurement(kind="detector", what=what, heads=(head,)), "above", bound)
        for what, head, bound in detected
    ]
    made = []
    for claim, asked, direction, bound in claims:
        cases = tuple(Case(text=text) for text in REPEATED) if asked.what == "induction" else tuple(others)
        plan = Plan(measurement=asked, cases=cases, direction=direction, bound=bound)
        finding = Finding(claim=claim, heads=asked.heads, model=findings.model_record(model), seen=_seen(found_on.text))
        finding = findings.planned(finding, plan)
        outcome = findings.measure(model, asked, cases, plan=plan)
        finding = findings.attach(
            finding, Evidence(measurement=asked, cases=cases, outcome=outcome, model=finding.model)
        )
        verdict = finding.evidence[-1].outcome.verdict
        if verdict != "open":
            finding = findings.with_status(finding, "supported" if verdict == "holds" else "refuted")
        made.append(finding)
        print(f"{finding.status:<11} {claim}: {outcome.words}", flush=True)
    path.write_text(findings.to_lines(made), "utf-8")


def chance() -> None:
    model = attnviz.load_model("minilm", device="cpu", dtype="float32")
    lines = (ROOT / "assets" / "sentences.txt").read_text("utf-8").split("\n")
    texts, draw = [text for text in lines if 6 < len(text.split()) < 16 and text.isascii()], np.random.default_rng(0)
    held = {"the same texts": 0, "other texts": 0}
    for _ in range(TRIALS):
        first, second = (_any_pairs(texts, draw) for _ in range(2))
        scores = _means(model, first)
        layer, head = np.unravel_index(np.nanargmax(scores), scores.shape)
        asked = Measurement(kind="attention", heads=(HeadAt(layer=int(layer), head=int(head)),))
        for name, cases in zip(held, (first, second), strict=True):
            plan = Plan(measurement=asked, cases=tuple(cases))
            held[name] += findings.measure(model, asked, cases, plan=plan).verdict == "holds"
    for name, n in held.items():
        print(f"best of 72 heads for random word pairs, measured on {name}: {n} of {TRIALS} claims hold")


def _any_pairs(texts: Sequence[str], draw: np.random.Generator) -> list[Case]:
    """Ten different ones: a plan takes each once."""
    found: dict[Case, None] = {}
    while len(found) < TEXTS:
        found[_any_pair(texts, draw)] = None
    return list(found)


def _any_pair(texts: Sequence[str], draw: np.random.Generator) -> Case:
    while True:
        text = texts[draw.integers(len(texts))]
        found = [text[start:stop] for start, stop in words(text) if text[start:stop].isalpha()]
        once = [word for word in found if found.count(word) == 1]
        if len(once) > 1:
            key, query = sorted(draw.choice(len(once), 2, replace=False))
            return Case(text=text, query=once[query], key=once[key])


def _means(model: attnviz.Model, cases: Sequence[Case]) -> npt.NDArray[np.float64]:
    found = []
    for case in cases:
        trace = model.trace(case.text)
        queries, keys = trace.axes(None)
        between = query_of(queries, case.text, case.query), keys_of(keys, case.text, case.key)
        found.append(heads.attention_between(trace, *between))
    return np.mean(found, axis=0)


def _seen(text: str) -> Seen:
    return Seen(texts={"text": text})


if __name__ == "__main__":
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("which", choices=("story", "chance"))
    reader.add_argument("file", nargs="?", type=Path, default=Path("findings.jsonl"))
    given = reader.parse_args()
    if given.which == "story":
        story(given.file)
    else:
        chance()
