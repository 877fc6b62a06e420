"""One scalar a head, learned from a few corrected examples with every weight of the model frozen.

1. Examples are split by text: a part is held out, and never learned from.
2. A head's output z becomes g z before the output projection; all gates g start at 1, where they change nothing.
3. A step draws a batch and follows the slope of  mean loss + weight * penalty  by AdamW; then gates are clamped to
   [0, 1]. Clamped rather than a sigmoid, which never reaches 1 or 0: "no change" and "closed" are then exact.
4. After each step the held-out loss is taken. The step where it was lowest is kept, the untouched model being step 0;
   after `patience` steps without a new lowest one learning stops.

The penalty is of change. "l2", the sum of (1 - g)^2, pulls every gate towards 1. "l1", the sum of (1 - g), holds a
gate at exactly 1 unless its slope is steeper than the weight, so that few heads change at all. Neither rewards closing
a head that these few examples happen not to need: other texts may. It stands in the objective and not in AdamW's own
decay (0 here), which would pull towards 0.

Slopes are taken with respect to the gates alone (`torch.autograd.grad`): nothing is left on the model, and other
threads may run it meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd
import torch

from attnviz.checks import seeded
from attnviz.edits import Edit, Head
from attnviz.errors import Cancelled, HeadError, InputError
from attnviz.fingerprint import fingerprint
from attnviz.gates.examples import Asked, asked, scored
from attnviz.gates.result import CLOSED, COLUMNS, OPEN, Gates, ones_of
from attnviz.gates.scores import Tested, Values
from attnviz.models import Model
from attnviz.tap import Place

Penalty = Literal["l2", "l1"]
Told = Callable[[int, int, Mapping[str, float]], None]

_SMALLEST = 1e-4  # AdamW's epsilon: it would otherwise move a gate of no slope as far as any other
_LEAST = 1e-4  # nats that a held-out loss must fall by to count: less is rounding


@dataclass(frozen=True, eq=False)
class Gating(Edit):
    """`ScaleHeads` with a slope: z times a tensor that may require gradients.

    by_place   [head] of each gated layer
    """

    by_place: Mapping[Place, torch.Tensor]
    heads = ()

    @property
    def title(self) -> str:
        return "gates being learned"

    def touches(self, site: str, layer: int) -> bool:
        return (site, layer) in self.by_place

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        return z * self.by_place[Place(site, layer)].to(z.device, z.dtype)[:, None]


@dataclass(frozen=True, eq=False)
class Gated:
    """The heads that have gates, by place, in the order in which one vector of gates names them."""

    heads: Mapping[Place, tuple[int, ...]]
    sizes: Mapping[Place, int]

    @classmethod
    def of(cls, model: Model, site: str | None, heads: Iterable[Head] | None) -> Gated:
        layout, info = model.layout, model.info
        sites = layout.sites if site is None else (info.site(site),)
        sizes = {
            Place(name, layer): n
            for name in layout.sites
            for layer, n in zip(layout.layers[name], layout.layer_heads[name], strict=True)
        }
        if heads is None:
            return cls({place: tuple(range(n)) for place, n in sizes.items() if place.site in sites}, sizes)
        named: dict[Place, list[int]] = {}
        for head in _listed(heads):
            if head.site is None and len(layout.sites) > 1 and site is None:
                raise HeadError(f"{model.name} has attention at {', '.join(info.sites)}; give {head} a site.")
            place = Place(info.check_head(head.layer, head.head, head.site or site), head.layer)
            if place.site not in sites:
                raise HeadError(f"{head} does not belong to the site asked for, {site!r}.")
            named.setdefault(place, []).append(head.head)
        return cls({place: tuple(sorted(set(named[place]))) for place in sizes if place in named}, sizes)

    def __len__(self) -> int:
        return sum(map(len, self.heads.values()))

    def edit(self, gates: torch.Tensor) -> Gating:
        """The edit for a vector of gates, [gate]; the other heads stay as they are."""
        by_place, parts = {}, gates.split([len(heads) for heads in self.heads.values()])
        for (place, heads), part in zip(self.heads.items(), parts, strict=True):
            ones = torch.ones(self.sizes[place], dtype=gates.dtype)
            by_place[place] = ones.index_put((torch.tensor(heads),), part)
        return Gating(by_place)

    def values(self, model: Model, gates: torch.Tensor) -> dict[str, Values]:
        """By site, [layer, head] float64: 1 for a head without a gate, NaN where there is no head."""
        found = ones_of(model)
        for (site, layer), each in self.edit(gates).by_place.items():
            found[site][layer, : len(each)] = each.numpy()
        return found


def learn(
    model: Model,
    examples: Iterable[Any],
    *,
    site: str | None = None,
    heads: Iterable[Head] | None = None,
    penalty: Penalty = "l2",
    weight: float = 0.01,
    lr: float = 0.05,
    steps: int = 60,
    batch: int = 16,
    held_out: float = 0.3,
    patience: int = 10,
    seed: int = 0,
    progress: Told | None = None,
) -> Gates:
    """Learn one gate a head from corrected examples (Adam: arXiv 1412.6980; AdamW: 1711.05101).

    examples   (text, answer, foil), (text, answer), `Example`s or `ablation.Case`s: see `attnviz.gates.examples`
    site       gate the heads of one site alone; None: of all sites
    heads      gate these alone; None: all
    penalty    "l2" or "l1", of change; `weight` in nats for a gate that is closed
    batch      examples a step, drawn without repeats until all have been had
    held_out   the share of texts that choose the step and are never learned from, in (0, 1)
    patience   steps without a lower held-out loss after which learning stops
    seed       of the split and the batches; nobody else's random numbers are touched
    progress   called with (step, steps, {"train": nats, "held_out": nats}) from step 0, where "train" is NaN, on. If it
               raises Cancelled, the best gates so far are returned: see `Gates.stopped`
    raises     InputError for settings out of range, fewer than two texts, or an example at fault, by its number;
               HeadError; MetricError and Unsupported for a model without tokens to predict or without edits
    The held-out part chose the step, so what it says of the result is a little kind: `Gates.test` on others.
    """
    _check(penalty, weight=weight, lr=lr, steps=steps, batch=batch, held_out=held_out, patience=patience, seed=seed)
    gated, items = Gated.of(model, site, heads), asked(model, examples)
    random = torch.Generator().manual_seed(seeded(seed))
    train, kept = _split(items, held_out, random)

    gates = torch.ones(len(gated), requires_grad=True)
    optimizer = torch.optim.AdamW([gates], lr=lr, weight_decay=0.0, eps=_SMALLEST)
    best, rows = _State(0, gates.detach().clone(), scored(model, kept, [gated.edit(gates.detach())])), []
    before, stopped, queue = best.scored, "after all steps", list[int]()
    for step in range(steps + 1):
        loss, now = math.nan, before
        if step:
            queue = queue or torch.randperm(len(train), generator=random).tolist()
            drawn, queue = queue[:batch], queue[batch:]
            loss = _step(model, gated, [train[n] for n in drawn], gates, optimizer, penalty, weight)
            now = scored(model, kept, [gated.edit(gates.detach())])
            if float(now.loss.mean()) < float(best.scored.loss.mean()) - _LEAST:
                best = _State(step, gates.detach().clone(), now)
        held = float(now.loss.mean())
        rows.append(_row(step, loss, held, gates.detach(), weight * float(penalty_of(gates.detach(), penalty))))
        try:
            if progress is not None:
                progress(step, steps, {"train": loss, "held_out": held})
        except Cancelled:
            stopped = "on request"
            break
        if step - best.step >= patience:
            stopped = "early"
            break
    return Gates(
        values=gated.values(model, best.gates),
        history=pd.DataFrame(rows, columns=COLUMNS),
        best=best.step,
        stopped=stopped,
        held_out=Tested.of(before, best.scored, kept),
        n_train=len(train),
        seed=seed,
        settings={
            "penalty": penalty,
            "weight": float(weight),
            "lr": float(lr),
            "steps": steps,
            "batch": batch,
            "held_out": float(held_out),
            "patience": patience,
            "n_gates": len(gated),
        },
        model=model.name,
        revision=model.info.revision,
        weights=fingerprint(model),
    )


@dataclass(frozen=True, eq=False)
class _State:
    step: int
    gates: torch.Tensor
    scored: Any


def _step(
    model: Model,
    gated: Gated,
    drawn: Sequence[Asked],
    gates: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    penalty: Penalty,
    weight: float,
) -> float:
    """Move the gates once; returns the batch's mean loss before that, in nats."""
    with model.running(None, grad=True):
        loss = scored(model, drawn, [gated.edit(gates)], grad=True).loss.mean()
        (gates.grad,) = torch.autograd.grad(loss + weight * penalty_of(gates, penalty), [gates])
    optimizer.step()
    with torch.no_grad():
        gates.clamp_(0.0, 1.0)
    return float(loss.detach())


