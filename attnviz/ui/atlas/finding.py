"""What the atlas of one model is made of: findings by head, and the detectors' labels where there are any."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from attnviz import corpus
from attnviz.corpus import Choice, Summary
from attnviz.figures.atlas import Known, Pair, known_of
from attnviz.heads import Labelled
from attnviz.ui import measuring
from attnviz.ui.heads import finding as of_heads
from attnviz.ui.heads.asking import Asked
from attnviz.ui.notebook.shelf import by, store
from attnviz.ui.session import selection

MOST = 5_000  # findings of a model that are looked at, in brief, the last changed first


@dataclass(frozen=True, eq=False)
class Atlas:
    """What is known of one site's heads.

    known      by (layer, head), what findings say
    summary    the detectors' means over texts, and `labelled` the labels; None where nothing was measured yet
    n          findings of the model, at all sites and of none
    cut        whether there are more than were looked at
    """

    known: dict[Pair, Known]
    summary: Summary | None
    labelled: Labelled | None
    n: int
    cut: bool

    @property
    def detected(self) -> pd.DataFrame | None:
        return None if self.labelled is None else self.labelled.rows


def atlas_of(ask: Asked) -> Atlas:
    """All that this person may see of a model; nothing is measured for it."""
    several = store().briefs(by=by(), model=ask.model.info.name, limit=MOST + 1)
    summary = measured(ask)
    labelled = None if summary is None else of_heads.labelled(summary, of_heads.probed_before(ask))
    known = known_of(several[:MOST], site=ask.head.site)
    return Atlas(known, summary, labelled, min(len(several), MOST), len(several) > MOST)


def measured(ask: Asked) -> Summary | None:
    """The detectors over the texts, where all of them were measured before; else None."""
    shelf, key, run = measuring.shelf(), ask.about.key, run_of(ask)
    if shelf.done(key, run) < ask.about.n:
        return None
    return measuring.summary(ask.name, key, run, Choice())


def run_of(ask: Asked) -> str:
    """The key of the detectors' results on the shelf."""
    return corpus.run_key(ask.model, site=ask.head.site, sinks=measuring.resting(selection()))


def measure(ask: Asked) -> None:
    """Measure what is missing, in view."""
    measuring.measured(ask.model, ask.about.key, selection(), site=ask.head.site)
