"""The same heads resampled from several donors: an effect that one donor gives and another does not is the donor's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pandas as pd
import streamlit as st

from attnviz import ablation
from attnviz.ablation import Case, Table
from attnviz.errors import AttnvizError, InputError, Unsupported
from attnviz.settings import settings
from attnviz.text import check_text
from attnviz.ui import say
from attnviz.ui.ablation import finding
from attnviz.ui.ablation.lines import donor_lines
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.jobs import Job
from attnviz.ui.pickers import held
from attnviz.ui.session import selection

MOST = 20  # donors
_TYPED = "attnviz_ablation_donors"


def several_donors(subject: Subject) -> None:
    """The field for donors, one a line, and the set's effect by each."""
    if not subject.heads or subject.chat or not subject.metric.batched:
        return
    with st.expander("Several donors", expanded=_TYPED in st.session_state):
        hold = held(_TYPED, "", key="ablation-donors")
        st.text_area(
            "Donor texts, one a line",
            key="ablation-donors",
            height=100,
            on_change=hold,
            max_chars=settings().max_chars,
            placeholder="Texts of as many tokens that differ in what you ask about, each in its own way",
        )
        lines = str(st.session_state.get(_TYPED, "")).splitlines()
        texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        if len(texts) > MOST:
            say.problem(InputError(f"At most {MOST} donors are compared; these are {len(texts)}."))
            return
        fit, problems = fitting(subject, texts)
        if problems:
            say.caption(*problems)
        if not fit:
            say.caption("Resampling takes over what the donor says, so one donor alone may mislead. Give two or more.")
            return
        try:
            _shown(subject, fit, _measured(subject, fit))
        except (InputError, Unsupported) as error:
            say.problem(error)


def fitting(subject: Subject, texts: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """(the texts of as many tokens as the run's own, what is wrong with each of the others)."""
    wanted, fit, problems = len(subject.trace.source_tokens or subject.trace.tokens), [], []
    for text in texts:
        try:
            check_text(text, max_chars=settings().max_chars)
            n = len(subject.model.encode(text).ids)
        except AttnvizError as error:
            problems.append(f"“{text:.60}” is left out: {error}")
            continue
        if n == wanted:
            fit.append(text)
        else:
            problems.append(f"“{text:.60}” is left out: it has {n} tokens and the text {wanted}.")
    return tuple(fit), problems


def _measured(subject: Subject, texts: tuple[str, ...]) -> Table:
    def make(job: Job) -> Table:
        job.report("each donor", 0.0)
        case = Case(subject.trace.source_text or subject.trace.text, "", "")
        options: dict[str, Any] = {"metric": subject.metric, "progress": job.step}
        if subject.model.family == "encoder-decoder":
            options["decoder_input_ids"] = subject.trace.input_ids
        return ablation.donors(subject.model, case, [subject.heads], texts, **options)

    key = (*subject.asked, "donors", subject.heads, texts)
    return cast(Table, finding.kept(subject, key, "Trying donors", make))


def _shown(subject: Subject, texts: Sequence[str], found: Table) -> None:
    effects = found.effects[0, 0]
    table = pd.DataFrame({"donor": found.prompts, "effect": effects})
    numbers = {"effect": st.column_config.NumberColumn(format="%.4f")}
    st.dataframe(table, hide_index=True, key="ablation-donors-table", column_config=numbers)
    agree = bool((effects > 0).all() or (effects < 0).all())
    say.caption(
        f"Change in {found.metric}, clean {found.baseline[0]:.4f}, with the set resampled from each donor: "
        f"{effects.min():+.4f} to {effects.max():+.4f}.",
        "" if len(texts) < 2 else "All donors agree in sign." if agree else "Donors disagree in sign.",
        "What a donor shares with the text is not tested by it; agreement over donors is about this one text.",
    )
    with st.popover("Copy as Python", icon=":material/code:"):
        st.code(donor_lines(selection(), subject, texts), language="python", wrap_lines=True)
