"""What a set of heads is tried on before it may be called important: methods, prompts, and how many random sets."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import streamlit as st

from attnviz import ablation
from attnviz.ablation import Case, read_cases
from attnviz.errors import AttnvizError, InputError
from attnviz.metrics import LogitDiff, LogProb
from attnviz.ui import say
from attnviz.ui.ablation import asking
from attnviz.ui.ablation.subject import Subject

MOST_CASES = 20  # of a verdict, which tries every method and random sets on each
MOST_SWEPT = 200
_CASES = "attnviz_ablation_cases"


@dataclass(frozen=True)
class Trial:
    """What the set is tried on.

    cases     minimal pairs, the page's own text first
    own       whether each brings its own outcome; else the page's holds for all
    """

    cases: tuple[Case, ...]
    own: bool
    hows: tuple[Any, ...]
    n: int

    def options(self, subject: Subject) -> dict[str, Any]:
        """The arguments of `ablation.table`, beside model, cases and heads."""
        options: dict[str, Any] = {"hows": self.hows, "metric": None if self.own else subject.metric}
        if "mean" in self.hows:
            options["texts"] = asking.embedded_texts(pairs=subject.model.family == "encoder-decoder")[: asking.FEW]
        if subject.model.family == "encoder-decoder":
            options["target"] = subject.trace.text
        return options


def trial_of(subject: Subject, n: int) -> Trial:
    """The page's text with its outcome, and the prompts that were uploaded, if the outcome lets them bring theirs."""
    metric, text = subject.metric, subject.trace.source_text or subject.trace.text
    proposal = ablation.propose_donor(text, subject.model)
    donor = subject.donor or ("" if proposal is None else proposal.text)
    answer, foil = "", ""
    if isinstance(metric, LogitDiff) and isinstance(metric.answer, str) and isinstance(metric.foil, str):
        answer, foil = (metric.answer, metric.foil) if metric.position == -1 else ("", "")
    elif isinstance(metric, LogProb) and isinstance(metric.answer, str):
        answer = metric.answer
    more = uploaded()[1][:MOST_CASES] if subject.model.family != "encoder-decoder" else ()
    cases = (Case(text, donor, answer, foil), *more)
    pairs = all(case.corrupted for case in cases)
    return Trial(cases, bool(answer), ("zero", "mean", *["resample"] * pairs), n)


def uploaded() -> tuple[str, tuple[Case, ...]]:
    """(name of the file, its minimal pairs) that this session holds; ("", ()) for none."""
    return cast(tuple[str, tuple[Case, ...]], st.session_state.get(_CASES, ("", ())))


def pairs_field() -> None:
    """A file of minimal pairs, kept for the session."""
    file = st.file_uploader("Minimal pairs", type=["jsonl", "csv"], key="ablation-pairs")
    say.caption(
        'Fields: clean, corrupted, answer, foil, as in {"clean": "When Mary and John … John gave a drink to", '
        '"corrupted": "When Mary and John … Mary gave a drink to", "answer": " Mary", "foil": " John"}.',
        f"At most {MOST_SWEPT}; with two more prompts a verdict can be given, and it reads {MOST_CASES} at most.",
    )
    if file is None:
        st.session_state.pop(_CASES, None)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"pairs{Path(file.name).suffix}"
        copy.write_bytes(file.getvalue())
        try:
            cases = tuple(read_cases(copy))
        except AttnvizError as error:
            st.session_state.pop(_CASES, None)
            say.problem(InputError(str(error).replace(copy.name, file.name)))
            return
    if len(cases) > MOST_SWEPT:
        say.problem(InputError(f"At most {MOST_SWEPT} prompts are read: the first {MOST_SWEPT} of {len(cases)}."))
    st.session_state[_CASES] = (file.name, cases[:MOST_SWEPT])
