"""When a head, or a set of heads, may be called important: one rule, and how often it errs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from attnviz.ablation.controls import Table
from attnviz.errors import InputError

_LEAST_PROMPTS = 3


@dataclass(frozen=True)
class Verdict:
    """Whether a row of a table may be called important, and why or why not.

    held   of `prompts` prompts, those on which every method agrees in sign and exceeds the controls
    """

    name: str
    important: bool
    held: int
    prompts: int
    reason: str


def verdict(rows: Table, controls: Table | Mapping[str, Table], *, share: float = 0.5) -> tuple[Verdict, ...]:
    """For every row: "important" only where, on more than `share` of the prompts and with one sign on all of these,

    - every method of the table gives an effect of the same sign, and
    - every such effect is farther from zero than the middle 95% of the controls' on the same prompt by the same method,
      and than the noise.

    Two methods and three prompts at least; with fewer nothing is called important.

    controls   `band` of the same prompts and methods; or one for each row, by name
    raises     InputError where prompts or methods differ, or for a share below a half

    False positives. A head like its n <= 40 controls (any of the n + 1 as likely to be the outermost) is called
    important with a chance of at most 2 / (n + 1), whatever prompts and methods have in common: only one of the n + 1
    can be outermost on a side on more than half of the prompts. That is 22% for the 8 other heads of one of SmolLM2's
    layers, 10% for n = 20, 5% for n = 40; where prompts and methods differ it is far less (docs/ABLATION.md has rates).
    Nothing corrects for looking at many heads: of 270, some may pass.
    """
    if not 0.5 <= share < 1:
        raise InputError(f"Most prompts are a share from 0.5 up to, and not, 1; got {share!r}.")
    found = []
    for n, name in enumerate(rows.names):
        other = controls if isinstance(controls, Table) else controls.get(name)
        if other is None or (other.hows, other.prompts) != (rows.hows, rows.prompts):
            raise InputError(f"The controls of {name} must have its prompts and methods: make them with band().")
        low, high = other.middle()
        effects, least = rows.effects[n], np.fmax(rows.noise, 0.0)
        sides = np.where(effects > np.maximum(high, least), 1, np.where(effects < np.minimum(low, -least), -1, 0))
        agreed = np.where((sides == sides[0]).all(0), sides[0], 0)
        side = 1 if (agreed > 0).sum() > (agreed < 0).sum() else -1
        held, prompts = int((agreed == side).sum()), len(rows.prompts)
        enough = len(rows.hows) > 1 and prompts >= _LEAST_PROMPTS
        against = bool((agreed == -side).any())
        counts = ", ".join(f"{how} {int((sides[h] != 0).sum())}" for h, how in enumerate(rows.hows))
        reason = f"beyond the controls on {held} of {prompts} prompts by all methods (by each: {counts})"
        if not enough:
            reason = "two methods and three prompts are the least that anything can be called important by"
        elif against:
            reason += ", and in the other direction on another"
        found.append(Verdict(name, enough and not against and held > share * prompts, held, prompts, reason))
    return tuple(found)
