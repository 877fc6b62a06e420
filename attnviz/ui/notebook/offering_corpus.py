"""“Keep this” on pages that read many texts: the selected head's score on each goes along as evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from attnviz import findings
from attnviz.corpus import Corpus
from attnviz.edits import Head
from attnviz.findings import Case, Evidence, HeadAt, Measurement
from attnviz.findings.records import MOST_CASES
from attnviz.heads import DETECTORS, VARIANTS
from attnviz.heads.rows import evenly
from attnviz.models import Model
from attnviz.ui.measuring import shelf
from attnviz.ui.notebook.keeping import Draw, keep_this
from attnviz.ui.notebook.offering import ALONE, evidence_of
from attnviz.ui.notebook.viewing import MOST_CHARS
from attnviz.ui.session import selection
from attnviz.view import Sinks


@dataclass(frozen=True)
class TextsOf(Sequence[str]):
    """All texts of corpora, read from the shelf when somebody asks for them."""

    corpora: tuple[Corpus, ...]

    def __len__(self) -> int:
        return sum(one.n for one in self.corpora)

    def __iter__(self) -> Iterator[str]:
        return (item.text for one in self.corpora for _, item in shelf().texts(one.key))

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return list(self)[at]


@dataclass(frozen=True, eq=False)
class Scored:
    """One head by one detector on the texts of a measured corpus.

    run      of the corpus, on the shelf; sinks: what it took away
    label    of the texts that are shown; None: all
    """

    model: Model
    head: Head
    detector: str
    variant: int
    known: Corpus
    run: str
    sinks: Sinks
    label: str | None = None

    @property
    def otherwise(self) -> str:
        """Why a finding could not measure it again, in a sentence; "" where it can."""
        taken = self.variant == 1 or self.detector == "sink"
        if taken and self.sinks.kinds != Sinks().kinds:
            return f"{ALONE}other keys than the first token are taken as sinks here, and a finding takes that alone."
        return ""

    @property
    def measurement(self) -> Measurement:
        without = f", {VARIANTS[1]}" if self.variant else ""
        return Measurement(kind="detector", what=f"{self.detector}{without}", heads=(HeadAt.of(self.head),))


def keep_scored(
    page_title: str, *scored: Scored, figure: Draw | None, lines: str, others: Sequence[Corpus] = (), key: str = ""
) -> None:
    """Heads and Corpus: the picture, and the head's scores as evidence.

    scored   by the text that is shown; none where what is shown is no score of a detector
    others   corpora that are shown besides
    """
    corpora = tuple(dict.fromkeys([*(one.known for one in scored), *others]))
    chosen, many = selection(), any(one.known.n > MOST_CASES for one in scored)
    keep_this(
        page_title,
        heads=list(dict.fromkeys(one.head for one in scored)),
        evidence=lambda: [made for one in scored if not one.otherwise for made in detected(one)],
        figure=figure,
        lines=lines,
        also_seen=TextsOf(corpora),
        caption=" ".join(
            filter(
                None,
                (
                    next((one.otherwise for one in scored if one.otherwise), ""),
                    f"The head's score goes along on {MOST_CASES} of the texts, evenly chosen." if many else "",
                    "The texts stay here: elsewhere add them again, or the view opens with AttnViz's own."
                    if chosen.corpus or chosen.other_corpus
                    else "",
                ),
            )
        ),
        key=key,
    )


def detected(scored: Scored) -> list[Evidence]:
    """The head's score on each text, beside all other heads; none where no text has one."""
    at = list(DETECTORS).index(scored.detector)
    results = shelf().results(scored.known.key, scored.run)
    values = {
        one.number: one.values[scored.variant, at].astype(np.float64)
        for one in results
        if scored.label is None or one.label == scored.label
    }
    cases = dict(_cases(scored, values))
    head, every = (scored.head.layer, scored.head.head), np.array([values[number] for number in cases])
    known = [values for values in every if np.isfinite(values[head])]
    if not known:
        return []
    means = np.array(known).mean(0)
    means[head] = np.nan
    control = means[np.isfinite(means)]
    told = f"all {len(control)} other heads on the same texts; their middle 95%"
    own = [float(values[head]) if np.isfinite(values[head]) else None for values in every]
    outcome = findings.summed_up(scored.measurement, own, control, controls=told, unit="share")
    note = f"Measured over {scored.known.name:.100}."
    return [evidence_of(scored.model, scored.measurement, list(cases.values()), outcome, note)]


def _cases(scored: Scored, numbers: Iterable[int]) -> Iterator[tuple[int, Case]]:
    """(number, text) of at most as many texts as evidence has, evenly chosen of these."""
    wanted = set(numbers)
    paired = scored.model.family == "encoder-decoder"
    short = {
        number: Case(text=item.text, target=item.pair if paired else "")
        for number, item in shelf().texts(scored.known.key)
        if number in wanted and max(len(item.text), len(item.pair)) <= MOST_CHARS
    }
    listed = list(short)
    return ((listed[i], short[listed[i]]) for i in evenly(len(listed), MOST_CASES) if listed)
