"""All findings that a person may see: searched, as cards, each with what is claimed and how far it is held up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import streamlit as st

from attnviz.errors import InputError, StoreError
from attnviz.findings import LABELS, STATUSES, Finding, HeadAt
from attnviz.findings.records import Status
from attnviz.store import Brief
from attnviz.store.rows import Asked
from attnviz.ui import say
from attnviz.ui.notebook.restoring import restore_head
from attnviz.ui.notebook.shelf import by, complained, heads_words, open_finding, store, tell
from attnviz.ui.notebook.typed import heads_of
from attnviz.ui.pickers import held

_PAGE, _MORE = 10, "attnviz_notebook_more"
_HEADS = 4  # buttons of a card
WHOSE = ("All", "Mine", "Of others")
BADGES: dict[Status, tuple[str, Any]] = {
    "hypothesis": (":material/help:", "gray"),
    "supported": (":material/verified:", "green"),
    "refuted": (":material/cancel:", "red"),
}


def findings_list() -> Asked:
    """The search, and the findings that it finds; returns what was searched for."""
    asked, n = _search(), int(st.session_state.get(_MORE, _PAGE))
    several = store().briefs(by=by(), limit=n + 1, **asked)
    if not several:
        _empty(bool(asked))
        return asked
    for one in several[:n]:
        if one.damaged:
            unreadable(one)
        else:
            _card(one)
    damaged = sum(bool(one.damaged) for one in several[:n])
    if damaged:
        say.caption(f"{damaged} of these cannot be read: exports and reports are made without them.")
    if len(several) > n:
        st.button("Show more", key="notebook-more", on_click=lambda: st.session_state.update({_MORE: n + _PAGE}))
    return asked


def _search() -> Asked:
    """What is searched for, and whose."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = _typed("Search", "text", "In claim or note", 170)
        head = _typed("Head", "head", "L5H1", 90)
        model = _typed("Model", "model", "Its whole name", 150)
        label = _chosen("Label", "label", list(LABELS), 150, accept_new_options=True)
        status = _chosen("Status", "status", list(STATUSES), 140)
        whose = "attnviz_notebook_whose"
        st.segmented_control(
            "Whose",
            WHOSE,
            key="notebook-whose",
            on_change=held(whose, WHOSE[0], key="notebook-whose"),
        )
    of: dict[str, Any] = {"Mine": {"owner": by()}, "Of others": {"not_owner": by()}}
    asked: dict[str, Any] = {"text": text, "model": model, "label": label, "status": status}
    if head:
        several = heads_of(head)
        if len(several) != 1:
            raise InputError(f"One head is searched for at a time; got {heads_words(several)}.")
        asked["head"] = several[0]
    asked |= of.get(st.session_state.get(whose) or WHOSE[0], {})
    return cast(Asked, {name: value for name, value in asked.items() if value})


def _typed(title: str, name: str, placeholder: str, width: int) -> str:
    key = f"notebook-{name}"
    hold = held(f"attnviz_notebook_{name}", "", key=key)
    return st.text_input(title, key=key, placeholder=placeholder, width=width, max_chars=300, on_change=hold).strip()


def _chosen(title: str, name: str, options: list[str], width: int, **looks: Any) -> str | None:
    key = f"notebook-{name}"
    hold = held(f"attnviz_notebook_{name}", None, key=key)
    chosen = st.selectbox(title, options, key=key, index=None, placeholder="Any", width=width, on_change=hold, **looks)
    return None if chosen is None else str(chosen)


def _empty(searched: bool) -> None:
    if searched:
        say.caption("No finding is like this. Take something out of the search.")
        return
    st.info(
        "Nothing is kept yet. On a page that shows something worth knowing press “Keep this”, and say what it is: the "
        "view, the model and the text are kept with it. Or import findings from a file below.",
        icon=":material/bookmark_add:",
    )


