"""One person's session: the Selection in session and URL, and the server's stores behind it."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import streamlit as st

from attnviz.settings import settings
from attnviz.trace import Trace
from attnviz.ui.selection import SAVED, Selection
from attnviz.ui.stores import ModelPool, TextStore, TraceCache

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_SELECTION, _URL, _NOTES = "attnviz_selection", "attnviz_url", "attnviz_notes"
_ACTED, _LATE = "attnviz_acted", "attnviz_late_url"
_PAGE, _ENDED, _LEFT = "attnviz_page", "attnviz_run_ended", "attnviz_left_urls"
_LEFT_SECONDS = 10.0  # how long an address that was replaced is remembered
_QUEUED_SECONDS = 0.5  # a run that starts so soon after another was asked for before that one ended
DRAFTS = ("study", "gaze", "course", "plan", "feedback")  # fields of the Selection that hold keys of drafts
TEXTS = ("text", "other", "second", "filling", "donor")  # and of texts
_NO_PLACE: dict[str, Any] = {
    "query": None,
    "key": None,
    "queries": (),
    "keys": (),
    "sunk": (),
    "window": None,
    "emphasised": (),
    "ignored": (),
}
_NO_HEAD: dict[str, Any] = {
    "layer": None,
    "head": None,
    "site": None,
    "heads": (),
    "later_layer": None,
    "later_head": None,
}
_NO_TARGET: dict[str, Any] = {"goal": None, "level": None, "answer": None, "foil": None}


@dataclass(frozen=True)
class Stores:
    texts: TextStore
    models: ModelPool
    traces: TraceCache
    saved: TraceCache


@st.cache_resource(show_spinner=False)
def stores() -> Stores:
    """The server's stores, made once and shared by all sessions."""
    limits = settings()
    traces = TraceCache(limits.trace_cache_bytes)
    return Stores(
        texts=TextStore(limits.text_store_bytes, limits.text_hours * 3600),
        models=ModelPool(limits.models_held, let_go=traces.drop_model),
        traces=traces,
        saved=TraceCache(limits.trace_cache_bytes),
    )


@cache
def examples() -> list[dict[str, str]]:
    """The example texts: id, title, text, hint."""
    return cast(list[dict[str, str]], json.loads((_ASSETS / "examples.json").read_text("utf-8")))


def selection() -> Selection:
    """This session's Selection. An address typed, reloaded or gone back to wins over what the session held."""
    params = {name: st.query_params[name] for name in st.query_params}
    known = (st.session_state.get(_URL), *st.session_state.get(_LATE, ()))
    if _SELECTION not in st.session_state or (params and params not in known):
        shared = {name: params.pop(f"with_{name}", "")[: settings().max_chars] for name in TEXTS}
        chosen, problems = Selection.from_params(params)
        for name in (*TEXTS, *DRAFTS):
            key = getattr(chosen, name)
            saved = name == "text" and chosen.model == SAVED
            kept = stores().saved.get((SAVED, key)) if saved else stores().texts.get(key)
            if key and kept is None:
                problems.append(f"the {name} behind this link is no longer kept here")
                chosen = replace(
                    chosen, **({**_NO_PLACE, **_NO_HEAD, **_NO_TARGET, "text": ""} if name == "text" else {name: ""})
                )
                chosen = replace(chosen, model="") if saved else chosen
        if chosen.model == SAVED and not chosen.text:
            chosen = replace(chosen, model="")
        for name, text in shared.items():
            if text:
                chosen = replace(chosen, **{name: stores().texts.put(text)})  # type: ignore[arg-type]
        note(*problems)
        show(chosen)
    return cast(Selection, st.session_state[_SELECTION])


def model_name() -> str:
    """The name of the model that this session looks at, as far as it is known without reading the address."""
    chosen = st.session_state[_SELECTION] if _SELECTION in st.session_state else Selection()
    return chosen.model or settings().default_model


