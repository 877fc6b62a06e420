"""What of a measured corpus is looked at: detector, sink, label and head, and the widgets that choose them."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from attnviz.corpus import Choice
from attnviz.edits import Head
from attnviz.heads import DETECTORS, VARIANTS
from attnviz.ui import say
from attnviz.ui.corpus.subject import Subject
from attnviz.ui.measuring import shelf
from attnviz.ui.notebook.offering_corpus import Scored
from attnviz.ui.pickers import detector_picker, dropdown, segments
from attnviz.ui.reading import kinds_picker
from attnviz.ui.session import select, selection

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

    def scored(self) -> Scored:
        """The head's scores, for a finding."""
        subject, variant = self.subject, VARIANTS.index(self.choice.variant or VARIANTS[0])
        known, run = subject.known, subject.run
        return Scored(subject.model, self.head, self.detector, variant, known, run, subject.sinks, self.label)

    @property
    def head_words(self) -> str:
        return f"L{self.head.layer}H{self.head.head}"


def looked_at(subject: Subject) -> Looked:
    """What the Selection looks at, with the widgets that change it."""
    chosen, choice = selection(), subject.choice(selection())
    looked_for = choice.detector
    assert looked_for is not None
    labels = labels_of(subject)
    label = labels[chosen.labelled] if chosen.labelled is not None and chosen.labelled < len(labels) else None
    if chosen.detector not in subject.detectors:
        say.caption("Induction, copying and position need texts of their own: they are measured on the Heads page.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {name: DETECTORS[name].title for name in subject.detectors}
        detector_picker("What heads do", titles, looked_for, key="corpus-detector")
        if looked_for != "sink":
            segments("The sink", _VARIANTS, chosen.sink_in, key="corpus-sink", use=lambda left: select(sink_in=left))
        if len(labels) > 1:
            dropdown(
                "Label",
                range(len(labels)),
                None if label is None else labels.index(label),
                key="corpus-label",
                use=lambda i: select(labelled=i),
                words=lambda i: labels[i] or "(none)",
                index=None,
                placeholder="All texts",
                width=220,
            )
    return Looked(subject, choice, subject.head(chosen), label)


def sink_kinds() -> None:
    """Which keys count as sinks: another choice is another measurement."""
    words = "Keys where heads with nothing to do rest. Another choice has to be measured anew."
    kinds_picker("Taken as sinks", selection().kinds, key="corpus-kinds", help=words)


def labels_of(subject: Subject) -> list[str]:
    """The labels of the corpus, the commonest first; one that is "" where it has none."""
    return list(shelf().labels(subject.known.key))[:MOST_LABELS]
