"""The tables of the Gaze page: giving some, which column holds what, and taking them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from attnviz.corpus.reading import inspect
from attnviz.errors import InputError
from attnviz.human import Columns, guess_columns
from attnviz.human.gaze_columns import TIME_UNITS
from attnviz.ui import say, texts
from attnviz.ui.gaze.draft import Gaze, Table, change, complain, gaze, take, take_example
from attnviz.ui.session import act

_ROUND = "attnviz_gaze_round"  # a new uploader, empty again, after each one that was used
_UNIT_TITLES: dict[str | None, str] = {"ms": "milliseconds", "s": "seconds"}
_SHOWN = 4  # rows of a table


def tables(now: Gaze) -> None:
    """The tables, with ways to add, remove and understand them."""
    if not now.tables:
        _uploader()
        return
    for number, table in enumerate(now.tables):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{say.plain(table.name)}**", width="content")
            say.caption(_columns_words(table))
            st.space("stretch")
            opens = st.button(
                "Columns", icon=":material/view_column:", key=f"gaze-columns-{number}", type="tertiary", on_click=act
            )
            st.button(
                "Remove",
                icon=":material/delete:",
                key=f"gaze-remove-{number}",
                type="tertiary",
                on_click=_remove,
                args=(table.key,),
            )
        if opens:
            _columns_dialog(table)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        with st.popover("Add readers", icon=":material/add:"):
            _uploader()
        st.space("stretch")
        with st.container(width="content"):
            texts.share()
    if any(table.made_up for table in now.tables):
        st.info(
            "This example is made up: nobody read it, and times were drawn by lot, longer for longer words.",
            icon=":material/science:",
        )


def _uploader() -> None:
    key = f"gaze-files-{st.session_state.get(_ROUND, 0)}"
    st.file_uploader(
        "Reading times, a file for each reader or one for all",
        type=["csv", "tsv", "txt"],
        accept_multiple_files=True,
        key=key,
        on_change=_take,
        args=(key,),
    )
    st.button(
        "Try a made-up example",
        icon=":material/science:",
        key="gaze-example",
        on_click=take_example,
        help="Two made-up readers of six sentences.",
    )
    say.caption(
        "CSV or TSV with a row for each word: the sentence it is in, the word, and how long it was looked at in all; "
        "if there are several readers in a file, who read it. Columns are guessed from their names (ZuCo, eyekit, SR "
        "Data Viewer, GECO), and you can change them. Files stay on this server as long as texts do."
    )


def _take(key: str) -> None:
    act()
    files = st.session_state.get(key) or []
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
    take([(file.name, file.getvalue()) for file in files])


def _remove(key: str) -> None:
    change(tables=tuple(table for table in gaze().tables if table.key != key), at=0, reader="", of="")


def _columns_words(table: Table) -> str:
    columns = table.columns
    if columns is None:
        return "Its columns could not be guessed: press “Columns”."
    readers = "one reader, named as the file" if columns.reader is None else f"readers in “{columns.reader}”"
    return (
        f"sentences in “{' + '.join(columns.sentence)}”, words in “{columns.word}”, {_UNIT_TITLES[columns.unit]} in "
        f"“{columns.time}”, {readers}"
    )


@st.dialog("Which column holds what?", width="medium")
def _columns_dialog(table: Table) -> None:
    try:
        names, rows = list(table.header), inspect(table.file, header=True).rows[:_SHOWN]
    except InputError as error:
        say.problem(error)
        return
    now = table.columns or _likely(names)
    st.dataframe(list(rows), hide_index=True, key="gaze-preview")
    st.multiselect(
        "Sentence",
        names,
        [name for name in now.sentence if name in names],
        key="gaze-sentence",
        help="Several, where sentences are numbered anew in each text.",
    )
    left, right = st.columns(2)
    _choice(left, "Word", names, now.word, "word")
    _choice(right, "Time on the word, in all", names, now.time, "time")
    _choice(left, "Unit of time", TIME_UNITS, now.unit, "unit", _UNIT_TITLES)
    _choice(right, "Reader", [None, *names], now.reader, "reader", {None: "One reader, named as the file"})
    _choice(left, "Number of the word", [None, *names], now.word_id, "word_id", {None: "Rows are counted"})
    if st.button("Use these columns", type="primary", key="gaze-use", on_click=_use, args=(table.key,)):
        st.rerun()


def _choice(
    place: DeltaGenerator,
    title: str,
    options: Sequence[str | None],
    now: str | None,
    name: str,
    titles: Mapping[str | None, str] | None = None,
) -> None:
    index = options.index(now) if now in options else None
    words = titles or {}
    place.selectbox(title, list(options), index, key=f"gaze-{name}", format_func=lambda one: words.get(one, str(one)))


def _use(key: str) -> None:
    """The dialog's columns, for its table and for those that were read alike."""
    chosen: dict[str, Any] = {
        name: st.session_state.get(f"gaze-{name}") for name in ("word", "time", "unit", "reader", "word_id")
    }
    sentence = tuple(st.session_state.get("gaze-sentence") or ())
    now = gaze()
    table = next((one for one in now.tables if one.key == key), None)
    if table is None:
        return
    try:
        if not sentence or not chosen["word"] or not chosen["time"]:
            raise InputError("Sentences, words and times each need a column. Choose one for each.")
        columns = Columns(sentence, **chosen)
        columns.check(table.header)
        change(tables=tuple(_with(one, table, columns) for one in now.tables), at=0, reader="", of="")
    except InputError as error:
        complain(str(error))


def _with(one: Table, like: Table, columns: Columns) -> Table:
    alike = one.columns == like.columns and set(columns.names).issubset(one.header)
    return one.model_copy(update={"columns": columns}) if alike else one


def _likely(names: list[str]) -> Columns:
    """What a dialog starts from where not all columns could be guessed."""
    try:
        return guess_columns(names)
    except InputError:
        return Columns((), "", "")
