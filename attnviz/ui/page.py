"""What every page does before its own view: the model and text, the trace, what of it is looked at, and how."""

from __future__ import annotations

import html
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager

from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.ui import say, texts, work
from attnviz.ui.focus import Focus, fitted, pinned
from attnviz.ui.frame import model_facts, model_picker
from attnviz.ui.login import come_back
from attnviz.ui.person import person_control
from attnviz.ui.reading import reading_panel
from attnviz.ui.session import page, saved_trace, selection, show, take_notes


@dataclass(frozen=True)
class Opening:
    """A page that has its frame: the model, or a saved trace that needs none."""

    model: Model | None
    saved: Trace | None
    facts: DeltaGenerator
    share: DeltaGenerator
    extras: DeltaGenerator


def open_page(title: str, *, text: bool = True, chat: bool = True, in_menu: bool = False) -> Opening:
    """The model in the sidebar, text, examples and links; stops the page with a sentence if the model cannot be.

    title   what the page answers
    in_menu whether the menu shows the page unfolded, so that the title is only for those who hear the page
    text    whether the page reads the one text of the Selection, and so shows its box
    chat    whether what it reads may stand in the model's chat template
    """
    from_the_front_door()
    page(title)
    show(selection())
    texts.first_text()
    st.html(f'<h1 class="{"attnviz-hidden" if in_menu else "attnviz-title"}">{html.escape(title)}</h1>')
    with st.sidebar:
        model_picker()
        facts, extras = st.container(gap="small"), st.container(gap="small")
        person_control()
    saved = saved_trace()
    wide, narrow = (
        st.columns([8, 1], gap="small") if text else (st.container(), st.container(horizontal_alignment="right"))
    )
    with narrow, st.container(horizontal=True, gap="xsmall"):
        if text:
            texts.example_picker()
        share = st.container()
    if saved is not None:
        with facts:
            model_facts(saved.info)
        return Opening(None, saved, facts, share, extras)
    if text:
        with wide:
            texts.text_form()
    model = work.model_for(selection())
    with facts:
        model_facts(model.info)
        if chat:
            texts.chat_switch(model)
    return Opening(model, None, facts, share, extras)


def from_the_front_door() -> None:
    """Run app.py first. The very first visit to a server may come to a page: Streamlit then takes pages/ as it used to
    before st.navigation, and runs the page by itself. And whoever comes back from a login goes on where they left."""
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
    come_back()


def traced(opening: Opening) -> Trace:
    """The trace of the Selection's text, or the saved one."""
    if opening.saved is not None:
        return opening.saved
    assert opening.model is not None
    texts.target_field(opening.model)
    return work.trace_for(opening.model, selection())


def focus_on(opening: Opening, trace: Trace) -> Focus:
    """What of the trace is looked at and how, as the Selection says and the trace allows; shown in the address."""
    focus, problems = fitted(selection(), trace)
    show(pinned(selection(), focus))
    with opening.share:
        texts.share()
    say.notes([*take_notes(), *problems])
    with opening.extras:
        reading_panel(trace, focus)
    return focus
