"""Which heads agree with a person over several texts, and which of them may be named.

1. Every candidate is measured on every text; figures are means over texts, each text counting once.
2. A candidate's p comes from the band of its kind: heads are held against the best of all heads by chance, layers
   against the best layer, methods against the best method, and each baseline against itself (`attnviz.human.band`).
3. A head is named only if it beats that band on some of the texts, beats the band of those that did so on the *other*
   texts, and agrees there better than every baseline. The best head of one text is a winner of noise.

Agreement is plausibility: whether the model relies on those words is for `attnviz.human.faithful` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.flow.methods import METHODS
from attnviz.human.agreement import METRICS, Doubles, Metric, agreements
from attnviz.human.band import Band, band
from attnviz.human.candidates import KINDS, Candidate, Candidates, Report, candidates, described
from attnviz.human.marked import Marked
from attnviz.human.words import SHOWN
from attnviz.models import Model
from attnviz.view import Sinks

LEAST_TEXTS = 3  # of an interval; that of two is wider than any metric


@dataclass(frozen=True, eq=False)
class Ranking:
    """Candidates by agreement, the best first by `metric`.

    frame     kind, name, layer, head; for each metric its mean over the texts where it is defined, and `_low` and
              `_high` around it, its 95% interval over texts (Student's t, cut where the metric ends; NaN with fewer
              than three texts); n_texts where `metric` is defined; p over all texts; for heads p_found on the texts
              that are not held out and p_held on those that are (NaN where not found)
    bands     "head", "layer", "method" -> the band over all texts, by `metric`; baselines have none, each is alone
    named     heads that passed; `why` says what they passed, or why none did
    texts     one a text, as measured
    held      which texts were held out
    refused   method -> why it is not here, in the first text that refused it
    """

    metric: Metric
    frame: pd.DataFrame
    bands: Mapping[str, Band]
    named: tuple[Head, ...]
    why: str
    texts: tuple[Candidates, ...]
    held: tuple[int, ...]
    refused: Mapping[str, str]


def rank(
    model: Model,
    marked: Sequence[Marked],
    *,
    site: str | None = None,
    sinks: Sinks = SHOWN,
    methods: Sequence[str] = tuple(METHODS),
    language: str = "en",
    metric: Metric = "auroc",
    held: Sequence[int] | None = None,
    level: float = 0.05,
    n: int = 2000,
    seed: int = 0,
    report: Report | None = None,
) -> Ranking:
    """Run a model on marked texts and rank everything by agreement with the marks.

    site, sinks, methods, language   as `candidates` has them
    metric    what is ranked, held against chance, and named by
    held      numbers of the texts to hold out; None: every second one, from the second on
    level     of p, for a head to be found and to be named
    n, seed   of the band
    report    called with (title, done, in all) before each part; raise from it to stop
    raises    as `ranking` and `candidates`
    """
    texts = []
    for number, one in enumerate(marked):

        def within(title: str, done: float, total: int, number: int = number) -> None:
            if report is not None:
                report(f"Text {number + 1} of {len(marked)}: {title}", number + done / total, len(marked))

        read = candidates(
            model, one, site=site, sinks=sinks, methods=methods, language=language, report=within if report else None
        )
        _check_marks(read, number)
        texts.append(read)
    return ranking(texts, metric=metric, held=held, level=level, n=n, seed=seed)


def ranking(
    texts: Sequence[Candidates],
    *,
    metric: Metric = "auroc",
    held: Sequence[int] | None = None,
    level: float = 0.05,
    n: int = 2000,
    seed: int = 0,
) -> Ranking:
    """Rank what was measured on several texts (`candidates`); arguments as `rank`.

    raises   InputError without a text, for a text without a mark or with nothing else, for texts of different heads,
             for texts to hold out that there are not, or a level outside (0, 1)
    """
    if not texts:
        raise InputError("There is no text to rank by: give at least one with marks.")
    for number, one in enumerate(texts):
        _check_marks(one, number)
    if metric not in METRICS:
        raise InputError(f"A metric is one of {', '.join(METRICS)}; got {metric!r}.")
    if not 0 < level < 1:
        raise InputError(f"A level lies between 0 and 1, such as 0.05; got {level!r}.")
    names, scores = _shared(texts)
    out = _checked_held(held, len(texts))
    table = described(names)
    values = np.stack([agreements(s, one.human)[list(METRICS)] for s, one in zip(scores, texts, strict=True)])
    for column, found in _means(values).items():
        table[column] = found
    table["n_texts"] = np.isfinite(values[:, :, METRICS.index(metric)]).sum(0)

    def held_against(rows: npt.NDArray[np.intp], numbers: Sequence[int]) -> Band:
        chosen = [scores[i][rows] for i in numbers], [texts[i].human for i in numbers]
        return band(*chosen, metric=metric, n=n, seed=seed)

    every = range(len(texts))
    rows: dict[str, npt.NDArray[np.intp]] = {kind: np.flatnonzero(table["kind"] == kind) for kind in KINDS}
    bands: dict[str, Band] = {
        kind: held_against(rows[kind], every) for kind in KINDS if kind != "baseline" and len(rows[kind])
    }
    p, p_found, p_held = (np.full(len(names), np.nan) for _ in range(3))
    for kind, one_band in bands.items():
        p[rows[kind]] = one_band.p
    for at in rows["baseline"].tolist():
        p[at] = held_against(np.array([at]), every).p[0]
    named: list[int] = []
    if out:
        p_found[rows["head"]] = held_against(rows["head"], [i for i in every if i not in out]).p
        winners = np.flatnonzero(p_found <= level)
        if len(winners):
            again = held_against(winners, out)
            p_held[winners] = again.p
            bar = _best_baseline(values[list(out)], rows["baseline"], metric)
            named = [row for row, seen in zip(winners.tolist(), again.observed, strict=True) if seen > bar]
            named = sorted((row for row in named if p_held[row] <= level), key=lambda row: float(p_held[row]))
    table = table.assign(p=p, p_found=p_found, p_held=p_held)
    least = [held_against(rows["head"][:1], side).least_p for side in ([i for i in every if i not in out], out) if side]
    why = _why(len(texts), out, level, int((p_found <= level).sum()), len(named), max(least))
    refused = {name: reason for one in reversed(texts) for name, reason in one.refused.items()}
    return Ranking(
        metric=metric,
        frame=table.sort_values(metric, ascending=False, kind="stable", ignore_index=True),
        bands=bands,
        named=tuple(texts[0].head(names[row]) for row in named),
        why=why,
        texts=tuple(texts),
        held=tuple(out),
        refused=refused,
    )


def _check_marks(one: Candidates, number: int) -> None:
    marked = int((one.human > 0).sum())
    if not 0 < marked < len(one.human):
        raise InputError(
            f"Text {number} has {marked} of {len(one.human)} words marked: mark some and leave others, so that there "
            "is something to agree with."
        )


def _shared(texts: Sequence[Candidates]) -> tuple[tuple[Candidate, ...], list[Doubles]]:
    """(candidates that every text has, their scores [candidate, word] in each)."""
    places = [{name: i for i, name in enumerate(one.names)} for one in texts]
    names = tuple(name for name in texts[0].names if all(name in place for place in places))
    heads = [{name for name in one.names if name.kind == "head"} for one in texts]
    if any(other != heads[0] for other in heads):
        raise InputError("These texts were read from different heads: rank texts of one model and one site together.")
    return names, [one.scores[[place[name] for name in names]] for one, place in zip(texts, places, strict=True)]


def _checked_held(held: Sequence[int] | None, n_texts: int) -> list[int]:
    if held is None:
        return list(range(1, n_texts, 2))
    out = sorted(set(held))
    if any(isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < n_texts for i in out):
        raise InputError(f"Texts to hold out are numbered 0 to {n_texts - 1}; got {list(held)!r}.")
    if len(out) == n_texts:
        raise InputError("All texts were held out, so that no head can be found: leave at least one.")
    return out


def _means(values: Doubles) -> dict[str, Doubles]:
    """Of [text, candidate, metric]: each metric's mean, low and high over texts, [candidate]; undefined ones aside."""
    there = np.isfinite(values)
    n = there.sum(0)
    mean = np.divide(np.where(there, values, 0).sum(0), n, out=np.full(n.shape, np.nan), where=n > 0)
    squares = np.where(there, (values - mean) ** 2, 0).sum(0)
    enough = n >= LEAST_TEXTS
    freedom = np.where(enough, n - 1, 1)
    half = np.where(enough, np.sqrt(squares / freedom / n.clip(min=1)) * stats.t.ppf(0.975, freedom), np.nan)
    out: dict[str, Doubles] = {}
    for at, name in enumerate(METRICS):
        least = -1.0 if name == "spearman" else 0.0
        out[name] = mean[:, at]
        out[f"{name}_low"] = (mean - half)[:, at].clip(least, 1)
        out[f"{name}_high"] = (mean + half)[:, at].clip(least, 1)
    return out


def _best_baseline(values: Doubles, rows: npt.NDArray[np.intp], metric: Metric) -> float:
    """The best baseline's mean over these texts; below everything where there is none."""
    own = values[:, rows, METRICS.index(metric)]
    known = np.isfinite(own).any(0)
    return float(np.nanmean(own[:, known], axis=0).max()) if known.any() else -np.inf


def _why(n_texts: int, held: Sequence[int], level: float, found: int, named: int, least: float) -> str:
    if not held:
        texts = "one text" if n_texts == 1 else f"{n_texts} texts and none held out"
        return f"No head is named from {texts}: the best of many heads has to win again on texts it was not chosen by."
    if least > level:
        return (
            f"No head can be named: with so few words the smallest p is {least:.3f}, above {level:g}. Mark longer "
            "texts, or more of them."
        )
    if not found:
        return f"No head is named: none is above what the best of all heads reaches by chance (p <= {level:g})."
    if not named:
        return (
            f"No head is named: {found} beat chance on the texts they were chosen by, and none did so again on the "
            f"{len(held)} held out and was above every baseline there."
        )
    return (
        f"{named} of {found} heads found on {n_texts - len(held)} texts beat chance again on the {len(held)} held out, "
        "and every baseline there."
    )
