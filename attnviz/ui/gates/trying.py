"""The gates at work on a text of the person's: what is predicted and written without them and with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pandas as pd
import streamlit as st

from attnviz import steering
from attnviz.edits import Edit
from attnviz.errors import AttnvizError, TextError
from attnviz.gates import Gates
from attnviz.models import Model
from attnviz.trace import Trace
from attnviz.ui import say, texts, two_runs, work
from attnviz.ui.feedback import feedback_row
from attnviz.ui.gates.asking import Asked
from attnviz.ui.gates.results import digest_of
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.session import selection, text_of
from attnviz.ui.steering.finding import likeliest, writes

MOST_TOKENS = 512
WRITTEN = 20
PREDICTED = 8


@dataclass(frozen=True, eq=False)
class Tried:
    """Both runs on one text.

    predicted   columns token, before, after, change: the likeliest of both; None without one place
    moved       KL(before || after) there, in nats
    where       that place, in words
    written     the tokens that are written without and with the gates; () for an encoder
    """

    predicted: pd.DataFrame | None
    moved: float | None
    where: str
    written: tuple[tuple[str, ...], ...]
    first: str


def trying(ask: Asked, found: Gates) -> None:
    """A text, and both runs on it beside each other."""
    st.markdown("**Try on a text**")
    texts.text_form()
    text = text_of(selection().text)
    try:
        made = _tried(ask, found, text)
    except AttnvizError as error:
        say.problem(error)
        return
    if made.predicted is not None:
        looks = st.column_config.ProgressColumn(format="%.4f", min_value=0.0, max_value=1.0)
        for place, when, words in zip(
            st.columns(2, gap="medium"), ("before", "after"), ("Without gates", "With gates"), strict=True
        ):
            table = made.predicted.nlargest(PREDICTED, when)[["token", when, *["change"] * (when == "after")]]
            table = table.rename(columns={when: "probability"})
            config = {"probability": looks, "change": st.column_config.NumberColumn(format="%+.4f")}
            with place:
                st.markdown(f"**{words}**")
                st.dataframe(table, hide_index=True, key=f"gates-{when}", height="content", column_config=config)
        say.caption(
            f"The {PREDICTED} likeliest tokens {made.where}; they moved by {made.moved:.4f} nats (KL). Neither list "
            "says what is true."
        )
    elif not made.written:
        say.caption(
            f"{ask.model.name} fills in masks, and this text has none: put {_mask(ask.model)} where a word is missing."
        )
    if made.written:
        first, second = made.written
        two_runs.written(first, second, most=WRITTEN)
    if made.first:
        feedback_row(text, model=ask.name, predicted=made.first, which="without gates", key="gates-feedback")


def _tried(ask: Asked, found: Gates, text: str) -> Tried:
    edits = found.edits()

    def make(job: Job) -> Tried:
        model = ask.model
        work.check_length(model, text, False)
        length = len(model.encode(text).ids)
        if length > MOST_TOKENS:
            raise TextError(f"The text has {length:,} tokens; here at most {MOST_TOKENS} are run twice. Shorten it.")
        job.report("without gates", 0.0)
        clean = model.trace(text)
        job.report("with gates", 0.3)
        read = clean.input_ids if model.family == "encoder-decoder" else None
        edited = model.trace(text, decoder_input_ids=read, edits=edits)
        position, where = _place(model, clean)
        predicted = None if position is None else likeliest(clean, edited, position, PREDICTED)
        moved = None if position is None else steering.moved(clean, edited, position)
        written: tuple[tuple[str, ...], ...] = ()
        if writes(model):
            job.report("writing", 0.5)
            written = tuple(_written(model, text, each, job) for each in ((), edits))
        return Tried(predicted, moved, where, written, _first(model, clean))

    key = (ask.name, "gates-tried", digest_of(found), work.digest(text))
    return cast(Tried, kept(ask, key, "Running the model twice", make))


def _written(model: Model, text: str, edits: tuple[Edit, ...], job: Job) -> tuple[str, ...]:
    made = model.generate(text, max_new_tokens=WRITTEN, edits=edits, compact=True, progress=job.step)
    return tuple(token.text for token in made.tokens[made.prompt_length or 0 :])


def _place(model: Model, clean: Trace) -> tuple[int | None, str]:
    """Where tokens are predicted; nowhere in an encoder-decoder, whose answer is all that it writes."""
    if model.family == "encoder":
        at = clean.input_ids.index(model.mask_id) if model.mask_id in clean.input_ids else None
        return at, "at the mask"
    if model.family == "decoder":
        return -1, f"after “{clean.tokens[-1].text}”"
    return None, ""


def _first(model: Model, clean: Trace) -> str:
    """The likeliest next token as a text; "" where that is no whole answer."""
    if model.family != "decoder":
        return ""
    first = int(clean.predictions(-1, 1)["token_id"][0])
    said = clean.decode(first)
    return said if model.ids_of(said) == [first] else ""


def _mask(model: Model) -> str:
    return str(getattr(model.tokenizer, "mask_token", None) or "a mask")