def _card(one: Brief) -> None:
    with st.container(border=True, gap="small", key=f"notebook-card-{one.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            status_badge(one)
            for label in one.labels[:3]:
                st.badge(say.plain(label), color="blue")
            st.space("stretch")
            st.button(
                "Open it",
                key=f"notebook-open-{one.id}",
                icon=":material/open_in_full:",
                on_click=open_finding,
                args=(one.id,),
            )
        st.markdown(f"**{say.plain(one.claim)}**")
        head_buttons(one.id, one.heads, f"notebook-head-{one.id}")
        say.caption(facts(one))


def unreadable(one: Brief) -> None:
    """A finding that is damaged, or that the rules of today refuse: why, and what is left to do with it."""
    with st.container(border=True, gap="small", key=f"notebook-card-{one.id}"):
        st.badge("cannot be read", icon=":material/broken_image:", color="red")
        say.caption(f"Finding {one.id}, {facts(one)}.", f"Why: {one.damaged}")
        with st.container(horizontal=True, gap="small"):
            st.download_button(
                "Its JSON",
                partial(store().raw, one.id, by=by()),
                file_name=f"finding-{one.id[:8]}.json",
                mime="application/json",
                on_click="ignore",
                icon=":material/download:",
                key=f"notebook-raw-{one.id}",
            )
            if one.owner == by():
                with st.popover("Delete", icon=":material/delete:"):
                    st.button(
                        "Delete it", key=f"notebook-damaged-{one.id}", type="primary", on_click=_delete, args=(one.id,)
                    )


def unreadable_opened(finding: str, error: StoreError) -> None:
    """In place of an open finding that could not be read."""
    say.problem(error)
    st.button("All findings", key="notebook-back", icon=":material/arrow_back:", on_click=open_finding, args=("",))
    for one in store().briefs(by=by(), ids=[finding], limit=1):
        unreadable(one.model_copy(update={"damaged": one.damaged or str(error)}))


def _delete(finding: str) -> None:
    with complained():
        store().delete(finding, by=by())
        open_finding("")
        tell("It is removed.")


def status_badge(one: Brief | Finding) -> None:
    icon, colour = BADGES[one.status]
    st.badge(one.status, icon=icon, color=colour)


def head_buttons(finding: str, heads: Sequence[HeadAt], key: str, most: int = _HEADS) -> None:
    """A finding's heads; a press opens one of them on Explore, in the finding's own view."""
    if not heads:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for number, head in enumerate(heads[:most]):
            st.button(
                str(head),
                key=f"{key}-{number}",
                type="tertiary",
                icon=":material/visibility:",
                help="Open this head on Explore, as the finding saw it",
                on_click=_restore,
                args=(finding, head),
            )
        if len(heads) > most:
            st.markdown(f"and {len(heads) - most} more", width="content")


def _restore(finding: str, head: HeadAt) -> None:
    """For callbacks: read the whole finding now, for its view."""
    with complained():
        restore_head(store().get(finding, by=by()), head)


def facts(one: Brief) -> str:
    """Who, when, how sure, on which model, in a line."""
    who = one.brought_by or (one.owner if one.owner != one.author else "")
    brought = f", brought by {who}" if who else ""
    parts = [
        f"by {one.author or 'unknown'}{brought}, {one.changed:%d %b %Y %H:%M} UTC",
        f"confidence {one.confidence:.0%}",
        one.model,
        f"{one.measured} measurement{'s' * (one.measured != 1)}" if one.measured else "nothing measured",
        "shared" if one.shared else "private",
        "not measured here: its figures are the file’s word" if one.brought_by else "",
    ]
    return " · ".join(filter(None, parts))


def brought_words(one: Brief) -> str:
    """Who imported a finding that was not measured here since, and what follows; "" for any other."""
    if not one.brought_by or one.brought_at is None:
        return ""
    return (
        f"{one.brought_by} brought it from a file on {one.brought_at:%d %b %Y}. What is said in it of people and "
        "measurements is the file’s word: measure it again, as planned, before you rest on it."
    )


def facts_of(finding: Finding) -> None:
    """Under an open finding: who, when, how sure, and whether a file alone says so."""
    for one in store().briefs(by=by(), ids=[finding.id], limit=1):
        say.caption(facts(one))
        if one.brought_by:
            st.warning(say.plain(brought_words(one)), icon=":material/upload_file:")
