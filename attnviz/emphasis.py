"""Texts of which a part should count: what steering is tried on, and where that part stands among the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attnviz.ablation.cases import Case, rows_of
from attnviz.edits.base import positions_of
from attnviz.errors import InputError
from attnviz.metrics import Metric
from attnviz.tokens import Token

_FIELDS = ("text", "emphasis", "answer", "foil")


class Run(Protocol):
    """A text and its tokens: `Trace` and `Encoded` are such."""

    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> tuple[Token, ...]: ...


@dataclass(frozen=True)
class Example:
    """A text of which a part should count.

    emphasis   a phrase of the text, which is in it once, or token positions
    answer     what follows from the emphasised part
    foil       what follows from the rest; "": the outcome is the answer's log-probability, else a logit difference
    """

    text: str
    emphasis: str | tuple[int, ...]
    answer: str
    foil: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.emphasis, str):
            object.__setattr__(self, "emphasis", positions_of(self.emphasis, "emphasis"))
        if not self.emphasis:
            raise InputError("An example needs an emphasis: a phrase of its text, or token positions.")

    @property
    def metric(self) -> Metric:
        return Case(self.text, "", self.answer, self.foil).metric

    def tokens(self, run: Run) -> tuple[int, ...]:
        """The emphasised positions in a run on this text."""
        return tokens_of(run, self.emphasis) if isinstance(self.emphasis, str) else self.emphasis


def tokens_of(run: Run, phrase: str) -> tuple[int, ...]:
    """The positions of the tokens that a phrase of the text touches.

    raises   InputError where the text does not have it exactly once
    """
    n = run.text.count(phrase) if phrase else 0
    if n != 1:
        raise InputError(
            f"The phrase to emphasise is in the text once; {phrase!r:.80} is in it {n} times: give token positions."
        )
    start = run.text.index(phrase)
    end = start + len(phrase)
    spans = enumerate(token.span for token in run.tokens)
    return tuple(i for i, (a, b) in spans if a < end and start < b and a < b)


def read_examples(path: str | Path) -> list[Example]:
    """Examples of a .jsonl or .csv file: text, emphasis (a phrase or, in .jsonl, positions), answer and, if any, foil.

    raises   InputError for a file that cannot be read, naming the line and what it lacks
    """
    return [_example(row, at) for at, row in rows_of(path, "Steering examples")]


def _example(row: Any, at: str) -> Example:
    if not isinstance(row, dict):
        raise InputError(f"{at}: expected an object with {', '.join(_FIELDS)}; got {row!r:.60}.")
    text, emphasis, answer, foil = (row.get(name) or "" for name in _FIELDS)
    for name, value in (("text", text), ("answer", answer), ("foil", foil)):
        if not isinstance(value, str):
            raise InputError(f"{at}: {name} is a text; got {value!r:.60}.")
    if not text or not answer:
        raise InputError(f"{at}: there is no {'answer' if text else 'text'}; each line needs {', '.join(_FIELDS[:3])}.")
    try:
        return Example(text, emphasis, answer, foil)
    except InputError as error:
        raise InputError(f"{at}: {error}") from error