def show(chosen: Selection) -> None:
    """Make `chosen` what this session looks at, and put it in the URL."""
    st.session_state[_SELECTION] = chosen
    params = chosen.to_params()
    if st.session_state.get(_URL) != params:
        left = [(when, url) for when, url in st.session_state.get(_LEFT, []) if _remembered(when)]
        st.session_state[_LEFT] = [*left, (time.monotonic(), st.session_state.get(_URL))]
    st.session_state[_URL] = params
    if {name: st.query_params[name] for name in st.query_params} != params:
        st.query_params.from_dict(params)


def begin_run() -> None:
    """Call first in a run: an address that comes with it may be late, and the session's own changes come first.

    So it is in a run that a widget started, and in one that was asked for while the run before was still under way.
    """
    late = []
    if st.session_state.pop(_ACTED, False):
        late.append({name: st.query_params[name] for name in st.query_params})
    ended = st.session_state.get(_ENDED, 0.0)  # None: it was cut short
    if ended is None or time.monotonic() - ended < _QUEUED_SECONDS:
        late += [url for when, url in st.session_state.get(_LEFT, []) if _remembered(when)]
    st.session_state[_LATE] = late
    st.session_state[_ENDED] = None


def end_run() -> None:
    """Call last in a run: it was not cut short by the next one."""
    st.session_state[_ENDED] = time.monotonic()


def _remembered(when: float) -> bool:
    return time.monotonic() - when < _LEFT_SECONDS


def page(name: str = "") -> str:
    """The page that is shown; with a name, from now on that one."""
    if name:
        st.session_state[_PAGE] = name
    return str(st.session_state.get(_PAGE, ""))


def act() -> None:
    """Say in a widget's callback that this run is a person's doing on the page, not in the address."""
    st.session_state[_ACTED] = True


def select(**changes: Any) -> None:
    """Change parts of the Selection; what a new model, text, site or unit makes meaningless starts afresh."""
    act()
    chosen = st.session_state[_SELECTION] if _SELECTION in st.session_state else selection()

    def new(*names: str) -> bool:
        return any(changes.get(name, getattr(chosen, name)) != getattr(chosen, name) for name in names)

    if new("model"):
        changes = {**_NO_PLACE, **_NO_HEAD, **_NO_TARGET, "chat": False, **changes}
    elif new("text", "chat"):
        changes = {**_NO_PLACE, **_NO_TARGET, **changes}
    elif new("site"):
        changes = {**_NO_PLACE, **_NO_HEAD, **changes}
    elif new("other"):  # of an encoder-decoder, the target: other queries
        changes = {"queries": (), "window": None, **_NO_TARGET, **changes}
    elif new("unit"):
        changes = {"window": None, **changes}
    # The address follows when the page opens: writing it here could end the callback, and those after it with it.
    st.session_state[_SELECTION] = replace(chosen, **changes)


def note(*problems: str) -> None:
    """Keep what could not be taken from the address, to be said once on the page."""
    st.session_state.setdefault(_NOTES, []).extend(problems)


def take_notes() -> list[str]:
    return cast(list[str], st.session_state.pop(_NOTES, []))


def text_of(key: str) -> str:
    return stores().texts.get(key) or ""


def saved_trace() -> Trace | None:
    """The opened trace file that this session looks at, if it looks at one."""
    chosen = selection()
    return stores().saved.get((SAVED, chosen.text)) if chosen.model == SAVED else None


def keep_saved(trace: Trace) -> bool:
    """Look at a trace from a file, if there is room for it; its key stands in the address, as a text's does."""
    key = secrets.token_urlsafe(16)
    fits = stores().saved.put((SAVED, key), trace.compact())
    if fits:
        select(model=SAVED, text=key, other="")
    return fits


def fitting_example(model: str) -> None:
    """If the text is an example made for another model, take this model's own: nobody's typing is lost."""
    mine = [example["text"] for example in examples() if example.get("model", "") in (model, "")]
    own = [example["text"] for example in examples() if example.get("model") == model]
    text = text_of(selection().text)
    if any(text == example["text"] for example in examples()) and text not in (own or mine):
        select(text=stores().texts.put((own or mine)[0]), other="")
