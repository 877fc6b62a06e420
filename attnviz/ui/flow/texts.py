"""A set of texts: every method and the chosen yardsticks on each, and how far they agree on average."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.errors import InputError, Unsupported
from attnviz.figures.flow import agreement_map
from attnviz.flow.columns import columns
from attnviz.flow.methods import METHODS, explain
from attnviz.flow.scoring import over_texts
from attnviz.flow.target import Target
from attnviz.flow.yardsticks import yardstick
from attnviz.models import Model
from attnviz.text import check_text
from attnviz.ui import say, work
from attnviz.ui.export import export_bar
from attnviz.ui.flow import asking, finding, keeping
from attnviz.ui.flow.lines import texts_lines
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.flow.side_by_side import WITHOUT_WORDS
from attnviz.ui.flow.target import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.kept import kept
from attnviz.ui.session import selection
from attnviz.ui.theme import theme
from attnviz.view import View

FEWEST, MOST = 2, 50
_TYPED, _ASKED, _HOWS = "attnviz_flow_texts", "attnviz_flow_texts_run", "attnviz_flow_texts_hows"


def texts_view(subject: Subject) -> None:
    """The box of texts, and once they were run the mean agreement over them."""
    if subject.model is None or subject.target is None:
        return
    with st.expander("On a set of texts", expanded=_ASKED in st.session_state):
        st.session_state["flow-texts"] = st.session_state.get(_TYPED, "")
        st.text_area(
            "Texts, one a line",
            key="flow-texts",
            height=140,
            placeholder=f"{FEWEST} to {MOST} texts. In each, what is likeliest after its last token is explained.",
            on_change=_keep,
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            hows = st.session_state.get(_HOWS, ("delete",))
            asking.yardsticks_picker(hows, key="flow-texts-hows", use=lambda hows: _keep())
            st.button("Run on these texts", key="flow-texts-run", type="primary", on_click=_ask, args=(subject,))
        say.caption("Read as the page reads its own text: its units, sinks, chat template and yardstick options.")
        of, texts, hows = st.session_state.get(_ASKED, ((), (), ()))
        if of != (subject.name, subject.target.other):
            say.caption("Nothing has been run here yet. Each text takes about as long as the one above.")
            return
        if not FEWEST <= len(texts) <= MOST:
            say.problem(InputError(f"Give {FEWEST} to {MOST} texts, one a line; these are {len(texts)}."))
            return
        try:
            _results(subject, texts, hows)
        except (InputError, Unsupported) as error:
            say.problem(error)


def _keep() -> None:
    st.session_state[_TYPED] = st.session_state["flow-texts"]
    st.session_state[_HOWS] = tuple(how for how in asking.YARDSTICKS if how in st.session_state["flow-texts-hows"])


def _ask(subject: Subject) -> None:
    _keep()
    work.retry()
    texts = tuple(line.strip() for line in st.session_state[_TYPED].splitlines() if line.strip())
    of = (subject.name, subject.target.other if subject.target else None)  # another model asks for nothing by itself
    st.session_state[_ASKED] = (of, texts, st.session_state[_HOWS])


def _batch(subject: Subject, typed: Sequence[str], hows: Sequence[str]) -> tuple[asking.Batch, list[str]]:
    """The texts that are short enough, to be read as the page reads its own; and what was left out, in words."""
    model, sinks, view = subject.model, asking.without_sinks(subject), subject.view
    assert model is not None
    assert subject.target is not None
    chat, left_out, texts, longest = selection().chat, [], [], 0
    for number, text in enumerate(typed, start=1):
        try:
            check_text(text)
            length = len(model.encode(text, chat_template=chat).ids)
        except InputError as error:
            left_out.append(f"Text {number} was left out: {error}")
            continue
        if length > keeping.MOST_TOKENS:
            left_out.append(f"Text {number} was left out: {length:,} tokens, and {keeping.MOST_TOKENS} are the most.")
            continue
        texts.append(text)
        longest = max(longest, length)
    late = longest > finding.MOST_ZEROED
    if late:
        left_out.append(f"Value zeroing was left out: a text has more than {finding.MOST_ZEROED} tokens.")
    if sinks is not None and sinks.tokens:
        left_out.append("Tokens that are hidden one by one are those of the text above: here they were not hidden.")
        sinks = replace(sinks, tokens=())
    methods = tuple(name for name in METHODS if name != "zeroing" or not late)
    again = tuple(name for name in asking.with_variant(sinks) if name in methods)
    first = 0 if model.family == "encoder-decoder" else -1  # of its own text, the start alone stands there for all
    target = Target(other=subject.target.other) if subject.target.other else Target(first)
    yardsticks = {how: asking.stand_ins().given(how, model) for how in hows}
    return asking.Batch(tuple(texts), target, chat, view.unit, methods, sinks, again, yardsticks), left_out


def _results(subject: Subject, typed: Sequence[str], hows: Sequence[str]) -> None:
    model = subject.model
    assert model is not None
    batch, left_out = _batch(subject, typed, hows)
    n_texts = len(batch.texts)
    if n_texts < FEWEST:
        raise InputError(" ".join([*left_out, f"At least {FEWEST} texts have to be left."]))

    def make(job: Job) -> pd.DataFrame:
        return over_texts([_one(model, batch, i, job) for i in range(n_texts)], absolute=True)

    found = cast(pd.DataFrame, kept(subject, (subject.name, "flow-texts", *batch.key), "On every text", make))
    look, title = theme(), f"Mean agreement over {n_texts} texts"

    def figure() -> go.Figure:
        return agreement_map(found, theme=look, title=title)

    st.markdown(f"**{title}**")
    show_figure(figure(), "flow-texts-map")
    st.dataframe(found, hide_index=True, key="flow-texts-table", column_config=_NUMBERS)
    say.caption(
        *left_out,
        f"By {batch.unit}: what its tokens have is added up." if batch.unit != "token" else "",
        "Each text stands in the model's chat template." if batch.chat else "",
        "Mean over the texts of Spearman's rank correlation, each text counting once; low and high bound the middle "
        "95% of means over texts drawn with replacement. They speak of texts like these, not of others.",
        "Texts where a pair has no number are skipped and counted.",
        "Sizes are compared, not signs. The yardsticks are no more the truth than the methods.",
    )
    facts = {"model": model.name, "texts": n_texts, "yardsticks": list(hows), "unit": batch.unit, "chat": batch.chat}
    python = texts_lines(selection(), subject, batch)
    export_bar("agreement over texts", figure, lambda: found, python, about=facts, key="flow-texts")


def _one(model: Model, batch: asking.Batch, i: int, job: Job) -> dict[str, np.ndarray]:
    """Every method and yardstick of one text, [column]: the source's units first."""
    n_methods = len(batch.methods) + len(batch.again)
    steps = n_methods + len(batch.yardsticks)
    text = batch.texts[i]

    def reported(before: int, n: int) -> Callable[[str, float, int], None]:
        """Reports of `n` of the steps, after so many."""

        def report(what: str, done: float, total: int) -> None:
            share = (before + n * done / max(total, 1)) / steps
            job.report(f"text {i + 1} of {len(batch.texts)}, {what}", (i + share) / len(batch.texts))

        return report

    given: dict[str, Any] = {"input_ids": model.encode(text, chat_template=True).ids} if batch.chat else {"text": text}
    explained = partial(explain, model, **given, target=batch.target)
    made = explained(methods=batch.methods, report=reported(0, len(batch.methods)))
    view = View(batch.unit)
    site = "cross" if model.family == "encoder-decoder" else None
    own, *others = view.axes(made.trace, site)[: 2 if site else 1]
    until = None if model.family == "encoder" else made.aim.query
    joined = partial(columns, text=own, source=others[0] if others else None, until=until)
    rows = {METHODS[name].title: joined(scores) for name, scores in made.scores.items()}
    if batch.again:
        report = reported(len(batch.methods), len(batch.again))
        without = explained(methods=batch.again, sinks=batch.without, run=made.run, report=report)
        rows |= {f"{METHODS[name].title}, {WITHOUT_WORDS}": joined(one) for name, one in without.scores.items()}
    for n, (how, options) in enumerate(batch.yardsticks.items()):
        title = asking.YARDSTICKS[how]
        told = partial(reported(n_methods + n, 1), title)
        effects = yardstick(model, **given, aim_target=batch.target, how=how, progress=told, **options)
        rows[title] = joined(effects)
    return rows


_NUMBERS = {
    f"{name}{end}": st.column_config.NumberColumn(format="%.2f")
    for name in ("spearman", "top3")
    for end in ("", "_low", "_high")
}
