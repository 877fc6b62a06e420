"""Opening the very view that a finding was seen in: its texts are put back, its settings stand in the address again."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import streamlit as st

from attnviz.findings import Finding, HeadAt
from attnviz.ui.notebook.shelf import opened_as
from attnviz.ui.notebook.viewing import hold, unpacked
from attnviz.ui.selection import Selection
from attnviz.ui.session import DRAFTS, TEXTS, examples, note, select, stores
from attnviz.ui.work import retry

_GO = "attnviz_notebook_go"
PAGES = {
    "Explore": "explore",
    "All heads": "all_heads",
    "Lines": "lines",
    "Flow": "flow",
    "Heads": "heads",
    "Ablation": "ablation",
    "Corpus": "corpus",
    "Generation": "generation",
    "Compare": "compare",
    "BertViz": "bertviz_views",
    "Highlights": "highlights",
    "Steering": "steering",
    "Gaze": "gaze",
    "Gates": "gates",
    "Notebook": "notebook",
    "Head atlas": "atlas",
}


def restore(finding: Finding, *, page: str = "", **changes: Any) -> None:
    """For callbacks: make this session look at what the finding was seen in.

    page      to open; "": the one that it was seen on
    changes   of the view, such as another head
    """
    params = {"model": opened_as(finding)} | finding.seen.params
    chosen, problems = Selection.from_params({n: v for n, v in params.items() if n not in (*TEXTS, *DRAFTS)})
    kept = {name: stores().texts.put(text) for name in (*TEXTS, *DRAFTS) if (text := finding.seen.texts.get(name))}
    if "text" not in kept:
        kept["text"] = stores().texts.put(examples()[0]["text"])
        problems.append("the finding was kept without its text")
    kept |= unpacked(finding.seen, kept)
    hold(finding.seen)
    chosen = replace(chosen, **(kept | changes))
    note(*problems)
    retry()
    select(**{field.name: getattr(chosen, field.name) for field in fields(chosen) if field.name != "finding"})
    go_to(page or finding.seen.page)


def restore_head(finding: Finding, head: HeadAt) -> None:
    """For callbacks: the same on Explore, with this head."""
    restore(finding, page="Explore", layer=head.layer, head=head.head, site=head.site)


def go_to(page: str) -> None:
    """For callbacks: open this page when the run begins; Explore for one that there is not."""
    st.session_state[_GO] = PAGES.get(page, "explore")


def go() -> None:
    """To the page that was asked for, if one was."""
    page = st.session_state.pop(_GO, "")
    if page:
        st.switch_page(f"pages/{page}.py")
