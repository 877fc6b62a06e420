"""Which metric fits a model and a text, before anybody has said what they want to know."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from attnviz.errors import MetricError
from attnviz.metrics.base import Metric, Subject
from attnviz.metrics.next_token import KL, LogitDiff, Loss
from attnviz.metrics.whole_text import ClassProb, Similarity


class Run(Protocol):
    """What must be known of a run: `attnviz.Trace` is one."""

    @property
    def input_ids(self) -> list[int]: ...
    @property
    def class_logits(self) -> torch.Tensor | None: ...
    @property
    def embedding(self) -> torch.Tensor | None: ...
    def predictions(self, position: int = -1, k: int = 10) -> Any: ...


def default_for(model: Subject, trace: Run) -> Metric:
    """The metric that a model's own outputs suggest.

    decoder            LogitDiff between its two likeliest next tokens
    masked encoder     the same at the first mask; KL over all positions where the text has none
    encoder-decoder    Loss of the target; KL where the target is a single token
    classifier         ClassProb of its likeliest class
    sentence encoder   Similarity to the text itself, unedited
    raises             MetricError for a model with none of these outputs
    """
    if model.has_vocabulary:
        if model.family == "encoder-decoder":
            return Loss() if len(trace.input_ids) > 1 else KL()
        position = -1
        if model.family == "encoder":
            if model.mask_id is None or model.mask_id not in trace.input_ids:
                return KL(position=None)
            position = trace.input_ids.index(model.mask_id)
        answer, foil = (int(i) for i in trace.predictions(position, 2)["token_id"])
        return LogitDiff(answer, foil, position)
    if len(model.labels) > 1 and trace.class_logits is not None:
        return ClassProb(int(trace.class_logits.argmax()))
    if trace.embedding is not None:
        return Similarity()
    raise MetricError(f"{model.name} gives no next tokens, no classes and no embedding, so nothing can be measured.")
