"""Whether the model relies on words: a person's marked ones, one head's, and those of the best heads and methods."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import cast

import pandas as pd
import streamlit as st

from attnviz import human
from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.human import Candidates, Faithful, Marked, Ranking
from attnviz.human.faithful import MARKED, RANDOM
from attnviz.ui import say
from attnviz.ui.highlights.asking import Asked, marked, of_text
from attnviz.ui.highlights.study import Passage
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept, kept_before

MOST = 15  # heads whose words are deleted
LOST = {"comprehensiveness": "lost without", "sufficiency": "lost with them alone"}
_WANTED = "attnviz_highlights_wanted"
_DRAWS = 3  # of random words
_TITLES = {MARKED: "Your marked words", RANDOM: "As many random words", "relevance": "Gradient's words"}
_OFF = "Off-distribution: these runs are of texts that nobody wrote."
_BOTH = (
    "(comprehensiveness): large where the outcome needs them. “Lost with them alone” is the fall when all other words "
    "of the text are deleted (sufficiency): near 0 where they are enough."
)


@dataclass(frozen=True, eq=False)
class Deleted:
    """Comprehensiveness and sufficiency of the best heads' words and all methods', as means over texts.

    frame     a row a choice, indexed by its name; columns comprehensiveness and sufficiency
    unit      "probability" or "cosine"
    n_texts   whose marked words can be deleted
    """

    frame: pd.DataFrame
    unit: str
    n_texts: int

    def beside(self, ranking: Ranking) -> pd.DataFrame:
        """The ranking's rows with both columns; NaN for what was not measured, as all layers and baselines."""
        names = ranking.frame["name"].where(ranking.frame["kind"].isin(["head", "method"]))
        return ranking.frame.assign(**{column: names.map(self.frame[column]) for column in LOST})


def without_outcome(ask: Asked, given: Marked) -> str:
    """Why there is nothing that could fall when words are deleted; "" where there is."""
    model = ask.model
    if ask.apart:
        return "" if given.other else "Write a question: what counts is then the similarity to it."
    if model.family == "encoder-decoder":
        return "This model reads its text beside a second one, where deleting words leaves another question."
    if model.has_vocabulary and model.family == "encoder" and given.query is None:
        return "This model predicts a word where one is read: choose attention paid by the last word."
    return ""


def relied_on(ask: Asked, passage: Passage, found: Candidates, head: Head) -> None:
    """What becomes of the model's outcome without the marked words, and without the head's."""
    name = str(Head(head.layer, head.head))
    st.markdown("**Does the model rely on these words?**")
    given = marked(ask, passage)
    if reason := without_outcome(ask, given):
        say.caption(f"It cannot be measured here. {reason}")
        return
    key = (ask.name, "highlights-faithful", name, passage.marks, of_text(ask, passage))
    if not _wanted(key):
        _button("Delete words and see", "highlights-delete", key)
        say.caption(
            f"Runs the model without your marked words, without as many of {name}'s, and with either alone. "
            "It takes some seconds to a minute."
        )
        return

    def make(job: Job) -> Faithful:
        job.report("deleting words", 0.0)
        scores = {
            one.name: row
            for one, row in zip(found.names, found.scores, strict=True)
            if one.name == name or (one.kind == "method" and one.name == "relevance")
        }
        return human.faithful(ask.model, given, found.words, scores, shares=(), n_random=_DRAWS, progress=job.step)

    try:
        made = cast(Faithful, kept(ask, key, "Deleting words", make))
    except InputError as error:  # no marked word can be taken away
        say.caption(f"It cannot be measured here. {error}")
        return
    table = made.frame[["name", *LOST]].copy()
    table["name"] = [_TITLES.get(one, f"{one}'s words") for one in table["name"]]
    number = st.column_config.NumberColumn(format="%.4f")
    st.dataframe(
        table.rename(columns={"name": "words", **LOST}),
        hide_index=True,
        column_config=dict.fromkeys(LOST.values(), number),
        key="highlights-faithful",
        height="content",
    )
    say.caption(
        f"{_OFF} Outcome: {made.title}, {made.clean:.4f} for the whole text. “Lost without” is the fall of the "
        f"{made.unit} when {made.n_marked} of {made.n_words} words are deleted {_BOTH}",
        "Compare with random words: deleting anything moves an outcome.",
    )


