"""Streamlit's own login, where the operator set it up: the ways in, the way out, and who it says somebody is.

A login says who somebody is by its provider, issuer and subject, which no other login shares and no one can type; an
address or a name can change, and can be given to somebody else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import streamlit as st
from cachetools import TTLCache
from streamlit.errors import Error
from streamlit.web.server.starlette.starlette_app_utils import decode_xsrf_token_string

from attnviz.settings import settings
from attnviz.ui.selection import Selection
from attnviz.ui.session import act, select, selection

MOST_CHARS = 60  # of a name, without its mark
MARK_CHARS = 16  # five bits each
_SIGNED, _FAILED, _ARRIVED = "attnviz_signed_in", "attnviz_login_failed", "attnviz_arrived"
_COOKIE = "_streamlit_xsrf"  # Streamlit's own, random, the same for a browser before and after it was away
_MOST_AWAY, _AWAY_SECONDS = 1_000, 15 * 60.0


def is_set_up() -> bool:
    """Whether the operator set a login up, well or badly."""
    return _auth() is not None


def providers() -> tuple[str, ...]:
    """What `sign_in` takes: the names of the operator's providers, or "default" for the one that has none."""
    auth = _auth()
    if not isinstance(auth, Mapping):
        return ()
    named = [name for name, part in auth.items() if isinstance(part, Mapping) and "client_id" in part]
    return tuple(dict.fromkeys([*(["default"] if "client_id" in auth else []), *named]))


def signed_in() -> str:
    """Whoever signed in, as a name that nobody else has and that stays theirs; "" for nobody.

    It is the name that the login gave when they first came, for people, and a mark made of provider, issuer and
    subject, which tells two of one name apart.
    """
    ways = providers()
    user: dict[str, Any] = st.user.to_dict() if ways else {}
    who = [user.get(part) for part in ("provider", "iss", "sub")]
    whole = all(isinstance(part, str) and part for part in who)
    if user.get("is_logged_in") is not True or not whole or who[0] not in ways:
        return ""
    digest = hashlib.sha256(json.dumps(["attnviz person", *who]).encode()).digest()
    mark = base64.b32encode(digest).decode().lower()[:MARK_CHARS]
    kept = st.session_state.get(_SIGNED, ("", ""))
    if kept[0] != mark:
        kept = st.session_state[_SIGNED] = (mark, f"{_first_name(mark, _name(user))} #{mark}")
    return str(kept[1])


def without_mark(person: str) -> str:
    """A name of `signed_in` as people know it."""
    return person.rpartition(" #")[0]


def one_line(name: str) -> str:
    """A name on one line, of at most MOST_CHARS characters, without what cannot be seen."""
    seen = "".join(char for char in unicodedata.normalize("NFC", name) if unicodedata.category(char)[0] not in "C")
    return " ".join(seen.split())[:MOST_CHARS].strip()


def sign_in(provider: str) -> None:
    """For callbacks: send the browser to a provider; it comes back to what it looks at now."""
    act()
    key = _browser()
    if key:
        away, lock = _away()
        with lock:
            away[key] = (_page(), selection())
    try:
        st.login(provider)
    except Error as error:
        st.session_state[_FAILED] = str(error)


def sign_out() -> None:
    """For callbacks: sign this browser out; it comes back to an empty first page."""
    act()
    st.session_state.pop(_SIGNED, None)
    try:
        st.logout()
    except Error as error:
        st.session_state[_FAILED] = str(error)


def failure() -> str:
    """Why the last way in or out was none, once."""
    return str(st.session_state.pop(_FAILED, ""))


def come_back() -> None:
    """First on a page: in the first run after signing in, go on where the browser left. An address goes first."""
    if st.session_state.get(_ARRIVED) or not signed_in():
        return
    st.session_state[_ARRIVED] = True
    key = _browser()
    away, lock = _away()
    with lock:
        page, chosen = away.pop(key, ("", None))
    if chosen is None or len(st.query_params) or _page() != "explore":
        return
    select(**{field.name: getattr(chosen, field.name) for field in fields(chosen)})
    st.switch_page(f"pages/{page}.py")


@st.cache_resource(show_spinner=False)
def _away() -> tuple[TTLCache[str, tuple[str, Selection]], threading.Lock]:
    """What browsers looked at that are away at a provider, and its lock."""
    return TTLCache(_MOST_AWAY, _AWAY_SECONDS), threading.Lock()


def _browser() -> str:
    """What stands for this browser for as long as it has its cookies; "" where it has none."""
    token, _ = decode_xsrf_token_string(st.context.cookies.get(_COOKIE, ""))
    return hashlib.sha256(token).hexdigest() if token else ""


def _page() -> str:
    """The file of the page that is shown, by its address."""
    name = urlsplit(st.context.url or "").path.rstrip("/").rpartition("/")[2]
    name = {"bertviz": "bertviz_views"}.get(name, name)
    here = Path(__file__).resolve().parents[2] / "pages"
    return name if name.isidentifier() and (here / f"{name}.py").is_file() else "explore"


def _auth() -> object:
    """The operator's settings of a login, None for none. Secrets that cannot be read give empty ones: a mistake there
    must not let anybody pass for somebody by typing."""
    try:
        if st.secrets.load_if_toml_exists():
            return st.secrets.get("auth")
        return {} if any(os.path.exists(path) for path in st.get_option("secrets.files")) else None
    except (OSError, ValueError):
        return {}


def _name(user: Mapping[str, Any]) -> str:
    """What people call somebody. An e-mail address is shown to nobody, so only what stands before its @."""
    mail = str(user.get("email") or "") if user.get("email_verified") is True else ""
    for given in (user.get("name"), user.get("preferred_username"), mail):
        name = one_line(str(given or "").partition("@")[0])
        if name:
            return name
    return "Somebody"


def _first_name(mark: str, name: str) -> str:
    """The name that somebody came under first: what they kept is kept under it, whatever they are called today."""
    home = settings().data_dir or Path(platformdirs.user_data_dir("attnviz", appauthor=False))
    kept, partial = home / "people" / mark, home / "people" / f"{mark}.{secrets.token_hex(4)}"
    try:
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            kept.parent.chmod(0o700)  # also one that an earlier version made: names are nobody else's business
            partial.write_text(name, "utf-8")
            try:
                os.link(partial, kept)  # unless another session was first
            finally:
                partial.unlink()
    except OSError:
        pass  # without it a new name at the provider is a new person here: nothing is opened to anybody else
    try:
        return kept.read_text("utf-8") or name
    except (OSError, ValueError):
        return name
