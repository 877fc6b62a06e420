"""Many texts at once: minimal pairs read from a file, and every head's mean effect over them.

A minimal pair is a clean text and a corrupted one that differs in what the answer depends on, token by token:

    {"clean": "When Mary and John ... John gave a drink to", "corrupted": "When Mary and John ... Mary gave a drink to",
     "answer": " Mary", "foil": " John"}
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from attnviz.ablation.asked import How, UnitName
from attnviz.ablation.screen import screen
from attnviz.ablation.sweep import Sweep, sweep
from attnviz.errors import InputError
from attnviz.metrics import LogitDiff, LogProb, Metric
from attnviz.models import Model
from attnviz.tap import Progress

_FIELDS = ("clean", "corrupted", "answer", "foil")
_LEVEL = 0.95


@dataclass(frozen=True)
class Case:
    """One minimal pair.

    corrupted   what heads are resampled from; "" where there is none
    foil        "": the outcome is the answer's log-probability, else the difference of two logits
    """

    clean: str
    corrupted: str
    answer: str
    foil: str = ""

    @property
    def metric(self) -> Metric:
        return LogitDiff(self.answer, self.foil) if self.foil else LogProb(self.answer)


@dataclass(frozen=True, eq=False)
class Averaged:
    """Mean effects over texts, each counting once, with 95% intervals (Student's t over texts).

    by_site    by site, [text, layer, head] float64, as `Sweep.found`
    baseline   [text], the clean outcomes
    site       the one that `mean`, `low` and `high` show

    An interval is about these texts and others drawn like them. It is NaN for a single text.
    """

    by_site: Mapping[str, npt.NDArray[np.float64]]
    baseline: npt.NDArray[np.float64]
    site: str
    title: str
    metric: str
    units: UnitName = field(default="head", kw_only=True)

    @classmethod
    def of(cls, sweeps: Sequence[Sweep], site: str | None = None) -> Averaged:
        """Of sweeps that differ in their text alone; `site` in place of the one that they show.

        raises   InputError where their outcomes have different units
        """
        first = sweeps[0]
        one_unit(one.unit for one in sweeps)
        by_site = {place: np.stack([one.found[place] for one in sweeps]) for place in first.found}
        several = len({one.metric for one in sweeps}) > 1
        metric = f"outcome of each text ({first.unit})" if several else first.metric
        texts = f"{len(sweeps)} texts" if len(sweeps) > 1 else "1 text"
        title = f"mean of {texts}, {first.title.replace(first.metric, metric)}"
        baseline = np.array([one.baseline for one in sweeps])
        return cls(by_site, baseline, site or first.site, title, metric, units=first.units)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        return self.by_site[self.site].mean(0)

    @property
    def low(self) -> npt.NDArray[np.float64]:
        return self.mean - half_width(self.by_site[self.site])

    @property
    def high(self) -> npt.NDArray[np.float64]:
        return self.mean + half_width(self.by_site[self.site])

    def frame(self) -> pd.DataFrame:
        """Columns site, layer, head (or group; none for layers), effect, low, high, n_texts, metric."""
        rows = []
        for site, effects in self.by_site.items():
            mean, half = effects.mean(0), half_width(effects)
            for layer, head in np.argwhere(np.isfinite(mean)).tolist():
                value, width = float(mean[layer, head]), float(half[layer, head])
                rows.append((site, layer, head, value, value - width, value + width, len(effects), self.metric))
        name = "head" if self.units == "layer" else self.units
        table = pd.DataFrame(rows, columns=["site", "layer", name, "effect", "low", "high", "n_texts", "metric"])
        return table.drop(columns="head") if self.units == "layer" else table


def over_texts(
    model: Model,
    cases: Iterable[Case],
    *,
    how: How = "resample",
    estimate: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Averaged:
    """The effect of every head over many minimal pairs: its mean, and how sure that is.

    how        "resample" from each case's corrupted text, "zero", or "mean" over `texts`
    estimate   `screen` each text in place of a sweep: first order only, and many times faster
    progress   called with (texts done, texts in all) after each; raise from it to stop
    options    those of `sweep`, the same for every text
    raises     InputError for no case, or for outcomes in different units (some cases with a foil and some without);
               what a case raises, with its number
    """
    given = list(cases)
    if not given:
        raise InputError("A mean over texts needs at least one case.")
    one_unit(case.metric.unit for case in given)
    found: list[Sweep] = []
    for number, case in enumerate(given, 1):
        if how == "resample" and not case.corrupted:
            raise InputError(f"Case {number} has no corrupted text to resample from: give one, or use how='zero'.")
        donor = case.corrupted if how == "resample" else None
        try:
            run = screen if estimate else sweep
            found.append(run(model, case.clean, case.metric, how=how, donor=donor, **options))
        except InputError as error:
            raise type(error)(f"Case {number}: {error}") from error
        if progress is not None:
            progress(number, len(given))
    return Averaged.of(found)


def one_unit(units: Iterable[str]) -> str:
    """The unit of all of these; InputError where there are several."""
    named = sorted(set(units))
    if len(named) > 1:
        raise InputError(
            f"Outcomes in {' and in '.join(unit or 'no unit' for unit in named)} cannot be averaged or set side by "
            "side: measure all texts by one metric, and give every case a foil or none."
        )
    return named[0]


def half_width(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[text, ...] -> [...]: half of the 95% interval of the mean over texts (Student's t); NaN for a single text."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(0, ddof=1) / np.sqrt(n) * float(stats.t.ppf((1 + _LEVEL) / 2, n - 1))


def read_cases(path: str | Path) -> list[Case]:
    """Minimal pairs of a .jsonl or .csv file, with the fields clean, corrupted, answer and, if wanted, foil.

    raises   InputError for a file that cannot be read, naming the line and what it lacks
    """
    return [_case(row, at) for at, row in rows_of(path, "Minimal pairs")]


def rows_of(path: str | Path, what: str) -> list[tuple[str, Any]]:
    """(file and line, for messages; what stands there) of each row of a .jsonl or .csv file; blank lines are none.

    what     what the rows are, for messages: "Minimal pairs"
    raises   InputError for another kind of file, one that cannot be read, or one without rows
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in (".jsonl", ".csv"):
        raise InputError(f"{what} come as .jsonl or .csv; got {file.name!r}.")
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file.name} cannot be read as a UTF-8 text: {error}.") from error
    rows = _csv(text, file.name) if kind == ".csv" else _jsonl(text, file.name)
    if not rows:
        raise InputError(f"{file.name} holds no {what[:1].lower()}{what[1:].removesuffix('s')}.")
    return [(f"{file.name}, line {line}", row) for line, row in rows]


def _csv(text: str, name: str) -> list[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not CSV ({error}).") from error


def _jsonl(text: str, name: str) -> list[tuple[int, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                rows.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{name}, line {number}: not JSON ({error}).") from error
    return rows


def _case(row: Any, at: str) -> Case:
    if not isinstance(row, dict):
        raise InputError(f"{at}: expected an object with {', '.join(_FIELDS)}; got {row!r:.60}.")
    values = {name: row.get(name) or "" for name in _FIELDS}
    for name, value in values.items():
        if not isinstance(value, str):
            raise InputError(f"{at}: {name} is a text; got {value!r:.60}.")
    if not values["clean"] or not values["answer"]:
        lacks = "clean text" if not values["clean"] else "answer"
        raise InputError(
            f"{at}: there is no {lacks}; each line needs clean and answer, with corrupted and foil if any."
        )
    return Case(**values)
