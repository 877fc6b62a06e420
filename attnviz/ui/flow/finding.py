"""What the Flow page computes: each thing as a job with progress, kept for all who look at the same run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from attnviz.errors import InputError, Unsupported
from attnviz.figures.flow import MOST_SANKEY_EDGES
from attnviz.flow import logits, methods
from attnviz.flow.graph import MOST_EDGES, Graph, trace_down
from attnviz.flow.methods import METHODS, explain
from attnviz.flow.mixing import Scores, Stack
from attnviz.flow.run import Run
from attnviz.flow.yardsticks import Effects, yardstick
from attnviz.trace import Trace
from attnviz.ui.flow.asking import YARDSTICKS, Given, hashable
from attnviz.ui.flow.keeping import ids_of, run_of, too_long
from attnviz.ui.flow.target import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.view import Sinks

Options = Mapping[str, Any]  # of `methods.steps`
MOST_ZEROED = 256  # tokens of a text for value zeroing
LONG = ("position", "last", "rollout")  # methods that hold for longer ones


@dataclass(frozen=True, eq=False)
class Found:
    """Scores of one target by several methods, and why others have none.

    query          the position that is explained; None for a pooled embedding
    title, unit    the outcome in words; "" where none is measured
    """

    scores: Mapping[str, Scores]
    refused: Mapping[str, str]
    query: int | None
    title: str
    unit: str


def found_for(subject: Subject, names: Sequence[str], sinks: Sinks) -> Found:
    """The target explained by several methods; those that are not to be had here are refused with their reason."""
    model, trace, target = subject.model, subject.trace, subject.target
    run = None
    if model is not None and not too_long(trace):
        with suppress(InputError, Unsupported):  # the methods that read it say why it is not there
            run = run_of(subject)
    late = {name: reason for name in names if (reason := too_long_for(name, trace))}
    offered = [name for name in names if name not in late]

    def make(job: Job) -> Found:
        if unmeasured(subject) or model is None:
            return _without_outcome(subject, run, offered, sinks, job)

        def report(title: str, done: float, total: int) -> None:
            job.report(title, done / total)

        given = {"run": run} if run is not None else ids_of(trace)
        made = explain(model, **given, target=target, methods=offered, sinks=sinks, report=report)
        return Found(made.scores, made.refused, made.aim.query, made.aim.title, made.aim.unit)

    key = (*subject.run, "scores", tuple(offered), subject.goal, subject.aimed, sinks)
    found = cast(Found, kept(subject, key, "Explaining", make, _found_bytes))
    return Found(found.scores, {**found.refused, **late}, found.query, found.title, found.unit)


def unmeasured(subject: Subject) -> bool:
    """Whether methods are taken layer by layer, because no outcome can be measured."""
    return subject.target is None or bool(too_long(subject.trace))


def too_long_for(method: str, trace: Trace) -> str:
    """Why a text is too long for a method; "" where it is not."""
    if too_long(trace):
        return "" if method in LONG else too_long(trace)
    length = max(len(trace.tokens), len(trace.source_tokens))
    if method != "zeroing" or length <= MOST_ZEROED:
        return ""
    return (
        f"The text has {length} tokens: value zeroing takes each token's values away in every layer, and beyond "
        f"{MOST_ZEROED} that takes a minute or more. Shorten the text for it."
    )


def _without_outcome(subject: Subject, run: Run | None, names: Sequence[str], sinks: Sinks, job: Job) -> Found:
    """The methods that do not look at what is predicted."""
    model, trace = subject.model, subject.trace
    found: dict[str, Scores] = {}
    refused: dict[str, str] = {}
    for before, name in enumerate(names):
        title, reads = METHODS[name].title, METHODS[name].reads

        def progress(done: int, total: int, title: str = title, before: int = before) -> None:
            job.report(title, (before + done / max(total, 1)) / len(names))

        progress(0, 1)
        if reads == "gradient" or (reads == "parts" and model is None):
            refused[name] = subject.lacking
            continue
        try:
            stack = methods.steps(name, trace, run=run, model=model, sinks=sinks, progress=progress)
            found[name] = methods.scores(name, stack, subject.goal, progress=progress)
        except (InputError, Unsupported) as error:
            refused[name] = str(error)
    return Found(found, refused, subject.goal, "", "")


def _found_bytes(found: Found) -> int:
    return sum(s.text.nbytes + (0 if s.source is None else s.source.nbytes) for s in found.scores.values())


def effects_for(subject: Subject, how: str, given: Given) -> Effects:
    """One yardstick with these arguments; call it only for a subject that has a target."""
    model, target = subject.model, subject.target
    assert model is not None
    assert target is not None

    def make(job: Job) -> Effects:
        job.report("running the changed texts", 0.0)
        return yardstick(model, **ids_of(subject.trace), aim_target=target, how=how, progress=job.step, **given)

    key = (*subject.run, "yardstick", how, hashable(given), subject.aimed)
    return cast(Effects, kept(subject, key, YARDSTICKS[how], make))


@dataclass(frozen=True, eq=False)
class Written:
    """What each part writes to the target's logits: `logits.Attribution` with its frame as `parts`."""

    parts: pd.DataFrame
    total: float
    title: str


