"""Do people look longer at what a model attends to? Reading times against every head, layer and method.

1. A model reads each sentence; a word's score is the attention that it receives (`gaze_scores`), with the sink in, and
   with it taken out.
2. In each sentence the scores are ranked against the words' shares of the reading time (Hollenstein & Beinborn 2021):
   Spearman's correlation, raw, and partial given the words' length, rarity, position and surprisal.
3. Figures are means over sentences and readers, with bootstrap intervals; beside them stand the baselines themselves,
   how far the readers agree with each other, what the best of as many heads reaches by chance, and what the head that
   is best on one half of the sentences comes to on the other.

A correlation says that two orders are alike: not that the model reads as people do, nor that attention is the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.human.gaze import Reading
from attnviz.human.gaze_scores import GAZE_METHODS, check
from attnviz.human.gaze_sentence import KEYS, LEAST_WORDS, Row, Sentences
from attnviz.human.gaze_statistics import DRAWS, LEVEL, Chance, Doubles, best_elsewhere, means
from attnviz.models import Model

MOST_READERS = 200
_MOST_VALUES = 25_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Best:
    """The head with the largest mean over readers and sentences, and what that is worth.

    value       its mean on the very sentences that it was chosen on: a winner of noise in part
    band        what the best of all heads stays below in 95% of the draws, times moved in a circle
    p           corrected for the number of heads
    elsewhere   mean of every sentence with the head that is best on the other half; low, high: its interval
    chosen      the head that is best on the even, and on the odd sentences
    """

    head: Head
    value: float
    band: float
    p: float
    elsewhere: float
    low: float
    high: float
    chosen: tuple[Head, Head]


@dataclass(frozen=True, eq=False)
class Correlation:
    """Every row against every reader in every sentence.

    rows        heads, then layers, methods, baselines and pairs of readers
    values      by sink ("in", "out") and measure ("raw", "partial"): [sentence, reader, row], NaN where there is none
    best        by sink and measure
    p           by sink and measure, [row], of heads, corrected for their number; NaN for other rows
    controls    the baselines that the partial figures are given; a baseline is given the others
    n_words     [sentence], words that were compared with the sink in
    left_out    sentence -> why it is in no figure
    refused     method -> why it is not offered
    """

    model: str
    readers: tuple[str, ...]
    sentences: tuple[str, ...]
    rows: tuple[Row, ...]
    values: Mapping[tuple[str, str], Doubles]
    best: Mapping[tuple[str, str], Best]
    p: Mapping[tuple[str, str], Doubles]
    controls: tuple[str, ...]
    n_words: tuple[int, ...]
    left_out: Mapping[str, str]
    refused: Mapping[str, str]

    def frame(self, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
        """A row for each thing, sink, measure and reader, "" for all of them together.

        returns   kind, name, layer, head, sink, measure, reader, mean, low, high, sentences, p
        Intervals draw sentences; those over all readers draw readers too. Two readers against each other have their
        names in `name`, and reader "".
        """
        if not 0 < level < 1:
            raise InputError(f"A level lies between 0 and 1, such as 0.95; got {level!r}.")
        parts = []
        for (sink, measure), values in self.values.items():
            mean, low, high, count = means(values, level=level, draws=draws, seed=seed)
            for at, reader in enumerate([*self.readers, ""]):
                table = pd.DataFrame([(r.kind, r.name, r.layer, r.head) for r in self.rows])
                table.columns = pd.Index(["kind", "name", "layer", "head"])
                table = table.astype({"layer": "Int64", "head": "Int64"})
                table = table.assign(sink=sink, measure=measure, reader=reader, mean=mean[at], low=low[at])
                table = table.assign(
                    high=high[at], sentences=count[at], p=self.p[sink, measure] if not reader else np.nan
                )
                parts.append(table if not reader else table[table["kind"] != "readers"])
        return pd.concat(parts, ignore_index=True)


def correlate(
    model: Model,
    readings: Sequence[Reading],
    *,
    methods: Sequence[str] = GAZE_METHODS,
    texts: Mapping[str, str] | None = None,
    surprisal_by: Model | None = None,
    language: str = "en",
    least_words: int = LEAST_WORDS,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Correlation:
    """Hold reading times against a model, sentence by sentence: a run, a backward pass and what methods need for each.

    readings       of any number of readers; a sentence is the same for two of them by its name and its words
    methods        of `attnviz.flow.METHODS`, and "mean", the attention of all layers
    texts          sentence -> the text that the model is given; else `Reading.text`. The words are found in it
    surprisal_by   the model whose surprisal is a baseline; None: the model itself, where it predicts tokens
    language       of the words' rarity; no such baseline for a language that `human.baselines.languages` lacks
    least_words    sentences with fewer words to compare are left out, 8 at least (four baselines are taken out)
    progress       called with (sentences done, all); raise from it to stop
    raises         InputError for a method there is not, too many readings, or where no sentence is left, with why;
                   Unsupported for a model of two texts
    Memory: a number for each sentence, reader, row, sink and measure, and one sentence's run at a time.
    """
    check(model, methods)
    if least_words < LEAST_WORDS:
        raise InputError(
            f"least_words is at least {LEAST_WORDS}, or nothing is left of the ranks; got {least_words!r}."
        )
    readers = tuple(dict.fromkeys(one.reader for one in readings))
    if not 1 <= len(readers) <= MOST_READERS:
        raise InputError(f"Give readings of 1 to {MOST_READERS} readers; got {len(readers)} readers.")
    site = model.info.site(None)
    most = _MOST_VALUES // (len(KEYS) * (model.info.layers_of(site) * (model.info.heads_of(site) + 1) + 100))
    if len(readings) > most:
        raise InputError(f"{len(readings):,} readings are too many for {model.name}; give {most:,} at most.")
    sentences = Sentences(model, readers, tuple(methods), language, least_words, surprisal_by or model)
    chance = {key: Chance(draws, seed) for key in KEYS}
    groups = _groups(readings)
    found, left_out = [], {}
    for done, group in enumerate(groups):
        if progress is not None:
            progress(done, len(groups))
        name = group[0].sentence
        following = groups[(done + 1) % len(groups)][0]
        other = following.text if len(groups) > 1 else None
        try:
            found.append(sentences.read(group, (texts or {}).get(name, group[0].text), other, chance))
        except InputError as error:
            left_out[name] = str(error)
    if progress is not None:
        progress(len(groups), len(groups))
    if not found:
        raise InputError(f"No sentence could be compared. {next(iter(left_out.values()))}")
    rows = sentences.rows
    heads = [i for i, row in enumerate(rows) if row.kind == "head"]
    values = {key: np.stack([one.values[key] for one in found]) for key in KEYS}
    best, p = {}, {}
    for key in KEYS:
        of_heads = values[key][..., heads]
        mean = means(of_heads, draws=1)[0][-1]
        band, p_heads = chance[key].band(mean)
        p[key] = np.full(len(rows), np.nan)
        p[key][heads] = p_heads
        if np.isfinite(mean).any():
            best[key] = _best(of_heads, mean, [rows[i] for i in heads], band, p_heads, seed)
    return Correlation(
        model=model.name,
        readers=readers,
        sentences=tuple(one.name for one in found),
        rows=rows,
        values=values,
        best=best,
        p=p,
        controls=sentences.controls,
        n_words=tuple(one.n_words for one in found),
        left_out=left_out,
        refused=sentences.refused,
    )


def _groups(readings: Sequence[Reading]) -> list[list[Reading]]:
    """Readings of one sentence by everybody who read it, in the order in which sentences first come.

    raises   InputError for a reader who read a sentence twice
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Reading]] = {}
    for one in readings:
        group = groups.setdefault((one.sentence, one.words), [])
        if any(one.reader == other.reader for other in group):
            raise InputError(
                f"Reader '{one.reader}' has sentence '{one.sentence}' twice. Give each reading once, or each reader a "
                "name of their own."
            )
        group.append(one)
    return list(groups.values())


def _best(values: Doubles, mean: Doubles, rows: Sequence[Row], band: float, p: Doubles, seed: int) -> Best:
    """Of heads [sentence, reader, head] and their means [head]."""
    at = int(np.nanargmax(mean))
    elsewhere, chosen = best_elsewhere(values)
    middle, low, high, _ = means(elsewhere[..., None], seed=seed)
    return Best(
        head=rows[at].as_head(),
        value=float(mean[at]),
        band=band,
        p=float(p[at]),
        elsewhere=float(middle[-1, 0]),
        low=float(low[-1, 0]),
        high=float(high[-1, 0]),
        chosen=(rows[chosen[0]].as_head(), rows[chosen[1]].as_head()),
    )
