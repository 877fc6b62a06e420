"""Evidence by ablation: what removing the heads together changes, and what removing random ones in their place does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from attnviz.ablation.asked import IN_WORDS
from attnviz.ablation.cases import one_unit
from attnviz.ablation.controls import random_sets
from attnviz.ablation.held import Removal
from attnviz.ablation.swapping import propose_donor
from attnviz.ablation.sweep import sweep
from attnviz.ablation.telling import not_stopped
from attnviz.edits import Edit, Head, ResampleHeads
from attnviz.errors import InputError
from attnviz.findings.cases import Gathered, Read, head_of
from attnviz.findings.figuring import Doubles
from attnviz.findings.records import Case, How, Measurement
from attnviz.metrics import KL, ClassProb, ExactMatch, LogitDiff, LogProb, Loss, Metric, Similarity
from attnviz.models import Model
from attnviz.tap import Progress

_METRICS: dict[str, Callable[[Model, Case], Metric]] = {
    "difference": lambda model, case: LogitDiff(*_two(case), _at(model, case)),
    "continuation": lambda model, case: LogProb(_said(case.answer, "answer")),
    "kl": lambda model, case: KL(),
    "loss": lambda model, case: Loss(),
    "match": lambda model, case: ExactMatch(_said(case.answer, "answer")),
    "similarity": lambda model, case: Similarity(case.answer or None),
    "class": lambda model, case: ClassProb(_said(case.answer, "answer")),
}
METRICS = tuple(_METRICS)


def ablation_effects(model: Model, asked: Measurement, cases: Sequence[Case], progress: Progress | None) -> Read:
    """metric(ablated) - metric(clean) on each case, all heads removed together.

    asked.what   of METRICS; "": the difference where a case has a foil, else the continuation
    "resample" takes each case's donor, or proposes one where it has none; "mean" is over asked.references or, where
    there are none, over the texts and donors of all cases that the model can read. Controls: as many random heads, of
    the same layers; where these have too few others, the rest, and with asked.anywhere all, come from all layers of
    the same sites.
    """
    heads = tuple(dict.fromkeys(head_of(model, one) for one in asked.heads))
    sets = _sets(model, heads, asked)
    references = asked.references or (_readable(model, cases) if asked.how == "mean" else None)
    mean = Removal.of(model, references)
    measured: list[Metric] = []

    def read(case: Case) -> Doubles:
        metric = metric_of(model, asked.what, case)
        effects = _effects(model, case, metric, asked.how, [heads, *sets], mean, gathered.tell)
        if not np.isfinite(effects).all():
            raise InputError(f"The outcome of {case.text!r:.60} is not a finite number: load the model in float32.")
        measured.append(metric)
        return effects

    gathered = Gathered(cases, progress)
    found = gathered.each(read)
    unit = one_unit(metric.unit for metric in measured)
    effects = np.array([row for row in found if row is not None])  # case set
    control = effects.mean(0)[1:]
    titles = {metric.title for metric in measured}
    outcome = titles.pop() if len(titles) == 1 else f"the outcome of each text ({unit})"
    return Read(
        tuple(None if row is None else float(row[0]) for row in found),
        gathered.reasons,
        control,
        _controls(model, heads, sets),
        unit,
        f"The change in {outcome}, {' + '.join(map(str, heads))} {IN_WORDS[asked.how]}",
    )


def metric_of(model: Model, what: str, case: Case) -> Metric:
    """The outcome that is measured on a case; InputError for a name there is not, or a case without what it needs."""
    if what and what not in _METRICS:
        raise InputError(f"An outcome is one of {', '.join(METRICS)}, or nothing; got {what!r:.60}.")
    return _METRICS[what or ("difference" if case.foil else "continuation")](model, case)


def _said(word: str, name: str) -> str:
    if not word:
        raise InputError(f"A case of this measurement needs its {name}: as it continues the text, or a class.")
    return word


def _two(case: Case) -> tuple[str, str]:
    return _said(case.answer, "answer"), _said(case.foil, "foil")


def _at(model: Model, case: Case) -> int:
    """Where the difference of two logits is read: at the first mask of a masked encoder, else at the end."""
    if model.family != "encoder" or model.mask_id is None:
        return -1
    ids = model.encode(case.text).ids
    return ids.index(model.mask_id) if model.mask_id in ids else -1


def _sets(model: Model, heads: Sequence[Head], asked: Measurement) -> list[tuple[Head, ...]]:
    found: list[tuple[Head, ...]] = []
    for anywhere in (True,) if asked.anywhere else (False, True):
        try:
            drawn = random_sets(model, heads, asked.n_controls, seed=asked.seed, anywhere=anywhere)
        except InputError:  # no other head there
            continue
        known = {frozenset(one) for one in found}
        found += [one for one in drawn if frozenset(one) not in known]
    return found[: asked.n_controls]


def _controls(model: Model, heads: Sequence[Head], sets: Sequence[Sequence[Head]]) -> str:
    if not sets:
        return "none: the model has no other head at these sites"
    layers = sorted((head.site or "", head.layer) for head in heads)
    near = sum(sorted((head.site or "", head.layer) for head in one) == layers for one in sets)
    what = "random heads" if len(heads) == 1 else f"random sets of {len(heads)} heads"
    rest = f", {len(sets) - near} of any layer" if near < len(sets) else ""
    return f"{len(sets)} {what} in their place, {near} of the same layers{rest}; their middle 95%"


def _readable(model: Model, cases: Sequence[Case]) -> list[str]:
    """The texts of all cases and their donors, each once, without those that the model cannot read."""
    kept = []
    reason = "no text was given"
    for text in dict.fromkeys(text for case in cases for text in (case.text, case.donor) if text):
        try:
            model.encode(text)
        except InputError as error:
            reason = str(error)
        else:
            kept.append(text)
    if not kept:
        raise InputError(f"The mean needs a text that the model can read: {reason}")
    return kept


def _effects(
    model: Model,
    case: Case,
    metric: Metric,
    how: How,
    sets: Sequence[tuple[Head, ...]],
    mean: Removal,
    tell: Callable[[], None],
) -> Doubles:
    """[set], on one case; `tell` is called within, and may raise to stop."""
    donor = case.donor
    if how == "resample" and not donor:
        proposed = propose_donor(case.text, model)
        if proposed is None:
            raise InputError(f"No donor could be proposed for {case.text!r:.60}: give the case one.")
        donor = proposed.text
    target = case.target or None
    if len(sets[0]) == 1 and metric.batched:
        swept = sweep(
            model,
            case.text,
            metric,
            how=how,
            heads=[one for (one,) in sets],
            donor=donor if how == "resample" else None,
            texts=mean if how == "mean" else None,
            target=target,
            progress=lambda done, total: tell(),
        )
        not_stopped(swept.complete)
        return np.array([swept.found[model.info.site(one.site)][one.layer, one.head] for (one,) in sets])
    clean = model.measure(metric, case.text, target=target)

    def effect(heads: tuple[Head, ...]) -> float:
        tell()
        edits: list[Edit] = mean.edits(heads)  # zeros where there is no mean
        if how == "resample":
            edits = [ResampleHeads(heads, donor)]
        return model.measure(metric, case.text, target=target, edits=edits) - clean

    return np.array([effect(heads) for heads in sets])
