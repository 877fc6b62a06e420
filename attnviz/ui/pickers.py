"""Widgets to choose by, each bound to what keeps the choice: the Selection, or the session.

The widget shows `current` on every run, whatever it held before: the choice may have come from the address. `use` is
called with the new choice in the widget's callback, before the page runs again. Options that are a mapping have their
titles in it, others are called by `words`. `looks` go to the widget as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

from attnviz.embedded import EMBEDDED
from attnviz.tokens import Token
from attnviz.ui import work
from attnviz.ui.session import select, selection

_T = TypeVar("_T")
_Use = Callable[[Any], None]
_Say = Callable[[_T], str] | None
_MOST_CHARS, _MOST_OPENED = 300, 8  # of a model's name; models of this session that a list has


def segments(
    title: str,
    options: Iterable[_T],
    current: _T | None,
    *,
    key: str,
    use: _Use,
    words: _Say[_T] = None,
    free: bool = False,
    apart: bool = False,
    **looks: Any,
) -> None:
    """One of a few, side by side.

    free    it can be switched off: `use` then gets None; else what is switched off stays what it is
    apart   with room between, for a dozen or so
    """
    st.session_state[key] = current

    def chose() -> None:
        found = st.session_state[key]
        use(current if found is None and not free else found)

    widget: Callable[..., Any] = st.pills if apart else st.segmented_control
    widget(title, list(options), key=key, format_func=_titles(options, words), on_change=chose, **looks)


def dropdown(
    title: str, options: Iterable[_T], current: _T | None, *, key: str, use: _Use, words: _Say[_T] = None, **looks: Any
) -> None:
    """One of many; with `index=None` also none of them."""
    st.session_state[key] = current

    def chose() -> None:
        use(st.session_state[key])

    st.selectbox(title, list(options), key=key, format_func=_titles(options, words), on_change=chose, **looks)


def pills(title: str, options: Mapping[_T, str], chosen: Iterable[_T], *, key: str, use: _Use, **looks: Any) -> None:
    """Any of a few; `use` gets a tuple of them in the order of the options."""
    st.session_state[key] = list(chosen)

    def chose() -> None:
        use(tuple(option for option in options if option in st.session_state[key]))

    titles = options.__getitem__
    st.pills(title, list(options), key=key, selection_mode="multi", format_func=titles, on_change=chose, **looks)


def _titles(options: Iterable[_T], words: _Say[_T]) -> Callable[[_T], str]:
    return words or (options.__getitem__ if isinstance(options, Mapping) else str)


def tokens_picker(
    title: str,
    tokens: Sequence[Token],
    chosen: Iterable[int],
    *,
    key: str,
    use: Callable[[tuple[int, ...]], None],
    **looks: Any,
) -> None:
    """Any of a text's tokens; `use` gets their positions, ascending."""
    st.session_state[key] = [i for i in chosen if i < len(tokens)]
    st.multiselect(
        title,
        range(len(tokens)),
        key=key,
        format_func=lambda i: f"{i} {tokens[i].text}",
        on_change=lambda: use(tuple(sorted(st.session_state[key]))),
        **looks,
    )


def detector_picker(title: str, titles: Mapping[str, str], current: str, *, key: str, help: str | None = None) -> None:
    """What heads are measured by."""
    dropdown(title, titles, current, key=key, use=lambda name: select(detector=name), help=help, width=220)


def share_slider(title: str, *, key: str, help: str) -> None:
    """How much of the attention is drawn, in percent of all."""
    st.session_state[key] = round(selection().share * 100)

    def moved() -> None:
        select(share=st.session_state[key] / 100)

    st.slider(title, 5, 100, step=1, format="%d%%", key=key, help=help, on_change=moved)


def held(name: str, start: Any, *, key: str) -> Callable[[], None]:
    """Show in the widget `key` what the session holds as `name`, or `start`; gives its callback, which keeps the next.

    For what no address keeps: a widget alone forgets when another page is shown.
    """
    st.session_state[key] = st.session_state.get(name, start)

    def hold() -> None:
        st.session_state[name] = st.session_state[key]

    return hold


def other_model(title: str, *, key: str, but: str = "", **also: Any) -> None:
    """The model to compare with: an embedded one, one opened in this session, or any that is named.

    but    a model that is not offered
    also   what else of the Selection a choice changes
    """
    current = selection().other_model
    opened: list[str] = st.session_state.get("models-opened", [])
    names = dict.fromkeys([*EMBEDDED, *opened[-_MOST_OPENED:], current])
    options = [name for name in names if name and name != but]

    def chose(name: str | None) -> None:
        work.retry()
        select(other_model=(name or "").strip()[:_MOST_CHARS], **also)

    dropdown(
        title,
        options,
        current if current in options else None,
        key=key,
        use=chose,
        words=lambda name: EMBEDDED[name].title if name in EMBEDDED else name,
        index=None,
        accept_new_options=True,
        placeholder="Choose one, or type a Hugging Face id or a folder",
    )
