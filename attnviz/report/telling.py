"""What a report says of its findings, as blocks; and what it leaves out of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from attnviz.ablation.asked import IN_WORDS
from attnviz.errors import InputError
from attnviz.findings import Case, EdgeAt, Evidence, Finding, ModelRecord, Plan, counted, rests_on
from attnviz.report.blocks import Block, Code, Facts, Heading, Picture, Prose, Quoted, Table, shown
from attnviz.report.drawing import evidence_picture, safe_figure, title_of, values_of
from attnviz.report.scripts import CLOSE, measurement_script
from attnviz.store.shorn import shorn, shortener

MOST_FINDINGS = 200
STATUS_WORDS = {
    "hypothesis": "nothing that was planned beforehand and measured decides it yet",
    "supported": "what was planned beforehand was measured, with its control, on texts other than the one it was found "
    "on, and came out as expected",
    "refuted": "what was planned beforehand was measured, with its control, on texts other than the one it was found "
    "on, and came out against it",
}
VERDICT_WORDS = {
    "holds": "holds: the interval is on the expected side of the bound, and the mean beyond the control",
    "fails": "fails: the interval is on the other side of the bound, or within the control",
    "open": "open: not judged by a plan, too few texts or controls, or the interval decides nothing",
}
_CARE = (
    "The Python lines are complete files for a machine that has AttnViz. Lines that draw a kept view were written "
    "down by whoever kept it, perhaps a stranger: read them before you run them."
)
_CAPTION = (
    "Above, a dot for each text and their mean with its 95% interval; below, the controls. The band is what a finding "
    "has to lie beyond. It shows what was measured on these texts, not why."
)
_KEPT = "As its author kept it. It shows one text; what was measured on others stands below."
_CASE_COLUMNS = ("text", "target", "donor", "answer", "foil", "query", "key")
_CELL_LETTERS = 2_000
_HEADS = 60
_KEY = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9A-Z_])[A-Za-z0-9_-]{16,64}")  # how addresses name a text that is kept
_SECRET = re.compile(r"token$|password|secret|apikey|api_key", re.IGNORECASE)
_MAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")


def care() -> Block:
    """What stands before all findings."""
    return Prose(_CARE)


def blocks(number: int, finding: Finding, note: str = "") -> Iterator[Block]:
    """One finding behind its heading, without folders of this machine: they are shortened as it is written.

    note   what is to be known of it beside what it says of itself
    """
    told, short = shorn(finding), shortener(finding) or _as_it_is
    for block in _finding(number, told, note, short):
        yield _shortened(block, short)


def checked(findings: Iterable[Finding]) -> Iterator[tuple[int, Finding]]:
    """Findings with their numbers, from 1; InputError for none, or more than a report is read with."""
    number = 0
    for number, finding in enumerate(findings, 1):
        if number > MOST_FINDINGS:
            break
        yield number, finding
    if not 0 < number <= MOST_FINDINGS:
        got = "none" if not number else "more"
        raise InputError(f"A report has 1 to {MOST_FINDINGS} findings; got {got}. Choose some of them.")


def anchor(number: int) -> str:
    return f"finding-{number}"


def shortened(finding: Finding) -> str:
    """A finding's claim for a list of them, without folders of this machine."""
    return (shortener(finding) or _as_it_is)(finding.claim)


def _as_it_is(words: str) -> str:
    return words


def _shortened(block: Block, short: Callable[[str], str]) -> Block:
    """A block with every text in it such; a picture's own are when it is drawn."""
    match block:
        case Heading() | Prose():
            return replace(block, words=short(block.words))
        case Facts(rows):
            return Facts(tuple((short(name), short(value)) for name, value in rows))
        case Table(columns, rows):
            return Table(tuple(map(short, columns)), tuple(tuple(map(short, row)) for row in rows))
        case Quoted(name, text):
            return Quoted(short(name), short(text))
        case Code(name, lines):
            return Code(short(name), short(lines))
    return block


