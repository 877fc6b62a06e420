"""A course: the examples that gates are learned from and how, as the page keeps them; and gates of a file."""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Annotated, Any

import streamlit as st
from pydantic import Field, model_validator

from attnviz.errors import InputError
from attnviz.gates import Example, Gates
from attnviz.gates.learning import Penalty
from attnviz.text import check_text
from attnviz.ui import drafts
from attnviz.ui.session import act
from attnviz.ui.work import retry

MOST_ROWS = 200
MOST_CHARS = {"text": 4_000, "answer": 200, "foil": 200}
MOST_STEPS = 200
MOST_BYTES = 2_000_000  # of a file of gates: those of the largest models take some hundred thousand
BATCH, PATIENCE = 8, 8  # of `gates.learn`
_PROBLEM, _REMARK = "attnviz_course_problem", "attnviz_course_remark"


class Row(drafts.Draft):
    """One line of the table; while somebody types, parts of it may be empty."""

    text: str = ""
    answer: str = ""
    foil: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Row:
        for name, most in MOST_CHARS.items():
            value = getattr(self, name)
            if value.strip():
                check_text(value, max_chars=most)
            elif len(value) > most:
                raise InputError(f"At most {most} characters.")
        return self

    @property
    def empty(self) -> bool:
        return not (self.text.strip() or self.answer.strip() or self.foil.strip())

    @property
    def example(self) -> Example:
        return Example(self.text, self.answer, self.foil)


class Course(drafts.Draft):
    """What is learned from, and how; see `attnviz.gates.learn`.

    loaded   a file of gates in base64, which is then shown in place of what is learned; "" for none
    """

    rows: Annotated[tuple[Row, ...], Field(max_length=MOST_ROWS)] = ()
    penalty: Penalty = "l1"
    weight: Annotated[float, Field(ge=0, le=10)] = 0.002
    lr: Annotated[float, Field(gt=0, le=1)] = 0.1
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 20
    held_out: Annotated[float, Field(ge=0.1, le=0.9)] = 0.3
    seed: Annotated[int, Field(ge=0, le=999_999)] = 0
    loaded: Annotated[str, Field(max_length=MOST_BYTES * 4 // 3 + 4)] = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of `gates.learn`, without the seed."""
        names = ("penalty", "weight", "lr", "steps", "held_out")
        return {name: getattr(self, name) for name in names} | {"batch": BATCH, "patience": PATIENCE}


def course() -> Course:
    """This session's."""
    return drafts.read(Course, "course")


def change(**parts: Any) -> None:
    """For callbacks: change parts of the course; one that cannot be kept is complained of when the page runs."""
    act()
    retry()
    try:
        drafts.keep("course", course().model_copy(update=parts))
    except InputError as error:
        complain(str(error))


def add(rows: list[Row]) -> None:
    """For callbacks: put rows behind those that are there, each once."""
    have = course().rows
    together = tuple(dict.fromkeys([*have, *rows]))
    if len(together) > MOST_ROWS:
        complain(f"At most {MOST_ROWS} examples are kept, and these would be {len(together)}: take some away first.")
        return
    change(rows=together)


def complain(words: str) -> None:
    """Keep a sentence for the page to say."""
    act()
    st.session_state[_PROBLEM] = words


def complaint() -> str:
    """What is to be said, once."""
    return str(st.session_state.pop(_PROBLEM, ""))


def remark(words: str) -> None:
    """Keep a sentence, which is no complaint, for the page to say."""
    st.session_state[_REMARK] = words


def remarked() -> str:
    """What is to be remarked, once."""
    return str(st.session_state.pop(_REMARK, ""))


def packed(data: bytes) -> str:
    """A file of gates, as `Course.loaded` holds it."""
    return base64.b64encode(data).decode("ascii")


def unpacked(loaded: str) -> Gates:
    """The gates of `Course.loaded`; InputError for what `Gates.save` did not write."""
    try:
        data = base64.b64decode(loaded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("The gates behind this link cannot be read: load their file again.") from error
    return read_gates(data)


def read_gates(data: bytes) -> Gates:
    """Gates from the bytes of a file; InputError for what `Gates.save` did not write."""
    if len(data) > MOST_BYTES:
        raise InputError(f"A file of gates has at most {MOST_BYTES:,} bytes here; this one has {len(data):,}.")
    with tempfile.TemporaryDirectory(prefix="attnviz-gates-") as folder:
        file = Path(folder) / "gates.safetensors"
        file.write_bytes(data)
        return Gates.load(file)
