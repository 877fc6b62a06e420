"""What a pruning curve on the page is of, and its parts: the order, the curve, random orders, time; each is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from attnviz import ablation
from attnviz.ablation import Case, Curve, Sweep
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.metrics import KL, ClassProb, Loss, Metric, Similarity, SimilarityRank
from attnviz.models import Model
from attnviz.ui import work
from attnviz.ui.ablation import asking, finding
from attnviz.ui.ablation.asking import embedded_texts
from attnviz.ui.ablation.subject import MOST_TOKENS, Subject
from attnviz.ui.ablation.trial import uploaded
from attnviz.ui.jobs import Job
from attnviz.ui.session import stores

Order = Literal["screen", "exact", "random"]
Text = str | Case
STEPS = 20
MOST = 200  # texts
COUNTS = (5, 20, MOST)  # of the app's own
DATES = Path(__file__).resolve().parents[3] / "assets" / "dates" / "dates.tsv"
TIMED_TEXTS, TIMED_STEPS = 2, 8  # whose forward passes are timed: six rounds of them, with a new copy at every step
_SEED = 0  # of the order at random; controls have those after it
_A_SCREEN, _A_HEAD, _A_TIMING = 4.0, 0.2, 16.0  # about how long, in forward passes of a text
_DOING = {
    "sizes": "every head's effect, for the order",
    "screen": "removing them in that order",
    "exact": "removing them in that order",
    "random": "removing them at random",
}
_BY = "the least important removed first ({} effects, mean of their size over texts)"


@dataclass(frozen=True)
class Plan:
    """One pruning curve.

    texts        that the outcome is measured on
    metric       None: each `Case` brings its own
    references   heads are held at their mean over these; None: set to zero
    decoder      what an encoder-decoder's decoder reads, in ids
    controls     how many random orders beside
    timed        whether heads are really taken out too, and the time of that measured
    """

    texts: tuple[Text, ...]
    metric: Metric | None
    order: Order
    references: tuple[str, ...] | None
    decoder: tuple[int, ...] | None
    controls: int
    timed: bool

    @property
    def options(self) -> dict[str, Any]:
        return {} if self.decoder is None else {"decoder_input_ids": list(self.decoder)}

    def key(self, name: str, part: str) -> tuple[object, ...]:
        """Where a part is kept: with all that asks the same of the model."""
        asked = (self.texts, self.metric, self.references, self.decoder)
        return (name, "pruning", work.digest(repr(asked)), part)

    @property
    def parts(self) -> list[str]:
        """The names of its curves, the one that is asked for first."""
        seeds = range(_SEED + 1, _SEED + 1 + self.controls)
        return [self.order, *[f"seed {seed}" for seed in seeds], *[self.timing] * self.timed]

    @property
    def timing(self) -> str:
        """The name of the curve that is timed: heads leave in the same order."""
        return f"time {self.order}"

    def runs(self, count: int) -> int:
        """Forward passes of one text each that the curves of so many heads take; ordering comes on top."""
        return (min(STEPS, count) + 1) * len(self.texts) * (1 + self.controls)


@dataclass(frozen=True, eq=False)
class Known:
    """What there is of a plan so far; `curve` is None before it is measured."""

    curve: Curve | None
    controls: tuple[Curve, ...]
    timed: Curve | None
    complete: bool


@dataclass(frozen=True, eq=False)
class _Sizes:
    """The sizes of every head's effect, added up over the first `n` texts."""

    by_head: Mapping[Head, float]
    n: int


def known(subject: Subject, plan: Plan) -> Known:
    """The plan's curves, as far as they are kept."""
    found = {part: cast(Curve | None, stores().traces.get(plan.key(subject.name, part))) for part in plan.parts}
    controls = tuple(curve for part, curve in found.items() if part.startswith("seed") and curve is not None)
    return Known(found[plan.order], controls, found.get(plan.timing), None not in found.values())


