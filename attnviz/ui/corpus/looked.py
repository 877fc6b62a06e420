"""What of a measured corpus is looked at: detector, sink, label and head, and the widgets that choose them."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from attnviz.corpus import Choice
from attnviz.edits import Head
from attnviz.figures.labels import KIND_WORDS
from attnviz.heads import DETECTORS
from attnviz.ui import say
from attnviz.ui.corpus.subject import Subject
from attnviz.ui.measuring import shelf
from attnviz.ui.session import select, selection
from attnviz.view import SINK_KINDS

MOST_LABELS = 50  # that can be chosen, the commonest
_VARIANTS = {False: "Sink taken away", True: "Sink left in"}


@dataclass(frozen=True, eq=False)
class Looked:
    """One detector and variant, one head, and the texts of one label, None for all."""

    subject: Subject
    choice: Choice
    head: Head
    label: str | None

    @property
    def corpus(self) -> str:
        """What the texts are called."""
        name = self.subject.known.name
        return name if self.label is None else f"{name}, label “{self.label or 'none'}”"

    @property
    def detector(self) -> str:
        assert self.choice.detector is not None
        return self.choice.detector

    @property
    def head_words(self) -> str:
        return f"L{self.head.layer}H{self.head.head}"


def looked_at(subject: Subject) -> Looked:
    """What the Selection looks at, with the widgets that change it."""
    chosen, choice = selection(), subject.choice(selection())
    labels = labels_of(subject)
    label = labels[chosen.labelled] if chosen.labelled is not None and chosen.labelled < len(labels) else None
    if chosen.detector not in subject.detectors:
        say.caption("Induction, copying and position need texts of their own: they are measured on the Heads page.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["corpus-detector"] = choice.detector
        st.selectbox(
            "What heads do",
            subject.detectors,
            key="corpus-detector",
            format_func=lambda name: DETECTORS[name].title,
            on_change=lambda: select(detector=st.session_state["corpus-detector"]),
            width=220,
        )
        if choice.detector != "sink":
            st.session_state["corpus-sink"] = chosen.sink_in
            st.segmented_control(
                "The sink",
                list(_VARIANTS),
                key="corpus-sink",
                format_func=_VARIANTS.__getitem__,
                on_change=lambda: select(sink_in=_kept("corpus-sink", chosen.sink_in)),
            )
        if len(labels) > 1:
            st.session_state["corpus-label"] = None if label is None else labels.index(label)
            st.selectbox(
                "Label",
                range(len(labels)),
                index=None,
                key="corpus-label",
                format_func=lambda i: labels[i] or "(none)",
                placeholder="All texts",
                on_change=lambda: select(labelled=st.session_state["corpus-label"]),
                width=220,
            )
    return Looked(subject, choice, subject.head(chosen), label)


def sink_kinds() -> None:
    """Which keys count as sinks: another choice is another measurement."""
    st.session_state["corpus-kinds"] = list(selection().kinds)
    st.pills(
        "Taken as sinks",
        SINK_KINDS,
        key="corpus-kinds",
        selection_mode="multi",
        format_func=lambda kind: KIND_WORDS[kind].capitalize(),
        on_change=lambda: select(kinds=tuple(k for k in SINK_KINDS if k in st.session_state["corpus-kinds"])),
        help="Keys where heads with nothing to do rest. Another choice has to be measured anew.",
    )


def labels_of(subject: Subject) -> list[str]:
    """The labels of the corpus, the commonest first; one that is "" where it has none."""
    return list(shelf().labels(subject.known.key))[:MOST_LABELS]


def _kept(key: str, current: bool) -> bool:
    """A segmented control's value; what it was where somebody switched it off."""
    found: bool | None = st.session_state[key]
    return current if found is None else found
