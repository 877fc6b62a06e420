"""Did steering work, and which heads are good to steer?

went(before, after, tokens)               how much attention really went to the tokens
moved(before, after)                      how far the next-token distribution moved, in nats
profile(model, examples).best(25)         heads that, steered one at a time, help the emphasised answer most

Steering all heads harms more than it steers, so PASTA (Zhang et al. 2023, arXiv 2311.02262) tries heads one by one on a
few examples. Here that is exact and cheap: a head steered alone is the clean run with one output replaced,

1. One clean run a text keeps queries, keys, values and masks of all layers.
2. From these comes every head's output under the steered mask: z' = steered pattern @ value.
3. Each (text, head) is a row of the growing pass of `attnviz.ablation`, from its layer on, with z' for the head.

What is not in it: how heads steered together act. Judge a choice on examples that it was not made from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from attnviz.ablation.asked import Asked
from attnviz.ablation.cases import Averaged
from attnviz.ablation.growing import Unit
from attnviz.ablation.passes import Passes
from attnviz.edits import Edit, Head, Steer
from attnviz.edits.attending import Change
from attnviz.edits.base import positions_of
from attnviz.emphasis import Example, read_examples, tokens_of
from attnviz.errors import InputError, Unsupported
from attnviz.metrics import KL, Outputs, Subject
from attnviz.models import Model
from attnviz.replacing import Outputs as Instead
from attnviz.tap import Call, Progress, changing
from attnviz.trace import Trace, checked_position

__all__ = ["Example", "Profile", "Went", "moved", "profile", "read_examples", "tokens_of", "went"]


@dataclass(frozen=True, eq=False)
class Went:
    """The share of attention that some tokens get in two runs: means over queries that see at least one of them.

    heads           those that were looked at
    before, after   [head], from 0 to 1
    """

    heads: tuple[Head, ...]
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]

    @property
    def means(self) -> tuple[float, float]:
        """Before and after, over the heads."""
        return float(self.before.mean()), float(self.after.mean())

    @property
    def title(self) -> str:
        before, after = self.means
        n = len(self.heads)
        heads = f"mean of {n} heads" if n > 1 else str(self.heads[0])
        return f"attention to the tokens: {before:.1%} before, {after:.1%} after ({heads})"

    def frame(self) -> pd.DataFrame:
        """Columns site, layer, head, before, after."""
        names = [(h.site, h.layer, h.head) for h in self.heads]
        return pd.DataFrame(names, columns=["site", "layer", "head"]).assign(before=self.before, after=self.after)


@dataclass(frozen=True, eq=False)
class Profile(Averaged):
    """What steering each head alone does to the wanted answer: means over examples, as `ablation.Averaged`.

    strength   of the steering
    n_runs     runs that it took, each through the layers from its head's on: one a unit steered and example, and two
               clean ones an example
    In `by_site`, NaN where a head was not tried.
    """

    strength: float
    n_runs: int

    def best(self, k: int) -> tuple[Head, ...]:
        """The k heads with the largest mean effects, the largest first; fewer where fewer have one above 0.

        The best of many heads on few examples owe much to chance: see `low`, and try them on other examples.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k counts heads from 1; got {k!r}.")
        mean = np.nan_to_num(self.mean, nan=-np.inf)
        order = np.argsort(-mean, axis=None, kind="stable")[:k]
        places = zip(*np.unravel_index(order, mean.shape), strict=True)
        return tuple(Head(int(layer), int(head)) for layer, head in places if mean[layer, head] > 0)


def went(
    before: Trace,
    after: Trace,
    tokens: int | Sequence[int],
    heads: Iterable[Head] | None = None,
    *,
    site: str | None = None,
) -> Went:
    """How much of the attention goes to some tokens in two runs on the same text, the second one steered.

    tokens   key positions
    heads    None: all heads of the site
    site     with heads=None; None: the first one
    Many heads leave most of their attention on the first token: a phrase that begins the text has that share too.
    raises   InputError where the runs read other tokens, or no query sees any of these
    """
    if before.input_ids != after.input_ids or before.source_tokens != after.source_tokens:
        raise InputError(
            "Attention before and after is compared on one text: trace the steered run on the same tokens."
        )
    chosen = _heads_of(before, site) if heads is None else tuple(heads)
    shares = [_shares(trace, chosen, tokens) for trace in (before, after)]
    return Went(chosen, np.array(shares[0]), np.array(shares[1]))


def moved(before: Trace, after: Trace, position: int = -1) -> float:
    """KL(before || after) of the distributions over the vocabulary at a position, in nats: `metrics.KL` of two traces.

    raises   InputError for traces without all logits, or of different lengths
    """
    clean, edited = before.logits, after.logits
    if clean is None or edited is None or clean.shape != edited.shape:
        raise InputError("How far outputs moved is told of two runs on one text, by a model with a vocabulary head.")
    plan = KL(position).plan(cast("Subject", before.info), before.input_ids, Outputs(logits=clean[None]))
    return float(plan.score(Outputs(logits=edited[None]))[0])


