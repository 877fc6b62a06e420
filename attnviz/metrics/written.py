"""Outcomes of what a model writes: they need a generation each, and cannot be read off a batch of outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from attnviz.errors import MetricError
from attnviz.metrics.base import Answer, Metric, Outputs, Plan, Subject, ids_of, need_continuing


@dataclass(frozen=True)
class ExactMatch(Metric):
    """Whether the model, writing greedily, writes an answer: 1 or 0.

    answer    a text, or ids
    leading   count instead how many of the answer's first tokens come out right, 0 to all of them
    A decoder's continuation has to begin with the answer; an encoder-decoder has to write it and then stop. One wrong
    token is as wrong as ten: the number moves in jumps, and most heads seem to do nothing.
    """

    answer: Answer
    leading: bool = False
    unit = "match"
    batched = False

    @property
    def title(self) -> str:
        if self.leading:
            return f"leading tokens of {self.answer!r} that are written (count)"
        return f"whether {self.answer!r} is written (1 or 0)"

    def wanted(self, model: Subject) -> list[int]:
        """The answer's ids; MetricError where the model writes nothing, or the answer is empty."""
        need_continuing(self, model)
        wanted = ids_of(model, self.answer)
        if not wanted:
            raise MetricError("ExactMatch needs an answer of at least one token; got an empty one.")
        return wanted

    def read(self, model: Subject, written: Sequence[int]) -> float:
        """The number for what was written: one token more than the answer has, or less where the model stopped.

        written   ids, without what was given before them and without the end token
        """
        wanted = self.wanted(model)
        right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(wanted, written, strict=False)))
        if self.leading:
            return float(right)
        stopped = model.family != "encoder-decoder" or len(written) == len(wanted)
        return float(right == len(wanted) and stopped)

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        self.wanted(model)
        raise MetricError(
            "ExactMatch is not read off a run's outputs: the model has to write, run by run. Use model.measure, or "
            "LogProb or Loss for many runs at once."
        )
