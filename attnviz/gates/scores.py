"""What gates do, before and after, on examples and on texts that have nothing to do with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from attnviz.gates.examples import Asked, Scored

Values = npt.NDArray[np.float64]
_MEASURED = ("outcome", "loss", "right")
NUMBERS = tuple(f"{name}_{when}" for name in _MEASURED for when in ("before", "after"))
Foils = Literal["all", "some", "none"]
_IN_WORDS = {
    "all": "log p(answer) - log p(foil)",
    "some": "log p(answer), less log p(foil) where there is one",
    "none": "log p(answer)",
}


class Mean(NamedTuple):
    """A mean over examples with its 95% interval (Student's t); low and high are NaN for a single one."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Mean:
        mean, n = float(values.mean()), len(values)
        if n < 2:
            return cls(mean, math.nan, math.nan)
        half = float(values.std(ddof=1)) / math.sqrt(n) * float(stats.t.ppf(0.975, n - 1))
        return cls(mean, mean - half, mean + half)


@dataclass(frozen=True, eq=False)
class Tested:
    """The same examples without gates (before) and with them (after); all [example].

    outcome   log p(answer) - log p(foil) in nats, for single tokens the difference of their logits; log p(answer) where
              there is no foil
    loss      what is learned from, in nats: log(1 + exp(-outcome)) with a foil, -outcome without
    right     the outcome is above 0; without a foil, every token of the answer is the likeliest
    foils     which of the examples have one
    """

    outcome_before: Values
    outcome_after: Values
    loss_before: Values
    loss_after: Values
    right_before: npt.NDArray[np.bool_]
    right_after: npt.NDArray[np.bool_]
    foils: Foils

    @classmethod
    def of(cls, before: Scored, after: Scored, items: Sequence[Asked]) -> Tested:
        arrays = {}
        for when, found in (("before", before), ("after", after)):
            for name in _MEASURED:
                arrays[f"{name}_{when}"] = getattr(found, name).double().numpy()
        with_foil = [item.foil is not None for item in items]
        return cls.read(arrays, "all" if all(with_foil) else "some" if any(with_foil) else "none")

    @classmethod
    def read(cls, arrays: Mapping[str, Values], foils: Any) -> Tested:
        """From arrays by the names in NUMBERS, as they are saved; KeyError or ValueError where they are none."""
        kept = {name: np.asarray(arrays[name], float) for name in NUMBERS}
        n = kept["loss_after"].size
        if {x.shape for x in kept.values()} != {(n,)} or not n or foils not in get_args(Foils):
            raise ValueError("what it says of held-out examples does not fit together")
        outcomes, losses, rights = ((kept[f"{name}_before"], kept[f"{name}_after"]) for name in _MEASURED)
        return cls(*outcomes, *losses, rights[0] > 0, rights[1] > 0, foils)

    @property
    def before(self) -> Mean:
        return Mean.of(self.outcome_before)

    @property
    def after(self) -> Mean:
        return Mean.of(self.outcome_after)

    @property
    def change(self) -> Mean:
        """Of the outcome, each example against itself."""
        return Mean.of(self.outcome_after - self.outcome_before)

    @property
    def right(self) -> tuple[float, float]:
        """The share of examples that come out right, (before, after)."""
        return float(self.right_before.mean()), float(self.right_after.mean())

    @property
    def title(self) -> str:
        n, (before, after) = len(self.outcome_before), self.right
        outcome = f"{self.before.mean:.2f} before, {self.after.mean:.2f} after (nats, mean)"
        right = f"right {before:.0%} before, {after:.0%} after"
        return f"{n} example{'s' * (n > 1)}, {_IN_WORDS[self.foils]}: {outcome}; {right}"


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """How far gates move what a model says of texts that they were not learned for.

    kl   [text], KL(without gates || with them) in nats, the mean over positions: 0 where nothing moved
    """

    texts: tuple[str, ...]
    kl: Values

    @property
    def mean(self) -> Mean:
        return Mean.of(self.kl)

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"text": self.texts, "kl_nats": self.kl})
