"""A file of texts that somebody chose: how it is read, its first rows, and which column is what."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from attnviz import corpus
from attnviz.corpus import Layout, Reading
from attnviz.corpus.reading import KINDS
from attnviz.corpus.tables import ALONE, DELIMITERS
from attnviz.errors import InputError
from attnviz.ui import say
from attnviz.ui.session import act
from attnviz.ui.uploads import check_upload, most_megabytes

_LAYOUT = "attnviz_corpus_layout"
_AUTO = "by itself"
_NONE = "none"
_HEADERS = {_AUTO: None, "names the columns": True, "is a text": False}
_ASKED = ("kind", "mark", "header", "text", "label", "pair")  # widgets
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Upload:
    """A file as it is to be read.

    id        of the file and of the way it is read, as the widgets have them when it is called
    reading   makes its texts, read from the start
    share     how much of it was read
    """

    id: Callable[[], Hashable]
    name: str
    reading: Callable[[], Reading]
    share: Callable[[], float]


def upload(*, pairs: bool) -> Upload | None:
    """The chosen file once it can be read; shows what was understood of it, and asks for its columns.

    pairs   ask for the column of what a decoder reads, too
    """
    file = st.file_uploader(
        "A file of texts",
        key="corpus-file",
        on_change=act,
        help="TXT with a text on each line, CSV, TSV, JSONL or Parquet, with a text in each row.",
        max_upload_size=most_megabytes(),
    )
    if file is None:
        say.caption(
            "TXT with a text on each line; CSV, TSV, JSONL or Parquet with a text in each row, and if there is one a "
            "label. You see what was understood before anything is taken."
        )
        return None
    options = _options(file.file_id)
    try:
        check_upload(file)
        data = file.getvalue()
        layout = _inspected(file.file_id, file.name, data, options)
    except InputError as error:
        say.problem(error)
        return None
    _understood(layout)
    columns = _columns(layout, file.file_id, pairs=pairs)
    if pairs and "pair" not in columns:
        say.caption("Without a second text for the decoder this model leaves every text out.")
    stream = io.BytesIO(data)  # shares the bytes
    options = options | {"kind": layout.kind}
    return Upload(
        id=lambda: (file.file_id, *(st.session_state.get(f"corpus-{name}-{file.file_id}") for name in _ASKED)),
        name=file.name[:200],
        reading=partial(corpus.read, stream, **options, **columns),
        share=lambda: 0.0 if stream.closed else stream.tell() / max(len(data), 1),
    )


def _options(file_id: str) -> dict[str, Any]:
    """How to read the file, where it should not be found out."""
    marks = {name.capitalize(): mark for mark, name in DELIMITERS.items()}
    with st.expander("Read it in another way"), st.container(horizontal=True):
        kind = st.selectbox("Kind", [_AUTO, *KINDS], key=f"corpus-kind-{file_id}", format_func=_kind_words)
        mark = st.selectbox("Columns are divided by", [_AUTO, *marks], key=f"corpus-mark-{file_id}")
        header = st.selectbox("The first row", list(_HEADERS), key=f"corpus-header-{file_id}")
    return {
        "kind": None if kind == _AUTO else kind,
        "delimiter": None if mark == _AUTO else marks[mark],
        "header": _HEADERS[header],
    }


def _kind_words(kind: str) -> str:
    return kind if kind == _AUTO else {"jsonl": "JSONL", "parquet": "Parquet"}.get(kind, kind.upper())


def _inspected(file_id: str, name: str, data: bytes, options: dict[str, Any]) -> Layout:
    """How the file would be read; kept, since a large file's encoding takes a while to find."""
    id = (file_id, *options.items())
    known: tuple[Hashable, Layout] | None = st.session_state.get(_LAYOUT)
    if known is not None and known[0] == id:
        return known[1]
    stream = io.BytesIO(data)
    stream.name = name
    layout = corpus.inspect(stream, **options)
    st.session_state[_LAYOUT] = id, layout
    return layout


def _understood(layout: Layout) -> None:
    """The first rows, and what was found out."""
    words = [f"Read as {_kind_words(layout.kind)}"]
    words += [layout.encoding.upper()] if layout.encoding else []
    words += {ALONE: ["one column"], ",": ["columns divided by a comma"]}.get(layout.delimiter, [])  # others are noted
    st.dataframe(list(layout.rows[:_SHOWN]), hide_index=True, key="corpus-preview")
    say.caption(f"{', '.join(words)}. These are the first rows.", *layout.notes)


def _columns(layout: Layout, file_id: str, *, pairs: bool) -> dict[str, Any]:
    """The chosen columns: text, and where they are asked for label and pair."""
    if len(layout.columns) == 1:
        return {"text": layout.columns[0]}
    names = list(layout.columns)
    with st.container(horizontal=True):
        text = st.selectbox("Texts", names, index=names.index(layout.text), key=f"corpus-text-{file_id}")
        label = _optional("Labels to split by", names, f"corpus-label-{file_id}")
        pair = _optional("What the decoder reads", names, f"corpus-pair-{file_id}") if pairs else None
    chosen = {"text": text, "label": label, "pair": pair}
    return {what: name for what, name in chosen.items() if name is not None}


def _optional(title: str, names: list[str], key: str) -> str | None:
    return st.selectbox(title, names, index=None, key=key, placeholder="None")
