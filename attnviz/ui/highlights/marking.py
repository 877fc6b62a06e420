"""The person's side of the Highlights page: the text, its question, its marks, and the study they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import streamlit as st
from pydantic import ValidationError
from streamlit.delta_generator import DeltaGenerator

from attnviz.errors import InputError
from attnviz.settings import settings
from attnviz.ui import say, texts
from attnviz.ui.components.marker import marker
from attnviz.ui.highlights.study import (
    BRUSHES,
    CUSTOM_STEP,
    Passage,
    Study,
    StudyFile,
    change,
    complain,
    keep,
    put,
    study,
    why_not,
)

_TEXT, _QUESTION, _BEFORE, _OF = "highlights-text", "highlights-question", "highlights-before", "highlights-of"
_FILE = "highlights-file"
_PLACES = {False: "After the text", True: "Before the text"}
_SHOWN = 48  # characters of a text in the list
_FILE_BYTES = 2_000_000


def text_form(now: Study, *, apart: bool) -> None:
    """The open text and its question, or empty boxes for the next one.

    apart   the model compares the text with the question, and does not read them together
    """
    passage = now.open
    of = None if passage is None else (passage.text, passage.question, passage.before)
    if st.session_state.get(_OF) != (now.at, of) or _TEXT not in st.session_state:
        st.session_state[_OF] = (now.at, of)
        st.session_state[_TEXT], st.session_state[_QUESTION], st.session_state[_BEFORE] = of or ("", "", False)
    with st.form("highlights-form", border=False):
        st.text_area(
            "Text to mark",
            key=_TEXT,
            height=88,
            max_chars=settings().max_chars,
            placeholder="Type or paste the text whose words you will mark.",
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            st.text_input(
                "Question about it, if you like",
                key=_QUESTION,
                max_chars=settings().max_chars,
                placeholder="Which words answer this?",
                help="This model predicts no words: what counts is how similar the text is to the question."
                if apart
                else "The model reads it too, on a line of its own. Only words of the text can be marked.",
            )
            if not apart:
                st.selectbox("It stands", list(_PLACES), key=_BEFORE, format_func=_PLACES.__getitem__, width=160)
            st.form_submit_button(
                "Use this text", on_click=_take, help="Another text starts without marks; another question keeps them."
            )


def _take() -> None:
    now = study()
    text, question = str(st.session_state[_TEXT]).strip(), str(st.session_state[_QUESTION]).strip()
    try:
        made = Passage(text=text, question=question, before=bool(st.session_state.get(_BEFORE)))
    except ValidationError as error:
        complain(why_not(error))
        return
    old = now.open
    if old is not None and old.text.strip() == made.text:
        asked_anew = (old.question, old.before) != (made.question, made.before)
        changed = old.changed or (old.revealed and asked_anew)
        made = made.model_copy(update={"marks": old.marks, "revealed": old.revealed, "changed": changed})
    keep(now.having(made).model_copy(update={"head": now.head}))


def marking(passage: Passage) -> None:
    """The words to mark, and whether the model's view was there first."""
    chips = passage.chips
    weights = dict(passage.marks)

    def on_mark(new: tuple[float, ...]) -> None:
        now = study().open
        if now is not None and len(now.chips) == len(new):
            put(now.with_weights(new))

    marker(
        [chip.label for chip in chips],
        [weights.get(chip.number, 0.0) for chip in chips],
        key="highlights-marker",
        brushes=BRUSHES,
        custom=CUSTOM_STEP,
        spaced=[chip.spaced for chip in chips],
        label="The text. Mark the words that matter.",
        idle="Mark the words that answer the question. Choose a brush, then click words or drag over them."
        if passage.question
        else "Mark the words that matter. Choose a brush, then click words or drag over them.",
        on_mark=on_mark,
    )
    if passage.changed:
        st.warning(
            "Marks or question were changed after the model's view was shown. So this text is looked at by itself, and "
            "is in no ranking of the study.",
            icon=":material/history:",
        )


