"""Which session a script run belongs to, and whether its browser is still there."""

from __future__ import annotations

import hashlib
import secrets

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

_HERE = ("localhost", "127.0.0.1", "::1")
_SALT = secrets.token_bytes(16)  # so that a log of one process cannot be matched with anything else


def session_here() -> str:
    """The session that this thread runs a page for; "" outside of one."""
    context = get_script_run_ctx(suppress_warning=True)
    return "" if context is None else context.session_id


def is_there(session: str) -> bool:
    """Whether a session's browser is connected; without a server, in tests and scripts, it always is."""
    return not session or not runtime.exists() or runtime.get_instance().is_active_session(session)


def bound_here() -> bool:
    """Whether only people on this machine can reach the app."""
    return not runtime.exists() or st.get_option("server.address") in _HERE


def session_hash(session: str) -> str:
    """What stands for a session in the log."""
    return hashlib.sha256(_SALT + session.encode()).hexdigest()[:12] if session else ""
