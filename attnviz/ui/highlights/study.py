"""A study: texts with a person's marks, as the page keeps them and as a file holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import streamlit as st
from pydantic import Field, ValidationError, model_validator

from attnviz.errors import InputError, TextError
from attnviz.human import Marked, languages
from attnviz.human.agreement import Metric
from attnviz.human.words import is_punctuation
from attnviz.settings import settings
from attnviz.text import check_text, visible, words
from attnviz.ui import drafts
from attnviz.ui.session import act, selection, text_of
from attnviz.ui.work import retry

By = Literal["last", "received"]
BRUSHES = (("Matters", 1.0), ("Somewhat", 0.5), ("A little", 0.25))
CUSTOM_STEP = 0.05  # of the weight of a fourth brush
_MOST = 50  # texts
_PROBLEM = "attnviz_study_problem"


@dataclass(frozen=True)
class Chip:
    """A word that can be marked, with the punctuation beside it.

    number   in `attnviz.text.words` of the passage; start: its first character there
    spaced   white space follows; broken: a new line does
    """

    number: int
    start: int
    label: str
    spaced: bool
    broken: bool


class Passage(drafts.Draft):
    """One text of a study.

    question   "" for none; the model reads it on a line of its own, before the text or after it
    marks      (number of a word in `attnviz.text.words(text)`, weight above 0), by number
    revealed   the model's view of it was shown; changed: marks or question were changed after that
    held       no head is chosen by it: for good, so that a head's proof stays a proof when other texts come and go
    """

    text: str
    question: str = ""
    before: bool = False
    marks: tuple[tuple[int, float], ...] = ()
    revealed: bool = False
    changed: bool = False
    held: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        check_text(self.read, max_chars=settings().max_chars)
        chips = chips_of(check_text(self.text))
        if not chips:
            raise TextError("This text has no word that could be marked. Write at least one.")
        known, numbers = {chip.number for chip in chips}, [number for number, _ in self.marks]
        if numbers != sorted(set(numbers)) or not known.issuperset(numbers):
            raise InputError("Marks are on words of the text, each once.")
        if not all(0 < weight <= 1 for _, weight in self.marks):
            raise InputError("A mark's weight is above 0 and at most 1.")
        return self

    @property
    def read(self) -> str:
        """What the model reads."""
        parts = [self.question, self.text] if self.before else [self.text, self.question]
        return "\n".join(part for part in parts if part.strip())

    @property
    def offset(self) -> int:
        """Where the text begins in what the model reads."""
        return len(self.read) - len(self.text) if self.before else 0

    @property
    def chips(self) -> list[Chip]:
        return chips_of(self.text)

    @property
    def markable(self) -> bool:
        """Some words are marked and others are not, so that there is something to agree with."""
        return 0 < len(self.marks) < len(self.chips)

    def marked(self, query: int | None = None, *, apart: bool = False) -> Marked:
        """For the library.

        query   a number among the words of what the model reads
        apart   the question is not read with the text, but what the text is compared with
        """
        spans = words(self.text)
        if apart:
            own = [(*spans[n], weight) for n, weight in self.marks]
            return Marked.at(self.text, own, query=query, other=self.question.strip() or None)
        at = self.offset
        stretches = [(spans[n][0] + at, spans[n][1] + at, weight) for n, weight in self.marks]
        inside = (at, at + len(self.text)) if self.read != self.text else None
        return Marked.at(self.read, stretches, query=query, passage=inside)

    def with_weights(self, weights: tuple[float, ...]) -> Passage:
        """Marked anew: a weight for every chip, 0 for none."""
        marks = tuple((chip.number, w) for chip, w in zip(self.chips, weights, strict=True) if w > 0)
        return self.model_copy(update={"marks": marks, "changed": self.changed or self.revealed})


class Study(drafts.Draft):
    """Texts with marks, and what they are compared by.

    at      the open text; one past the last where a new one is to be written
    by      whose attention a head's score is: what the last word pays, or what is received from all
    language   of the frequencies behind the baseline "rarity"
    head    (layer, head) that was picked; None: the best one
    thorough   also on long texts methods that read values and gradients, which take minutes there
    """

    passages: Annotated[tuple[Passage, ...], Field(max_length=_MOST)] = ()
    at: Annotated[int, Field(ge=0, le=_MOST)] = 0
    metric: Metric = "auroc"
    by: By = "last"
    language: str = "en"
    head: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = None
    thorough: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.at > len(self.passages) or self.language not in languages():
            raise InputError("A study opens one of its texts, and names a language with word frequencies.")
        return self

    @property
    def open(self) -> Passage | None:
        """The open text; of a study without any, the text that other pages look at; None: one is to be written."""
        if self.passages:
            return self.passages[self.at] if self.at < len(self.passages) else None
        try:
            return Passage(text=text_of(selection().text))
        except ValidationError:
            return None

    @property
    def ready(self) -> list[int]:
        """The texts that heads are ranked by: marked, then revealed, and not changed since.

        An open text that was changed is looked at by itself: with one text no head is named.
        """
        now = self.open
        if self.passages and now is not None and now.revealed and now.changed:
            return [self.at] if now.markable else []
        return [i for i, one in enumerate(self.passages) if one.revealed and one.markable and not one.changed]

    def held(self, numbers: Sequence[int]) -> list[int]:
        """Those of these texts that no head is chosen by; every second one where that would be all or none of them."""
        own = [number for number in numbers if self.passages[number].held]
        return own if 0 < len(own) < len(numbers) else list(numbers[1::2])

    def having(self, passage: Passage) -> Study:
        """With this as the open text; every second new one is held out."""
        new = self.at == len(self.passages)
        held = self.at % 2 == 1 if new else self.passages[self.at].held
        own = passage.model_copy(update={"held": held})
        return self.model_copy(update={"passages": (*self.passages[: self.at], own, *self.passages[self.at + 1 :])})

    def without(self, number: int) -> Study:
        texts = self.passages[:number] + self.passages[number + 1 :]
        at = self.at - (self.at > number)
        return self.model_copy(update={"passages": texts, "at": min(at, max(len(texts) - 1, 0))})


class StudyFile(drafts.Draft):
    """A study as a file holds it: texts and marks alone."""

    kind: Literal["attnviz study"] = "attnviz study"
    version: Literal[1] = 1
    passages: Annotated[tuple[Passage, ...], Field(min_length=1, max_length=_MOST)]

    @property
    def split(self) -> tuple[Passage, ...]:
        """The texts; every second one held out where the file does not say which are."""
        if any(one.held for one in self.passages):
            return self.passages
        return tuple(one.model_copy(update={"held": at % 2 == 1}) for at, one in enumerate(self.passages))


def study() -> Study:
    """This session's."""
    return drafts.read(Study, "study")