def _finding(number: int, finding: Finding, note: str, short: Callable[[str], str]) -> Iterator[Block]:
    yield Heading(f"{number}. {finding.claim}", 2, anchor(number))
    yield Facts(
        tuple(
            row
            for row in (
                ("status", f"{finding.status}: {STATUS_WORDS[finding.status]}"),
                ("heads", _some([str(head) for head in finding.heads])),
                ("edges", _some([_edge(edge) for edge in finding.edges])),
                ("labels", ", ".join(finding.labels)),
                ("confidence", f"{finding.confidence:.0%}, its author's own"),
                ("author", finding.author),
                ("kept", f"{finding.created:%Y-%m-%d %H:%M %Z}, changed {finding.changed:%Y-%m-%d %H:%M %Z}"),
                ("id", f"{finding.id}, version {finding.version}"),
            )
            if row[1]
        )
    )
    if note:
        yield Prose(note)
    if finding.note:
        yield Prose(finding.note)
    if finding.annotations:
        rows = [
            (
                _person(one.by, finding) + (f", brought by {_person(one.brought_by, finding)}" * bool(one.brought_by)),
                ", ".join(one.labels) or "none fits",
                "" if one.confidence is None else f"{one.confidence:.0%}",
            )
            for one in finding.annotations
        ]
        yield Heading("What others call it", 3)
        yield Table(("who", "labels", "confidence"), tuple(rows))
    yield Heading("Model", 3)
    yield Facts(_model(finding.model))
    yield from _seen(finding, short)
    if finding.plan is not None:
        yield from _plan(finding.plan, finding)
    for at, evidence in enumerate(finding.evidence, 1):
        yield from _evidence(at, evidence, finding, short)


def _seen(finding: Finding, short: Callable[[str], str]) -> Iterator[Block]:
    seen = finding.seen
    if not (seen.page or seen.params or seen.texts or seen.lines or finding.figure):
        return
    yield Heading("Where it was seen", 3)
    settings = tuple((name, value) for name, value in seen.params.items() if not _is_private(name, value, finding))
    page = (("page", seen.page),) if seen.page else ()
    if page or settings:
        yield Facts((*page, *((f"setting: {name}", value) for name, value in settings)))
    for name, text in seen.texts.items():
        yield Quoted(name, text)
    if finding.figure:
        try:
            figure = safe_figure(finding.figure, short)
        except InputError as error:
            yield Prose(f"Its figure is left out. {error}")
        else:
            yield Picture(lambda _: figure, _KEPT, values_of(figure), ("light",))
            if not seen.lines:
                yield Prose("No lines that make this figure again were kept with it.")
    if seen.lines:
        yield Code("Python that makes this view again", shown(seen.lines))


def _plan(plan: Plan, finding: Finding) -> Iterator[Block]:
    yield Heading("Plan: what would refute it", 3)
    n = len(plan.cases)
    side = "below" if plan.direction == "above" else "above"
    yield Facts(
        tuple(
            row
            for row in (
                ("stated", f"{plan.stated:%Y-%m-%d %H:%M %Z}"),
                ("measurement", title_of(plan.measurement)),
                ("texts", f"{n}, {'listed with its evidence' if _measured(plan, finding) else 'listed here'}"),
                ("expected", f"the mean {plan.direction} {plan.bound:g}, its whole interval, and beyond the control"),
                ("refuted by", f"the whole interval {side} {plan.bound:g}, or wholly within the control"),
                ("in the author's words", plan.refuted_by),
            )
            if row[1]
        )
    )
    if not _measured(plan, finding):
        yield _cases(plan.cases, None)


