"""How a metric is read off many runs at once without computing more of their logits than it reads.

All logits of 270 runs would be by far the largest tensor of a sweep, and most metrics read one position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from attnviz.ablation.layers import Layers
from attnviz.errors import MetricError
from attnviz.layout import main_output
from attnviz.metrics import Outputs, Plan
from attnviz.models import Model

_LOGITS = 2**24  # numbers that the logits of one chunk of rows may have


@dataclass(frozen=True, eq=False)
class Outcome:
    """A metric fixed to one text.

    plan   how it is read
    end    one behind the last position whose logits it reads; the first one is the plan's
    """

    model: Model
    plan: Plan
    end: int

    @classmethod
    def of(cls, model: Model, plan: Plan) -> Outcome:
        return cls(model, plan, plan.first + 1 if _reads_one(model, plan) else len(plan.ids))

    @property
    def n_read(self) -> int:
        """How many positions' logits are read; 0 for a model without a vocabulary."""
        return self.end - self.plan.first if self.model.has_vocabulary else 0

    @property
    def n_last(self) -> int:
        """How many of the last positions' logits hold all that are read; 0 as `n_read`."""
        return len(self.plan.ids) - self.plan.first if self.model.has_vocabulary else 0

    @torch.no_grad()
    def of_states(self, layers: Layers, states: torch.Tensor) -> torch.Tensor:
        """The score of each run by its last layer's states, [row, position, d_model] -> [row], float32 on the CPU."""
        scores = []
        for chunk in states.split(max(1, _LOGITS // max(1, self.n_read * self.model.vocabulary))):
            if layers.head is None:
                scores.append(self._of_final(layers.finished(chunk)))
            else:
                logits = layers.head(layers.finished(chunk[:, self.plan.first : self.end]))
                scores.append(self.plan.score(Outputs(logits=logits, first=self.plan.first)))
        return torch.cat(scores).float().cpu()

    def of_outputs(self, outputs: Any) -> torch.Tensor:
        """The score of each run by the model's own outputs: [row], float32; in a run with gradients, in its graph.

        Logits may be those of the last `n_last` positions alone.
        """
        given = main_output(outputs)
        if self.model.has_vocabulary:
            first = len(self.plan.ids) - given.shape[1]
            return self.plan.score(Outputs(logits=given, first=first)).float()
        if getattr(outputs, "logits", None) is not None:
            return self.plan.score(Outputs(class_logits=given)).float()
        return self._of_final(given).float()

    def _of_final(self, states: torch.Tensor) -> torch.Tensor:
        pooling = self.model.origin.pooling
        pooled = {"cls": states[:, 0], "mean": states.float().mean(1)}.get(pooling)
        return self.plan.score(Outputs(embedding=None if self.model.family == "encoder-decoder" else pooled))


@torch.no_grad()
def _reads_one(model: Model, plan: Plan) -> bool:
    """Whether the metric makes do with the logits of its first position: it refuses where it reads others too."""
    if not model.has_vocabulary or plan.first == len(plan.ids) - 1:
        return True
    width = getattr(model.hf_model.get_output_embeddings(), "out_features", None) or model.vocabulary
    try:
        plan.score(Outputs(logits=torch.zeros(1, 1, width, device=model.hf_model.device), first=plan.first))
    except (MetricError, IndexError, RuntimeError):
        return False
    return True
