"""Boxes to type texts in: each holds one text of the Selection, and nothing that was typed is lost.

What a form sends is taken in its callback: a run's own body may be cut short by the next run. And where two messages
of a browser come at once, Streamlit may forget that a button was pressed, but not what the form held: since a form's
boxes come over only with its button, a box that holds another text than it was given was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from attnviz.errors import TextError
from attnviz.settings import settings
from attnviz.text import check_text
from attnviz.ui import say
from attnviz.ui.session import act, page, select, selection, stores, text_of
from attnviz.ui.work import retry

_PROBLEM, _REFUSED = "attnviz_text_problem", "attnviz_texts_refused"


def fill(box: str, field: str) -> None:
    """Put a text of the Selection into its box, where another text was selected or another page is shown."""
    key = getattr(selection(), field)
    if st.session_state.get(f"{box}-of") != (page(), key) or box not in st.session_state:
        st.session_state[box] = text_of(key)
        _holds(box, key)


def catch_up(boxes: Mapping[str, str], more: Callable[[], dict[str, Any]] = dict) -> None:
    """Fill a form's boxes before it is drawn, and take what they hold where its button was pressed and forgotten."""
    for field, box in boxes.items():
        fill(box, field)
    texts = {field: st.session_state[box] for field, box in boxes.items()}
    sent = any(text != text_of(getattr(selection(), field)) for field, text in texts.items())
    if sent and texts != st.session_state.get(_REFUSED):
        take(boxes, more)


def take(boxes: Mapping[str, str], more: Callable[[], dict[str, Any]] = dict) -> None:
    """A form's callback: make what its boxes hold the texts of the Selection; nothing of it if one cannot be.

    boxes   field of the Selection -> box; only "text" must not be empty
    more    further changes of the Selection that the form asks for
    """
    act()
    retry()
    texts = {field: str(st.session_state[box]) for field, box in boxes.items()}
    try:
        for field, text in texts.items():
            if text.strip() or field == "text":
                check_text(text, max_chars=settings().max_chars)
    except TextError as error:
        st.session_state[_PROBLEM], st.session_state[_REFUSED] = str(error), texts
        return
    changes = more()
    for field, text in texts.items():
        if text != text_of(getattr(selection(), field)):
            changes[field] = stores().texts.put(text) if text.strip() else ""
            _holds(boxes[field], changes[field])
    select(**changes)


def complain() -> None:
    """Say what is wrong with a text that was sent, and stop the page, if there is something."""
    problem = st.session_state.pop(_PROBLEM, None)
    if problem:
        say.problem(TextError(problem))
        st.stop()


def _holds(box: str, key: str) -> None:
    st.session_state[f"{box}-of"] = (page(), key)
