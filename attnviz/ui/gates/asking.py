"""What the Gates page is asked: a model, the examples it can read, and how to learn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from attnviz.errors import AttnvizError, InputError, TextError
from attnviz.gates import Example
from attnviz.gates.examples import asked as read_by
from attnviz.gates.learning import Penalty
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.ui import say, work
from attnviz.ui.gates.course import MOST_STEPS, Course, Row, change
from attnviz.ui.pickers import segments
from attnviz.ui.session import selection

PENALTIES: dict[Penalty, str] = {"l1": "Few heads", "l2": "All, a little"}
_PENALTY_WORDS: dict[Penalty, str] = {
    "l1": "A gate stays at exactly 1 unless turning it down helps by more than it costs (L1).",
    "l2": "Every gate is drawn back to 1, the more so the further it is (L2).",
}
MOST_TOKENS = 256  # of an example: slopes take the memory of several runs of all examples of a step
_CHECKED = "attnviz_gates_checked"


@dataclass(frozen=True, eq=False)
class Asked:
    """name: of the model in the pool, the start of every cache key. rows: those that can be learned from."""

    name: str
    model: Model
    course: Course
    rows: tuple[Row, ...]

    @property
    def examples(self) -> list[Example]:
        return [row.example for row in self.rows]

    @property
    def texts(self) -> int:
        return len({row.text for row in self.rows})

    def key(self, seed: int) -> tuple[object, ...]:
        """What tells what is learned with this seed from all else."""
        return (self.name, "gates", work.digest(repr((self.rows, self.course.settings))), seed)


def asked(model: Model, now: Course) -> tuple[Asked, dict[int, str]]:
    """(what can be learned from, what is wrong with the other rows by their numbers from 0).

    raises   InputError for a model whose heads cannot be gated, or that predicts no tokens
    """
    if not model.layout.exact:
        raise InputError(f"{model.name} is view-only, so its heads cannot be gated: {model.info.reason}.")
    if not model.has_vocabulary:
        raise InputError(
            f"Gates are learned from tokens that a model predicts, and {model.name} predicts none. Choose another one "
            "at the left."
        )
    name = selection().model or settings().default_model
    id = (name, work.digest(repr(now.rows)))
    known: tuple[object, dict[int, str]] | None = st.session_state.get(_CHECKED)
    wrong = known[1] if known is not None and known[0] == id else wrong_rows(model, now.rows)
    st.session_state[_CHECKED] = (id, wrong)
    return Asked(name, model, now, tuple(row for i, row in enumerate(now.rows) if i not in wrong)), wrong


def wrong_rows(model: Model, rows: tuple[Row, ...]) -> dict[int, str]:
    """Why rows cannot be learned from, by their numbers from 0."""
    found = {}
    for number, row in enumerate(rows):
        try:
            if not row.text.strip():
                raise TextError("there is no text.")
            if not row.answer.strip():
                raise TextError("there is no answer.")
            length = len(model.encode(row.text).ids)
            if length > MOST_TOKENS:
                raise TextError(f"the text has {length:,} tokens, and at most {MOST_TOKENS} can be learned from.")
            read_by(model, [row.example])
        except AttnvizError as error:
            found[number] = str(error).removeprefix("Example 1: ")
    return found


def joined(model: Model, rows: tuple[Row, ...]) -> list[int]:
    """Rows whose answer runs on in the text's last word, which is seldom meant."""
    if model.family != "decoder":
        return []
    return [
        number
        for number, row in enumerate(rows)
        if row.text[-1:].isalnum() and any(one[:1].isascii() and one[:1].isalnum() for one in (row.answer, row.foil))
    ]


def spaced(row: Row) -> Row:
    """With a space before answer and foil."""
    parts = {name: getattr(row, name) for name in ("answer", "foil")}
    return row.model_copy(update={name: f" {one}" if one[:1].isalnum() else one for name, one in parts.items()})


def settings_fields(now: Course) -> None:
    """How to learn, in plain words."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        segments(
            "What may change",
            PENALTIES,
            now.penalty,
            key="gates-penalty",
            use=lambda name: change(penalty=name),
            help="Turning a head down costs something, so that no more is changed than the examples ask for.",
        )
        _number(
            "Cost of change",
            "weight",
            now.weight,
            0.0,
            10.0,
            0.001,
            "%.4g",
            "For a head that is closed, in nats. 0: no cost.",
        )
        _number(
            "Most steps", "steps", now.steps, 1, MOST_STEPS, 5, "%d", "Learning stops before, once nothing improves."
        )
        _number(
            "Learning rate", "lr", now.lr, 0.001, 1.0, 0.01, "%.3g", "About how far a gate moves in one step (AdamW)."
        )
        _number(
            "Held out, %",
            "held_out",
            round(now.held_out * 100),
            10,
            90,
            5,
            "%d",
            "The share of texts that are never learned from. They choose the step that is kept.",
        )
        _number(
            "Seed", "seed", now.seed, 0, 999_999, 1, "%d", "Draws which texts are held out, and the order of the rest."
        )
    say.caption(
        f"{_PENALTY_WORDS[now.penalty]} Every weight of the model stays frozen: one number a head, from 1 (as it is) "
        "down to 0 (closed), is all that is learned. A gate only turns a head down; it teaches nothing new."
    )


def _number(title: str, name: str, value: Any, least: Any, most: Any, step: Any, form: str, words: str) -> None:
    key = f"gates-{name}"
    st.session_state[key] = value

    def moved() -> None:
        given = st.session_state[key]
        change(**{name: given / 100 if name == "held_out" else given})

    st.number_input(title, least, most, step=step, format=form, key=key, help=words, on_change=moved, width=118)
