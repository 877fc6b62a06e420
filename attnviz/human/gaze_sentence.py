"""One sentence, one model, all its readers: every row's correlation with every reader.

Words are compared that stand in the model's text, have a time, and, with the sink taken out, are not the sink's own.
Raw and partial figures are of the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch

from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.human.baselines import languages, lengths, rarity, surprisal
from attnviz.human.gaze import Reading
from attnviz.human.gaze_alignment import Alignment, align
from attnviz.human.gaze_scores import SINKS, Seen, seen_by
from attnviz.human.gaze_statistics import Chance, Doubles, directions, units
from attnviz.models import Model

Key = tuple[str, str]  # what becomes of the sink, and the measure
MEASURES = ("raw", "partial")
KEYS: tuple[Key, ...] = tuple(product(SINKS, MEASURES))
BASELINES = ("length", "rarity", "position", "surprisal")
LEAST_WORDS = 8


@dataclass(frozen=True)
class Row:
    """One thing that is held against reading times.

    kind   "head", "layer", "method", "baseline", or "readers": two of them against each other
    """

    kind: str
    name: str
    layer: int | None = None
    head: int | None = None

    def as_head(self) -> Head:
        assert self.layer is not None
        assert self.head is not None
        return Head(self.layer, self.head)


@dataclass(frozen=True, eq=False)
class Compared:
    """One sentence: by sink and measure, [reader, row]; NaN where there is no figure.

    n_words   words with tokens
    """

    name: str
    n_words: int
    values: Mapping[Key, Doubles]


class Sentences:
    """Compares sentences one by one, holding none of them.

    rows       what is compared, known after the first sentence
    controls   the baselines that there are, which partial figures are given
    refused    method -> why it is not offered
    """

    def __init__(
        self,
        model: Model,
        readers: tuple[str, ...],
        methods: tuple[str, ...],
        language: str,
        least_words: int,
        surprisal_by: Model,
    ) -> None:
        self._model, self._readers, self._methods, self._language = model, readers, methods, language
        self._least, self._by = least_words, surprisal_by
        predicts = surprisal_by.family == "decoder" or (
            surprisal_by.family == "encoder" and surprisal_by.mask_id is not None
        )
        offered = {"rarity": language in languages(), "surprisal": surprisal_by.has_vocabulary and predicts}
        self.controls = tuple(name for name in BASELINES if offered.get(name, True))
        self.rows: tuple[Row, ...] = ()
        self.refused: dict[str, str] = {}

    def read(self, readings: Sequence[Reading], text: str, other: str | None, chance: Mapping[Key, Chance]) -> Compared:
        """One sentence of everybody who read it; its times, moved, go into `chance`.

        other    another text, for a model without a vocabulary
        raises   InputError where its words are not the text's, or too few have times
        """
        name, n_words = readings[0].sentence, readings[0].punctuation.count(False)
        if n_words < self._least:
            raise InputError(f"Sentence '{name}' has {n_words} words; at least {self._least} are needed.")
        seen = seen_by(self._model, text, other, self._methods)
        self.refused |= seen.refused
        alignment = align(readings[0].words, seen.trace)
        found = alignment.found.numpy()
        self.rows = self.rows or self._named(seen)
        baselines = self._baselines(readings[0], alignment, seen, text)
        controls = np.stack([baselines[BASELINES.index(name)] for name in self.controls])
        times = np.full((len(self._readers), int(found.sum())), np.nan)
        for one in readings:
            times[self._readers.index(one.reader)] = one.shares()[found]
        values = {}
        hidden = ((alignment.weights > 0) & seen.hidden).any(-1).numpy()[found]
        for sink, measure in KEYS:
            scores = np.concatenate([self._scores(seen, sink, alignment)[:, found], baselines])
            usable = np.isfinite(times) & (~hidden if sink == "out" else True)
            given = controls if measure == "partial" else controls[:0]
            values[sink, measure] = self._compared(scores, times, usable, given, chance[sink, measure])
        if not any(np.isfinite(one).any() for one in values.values()):
            raise InputError(
                f"No reader has {self._least} times, not all alike, on the {int(found.sum())} words of sentence "
                f"'{name}' that are in the model's text."
            )
        return Compared(name, int(found.sum()), values)

    def _compared(
        self, scores: Doubles, times: Doubles, usable: np.ndarray, controls: Doubles, chance: Chance
    ) -> Doubles:
        """[reader, row] of scores [row, word] and times [reader, word]; pairs of readers are rows behind the others."""
        out = np.full((len(times), len(self.rows)), np.nan)
        n_heads = sum(row.kind == "head" for row in self.rows)
        shares = chance.shares()
        for reader, (own, words) in enumerate(zip(times, usable, strict=True)):
            if words.sum() < self._least or np.ptp(own[words]) == 0:
                continue
            taken_out = directions(controls[:, words], int(words.sum()))
            ranked, target = units(scores[:, words], taken_out), units(own[None, words], taken_out)[0]
            out[reader, : len(scores)] = ranked @ target
            if len(controls):
                out[reader, len(scores) - len(BASELINES) : len(scores)] = self._of_baselines(
                    controls[:, words], own[words]
                )
            chance.add(ranked[:n_heads], own[words], taken_out, shares)
        for at, (a, b) in enumerate(combinations(range(len(times)), 2), len(scores)):
            both = usable[a] & usable[b]
            if both.sum() >= self._least:
                taken_out = directions(controls[:, both], int(both.sum()))
                first, second = units(times[[a, b]][:, both], taken_out)
                out[:, at] = first @ second
        return out.clip(-1, 1)

    def _of_baselines(self, controls: Doubles, times: Doubles) -> Doubles:
        """[baseline], each given the others."""
        out = np.full(len(BASELINES), np.nan)
        for at, name in enumerate(self.controls):
            taken_out = directions(np.delete(controls, at, axis=0), len(times))
            both = units(np.stack([controls[at], times]), taken_out)
            out[BASELINES.index(name)] = both[0] @ both[1]
        return out

    def _named(self, seen: Seen) -> tuple[Row, ...]:
        heads = [Row("head", str(Head(layer, head)), layer, head) for layer, head in seen.heads]
        layers = [Row("layer", f"L{layer}", layer) for layer in dict.fromkeys(layer for layer, _ in seen.heads)]
        pairs = [Row("readers", f"{a} and {b}") for a, b in combinations(self._readers, 2)]
        methods = [Row("method", name) for name in self._methods]
        return (*heads, *layers, *methods, *(Row("baseline", name) for name in BASELINES), *pairs)

    def _scores(self, seen: Seen, sink: str, alignment: Alignment) -> Doubles:
        """[head, layer or method, row]; NaN for rows without tokens and for methods that were refused."""
        received, n_tokens = seen.received[sink], seen.received[sink].shape[1]
        of_layer = torch.tensor([layer for layer, _ in seen.heads])
        layers = torch.stack([received[of_layer == layer].mean(0) for layer in dict.fromkeys(of_layer.tolist())])
        nothing = torch.full((n_tokens,), torch.nan, dtype=torch.float64)
        methods = [seen.methods[sink].get(name, nothing) for name in self._methods]
        out: Doubles = alignment.sum(torch.cat([received, layers, *(one[None].double() for one in methods)])).numpy()
        return out

    def _baselines(self, reading: Reading, alignment: Alignment, seen: Seen, text: str) -> Doubles:
        """[baseline, word]; NaN for one that there is not. A first word without a surprisal takes the median."""
        words = alignment.words(reading.words, text)
        out = np.full((len(BASELINES), len(words)), np.nan)
        out[0], out[2] = lengths(words, text), np.arange(len(words))
        if "rarity" in self.controls:
            out[1] = rarity(words, text, self._language)
        if "surprisal" in self.controls:
            trace, own = seen.trace, words
            if self._by is not self._model:
                trace = self._by.trace(text)
                own = align(words.labels, trace, least=1.0).words(words.labels, trace.text)
            said = surprisal(self._by, trace, own)
            assert said is not None
            out[3] = np.where(np.isfinite(said), said, np.nanmedian(said))
        return out