def texts_for(subject: Subject) -> dict[str, tuple[Text, ...]]:
    """The sets of texts that there are, by name: the app's own, the page's text, and minimal pairs that were uploaded.

    Dates bring their answers: a decoder reads nothing but its start before it.
    """
    own: dict[str, tuple[Text, ...]] = {}
    if subject.name == "dates":
        own = {f"{n} dates": dates()[:n] for n in COUNTS}
    elif subject.model.family != "encoder-decoder":
        own = {f"{n} sentences": embedded_texts(pairs=False)[:n] for n in COUNTS}
    pairs = uploaded()[1]
    page = (subject.trace.source_text or subject.trace.text,)
    return own | {"This text": page} | ({f"{len(pairs)} minimal pairs": tuple(pairs)} if pairs else {})


@cache
def dates() -> tuple[Case, ...]:
    rows = [line.split("\t") for line in DATES.read_text("utf-8").splitlines()[:MOST]]
    return tuple(Case(date, "", answer) for date, answer in rows)


def metric_for(subject: Subject, texts: Sequence[Text]) -> Metric | None:
    """What is measured on these texts; None where each brings its own outcome.

    The page's outcome on the page's text, and elsewhere where it can be read off any text; else the loss, or how far
    predictions move.
    """
    model, metric = subject.model, subject.metric
    if isinstance(texts[0], Case) and model.has_vocabulary and model.family != "encoder":
        return None
    page = (subject.trace.source_text or subject.trace.text,)
    if texts == page or isinstance(metric, Loss | KL | Similarity | SimilarityRank | ClassProb):
        return metric
    return Loss() if model.family == "decoder" else KL(position=None)


def decoder_for(subject: Subject, texts: Sequence[Text]) -> tuple[int, ...] | None:
    """What an encoder-decoder's decoder reads: what it reads on the page, or its start before a text's own answer."""
    if subject.model.family != "encoder-decoder":
        return None
    ids = tuple(subject.trace.input_ids)
    return ids[:1] if isinstance(texts[0], Case) else ids


def references_for(subject: Subject) -> tuple[str, ...]:
    """The page's reference texts; where it has none, the app's first few."""
    return subject.texts or embedded_texts(pairs=subject.model.family == "encoder-decoder")[: asking.FEW]


def orders_for(metric: Metric | None) -> tuple[Order, ...]:
    """The orders that an outcome allows: one that compares with the clean run has no slope there to estimate by, and
    what a model writes is not read off a run."""
    if metric is None or (metric.batched and not metric.needs_clean):
        return ("screen", "exact", "random")
    return ("exact", "random") if metric.batched else ("random",)


def can_time(model: Model) -> bool:
    """Whether heads may be taken out one by one: not where they share keys, so that a group would be torn."""
    shared = model.layout.n_kv_heads
    return all((shared[site] or model.info.heads_of(site)) == model.info.heads_of(site) for site in model.info.sites)


def n_heads(model: Model) -> int:
    """Of all sites together: all of them leave."""
    return sum(sum(counts) for counts in model.info.layer_heads.values())


def measure(subject: Subject, plan: Plan, job: Job) -> None:
    """Measure what is missing, a part at a time, and keep each; runs in a job."""
    job.report("reading the texts", 0.0)
    _check(subject.model, plan)
    missing = [part for part in plan.parts if stores().traces.get(plan.key(subject.name, part)) is None]
    first = known(subject, plan).curve
    ordering = first is None and plan.order != "random"
    weights = _weights(subject.model, plan, missing, ordering)
    done, heads = 0.0, _SEED if first is None else first.order
    for stage, weight in weights.items():
        doing = "timing smaller copies" if stage == plan.timing else _DOING.get(stage, "a random order")
        told = _Told(job, doing, done, weight / sum(weights.values()))
        told(0, 1)
        if stage == "sizes":
            heads = _ranked(subject, plan, told)
        else:
            made = _curve(subject, plan, stage, heads, told)
            finding.put(subject, plan.key(subject.name, stage), made)
            heads = made.order if stage == plan.order else heads
        done += told.share


