"""“Keep this” as the pages call it: what each has measured already goes along as evidence, with the control it has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from attnviz import figures, findings, human
from attnviz.ablation import Table
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.figures.highlights import agreement_dots
from attnviz.findings import Case, EdgeAt, Evidence, HeadAt, Measurement, Outcome, model_record
from attnviz.findings.ablating import metric_of
from attnviz.findings.records import MOST_CONTROLS
from attnviz.human import Ranking
from attnviz.metrics import ClassProb, Similarity
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

ALONE = "What was measured here does not go along as evidence: "  # and why


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
        caption=ablated_otherwise(subject, trial),
        key="ablated",
    )


def ablated(subject: Subject, trial: Trial, rows: Table, controls: Table) -> list[Evidence]:
    """One piece of evidence for each method; none for an outcome that a finding cannot measure again."""
    if ablated_otherwise(subject, trial):
        return []
    what, cases = KIND_OF[type(subject.metric)], _cases(subject, trial)
    layers = "any layer" if trial.anywhere else "the same layers"
    references = trial.options(subject).get("texts", ())
    made = []
    for at, how in enumerate(rows.hows):
        if not np.isfinite(rows.effects[0, at]).any():
            continue
        control = controls.effects[:, at].mean(1)
        asked = Measurement(
            kind="ablation",
            what=what,
            heads=tuple(map(HeadAt.of, subject.heads)),
            how=how,
            n_controls=min(max(len(control), 1), MOST_CONTROLS),
            references=references if how == "mean" else (),
            anywhere=trial.anywhere,
        )
        told = f"{len(control)} random sets of {layers} in their place; their middle 95%"
        outcome = findings.summed_up(
            asked, _known(rows.effects[0, at]), control, controls=told, unit=subject.metric.unit
        )
        made.append(evidence_of(subject.model, asked, cases, outcome, "Measured on the Ablation page."))
    return made


def ablated_otherwise(subject: Subject, trial: Trial) -> str:
    """Why a finding could not measure again what the page has, in a sentence; "" where it can."""
    model, trace = subject.model, subject.trace
    try:
        what, cases = KIND_OF[type(subject.metric)], _cases(subject, trial)
        again = [metric_of(model, what, case) for case in cases]
    except (KeyError, InputError, ValidationError):
        again = []
    if again != [case.metric if trial.own else subject.metric for case in trial.cases]:
        return (
            f"{ALONE}a finding says an outcome in words, and this one hangs on a token, a place or a rank that has "
            "none. Plan the measurement in the Notebook."
        )
    if model.family == "encoder-decoder":
        source, target = model.encode(trial.cases[0].clean), _written(trace)
        read = model.decoder_side(source, target, None, ()) if target else None
        if read is None or tuple(read.ids) != tuple(trace.input_ids):
            return f"{ALONE}the decoder reads tokens here that no text stands for."
    return ""


def _cases(subject: Subject, trial: Trial) -> list[Case]:
    """The page's prompts as a finding has them."""
    target = _written(subject.trace) if subject.model.family == "encoder-decoder" else ""
    metric, said = subject.metric, None
    if isinstance(metric, Similarity):
        said = metric.other or ""
    elif isinstance(metric, ClassProb):
        said = str(metric.label)
    return [
        Case(
            text=case.clean,
            donor=case.corrupted,
            answer=case.answer if said is None else said,
            foil=case.foil if said is None else "",
            target=target,
        )
        for case in trial.cases
    ]


def _written(trace: Trace) -> str:
    """What the decoder reads, without the tokens that every decoder is given."""
    own = [token for token in trace.tokens if not token.special]
    return trace.text[own[0].span[0] : own[-1].span[1]] if own else ""


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
        caption=agreed_otherwise(ask, numbers),
    )


def agreed(ask: Asked, ranking: Ranking, numbers: Sequence[int], head: Head) -> list[Evidence]:
    """The agreement on each text; none where a question or taken-out sinks make it another measure than a finding's."""
    passages = [ask.study.passages[number] for number in numbers]
    if agreed_otherwise(ask, numbers):
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
    told = f"the best of {len(band.observed)} heads, the marks moved in {len(band.maxima)} ways; what 95% of them reach"
    unit = "correlation" if ranking.metric == "spearman" else "agreement"
    outcome = findings.summed_up(asked, _known(np.array(values)), band.maxima, controls=told, unit=unit)
    return [evidence_of(ask.model, asked, cases, outcome, "Measured on the Highlights page.")]


def agreed_otherwise(ask: Asked, numbers: Sequence[int]) -> str:
    """Why a finding could not measure again what the page has, in a sentence; "" where it can."""
    if ask.sinks.how != "show":
        return f"{ALONE}sinks are taken out here, and a finding measures attention as it is."
    if any(ask.study.passages[number].question.strip() for number in numbers):
        return f"{ALONE}these texts are read with a question, and a finding's are read alone."
    return ""


def _known(values: npt.NDArray[np.float64]) -> list[float | None]:
    """What the page has measured; None for a value that is not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]


def evidence_of(model: Model, asked: Measurement, cases: Sequence[Case], outcome: Outcome, note: str) -> Evidence:
    """What a page has measured, as evidence of whoever looks at it."""
    return Evidence(
        measurement=asked,
        cases=tuple(cases),
        outcome=outcome,
        model=model_record(model),
        by=by(),
        note=note,
        at=datetime.now(UTC).replace(microsecond=0),
    )
