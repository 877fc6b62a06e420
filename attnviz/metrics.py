"""Outcomes: one number for what a run came to, so that an edit's effect can be measured.

A metric is a value, like an edit. `plan` turns it into token ids for one text; `Plan.score` reads the number off a
batch of outputs, so that many edited runs are scored at once. A metric is not an explanation: it only says how far an
outcome moved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from attnviz.errors import MetricError

Answer = str | int | Sequence[int]


class Subject(Protocol):
    """What a metric must know of a model: `attnviz.Model` is one."""

    @property
    def has_vocabulary(self) -> bool: ...
    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def family(self) -> str: ...
    def ids_of(self, text: str) -> list[int]: ...
    def embed(self, text: str) -> torch.Tensor: ...


@dataclass(frozen=True)
class Outputs:
    """A batch of runs on the same tokens; logits [batch, position, vocab], embedding [batch, d_model]."""

    logits: torch.Tensor | None = None
    embedding: torch.Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """What to run and how to read it: `ids` is the input, `score` gives one float32 a run, `[batch]`."""

    ids: tuple[int, ...]
    score: Callable[[Outputs], torch.Tensor]


class Metric(ABC):
    unit: str = ""

    @property
    @abstractmethod
    def title(self) -> str:
        """The outcome in words, with its unit."""

    @abstractmethod
    def plan(self, model: Subject, ids: Sequence[int]) -> Plan:
        """Fix the metric to one text; raises MetricError where the model or the text cannot give it."""


@dataclass(frozen=True)
class LogProb(Metric):
    """Log-probability, in nats, of a continuation of one or more tokens: sum over its tokens of log p."""

    answer: Answer
    unit = "nats"

    @property
    def title(self) -> str:
        return f"log-probability of {self.answer!r} (nats)"

    def plan(self, model: Subject, ids: Sequence[int]) -> Plan:
        _need_vocabulary(self, model)
        answer = _ids(model, self.answer)
        if not answer:
            raise MetricError("LogProb needs a continuation of at least one token; got an empty one.")
        # The last answer token is only ever predicted, never read.
        first, target = len(ids) - 1, torch.tensor(answer)

        def score(outputs: Outputs) -> torch.Tensor:
            logits = _logits(outputs)[:, first : first + len(answer)].float()
            index = target.to(logits.device).expand(logits.shape[0], -1)[..., None]
            return (logits.gather(-1, index)[..., 0] - logits.logsumexp(-1)).sum(-1)

        return Plan((*ids, *answer[:-1]), score)


@dataclass(frozen=True)
class LogitDiff(Metric):
    """logit(answer) - logit(foil) at one position: how much the model prefers one token to another.

    Answers of several tokens are refused: their first tokens may be the same. Use LogProb for those.
    """

    answer: Answer
    foil: Answer
    position: int = -1
    unit = "logits"

    @property
    def title(self) -> str:
        return f"logit of {self.answer!r} minus logit of {self.foil!r}"

    def plan(self, model: Subject, ids: Sequence[int]) -> Plan:
        _need_vocabulary(self, model)
        one = []
        for answer in (self.answer, self.foil):
            got = _ids(model, answer)
            if len(got) != 1:
                raise MetricError(
                    f"LogitDiff compares single tokens, but {answer!r} is {len(got)} tokens for {model.name}; "
                    "choose another answer or use LogProb."
                )
            one.append(got[0])
        length = len(ids)
        if (
            isinstance(self.position, bool)
            or not isinstance(self.position, int)
            or not -length <= self.position < length
        ):
            raise MetricError(f"LogitDiff's position lies within the {length} tokens; got {self.position!r}.")
        position, (answer_id, foil_id) = self.position % length, one

        def score(outputs: Outputs) -> torch.Tensor:
            logits = _logits(outputs)[:, position].float()
            return logits[:, answer_id] - logits[:, foil_id]

        return Plan(tuple(ids), score)


@dataclass(frozen=True)
class Similarity(Metric):
    """Cosine of the pooled embedding with that of a second text, which is never edited; in [-1, 1]."""

    other: str
    unit = "cosine"

    @property
    def title(self) -> str:
        return f"cosine similarity to {self.other!r}"

    def plan(self, model: Subject, ids: Sequence[int]) -> Plan:
        other = model.embed(self.other)

        def score(outputs: Outputs) -> torch.Tensor:
            if outputs.embedding is None:
                raise MetricError(f"Similarity needs embeddings, which {model.name} does not give.")
            embedding = outputs.embedding.float()
            return torch.cosine_similarity(embedding, other.float().to(embedding.device)[None], dim=-1)

        return Plan(tuple(ids), score)


def _need_vocabulary(metric: Metric, model: Subject) -> None:
    if not model.has_vocabulary:
        raise MetricError(
            f"{type(metric).__name__} needs a vocabulary head, which {model.name} does not have; use Similarity."
        )
    if model.family == "encoder" and isinstance(metric, LogProb):
        raise MetricError(f"LogProb continues a text, which the encoder {model.name} cannot; use LogitDiff at a mask.")


def _ids(model: Subject, answer: Answer) -> list[int]:
    if isinstance(answer, str):
        return model.ids_of(answer)
    ids: list[Any] = list(answer) if isinstance(answer, Sequence) else [answer]
    last = model.vocabulary - 1
    for i in ids:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i <= last:
            raise MetricError(f"An answer is a text, or token ids from 0 to {last} for {model.name}; got {answer!r}.")
    return ids


def _logits(outputs: Outputs) -> torch.Tensor:
    if outputs.logits is None:
        raise MetricError("This run gave no logits.")
    return outputs.logits
