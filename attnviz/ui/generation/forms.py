"""Generation in the app: the text and how to continue it, the generated trace, and what of it is looked at."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.errors import TextError
from attnviz.generated import Movement, movement, shift, steps, writers
from attnviz.info import ModelInfo
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.trace import Trace
from attnviz.ui import boxes, python_lines, say
from attnviz.ui.focus import Focus
from attnviz.ui.jobs import Job
from attnviz.ui.page import Opening, focus_on
from attnviz.ui.selection import Selection
from attnviz.ui.session import page, selection, show, stores, text_of
from attnviz.ui.work import check_length, digest, finished
from attnviz.units import Units

MOST_WRITTEN = 200
_TEXT, _HOW_OF = "generation-text", "generation-how-of"
_LENGTH, _WAY, _SEED, _WARMTH = "generation-length", "generation-way", "generation-seed", "generation-warmth"
_LAST = "attnviz_last_generation"
_IF_SAMPLED = "Not used under Likeliest, where nothing is left to chance."
_WAYS = {"greedy": "Likeliest", "sampled": "Sampled"}


@dataclass(frozen=True)
class Written:
    """A generated trace, the step and head that are looked at, and what was read off it for them.

    how   the tokens were chosen, in words; "" where nobody knows
    """

    trace: Trace
    how: str
    focus: Focus
    steps: pd.DataFrame
    moved: Movement
    shift: np.ndarray

    @property
    def queries(self) -> range:
        return writers(self.trace)

    @property
    def units(self) -> Units:
        """The query axis as the view cuts it."""
        return self.focus.view.axes(self.trace, self.focus.head.site)[0]

    @property
    def step(self) -> int:
        return self.focus.query - self.queries.start


def form() -> None:
    """The text and how to continue it; nothing is written before the button, and what was typed stays."""
    chosen = selection()
    how = (page(), chosen.length, chosen.seed, chosen.warmth)
    if st.session_state.get(_HOW_OF) != how or _LENGTH not in st.session_state:
        st.session_state[_HOW_OF] = how
        st.session_state[_LENGTH] = _length(chosen)
        st.session_state[_WAY] = "greedy" if chosen.seed is None else "sampled"
        st.session_state[_SEED] = chosen.seed or 0
        st.session_state[_WARMTH] = chosen.warmth
    boxes.catch_up({"text": _TEXT}, _asked)
    with st.form("generation-form", border=False):
        st.text_area(
            "Text", key=_TEXT, height=76, label_visibility="collapsed", placeholder="Type or paste a text to continue."
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            st.slider("Tokens, at most", 1, max(2, most_written()), key=_LENGTH, width=170)
            st.segmented_control("Next token", list(_WAYS), key=_WAY, format_func=_WAYS.__getitem__, required=True)
            st.number_input("Seed, if sampled", 0, 999_999_999, key=_SEED, step=1, width=150, help=_IF_SAMPLED)
            st.number_input("Temperature, if sampled", 0.05, 5.0, key=_WARMTH, step=0.1, width=180, help=_IF_SAMPLED)
            st.form_submit_button(
                "Generate",
                type="primary",
                on_click=lambda: boxes.take({"text": _TEXT}, _asked),
                help="What is typed and set here counts from this press on; before it, another page would lose it.",
            )
    boxes.complain()


def _asked() -> dict[str, Any]:
    """How the form says to continue the text."""
    seed = st.session_state[_SEED] if st.session_state[_WAY] == "sampled" else None
    how = (st.session_state[_LENGTH], seed, round(st.session_state[_WARMTH], 4))
    st.session_state[_HOW_OF] = (page(), *how)
    return dict(zip(("length", "seed", "warmth"), how, strict=True))


def _length(chosen: Selection) -> int:
    return min(max(chosen.length, 1), most_written())


def most_written() -> int:
    """Tokens that a model may write here."""
    return min(MOST_WRITTEN, settings().max_written)


def writes(info: ModelInfo) -> bool:
    """Whether the model can continue a text."""
    return info.has_vocabulary and info.family != "encoder"


def nothing_written(saved: Trace | None) -> None:
    """Say what this page needs, where there is no generation to show."""
    if saved is None:
        words = (
            "This model reads texts and writes none, so there are no steps to go through. Choose one that writes in "
            "the sidebar, such as SmolLM2, or Dates, which translates."
        )
    else:
        words = (
            "This saved trace is of a text that was given, not written. To look at a generation here, choose a model "
            'in the sidebar, or save one in Python: model.generate(text).save("run.safetensors").'
        )
    st.info(say.plain(words), icon=":material/edit_note:")


def generated_for(model: Model, chosen: Selection) -> Trace:
    """The chosen text as the model continues it, compact; stops the page with a sentence if there is nothing."""
    name, text = chosen.model or settings().default_model, text_of(chosen.text)
    length, warmth = _length(chosen), 1.0 if chosen.seed is None else chosen.warmth
    key = (name, "generation", digest(text), length, chosen.seed, warmth, chosen.chat)
    # One generation stays with the session, also where it is too large for the cache: a click must not write again.
    last: dict[tuple[Hashable, ...], Trace] = st.session_state.setdefault(_LAST, {})
    found = stores().traces.get(key) or last.get(key)
    if found is not None:
        return cast(Trace, found)

    def write(job: Job) -> Trace:
        check_length(model, text, chosen.chat)
        given = 0 if model.info.family == "encoder-decoder" else len(model.encode(text, chat_template=chosen.chat).ids)
        if given + length > settings().max_tokens:
            raise TextError(
                f"The text has {given:,} tokens and {length:,} more are to be written; this app shows at most "
                f"{settings().max_tokens:,} together. Shorten the text or ask for fewer."
            )

        def wrote(done: int, most: int) -> None:
            job.report(f"{done} of at most {most} tokens written", done / (most + 1))

        made = model.generate(
            text,
            max_new_tokens=length,
            seed=chosen.seed,
            temperature=warmth,
            chat_template=chosen.chat,
            compact=True,
            progress=wrote,
        )
        if stores().models.get(name) is model:  # else it was let go meanwhile, and its traces with it
            stores().traces.put(key, made)
        return made

    made = cast(Trace, finished(key, "Generating", write))
    last.clear()
    last[key] = made
    return made


def written_at(opening: Opening, trace: Trace) -> Written:
    """What is looked at: the step that the Selection's query is or is nearest to, and a head that writes."""
    queries, chosen = writers(trace), selection()
    if chosen.site == "encoder":
        chosen = replace(chosen, site=None, layer=None, head=None, key=None)
    query = queries.start if chosen.query is None else min(max(chosen.query, queries.start), queries[-1])
    key = chosen.key if chosen.key is not None and chosen.key < len(trace.axes(chosen.site)[1]) else None
    show(replace(chosen, query=query, key=key))
    focus = focus_on(opening, trace)
    return Written(
        trace=trace,
        how=_how(chosen) if opening.saved is None else "",
        focus=focus,
        steps=steps(trace),
        moved=movement(trace, focus.head, view=focus.view),
        shift=shift(trace, focus.head),
    )


def _how(chosen: Selection) -> str:
    if chosen.seed is None:
        return "Each token is the likeliest one."
    return f"Tokens are sampled with seed {chosen.seed} at temperature {chosen.warmth:g}."


def movement_lines(written: Written) -> str:
    """The lines of Python that write the text again, or open the file, and draw how the head moved."""
    chosen = selection()
    return python_lines.movement_lines(chosen, written.focus, text_of(chosen.text), length=_length(chosen))


def step_lines(focus: Focus) -> str:
    """The same, but they draw what every head pays between the queries and keys of `focus`."""
    chosen = selection()
    return python_lines.step_lines(chosen, focus, text_of(chosen.text), length=_length(chosen))
