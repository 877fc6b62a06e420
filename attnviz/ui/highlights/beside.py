"""A head's words beside the person's, and the way to Explore."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import streamlit as st

from attnviz.edits import Head
from attnviz.human import Candidates, Ranking
from attnviz.text import words
from attnviz.ui import say
from attnviz.ui.components import token_strip
from attnviz.ui.head_map import round_up
from attnviz.ui.highlights.asking import Asked, marked
from attnviz.ui.highlights.study import Passage
from attnviz.ui.reading import palette_of
from attnviz.ui.session import select, selection, stores

_GO = "attnviz_highlights_go"
_LEVEL = 0.05  # of the best of all heads, as the verdict has it


def beside(ask: Asked, ranking: Ranking, passage: Passage, found: Candidates, head: Head) -> None:
    """The open text twice: tinted by the marks, and by what the head gives each word."""
    name = str(Head(head.layer, head.head))
    at = _row(found, head)
    row = ranking.frame[(ranking.frame["layer"] == head.layer) & (ranking.frame["head"] == head.head)].iloc[0]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        picked = ask.study.head == (head.layer, head.head)
        chance = "" if row["p"] <= _LEVEL else ", not beyond chance"
        does = "is picked" if picked else "agrees most"
        st.markdown(f"**{name}** {does}: {row[ranking.metric]:.3f}, p {row['p']:.3f}{chance}")
        st.button(
            "Open in Explore",
            icon=":material/visibility:",
            key="highlights-explore",
            type="tertiary",
            on_click=lambda: _open(ask, passage, found, head),
        )

    def pick(index: int) -> None:
        _open(ask, passage, found, head, index)

    weights = dict(passage.marks)
    mine = np.array([weights.get(chip.number, 0.0) for chip in passage.chips], np.float32)
    _strip(passage, mine, "highlights-mine", "Your marks", "weight", 1.0, pick)
    theirs = _by_chip(ask, passage, found, found.scores[at])
    high = round_up(float(np.nanmax(theirs, initial=0.0)))
    _strip(passage, theirs, "highlights-theirs", f"{name}, by word", "attention", high, pick)
    say.caption(
        f"Above your marks, below what {name} gives each word of this text.",
        "A click opens the word in Explore, as the key.",
        ask.score_words,
        f"{len(found.lost)} marked word{'s' * (len(found.lost) != 1)} could not be compared: taken away as a sink, or "
        "out of the query's sight."
        if found.lost
        else "",
        "Faded words are in no comparison." if np.isnan(theirs).any() else "",
    )


def _strip(
    passage: Passage,
    weights: npt.NDArray[np.float32],
    key: str,
    title: str,
    value_name: str,
    high: float,
    on_pick: Callable[[int], None],
) -> None:
    chips = passage.chips
    apart = [True, *(chip.spaced for chip in chips[:-1])]
    say.caption(title)
    token_strip(
        [chip.label for chip in chips],
        weights,
        key=key,
        kinds=[""] * len(chips),
        breaks=[chip.broken for chip in chips],
        starts_word=apart,
        palettes=palette_of(selection().palette),
        high=high,
        scale="linear" if value_name == "weight" else selection().scale,
        selected=None,
        target=None,
        selected_word="key",
        label=f"{title}, word by word. Pick a word to open it in Explore as the key.",
        value_name=value_name,
        unseen_word="faded: in no comparison",
        link="highlights",
        on_pick=on_pick,
    )


def _by_chip(
    ask: Asked, passage: Passage, found: Candidates, scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """[chip], from [word]; NaN for words in no comparison."""
    numbers = {start: number for number, (start, _) in enumerate(words(ask.read(passage)))}
    known = {n: float(score) for score, several in zip(scores, found.words.covers, strict=True) for n in several}
    own = [numbers.get(chip.start + ask.offset(passage)) for chip in passage.chips]
    return np.array([math.nan if n is None else known.get(n, math.nan) for n in own], np.float32)


def _row(found: Candidates, head: Head) -> int:
    return next(i for i, one in enumerate(found.names) if (one.layer, one.head) == (head.layer, head.head))


def _open(ask: Asked, passage: Passage, found: Candidates, head: Head, chip: int | None = None) -> None:
    """Make what the model reads and this head what all pages look at, a word as the key, and go to Explore."""
    firsts = np.array([start for start, _ in found.words.tokens], float)
    key = math.nan if chip is None else float(_by_chip(ask, passage, found, firsts)[chip])
    texts = stores().texts
    query = marked(ask, passage).token(found.trace, found.site) if ask.by == "last" else None
    select(
        text=texts.put(ask.read(passage)),
        other=texts.put(passage.question) if ask.apart and passage.question else "",
        chat=False,
        site=head.site,
        layer=head.layer,
        head=head.head,
        query=query,
        key=None if math.isnan(key) else int(key),
    )
    st.session_state[_GO] = True


def go() -> None:
    """To Explore, if a head was opened."""
    if st.session_state.pop(_GO, False):
        st.switch_page("pages/explore.py")