@dataclass(frozen=True)
class _Told:
    """A part's progress, as that of the whole job."""

    job: Job
    doing: str
    start: float
    share: float

    def __call__(self, done: float, total: float) -> None:
        self.job.report(self.doing, self.start + self.share * done / max(total, 1))


def _weights(model: Model, plan: Plan, missing: Sequence[str], ordering: bool) -> dict[str, float]:
    """By stage, about how long it takes, in forward passes."""
    count = n_heads(model)
    curve = float((min(STEPS, count) + 1) * len(plan.texts))
    ranking = len(plan.texts) * (_A_SCREEN if plan.order == "screen" else _A_HEAD * count)
    timing = (min(TIMED_STEPS, count) + 1) * min(TIMED_TEXTS, len(plan.texts)) * _A_TIMING
    stages = {stage: timing if stage == plan.timing else curve for stage in missing}
    return {"sizes": ranking, **stages} if ordering else stages


def _curve(subject: Subject, plan: Plan, stage: str, heads: Sequence[Head] | int, told: _Told) -> Curve:
    """One of the plan's curves, or the few texts of it that are timed."""
    drawn, timed = stage.startswith("seed"), stage == plan.timing
    made = ablation.curve(
        subject.model,
        plan.texts[:TIMED_TEXTS] if timed else plan.texts,
        plan.metric,
        order=int(stage.split()[1]) if drawn else heads,
        references=plan.references,
        steps=TIMED_STEPS if timed else STEPS,
        timed=timed,
        progress=told,
        **plan.options,
    )
    if drawn or plan.order == "random":
        return made
    words = "estimated" if plan.order == "screen" else "exact"
    return replace(made, by=_BY.format(words))


def _ranked(subject: Subject, plan: Plan, told: _Told) -> tuple[Head, ...]:
    """All heads, the one of the smallest effect first; after each text what is known is kept, to go on from."""
    key = plan.key(subject.name, f"sizes by {plan.order}")
    sizes = cast(_Sizes, stores().traces.get(key) or _Sizes({}, 0))
    for n in range(sizes.n, len(plan.texts)):
        told(n, len(plan.texts))
        found = _effects(subject, plan, n, told)
        told(n + 1, len(plan.texts))  # a sweep that was stopped comes back with some heads only
        several = len(found.found) > 1
        by_head = {
            Head(layer, head, site if several else None): float(abs(effects[layer, head]))
            for site, effects in found.found.items()
            for layer, head in np.argwhere(np.isfinite(effects)).tolist()
        }
        sizes = _Sizes({head: sizes.by_head.get(head, 0.0) + size for head, size in by_head.items()}, n + 1)
        finding.put(subject, key, sizes)
    return tuple(sorted(sizes.by_head, key=sizes.by_head.__getitem__))


def _effects(subject: Subject, plan: Plan, n: int, told: _Told) -> Sweep:
    """Every head's effect on text `n`, removed as the plan says."""
    text = plan.texts[n]
    metric = text.metric if plan.metric is None and isinstance(text, Case) else plan.metric
    assert metric is not None
    options: dict[str, Any] = {"how": "zero"} if plan.references is None else {"how": "mean", "texts": plan.references}
    options |= plan.options
    words = text.clean if isinstance(text, Case) else text
    if plan.order == "screen":
        return ablation.screen(subject.model, words, metric, **options)

    def step(done: int, total: int) -> None:
        told(n + done / max(total, 1), len(plan.texts))

    return ablation.sweep(subject.model, words, metric, progress=step, **options)


def _check(model: Model, plan: Plan) -> None:
    """Raise unless every text is short enough, and all outcomes have one unit."""
    for number, text in enumerate(plan.texts, 1):
        words = text.clean if isinstance(text, Case) else text
        length = len(model.encode(words).ids)
        if length > MOST_TOKENS:
            raise InputError(f"Text {number} has {length:,} tokens; heads are taken out of {MOST_TOKENS} at most.")
    if plan.metric is None and len({text.metric.unit for text in plan.texts if isinstance(text, Case)}) > 1:
        raise InputError("Some prompts have a foil and some have none, so their outcomes have no mean: give all one.")
