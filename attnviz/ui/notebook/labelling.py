"""What several people call findings, and how far they agree."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from attnviz.findings import LABELS, Finding
from attnviz.ui import say
from attnviz.ui.notebook.shelf import by, complained, store, tell

_OF = "attnviz_notebook_labels_of"


def labels_of(one: Finding) -> None:
    """Everybody's labels, and the form for one's own."""
    given, me = store().labels_of(one.id, by=by()), by()
    mine = next((part for part in given if part.by == me), None)
    if given:
        rows = [
            {
                "who": part.by + (f" (brought by {part.brought_by})" if part.brought_by else ""),
                "labels": ", ".join(part.labels) or "none fits",
                "confidence": "" if part.confidence is None else f"{part.confidence:.0%}",
                "when": f"{part.at:%d %b %Y %H:%M}",
            }
            for part in given
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, key="notebook-annotations")
    if st.session_state.get(_OF) != (one.id, mine) or "notebook-own-labels" not in st.session_state:
        st.session_state[_OF] = (one.id, mine)
        st.session_state["notebook-own-labels"] = list(mine.labels) if mine else []
    with st.form("notebook-labels", border=False):
        st.multiselect(
            "What would you call it?",
            LABELS,
            key="notebook-own-labels",
            accept_new_options=True,
            placeholder="None fits",
        )
        with st.container(horizontal=True):
            st.form_submit_button("Keep my labels", on_click=_label, args=(one,), icon=":material/label:")
            if mine is not None:
                st.form_submit_button("Take them back", on_click=_take_back, args=(one,))
    say.caption("Labels are each person's own; how far people agree is shown with all findings.")


def _label(one: Finding) -> None:
    with complained():
        labels = [str(label).strip() for label in st.session_state["notebook-own-labels"]]
        store().label(one.id, labels, by=by())
        tell("Your labels are kept.")


def _take_back(one: Finding) -> None:
    with complained():
        store().label(one.id, None, by=by())
        tell("Your labels are taken back.")


def agreement(model: str = "") -> None:
    """Krippendorff's alpha for every label, over the findings that two people labelled."""
    with st.container(border=True):
        if not st.toggle("How far do people agree?", key="notebook-agree"):
            return
        brought = st.toggle(
            "Count labels that came with files, too",
            key="notebook-brought",
            help="The names in a file are whatever somebody wrote there: count them where you know who did.",
        )
        found = store().agreement(by=by(), by_model=model or None, brought=brought)
        say.caption(f"{found.words[:1].upper()}{found.words[1:]}")
        if found.labels:
            rows = [
                {"label": one.label, "alpha": one.alpha, "given": one.given, "of": one.asked} for one in found.labels
            ]
            config = {"alpha": st.column_config.NumberColumn(format="%.2f")}
            st.dataframe(pd.DataFrame(rows), hide_index=True, key="notebook-agreement", column_config=config)
            say.caption(
                "Krippendorff's alpha (Content Analysis, 2004) of each label, given or not: 1 where all agree, 0 as by "
                "chance, below 0 for less than that; empty where it cannot be told from chance. “Of” is how often "
                "somebody labelled a finding that others labelled, too."
            )
