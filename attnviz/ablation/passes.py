"""The runs of a sweep, batch after batch: through the model's layers where they can be called, else whole."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnviz.ablation.asked import Asked
from attnviz.ablation.budget import Budget
from attnviz.ablation.growing import Clean, Growing, Unit, layers_of, whole
from attnviz.ablation.layers import Layers, Visit, taking
from attnviz.errors import Unsupported
from attnviz.replacing import Outputs
from attnviz.tap import Call

HALF = "Small effects may have the wrong sign in half precision: load the model in float32."


def last_logits(asked: Asked) -> dict[str, Any]:
    """The run's inputs, asking for no more logits than the outcome reads where the model lets one ask.

    A model whose layers are no chain is asked for all of them: Gemma 4, asked for fewer, also runs some of its layers
    on the last queries alone.
    """
    inputs = asked.inputs
    may = isinstance(layers_of(asked.model), Layers) and asked.outcome.n_last
    if may and "logits_to_keep" in inspect.signature(asked.model.hf_model.forward).parameters:
        inputs["logits_to_keep"] = asked.outcome.n_last
    return inputs


@dataclass(frozen=True, eq=False)
class Passes:
    """What is needed to run any of a sweep's rows.

    baseline   the outcome of the clean run
    growing    None where rows run whole, for `reason`
    """

    asked: Asked
    baseline: float
    budget: Budget
    growing: Growing | None
    reason: str
    inputs: dict[str, Any]

    @classmethod
    def of(cls, asked: Asked, memory: int | None, piece: int | None) -> Passes:
        """Run the clean text once, and work out what rows will take."""
        model, outcome = asked.model, asked.outcome
        inputs = last_logits(asked)
        layers = layers_of(model)
        modules = layers.modules if isinstance(layers, Layers) else ()
        call = Call(places=model.layout.places, edits=asked.edits, keep=False)
        with model.running(call), taking(modules) as visits:
            outputs = model.hf_model(**inputs)
        with torch.no_grad():
            baseline = float(outcome.of_outputs(outputs)[0])
        growing, reason = None, layers if isinstance(layers, str) else ""
        if isinstance(layers, Layers):
            try:
                growing = Growing(model, layers, Clean.of(layers, visits), asked.instead, asked.edits)
            except Unsupported as error:
                reason, inputs = str(error), asked.inputs
        head_last = growing is not None and growing.layers.tail == "logits"
        n_given = inputs.get("logits_to_keep", len(outcome.plan.ids)) if model.has_vocabulary else 0
        budget = Budget.of(
            modules or [model.hf_model],
            width=model.info.d_model,
            vocabulary=model.vocabulary,
            positions=len(asked.source.ids) + (len(asked.decoder.ids) if asked.decoder else 0),
            n_heads=max(model.layout.n_heads.values()),
            scores=model.layout.kernel == "eager",
            fixed=_kept(visits, asked.instead),
            logits=(outcome.n_read if head_last else n_given) * model.vocabulary,
            device=model.hf_model.device,
            size=model.hf_model.dtype.itemsize,
            memory=memory,
            piece=piece,
        )
        return cls(asked, baseline, budget, growing, reason, inputs)

    @property
    def note(self) -> str:
        """What else to know of the effects, in words."""
        parts = []
        if self.growing is None:
            parts.append(f"Each row is a whole run of its own: {self.reason}.")
        if self.asked.model.hf_model.dtype.itemsize < 4:
            parts.append(HALF)
        return " ".join(parts)

    def work(self, units: Sequence[Unit]) -> int:
        """Layer calls that these units take, each counted by its rows."""
        if self.growing is None:
            return len(units)
        return sum(len(self.growing.layers) - self.growing.start(unit) for unit in units)

    def run(self, units: Sequence[Unit]) -> Iterator[tuple[int, list[tuple[Unit, float]]]]:
        """(work done, what it came to) bit by bit, batch after batch in the order given."""
        n_batches = -(-len(units) // self.budget.rows)
        size = max(1, -(-len(units) // max(1, n_batches)))
        for first in range(0, len(units), size):
            batch = units[first : first + size]
            if self.growing is None:
                outputs = whole(self.asked.model, self.inputs, batch, self.asked.instead, self.asked.edits)
                yield len(batch), list(zip(batch, self._of_outputs(outputs), strict=True))
                continue
            for rows, states, last in self.growing.run(batch):
                yield len(rows), list(zip(rows, self._of_states(states), strict=True)) if last else []

    def _of_states(self, states: torch.Tensor) -> list[float]:
        assert self.growing is not None
        if self.growing.layers.tail == "model":
            return self._of_outputs(self.growing.behind(states, self.inputs))
        with self.asked.model.running(None):
            return self.asked.outcome.of_states(self.growing.layers, states).tolist()

    @torch.no_grad()
    def _of_outputs(self, outputs: Any) -> list[float]:
        return self.asked.outcome.of_outputs(outputs).tolist()


def _kept(visits: Sequence[Visit], instead: Outputs | None) -> int:
    """Bytes of the clean run's states, and of what stands in for heads."""
    states = [x for visit in visits for x in (visit.read, visit.gave)]
    tensors = {x.data_ptr(): x for x in (*states, *(instead or {}).values())}
    return sum(x.numel() * x.element_size() for x in tensors.values())
