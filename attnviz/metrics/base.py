"""What a metric is, what it must know of a model, and what it reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

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
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def mask_id(self) -> int | None: ...
    def ids_of(self, text: str) -> list[int]: ...
    def embed(self, text: str) -> torch.Tensor: ...


@dataclass(frozen=True)
class Outputs:
    """A batch of runs on the same tokens.

    logits         [batch, position, vocab], from position `first` on
    class_logits   [batch, class]
    embedding      [batch, d_model]
    """

    logits: torch.Tensor | None = None
    embedding: torch.Tensor | None = None
    class_logits: torch.Tensor | None = None
    first: int = 0


@dataclass(frozen=True)
class Plan:
    """What to run and how to read it.

    ids     the input: of an encoder-decoder, the decoder's
    score   one float32 a run, [batch]
    first   the first position whose logits `score` reads: those before it need not be there
    """

    ids: tuple[int, ...]
    score: Callable[[Outputs], torch.Tensor]
    first: int = 0


class Metric(ABC):
    """An outcome.

    batched       whether it is read off outputs; one that is not writes texts, a run at a time
    needs_clean   whether it compares with the run that has no edits, whose outputs `plan` is then given
    """

    unit: ClassVar[str] = ""
    batched: ClassVar[bool] = True

    @property
    @abstractmethod
    def title(self) -> str:
        """The outcome in words, with its unit."""

    @property
    def needs_clean(self) -> bool:
        return False

    @abstractmethod
    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        """Fix the metric to one text.

        ids      what the model reads; of an encoder-decoder, what its decoder reads
        clean    outputs of the run without edits on these ids, a batch of one, where the metric `needs_clean`
        raises   MetricError where the model or the text cannot give it
        """


def need_vocabulary(metric: Metric, model: Subject) -> None:
    if not model.has_vocabulary:
        other = "ClassProb" if model.labels else "Similarity"
        raise MetricError(
            f"{type(metric).__name__} needs a vocabulary head, which {model.name} does not have; use {other}."
        )


def need_continuing(metric: Metric, model: Subject) -> None:
    """Raise unless the model predicts each token from those before it."""
    need_vocabulary(metric, model)
    if model.family == "encoder":
        raise MetricError(
            f"{type(metric).__name__} needs next tokens, and the encoder {model.name} has none: it sees the whole "
            "text; use LogitDiff at a mask, or KL."
        )


def need_clean(metric: Metric, clean: Outputs | None) -> Outputs:
    if clean is None:
        raise MetricError(
            f"{type(metric).__name__} compares with the clean run: give its outputs to plan(model, ids, clean), "
            "or use model.measure."
        )
    return clean


def position_in(position: Any, length: int, metric: Metric) -> int:
    """A position counted from the start; MetricError for one outside the text."""
    if isinstance(position, bool) or not isinstance(position, int) or not -length <= position < length:
        raise MetricError(f"{type(metric).__name__}'s position lies within the {length} tokens; got {position!r}.")
    return position % length


def ids_of(model: Subject, answer: Answer) -> list[int]:
    if isinstance(answer, str):
        return model.ids_of(answer)
    ids: list[Any] = list(answer) if isinstance(answer, Sequence) else [answer]
    last = model.vocabulary - 1
    for i in ids:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i <= last:
            raise MetricError(f"An answer is a text, or token ids from 0 to {last} for {model.name}; got {answer!r}.")
    return ids


def logits_at(outputs: Outputs, start: int, stop: int) -> torch.Tensor:
    """Logits of positions `[start, stop)`: [batch, position, vocab], float32."""
    if outputs.logits is None:
        raise MetricError("This run gave no logits.")
    if start < outputs.first or stop - outputs.first > outputs.logits.shape[1]:
        have = f"{outputs.first} to {outputs.first + outputs.logits.shape[1] - 1}"
        raise MetricError(f"The metric reads logits of positions {start} to {stop - 1}; this run kept {have}.")
    return outputs.logits[:, start - outputs.first : stop - outputs.first].float()
