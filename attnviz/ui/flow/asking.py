"""What the methods view was asked for: sinks taken away, yardsticks, and what these put in a token's place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from attnviz.errors import InputError
from attnviz.flow.methods import METHODS
from attnviz.flow.target import Target
from attnviz.models import Model
from attnviz.ui import say, work
from attnviz.ui.flow.target import Subject
from attnviz.ui.pickers import held, pills
from attnviz.units import Unit
from attnviz.view import Sinks

YARDSTICKS = {
    "delete": "Delete each token",
    "replace": "Replace each token",
    "resample": "Resample each token",
}
MOST_WORDS = 200  # to resample from
_WITHOUT, _WORDS, _NEUTRAL = "attnviz_flow_without_sinks", "attnviz_flow_words", "attnviz_flow_neutral"
_BETWEEN = re.compile(r"[,\n]")

Given = Mapping[str, Any]  # arguments of `yardstick`, beside the target and how


@dataclass(frozen=True)
class StandIns:
    """What comes in a token's place, as it was typed; nothing typed leaves the choice to the library.

    words     to resample from
    neutral   to replace tokens by
    """

    words: tuple[str, ...] = ()
    neutral: str = ""

    def given(self, how: str, model: Model) -> Given:
        """The arguments of one yardstick; raises InputError, naming what is not one token of the model."""
        if how == "replace" and self.neutral:
            return {"neutral": _one(model, self.neutral, "The neutral token")}
        if how == "resample" and self.words:
            if len(self.words) > MOST_WORDS:
                raise InputError(f"Give at most {MOST_WORDS} words to resample from; these are {len(self.words)}.")
            return {"words": tuple(dict.fromkeys(_one(model, word, "The words to draw from") for word in self.words))}
        return {}


@dataclass(frozen=True)
class Rows:
    """The rows of bars that are shown.

    names        methods
    without      the sinks that are taken away in a second variant; `again`: the methods that have one
    yardsticks   how -> its arguments
    """

    names: tuple[str, ...]
    without: Sinks | None
    again: tuple[str, ...]
    yardsticks: Mapping[str, Given]


@dataclass(frozen=True)
class Batch:
    """Texts that are explained alike.

    methods      of each; `without`: the sinks taken away in a second variant, which `again` have
    yardsticks   how -> its arguments
    """

    texts: tuple[str, ...]
    target: Target
    chat: bool
    unit: Unit
    methods: tuple[str, ...]
    without: Sinks | None
    again: tuple[str, ...]
    yardsticks: Mapping[str, Given]

    @property
    def key(self) -> tuple[object, ...]:
        """All that its results depend on, for the keys of caches; the model aside."""
        target = (self.target.query, work.digest(self.target.other or ""))
        yardsticks = tuple((how, hashable(given)) for how, given in self.yardsticks.items())
        texts = work.digest(repr(self.texts))
        return (texts, target, self.chat, self.unit, self.methods, self.without, self.again, yardsticks)


def hashable(given: Given) -> tuple[object, ...]:
    """Arguments of a yardstick, for the keys of caches."""
    return tuple(sorted(given.items()))


def without_sinks(subject: Subject) -> Sinks | None:
    """What is taken away in the second variant of each method; None where none was asked for."""
    if subject.view.sinks.active:
        return subject.view.sinks
    return Sinks("renormalise") if st.session_state.get(_WITHOUT, False) else None


def with_variant(sinks: Sinks | None) -> tuple[str, ...]:
    """The methods that can have another result without these sinks: gradients know no such variant."""
    if sinks is None:
        return ()
    weighed = sinks.how == "value-norm"  # what heads write has its length already
    return tuple(
        name
        for name, method in METHODS.items()
        if (method.reads == "attention" and name != "position") or (method.reads != "gradient" and not weighed)
    )


def sinks_switch(subject: Subject) -> None:
    """The switch for the second variant."""
    active = subject.view.sinks.active
    st.session_state["flow-without"] = active or st.session_state.get(_WITHOUT, False)

    def switched() -> None:
        st.session_state[_WITHOUT] = st.session_state["flow-without"]

    st.toggle(
        "Also without sinks",
        key="flow-without",
        disabled=active,
        on_change=switched,
        help="Each method once more with sinks taken out of every layer: the first token, or what the sidebar hides.",
    )


def yardsticks_picker(
    chosen: Sequence[str], *, key: str, use: Callable[[tuple[str, ...]], None], help: str | None = None
) -> None:
    """Any of the yardsticks."""
    pills("Yardsticks", YARDSTICKS, chosen, key=key, use=use, help=help)


def stand_ins() -> StandIns:
    """What was typed last."""
    words = _BETWEEN.split(st.session_state.get(_WORDS, ""))
    return StandIns(tuple(word.strip() for word in words if word.strip()), st.session_state.get(_NEUTRAL, "").strip())


def stand_ins_box() -> None:
    """A popover to type what yardsticks put in a token's place."""
    with st.popover("Yardstick options", icon=":material/tune:"):
        st.text_area(
            "Words to resample from",
            key="flow-words",
            height=100,
            max_chars=20 * MOST_WORDS,
            placeholder="One a line, or with commas between. Left empty, the model draws.",
            on_change=held(_WORDS, "", key="flow-words"),
        )
        st.text_input(
            "Neutral token",
            key="flow-neutral",
            max_chars=40,
            placeholder="Left empty: the mask token, or “the”",
            on_change=held(_NEUTRAL, "", key="flow-neutral"),
        )
        say.caption("Each is one token of the model. A word is taken with the space before it where that is one token.")


def _one(model: Model, typed: str, what: str) -> str:
    """The spelling that is one token: of words the one that stands inside a text, where there is one."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    alone, inside = model.ids_of(typed), model.ids_of(f" {typed}")
    spellings: Sequence[tuple[str, list[int]]] = [(typed, alone)]
    if inside != alone:
        spellings = [(f" {typed}", inside), (typed, alone)] if typed[0].isalnum() else [(typed, alone)]
    for spelling, ids in spellings:
        if len(ids) == 1 and ids[0] != unknown:
            return spelling
    said = f"{len(alone)} tokens" if len(alone) != 1 else "unknown"
    raise InputError(f"{what}: “{typed}” is {said} for {model.name}, and one token is needed. Choose another.")
