"""Which texts: those that are here, pasted ones, or a file's; and what was understood of them before they are taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from typing import Any, cast

import streamlit as st

from attnviz import corpus
from attnviz.corpus import Reading
from attnviz.errors import InputError
from attnviz.models import Model
from attnviz.ui import say, work
from attnviz.ui.corpus.upload import upload
from attnviz.ui.jobs import Job
from attnviz.ui.measuring import own_corpus, shelf
from attnviz.ui.pickers import dropdown, held, segments
from attnviz.ui.session import act, select, selection

SOURCES = {"here": "Texts that are here", "paste": "Paste texts", "file": "Upload a file"}
_SOURCE, _SEEN, _DRAFT, _ASKED = (f"attnviz_corpus_{name}" for name in ("source", "seen", "draft", "asked"))
_EXAMPLE = "They come with AttnViz, to begin with: paste texts of your own, or upload a file."
_KEPT = "Whoever has this page's address can see them; they stay on this server until newer ones need the room."
_MOST_SEEN = 12  # corpora that a session's list names


def source_picker() -> str:
    """Where texts come from: one of SOURCES."""
    source: str = st.session_state.setdefault(_SOURCE, "here")
    segments(
        "Texts",
        SOURCES,
        source,
        key="corpus-source",
        use=_turn_to,
        label_visibility="collapsed",
    )
    return source


def texts_panel(model: Model, source: str) -> str:
    """The key of the corpus to look at; shows the way to others. Stops the page while there is none."""
    if source == "paste":
        _paste()
    elif source == "file":
        found = upload(pairs=model.family == "encoder-decoder")
        if found is not None:
            _taking(found.id, found.name, found.reading, found.share)
    key = _here(model, listed=source == "here")
    if not shelf().holds(key):
        say.problem(InputError("These texts are not here any more: they made room for newer ones. Add them again."))
        st.stop()
    known, own = shelf().about(key), own_corpus(pairs=model.family == "encoder-decoder")
    labels = [name for name in shelf().labels(key) if name]
    say.caption(
        f"{'' if source == 'here' else 'Shown below: '}{known.name}: {known.n:,} {'text' if known.n == 1 else 'texts'}"
        + (f", {len(labels)} {'label' if len(labels) == 1 else 'labels'}." if labels else "."),
        *known.notes,
        "They are read as they are, without the chat template." if selection().chat else "",
        _EXAMPLE if key == own else _KEPT,
    )
    return key


def corpora(model: Model) -> dict[str, str]:
    """The corpora that this session knows of, with the embedded one: key -> name and number of texts."""
    keys = [own_corpus(pairs=model.family == "encoder-decoder"), *st.session_state.get(_SEEN, [])[-_MOST_SEEN:]]
    keys += [key for key in (selection().corpus, selection().other_corpus) if key]
    known = [shelf().about(key) for key in dict.fromkeys(keys) if shelf().holds(key)]
    return {about.key: f"{about.name} ({about.n:,})" for about in known}


def as_jsonl(key: str) -> bytes:
    """A corpus as a file that `attnviz.corpus.read` takes: an object with text, label and pair on each line."""
    lines = (json.dumps(item._asdict(), ensure_ascii=False) for _, item in shelf().texts(key))
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _here(model: Model, *, listed: bool) -> str:
    """The corpus of the Selection, and where `listed` a list to choose another from."""
    own = own_corpus(pairs=model.family == "encoder-decoder")
    key = selection().corpus or own
    if not listed:
        return key
    names = corpora(model)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dropdown(
            "Texts that are here",
            names,
            key if key in names else None,
            key="corpus-choice",
            use=lambda key: _choose(key or own),
            words=lambda key: names.get(key, key),
            index=0 if key in names else None,
            placeholder="Choose texts",
            label_visibility="collapsed",
        )
        if key in names:
            st.download_button(
                "Texts as JSONL",
                lambda: as_jsonl(key),
                file_name="texts.jsonl",
                mime="application/jsonl",
                on_click="ignore",
                key="corpus-take-texts",
                icon=":material/download:",
                type="tertiary",
            )
    return key


def _choose(key: str) -> None:
    work.retry()
    select(corpus=key, labelled=None, first_label=None, other_label=None)


def _turn_to(source: str) -> None:
    act()
    st.session_state[_SOURCE] = source


def _paste() -> None:
    hold, words = (
        held(_DRAFT, "", key="corpus-paste"),
        "One text a line. What is typed here stays until you leave AttnViz.",
    )
    st.text_area("Texts, one a line", key="corpus-paste", height=160, placeholder=words, on_change=hold)
    typed = st.session_state.get(_DRAFT, "")
    _taking(
        lambda: ("paste", work.digest(st.session_state["corpus-paste"])),
        "Pasted texts",
        lambda: corpus.read(typed, kind="txt"),
        lambda: 0.0,
    )


def _taking(id: Callable[[], Hashable], name: str, reading: Callable[[], Reading], share: Callable[[], float]) -> None:
    """The button that puts texts on the shelf, and the work once it was pressed for these very texts.

    id      of the texts, as the widgets have them now: a press may come together with what was changed before it
    share   of the source that was read
    """

    def ask() -> None:
        act()
        work.retry()
        st.session_state[_ASKED] = id()

    st.button("Take these texts", on_click=ask, type="primary", key="corpus-take", icon=":material/check:")
    asked = id()
    if st.session_state.get(_ASKED) != asked:
        return

    def take(job: Job) -> str:
        texts = reading()

        def counted() -> Any:
            for n, item in enumerate(texts):
                if n % 100 == 0:
                    job.report(f"{n:,} texts", share())
                yield item

        try:
            return shelf().add(counted(), name, texts.notes)
        except InputError as error:
            said = " ".join([str(error), *texts.notes])
            raise InputError(said) from error

    key = cast(str, work.finished(("corpus-add", asked), "Reading texts", take, stopped="Stopped. No text was taken."))
    st.session_state.pop(_ASKED, None)
    st.session_state[_SOURCE] = "here"
    st.session_state.setdefault(_SEEN, []).append(key)
    select(corpus=key, labelled=None, first_label=None, other_label=None)
    st.rerun()
