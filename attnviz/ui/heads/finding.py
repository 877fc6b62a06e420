"""What the Heads page finds out: each thing as a job with progress, kept for all who look at the same texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import stats

from attnviz import heads
from attnviz.corpus import Choice, Summary
from attnviz.heads import DETECTORS, Labelled, Probed
from attnviz.ui import measuring
from attnviz.ui.heads.asking import Asked
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept, kept_before
from attnviz.ui.session import selection

Floats = npt.NDArray[np.float32]
_PROBED_BYTES = 1 << 20
_LEVEL = 0.95


def summarised(ask: Asked) -> tuple[str, Summary]:
    """(name of the run, every detector's means with intervals), measured first where something is missing."""
    run = measuring.measured(ask.model, ask.about.key, selection(), site=ask.head.site)
    return run, measuring.summary(ask.name, ask.about.key, run, Choice())


def left_out(ask: Asked, run: str) -> dict[str, int]:
    """How many texts were left out, by reason."""
    return next((one.left for one in measuring.shelf().runs(ask.about.key) if one.run == run), {})


@dataclass(frozen=True, eq=False)
class Means:
    """One measure of every head: the mean over texts or samples, with its 95% interval.

    mean, low, high   [variant, layer, head]; intervals NaN where fewer than two texts count
    chance            [variant, layer], what even attention scores there
    counted           [variant, layer, head], texts or samples that count
    """

    mean: Floats
    low: Floats
    high: Floats
    chance: Floats
    counted: npt.NDArray[np.int64]


def of_texts(summary: Summary, detector: str) -> Means:
    at = list(DETECTORS).index(detector)
    return Means(
        summary.mean[:, at], summary.low[:, at], summary.high[:, at], summary.chance[:, at], summary.counted[:, at]
    )


def probed_key(ask: Asked) -> tuple[Any, ...]:
    return (*ask.of, "probes", ask.sinks)


def probed(ask: Asked) -> Probed:
    """Induction, copying and position on random tokens; Unsupported or InputError where a model cannot be probed."""

    def make(job: Job) -> Probed:
        job.report("reading random tokens", 0.0)
        return heads.induction(ask.model, sinks=ask.sinks, progress=job.step)

    return cast(Probed, kept(ask, probed_key(ask), "Probing every head", make, lambda made: _PROBED_BYTES))


def probed_before(ask: Asked) -> Probed | None:
    """What was probed already, of the heads that are looked at; None where nothing was, or it was refused."""
    found = cast(Probed | None, kept_before(probed_key(ask)))
    return found if found is not None and found.site == ask.site else None


def of_samples(found: Probed, name: str) -> Means:
    """A probe's mean over samples, with intervals by Student's t: samples are too few to be drawn again and again."""
    values = found.scores[name].astype(float)
    n, mean = len(values), values.mean(0)
    half = np.full_like(mean, np.nan)
    if n > 1:
        half = stats.t.ppf((1 + _LEVEL) / 2, n - 1) * values.std(0, ddof=1) / np.sqrt(n)
    least = -1.0 if name == "copy" else 0.0
    low, high = ((mean + side * half).clip(least, 1).astype(np.float32) for side in (-1, 1))
    chance = np.repeat(found.chance[name][:, None], values.shape[2], 1)
    return Means(mean.astype(np.float32), low, high, chance, np.isfinite(values).sum(0))


def labelled(summary: Summary, found: Probed | None) -> Labelled:
    """A label for every head of two texts or more; induction is among them only where it was probed."""
    parts, names = [of_texts(summary, name) for name in DETECTORS], tuple(DETECTORS)
    if found is not None:
        parts, names = [*parts, of_samples(found, "induction")], (*names, "induction")
    values, low, high, chance = (
        np.stack([getattr(part, field) for part in parts], 1) for field in ("mean", "low", "high", "chance")
    )
    # Random samples have intervals also where there is one text; alone they are no choice between descriptions.
    low = np.where(np.isfinite(low[:, : len(DETECTORS)]).any((0, 1)), low, np.nan)
    return heads.labels(values, chance, (low, high), names=names)
