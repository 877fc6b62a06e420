"""What the Gaze page finds out for its tables: where a model has their words, its scores of them, the correlations."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd
import streamlit as st

from attnviz import human
from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.human import Correlation, Reading
from attnviz.human.gaze_alignment import LEAST
from attnviz.human.gaze_scores import SINKS, check, seen_by
from attnviz.human.gaze_sentence import LEAST_WORDS
from attnviz.human.gaze_statistics import Doubles
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import work
from attnviz.ui.gaze.draft import HEAD, Gaze
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept, kept_before
from attnviz.ui.page import Opening
from attnviz.ui.session import selection

_WANTED = "attnviz_gaze_wanted"
_ROW_BYTES = 400  # of the table of all figures


@dataclass(frozen=True)
class Sentence:
    """One sentence and everybody's reading of it, in the order of the tables."""

    name: str
    words: tuple[str, ...]
    readings: tuple[Reading, ...]

    @property
    def text(self) -> str:
        return self.readings[0].text

    @property
    def n_words(self) -> int:
        return self.readings[0].punctuation.count(False)

    def by(self, reader: str) -> Reading:
        """That reader's, or the first one."""
        return next((one for one in self.readings if one.reader == reader), self.readings[0])


@dataclass(frozen=True)
class Fit:
    """How much of the tables a model's tokens hold.

    n_words, n_found   of all sentences, each counted once
    missing            some of the words that were not found
    refused            sentence -> why it is in no comparison
    """

    n_words: int
    n_found: int
    missing: tuple[str, ...]
    refused: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's scores of one sentence's words.

    by_sink   [head or one method, row]; NaN for rows without a score
    heads     (layer, head) of each row of `by_sink`; () for a method
    firsts    [row], the first token of each; None where it has none
    """

    by_sink: Mapping[str, Doubles]
    heads: tuple[tuple[int, int], ...]
    firsts: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """The correlations, and their table with intervals."""

    correlation: Correlation
    frame: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Asked:
    """A model and the readings. `name`: of the model in the pool, the start of every cache key."""

    name: str
    model: Model
    gaze: Gaze
    readings: tuple[Reading, ...]

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        groups: dict[tuple[str, tuple[str, ...]], list[Reading]] = {}
        for one in self.readings:
            groups.setdefault((one.sentence, one.words), []).append(one)
        return tuple(Sentence(*key, tuple(group)) for key, group in groups.items())

    @cached_property
    def readers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.reader for one in self.readings))

    @property
    def at(self) -> int:
        """Number of the sentence that is looked at."""
        return min(self.gaze.at, len(self.sentences) - 1)

    @property
    def sentence(self) -> Sentence:
        return self.sentences[self.at]

    @property
    def head(self) -> Head:
        """The Selection's, as far as this model has it."""
        chosen, info = selection(), self.model.info
        layer, head = chosen.layer or 0, chosen.head or 0
        there = layer < info.layers_of(info.site(None)) and (layer, head) in heads_of(self.model)
        return Head(layer, head) if there else Head(*heads_of(self.model)[0])

    @cached_property
    def tables(self) -> Hashable:
        """What of the tables a result depends on."""
        return work.digest(repr([(one.name, one.columns, work.digest(one.text)) for one in self.gaze.tables]))


def asked(opening: Opening, gaze: Gaze, readings: tuple[Reading, ...]) -> Asked:
    """raises Unsupported for a model of two texts"""
    assert opening.model is not None
    check(opening.model, ())
    return Asked(selection().model or settings().default_model, opening.model, gaze, readings)


def heads_of(model: Model) -> list[tuple[int, int]]:
    info = model.info
    site = info.site(None)
    pairs = zip(info.layers[site], info.layer_heads[site], strict=True)
    return [(layer, head) for layer, count in pairs for head in range(count)]


def fit(ask: Asked) -> Fit:
    """Each sentence's words looked for in the model's tokens."""

    def make(job: Job) -> Fit:
        n_words = n_found = 0
        missing: dict[str, None] = {}
        refused: dict[str, str] = {}
        for done, one in enumerate(ask.sentences):
            job.report(f"sentence {done + 1:,} of {len(ask.sentences):,}", done / len(ask.sentences))
            n_words += one.n_words
            try:
                work.check_length(ask.model, one.text, False)
                tokens = ask.model.encode(one.text).tokens
                found = human.align(one.words, tokens, one.text, least=0.0)
                n_found += found.n_words - len(found.missing)
                missing |= dict.fromkeys(one.words[row] for row in found.missing)
                if found.share < LEAST:
                    human.align(one.words, tokens, one.text)
            except InputError as error:
                refused[one.name] = str(error)
        return Fit(n_words, n_found, tuple(missing), refused)

    return cast(Fit, kept(ask, (ask.name, "gaze-fit", ask.tables), "Finding the words", make))


