"""Makers of downloads, lent to Streamlit and taken back once the browser that may ask for them has gone.

Streamlit keeps what a maker holds, such as a trace, until it forgets the session: that is minutes after its browser
left, or hours where nobody else leaves. So it gets a maker that holds nothing but where to look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from attnviz.errors import InputError
from attnviz.settings import settings
from attnviz.ui.presence import is_there, session_here
from attnviz.ui.session import page

_LENT: dict[str, tuple[str, dict[str, Callable[[], bytes]]]] = {}  # by session: its page, and what can be made there
_GONE: dict[str, float] = {}  # by session: since when it is not there
_LOCK = threading.Lock()


def lent(key: str, make: Callable[[], bytes]) -> Callable[[], bytes]:
    """Something that makes the same as long as this session's browser is there, and on this page.

    key   tells the downloads of one page apart
    """
    session, here = session_here(), page()
    with _LOCK:
        _take_back()
        of, makers = _LENT.get(session, (here, {}))
        _LENT[session] = (here, {**(makers if of == here else {}), key: make})
    return partial(_make, session, key)


def _make(session: str, key: str) -> bytes:
    with _LOCK:
        make = _LENT.get(session, ("", {}))[1].get(key)
    if make is None:
        raise InputError("This is no longer at hand, since its page was left. Open the page again, and take it there.")
    return make()


def _take_back() -> None:
    """Forget what was lent to sessions that have been gone for a while: until then a connection may come back."""
    now = time.monotonic()
    for session in list(_LENT):
        if is_there(session):
            _GONE.pop(session, None)
        elif now - _GONE.setdefault(session, now) >= settings().away_seconds:
            del _LENT[session], _GONE[session]