def _evidence(at: int, evidence: Evidence, finding: Finding, short: Callable[[str], str]) -> Iterator[Block]:
    asked, outcome = evidence.measurement, evidence.outcome
    plan = finding.plan if evidence.planned else None
    unit = f" {outcome.unit}" if outcome.unit else ""
    yield Heading(f"Evidence {at}: {title_of(asked)}", 3)
    interval = "none: it takes three texts"
    if outcome.low is not None and outcome.high is not None:
        interval = f"{outcome.low:.4g} to {outcome.high:.4g}{unit}, 95%"
    band = "none"
    if outcome.control_low is not None and outcome.control_high is not None:
        band = f"{outcome.control_low:.4g} to {outcome.control_high:.4g}{unit}"
    rows = [
        ("counts", _counts(evidence, finding)),
        ("verdict", VERDICT_WORDS[outcome.verdict] if plan is not None else VERDICT_WORDS["open"]),
        ("mean", f"{outcome.mean:.4g}{unit}"),
        ("interval", interval),
        ("control", ": ".join(part for part in (band, outcome.controls) if part)),
        ("heads", _some([str(head) for head in asked.heads])),
        ("heads are", IN_WORDS[asked.how] if asked.kind == "ablation" else ""),
        ("the mean is over", f"{len(asked.references)} texts, which the lines below hold" if asked.references else ""),
        ("random heads are", "of all layers" if asked.anywhere else ""),
        ("seed", f"{asked.seed}, {asked.n_controls} controls asked for"),
        ("measured", f"{evidence.at:%Y-%m-%d %H:%M %Z}, {outcome.seconds:.1f} s"),
        ("by", _person(evidence.by, finding)),
        ("note", evidence.note),
    ]
    if evidence.model != finding.model:
        rows += _model(evidence.model)
    yield Facts(tuple(row for row in rows if row[1]))
    if outcome.words:
        yield Prose(outcome.words)
    if any(value is not None for value in outcome.values):
        yield Picture(partial(evidence_picture, evidence, plan, change=short), _CAPTION)
    yield _cases(evidence.cases, evidence)
    yield Code(
        f"Python that measures this again, and fails where a number is not the same to {CLOSE:g}",
        measurement_script(evidence, plan),
    )


def _counts(evidence: Evidence, finding: Finding) -> str:
    """Whether the status rests on it, by the rule that `verify` counts by, whatever a record says of itself."""
    if evidence is rests_on(finding):
        return "the status rests on it: the last measurement as it was planned"
    if any(one is evidence for one in counted(finding)):
        return "as it was planned; no status rests on it now"
    if evidence.planned:
        return "no status rests on it: no control, a text that was seen before, or one that could not be measured"
    return "beside the plan: no status rests on it"


def _cases(cases: Sequence[Case], evidence: Evidence | None) -> Table:
    used = [name for name in _CASE_COLUMNS if any(getattr(case, name) for case in cases)]
    marked = any(case.marks for case in cases)
    values: Sequence[float | None] = () if evidence is None else evidence.outcome.values
    unit = "" if evidence is None else evidence.outcome.unit
    columns = ("", *used, *(["marks"] if marked else []), *([unit or "value"] if evidence is not None else []))
    rows = []
    for number, case in enumerate(cases):
        row = [str(number + 1), *(_cut(getattr(case, name)) for name in used)]
        row += [f"{sum(mark > 0 for mark in case.marks)} of {len(case.marks)} words"] if marked else []
        if evidence is not None:
            value = values[number] if number < len(values) else None
            row.append("not measured" if value is None else f"{value:.6g}")
        rows.append(tuple(row))
    return Table(columns, tuple(rows))


def _measured(plan: Plan, finding: Finding) -> bool:
    return any(set(one.cases) == set(plan.cases) for one in finding.evidence)


def _model(model: ModelRecord) -> tuple[tuple[str, str], ...]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(model.versions.items()))
    rows = (
        ("model", model.name),
        ("revision", model.revision),
        ("weights, hashed", model.fingerprint),
        ("kind", model.family),
        ("dtype", model.dtype),
        ("device", model.device),
        ("versions", versions),
    )
    return tuple(row for row in rows if row[1])


def _edge(edge: EdgeAt) -> str:
    return f"token {edge.query} to {edge.key}" + (f" in {edge.head}" if edge.head else "")


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _HEADS} more" if len(words) > _HEADS else ""
    return ", ".join(words[:_HEADS]) + more


def _person(name: str, finding: Finding) -> str:
    """Somebody's name; of an e-mail address what stands before the @, unless it is the author's name."""
    if name == finding.author:
        return name
    return _MAIL.sub(lambda mail: mail[0].partition("@")[0], name)


def _is_private(name: str, value: str, finding: Finding) -> bool:
    return name in finding.seen.texts or bool(_KEY.fullmatch(value)) or bool(_SECRET.search(name))


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_LETTERS else f"{text[:_CELL_LETTERS]}… ({len(text):,} letters; whole below)"
