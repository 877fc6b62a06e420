"""A set of texts: every method and the chosen yardsticks on each, and how far they agree on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.errors import InputError
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
from attnviz.ui.flow import finding, keeping
from attnviz.ui.flow.lines import texts_lines
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.flow.target import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.session import selection
from attnviz.ui.theme import theme

FEWEST, MOST = 2, 50
_TYPED, _ASKED, _HOWS = "attnviz_flow_texts", "attnviz_flow_texts_run", "attnviz_flow_texts_hows"


def texts_view(subject: Subject) -> None:
    """The box of texts, and once they were run the mean agreement over them."""
    if subject.model is None or subject.target is None:
        return
    with st.expander("On a set of texts", expanded=_ASKED in st.session_state):
        st.session_state["flow-texts"] = st.session_state.get(_TYPED, "")
        st.session_state["flow-texts-hows"] = list(st.session_state.get(_HOWS, ("delete",)))
        st.text_area(
            "Texts, one a line",
            key="flow-texts",
            height=140,
            placeholder=f"{FEWEST} to {MOST} texts. In each, what is likeliest after its last token is explained.",
            on_change=_keep,
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.pills(
                "Yardsticks",
                tuple(finding.YARDSTICKS),
                key="flow-texts-hows",
                selection_mode="multi",
                format_func=finding.YARDSTICKS.__getitem__,
                on_change=_keep,
            )
            st.button("Run on these texts", key="flow-texts-run", type="primary", on_click=_ask, args=(subject,))
        of, texts, hows = st.session_state.get(_ASKED, ((), (), ()))
        if of != (subject.name, subject.target.other):
            say.caption("Nothing has been run here yet. Each text takes about as long as the one above.")
            return
        if not FEWEST <= len(texts) <= MOST:
            say.problem(InputError(f"Give {FEWEST} to {MOST} texts, one a line; these are {len(texts)}."))
            return
        _results(subject, texts, hows)


def _keep() -> None:
    st.session_state[_TYPED] = st.session_state["flow-texts"]
    st.session_state[_HOWS] = tuple(how for how in finding.YARDSTICKS if how in st.session_state["flow-texts-hows"])


def _ask(subject: Subject) -> None:
    _keep()
    work.retry()
    texts = tuple(line.strip() for line in st.session_state[_TYPED].splitlines() if line.strip())
    of = (subject.name, subject.target.other if subject.target else None)  # another model asks for nothing by itself
    st.session_state[_ASKED] = (of, texts, st.session_state[_HOWS])


def _results(subject: Subject, texts: Sequence[str], hows: Sequence[str]) -> None:
    model, other = subject.model, subject.target.other if subject.target else None
    assert model is not None

    def make(job: Job) -> pd.DataFrame:
        return over_texts([_one(model, texts, i, other, hows, job) for i in range(len(texts))], absolute=True)

    key = (subject.name, "flow-texts", work.digest("\n".join(texts)), tuple(hows), work.digest(other or ""))
    found = cast(pd.DataFrame, keeping.kept(subject, key, "On every text", make))
    look = theme()
    st.markdown(f"**Mean agreement over {len(texts)} texts**")
    show_figure(agreement_map(found, theme=look, title=f"Mean agreement over {len(texts)} texts"), "flow-texts-map")
    st.dataframe(found, hide_index=True, key="flow-texts-table", column_config=_NUMBERS)
    say.caption(
        "Mean over the texts of Spearman's rank correlation, each text counting once; low and high bound the middle "
        "95% of means over texts drawn with replacement. They speak of texts like these, not of others.",
        "Texts where a pair has no number are skipped and counted.",
        "Sizes are compared, not signs. The yardsticks are no more the truth than the methods.",
    )
    export_bar(
        "agreement over texts",
        lambda: agreement_map(found, theme=look, title=f"Mean agreement over {len(texts)} texts"),
        lambda: found,
        texts_lines(selection(), texts, hows, other or "", _first(model)),
        about={"model": model.name, "texts": len(texts), "yardsticks": list(hows)},
        key="flow-texts",
    )


def _one(
    model: Model, texts: Sequence[str], i: int, other: str | None, hows: Sequence[str], job: Job
) -> dict[str, np.ndarray]:
    """Every method and yardstick of one text, [column]: the source's tokens first."""
    text = texts[i]
    steps = len(METHODS) + len(hows)

    def say_so(what: str, done: float) -> None:
        job.report(f"text {i + 1} of {len(texts)}, {what}", (i + done / steps) / len(texts))

    check_text(text)
    length = len(model.encode(text).ids)
    if length > keeping.MOST_TOKENS:
        raise InputError(f"Text {i + 1} has {length:,} tokens; here a text has at most {keeping.MOST_TOKENS}.")
    target = Target(other=other) if other else Target(_first(model))
    made = explain(model, text, target=target, report=lambda title, done, total: say_so(title, done))
    until = None if model.family == "encoder" else made.aim.query
    rows = {METHODS[name].title: columns(scores, until=until) for name, scores in made.scores.items()}
    for n, how in enumerate(hows):
        title = finding.YARDSTICKS[how]

        def progress(done: int, total: int, title: str = title, n: int = n) -> None:
            say_so(title, len(METHODS) + n + done / max(total, 1))

        say_so(title, len(METHODS) + n)
        effects = yardstick(model, text, aim_target=target, how=how, progress=progress)
        rows[title] = columns(effects, until=until)
    return rows


def _first(model: Model) -> int:
    """The position that is explained: of an encoder-decoder the first, which writes its first token."""
    return 0 if model.family == "encoder-decoder" else -1


_NUMBERS = {
    f"{name}{end}": st.column_config.NumberColumn(format="%.2f")
    for name in ("spearman", "top3")
    for end in ("", "_low", "_high")
}
