"""A text with a person's marks: which words mattered, for what, and what the model is asked about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from attnviz.errors import InputError
from attnviz.flow.target import Target
from attnviz.human.words import Words, characters, query_token
from attnviz.models import Model
from attnviz.text import Span, check_text
from attnviz.text import words as words_of_text
from attnviz.trace import Trace


@dataclass(frozen=True, eq=False)
class Marked:
    """One text and what a person marked in it.

    text      as the model reads it: with the question, where the marks answer one
    marks     number of a word in `attnviz.text.words(text)` -> weight, 0 (not marked, as those left out) to 1
    query     number of the word whose attention is read, and whose prediction is explained: for a decoder, that of the
              token after it. None: attention received from all, and the prediction after the text
    answer    the token predicted there, as an id or a text of one token; None: the likeliest. For a model that sorts
              texts into classes, a class
    other     for a model without a vocabulary: a second text, and what counts is the similarity to it
    passage   characters `[start, end)` that could be marked; None: all of the text. The rest is never compared
    raises    TextError; InputError for words or weights that there are not
    """

    text: str
    marks: Mapping[int, float]
    query: int | None = None
    answer: int | str | None = None
    other: str | None = None
    passage: Span | None = None
    n_words: int = field(init=False)

    def __post_init__(self) -> None:
        check_text(self.text)
        spans = words_of_text(self.text)
        object.__setattr__(self, "n_words", len(spans))
        for number, weight in self.marks.items():
            self._check(number, "A mark is on")
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 1:
                raise InputError(f"A mark's weight lies from 0 to 1; word {number} has {weight!r}.")
        if self.query is not None:
            self._check(self.query, "The query is")
        if self.passage is not None and not 0 <= self.passage[0] < self.passage[1] <= len(self.text):
            raise InputError(f"A passage is a stretch of the text's {len(self.text)} characters; got {self.passage!r}.")
        object.__setattr__(self, "marks", MappingProxyType({n: float(w) for n, w in self.marks.items()}))

    @classmethod
    def at(
        cls,
        text: str,
        stretches: Sequence[tuple[int, int, float]],
        *,
        query: int | None = None,
        answer: int | str | None = None,
        other: str | None = None,
        passage: Span | None = None,
    ) -> Marked:
        """From marked stretches of characters, `(start, end, weight)`; a word is marked where one of them meets it."""
        return cls(text, characters(text, stretches), query, answer, other, passage)

    def token(self, trace: Trace, site: str | None = None) -> int | None:
        """The query's last token in a run on this text."""
        return query_token(trace, self.query, site)

    def target(self, model: Model, trace: Trace) -> Target | None:
        """What is explained; None where the model has no such outcome: a masked encoder without a query, a model of
        embeddings without a second text, one of classes."""
        if model.has_vocabulary:
            if model.family == "encoder" and self.query is None:
                return None
            own = -1 if model.family == "encoder-decoder" or self.query is None else self.token(trace)
            return Target(-1 if own is None else own, self.answer)
        return None if model.labels or self.other is None else Target(other=self.other)

    def lost(self, words: Words) -> Mapping[int, float]:
        """The marks that no word of these carries, by number: outside the passage, behind the query, or taken away."""
        known = {number for numbers in words.covers for number in numbers}
        return {number: weight for number, weight in self.marks.items() if weight and number not in known}

    def _check(self, number: int, what: str) -> None:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < self.n_words:
            raise InputError(f"{what} a word from 0 to {self.n_words - 1} of this text; got {number!r}.")
