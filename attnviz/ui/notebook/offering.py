"""“Keep this” as the pages call it: what each has measured already goes along as evidence, with the control it has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from attnviz import figures, human
from attnviz.ablation import Table
from attnviz.ablation.cases import half_width
from attnviz.edits import Head
from attnviz.figures.highlights import agreement_dots
from attnviz.findings import Case, EdgeAt, Evidence, HeadAt, Measurement, Outcome, model_record
from attnviz.findings.cases import middle
from attnviz.findings.records import MOST_CONTROLS
from attnviz.human import Ranking
from attnviz.models import Model
from attnviz.text import words
from attnviz.trace import Trace
from attnviz.ui import python_lines
from attnviz.ui.ablation.subject import KIND_OF, Subject
from attnviz.ui.ablation.trial import Trial
from attnviz.ui.focus import Focus
from attnviz.ui.highlights.asking import Asked, marked, methods
from attnviz.ui.highlights.lines import ranking_lines
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.notebook.shelf import by
from attnviz.ui.session import selection, text_of

_LEAST = 3  # texts, for an interval
_UNSAID = ("class", "similarity")  # outcomes whose second text or class the page does not hold as a case does
_BELOW: dict[str, float] = {"spearman": -1.0}


def keep_attention(page_title: str, trace: Trace, focus: Focus) -> None:
    """Explore, All heads, Lines: the selected head's map, its query and key."""
    chosen = selection()
    target = text_of(chosen.other) if trace.info.family == "encoder-decoder" else ""
    keep_this(
        page_title,
        heads=focus.heads,
        edges=[EdgeAt(query=focus.query, key=focus.key, head=HeadAt.of(focus.head))],
        figure=lambda: figures.attention_map(
            trace,
            focus.head,
            view=focus.view,
            window=focus.window,
            scale=chosen.scale,
            palette=chosen.palette,
        ),
        lines=python_lines.map_lines(chosen, focus, text_of(chosen.text), target),
        also_seen=[trace.text] if trace.text != text_of(chosen.text) else (),
    )


def keep_ablated(subject: Subject, trial: Trial, rows: Table, controls: Table, figure: Any, lines: str) -> None:
    """Ablation, once the set was tried: its effects by every method, with the random sets in its place."""
    keep_this(
        "Ablation",
        heads=subject.heads,
        evidence=lambda: ablated(subject, trial, rows, controls),
        figure=figure,
        lines=lines,
        also_seen=[case.clean for case in trial.cases],
        key="ablated",
    )


def ablated(subject: Subject, trial: Trial, rows: Table, controls: Table) -> list[Evidence]:
    """One piece of evidence for each method; none for an outcome that a finding cannot measure again."""
    what = KIND_OF.get(type(subject.metric), "")
    if not what or what in _UNSAID:
        return []
    target = subject.trace.text if subject.model.family == "encoder-decoder" else ""
    cases = [
        Case(text=case.clean, donor=case.corrupted, answer=case.answer, foil=case.foil, target=target)
        for case in trial.cases
    ]
    layers = "any layer" if trial.anywhere else "the same layers"
    made = []
    for at, how in enumerate(rows.hows):
        control = controls.effects[:, at].mean(1)
        low, high = middle(control)
        asked = Measurement(
            kind="ablation",
            what=what,
            heads=tuple(map(HeadAt.of, subject.heads)),
            how=how,
            n_controls=min(max(len(control), 1), MOST_CONTROLS),
        )
        if not np.isfinite(rows.effects[0, at]).any():
            continue
        outcome = _outcome(rows.effects[0, at], control, low, high, subject.metric.unit)
        told = f"{len(control)} random sets of {layers} in their place; their middle 95%"
        made.append(_evidence(subject.model, asked, cases, outcome, told, "Measured on the Ablation page."))
    return made


def keep_agreed(ask: Asked, ranking: Ranking, numbers: Sequence[int], head: Head) -> None:
    """Highlights: how far the head agrees with the marks, against the best of all heads with the marks moved."""
    passages = [ask.study.passages[number] for number in numbers]
    texts = [marked(ask, one) for one in passages]
    read_by = min((methods(ask, one) for one in passages), key=len)
    keep_this(
        "Highlights",
        heads=[head],
        evidence=lambda: agreed(ask, ranking, numbers, head),
        figure=lambda: agreement_dots(ranking),
        lines=ranking_lines(selection(), ask, texts, read_by, ranking.held),
        also_seen=[one.text for one in texts],
    )


def agreed(ask: Asked, ranking: Ranking, numbers: Sequence[int], head: Head) -> list[Evidence]:
    """The agreement on each text; none where a question or taken-out sinks make it another measure than a finding's."""
    passages = [ask.study.passages[number] for number in numbers]
    if ask.sinks.how != "show" or any(passage.question.strip() for passage in passages):
        return []
    cases, values = [], []
    for passage, found in zip(passages, ranking.texts, strict=True):
        given = marked(ask, passage)
        spans = words(given.text)
        query = "" if given.query is None else given.text[slice(*spans[given.query])]
        weights = tuple(given.marks.get(number, 0.0) for number in range(len(spans)))
        cases.append(Case(text=given.text, query=query, marks=weights))
        row = next(i for i, one in enumerate(found.names) if (one.layer, one.head) == (head.layer, head.head))
        values.append(float(human.agreement(found.scores[row], found.human)[ranking.metric]))
    if not np.isfinite(values).any():
        return []
    band = ranking.bands["head"]
    asked = Measurement(
        kind="agreement",
        what=ranking.metric,
        heads=(HeadAt.of(head),),
        n_controls=min(max(len(band.maxima), 1), MOST_CONTROLS),
    )
    high = float(np.quantile(band.maxima, 0.95, method="higher")) if len(band.maxima) else None
    low = None if high is None else _BELOW.get(ranking.metric, 0.0)
    unit = "correlation" if ranking.metric == "spearman" else "agreement"
    outcome = _outcome(np.array(values), band.maxima, low, high, unit)
    told = f"the best of {len(band.observed)} heads, the marks moved in {len(band.maxima)} ways; what 95% of them reach"
    return [_evidence(ask.model, asked, cases, outcome, told, "Measured on the Highlights page.")]


def _outcome(
    values: npt.NDArray[np.float64],
    control: npt.NDArray[np.float64],
    low: float | None,
    high: float | None,
    unit: str,
) -> Outcome:
    """What the page has measured; a value that is not finite is None, and not all may be."""
    known = values[np.isfinite(values)]
    half = float(half_width(known[:, None])[0]) if len(known) >= _LEAST else None
    mean = float(known.mean())
    return Outcome(
        values=tuple(float(value) if np.isfinite(value) else None for value in values),
        mean=mean,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        control=tuple(control[:5_000].tolist()),
        control_low=low,
        control_high=high,
        unit=unit,
    )


def _evidence(
    model: Model, asked: Measurement, cases: Sequence[Case], outcome: Outcome, controls: str, note: str
) -> Evidence:
    whole = outcome.model_copy(update={"controls": controls})
    return Evidence(
        measurement=asked,
        cases=tuple(cases),
        outcome=whole,
        model=model_record(model),
        by=by(),
        note=note,
        at=datetime.now(UTC).replace(microsecond=0),
    )