def scored(ask: Asked) -> Scored:
    """The sentence that is looked at, by every head, or by the chosen method.

    raises   InputError or Unsupported where there is none
    """
    one, method = ask.sentence, ask.gaze.beside
    # Of a model without a vocabulary the gradient is of how like the next sentence this one is.
    other = ask.sentences[(ask.at + 1) % len(ask.sentences)].text if len(ask.sentences) > 1 else None

    def make(job: Job) -> Scored:
        job.report("reading the sentence", 0.0)
        work.check_length(ask.model, one.text, False)
        seen = seen_by(ask.model, one.text, other, () if method == HEAD else (method,))
        if method in seen.refused:
            raise Unsupported(seen.refused[method])
        found = human.align(one.words, seen.trace)
        by_sink = {}
        for sink in SINKS:
            scores = seen.received[sink] if method == HEAD else seen.methods[sink][method][None]
            by_sink[sink] = found.sum(scores).numpy()
        lost = ((found.weights > 0) & seen.hidden).any(-1).numpy()
        by_sink["out"] = np.where(lost, np.nan, by_sink["out"])
        firsts = tuple(rows[0] if rows else None for rows in found.rows)
        return Scored(by_sink, seen.heads if method == HEAD else (), firsts)

    key = (ask.name, "gaze-scores", method, work.digest(repr(one.words)), work.digest(other or ""))
    return cast(
        Scored, kept(ask, key, "Scoring words", make, lambda made: sum(v.nbytes for v in made.by_sink.values()))
    )


def comparable(ask: Asked, refused: Iterable[str]) -> list[str]:
    """Names of the sentences that can be correlated: long enough, and with their words in the model's text."""
    names = dict.fromkeys(one.sentence for one in ask.readings if one.punctuation.count(False) >= LEAST_WORDS)
    return [name for name in names if name not in refused]


def spread(names: list[str], number: int) -> list[str]:
    """So many of them, evenly over the table; all for 0, and where there are fewer."""
    if not 0 < number < len(names):
        return names
    return [names[i * len(names) // number] for i in range(number)]


def seconds_a_sentence(ask: Asked, names: list[str]) -> float:
    """How long one takes, by one of the middle."""
    timed = names[len(names) // 2]

    def make(job: Job) -> float:
        job.report("timing a sentence", 0.0)
        began = time.monotonic()
        some = [one for one in ask.readings if one.sentence == timed]
        human.correlate(ask.model, some, language=ask.gaze.language, draws=10)
        return time.monotonic() - began

    return cast(float, kept(ask, (ask.name, "gaze-pace", ask.tables), "Estimating", make))


def correlated(ask: Asked, names: list[str]) -> Found | None:
    """The chosen sentences against the model; None where nobody has asked for them."""
    chosen = set(spread(names, ask.gaze.number))
    key = _key(ask, len(chosen))
    if key not in _wanted() and kept_before(key) is None:
        return None

    def make(job: Job) -> Found:
        def step(done: int, total: int) -> None:
            job.report(f"{done:,} of {total:,} sentences", done / total)

        some = [one for one in ask.readings if one.sentence in chosen]
        found = human.correlate(ask.model, some, language=ask.gaze.language, progress=step)
        job.report("intervals", 1.0)
        return Found(found, found.frame())

    def size(made: Found) -> int:
        return sum(v.nbytes for v in made.correlation.values.values()) + len(made.frame) * _ROW_BYTES

    return cast(Found, kept(ask, key, "Correlating", make, size))


def want(ask: Asked, names: list[str]) -> None:
    """For a callback: correlate the chosen sentences."""
    work.retry()
    _wanted().add(_key(ask, len(spread(names, ask.gaze.number))))


def _key(ask: Asked, number: int) -> tuple[Hashable, ...]:
    return (ask.name, "gaze", ask.tables, number, ask.gaze.language)


def _wanted() -> set[tuple[Hashable, ...]]:
    found: set[tuple[Hashable, ...]] = st.session_state.setdefault(_WANTED, set())
    return found
