"""What the Highlights page is asked, and what it finds out for it: each text read once, then ranked at every change."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import streamlit as st

from attnviz import human
from attnviz.flow import METHODS
from attnviz.human import Candidates, Marked, Ranking
from attnviz.human.agreement import Metric, auprc_by_chance
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import say, work
from attnviz.ui.highlights.study import By, Passage, Study, change
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.page import Opening
from attnviz.ui.pickers import dropdown, segments
from attnviz.ui.reading import SINKING_TITLES, kinds_picker
from attnviz.ui.session import select, selection
from attnviz.view import Sinks

BY_TITLES: dict[By, str] = {"last": "The last word", "received": "All words"}
LONG = 100  # words; methods that read more than patterns take minutes beyond
_FAST = tuple(name for name, method in METHODS.items() if method.reads == "attention" and name != "max-flow")
_SINK_WORDS = {
    "show": "Sinks are shown.",
    "hide": "Sinks are taken out.",
    "renormalise": "Sinks are taken out and each row is divided by what is left.",
    "value-norm": "Attention is weighted by the lengths of value vectors.",
}


class Measure(NamedTuple):
    """A metric in words: its title, a short one, what it is, and what one head has by chance."""

    title: str
    short: str
    words: str
    chance: str


METRIC_TITLES: dict[Metric, Measure] = {
    "auroc": Measure(
        "AUROC",
        "AUROC",
        "the chance that a marked word gets more than one that is not marked; how strongly it is marked does not count",
        "0.5 by chance",
    ),
    "auprc": Measure(
        "Average precision",
        "Avg prec",
        "how many of the words that get most are marked, averaged over the places of the marked ones",
        "by chance somewhat more than the share of words that are marked",
    ),
    "token_f1": Measure(
        "Word F1",
        "Word F1",
        "of the words that get most, as many as were marked, the share that is marked",
        "by chance the share of words that are marked",
    ),
    "iou_f1": Measure(
        "Span F1",
        "Span F1",
        "like word F1 for stretches of neighbouring words; two count as one where they share at least half",
        "by chance anything from 0 to some 0.4: single marked words are easily met",
    ),
    "spearman": Measure(
        "Rank correlation",
        "Rank cor",
        "Spearman's correlation of what words get with how strongly they are marked, from -1 to 1",
        "0 by chance",
    ),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """A model and a study.

    name    of the model in the pool: the start of every cache key
    site    whose attention is read; None where the model has one
    sinks   what becomes of sinks, in heads and in methods
    """

    name: str
    model: Model
    study: Study
    site: str | None
    sinks: Sinks

    @property
    def by(self) -> By:
        """Across two texts no word of the one is a query of the other: there attention is received."""
        return "received" if self.site == "cross" else self.study.by

    @property
    def apart(self) -> bool:
        """Whether the question is what the text is compared with, and not read with it: this model predicts nothing."""
        return not self.model.has_vocabulary and not self.model.labels and self.model.family == "encoder"

    @property
    def measure(self) -> Measure:
        return METRIC_TITLES[self.study.metric]

    def read(self, passage: Passage) -> str:
        """What the model reads."""
        return passage.text if self.apart else passage.read

    def offset(self, passage: Passage) -> int:
        """Where the text begins in it."""
        return 0 if self.apart else passage.offset

    @property
    def score_words(self) -> str:
        """How a head's number for a word is made."""
        made = (
            "A word's number in a head is the attention that the last word of what the model reads pays it"
            if self.by == "last"
            else "A word's number in a head is the attention it receives from all words, divided by how many can see it"
        )
        return f"{made}, summed over the word's tokens. {_SINK_WORDS[self.sinks.how]}"


def asked(opening: Opening, model: Model, study: Study) -> Asked:
    """The Selection and the study, as far as this model has them."""
    chosen, info = selection(), model.info
    site = None
    if len(info.sites) > 1:  # keys that are the marked text
        site = chosen.site if chosen.site in ("encoder", "cross") else "cross"
    with opening.extras:
        _reading()
    sinks = Sinks(chosen.sinks, chosen.kinds or ("first",))  # type: ignore[arg-type]
    return Asked(chosen.model or settings().default_model, model, study, site, sinks)


def _reading() -> None:
    """What holds for all texts; chosen positions of one text make no sense here."""
    chosen = selection()
    dropdown("Sinks", SINKING_TITLES, chosen.sinks, key="read-sinks", use=lambda how: select(sinks=how))
    if chosen.sinks in ("hide", "renormalise"):
        kinds_picker("Taken as sinks", chosen.kinds, key="read-kinds", least=("first",))


