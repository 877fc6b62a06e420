"""When a head, or a set of heads, may be called important: one rule, and how often it errs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from attnviz.ablation.controls import MIDDLE, Table
from attnviz.errors import InputError

_LEAST_PROMPTS = 3


@dataclass(frozen=True)
class Verdict:
    """Whether a row of a table may be called important, and why or why not.

    held        of `prompts` different prompts, those on which every method agrees in sign and exceeds the controls
    n_controls  how many random heads or sets it was set against
    """

    name: str
    important: bool
    held: int
    prompts: int
    reason: str
    n_controls: int = 0

    @property
    def error_share(self) -> float:
        """How often a head like its controls is called important, at most: `error_share(n_controls)`."""
        return error_share(self.n_controls)

    @property
    def caution(self) -> str:
        """The same in words, for captions."""
        return (
            f"A head or set like its {self.n_controls} controls is called important with a chance of at most "
            f"{self.error_share:.0%}, and nothing corrects for looking at several heads"
        )


def error_share(n: int) -> float:
    """The largest chance that a head like its n controls passes `verdict`: 2 / (n + 1) up to 40 of them.

    Of n controls the k = floor(.025 (n - 1)) outermost on each side lie beyond the middle 95%, so k + 1 of the n + 1
    heads can be beyond the others on one prompt and side; on more than half of the prompts, 2k + 1 at most.
    """
    beyond = int((1 - MIDDLE) / 2 * max(0, n - 1))
    return min(1.0, 2 * (2 * beyond + 1) / (n + 1))


def verdict(rows: Table, controls: Table | Mapping[str, Table], *, share: float = 0.5) -> tuple[Verdict, ...]:
    """For every row: "important" only where, on more than `share` of the prompts and with one sign on all of these,

    - every method of the table gives an effect of the same sign, and
    - every such effect is farther from zero than the middle 95% of the controls' on the same prompt by the same method,
      and than the noise.

    Two methods and three different prompts at least; with fewer nothing is called important. A prompt that stands in
    the table more than once counts once, and where all its columns say the same.

    controls   `band` of the same prompts and methods; or one for each row, by name
    raises     InputError where prompts or methods differ, or for a share below a half

    False positives. A head like its n <= 40 controls (any of the n + 1 as likely to be the outermost) is called
    important with a chance of at most 2 / (n + 1), whatever prompts and methods have in common: only one of the n + 1
    can be outermost on a side on more than half of the prompts (`error_share`; `Verdict.caution` says it in words).
    The range of so few controls is no 95% interval. It is 22% for the 8 other heads of one of SmolLM2's
    layers, 10% for n = 20, 5% for n = 40; where prompts and methods differ it is far less (docs/ABLATION.md has rates).
    Nothing corrects for looking at many heads: of 270, some may pass.
    """
    if not 0.5 <= share < 1:
        raise InputError(f"Most prompts are a share from 0.5 up to, and not, 1; got {share!r}.")
    found = []
    for row, name in enumerate(rows.names):
        other = controls if isinstance(controls, Table) else controls.get(name)
        if other is None or (other.hows, other.prompts) != (rows.hows, rows.prompts):
            raise InputError(f"The controls of {name} must have its prompts and methods: make them with band().")
        low, high = other.middle()
        n, effects, least = len(other.names), rows.effects[row], np.fmax(rows.noise, 0.0)
        sides = np.where(effects > np.maximum(high, least), 1, np.where(effects < np.minimum(low, -least), -1, 0))
        agreed = np.where((sides == sides[0]).all(0), sides[0], 0)
        side = 1 if (agreed > 0).sum() > (agreed < 0).sum() else -1
        same = [np.array(rows.prompts) == prompt for prompt in dict.fromkeys(rows.prompts)]
        held, prompts = sum(bool((agreed[own] == side).all()) for own in same), len(same)
        enough = len(rows.hows) > 1 and prompts >= _LEAST_PROMPTS
        against = bool((agreed == -side).any())
        counts = ", ".join(
            f"{how} {sum(bool((sides[h, own] != 0).all()) for own in same)}" for h, how in enumerate(rows.hows)
        )
        reason = f"beyond the controls on {held} of {prompts} prompts by all methods (by each: {counts})"
        if not enough:
            reason = "two methods and three prompts, the same one once, are the least that makes anything important"
        elif against:
            reason += ", and in the other direction on another"
        found.append(Verdict(name, enough and not against and held > share * prompts, held, prompts, reason, n))
    return tuple(found)