def reveal(passage: Passage) -> None:
    """The button that shows the model's view, once there is something to agree with."""
    st.button(
        "Reveal",
        type="primary",
        icon=":material/visibility:",
        key="highlights-reveal",
        disabled=not passage.markable,
        on_click=_reveal,
        help="Runs the model and ranks every head by how well it agrees with your marks.",
    )
    say.caption(
        "Nothing of the model's is shown before you press Reveal, so that the marks are yours alone."
        if passage.markable
        else "Mark some words and leave others, then reveal what the model looks at."
    )


def _reveal() -> None:
    now = study().open
    if now is not None and now.markable:
        put(now.model_copy(update={"revealed": True}))


def texts_list(now: Study) -> Mapping[int, DeltaGenerator]:
    """The texts of the study: what they are for, and ways to open, remove, add, save and load them.

    returns   where each text's line stands, by number, for `say_roles`
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        n = len(now.passages)
        st.markdown(f"**The study: {n} text{'s' * (n != 1)}**" if n else "**No study yet**")
        if now.passages and now.at < len(now.passages):
            st.button(
                "Next text",
                icon=":material/add:",
                key="highlights-next",
                on_click=lambda: change(at=len(study().passages)),
                help="Keeps this text in the study. Heads are named only by what they do on texts held out.",
            )
        with st.popover("Save or load", icon=":material/folder_open:"):
            _files(now)
        st.space("stretch")
        with st.container(width="content"):
            texts.share()
    lines = {}
    for number in range(len(now.passages)):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            lines[number] = st.empty()
            if number != now.at:
                st.button(
                    "Open",
                    key=f"highlights-open-{number}",
                    type="tertiary",
                    icon=":material/edit:",
                    on_click=lambda number=number: change(at=number),
                )
            st.button(
                "Remove",
                key=f"highlights-remove-{number}",
                type="tertiary",
                icon=":material/delete:",
                on_click=lambda number=number: keep(study().without(number)),
            )
    say_roles(now, lines, now.ready, now.held(now.ready))
    return lines


def say_roles(now: Study, lines: Mapping[int, DeltaGenerator], numbers: Sequence[int], held: Collection[int]) -> None:
    """Each text in its line, with what it is for: `numbers` are ranked by, and `held` out of these."""
    for number, line in lines.items():
        one = now.passages[number]
        start = one.text[:_SHOWN] + "…" * (len(one.text) > _SHOWN)
        told = f"{len(one.marks)} of {len(one.chips)} words marked, {_role(one, number, numbers, held)}"
        with line:
            say.caption(f"{'▸ ' if number == now.at else ''}{number + 1}. {start} ({told})")


def _role(one: Passage, number: int, numbers: Sequence[int], held: Collection[int]) -> str:
    if not one.revealed:
        return "not revealed, so in no ranking"
    if not one.markable:
        return "nothing to agree with, so in no ranking"
    if one.changed:
        return "changed after the reveal, so in no ranking"
    if number in numbers:
        return "held out" if number in held else "heads are chosen by it"
    return "not in this ranking"


def _files(now: Study) -> None:
    if now.passages:
        st.download_button(
            "Save the study",
            StudyFile(passages=now.passages).model_dump_json(indent=1),
            file_name="attnviz-study.json",
            mime="application/json",
            on_click="ignore",
            key="highlights-save",
        )
    st.file_uploader("Load a study", type="json", key=_FILE, on_change=_load)
    say.caption(
        "A JSON file with texts, questions and marks. Loading one takes the place of this study; Back undoes it."
    )


def _load() -> None:
    file = st.session_state.get(_FILE)
    if file is None:
        return
    try:
        if file.size > _FILE_BYTES:
            raise InputError(f"A study has at most {_FILE_BYTES:,} bytes; this file has {file.size:,}.")
        keep(Study(passages=StudyFile.model_validate_json(file.getvalue()).split))
    except ValidationError as error:
        complain(f"This file is no study saved here: {why_not(error)} Choose another one.")
    except InputError as error:
        complain(str(error))