def profile(
    model: Model,
    examples: Iterable[Example],
    *,
    strength: float = 0.01,
    heads: Iterable[Head] | None = None,
    layers: int | None = None,
    edits: Sequence[Edit] = (),
    progress: Progress | None = None,
) -> Profile:
    """Which heads are good to steer: each one steered alone towards the emphasised tokens, on a few examples.

    heads      those to try; None: all
    layers     first steer whole layers, and try heads in the best so many of them alone; None: in all
    edits      changes that hold in every run, the clean one too; without such as mean tokens of one text
    progress   called with (layer calls done, in all), each counted by its rows; raise from it to stop
    returns    effects: outcome(steered) - outcome(clean), above 0 where steering the head helps the wanted answer
    raises     InputError for no example, or with the number of the one at fault; Unsupported for models that do not
               continue texts. For SmolLM2, 10 examples of 30 tokens take some 20 seconds on a CPU core
    """
    given = list(examples)
    if not given or not all(isinstance(example, Example) for example in given):
        raise InputError("A profile needs one or more steering.Example values, e.g. Example(text, phrase, ' yes').")
    if model.family != "decoder":
        raise Unsupported(f"A profile is made of texts that a model continues; {model.name} is an {model.family}.")
    n_layers = len(model.layout.layers["decoder"])
    if layers is not None and (isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= n_layers):
        raise InputError(f"layers counts those in which heads are tried, 1 to {n_layers}; got {layers!r}.")
    runs = [_passes(model, example, strength, edits, number) for number, example in enumerate(given, 1)]
    asked, wanted = runs[0].asked, None if heads is None else tuple(heads)
    units = asked.all_units(wanted)
    blocks = list(dict.fromkeys(unit.place for unit in units))
    whole = [Unit(place, tuple(u.heads[0] for u in units if u.place == place)) for place in blocks]
    work = _Work(progress, 0)
    if layers is not None and layers < len(blocks):
        most = max(runs[0].work([unit for unit in units if unit.place == place]) for place in blocks)
        work.total = len(runs) * (runs[0].work(whole) + layers * most)
        means = np.mean([work.effects(run, whole) for run in runs], axis=0)
        kept = {whole[i].place for i in np.argsort(-means, kind="stable")[:layers]}
        units = [unit for unit in units if unit.place in kept]
    work.total = work.done + len(runs) * runs[0].work(units)
    effects = np.full((len(runs), *asked.shape("decoder")), np.nan)
    for number, run in enumerate(runs):
        rows, columns = zip(*((unit.place.layer, unit.heads[0]) for unit in units), strict=True)
        effects[number, rows, columns] = work.effects(run, units)
    titles = {run.asked.metric.title for run in runs}
    metric = titles.pop() if len(titles) == 1 else f"outcome of each example ({runs[0].asked.metric.unit})"
    title = f"mean of {len(runs)} examples, change in {metric}, each head steered alone (strength {strength:g})"
    baseline = np.array([run.baseline for run in runs])
    return Profile({"decoder": effects}, baseline, "decoder", title, metric, strength, work.n_runs + 2 * len(runs))


@dataclass
class _Work:
    """Layer calls and runs so far, told as they are made."""

    progress: Progress | None
    total: int
    done: int = 0
    n_runs: int = 0

    def effects(self, run: Passes, units: Sequence[Unit]) -> list[float]:
        """The effect of each unit, in their order."""
        found: dict[Unit, float] = {}
        for more, scored in run.run(units):
            found.update(scored)
            self.done += more
            if self.progress is not None and more:
                self.progress(min(self.done, self.total), self.total)
        self.n_runs += len(units)
        return [found[unit] - run.baseline for unit in units]


def _passes(model: Model, example: Example, strength: float, edits: Sequence[Edit], number: int) -> Passes:
    try:
        asked = Asked.of(model, example.text, example.metric, edits=edits)
        read = model.encode(example.text)
        lengths = {"decoder": (len(read.ids), len(read.ids))}
        steer = Steer(example.tokens(read), strength=strength).bound(lengths, prompt=True)
    except InputError as error:
        raise type(error)(f"Example {number}: {error}") from error
    return Passes.of(replace(asked, instead=_steered(asked, steer)), None, None)


def _steered(asked: Asked, steer: Edit) -> Instead:
    """What each head reads where its layer alone is steered: by place, [query, head, d_head]."""
    model = asked.model
    call = Call(model.layout.places, asked.edits, bound=asked.edits, keep_z=True)
    model.forward(asked.source, asked.edits, call)
    found = {}
    for _, place, recorded in call.recorded:
        assert place is not None
        z = call.z[place][0]
        sizes = (*recorded.query.shape[1:3], recorded.key.shape[2])
        change = Change.of([steer], *place, sizes)
        if change is not None:
            steered, _ = changing(recorded, change)
            value = recorded.value.float().repeat_interleave(sizes[0] // recorded.value.shape[1], 1)
            z = (steered.pattern() @ value).transpose(1, 2).to(z.dtype)
            for edit in asked.edits:
                z = edit.output(z, *place) if edit.touches(*place) else z
            z = z[0]
        found[place] = z
    return found


def _shares(trace: Trace, heads: Sequence[Head], tokens: int | Sequence[int]) -> list[float]:
    """By head, the mean over the queries that see any of the tokens."""
    given, shares = positions_of(tokens, "tokens") or (), {}
    sites = {head: trace.info.check_head(head.layer, head.head, head.site) for head in heads}
    for layer, site in dict.fromkeys((head.layer, sites[head]) for head in heads):
        length = len(trace.axes(site)[1])
        keys = sorted({checked_position(token, length, "token") for token in given})
        sees = trace.layer(layer, site).visible()[0][..., keys].any(-1).cpu()
        if not bool(sees.any(-1).all()):
            raise InputError("No query of this run sees these tokens, so no attention can go to them.")
        share = trace.pattern(layer, site=site)[..., keys].sum(-1).double()  # [head, query]
        means = (share * sees).sum(-1) / sees.sum(-1)
        shares.update({(layer, head, site): mean for head, mean in enumerate(means.tolist())})
    return [shares[head.layer, head.head, sites[head]] for head in heads]


def _heads_of(trace: Trace, site: str | None) -> tuple[Head, ...]:
    name = trace.info.site(site)
    shown = name if len(trace.info.sites) > 1 else None
    return tuple(Head(n, h, shown) for n in trace.layers(name) for h in range(trace.layer(n, name).n_heads))
