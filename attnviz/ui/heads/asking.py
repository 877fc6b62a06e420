"""What the Heads page is asked: which texts, which heads, by what measure, with the sink or without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

from attnviz.corpus import Corpus
from attnviz.edits import Head
from attnviz.errors import HeadError, InputError
from attnviz.figures.labels import KIND_WORDS, SITE_WORDS
from attnviz.heads import DETECTORS
from attnviz.heads.detectors import Kind
from attnviz.heads.rows import evenly
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import measuring, say, texts
from attnviz.ui.focus import start_head
from attnviz.ui.page import Opening
from attnviz.ui.pickers import detector_picker, segments
from attnviz.ui.reading import kinds_picker
from attnviz.ui.selection import PROBES
from attnviz.ui.session import select, selection, show, take_notes
from attnviz.view import Sinks, View

FACET_TITLES = {"detectors": "Each head", "families": "Families"}
LIKENESS_TITLES = {"attends": "What they attend to", "writes": "What they write"}
LIKENESS_SHORT = {"attends": "Attend", "writes": "Write"}
SINK_TITLES = {False: "Without", True: "With"}
_SAMPLED = 200  # texts whose lengths are looked at


@dataclass(frozen=True)
class Probe:
    """A detector with texts of its own, in the words of `heads.DETECTORS`."""

    title: str
    words: str
    chance: str
    source: str


PROBE_TITLES = {
    "induction": Probe(
        "Induction",
        "attention to the token after an earlier copy of this one, on random tokens given twice",
        "the share of visible keys that stand there",
        "Olsson et al. 2022, arXiv 2209.11895",
    ),
    "copy": Probe(
        "Copy score",
        "how far what the head writes of a token raises that token's own logit, from -1 to 1, on random tokens",
        "nothing to compare with; tokens raised at random come to 0",
        "after Olsson et al. 2022, arXiv 2209.11895",
    ),
    "position": Probe(
        "Position only",
        "how alike the pattern is whatever the tokens are, on random tokens: 1 looks at places alone",
        "1: attention that is even looks at no token in particular",
        "AttnViz: 1 - Jensen-Shannon divergence / ln 2",
    ),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, many texts, and the head that is looked at.

    name      of the model in the pool: the start of every cache key
    about     the corpus as the shelf has it
    head      the selected one; its site is None where the model has one site
    sinks     the keys that "without the sink" takes away
    """

    name: str
    model: Model
    about: Corpus
    head: Head
    sinks: Sinks
    sink_in: bool

    @property
    def of(self) -> tuple[str, str]:
        """What keys of caches start with."""
        return (self.name, "heads")

    @property
    def site(self) -> str:
        return self.model.info.site(self.head.site)

    @property
    def kind(self) -> Kind:
        return "cross" if self.site == "cross" else "self"

    def at(self, detector: str) -> Asked:
        """The same for one detector: the sink can only be measured with the sink in it."""
        return replace(self, sink_in=True) if detector == "sink" else self

    @property
    def variant(self) -> int:
        """The place of the chosen variant in `heads.VARIANTS`."""
        return 0 if self.sink_in else 1

    @property
    def view(self) -> View:
        """The chosen variant as a way to read patterns."""
        return View() if self.sink_in else View(sinks=replace(self.sinks, how="renormalise"))

    @property
    def sink_words(self) -> str:
        """What the numbers are made of."""
        kinds = " and ".join(KIND_WORDS[kind] for kind in self.sinks.kinds)
        return (
            "Attention is taken as it is, the sink in it."
            if self.sink_in
            else f"The sink ({kinds}) is taken away and each row divided by what is left of it."
        )

    @property
    def site_words(self) -> str:
        return f", {SITE_WORDS[self.site]}" if len(self.model.info.sites) > 1 else ""