def of_best(ask: Asked, ranking: Ranking, numbers: Sequence[int]) -> Deleted | None:
    """The best heads' words and all methods' deleted from the texts; None where nobody asked, or it cannot be."""
    texts = _deletable(ask, ranking, numbers)
    key = _key(ask, ranking, texts)
    if not texts or not _wanted(key):
        return None

    def make(job: Job) -> Deleted:
        heads, frames, unit = set(_best(ranking)), [], ""
        for at, (passage, found) in enumerate(texts):

            def step(done: int, total: int, at: int = at) -> None:
                job.report(f"deleting words of text {at + 1} of {len(texts)}", (at + done / total) / len(texts))

            step(0, 1)
            scores = {
                one.name: row
                for one, row in zip(found.names, found.scores, strict=True)
                if one.kind == "method" or (one.kind == "head" and one.name in heads)
            }
            given = marked(ask, passage)
            made = human.faithful(ask.model, given, found.words, scores, shares=(), n_random=_DRAWS, progress=step)
            frames.append(made.frame[["name", *LOST]])
            unit = made.unit
        return Deleted(pd.concat(frames).groupby("name", sort=False).mean(), unit, len(frames))

    return cast(Deleted, kept(ask, key, "Deleting words", make))


def offer_best(ask: Asked, ranking: Ranking, numbers: Sequence[int], made: Deleted | None) -> None:
    """The button for `of_best`, or what its columns say."""
    texts = _deletable(ask, ranking, numbers)
    if made is None:
        if texts:
            _button(
                f"Delete words for the {len(_best(ranking))} best", "highlights-delete-best", _key(ask, ranking, texts)
            )
        return
    marks, random = (made.frame.loc[name] for name in (MARKED, RANDOM))
    of = f" over {made.n_texts} texts" if made.n_texts > 1 else ""
    say.caption(
        f"{_OFF} “Lost without” is the mean fall of the {made.unit}{of} when as many of a head's or method's first "
        f"words are deleted as you marked {_BOTH}",
        f"Your marked words: {marks.iloc[0]:.3f} and {marks.iloc[1]:.3f}; as many random words: {random.iloc[0]:.3f} "
        f"and {random.iloc[1]:.3f}.",
        "Only texts with an outcome and a marked word that can be deleted are in it."
        if made.n_texts < len(numbers)
        else "",
    )


def _best(ranking: Ranking) -> list[str]:
    return ranking.frame.loc[ranking.frame["kind"] == "head", "name"].head(MOST).tolist()


def _deletable(ask: Asked, ranking: Ranking, numbers: Sequence[int]) -> list[tuple[Passage, Candidates]]:
    """Texts with an outcome and a marked word besides the query's own, which is read and stays."""
    out = []
    for number, found in zip(numbers, ranking.texts, strict=True):
        passage = ask.study.passages[number]
        given = marked(ask, passage)
        free = [given.query not in covers for covers in found.words.covers]
        if not without_outcome(ask, given) and (found.human[free] > 0).any():
            out.append((passage, found))
    return out


def _key(ask: Asked, ranking: Ranking, texts: Sequence[tuple[Passage, Candidates]]) -> tuple[Hashable, ...]:
    of = tuple((of_text(ask, passage), passage.marks) for passage, _ in texts)
    return (ask.name, "highlights-deleted", tuple(_best(ranking)), of)


def _button(title: str, key: str, what: tuple[Hashable, ...]) -> None:
    wanted = st.session_state.setdefault(_WANTED, set())
    st.button(title, icon=":material/backspace:", key=key, on_click=lambda: wanted.add(what))


def _wanted(key: tuple[Hashable, ...]) -> bool:
    """Whether this session asked for it, or it is there anyway."""
    return key in st.session_state.get(_WANTED, set()) or kept_before(key) is not None
