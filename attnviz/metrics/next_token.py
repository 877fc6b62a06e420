"""Outcomes read off logits: of answers, of whole distributions, of the text itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attnviz.errors import MetricError
from attnviz.metrics.base import (
    Answer,
    Metric,
    Outputs,
    Plan,
    Subject,
    ids_of,
    logits_at,
    need_clean,
    need_continuing,
    need_vocabulary,
    position_in,
)


@dataclass(frozen=True)
class LogProb(Metric):
    """Log-probability, in nats, of a continuation of one or more tokens: sum over its tokens of log p."""

    answer: Answer
    unit = "nats"

    @property
    def title(self) -> str:
        return f"log-probability of {self.answer!r} (nats)"

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        need_continuing(self, model)
        answer = ids_of(model, self.answer)
        if not answer:
            raise MetricError("LogProb needs a continuation of at least one token; got an empty one.")
        # The last answer token is only ever predicted, never read.
        first = len(ids) - 1

        def score(outputs: Outputs) -> torch.Tensor:
            return _log_probabilities(outputs, first, answer).sum(-1)

        return Plan((*ids, *answer[:-1]), score, first)


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

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        need_vocabulary(self, model)
        one = []
        for answer in (self.answer, self.foil):
            got = ids_of(model, answer)
            if len(got) != 1:
                raise MetricError(
                    f"LogitDiff compares single tokens, but {answer!r} is {len(got)} tokens for {model.name}; "
                    "choose another answer or use LogProb."
                )
            one.append(got[0])
        position, (answer_id, foil_id) = position_in(self.position, len(ids), self), one

        def score(outputs: Outputs) -> torch.Tensor:
            logits = logits_at(outputs, position, position + 1)[:, 0]
            return logits[:, answer_id] - logits[:, foil_id]

        return Plan(tuple(ids), score, position)


@dataclass(frozen=True)
class KL(Metric):
    """KL(clean || edited) of the distributions over the vocabulary, in nats: 0 where nothing moved, never negative.

    position   where; None: the mean over all positions
    It says that a prediction moved, not where to: an edit that makes the right token likelier scores as one that makes
    it less likely. For an encoder it is the distribution at the position itself, of which only masks' were trained.
    """

    position: int | None = -1
    unit = "nats"

    @property
    def title(self) -> str:
        where = "mean over positions" if self.position is None else f"position {self.position}"
        return f"KL divergence from the clean run, {where} (nats)"

    @property
    def needs_clean(self) -> bool:
        return True

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        need_vocabulary(self, model)
        start, stop = 0, len(ids)
        if self.position is not None:
            start = position_in(self.position, len(ids), self)
            stop = start + 1
        expected = logits_at(need_clean(self, clean), start, stop).log_softmax(-1)

        def score(outputs: Outputs) -> torch.Tensor:
            return kl_nats(expected, logits_at(outputs, start, stop).log_softmax(-1)).mean(-1)

        return Plan(tuple(ids), score, start)


def kl_nats(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """KL(expected || found) over the last axis, of log-probabilities: [..., token] and [..., token] -> [...], nats."""
    share = expected.exp()
    # A token that the model rules out adds nothing, where 0 * inf would be NaN; rounding may go below zero.
    return torch.where(share > 0, share * (expected - found), 0.0).sum(-1).clamp(min=0)


@dataclass(frozen=True)
class Loss(Metric):
    """Cross-entropy of the text itself, in nats a token: the mean of -log p of each token given those before it.

    start   the first token that is scored, from 1: the first one of a text is predicted by nothing. Negative from the
            end
    Of an encoder-decoder, the target's loss. Lower is better: an edit that hurts has a positive effect.
    """

    start: int = 1
    unit = "nats a token"

    @property
    def title(self) -> str:
        return f"loss{'' if self.start == 1 else f' from token {self.start} on'} (nats a token)"

    def plan(self, model: Subject, ids: Sequence[int], clean: Outputs | None = None) -> Plan:
        need_continuing(self, model)
        if len(ids) < 2:
            raise MetricError("Loss needs a text of at least 2 tokens: the first one is predicted by nothing; got 1.")
        start = self.start + len(ids) if isinstance(self.start, int) and self.start < 0 else self.start
        if isinstance(start, bool) or not isinstance(start, int) or not 1 <= start < len(ids):
            raise MetricError(f"Loss starts at one of the tokens 1 to {len(ids) - 1}; got start={self.start!r}.")
        told = list(ids[start:])

        def score(outputs: Outputs) -> torch.Tensor:
            return -_log_probabilities(outputs, start - 1, told).mean(-1)

        return Plan(tuple(ids), score, start - 1)


def _log_probabilities(outputs: Outputs, first: int, told: Sequence[int]) -> torch.Tensor:
    """log p of each told token, the first of them told by position `first`: [batch, token]."""
    logits = logits_at(outputs, first, first + len(told))
    index = torch.tensor(told, device=logits.device).expand(logits.shape[0], -1)[..., None]
    return logits.gather(-1, index)[..., 0] - logits.logsumexp(-1)