def penalty_of(gates: torch.Tensor, penalty: Penalty) -> torch.Tensor:
    """How far gates are from 1: the sum of (1 - g)^2 for "l2", of 1 - g for "l1"; a scalar."""
    return ((1 - gates) ** (2 if penalty == "l2" else 1)).sum()


def _row(step: int, loss: float, held_out: float, gates: torch.Tensor, penalty: float) -> tuple[float, ...]:
    """A row of the history, as `COLUMNS`."""
    return step, loss, held_out, penalty, int((gates < OPEN).sum()), int((gates <= CLOSED).sum())


def _split(items: Sequence[Asked], held_out: float, random: torch.Generator) -> tuple[list[Asked], list[Asked]]:
    """(learned from, held out): examples of one text stay together."""
    texts = list(dict.fromkeys(item.text for item in items))
    if len(texts) < 2:
        raise InputError("Gates need examples of at least 2 texts: one to learn from, one held out; got 1.")
    n_kept = min(max(round(held_out * len(texts)), 1), len(texts) - 1)
    kept = {texts[n] for n in torch.randperm(len(texts), generator=random)[:n_kept].tolist()}
    return [item for item in items if item.text not in kept], [item for item in items if item.text in kept]


def _listed(heads: Iterable[Head]) -> list[Head]:
    listed = list(heads) if isinstance(heads, Iterable) and not isinstance(heads, str) else []
    if not listed or not all(isinstance(head, Head) for head in listed):
        raise HeadError(f"heads is Head values, at least one, or None for all; got {heads!r:.80}.")
    return listed


def _check(penalty: Any, *, weight: Any, lr: Any, held_out: Any, **counts: Any) -> None:
    if penalty not in get_args(Penalty):
        raise InputError(f"penalty is 'l2' or 'l1'; got {penalty!r:.80}.")
    for name, value, fits, range_ in (
        ("weight", weight, lambda x: 0 <= x < math.inf, "from 0 on"),
        ("lr", lr, lambda x: 0 < x <= 1, "above 0 and at most 1"),
        ("held_out", held_out, lambda x: 0 < x < 1, "between 0 and 1"),
    ):
        if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
            raise InputError(f"{name} is a number {range_}; got {value!r:.80}.")
    for name, value in counts.items():
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
            raise InputError(f"{name} is a whole number from {least} on; got {value!r:.80}.")