def controls(study: Study, model: Model) -> None:
    """By what heads are ranked; to be chosen before the model's view is shown."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        dropdown(
            "Ranked by",
            {name: measure.title for name, measure in METRIC_TITLES.items()},
            study.metric,
            key="highlights-metric",
            use=lambda name: change(metric=name),
            help=say.plain(
                "Choose before you look: what is said of chance holds for one measure, not for the best of five."
            ),
            width=190,
        )
        if model.family != "encoder-decoder" or selection().site == "encoder":
            segments(
                "Attention paid by",
                BY_TITLES,
                study.by,
                key="highlights-by",
                use=lambda by: change(by=by),
                help="The last word of what the model reads, or all words that can see a word, as a mean.",
            )
        dropdown(
            "Word frequencies",
            sorted(human.languages()),
            study.language,
            key="highlights-language",
            use=lambda name: change(language=name),
            help="The language for the baseline that ranks words by how rare they are.",
            width=130,
        )
    letters = [char for char in study.open.text if char.isalpha()] if study.open else []
    if study.language == "en" and sum(not char.isascii() for char in letters) > len(letters) / 2:
        say.caption("This text does not look English: choose its language, or the baseline “rarity” says nothing.")


def marked(ask: Asked, passage: Passage) -> Marked:
    """A text of the study for the library, with the word whose attention is read."""
    query = None
    if ask.by == "last":
        numbers = [token.word for token in ask.model.encode(ask.read(passage)).tokens if token.word is not None]
        query = max(numbers, default=None)
    return passage.marked(query, apart=ask.apart)


def methods(ask: Asked, passage: Passage) -> tuple[str, ...]:
    """Those that a text is read by: of a long one the fast ones alone, unless somebody wants all."""
    return tuple(METHODS) if ask.study.thorough or len(passage.chips) <= LONG else _FAST


def measured(ask: Asked, passage: Passage, title: str) -> Candidates:
    """Every head, layer, method and baseline on one text, read once whatever is marked in it."""
    given = marked(ask, passage)

    def make(job: Job) -> Candidates:
        work.check_length(ask.model, given.text, False)
        return human.candidates(
            ask.model,
            Marked(given.text, {}, given.query, other=given.other, passage=given.passage),
            site=ask.site,
            sinks=ask.sinks,
            methods=methods(ask, passage),
            language=ask.study.language,
            report=lambda doing, done, total: job.report(doing, done / total),
        )

    found = cast(Candidates, kept(ask, of_text(ask, passage), title, make, lambda made: made.trace.nbytes))
    return replace(found, human=found.words.weights(given.marks), lost=given.lost(found.words))


def ranked(ask: Asked) -> tuple[Ranking, list[int]]:
    """(the ranking over all texts that are ready, their numbers in the study).

    A text none of whose marks can be compared is left out, which makes no other text one that heads are chosen by.
    """
    numbers, texts = [], []
    for number in ask.study.ready:
        one = measured(ask, ask.study.passages[number], f"Reading text {number + 1}")
        if 0 < (one.human > 0).sum() < len(one.human):
            numbers.append(number)
            texts.append(one)
    out = [numbers.index(number) for number in ask.study.held(numbers)]
    of = tuple((of_text(ask, ask.study.passages[n]), ask.study.passages[n].marks) for n in numbers)

    def make(job: Job) -> Ranking:
        job.report("moving marks to see what chance does", 0.0)
        return human.ranking(texts, metric=ask.study.metric, held=out)

    key = (ask.name, "highlights-ranking", ask.study.metric, of, tuple(out))
    return cast(
        Ranking, kept(ask, key, "Ranking", make, lambda made: sum(one.trace.nbytes for one in made.texts))
    ), numbers


def chance_words(ask: Asked, ranking: Ranking) -> str:
    """What one head has by chance on these texts."""
    if ranking.metric != "auprc":
        return ask.measure.chance
    each = [auprc_by_chance(len(one.human), int((one.human > 0).sum())) for one in ranking.texts]
    return f"{ask.measure.chance}, here {sum(each) / len(each):.2f}"


def of_text(ask: Asked, passage: Passage) -> tuple[Hashable, ...]:
    """What the reading of one text depends on."""
    given = marked(ask, passage)
    return (
        ask.name,
        "highlights",
        work.digest(given.text),
        given.passage,
        given.query,
        given.other,
        ask.site,
        ask.sinks,
        ask.study.language,
        methods(ask, passage),
    )
