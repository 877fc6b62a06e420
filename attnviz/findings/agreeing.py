"""Evidence by agreement with a person's marks, against what the best of all heads reaches with the marks moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import numpy as np

from attnviz import human
from attnviz.errors import InputError
from attnviz.findings.cases import Gathered, Read, head_of, spans_of
from attnviz.findings.figuring import Doubles, rule_of
from attnviz.findings.records import Case, Measurement
from attnviz.human.agreement import Metric
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.text import words as words_of_text

_TURNS: dict[str, float] = {"spearman": 0.0, "auroc": 1.0}  # of turned scores: this minus the value


def agreement(model: Model, asked: Measurement, cases: Sequence[Case], progress: Progress | None) -> Read:
    """The head's agreement with each case's marks, by a metric of `attnviz.human.METRICS`.

    A case's query, if it names one, is the word whose attention is read; else the attention that words receive.
    Control: the marks of all cases moved along their words, the largest over all heads kept (`attnviz.human.band`);
    below its end lies what 95% of these draws reach. The low end is the same of the smallest, for the metrics that turn
    with the scores (spearman, auroc), else the least that the metric can be (`figuring.ends`).
    Of an encoder-decoder the decoder reads what the model writes.
    """
    metric = cast(Metric, asked.what or "auroc")
    if metric not in get_args(Metric):
        raise InputError(f"A measure of agreement is one of {', '.join(human.METRICS)}; got {asked.what!r:.60}.")
    head = head_of(model, asked.heads[0])
    rows: list[list[str]] = []

    def read(case: Case) -> tuple[Doubles, Doubles, int, float]:
        """(scores [head, word], marks [word], the head's row, its agreement)."""
        found = human.candidates(model, _marked(case), site=head.site, methods=())
        own = [i for i, one in enumerate(found.names) if one.kind == "head"]
        names = [found.names[i].name for i in own]
        row = next((n for n, i in enumerate(own) if found.head(found.names[i]) == head), None)
        if row is None:
            raise InputError(f"{head} has no number for every word of {case.text!r:.60}.")
        if rows and names != rows[0]:
            raise InputError("Other heads have numbers on this text than on the first one.")
        scores = found.scores[own]
        value = human.agreement(scores[row], found.human)[metric]
        if not np.isfinite(value):
            raise InputError(f"{metric} is not defined where {_why(found.human)}.")
        rows.append(names)
        return scores, found.human, row, value

    gathered = Gathered(cases, progress)
    found = gathered.each(read)
    known = [one for one in found if one is not None]
    scores, marks = [one[0] for one in known], [one[1] for one in known]
    band = human.band(scores, marks, metric=metric, n=asked.n_controls, seed=asked.seed)
    below = np.zeros(0)
    if rule_of(asked).turns:
        turned = human.band([-one for one in scores], marks, metric=metric, n=asked.n_controls, seed=asked.seed)
        below = _TURNS[metric] - turned.maxima
    return Read(
        tuple(None if one is None else one[3] for one in found),
        gathered.reasons,
        band.maxima,
        f"the best of {len(band.observed)} heads, the marks moved in {len(band.maxima)} ways; what 95% of them reach",
        "correlation" if metric == "spearman" else "agreement",
        f"The agreement of {head} with the marks ({metric})",
        below,
    )


def _marked(case: Case) -> human.Marked:
    spans = words_of_text(case.text)
    if len(case.marks) != len(spans):
        raise InputError(
            f"Marks are one weight a word; {case.text!r:.60} has {len(spans)} words and {len(case.marks)}."
        )
    query = None
    if case.query.strip():
        at = spans_of(case.text, case.query)
        if not at:
            raise InputError(f"There is no word {case.query.strip()!r:.60} in {case.text!r:.60}, as it stands there.")
        query = next(number for number, (_, end) in enumerate(spans) if end == at[-1][1])
    return human.Marked(case.text, dict(enumerate(case.marks)), query=query)


def _why(marks: Doubles) -> str:
    marked = int((marks > 0).sum())
    return f"{marked} of {len(marks)} words are marked and the head's numbers or the weights may all be equal"
