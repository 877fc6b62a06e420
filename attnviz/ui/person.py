"""Who somebody is to the others on this server: by the operator's login, by a name that they type, or nobody known."""

from __future__ import annotations

import re
import secrets

import streamlit as st

from attnviz.errors import InputError
from attnviz.ui import login, say

_NAME, _GUEST, _FIELD = "attnviz_person", "attnviz_guest", "person-name"
_MARKED = re.compile(rf".*#[a-z2-7]{{{login.MARK_CHARS}}}")


def person() -> str:
    """The name of whoever sits before this session, for what they keep; never in the address, and never logged.

    Where the operator set up a login, that of whoever signed in; else the name that was typed; else a random one that
    nobody else has and that ends with the session. A typed name is worth nothing beside a login.
    """
    known = login.signed_in() or ("" if login.is_set_up() else str(st.session_state.get(_NAME, "")))
    if known:
        return known
    if _GUEST not in st.session_state:
        st.session_state[_GUEST] = f"guest {secrets.token_hex(6)}"
    return str(st.session_state[_GUEST])


def is_known() -> bool:
    """Whether the name outlives the session: it was typed, or comes from a login."""
    return bool(login.signed_in()) or (_NAME in st.session_state and not login.is_set_up())


def how_to_be_known() -> str:
    """What a guest does to find again what they keep, as the end of a sentence."""
    return "sign in first" if login.is_set_up() else "type your name first"


def person_control() -> None:
    """In the sidebar: the way in or out where there is a login, else a field for a name."""
    if login.is_set_up():
        _door()
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
        max_chars=login.MOST_CHARS,
        on_change=typed,
        placeholder="Stands beside what you keep",
        help="It is not checked: on a server without a login, anybody can type any name. It stays in this session and "
        "is not part of links. Without one, what you keep is a guest's, and yours only until you leave.",
    )


def tidy(name: str) -> str:
    """A typed name as it is kept: one line, without what cannot be seen; nobody passes for a guest or a login's."""
    words = login.one_line(name)
    return "" if words.lower().startswith("guest ") or _MARKED.fullmatch(words) else words


def _door() -> None:
    failed, ways, known = login.failure(), login.providers(), login.signed_in()
    if failed or not ways:
        say.problem(InputError(f"Nobody can sign in: {failed or 'the login of this server is not set up whole.'}"))
    if known:
        st.markdown(f"Signed in as {say.plain(login.without_mark(known))}")
        st.button("Sign out", icon=":material/logout:", key="sign-out", on_click=login.sign_out, width="stretch")
        return
    for number, way in enumerate(ways):
        st.button(
            "Sign in" if len(ways) == 1 else f"Sign in with {say.plain(way)}",
            icon=":material/login:",
            key=f"sign-in-{number}",
            on_click=login.sign_in,
            args=(way,),
            width="stretch",
            help="Without it, what you keep is a guest's, and yours only until you leave or sign in.",
        )
