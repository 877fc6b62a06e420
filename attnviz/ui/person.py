"""Who somebody is to the others on this server: by the operator's login, by a name that they type, or nobody known."""

from __future__ import annotations

import secrets
import unicodedata
from typing import Any

import streamlit as st

from attnviz.ui import say

_NAME, _GUEST, _FIELD = "attnviz_person", "attnviz_guest", "person-name"
_MOST_CHARS = 60


def person() -> str:
    """The name of whoever sits before this session, for what they keep; never in the address, and never logged.

    With Streamlit's login the email, or where there is none the name; else the name that was typed; else a random one
    that nobody else has and that ends with the session.
    """
    known = _logged_in()
    if known:
        return known
    if _NAME in st.session_state:
        return str(st.session_state[_NAME])
    if _GUEST not in st.session_state:
        st.session_state[_GUEST] = f"guest {secrets.token_hex(6)}"
    return str(st.session_state[_GUEST])


def is_known() -> bool:
    """Whether the name outlives the session: it was typed, or comes from a login."""
    return bool(_logged_in()) or _NAME in st.session_state


def person_control() -> None:
    """In the sidebar: the name, and a field for it where no login gives one."""
    if _logged_in():
        st.markdown(f"Signed in as {say.plain(person())}")
        return

    def typed() -> None:
        name = tidy(str(st.session_state[_FIELD]))
        if name:
            st.session_state[_NAME] = name
        else:
            st.session_state.pop(_NAME, None)

    st.session_state[_FIELD] = st.session_state.get(_NAME, "")
    st.text_input(
        "Your name",
        key=_FIELD,
        max_chars=_MOST_CHARS,
        on_change=typed,
        placeholder="Stands beside what you keep",
        help="It is not checked: on a server without a login, anybody can type any name. It stays in this session and "
        "is not part of links. Without one, what you keep is a guest's, and yours only until you leave.",
    )


def tidy(name: str) -> str:
    """A typed name as it is kept: one line, without what cannot be seen; nobody passes for a guest."""
    seen = "".join(char for char in unicodedata.normalize("NFC", name) if unicodedata.category(char)[0] not in "C")
    words = " ".join(seen.split())[:_MOST_CHARS].strip()
    return "" if words.lower().startswith("guest ") else words


def _logged_in() -> str:
    """The login's name for this person; "" where nobody is logged in, or the operator set up no login."""
    user: Any = st.user
    if not getattr(user, "is_logged_in", False):
        return ""
    return str(getattr(user, "email", None) or getattr(user, "name", None) or "")
