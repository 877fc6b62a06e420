"""Opening the very view that a finding was seen in: its texts are put back, its settings stand in the address again.

A finding may come from anybody: a model that its view opens, and that it does not say it is of, is asked for first.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import streamlit as st

from attnviz.embedded import EMBEDDED
from attnviz.findings import Finding, HeadAt
from attnviz.ui import say
from attnviz.ui.notebook.shelf import open_finding, opened_as, seen_on_another
from attnviz.ui.notebook.viewing import hold, unpacked
from attnviz.ui.selection import Selection
from attnviz.ui.session import DRAFTS, TEXTS, examples, note, select, stores
from attnviz.ui.work import retry

_GO, _ASK = "attnviz_notebook_go", "attnviz_notebook_restore"
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


def restore(finding: Finding, *, page: str = "", model: str = "", **changes: Any) -> None:
    """For callbacks: make this session look at what the finding was seen in.

    page      to open; "": the one that it was seen on
    model     to open it with; "": the finding's own, but where its view opens others, the person is asked (`ask_first`)
    changes   of the view, such as another head
    """
    if _others(finding) and not model:
        st.session_state[_ASK] = (finding.id, page, changes)
        open_finding(finding.id)
        return
    params = finding.seen.params | {"model": model or opened_as(finding)}
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


def _others(finding: Finding) -> list[str]:
    """The models that its view opens and that it is not of, where they are not here already."""
    beside = finding.seen.params.get("other_model", "")
    here = {"", finding.model.name, opened_as(finding), *EMBEDDED, *stores().models.names()}
    return [name for name in (seen_on_another(finding), "" if beside in here else beside) if name]


def ask_first(finding: Finding) -> None:
    """Which models its view opens, and a button for each way to open it, where somebody wanted to."""
    of, page, changes = st.session_state.get(_ASK, ("", "", {}))
    if of != finding.id:
        return
    own, others = opened_as(finding), _others(finding)
    with st.container(border=True, key="notebook-ask"):
        st.warning(
            say.plain(
                f"This finding says that it is of {finding.model.name}, and its view opens {' and '.join(others)}. "
                "Whoever made it wrote that there: open no model that you do not know."
            ),
            icon=":material/help:",
        )
        with st.container(horizontal=True, gap="small"):
            seen = finding.seen.params.get("model", own)
            ways: tuple[tuple[str, str, str, dict[str, str]], ...] = (
                ("own", f"Open it with {own}", own, {"other_model": ""}),
                ("seen", "Open it as it was seen", seen, {}),
            )
            for key, title, model, without in ways:
                st.button(
                    say.plain(title),
                    key=f"notebook-ask-{key}",
                    on_click=_open,
                    args=(finding, page, model, changes | without),
                )


def _open(finding: Finding, page: str, model: str, changes: dict[str, Any]) -> None:
    forget_asking()
    restore(finding, page=page, model=model, **changes)


def forget_asking() -> None:
    """For callbacks: nobody is asked which model to open any more."""
    st.session_state.pop(_ASK, None)


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
