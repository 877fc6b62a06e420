"""Everything that can be held against a person's marks on one text: heads, layers, methods and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch

from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.flow.methods import METHODS, scores, steps
from attnviz.flow.relevance import relevance
from attnviz.flow.run import Run, take_apart
from attnviz.human.agreement import Doubles, agreements
from attnviz.human.baselines import baselines
from attnviz.human.marked import Marked
from attnviz.human.words import SHOWN, Words, word_scores
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.view import Sinks

Kind = Literal["head", "layer", "method", "baseline"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ROUNDING = 1e-6  # of the largest; patterns are float32
Report = Callable[[str, float, int], None]  # what is under way, how much is done, how much in all


@dataclass(frozen=True)
class Candidate:
    """One thing that gives each word a number.

    name    "L5H1", "layer 5", a method of `attnviz.flow.METHODS` or a baseline
    layer, head   None where there is none
    """

    kind: Kind
    name: str
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """All of them on one text.

    trace     of the run, compact
    site      whose heads and keys
    human     [word], the person's weights
    scores    [candidate, word], finite; each candidate in a scale of its own
    lost      marks on words that are not among `words`, by number: they are in no comparison
    refused   method or baseline -> why it is not here
    """

    trace: Trace
    site: str
    words: Words
    human: Doubles
    names: tuple[Candidate, ...]
    scores: Doubles
    lost: Mapping[int, float]
    refused: Mapping[str, str]

    def head(self, candidate: Candidate) -> Head:
        """The head that a candidate is; InputError for another kind."""
        if candidate.layer is None or candidate.head is None:
            raise InputError(f"{candidate.name} is a {candidate.kind} and no head.")
        several = len(self.trace.info.sites) > 1
        return Head(candidate.layer, candidate.head, self.site if several else None)

    def frame(self) -> pd.DataFrame:
        """A row a candidate: kind, name, layer, head, and the columns of `agreement`."""
        return pd.concat([described(self.names), agreements(self.scores, self.human)], axis=1)


def candidates(
    model: Model,
    marked: Marked,
    *,
    site: str | None = None,
    sinks: Sinks = SHOWN,
    methods: Sequence[str] = tuple(METHODS),
    language: str = "en",
    report: Report | None = None,
) -> Candidates:
    """Run a model on a marked text and read every candidate.

    site       whose heads and keys; of an encoder-decoder one whose keys are the source, which is the text
    sinks      what becomes of sinks, in heads and in methods; words that are taken away are compared with nothing
    methods    out of `attnviz.flow.METHODS`, at the last layer, for the marked text's target
    language   for word frequencies
    report     called with (title, done, in all) before each part; raise from it to stop
    raises     InputError for a method there is not, or where no word can be compared; what `Model.trace` raises. What a
               method refuses by itself is in `refused`
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise InputError(f"A method is one of {', '.join(METHODS)}; got {unknown[0]!r}.")
    say = _Say(report, len(methods) + 3)
    say("Running the model")
    refused: dict[str, str] = {}
    run, trace = _run(model, marked, [name for name in methods if METHODS[name].reads == "parts"], refused)
    site = trace.info.site(site)
    if trace.texts(site)[1] != marked.text:
        raise InputError(f"The keys of {site} attention are another text than the marked one: choose another site.")
    query = marked.token(trace, site)
    words = Words.of(trace, site=site, query=query, sinks=sinks, passage=marked.passage)
    say("Heads")
    found = _of_heads(trace, word_scores(trace, query=query, site=site, sinks=sinks, words=words))
    side = "source" if model.family == "encoder-decoder" and site != "decoder" else "text"
    for name, values in _of_methods(model, marked, trace, run, methods, sinks, refused, say).items():
        found[Candidate("method", name)] = words.sum(values[side])
    say("Baselines")
    for name, value in baselines(model, trace, words, site=site, language=language).items():
        found[Candidate("baseline", name)] = value
    every = _level(np.stack(list(found.values())))
    return Candidates(
        trace.compact(), site, words, words.weights(marked.marks), tuple(found), every, marked.lost(words), refused
    )


def described(names: Sequence[Candidate]) -> pd.DataFrame:
    """kind, name, layer, head (None where there is none), a row each."""
    return pd.DataFrame(
        {
            "kind": [one.kind for one in names],
            "name": [one.name for one in names],
            "layer": pd.array([one.layer for one in names], dtype="Int64"),
            "head": pd.array([one.head for one in names], dtype="Int64"),
        }
    )


def _level(scores: Doubles) -> Doubles:
    """[candidate, word], those constant that differ by rounding alone: even attention would be ranked by its noise."""
    spread, size = np.ptp(scores, axis=-1, keepdims=True), np.abs(scores).max(-1, keepdims=True)
    return np.where(spread <= _ROUNDING * size, scores[:, :1], scores)


class _Say:
    """Counts the parts of the work."""

    def __init__(self, report: Report | None, total: int) -> None:
        self._report, self._done, self._total = report, 0, total

    def __call__(self, title: str) -> None:
        if self._report is not None:
            self._report(title, self._done, self._total)
        self._done += 1


def _run(model: Model, marked: Marked, parts: Sequence[str], refused: dict[str, str]) -> tuple[Run | None, Trace]:
    if parts:
        try:
            run = take_apart(model, marked.text)
            return run, run.trace
        except Unsupported as error:
            refused.update(dict.fromkeys(parts, str(error)))
    return None, model.trace(marked.text)


def _of_heads(trace: Trace, paid: Doubles) -> dict[Candidate, Doubles]:
    """Heads and the means of layers, from [layer, head, word]."""
    heads: dict[Candidate, Doubles] = {}
    layers: dict[Candidate, Doubles] = {}
    for layer, rows in enumerate(paid):
        there = np.isfinite(rows).all(-1)
        for head in np.flatnonzero(there).tolist():
            heads[Candidate("head", str(Head(layer, head)), layer, head)] = rows[head]
        if there.any():
            layers[Candidate("layer", f"layer {layer}", layer)] = rows[there].mean(0)
    return heads | layers


def _of_methods(
    model: Model,
    marked: Marked,
    trace: Trace,
    run: Run | None,
    methods: Sequence[str],
    sinks: Sinks,
    refused: dict[str, str],
    say: _Say,
) -> dict[str, dict[str, torch.Tensor]]:
    """method -> side -> [token]."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    target = marked.target(model, trace)
    query = target.query if target is not None and model.has_vocabulary else marked.token(trace)
    query = None if query is None else query % len(trace.tokens)
    for name in methods:
        say(METHODS[name].title)
        if name in refused:
            continue
        try:
            if name == "relevance":
                if target is None:
                    raise InputError(f"{model.name} needs a query word, or a second text, for an outcome to explain.")
                made = relevance(model, target.aim(model, trace), trace)
            else:
                made = scores(name, steps(name, trace, run=run, model=model, sinks=sinks), query)
        # Want of memory or a wish to stop is no property of the method.
        except (InputError, Unsupported) as error:
            refused[name] = str(error)
            continue
        found[name] = {"text": made.text} | ({} if made.source is None else {"source": made.source})
    return found
