"""How much of a model's heads can go: remove them one after the other and watch an outcome over a set of texts.

1. Every head gets an importance: the size of its effect, averaged over texts, estimated (`screen`) or exact (`sweep`).
   Michel et al. 2019 (arXiv 1905.10650) prune by the estimate; an order of one's own, or a random one, goes too.
2. Heads leave from the least important on, more and more together, and the outcome of each text is measured anew:
   effects do not add up, so the sum of single effects says little of a set.
3. The knee is the step farthest from the chord between the curve's first and last point (after Kneedle, Satopaa et al.
   2011), where the curve lies on the side of the untouched model. A curve that goes up and down, or whose end cannot be
   told from its beginning, has none.

A head that is zeroed, or held at its mean, still costs its time: its parameters are *removable*, no more. Time is
measured on copies whose heads were really taken out (`take_out`), where the model's shapes allow that.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from attnviz.ablation.cases import Case, half_width, one_unit
from attnviz.ablation.held import Removal
from attnviz.ablation.screen import screen
from attnviz.ablation.sweep import sweep
from attnviz.ablation.taking_out import take_out
from attnviz.ablation.telling import Told, not_stopped
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
    def low(self) -> npt.NDArray[np.float64]:
        """[step], the lower end of the 95% interval of the mean over texts (Student's t); NaN for a single text."""
        return self.mean - half_width(self.values.T)

    @property
    def high(self) -> npt.NDArray[np.float64]:
        """[step], its upper end."""
        return self.mean + half_width(self.values.T)

    @property
    def knee(self) -> int | None:
        """The step farthest from the chord; None for the reasons that `no_knee` gives."""
        return None if self.no_knee else knee_of(self.removed, self.mean)

    @property
    def no_knee(self) -> str:
        """Why there is no knee, in words; "" where there is one."""
        change = self.values[-1] - self.values[0]
        if abs(change.mean()) <= half_width(change):  # False for a single text, whose interval is NaN
            return "over these texts its end cannot be told from its beginning"
        if not one_way(self.mean):
            return "it goes up and down rather than one way"
        if knee_of(self.removed, self.mean) is None:
            return "it never lies on the untouched model's side of a straight line"
        return ""

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
    progress     called with (runs done, runs in all): those of the order and the timing too, an exact order counting
                 half a run a head; raise from it to stop
    options      those of `sweep` and `Model.measure`, the same for every text: target
    raises       InputError for no text, no step, a head given twice, or outcomes in different units; as `sweep` and
                 `screen`, which has no order for a metric without a slope: give "exact"
    """
    asked = [_asked(text, metric) for text in texts]
    if not asked:
        raise InputError("A pruning curve needs at least one text.")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"A pruning curve has at least 1 step; got {steps!r}.")
    unit = one_unit(outcome.unit for _, outcome in asked)
    leaving = _order(model, order)
    removed = np.unique(np.linspace(0, len(leaving), min(steps, len(leaving)) + 1).round().astype(int))
    values = np.empty((len(removed), len(asked)))
    ranking = {"screen": 1, "exact": max(1, len(leaving) // 2)}[order] if isinstance(order, str) else 0
    timing = 2 * (_ROUNDS + 1) * len(removed) if timed else 0
    told = Told(progress, values.size + (ranking + timing) * len(asked))
    removal = Removal.of(model, references)
    ranked, by = _ranked(model, asked, order, leaving, removal, options, told, ranking)
    for step, n in enumerate(removed):
        held = removal.edits(ranked[:n])
        for at, (given, outcome) in enumerate(asked):
            values[step, at] = model.measure(outcome, **given, **options, edits=held)
            told.add()
    ms = [_timed(model, ranked[:n], asked, options, told) if timed else (np.nan, np.nan) for n in removed]
    titles = {outcome.title for _, outcome in asked}
    return Curve(
        order=ranked,
        removed=removed,
        values=values,
        removable=np.array([removable_parameters(model, ranked[:n]) for n in removed]),
        n_parameters=model.info.n_parameters,
        ms=np.array(ms, float),
        metric=titles.pop() if len(titles) == 1 else f"outcome of each text ({unit})",
        unit=unit,
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
    """The step where (share removed) - (share of the whole change) is largest; None where it never is above 0, or where
    the curve does not go `one_way`."""
    change = mean - mean[0]
    if len(mean) < 3 or not one_way(mean):
        return None
    distance = (removed - removed[0]) / (removed[-1] - removed[0]) - change / change[-1]
    best = int(distance[1:-1].argmax()) + 1
    return best if distance[best] > 0 else None


def one_way(mean: npt.NDArray[np.float64]) -> bool:
    """Whether the whole change is at least half of all the ups and downs on the way, so that it is two thirds of the
    largest deviation too. Of draws of noise about a level line 1 in 2,000 passes at ten steps, 1 in 8 at four."""
    return bool(mean[-1] != mean[0]) and bool(2 * abs(mean[-1] - mean[0]) >= np.abs(np.diff(mean)).sum())


def _asked(text: Any, metric: Metric | None) -> tuple[dict[str, Any], Metric]:
    """(what is run, what is measured) of one text."""
    if isinstance(text, Case):
        return {"text": text.clean, "input_ids": None}, metric or text.metric
    if metric is None:
        raise InputError("A metric is needed, such as Loss(): only Cases bring their own.")
    if isinstance(text, str):
        return {"text": text, "input_ids": None}, metric
    return {"text": None, "input_ids": list(text)}, metric


def _order(model: Model, order: Order) -> tuple[Head, ...]:
    """The heads that leave, in their order; for "screen" and "exact" all of them, in the model's."""
    several = model.info.family == "encoder-decoder"
    everything = [
        Head(layer, head, site if several else None)
        for site in model.layout.sites
        for layer, n in zip(model.layout.layers[site], model.layout.layer_heads[site], strict=True)
        for head in range(n)
    ]
    if isinstance(order, int) and not isinstance(order, bool):
        drawn = np.random.default_rng(order).permutation(len(everything))
        return tuple(everything[i] for i in drawn)
    if not isinstance(order, str | bool):
        given: tuple[Head, ...] = tuple(order)
        if not given or len(set(given)) < len(given) or not all(isinstance(head, Head) for head in given):
            raise InputError(f"An order is Head values, each once; got {given!r:.120}.")
        for head in given:
            model.info.check_head(head.layer, head.head, head.site)
        return given
    if order not in ("screen", "exact"):
        raise InputError(f"order is 'screen', 'exact', a seed, or heads; got {order!r}.")
    return tuple(everything)


def _ranked(
    model: Model,
    asked: Sequence[tuple[dict[str, Any], Metric]],
    order: Order,
    leaving: tuple[Head, ...],
    removal: Removal,
    options: Mapping[str, Any],
    told: Told,
    runs: int,
) -> tuple[tuple[Head, ...], str]:
    """(heads, the first to leave first; how the order came about); `runs` are told for each text."""
    if not isinstance(order, str):
        return leaving, f"removed at random (seed {order})" if isinstance(order, int) else "removed in the order given"
    how: dict[str, Any] = {"how": "mean", "texts": removal} if removal.texts else {"how": "zero"}
    run = screen if order == "screen" else partial(sweep, progress=told.within(runs))
    sizes = np.zeros(len(leaving))
    for one, outcome in asked:
        found = run(model, one["text"], outcome, input_ids=one["input_ids"], **how, **options)
        not_stopped(found.complete)
        told.add(runs)
        sizes += [abs(found.found[head.site or model.info.site(None)][head.layer, head.head]) for head in leaving]
    words = "estimated" if order == "screen" else "exact"
    by = f"the least important removed first ({words} effects, mean of their size over texts)"
    return tuple(leaving[i] for i in sizes.argsort(kind="stable")), by


def _timed(
    model: Model,
    heads: Sequence[Head],
    asked: Sequence[tuple[dict[str, Any], Metric]],
    options: Mapping[str, Any],
    told: Told,
) -> tuple[float, float]:
    """Milliseconds for all texts, (without these heads, whole); NaN where the heads cannot be taken out."""
    try:
        smaller = take_out(model, heads) if heads else model
    except Unsupported:
        told.add(2 * (_ROUNDS + 1) * len(asked))
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
            told.add(len(runs))
    first, second = (1000 * statistics.median(times[1:]) for times in rounds)
    return first, second