def asked(opening: Opening, model: Model) -> Asked:
    """The Selection as far as this model and the shelf have it; what they lack is dropped, and said once.

    raises   InputError for a corpus that is not kept any more
    """
    chosen, info, problems = selection(), model.info, []
    site = chosen.site
    if site is not None and site not in info.sites:
        problems.append(f"{info.name} has no attention at {site!r}")
        site = None
    site = site or info.sites[-1]
    first_layer, first_head = start_head(info, site)
    layer = first_layer if chosen.layer is None else chosen.layer
    head = (first_head if layer == first_layer else 0) if chosen.head is None else chosen.head
    try:
        info.check_head(layer, head, site)
    except HeadError:
        problems.append(f"{info.name} has no head L{layer}H{head}")
        layer, head = first_layer, first_head
    named = None if len(info.sites) == 1 else site
    show(replace(chosen, site=named, layer=layer, head=head))
    with opening.share:
        texts.share()
    say.notes([*take_notes(), *problems])
    with opening.extras:
        _sink_picker()
    about = measuring.shelf().about(measuring.corpus_of(chosen, model))
    name = chosen.model or settings().default_model
    return Asked(name, model, about, Head(layer, head, named), measuring.resting(chosen), chosen.sink_in)


def _sink_picker() -> None:
    kinds_picker(
        "Taken as the sink",
        measuring.resting(selection()).kinds,
        key="heads-kinds",
        least=("first",),
        help="What “without the sink” takes away. Another choice measures every text again.",
    )


def controls() -> None:
    """What the page shows, and whether the sink is in it; side by side in a horizontal container."""
    chosen = selection()
    _segments("facet", "Shown", FACET_TITLES, chosen.facet)
    if chosen.facet == "families" or chosen.detector != "sink":  # without the sink there is none to be found
        _segments("sink_in", "Sink", SINK_TITLES, chosen.sink_in)
    if chosen.facet == "families":
        _segments("likeness", "Alike in what they", LIKENESS_SHORT, chosen.likeness)
    else:
        _detector_picker(chosen.detector)


def _segments(name: str, title: str, titles: Mapping[Any, str], current: object) -> None:
    segments(title, titles, current, key=f"heads-{name}", use=lambda value: select(**{name: value}))


def _detector_picker(current: str) -> None:
    known, titles = titled(current), {name: titled(name).title for name in (*DETECTORS, *PROBES)}
    words = say.plain(f"Here: {known.words}. Even attention scores {known.chance}. {known.source}.")
    detector_picker("Measured by", titles, current, key="heads-detector", help=words)


def titled(name: str) -> Probe:
    """Title, words, chance level and source of a detector or a probe."""
    if name in PROBE_TITLES:
        return PROBE_TITLES[name]
    known = DETECTORS[name]
    return Probe(known.title, known.words, known.chance, known.source)


def corpus_words(ask: Asked) -> None:
    """Which texts, how many, and how long; and the way to others."""
    lengths = _lengths(ask)
    about = ask.about
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{say.plain(about.name)}**")
        if st.button("Choose other texts", icon=":material/library_books:", key="heads-corpus", type="tertiary"):
            st.switch_page("pages/corpus.py")
        if selection().corpus:
            st.button(
                "AttnViz's own texts",
                icon=":material/undo:",
                key="heads-own",
                type="tertiary",
                on_click=lambda: select(corpus="", labelled=None),
            )
    many = f"{about.n:,} text{'s' * (about.n != 1)}"
    if lengths:
        low, middle, high = lengths
        many += f" of {low} to {high} tokens, median {middle}" if low != high else f" of {low} tokens"
        many += f" (looked at in {_SAMPLED} of them)" * (about.n > _SAMPLED)
    say.caption(f"Read: {many}. What stands here holds for such texts.")


def _lengths(ask: Asked) -> tuple[int, int, int] | None:
    """Least, median and most tokens of a text, of some evenly chosen; None where no text can be read."""
    held: dict[tuple[str, str], tuple[int, int, int] | None] = st.session_state.setdefault("attnviz_heads_lengths", {})
    key = (ask.name, ask.about.key)
    if key not in held:
        found = []
        for number in evenly(ask.about.n, _SAMPLED):
            try:
                found.append(len(ask.model.encode(measuring.shelf().text(ask.about.key, number).text).ids))
            except InputError:
                continue  # it has no tokens, or too many: the run says so
        held.clear()
        held[key] = (min(found), int(np.median(found)), max(found)) if found else None
    return held[key]
