"""Which tables of reading times a person gave, and what of them is looked at: the draft `gaze`.

The draft holds keys: each table is a text of its own in the server's store, so that a click does not keep it anew.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

import streamlit as st
from pydantic import Field, model_validator

from attnviz.corpus.reading import inspect
from attnviz.errors import InputError
from attnviz.human import Columns, Reading, guess_columns, languages, read_gaze
from attnviz.human.gaze import header
from attnviz.human.gaze_scores import GAZE_METHODS
from attnviz.settings import settings
from attnviz.ui import drafts
from attnviz.ui.session import act, stores, text_of
from attnviz.ui.work import retry

HEAD = "head"  # one head, rather than a method
Sink = Literal["in", "out"]
Kind = Literal["raw", "partial"]
_MOST, _MOST_NAME = 20, 100  # tables, and characters of a name
_PROBLEM, _READ = "attnviz_gaze_problem", "attnviz_gaze_read"
_EXAMPLE = Path(__file__).resolve().parents[3] / "assets" / "gaze_example.csv"
Name = Annotated[str, Field(max_length=_MOST_NAME)]


class Table(drafts.Draft):
    """One file.

    name      as it was uploaded, with its ending
    key       of its text in the server's store
    columns   None where they could not be guessed
    """

    name: Annotated[str, Field(min_length=1, max_length=_MOST_NAME)]
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
    columns: Columns | None = None

    @property
    def text(self) -> str:
        """InputError where it is kept no longer."""
        text = text_of(self.key)
        if not text:
            raise InputError(f"The table {self.name} is no longer kept here. Remove it, and upload it again.")
        return text

    @property
    def made_up(self) -> bool:
        return text_of(self.key) == example()

    @property
    def file(self) -> BinaryIO:
        """Lone surrogates, which no file holds, become question marks."""
        return named(self.text.encode("utf-8", "replace"), self.name)

    @property
    def header(self) -> tuple[str, ...]:
        return header(self.file)

    def readings(self) -> tuple[Reading, ...]:
        if self.columns is None:
            raise InputError(f"Say which column of {self.name} holds what: press “Columns”.")
        return read_gaze(self.file, self.columns)


class Gaze(drafts.Draft):
    """Tables, and what is looked at.

    at        number of the sentence that is played; reader: who reads it, "" for the first who did
    beside    whose word scores stand beside it: HEAD, or one of the methods
    sink      whether the first token and special tokens are left in what the model pays
    measure   what the map of heads shows; of: of whom, "" for all readers
    number    sentences that are correlated, spread over the table; 0 for all
    language  of the frequencies behind the words' rarity
    """

    tables: Annotated[tuple[Table, ...], Field(max_length=_MOST)] = ()
    at: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    reader: Name = ""
    beside: str = "mean"
    sink: Sink = "out"
    measure: Kind = "partial"
    of: Name = ""
    number: Literal[20, 60, 0] = 20
    language: str = "en"

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.beside not in (HEAD, *GAZE_METHODS) or self.language not in languages():
            raise InputError("Beside a reading stands a head or a known method, in a language with frequencies.")
        if len({Path(one.name).stem for one in self.tables}) < len(self.tables):
            raise InputError("Each table has a name of its own.")
        return self


@cache
def example() -> str:
    """Two made-up readers of six sentences of the app's own."""
    return _EXAMPLE.read_text("utf-8")


def gaze() -> Gaze:
    """This session's."""
    return drafts.read(Gaze, "gaze")


def change(**parts: Any) -> None:
    """For callbacks: change parts of the draft; one that cannot be kept is complained of when the page runs."""
    act()
    retry()
    try:
        drafts.keep("gaze", gaze().model_copy(update=parts))
    except InputError as error:
        complain(str(error))


def complain(words: str) -> None:
    """Keep a sentence for the page to say."""
    act()
    st.session_state[_PROBLEM] = words


def complaint() -> str:
    """What is to be said, once."""
    return str(st.session_state.pop(_PROBLEM, ""))


def take(files: Sequence[tuple[str, bytes]]) -> None:
    """For callbacks: add these files, (name, bytes), as tables; own ones take the place of the example."""
    kept = [table for table in gaze().tables if not table.made_up]
    texts = [text_of(table.key) for table in kept]
    try:
        for name, data in files:
            text, columns = opened(name, data)
            if text in texts:
                continue  # the same file again
            texts.append(text)
            if len(texts) > _MOST or sum(map(len, texts)) > most_chars() * 3:
                raise InputError(
                    f"{_MOST} tables at most, with {most_chars() * 3:,} characters together, can be kept here. Remove "
                    "some first, or leave out columns that are not needed."
                )
            kept.append(Table(name=_own_name(name, kept), key=stores().texts.put(text), columns=columns))
    except InputError as error:
        complain(str(error))
        return
    change(tables=tuple(kept), at=0, reader="", of="")


def take_example() -> None:
    """For callbacks: the made-up readers, alone."""
    key = stores().texts.put(example())
    columns = guess_columns(header(named(example().encode(), _EXAMPLE.name)))
    change(tables=(Table(name=_EXAMPLE.name, key=key, columns=columns),), at=0, reader="", of="", number=0)


def opened(name: str, data: bytes) -> tuple[str, Columns | None]:
    """(a file's text, its columns as far as their names tell); InputError for what is no table, and too large ones."""
    if len(data) > 4 * most_chars():
        raise InputError(
            f"{name:.80} has {len(data):,} bytes, and at most {4 * most_chars():,} can be kept here: split it, or "
            "leave out columns that are not needed."
        )
    known = header(named(data, name))
    encoding = inspect(named(data, name), header=True).encoding
    text = data.decode(encoding, "replace")
    if len(text) > most_chars():
        raise InputError(
            f"{name:.80} has {len(text):,} characters, and at most {most_chars():,} can be kept here: split it, or "
            "leave out columns that are not needed."
        )
    try:
        return text, guess_columns(known)
    except InputError:
        return text, None


def most_chars() -> int:
    """Of one table: a tenth of what the store holds, at four bytes a character."""
    return settings().text_store_bytes // 40


def named(data: bytes, name: str) -> BinaryIO:
    """An open file that says its name: its ending tells its kind, and its stem a reader without a column."""
    file = io.BytesIO(data)
    file.name = name
    return file


def readings_of(draft: Gaze) -> tuple[Reading, ...]:
    """All tables' readings; InputError, with the table's name, for one that cannot be read."""
    known: tuple[tuple[Table, ...], tuple[Reading, ...]] | None = st.session_state.get(_READ)
    if known is None or known[0] != draft.tables:
        found: list[Reading] = []
        for table in draft.tables:
            try:
                found += table.readings()
            except InputError as error:
                raise InputError(f"{table.name}: {error}" if len(draft.tables) > 1 else str(error)) from error
        known = st.session_state[_READ] = draft.tables, tuple(found)
    return known[1]


def _own_name(name: str, others: Sequence[Table]) -> str:
    """A file's name that no other table's reader would have too."""
    path = Path("".join(c for c in Path(name).name if c.isprintable()))
    stem, ending = path.stem[: _MOST_NAME - 20] or "table", path.suffix[:8]
    taken, number, own = {Path(one.name).stem for one in others}, 2, stem
    while own in taken:
        own, number = f"{stem} ({number})", number + 1
    return f"{own}{ending}"
