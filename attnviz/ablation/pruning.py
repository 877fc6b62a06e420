"""How much of a model's heads can go: remove them one after the other and watch an outcome over a set of texts.

1. Every head gets an importance: the size of its effect, averaged over texts, estimated (`screen`) or exact (`sweep`).
   Michel et al. 2019 (arXiv 1905.10650) prune by the estimate; an order of one's own, or a random one, goes too.
2. Heads leave from the least important on, more and more together, and the outcome of each text is measured anew:
   effects do not add up, so the sum of single effects says little of a set.
3. The knee is the step farthest from the chord between the curve's first and last point (after Kneedle, Satopaa et al.
   2011), where the curve lies on the side of the untouched model.

A head that is zeroed, or held at its mean, still costs its time: its parameters are *removable*, no more. Time is
measured on copies whose heads were really taken out (`take_out`), where the model's shapes allow that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.ablation.cases import Case
from attnviz.ablation.held import Removal
from attnviz.ablation.screen import screen
from attnviz.ablation.sweep import sweep
from attnviz.ablation.taking_out import take_out
from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.metrics import Metric
from attnviz.models import Model
from attnviz.tap import Progress

Order = Literal["screen", "exact"] | int | Sequence[Head]
_ROUNDS = 5  # of timing


@dataclass(frozen=True, eq=False)
class Curve:
    """An outcome while heads are removed.

    order        the heads in the order in which they leave; all of them, or as many as were given
    removed      [step], how many have left; the first step has 0
    values       [step, text], the metric
    removable    [step], parameters of the heads that have left (`removable_parameters`); none is gone yet
    n_parameters of the whole model
    ms           [step, 2], milliseconds of a forward pass of every text with the heads really taken out, and of the
                 whole model in turn with it, medians of 5 rounds; NaN where that was not asked for, or cannot be
    metric, unit of the outcome, in words
    by           how the order came about, and `how` heads were removed, in words
    A curve is about these texts. What costs nothing here may matter elsewhere.
    """

    order: tuple[Head, ...]
    removed: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    removable: npt.NDArray[np.int64]
    n_parameters: int
    ms: npt.NDArray[np.float64]
    metric: str
    unit: str
    by: str
    how: str

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """[step], each text counting once."""
        return self.values.mean(1)

    @property
    def knee(self) -> int | None:
        """The step farthest from the chord; None where the curve bends the other way from the start or ends level."""
        return knee_of(self.removed, self.mean)

    @property
    def title(self) -> str:
        n = self.values.shape[1]
        return f"{self.metric}, mean of {n} text{'s' * (n > 1)}, heads {self.how}, {self.by}"

    def frame(self) -> pd.DataFrame:
        """A row a step: step, removed, last (the head that left last), mean, lowest and highest over texts, removable,
        share (of the model's parameters), left (parameters, were they taken out), ms, ms_whole, knee."""
        lasts = ["" if n == 0 else str(self.order[n - 1]) for n in self.removed]
        return pd.DataFrame(
            {
                "step": np.arange(len(self.removed)),
                "removed": self.removed,
                "last": lasts,
                "mean": self.mean,
                "lowest": self.values.min(1),
                "highest": self.values.max(1),
                "removable": self.removable,
                "share": self.removable / self.n_parameters,
                "left": self.n_parameters - self.removable,
                "ms": self.ms[:, 0],
                "ms_whole": self.ms[:, 1],
                "knee": np.arange(len(self.removed)) == (-1 if self.knee is None else self.knee),
            }
        )

    def order_frame(self) -> pd.DataFrame:
        """The order, to be exported: rank (from 1), site ("" for a model's only one), layer, head."""
        rows = [(n, head.site or "", head.layer, head.head) for n, head in enumerate(self.order, 1)]
        return pd.DataFrame(rows, columns=["rank", "site", "layer", "head"])


def curve(
    model: Model,
    texts: Sequence[str | Sequence[int] | Case],
    metric: Metric | None = None,
    *,
    order: Order = "screen",
    references: Sequence[str | Sequence[int]] | None = None,
    steps: int = 20,
    timed: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Curve:
    """Remove a model's heads from the least important on, and measure the metric on every text at every step.

    texts        texts, ids, or `Case`s, whose own metric is read where `metric` is None
    order        "screen" or "exact": by the size of each head's effect, averaged over texts, for heads removed in the
                 same way; a seed: at random; or heads, first those that leave first
    references   heads are held at their mean over these; None: they are set to zero (off-distribution)
    steps        points behind the first one, evenly spread over the heads; the last has all of them removed
    timed        take the heads really out, where the model allows it, and time that
    progress     called with (runs done, runs in all) after each; raise from it to stop
    options      those of `sweep` and `Model.measure`, the same for every text: target
    raises       InputError for no text, no step, or a head given twice; as `sweep` and `screen`, which has no
                 order for a metric without a slope: give "exact"
    """
    asked = [_asked(text, metric) for text in texts]
    if not asked:
        raise InputError("A pruning curve needs at least one text.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"A pruning curve has at least 1 step; got {steps!r}.")
    removal = Removal.of(model, references)
    ranked, by = _ranked(model, asked, order, references, options)
    removed = np.unique(np.linspace(0, len(ranked), min(steps, len(ranked)) + 1).round().astype(int))
    values = np.empty((len(removed), len(asked)))
    for step, n in enumerate(removed):
        held = removal.edits(ranked[:n])
        for at, (given, outcome) in enumerate(asked):
            values[step, at] = model.measure(outcome, **given, **options, edits=held)
            if progress is not None:
                progress(step * len(asked) + at + 1, values.size)
    ms = [_timed(model, ranked[:n], asked, options) if timed else (np.nan, np.nan) for n in removed]
    titles, units = ({getattr(outcome, name) for _, outcome in asked} for name in ("title", "unit"))
    return Curve(
        order=ranked,
        removed=removed,
        values=values,
        removable=np.array([removable_parameters(model, ranked[:n]) for n in removed]),
        n_parameters=model.info.n_parameters,
        ms=np.array(ms, float),
        metric=titles.pop() if len(titles) == 1 else f"outcome of each text ({', '.join(sorted(units))})",
        unit=asked[0][1].unit,
        by=by,
        how="set to zero (off-distribution)" if references is None else "held at their mean over reference texts",
    )


def removable_parameters(model: Model, heads: Iterable[Head]) -> int:
    """Weights that belong to these heads alone: their columns of the query and output matrices, and the key and value
    ones of key/value heads that nobody else reads; d_head * d_model each, biases not counted."""
    info, layout = model.info, model.layout
    named = {(info.site(head.site), head.layer, head.head) for head in heads}
    matrices = 2 * len(named)
    for site, layer in {(site, layer) for site, layer, _ in named}:
        n_heads = layout.layer_heads[site][layout.layers[site].index(layer)]
        size = max(1, n_heads // (layout.n_kv_heads[site] or n_heads))
        gone = {head for place, at, head in named if (place, at) == (site, layer)}
        groups = {head // size for head in gone}
        matrices += 2 * sum(all(group * size + i in gone for i in range(size)) for group in groups)
    return matrices * info.d_head * info.d_model


def knee_of(removed: npt.NDArray[np.int64], mean: npt.NDArray[np.float64]) -> int | None:
    """The step where (share removed) - (share of the whole change) is largest; None where it never is above 0."""
    change = mean - mean[0]
    if len(mean) < 3 or change[-1] == 0:
        return None
    distance = (removed - removed[0]) / (removed[-1] - removed[0]) - change / change[-1]
    best = int(distance[1:-1].argmax()) + 1
    return best if distance[best] > 0 else None


def _asked(text: Any, metric: Metric | None) -> tuple[dict[str, Any], Metric]:
    """(what is run, what is measured) of one text."""
    if isinstance(text, Case):
        return {"text": text.clean, "input_ids": None}, metric or text.metric
    if metric is None:
        raise InputError("A metric is needed, such as Loss(): only Cases bring their own.")
    if isinstance(text, str):
        return {"text": text, "input_ids": None}, metric
    return {"text": None, "input_ids": list(text)}, metric


def _ranked(
    model: Model,
    asked: Sequence[tuple[dict[str, Any], Metric]],
    order: Order,
    references: Sequence[Any] | None,
    options: Mapping[str, Any],
) -> tuple[tuple[Head, ...], str]:
    """(heads, the first to leave first; how the order came about)."""
    several = model.info.family == "encoder-decoder"
    everything = [
        Head(layer, head, site if several else None)
        for site in model.layout.sites
        for layer, n in zip(model.layout.layers[site], model.layout.layer_heads[site], strict=True)
        for head in range(n)
    ]
    if isinstance(order, int) and not isinstance(order, bool):
        drawn = np.random.default_rng(order).permutation(len(everything))
        return tuple(everything[i] for i in drawn), f"removed at random (seed {order})"
    if not isinstance(order, str | bool):
        given: tuple[Head, ...] = tuple(order)
        if not given or len(set(given)) < len(given) or not all(isinstance(head, Head) for head in given):
            raise InputError(f"An order is Head values, each once; got {given!r:.120}.")
        for head in given:
            model.info.check_head(head.layer, head.head, head.site)
        return given, "removed in the order given"
    if order not in ("screen", "exact"):
        raise InputError(f"order is 'screen', 'exact', a seed, or heads; got {order!r}.")
    run = screen if order == "screen" else sweep
    how: dict[str, Any] = {"how": "zero"} if references is None else {"how": "mean", "texts": references}
    sizes = np.zeros(len(everything))
    for one, outcome in asked:
        found = run(model, one["text"], outcome, input_ids=one["input_ids"], **how, **options)
        sizes += [abs(found.found[head.site or model.info.site(None)][head.layer, head.head]) for head in everything]
    words = "estimated" if order == "screen" else "exact"
    by = f"the least important removed first ({words} effects, mean of their size over texts)"
    return tuple(everything[i] for i in sizes.argsort(kind="stable")), by


def _timed(
    model: Model, heads: Sequence[Head], asked: Sequence[tuple[dict[str, Any], Metric]], options: Mapping[str, Any]
) -> tuple[float, float]:
    """Milliseconds for all texts, (without these heads, whole); NaN where the heads cannot be taken out."""
    try:
        smaller = take_out(model, heads) if heads else model
    except Unsupported:
        return np.nan, np.nan
    sources = [model.encoded(one["text"], one["input_ids"], False) for one, _ in asked]
    runs = [(source, model.decoder_side(source, options.get("target"), None, ())) for source in sources]
    rounds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS + 1):  # the first warms up
        for one, times in zip((smaller, model), rounds, strict=True):
            start = time.perf_counter()
            for source, decoder in runs:
                one.forward(source, (), None, decoder)
            if model.hf_model.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    first, second = (1000 * statistics.median(times[1:]) for times in rounds)
    return first, second
