"""The table of examples, what is wrong with its rows, and the ways to fill it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from attnviz.errors import InputError
from attnviz.models import Model
from attnviz.ui import say, texts
from attnviz.ui.gates.asking import joined, spaced
from attnviz.ui.gates.course import (
    MOST_CHARS,
    MOST_ROWS,
    Course,
    Row,
    add,
    change,
    complain,
    course,
    remark,
    remarked,
)
from attnviz.ui.gates.given import Brought, of_feedback, own, rows_of
from attnviz.ui.gates.keeping import load_field
from attnviz.ui.session import act

_TABLE, _PASTED, _FILE = "attnviz_gates_table", "gates-pasted", "gates-rows-file"
_FILE_BYTES = 4_000_000
_SAID = 5  # rows whose faults are listed
_COLUMNS = {"text": "The model reads", "answer": "Wanted answer", "foil": "Foil (what it should not say)"}


@dataclass
class _Table:
    """The rows that a table widget began with, the rows as it shows them now, and which widget of the session it is.

    Its own changes leave the widget as it is, so that typing goes on; rows that come from elsewhere make a new one.
    """

    base: tuple[Row, ...]
    now: tuple[Row, ...]
    number: int


def table(now: Course) -> None:
    """The rows, to be edited in place."""
    held: _Table | None = st.session_state.get(_TABLE)
    key = f"gates-rows-{held.number}" if held is not None else ""
    if held is None or held.now != now.rows or key not in st.session_state:
        held = _Table(now.rows, now.rows, 0 if held is None else held.number + 1)
        st.session_state[_TABLE] = held
        key = f"gates-rows-{held.number}"
    frame = pd.DataFrame([[row.text, row.answer, row.foil] for row in held.base], columns=list(MOST_CHARS), dtype=str)
    st.data_editor(
        frame,
        key=key,
        num_rows="dynamic",
        hide_index=True,
        height=248 if len(held.base) > 6 else "content",
        column_config={
            name: st.column_config.TextColumn(
                title, max_chars=MOST_CHARS[name], width="large" if name == "text" else None
            )
            for name, title in _COLUMNS.items()
        },
        on_change=_edited,
        args=(key,),
    )


def _edited(key: str) -> None:
    held: _Table = st.session_state[_TABLE]
    try:
        rows = applied(held.base, st.session_state[key])
    except InputError as error:
        complain(str(error))
        held.now = ()  # so that the table shows what is kept
        return
    held.now = rows
    change(rows=rows)


def applied(base: tuple[Row, ...], edits: Mapping[str, Any]) -> tuple[Row, ...]:
    """Rows after what `st.data_editor` says was edited, added and deleted; empty ones are left out.

    raises   InputError for a row that cannot be kept, or too many
    """
    cells = [row.model_dump() for row in base]
    for number, changed in edits.get("edited_rows", {}).items():
        cells[int(number)].update(changed)
    gone = set(edits.get("deleted_rows", ()))
    cells = [row for number, row in enumerate(cells) if number not in gone]
    cells += [dict(row) for row in edits.get("added_rows", ())]
    found = []
    for number, one in enumerate(cells, 1):
        try:
            row = Row(**{name: str(one.get(name) or "") for name in MOST_CHARS})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(f"Row {number}: {first.get('ctx', {}).get('error', first['msg'])}") from error
        if not row.empty:
            found.append(row)
    if len(found) > MOST_ROWS:
        raise InputError(f"At most {MOST_ROWS} examples are kept; these are {len(found)}.")
    return tuple(found)


def ways(model: Model, now: Course) -> None:
    """Buttons that fill the table, and empty it."""
    said, mine = of_feedback(), own(model)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        with st.popover("Paste or upload", icon=":material/content_paste:"):
            _brought(model)
        n = len(said)
        st.button(
            f"From your feedback ({n})",
            icon=":material/thumbs_up_down:",
            key="gates-feedback-rows",
            disabled=not n,
            on_click=lambda: add(of_feedback()),
            help="What you said was wanted, on any page where a prediction has “Right” and “Wrong” below it.",
        )
        st.button(
            f"AttnViz's own ({len(mine)})",
            icon=":material/auto_awesome:",
            key="gates-own",
            disabled=set(mine) <= set(now.rows),
            on_click=lambda: add(own(model)),
            help="Years of two digits, which are of the 1900s here, and some of four, which the model reads already."
            if model.family == "encoder-decoder"
            else "English: which verb agrees with its subject where another noun stands between. Small models get "
            "about half of them wrong.",
        )
        st.button(
            "Clear",
            icon=":material/delete:",
            key="gates-clear",
            disabled=not now.rows,
            on_click=change,
            kwargs={"rows": ()},
        )
        load_field()
        st.space("stretch")
        with st.container(width="content"):
            texts.share()


def _brought(model: Model) -> None:
    say.caption(
        "One example a line: text, answer and, if there is one, foil, divided by tabs or commas; or JSON Lines with "
        "text, answer and foil; or CSV with these names, or such as prompt and target, in the first line. They are put "
        "behind what is in the table."
    )
    with st.form("gates-paste", border=False, clear_on_submit=False):
        st.text_area(
            "Lines",
            key=_PASTED,
            height=130,
            placeholder="The keys to the cabinet, are, is",
            label_visibility="collapsed",
        )
        st.form_submit_button("Add these lines", on_click=_pasted, args=(model.family,))
    st.file_uploader(
        "A file: CSV, TSV, JSONL or TXT",
        ["csv", "tsv", "jsonl", "txt"],
        key=_FILE,
        on_change=_uploaded,
        args=(model.family,),
    )


def _pasted(family: str) -> None:
    try:
        _take(rows_of(str(st.session_state[_PASTED])), family)
    except InputError as error:
        complain(str(error))


def _uploaded(family: str) -> None:
    file = st.session_state.get(_FILE)
    if file is None:
        return
    try:
        if file.size > _FILE_BYTES:
            raise InputError(f"A file of examples has at most {_FILE_BYTES:,} bytes; this one has {file.size:,}.")
        _take(rows_of(file.getvalue().decode("utf-8-sig"), file.name[:80]), family)
    except UnicodeDecodeError:
        complain("The file is no UTF-8 text: save it as UTF-8, then choose it again.")
    except InputError as error:
        complain(str(error))


def _take(brought: Brought, family: str) -> None:
    remark(brought.remark)
    add(_fitting(brought.rows, family))


def _fitting(rows: list[Row], family: str) -> list[Row]:
    """A target begins where it begins; of what continues a text a space in front is part."""
    if family != "encoder-decoder":
        return rows
    return [row.model_copy(update={"answer": row.answer.strip(), "foil": row.foil.strip()}) for row in rows]


def remarks(model: Model, now: Course, wrong: Mapping[int, str]) -> None:
    """How a file was taken, which rows are left out and why, and answers that run on in the word before."""
    if words := remarked():
        st.info(say.plain(words), icon=":material/table_rows:")
    if not now.rows:
        say.caption(
            "Give the model a few corrections: a text, what should come next, and what should not. Type into the "
            "table, paste lines, take what you said by thumbs, or begin with AttnViz's own."
        )
        return
    good, n = len(now.rows) - len(wrong), len(now.rows)
    say.caption(
        f"{good} of {n} example{'s' * (n != 1)} can be learned from.",
        "The answer continues the text, so that a new word begins with a space." * (model.family == "decoder"),
        "Without a foil the answer alone is made likelier.",
    )
    if wrong:
        shown = [f"- {_named(number, now.rows[number])}: {say.plain(words)}" for number, words in wrong.items()][:_SAID]
        more = [f"- and {len(wrong) - _SAID} more"] * (len(wrong) > _SAID)
        st.warning("\n".join(["These rows are left out:", *shown, *more]), icon=":material/rule:")
    run_on = joined(model, now.rows)
    if run_on:
        first = now.rows[run_on[0]]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                say.plain(
                    f"In {len(run_on)} row{'s' * (len(run_on) != 1)} the answer has no space before it, so it runs on: "
                    f"“…{first.text[-20:]}{first.answer[:20]}”."
                )
            )
            st.button("Put a space there", key="gates-space", on_click=_space, args=(tuple(run_on),))


def _named(number: int, row: Row) -> str:
    start = row.text[:30] + "…" * (len(row.text) > 30)
    return f"Row {number + 1}" + (f" (“{say.plain(start)}”)" if start.strip() else "")


def _space(numbers: tuple[int, ...]) -> None:
    act()
    change(rows=tuple(spaced(row) if i in numbers else row for i, row in enumerate(course().rows)))
