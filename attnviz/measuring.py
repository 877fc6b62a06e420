"""One number for one run: a metric, measured on a model that was asked to run."""

from __future__ import annotations

from typing import Any, Protocol

from attnviz.edits import Edit
from attnviz.encoding import Encoded, Reader
from attnviz.errors import MetricError
from attnviz.info import ModelInfo, Origin
from attnviz.layout import Layout
from attnviz.metrics import ExactMatch, Metric, Outputs, Subject
from attnviz.outputs import results
from attnviz.tap import Call


class Measured(Subject, Protocol):
    """What must be known of a model: `attnviz.Model` is one."""

    @property
    def info(self) -> ModelInfo: ...
    @property
    def origin(self) -> Origin: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def reader(self) -> Reader: ...
    def ready(
        self, edits: tuple[Edit, ...], source: Encoded, decoder: Encoded | None, *, prompt: bool
    ) -> tuple[Edit, ...]: ...
    def forward(self, source: Encoded, edits: tuple[Edit, ...], call: Call | None, decoder: Encoded | None) -> Any: ...
    def written(self, source: Encoded, edits: tuple[Edit, ...], *, most: int) -> list[int]: ...


def measure(
    model: Measured, metric: Metric, source: Encoded, decoder: Encoded | None, edits: tuple[Edit, ...]
) -> float:
    """The outcome of one run; see `Model.measure`."""
    if isinstance(metric, ExactMatch):
        return metric.read(model, model.written(source, edits, most=len(metric.wanted(model)) + 1))
    if model.family == "encoder-decoder" and decoder is None:
        raise MetricError(
            f"{model.name} is an encoder-decoder, and {type(metric).__name__} reads what its decoder does: give a "
            "target or decoder_input_ids, or use ExactMatch."
        )
    own = source if decoder is None else decoder
    clean = _outputs(model, Call(model.layout.places, keep=False), source, decoder) if metric.needs_clean else None
    plan = metric.plan(model, own.ids, clean)
    longer = len(plan.ids) > len(own.ids)
    bound = model.ready(edits, source, decoder, prompt=longer)
    if longer:
        own = model.reader.encode_ids(plan.ids)
        source, decoder = (own, None) if decoder is None else (source, own)
    call = Call(model.layout.places, edits, keep=False, bound=bound)
    return float(plan.score(_outputs(model, call, source, decoder))[0])


def _outputs(model: Measured, call: Call, source: Encoded, decoder: Encoded | None) -> Outputs:
    outputs = model.forward(source, tuple(call.edits), call, decoder)
    found = results(outputs, 0, model.info, model.origin.pooling)
    logits, classes, embedding = (None if x is None else x[None] for x in found)
    return Outputs(logits=logits, class_logits=classes, embedding=embedding)
