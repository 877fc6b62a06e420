"""What an outcome's numbers have to be: its mean, its interval and its control's ends, worked out from its
values and its controls.

Anybody can write a record, and a verdict is read off these numbers. So they are worked out here when something is
measured, and here again whenever a record is made: one that says otherwise is refused.

    ends        mean   of the values that there are
                low, high   Student's t over them, cut where a value of this kind must end; None for fewer than three
                control_low, control_high   the middle 95% of the controls; of agreement, what 95% of them reach
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from attnviz.ablation.cases import half_width

if TYPE_CHECKING:  # these records ask here whether they may be made
    from attnviz.findings.records import Measurement, Outcome

Doubles = npt.NDArray[np.float64]
MIDDLE = 0.95  # of the controls, which a finding has to lie beyond
LEAST_VALUES = 3  # for an interval: a percentile bootstrap of so few, or of a few more, is far too narrow
MOST_HELD = 5_000  # controls of an outcome
_ROUNDING = 1e-6  # of the largest value: another order of adding up


@dataclass(frozen=True)
class Rule:
    """What holds for the numbers of a kind.

    least, most   between which a value lies
    moved         controls are the largest of all heads with the marks moved
    turns         with the scores: there are the smallest, too
    """

    least: float = -math.inf
    most: float = math.inf
    moved: bool = False
    turns: bool = False


_SHARE, _CHANGE = Rule(0.0, 1.0), Rule()
_AGREEMENT = Rule(0.0, 1.0, moved=True)
_TURNING = {
    "": Rule(0.0, 1.0, moved=True, turns=True),
    "auroc": Rule(0.0, 1.0, moved=True, turns=True),
    "spearman": Rule(-1.0, 1.0, moved=True, turns=True),
}
_ANY = (_CHANGE, _SHARE, _AGREEMENT, *_TURNING.values())


class Ends(NamedTuple):
    """As an Outcome has them."""

    mean: float
    low: float | None
    high: float | None
    control_low: float | None
    control_high: float | None


def rule_of(asked: Measurement) -> Rule:
    """What holds for the numbers of this measurement."""
    if asked.kind == "agreement":
        return _TURNING.get(asked.what, _AGREEMENT)
    return _CHANGE if asked.kind == "ablation" else _SHARE


def ends(values: Sequence[float | None], control: Doubles, below: Doubles, rule: Rule) -> Ends:
    """What the numbers are.

    values    one a case; at least one is a number
    control   [control], at most MOST_HELD
    below     [control], of moved marks the smallest of all heads; empty: their low end is the least that there is
    """
    known = np.array([value for value in values if value is not None])
    with np.errstate(all="ignore"):  # what is too large to be added up is no number, and no record holds it
        mean, low, high = float(known.mean()), None, None
        half = float(half_width(known[:, None])[0]) if len(known) >= LEAST_VALUES else 0.0
    if len(known) >= LEAST_VALUES:
        # A share that rounding put beyond 1 has no end to be cut at.
        low = max(rule.least, mean - half) if known.min() >= rule.least else mean - half
        high = min(rule.most, mean + half) if known.max() <= rule.most else mean + half
    return Ends(mean, low, high, *_control_ends(control, below, rule))


def thinned(control: Doubles) -> Doubles:
    """All controls in their order, or as many quantiles of them as a record holds."""
    if len(control) <= MOST_HELD:
        return control
    return np.quantile(control, np.linspace(0, 1, MOST_HELD), method="nearest")


def middle(control: Doubles) -> tuple[float | None, float | None]:
    """Between them lies the middle 95% of the controls: all of fewer than 40 (as `ablation.Table.middle`)."""
    if not len(control):
        return None, None
    tail = (1 - MIDDLE) / 2
    low = np.quantile(control, tail, method="lower")
    return float(low), float(np.quantile(control, 1 - tail, method="higher"))


def contradiction(outcome: Outcome, asked: Measurement | None = None) -> str:
    """What of an outcome's numbers is not what its values and controls come to, in a sentence; "" where all are.

    asked   what was measured; None: of whatever kind it may be
    """
    if all(value is None for value in outcome.values):
        return "an outcome has a value for one case at least"
    if len(outcome.control_below) not in (0, len(outcome.control)):
        return "control_below has one number for each of control, or none"
    control, below = np.array(outcome.control), np.array(outcome.control_below)
    said, close = _said(outcome), _ROUNDING * max(abs(value) for value in outcome.values if value is not None)
    wrong = ""
    for rule in _ANY if asked is None else (rule_of(asked),):
        if len(below) and not rule.turns:
            wrong = wrong or "control_below is of agreement by a measure that turns with the scores"
            continue
        wrong = _difference(said, ends(outcome.values, control, below, rule), close)
        if not wrong:
            return ""
    return wrong


def _said(outcome: Outcome) -> Ends:
    return Ends(outcome.mean, outcome.low, outcome.high, outcome.control_low, outcome.control_high)


def _difference(said: Ends, found: Ends, close: float) -> str:
    for name, one, other in zip(Ends._fields, said, found, strict=True):
        # The controls' ends are some of them, as they stand there; all others are sums.
        within = 0.0 if name.startswith("control") else close
        if one is other is None:
            continue
        if one is None or other is None or not abs(one - other) <= within:
            of = "its control" if name.startswith("control") else "its values"
            return f"{name} is {_shown(one)}, and worked out from {of} it is {_shown(other)}"
    return ""


def _control_ends(control: Doubles, below: Doubles, rule: Rule) -> tuple[float | None, float | None]:
    if not rule.moved or not len(control):
        return middle(control)
    low = float(np.quantile(below, 1 - MIDDLE, method="lower")) if len(below) else rule.least
    return low, float(np.quantile(control, MIDDLE, method="higher"))


def _shown(number: float | None) -> str:
    return "none" if number is None else f"{number:.6g}"