def levels_of(trace: Trace) -> tuple[str, ...]:
    """The levels of a graph, bottom first, in the words of `Stack.levels`; known before any is made."""
    sites = trace.info.sites
    if len(sites) == 1:
        return ("embeddings", *(f"after layer {layer}" for layer in trace.layers()))
    encoder = [f"source after layer {layer}" for layer in trace.layers("encoder")]
    layers = sorted({*trace.layers("decoder"), *trace.layers("cross")})
    blocks = {"decoder": "after self-attention", "cross": "after cross-attention"}
    own = [f"{words} {n}" for n in layers for site, words in blocks.items() if n in trace.layers(site)]
    return ("source embeddings", *encoder, *own)


def method_of(subject: Subject, chosen: str) -> str:
    """The method of the graph: the chosen one; else ALTI, or rollout where the model's parts cannot be told."""
    known = subject.model is not None and not subject.model.anatomy.reason
    return chosen or ("alti" if known else "rollout")


@dataclass(frozen=True, eq=False)
class Drawn:
    """A graph, and what makes it again with so few edges that a Sankey diagram takes them."""

    graph: Graph
    few: Callable[[], Graph]


def graph_for(subject: Subject, method: str, share: float, options: Options) -> Drawn:
    """The graph of one method, made with these options, down from the subject's state, by units."""
    trace, sinks, (query, level) = subject.trace, subject.view.sinks, subject.state

    if too_long_for(method, trace):
        raise InputError(too_long_for(method, trace))
    run = None if METHODS[method].reads == "attention" else run_of(subject)

    def make(job: Job) -> Stack:
        model, told = subject.model, job.step
        return Stack.of(methods.steps(method, trace, run=run, model=model, sinks=sinks, progress=told, **options))

    of = (*subject.run, "stack", method, hashable(options), sinks)
    stack = cast(Stack, kept(subject, of, METHODS[method].title, make, _stack_bytes))

    source = subject.source_units
    units = (subject.units,) if source is None else (source, subject.units)
    labels = [label for axis in units for label in axis.labels]

    def draw(most: int) -> Graph:
        return trace_down(stack, labels, query, share=share, level=level, units=units, most=most)

    key = (*subject.run, "graph", method, hashable(options), sinks, subject.state, share, subject.view.unit)
    graph = kept(subject, key, "Tracing down", lambda job: draw(MOST_EDGES), lambda made: 80 * len(made.edges))
    return Drawn(graph, lambda: draw(MOST_SANKEY_EDGES))


def _stack_bytes(stack: Stack) -> int:
    return sum(step.weights.nbytes + step.kept.nbytes for step in stack.steps)


def attribution_for(subject: Subject) -> Written:
    """What each part writes to the target's logits; only for a subject that has a target."""
    model, target, run = subject.model, subject.target, run_of(subject)
    assert model is not None
    assert target is not None

    def make(job: Job) -> Written:
        aim = target.aim(model, run.trace)
        found = logits.attribution(run, model, aim)
        return Written(found.frame(), found.total, found.title)

    key = (*subject.run, "attribution", subject.aimed)
    return cast(Written, kept(subject, key, "Attributing", make, lambda made: 100 * len(made.parts)))


def lens_for(subject: Subject) -> tuple[pd.DataFrame, int]:
    """The logit lens at the goal, a row for each layer and token; and the id of the answer, which is always there."""
    model, goal, run = subject.model, subject.goal, run_of(subject)
    assert model is not None
    assert goal is not None
    answer = subject.answer

    def make(job: Job) -> pd.DataFrame:
        return logits.lens(run, model, goal, answer=answer)

    key = (*subject.run, "lens", goal, answer)
    found = kept(subject, key, "Reading each layer", make, lambda made: 200 * len(made))
    return cast(pd.DataFrame, found), answer
