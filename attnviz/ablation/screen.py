"""Every head's effect estimated at once, from one forward and one backward pass.

Attribution patching (Nanda 2023; Syed et al. 2023, arXiv 2310.10348): with z a head's output in the clean run, z' what
stands in for it, and M the outcome,

    M(z') - M(z)  ~  sum over queries and d_head of (z' - z) . dM/dz

For zeros its size is the head importance of Michel et al. 2019 (arXiv 1905.10650). It is the first term of a series: it
fails where a softmax is saturated, or where an effect bends (AtP*, arXiv 2403.00745). So it says where to look first,
and `attnviz.ablation.sweep` says what is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Unpack

import numpy as np
import torch

from attnviz.ablation.asked import Asked, Question
from attnviz.ablation.growing import stand_in
from attnviz.ablation.passes import HALF, last_logits
from attnviz.ablation.sweep import Sweep, swept
from attnviz.edits import Head
from attnviz.errors import Unsupported
from attnviz.metrics import Metric
from attnviz.models import Model
from attnviz.tap import Call


class Screened(Sweep):
    """Estimates in the shape of a `Sweep`; `noise` is NaN, and `budget` 0: no rows were run."""

    @property
    def title(self) -> str:
        return f"estimated {super().title}"


def screen(
    model: Model,
    text: str | None,
    metric: Metric,
    *,
    heads: Iterable[Head] | None = None,
    **question: Unpack[Question],
) -> Screened:
    """What `sweep` would find, estimated to first order; its arguments and errors.

    The graph of one forward pass is held, as in training, but nothing is left on the model's weights. Unsupported for a
    metric that has no slope, such as a rank.
    """
    asked = Asked.of(model, text, metric, **question)
    if metric.needs_clean and not asked.edits:
        raise Unsupported(
            f"{type(metric).__name__} has no slope in the clean run, which it compares with, and so no estimate: there "
            "are only exact effects, as of a sweep."
        )
    call = Call(places=model.layout.places, edits=asked.edits, keep=False, keep_z=True)
    with model.running(call, grad=True):
        outcome = asked.outcome.of_outputs(model.hf_model(**last_logits(asked)))[0]
        if not outcome.requires_grad:
            raise Unsupported(
                f"{type(metric).__name__} moves in steps, so it has no slope and no estimate: there are only exact "
                "effects, as of a sweep."
            )
        slopes = torch.autograd.grad(outcome, list(call.z.values()), allow_unused=True)
    by_head = {}
    for (place, z), slope in zip(call.z.items(), slopes, strict=True):
        change = -z[0].detach().float()
        if asked.instead is not None:
            values = stand_in(asked.instead, place, z.shape[1:])
            change = values.float() + change[: len(values)]
        # The last decoder block's other positions, say, may not reach the outcome at all.
        flow = torch.zeros_like(z[0]) if slope is None else slope[0]
        by_head[place] = (change * flow[: len(change)].float()).sum((0, 2)).tolist()
    known = {unit: sum(by_head[unit.place][head] for head in unit.heads) for unit in asked.all_units(heads)}
    half = HALF if model.hf_model.dtype.itemsize < 4 else ""
    return swept(asked, known, float(outcome.detach()), np.nan, len(known), note=half, kind=Screened)
