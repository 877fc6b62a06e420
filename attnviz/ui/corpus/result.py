"""What came of a corpus: every head's mean, one head over the texts, and the texts that stand apart."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.corpus import Item, Summary, outliers
from attnviz.figures.corpus import MOST_STRIPS, choice_words, means_grid, text_dots
from attnviz.figures.palette import Theme
from attnviz.heads import DETECTORS
from attnviz.ui import say, work
from attnviz.ui.corpus.lines import dots_lines, means_lines
from attnviz.ui.corpus.looked import Looked
from attnviz.ui.corpus.tables import OverTexts, facts, head_values, of_label, over_texts
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.head_map import head_matrix
from attnviz.ui.jobs import Job
from attnviz.ui.measuring import shelf, summary
from attnviz.ui.notebook.offering_corpus import keep_scored
from attnviz.ui.session import select, selection, stores
from attnviz.ui.theme import theme

_MOST_OUTLIERS = 6
_EXCERPT = 140  # characters


def result(looked: Looked) -> None:
    """The map of all heads beside the selected one; a sentence where there is nothing to show."""
    subject = looked.subject
    if not subject.measured:
        say.caption("No text has values: see above why they were left out. Choose other texts, or another model.")
        return
    found = summary(subject.name, subject.known.key, subject.run, looked.choice, label=looked.label)
    if not np.isfinite(found.mean).any():
        say.caption(
            f"In none of these texts does {DETECTORS[looked.detector].title.lower()} have anything to look for. "
            "Choose another detector, or longer texts."
        )
        return
    narrow, wide = st.columns([2, 3], gap="medium")
    with narrow:
        _means(looked, found)
    with wide:
        _head(looked, found)


def _means(looked: Looked, found: Summary) -> None:
    """Every head's mean over the texts."""
    subject, words = looked.subject, choice_words(looked.choice)
    detector = DETECTORS[looked.detector]
    st.markdown(f"**{words}: mean over {found.n:,} {'text' if found.n == 1 else 'texts'}**")
    head_matrix(
        found.mean[0, 0],
        looked.head,
        key="corpus-means",
        value_name="mean",
        purpose="Pick one to see its texts.",
        title=f"{words}, mean over {found.n:,} texts of {looked.corpus}, {subject.model.info.name}",
        file_name="corpus-means",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    chosen, look = selection(), theme()
    info, site, id, label = subject.model.info, subject.site, subject.id, looked.label
    say.caption(
        f"{detector.title}: {detector.words}. Each text counts once, whatever its length.",
        _sink_words(looked),
        "It describes where heads look in these texts. Attention is not effect: what a head changes is not shown.",
    )
    export_bar(
        f"corpus means {looked.detector}",
        lambda: means_grid(found, info, looked.corpus, site=site, palette=chosen.palette, theme=look),
        lambda: Summary.of(of_label(id, label)).frame(),
        means_lines(looked, chosen),
        about=facts(looked),
        caption="The table has every detector, with the sink and without it. Intervals are over texts.",
        key="corpus-means",
    )


def _sink_words(looked: Looked) -> str:
    resting = looked.subject.resting_words
    if looked.detector == "sink":
        return f"Sinks here: {resting}."
    if looked.choice.variant == "with sink":
        return "The sink is left in: heads at rest count as they are."
    return f"The sink ({resting}) is taken away, and each row divided by what is left of it."


def _head(looked: Looked, found: Summary) -> None:
    """The selected head: its mean, its values over the texts, and the texts that stand apart."""
    head, at = looked.head, (0, 0, looked.head.layer, looked.head.head)
    st.markdown(f"**{looked.head_words} over the texts**")
    if not np.isfinite(found.mean[at]):
        say.caption("This head has no value in any of these texts. Pick another one on the map.")
        return
    low, high, even = float(found.low[at]), float(found.high[at]), float(found.chance[at[:3]])
    interval = f"{low:.3f} to {high:.3f}" if np.isfinite(low) else "none"
    cells = {"Mean": f"{found.mean[at]:.3f}", "95% interval": interval, "Chance level": f"{even:.3f}"}
    cells["Texts that count"] = f"{found.counted[at]:,}"
    for place, (title, value) in zip(st.columns([2, 3, 2, 3]), cells.items(), strict=True):
        place.markdown(f":small[{title}]  \n**{value}**")
    over = _over_texts(looked)
    values = over.values
    name, info, look = looked.corpus, looked.subject.model.info, theme()
    strips = values["label"].nunique()
    show_figure(text_dots(values, found, head, info, name, theme=look), "corpus-dots")
    say.caption(
        "Each dot is a text; its height in the strip means nothing. The line is the mean"
        f"{' of all texts' if strips > 1 else ''}, the band its 95% interval, "
        f"the dotted line the chance level: {DETECTORS[looked.detector].chance}.",
        "The short line in each strip is the mean of that label's texts." if strips > 1 else "",
        "The interval says how far the mean would move with other texts of this kind (bootstrap over texts); it says "
        "nothing about other kinds of text.",
        _count_words(looked, found.n, int(found.counted[at])),
        "Below some twenty texts intervals are too narrow." if found.counted[at] < 20 else "",
        f"Only {MOST_STRIPS} labels have a strip." if strips > MOST_STRIPS else "",
    )
    id, choice, label = looked.subject.id, looked.choice, looked.label

    def figure(scheme: Theme = look) -> go.Figure:
        return text_dots(values, found, head, info, name, theme=scheme)

    python = dots_lines(looked)
    with st.container(horizontal=True):
        export_bar(
            f"corpus texts {looked.detector} {looked.head_words}",
            figure,
            lambda: over_texts(of_label(id, label), choice),
            python,
            rows=found.n * int(np.isfinite(found.mean).sum()),
            about=facts(looked),
            caption="The table has this detector's value of every head on every text.",
            key="corpus-texts",
        )
        keep_scored("Corpus", looked.scored(), figure=lambda: figure("light"), lines=python)
    _outliers(looked, over.far)


def _count_words(looked: Looked, n: int, counted: int) -> str:
    """Why fewer texts count than were read; "" where all do."""
    if counted == n:
        return ""
    name = DETECTORS[looked.detector].title.lower()
    return (
        f"A text counts only where {name} has a row in it, one that sees a key looked for and one that is not: "
        f"{counted:,} of {n:,} texts count."
    )


def _over_texts(looked: Looked) -> OverTexts:
    """The selected head over the texts, read once and kept."""
    subject, choice, head, label = looked.subject, looked.choice, looked.head, looked.label
    of = (subject.name, "corpus-head", *subject.id, subject.done, choice, head, label)

    def read(job: Job) -> OverTexts:
        job.report("reading results", 0.0)
        return OverTexts(
            head_values(of_label(subject.id, label), head, choice),
            outliers(of_label(subject.id, label), head, choice, most=_MOST_OUTLIERS),
        )

    return cast(OverTexts, work.once(of, "Reading results", read))


def _outliers(looked: Looked, far: pd.DataFrame) -> None:
    """The texts that stand apart, each with the way to its map."""
    st.markdown(f"**Texts in which {looked.head_words} does something else**")
    if far.empty:
        say.caption("None: no text stands farther than 3.5 robust standard deviations from the median.")
        return
    for number, value, score in zip(far["number"], far["value"], far["score"], strict=True):
        item = shelf().text(looked.subject.known.key, int(number))
        excerpt = item.text if len(item.text) <= _EXCERPT else f"{item.text[:_EXCERPT]}…"
        label = f" · {say.plain(item.label)}" if item.label else ""
        words, way = st.columns([3, 1], vertical_alignment="center", gap="small")
        words.markdown(f"**{value:.3f}** ({score:+.1f}){label}  \n{say.plain(excerpt)}")
        with way:
            if st.button(
                "Open in Explore",
                key=f"corpus-open-{number}",
                type="tertiary",
                icon=":material/visibility:",
                on_click=_look_at,
                args=(looked, item),
            ):
                st.switch_page("pages/explore.py")
    say.caption(
        "Value, and in brackets how far the value minus the text's chance level lies from the median, in robust "
        "standard deviations (0.6745 (x - median) / MAD, or by the mean deviation where most texts agree); from 3.5 "
        "on. Chance levels fall with a text's length. A text stands apart by chance, by its words, or because the head "
        "does more than one thing: look."
    )


def _look_at(looked: Looked, item: Item) -> None:
    """Make a text of the corpus the one that other pages look at, with this head."""
    texts, pair = stores().texts, item.pair if looked.subject.model.family == "encoder-decoder" else ""
    head = looked.head
    select(text=texts.put(item.text), other=texts.put(pair) if pair else "", chat=False)
    select(site=head.site)
    select(layer=head.layer, head=head.head)
