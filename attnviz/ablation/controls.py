"""What may be called important: the same heads, other methods, other prompts, other heads.

    rows     = table(model, cases, [Head(23, 3), Head(1, 5)])        head x method x prompt
    controls = band(model, cases, [Head(23, 3)], n=20)               random heads in their place
    verdict(rows, controls)                                          in words, and why (attnviz.ablation.verdicts)
    donors(model, case, heads, ["...", "..."])                       one donor against another
    interaction(model, cases, heads)                                 the set against the sum of its members

Zeroing leaves what the model met in training and invents effects (Zhang & Nanda 2024, arXiv 2309.16042); a donor
carries over what it says itself; a mean depends on its texts. What is left where all of them agree, on several prompts,
and beyond what any head would do, is worth a name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from attnviz.ablation.asked import IN_WORDS, How
from attnviz.ablation.cases import Case, one_unit
from attnviz.ablation.held import Removal
from attnviz.ablation.swapping import propose_donor
from attnviz.ablation.sweep import sweep
from attnviz.ablation.telling import Told, not_stopped
from attnviz.checks import seeded
from attnviz.edits import Edit, Head, ResampleHeads, ZeroHeads
from attnviz.errors import HeadError, InputError
from attnviz.metrics import Metric
from attnviz.models import Model
from attnviz.tap import Progress

Heads = Head | Sequence[Head]
Doubles = npt.NDArray[np.float64]
MIDDLE = 0.95  # of the controls, which an effect has to lie beyond
HOWS: tuple[How, ...] = ("zero", "mean", "resample")


@dataclass(frozen=True, eq=False)
class Table:
    """Effects, metric(ablated) - metric(clean), of heads or sets of heads, each removed by itself.

    heads      what was removed, a tuple of heads a row
    hows       the methods, and `prompts` the texts (of `donors`: the donors)
    effects    [row, how, prompt] float64
    baseline   [prompt], the clean outcomes
    noise      the largest effect that an unedited copy had in these runs; NaN for sets
    metric     in words, with its unit
    """

    heads: tuple[tuple[Head, ...], ...]
    hows: tuple[How, ...]
    prompts: tuple[str, ...]
    effects: Doubles
    baseline: Doubles
    noise: float
    metric: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(" + ".join(map(str, heads)) for heads in self.heads)

    def middle(self, share: float = MIDDLE) -> tuple[Doubles, Doubles]:
        """(low, high), [how, prompt]: between them lies the middle `share` of the rows; for fewer than 2 / (1 - share)
        rows that is all of them."""
        tail = (1 - share) / 2
        low = np.quantile(self.effects, tail, axis=0, method="lower")
        return low, np.quantile(self.effects, 1 - tail, axis=0, method="higher")

    def frame(self) -> pd.DataFrame:
        """Columns heads, how, prompt, baseline, effect, metric."""
        rows = [
            (name, how, prompt, float(self.baseline[p]), float(self.effects[n, h, p]), self.metric)
            for n, name in enumerate(self.names)
            for h, how in enumerate(self.hows)
            for p, prompt in enumerate(self.prompts)
        ]
        return pd.DataFrame(rows, columns=["heads", "how", "prompt", "baseline", "effect", "metric"])

    @property
    def title(self) -> str:
        return f"change in {self.metric}, heads {' or '.join(IN_WORDS[how] for how in self.hows)}"


def table(
    model: Model,
    cases: Iterable[Case | str],
    heads: Iterable[Heads],
    *,
    metric: Metric | None = None,
    hows: Sequence[How] = HOWS,
    texts: Sequence[Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Table:
    """The effect of each head, or set of heads, by every method on every prompt.

    cases      minimal pairs, or texts: then a donor is proposed for each (`propose_donor`), and `metric` is needed
    heads      each a Head, or several that are removed together
    metric     None: each case's own
    texts      reference texts of the mean; None: the clean and the donor texts of all cases
    progress   called with (effects known, in all), in the middle of a sweep too; raise from it to stop
    options    those of `sweep` and `Model.measure`, the same for every text: target
    raises     InputError for no case or no head, a text that has no donor, or outcomes in different units (some cases
               with a foil and some without); as `sweep`
    """
    asked, rows = [_case(case, model, hows) for case in cases], [_set(one) for one in heads]
    if not asked or not rows or not hows:
        raise InputError("A table of effects needs at least one case, one head and one method.")
    for how in hows:
        if how not in IN_WORDS:
            raise InputError(f"hows are {', '.join(map(repr, IN_WORDS))}; got {how!r}.")
    known = list(dict.fromkeys(text for case in asked for text in (case.clean, case.corrupted) if text))
    references = known if texts is None else texts
    effects, baseline, noise = np.full((len(rows), len(hows), len(asked)), np.nan), [], math.nan
    if metric is None and not all(case.answer for case in asked):
        raise InputError("Texts bring no outcome of their own: give a metric, or Cases with answers.")
    outcomes = [metric or case.metric for case in asked]
    unit = one_unit(outcome.unit for outcome in outcomes)
    told = Told(progress, effects.size)
    mean = Removal.of(model, references if "mean" in hows else None)
    for p, (case, outcome) in enumerate(zip(asked, outcomes, strict=True)):
        baseline.append(model.measure(outcome, case.clean, **options))
        for h, how in enumerate(hows):
            extra: dict[str, Any] = {"donor": case.corrupted} if how == "resample" else {}
            extra |= {"texts": references if options.get("edits") else mean} if how == "mean" else {}
            # What is generated is measured a row at a time: no sweep takes it.
            single = [row[0] for row in rows if len(row) == 1] if outcome.batched else []
            if single:
                within = told.within(len(single))
                swept = sweep(model, case.clean, outcome, how=how, heads=single, progress=within, **extra, **options)
                not_stopped(swept.complete)
                told.add(len(single))
                noise = float(np.fmax(noise, swept.noise))
            for n, row in enumerate(rows):
                if single and len(row) == 1:
                    effects[n, h, p] = swept.found[model.info.site(row[0].site)][row[0].layer, row[0].head]
                else:
                    edits = _edits(row, how, case.corrupted, mean)
                    effects[n, h, p] = model.measure(outcome, case.clean, edits=edits, **options) - baseline[-1]
                    told.add()
    titles = {outcome.title for outcome in outcomes}
    title = titles.pop() if len(titles) == 1 else f"outcome of each prompt ({unit})"
    prompts = tuple(case.clean for case in asked)
    return Table(tuple(rows), tuple(hows), prompts, effects, np.array(baseline), noise, title)


def random_sets(
    model: Model, heads: Heads, n: int = 20, *, seed: int = 0, anywhere: bool = False
) -> list[tuple[Head, ...]]:
    """n different random sets in the place of `heads`, none of which is in them: as many heads, of the same layers.

    anywhere   from all layers of the same sites, so that there is something to draw where a layer has few heads
    Fewer than n where there are no more; InputError where there is none at all.
    """
    given = _set(heads)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"At least 1 random set is drawn; got n={n!r}.")
    layout, chance = model.layout, np.random.default_rng(seeded(seed))
    pools: dict[tuple[str, int | None], list[Head]] = {}
    for site in layout.sites:
        for layer, n_heads in zip(layout.layers[site], layout.layer_heads[site], strict=True):
            named = {head.head for head in given if head.layer == layer and model.info.site(head.site) == site}
            mark = given[0].site and site
            free = [Head(layer, head, mark) for head in range(n_heads) if head not in named]
            pools.setdefault((site, None if anywhere else layer), []).extend(free)
    wanted: dict[tuple[str, int | None], int] = {}
    for head in given:
        key = (model.info.check_head(head.layer, head.head, head.site), None if anywhere else head.layer)
        wanted[key] = wanted.get(key, 0) + 1
    possible = math.prod(math.comb(len(pools[key]), count) for key, count in wanted.items())
    if not possible:
        raise InputError("These heads leave no others in their layers to compare with: use anywhere=True.")
    found: dict[frozenset[Head], tuple[Head, ...]] = {}
    while len(found) < min(n, possible):
        drawn = [pools[key][i] for key, count in wanted.items() for i in chance.permutation(len(pools[key]))[:count]]
        found.setdefault(
            frozenset(drawn), tuple(sorted(drawn, key=lambda head: (head.site or "", head.layer, head.head)))
        )
    return list(found.values())


def band(
    model: Model,
    cases: Iterable[Case | str],
    heads: Heads,
    *,
    n: int = 20,
    seed: int = 0,
    anywhere: bool = False,
    **options: Any,
) -> Table:
    """The effects of random sets in the place of `heads` (`random_sets`); `middle()` of it is the band to draw.

    options   those of `table`
    """
    return table(model, cases, random_sets(model, heads, n, seed=seed, anywhere=anywhere), **options)


def donors(model: Model, case: Case, heads: Iterable[Heads], texts: Sequence[str], **options: Any) -> Table:
    """One prompt, several donors: the effects of resampling from each, in the place of prompts.

    texts   the donors, each of as many tokens as the case's clean text
    """
    if isinstance(texts, str) or not texts:
        raise InputError(f"Several donors are compared, e.g. ['A text.', 'Another.']; got {texts!r:.80}.")
    made = [Case(case.clean, donor, case.answer, case.foil) for donor in texts]
    found = table(model, made, heads, hows=("resample",), **options)
    return Table(found.heads, found.hows, tuple(texts), found.effects, found.baseline, found.noise, found.metric)


@dataclass(frozen=True, eq=False)
class Interaction:
    """A set's effect against the sum of its members', [how, prompt] each.

    Beyond the sum, and of its sign: the members may stand in for one another (self-repair; McGrath et al. 2023, arXiv
    2307.15771), so that single effects say too little. Short of it: they may count some of the same thing twice, as
    heads do of which one reads the other. But an outcome that bends (KL, a loss, a probability) does not add up even
    over heads that never meet: read that off a difference of logits, or not at all.
    """

    together: Doubles
    alone: Doubles
    heads: tuple[Head, ...]
    hows: tuple[How, ...]
    metric: str

    @property
    def difference(self) -> Doubles:
        return self.together - self.alone

    @property
    def title(self) -> str:
        means = ", ".join(
            f"{how}: {t:+.2f} together, {a:+.2f} as the sum of each alone"
            for how, t, a in zip(self.hows, self.together.mean(1), self.alone.mean(1), strict=True)
        )
        return f"change in {self.metric} for {len(self.heads)} heads, {means}"


def interaction(model: Model, cases: Iterable[Case | str], heads: Sequence[Head], **options: Any) -> Interaction:
    """The effect of removing a set of heads, and the sum of removing each by itself; options as of `table`."""
    given = _set(heads)
    if len(given) < 2:
        raise HeadError(f"An interaction is one of two heads or more; got {len(given)}.")
    found = table(model, cases, [given, *given], **options)
    return Interaction(found.effects[0], found.effects[1:].sum(0), given, found.hows, found.metric)


def _case(given: Case | str, model: Model, hows: Sequence[How]) -> Case:
    """A case, with a donor where one is needed."""
    case = given if isinstance(given, Case) else Case(given, "", "")
    if "resample" not in hows or case.corrupted:
        return case
    donor = propose_donor(case.clean, model)
    if donor is None:
        raise InputError(f"No donor could be proposed for {case.clean!r:.80}: give Case(clean, corrupted, answer).")
    return Case(case.clean, donor.text, case.answer, case.foil)


def _set(given: Heads) -> tuple[Head, ...]:
    return tuple(dict.fromkeys(ZeroHeads([given] if isinstance(given, Head) else given).heads))


def _edits(heads: tuple[Head, ...], how: How, donor: str, mean: Removal) -> list[Edit]:
    if how == "mean":
        return mean.edits(heads)
    return [ZeroHeads(heads) if how == "zero" else ResampleHeads(heads, donor)]
