"""Words that people and models share, and what every head pays them.

A word is one of `attnviz.text.words` of the source text, so that its number means the same for every model. What a
model pays it is summed over its tokens as keys and averaged over them as queries, as `attnviz.view` does.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from attnviz.errors import InputError
from attnviz.human.agreement import Doubles
from attnviz.tap import Progress
from attnviz.text import Span
from attnviz.text import words as words_of_text
from attnviz.trace import Trace, checked_position
from attnviz.units import Units
from attnviz.view import Sinks, View

SHOWN = Sinks()


@dataclass(frozen=True)
class Words:
    """The words of a run that can be compared with a person's marks.

    labels   [word], as people read them
    covers   [word], their numbers in `attnviz.text.words` of the source text: several where one token holds several,
             as a token of two Han characters does
    spans    [word], characters `[start, end)` of the source text
    tokens   [word], positions of tokens `[start, end)`
    units    [word], places among the key units of a View of words
    """

    labels: tuple[str, ...]
    covers: tuple[tuple[int, ...], ...]
    spans: tuple[Span, ...]
    tokens: tuple[Span, ...]
    units: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls,
        trace: Trace,
        *,
        site: str | None = None,
        query: int | None = None,
        sinks: Sinks = SHOWN,
        passage: Span | None = None,
    ) -> Words:
        """The words among the keys of a site.

        query     a token's position among the site's queries: words that begin after its word are left out where the
                  model does not look ahead
        sinks     words all of whose tokens these take away are left out
        passage   characters `[start, end)` of the keys' text; words outside are left out
        raises    InputError where no word is left

        Special tokens, white space and what is all punctuation are no words here: people do not mark them, many heads
        rest on them, and counting them would make every explanation look alike.
        """
        view = View("word", sinks)
        queries, keys = view.axes(trace, site)
        tokens, text = trace.axes(site)[1], trace.texts(site)[1]
        spans = words_of_text(text)
        starts = [a for a, _ in spans]
        hidden = keys.mean(view.hidden(trace, site).float()) == 1
        last = _last_seen(trace, site, query, queries)
        found: list[tuple[str, tuple[int, ...], Span, Span, int]] = []
        firsts = [tokens[a].word for a, _ in keys.spans]
        for unit, (a, b) in enumerate(keys.spans):
            number = firsts[unit]
            if number is None or bool(hidden[unit]) or a > last:
                continue
            end = min(tokens[b - 1].span[1], len(text))
            following = next((n for n in firsts[unit + 1 :] if n is not None), len(spans))
            covers = tuple(range(number, max(number + 1, min(following, bisect_left(starts, end)))))
            span = (starts[number], max(end, starts[number] + 1))
            inside = passage is None or (passage[0] <= span[0] and spans[number][1] <= passage[1])
            if inside and not is_punctuation(text[slice(*span)]):
                found.append((keys.labels[unit], covers, span, (a, b), unit))
        if not found:
            raise InputError("No word is left to compare: choose a longer passage, another query or other sinks.")
        return cls(*(tuple(column) for column in zip(*found, strict=True)))

    def weights(self, marks: Mapping[int, float]) -> Doubles:
        """[word], the weights of a person's marks by number of the word; the largest where a token holds several."""
        return np.array([max(float(marks.get(number, 0.0)) for number in numbers) for numbers in self.covers])

    def sum(self, values: torch.Tensor) -> Doubles:
        """[token] -> [word], summed over the tokens of each."""
        own = values.detach().double().cpu().numpy()
        return np.array([own[a:b].sum() for a, b in self.tokens])


def word_scores(
    trace: Trace,
    *,
    query: int | None = None,
    site: str | None = None,
    sinks: Sinks = SHOWN,
    words: Words | None = None,
    progress: Progress | None = None,
) -> Doubles:
    """What every head of a site pays each word: [layer, head, word]; NaN where there is no head.

    query      a token's position: the attention that its word pays each word. None: the attention that each word
               receives, summed over all queries, divided by the number of queries that can see it (of queries read as
               words; special tokens and punctuation are among them)
    sinks      as `attnviz.view` has them
    words      which words; None: `Words.of` with the same query and sinks
    progress   called with (layers done, layers in all); raise from it to stop
    raises     InputError for a position that there is not; what `View.rows` raises

    Both are sums over a word's keys and means over its queries. Layers are read one at a time.
    """
    words = Words.of(trace, site=site, query=query, sinks=sinks) if words is None else words
    name = trace.info.site(site)
    view = View("word", sinks)
    queries, keys = view.axes(trace, name)
    at = None if query is None else queries.at(checked_position(query, queries.n_tokens, "query"))
    out = np.full((trace.info.layers_of(name), trace.info.heads_of(name), len(words)), np.nan)
    layers = trace.layers(name)
    for done, layer in enumerate(layers, 1):
        paid = _paid(trace, layer, name, view, at)
        if at is None:
            paid = paid / _seeing(trace, layer, name, queries, keys).clamp(min=1)
        out[layer, : len(paid)] = paid[:, list(words.units)].cpu().numpy()
        if progress is not None:
            progress(done, len(layers))
    return out


def query_token(trace: Trace, number: int | None, site: str | None = None) -> int | None:
    """The position of a word's last token among a site's queries; None for None.

    number   in `attnviz.text.words` of the queries' text
    raises   InputError where no token belongs to it
    """
    if number is None:
        return None
    own = [i for i, token in enumerate(trace.axes(site)[0]) if token.word == number]
    if not own:
        raise InputError(f"No token of this run begins in word {number}; choose another query.")
    return own[-1]


def characters(text: str, marks: Sequence[tuple[int, int, float]]) -> dict[int, float]:
    """Marked stretches of characters `(start, end, weight)` as weights by word, the largest where several meet one."""
    out: dict[int, float] = {}
    for number, (a, b) in enumerate(words_of_text(text)):
        met = [weight for start, end, weight in marks if start < b and a < end]
        if met:
            out[number] = max(met)
    return out


def _paid(trace: Trace, layer: int, site: str, view: View, at: int | None) -> torch.Tensor:
    """[head, key unit] of one layer: one query unit's row, or the sum over all."""
    units = None if at is None else range(at, at + 1)
    parts = [rows.weights.sum(1, dtype=torch.float64) for rows in view.rows(trace, layer, site=site, units=units)]
    return torch.stack(parts).sum(0)


def _seeing(trace: Trace, layer: int, site: str, queries: Units, keys: Units) -> torch.Tensor:
    """[1 or head, key unit], how many query units can see each key unit."""
    attention = trace.layer(layer, site)
    counts = []
    for start, end in queries.spans:
        seen = attention.visible(slice(start, end))[0].any(1)  # [1 or head, key]
        counts.append(keys.sum(seen.double()) > 0)
    return torch.stack(counts).sum(0, dtype=torch.float64)


def _last_seen(trace: Trace, site: str | None, query: int | None, queries: Units) -> int:
    """The last position of keys where a word may begin."""
    name = trace.info.site(site)
    before, causal = len(trace.axes(name)[1]) - queries.n_tokens, trace.info.family == "decoder" or name == "decoder"
    if query is None or not causal:
        return len(trace.axes(name)[1])
    return before + queries.spans[queries.at(checked_position(query, queries.n_tokens, "query"))][1] - 1


def is_punctuation(piece: str) -> bool:
    """Whether nothing but punctuation and white space is in it."""
    own = piece.strip()
    return not own or all(unicodedata.category(character).startswith("P") for character in own)