def change(**parts: Any) -> None:
    """For callbacks: change parts of the study."""
    keep(study().model_copy(update=parts))


def put(passage: Passage) -> None:
    """For callbacks: make this the open text."""
    keep(study().having(passage))


def keep(made: Study) -> None:
    """For callbacks: make this the study; one that cannot be kept is complained of when the page runs."""
    act()
    retry()
    try:
        if len(made.passages) > _MOST:
            raise InputError(f"A study holds {_MOST} texts at most: remove one first.")
        drafts.keep("study", made)
    except InputError as error:
        complain(str(error))


def complain(words_: str) -> None:
    """Keep a sentence for the page to say."""
    act()
    st.session_state[_PROBLEM] = words_


def complaint() -> str:
    """What is to be said, once."""
    return str(st.session_state.pop(_PROBLEM, ""))


def why_not(error: ValidationError) -> str:
    """The first thing wrong, as a sentence."""
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    known = first.get("ctx", {}).get("error")
    return str(known) if isinstance(known, InputError) else str(first["msg"])


def chips_of(text: str) -> list[Chip]:
    """The words of a text that can be marked; punctuation stands with the word that it touches."""
    found: list[tuple[int, int, int, int]] = []  # number, start of the word, start and end of the chip
    waiting: int | None = None
    for number, (start, end) in enumerate(words(text)):
        if not is_punctuation(text[start:end]):
            found.append((number, start, start if waiting is None else waiting, end))
            waiting = None
        elif found and waiting is None and found[-1][3] == start:
            found[-1] = (*found[-1][:3], end)
        elif waiting is None:
            waiting = start
    if found and waiting is not None:
        found[-1] = (*found[-1][:3], len(text.rstrip()))
    out = []
    for at, (number, word, start, end) in enumerate(found):
        after = text[end : found[at + 1][2]] if at + 1 < len(found) else ""
        label = " ".join(visible(part) for part in text[start:end].split())
        out.append(Chip(number, word, label, bool(after.strip() != after or after.isspace()), "\n" in after))
    return out
