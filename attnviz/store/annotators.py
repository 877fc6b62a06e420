"""How far people agree on what findings are called: Krippendorff's alpha ("Content Analysis", 2004, chapter 11).

People give sets of labels, so each label is a question of its own, yes or no, over the findings that two people or more
labelled. alpha = 1 - observed / expected disagreement: 1 where all agree, 0 as by chance, below 0 for less than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import krippendorff
import numpy as np

FEW = 10  # findings; alphas of fewer jump about

Opinions = Mapping[str, Mapping[str, frozenset[str]]]  # finding -> annotator -> labels


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Agreement on one label.

    alpha    None where nobody differs on any finding, and nothing could be told from chance
    given    how often it was given, of `asked` times that somebody labelled
    """

    label: str
    alpha: float | None
    given: int
    asked: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over all labels that somebody gave.

    labels               most given first
    mean                 of the alphas that there are; None where there is none
    n_findings, n_people that at least two people labelled, and how many people labelled those
    words                the whole in a sentence or two
    """

    labels: tuple[LabelAgreement, ...]
    mean: float | None
    n_findings: int
    n_people: int
    words: str


def agreement_of(opinions: Opinions) -> Agreement:
    """Agreement over the findings that at least two people labelled; the others are left out."""
    units = [people for people in opinions.values() if len(people) >= 2]
    n_people = len({one for people in units for one in people})
    if not units:
        return Agreement((), None, 0, 0, "Nobody can agree yet: no finding was labelled by two people.")
    names = {label for people in units for given in people.values() for label in given}
    each = sorted((_of_label(label, units) for label in names), key=lambda one: (-one.given, one.label))
    alphas = [one.alpha for one in each if one.alpha is not None]
    mean = float(np.mean(alphas)) if alphas else None
    return Agreement(tuple(each), mean, len(units), n_people, _words(each, alphas, mean, len(units), n_people))


def _of_label(label: str, units: list[Mapping[str, frozenset[str]]]) -> LabelAgreement:
    given = np.array([sum(label in labels for labels in people.values()) for people in units])
    asked = np.array([len(people) for people in units])
    alpha = None
    if 0 < given.sum() < asked.sum():
        counts = np.stack([asked - given, given], axis=1)  # (finding, no or yes)
        alpha = float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    return LabelAgreement(label, alpha, int(given.sum()), int(asked.sum()))


def _words(each: list[LabelAgreement], alphas: list[float], mean: float | None, n_findings: int, n_people: int) -> str:
    over = f"{n_people} people, {n_findings} finding{'s' * (n_findings > 1)} that two or more of them labelled"
    if not each:
        return f"{over}: all say that no label fits, so there is nothing to differ on."
    if mean is None:
        return f"{over}: everybody gave the same labels everywhere, so agreement cannot be told from chance."
    same = len(each) - len(alphas)
    told = f"{over}: alpha {mean:.2f} on average over {len(alphas)} label{'s' * (len(alphas) > 1)}."
    told += f" {same} more cannot be told from chance: everybody gave {'it' if same == 1 else 'them'}." if same else ""
    return told + (" These are few findings: the figure may jump about." if n_findings < FEW else "")
