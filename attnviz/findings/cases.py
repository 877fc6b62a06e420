"""What kinds of measurement share: one number a case or the reason why there is none, and words found among tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from attnviz.edits import Head
from attnviz.errors import HeadError, InputError, Unsupported
from attnviz.findings.figuring import Doubles
from attnviz.findings.records import Case, HeadAt, Measurement
from attnviz.models import Model
from attnviz.tap import Progress
from attnviz.text import Span
from attnviz.text import words as words_of_text
from attnviz.tokens import Token
from attnviz.trace import Trace

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Read:
    """What one kind of measurement found, before anything is made of it.

    values     one a case; None where there is none, for the reason in `reasons`, by the case's number from 0
    control    [control], what the same measurement gives of something else, as the mean over the same cases
    controls   what they are, in words
    unit       of all of these
    title      what was measured, in words: the subject of a sentence
    below      [control] of moved marks, the smallest of all heads where `control` is the largest
    """

    values: tuple[float | None, ...]
    reasons: Mapping[int, str]
    control: Doubles
    controls: str
    unit: str
    title: str
    below: Doubles = field(default_factory=lambda: np.zeros(0))


class Kind(Protocol):
    """A kind of measurement: raises InputError where nothing of it can be had for any case."""

    def __call__(self, model: Model, asked: Measurement, cases: Sequence[Case], progress: Progress | None) -> Read: ...


@dataclass(eq=False)
class Gathered:
    """One case after the other: what each came to, or why it came to nothing."""

    cases: Sequence[Case]
    progress: Progress | None
    reasons: dict[int, str] = field(default_factory=dict)
    done: int = 0

    def tell(self) -> None:
        """Say how far it is, in the middle of a case too, so that a long one can be stopped."""
        if self.progress is not None:
            self.progress(self.done, len(self.cases))

    def each(self, read: Callable[[Case], T]) -> list[T | None]:
        """`read` of each case; None where it raises InputError or Unsupported, which becomes the reason.

        Raises InputError with the first reason where no case came to anything.
        """
        found: list[T | None] = []
        for number, case in enumerate(self.cases):
            try:
                found.append(read(case))
            except (InputError, Unsupported) as error:
                found.append(None)
                self.reasons[number] = str(error)
            self.done = number + 1
            self.tell()
        if len(self.reasons) == len(self.cases):
            raise InputError(f"Nothing could be measured on {_counted(len(self.cases))}: {self.reasons[0]}")
        return found


def head_of(model: Model, at: HeadAt) -> Head:
    """A head that the model has; HeadError where it has none, or where a site is missing."""
    head = at.value
    if model.family == "encoder-decoder" and head.site is None:
        raise HeadError(f"{model.name} has attention at {', '.join(model.info.sites)}; give {head} a site.")
    site = model.info.check_head(head.layer, head.head, head.site)
    return Head(head.layer, head.head, site if len(model.info.sites) > 1 else None)


def traced(model: Model, case: Case) -> Trace:
    """The model's run on a case, with the case's target where it has a decoder for one."""
    return model.trace(case.text, case.target or None)


def query_of(tokens: Sequence[Token], text: str, word: str) -> int:
    """The position of the last token of a word, where it comes last; of "", the last token of the text itself."""
    if not word.strip():
        return max((i for i, token in enumerate(tokens) if not token.special), default=len(tokens) - 1)
    return positions_of(tokens, text, word, last=True)[-1]


def keys_of(tokens: Sequence[Token], text: str, word: str) -> list[int]:
    """The positions of a word's tokens, where it comes first."""
    if not word.strip():
        raise InputError("This case names no key: say which word of its text is attended to.")
    return positions_of(tokens, text, word, last=False)


def positions_of(tokens: Sequence[Token], text: str, word: str, *, last: bool) -> list[int]:
    """The tokens that a word of the text, or several in a row, is made of; InputError where the text has it not."""
    spans = spans_of(text, word)
    if not spans:
        raise InputError(f"There is no word {word.strip()!r:.60} in {text!r:.60}, as it stands there.")
    start, end = spans[-1 if last else 0]
    found = [i for i, token in enumerate(tokens) if not token.special and token.span[0] < end and start < token.span[1]]
    if not found:
        raise InputError(f"No token of this run belongs to {word.strip()!r:.60}: it was cut off.")
    return found


def spans_of(text: str, word: str) -> list[Span]:
    """Where a word, or several in a row, stands in a text, from the start of a word to the end of one."""
    wanted, spans = word.strip(), words_of_text(text)
    starts, ends = {start for start, _ in spans}, {end for _, end in spans}
    found, at = [], text.find(wanted)
    while at >= 0:
        if at in starts and at + len(wanted) in ends:
            found.append((at, at + len(wanted)))
        at = text.find(wanted, at + 1)
    return found


def _counted(n: int) -> str:
    return "the text" if n == 1 else f"any of {n} texts"
