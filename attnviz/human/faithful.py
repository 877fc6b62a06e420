"""Whether a model relies on words: what is left of its outcome without them, and with them alone.

    comprehensiveness   p(x) - p(x without the words): large where the outcome needs them
    sufficiency         p(x) - p(the words alone): near 0, or below, where they are enough

Measured for the words that a person marked and, at the same count, for those that each explanation puts first; and,
for explanations, as the mean over the first 1, 5, 10, 20 and 50% of the words (AOPC; ERASER, DeYoung et al. 2020, arXiv
1911.03429, whose formula also counts the empty set, which adds a zero and a larger divisor).

Tokens are deleted and the rest moves up, so every run is of a text that nobody wrote: positions shift, grammar breaks,
and a model may change its mind for that alone. So each number stands beside that of random words, and shows what these
deletions do to this outcome, not what the words mean to the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from attnviz.errors import InputError, MetricError, ShapeError
from attnviz.flow.variants import Variant, Variants
from attnviz.human.marked import Marked
from attnviz.human.words import Words
from attnviz.metrics import ClassProb
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.text import Span
from attnviz.trace import Trace

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
MARKED, RANDOM = "marked words", "random words"


@dataclass(frozen=True, eq=False)
class Faithful:
    """Comprehensiveness and sufficiency of several choices of words.

    frame    a row a choice, the marked words first and random ones last: name, comprehensiveness, sufficiency,
             aopc_comprehensiveness, aopc_sufficiency, in `unit`. The marked words have no order, so no AOPC: NaN
    clean    the outcome of the whole text
    unit     "probability" or "cosine"
    title    the outcome in words
    n_words  words that could be taken away; n_marked of them are marked
    """

    frame: pd.DataFrame
    clean: float
    unit: str
    title: str
    n_words: int
    n_marked: int


def faithful(
    model: Model,
    marked: Marked,
    words: Words,
    scores: Mapping[str, Any] | None = None,
    *,
    shares: Sequence[float] = SHARES,
    n_random: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Faithful:
    """Delete words and see what becomes of the outcome.

    words       of a run of this model on this text (`Candidates.words`)
    scores      name -> [word], finite, larger first; equal ones earlier first. As many as are marked are taken
    shares      of words, for AOPC; of each, rounded up, at least one. () for no AOPC, NaN, in fewer runs
    n_random    draws of as many random words as are marked, and of random orders, over which "random words" is a mean
    progress    called with (runs done, runs in all); raise from it to stop
    raises      InputError where no word is marked that can be taken away, for scores of other words, and where the
                model has no outcome here; MetricError as `Marked.answer` and `Target` have it

    The outcome is the probability of the answer at the query's position, of a class, or the cosine to `Marked.other`.
    Words are taken out of `words`; where some are kept alone, all else of the passage goes, its punctuation too. The
    query's own word, special tokens and what lies outside the passage always stay.
    """
    trace = model.trace(marked.text, compact=True)
    outcome = _outcome(model, marked, trace)
    bench = _Bench(words, trace, outcome, marked.passage)
    weights = words.weights(marked.marks)
    own = [i for i in np.flatnonzero(weights).tolist() if i in bench.removable]
    if not own:
        raise InputError("None of the marked words can be taken away: mark a word besides the query's own.")
    if isinstance(n_random, bool) or not isinstance(n_random, int) or n_random < 1:
        raise InputError(f"n_random counts draws from 1; got {n_random!r}.")
    if not all(0 < share <= 1 for share in shares):
        raise InputError(f"shares are parts of the words, above 0 and at most 1; got {tuple(shares)!r}.")
    random = np.random.default_rng(seed)
    orders = {name: bench.order(name, given) for name, given in (scores or {}).items()}
    drawn = [tuple(random.permutation(bench.removable).tolist()) for _ in range(n_random)]
    counts = [math.ceil(share * len(bench.removable)) for share in shares]
    first = {frozenset(order[:n]) for order in [*orders.values(), *drawn] for n in [len(own), *counts]}
    gone, alone = bench.outcomes({frozenset(own), *first}, progress)

    def row(order: Sequence[int]) -> list[float]:
        tops = [frozenset(order[:n]) for n in counts]
        one = frozenset(order[: len(own)])
        means = [float(np.mean([bench.clean - side[t] for t in tops])) if tops else math.nan for side in (gone, alone)]
        return [bench.clean - gone[one], bench.clean - alone[one], *means]

    marks = [bench.clean - gone[frozenset(own)], bench.clean - alone[frozenset(own)], math.nan, math.nan]
    rows = {MARKED: marks, **{name: row(order) for name, order in orders.items()}}
    rows[RANDOM] = np.mean([row(order) for order in drawn], axis=0).tolist()
    columns = ["comprehensiveness", "sufficiency", "aopc_comprehensiveness", "aopc_sufficiency"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("name").reset_index()
    return Faithful(frame, bench.clean, outcome.unit, outcome.title, len(bench.removable), len(own))


_Measure = Callable[[Sequence[Variant], Progress | None], dict[Variant, float]]


@dataclass(frozen=True)
class _Outcome:
    """What is measured.

    query   the position that is read; None where the whole text is
    over    given the whole text, what measures changed ones
    """

    title: str
    unit: str
    query: int | None
    over: Callable[[Variant], _Measure]


class _Bench:
    """One text and its outcome, ready for deletions.

    ids         what the model reads; a causal text ends at the position that is read
    position    where logits are read
    removable   numbers of words that can be taken away
    passage     positions of tokens that go where words are kept alone, but for those words'
    """

    def __init__(self, words: Words, trace: Trace, outcome: _Outcome, passage: Span | None) -> None:
        ids = tuple(trace.input_ids)
        if words.tokens[-1][1] > len(ids) or words.spans[-1][1] > len(trace.text):
            raise ShapeError("These words are of another text than the marked one: read them from a run on it.")
        self.words = words
        self.position = len(ids) - 1 if outcome.query is None else outcome.query
        self.ids = ids[: self.position + 1] if trace.info.family == "decoder" else ids
        own = set() if outcome.query is None else {outcome.query}  # is read, so it stays, and its word
        stays = [n for n, (a, b) in enumerate(words.tokens) if b > len(self.ids) or own & set(range(a, b))]
        self.removable = [n for n in range(len(words)) if n not in stays]
        kept = own | self._tokens(stays)
        self.passage = {i for i in _inside(trace, passage) if i < len(self.ids)} - kept
        clean = Variant(self.ids, self.position)
        self._measure = outcome.over(clean)
        self.clean = self._measure([clean], None)[clean]

    def order(self, name: str, scores: Any) -> tuple[int, ...]:
        """Removable words, the highest first."""
        values = np.asarray(scores, np.float64)
        if values.shape != (len(self.words),) or not np.isfinite(values).all():
            raise ShapeError(f"Expected a finite number for each of {len(self.words)} words from {name!r}.")
        return tuple(self.removable[i] for i in np.argsort(-values[self.removable], kind="stable").tolist())

    def outcomes(
        self, choices: Collection[frozenset[int]], progress: Progress | None
    ) -> tuple[dict[frozenset[int], float], dict[frozenset[int], float]]:
        """(without the words, with them alone), by choice."""
        gone = {choice: self._without(self._tokens(choice)) for choice in choices}
        alone = {choice: self._without(self.passage - self._tokens(choice)) for choice in choices}
        found = self._measure(list(dict.fromkeys([*gone.values(), *alone.values()])), progress)
        return {c: found[v] for c, v in gone.items()}, {c: found[v] for c, v in alone.items()}

    def _tokens(self, choice: Collection[int]) -> set[int]:
        return {i for number in choice for i in range(*self.words.tokens[number])}

    def _without(self, tokens: Collection[int]) -> Variant:
        kept = [i for i in range(len(self.ids)) if i not in tokens]
        if not kept:
            raise InputError("Nothing of the text would be left to run on: choose smaller shares or a passage.")
        position = min(sum(i < self.position for i in kept), len(kept) - 1)
        return Variant(tuple(self.ids[i] for i in kept), position, min(tokens, default=0))


def _inside(trace: Trace, passage: Span | None) -> list[int]:
    """Positions of tokens of the passage, white space and punctuation too."""
    start, end = passage or (0, len(trace.text))
    out = []
    for i, token in enumerate(trace.tokens):
        a, b = token.span
        piece = trace.text[a:b]
        first = b - len(piece.lstrip())  # a token's leading space may lie before the passage
        if not token.special and start <= first and b <= end and a < b:
            out.append(i)
    return out


def _outcome(model: Model, marked: Marked, trace: Trace) -> _Outcome:
    if model.family == "encoder-decoder":
        raise InputError(
            f"{model.name} reads its text beside a second one, where deleting words leaves another question: measure "
            "its tokens one by one, flow.yardstick."
        )
    if model.labels:
        return _of_class(model, marked, trace)
    target = marked.target(model, trace)
    if target is None:
        raise MetricError(
            f"{model.name} needs an outcome: give the marked text "
            + ("a query word, which it predicts." if model.has_vocabulary else "a second text to be similar to.")
        )
    aim = target.aim(model, trace)
    if aim.answer is None:
        return _Outcome(aim.title, "cosine", None, _rows(model, lambda row: float(aim.of_embeddings(row[None])[0])))
    title = f"probability of {trace.decode(aim.answer)!r} at position {aim.query}"
    return _Outcome(title, "probability", aim.query, _rows(model, lambda row: float(aim.of_logits(row[None])[0].exp())))


def _rows(model: Model, read: Callable[[torch.Tensor], float]) -> Callable[[Variant], _Measure]:
    """Of logits or embeddings, in batches that share what they can."""

    def over(clean: Variant) -> _Measure:
        variants = Variants(model, clean)
        return lambda runs, progress: {runs[i]: read(row) for i, row in variants.run(runs, progress)}

    return over


def _of_class(model: Model, marked: Marked, trace: Trace) -> _Outcome:
    """The probability of a class, by default the likeliest; runs one by one."""
    assert trace.class_logits is not None
    metric = ClassProb(int(trace.class_logits.argmax()) if marked.answer is None else marked.answer)

    def measured(runs: Sequence[Variant], progress: Progress | None) -> dict[Variant, float]:
        found = {}
        for done, run in enumerate(runs, 1):
            found[run] = model.measure(metric, input_ids=list(run.ids))
            if progress is not None:
                progress(done, len(runs))
        return found

    return _Outcome(metric.title, metric.unit, None, lambda clean: measured)
