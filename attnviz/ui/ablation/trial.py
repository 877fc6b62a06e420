"""What a set of heads is tried on before it may be called important: methods, prompts, and how many random sets."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import streamlit as st

from attnviz import ablation
from attnviz.ablation import Case, read_cases
from attnviz.edits import Head
from attnviz.errors import AttnvizError, InputError
from attnviz.metrics import LogitDiff, LogProb
from attnviz.ui import say
from attnviz.ui.ablation import asking
from attnviz.ui.ablation.subject import Subject
from attnviz.ui.uploads import check_upload

MOST_CASES = 20  # of a verdict, which tries every method and random sets on each
MOST_SWEPT = 200
LEAST_SETS = 2  # that a set is compared with
_CASES = "attnviz_ablation_cases"


@dataclass(frozen=True)
class Trial:
    """What the set is tried on.

    cases     minimal pairs, the page's own text first
    own       whether each brings its own outcome; else the page's holds for all
    anywhere  whether random sets come from all layers: those of the set have too few other heads
    """

    cases: tuple[Case, ...]
    own: bool
    hows: tuple[Any, ...]
    n: int
    anywhere: bool

    def options(self, subject: Subject) -> dict[str, Any]:
        """The arguments of `ablation.table`, beside model, cases and heads; of the very run that the page shows."""
        options: dict[str, Any] = {"hows": self.hows, "metric": None if self.own else subject.metric}
        if "mean" in self.hows:
            options["texts"] = asking.embedded_texts(pairs=subject.model.family == "encoder-decoder")[: asking.FEW]
        if subject.model.family == "encoder-decoder":
            options["decoder_input_ids"] = subject.trace.input_ids
        return options


def trial_of(subject: Subject, n: int) -> Trial:
    """The page's text with its outcome, and the uploaded prompts, if the outcome lets them bring theirs; each once.

    raises   InputError where there is no other head to compare with
    """
    metric, text = subject.metric, subject.trace.source_text or subject.trace.text
    proposal = ablation.propose_donor(text, subject.model)
    donor = subject.donor or ("" if proposal is None else proposal.text)
    answer, foil = "", ""
    if isinstance(metric, LogitDiff) and isinstance(metric.answer, str) and isinstance(metric.foil, str):
        answer, foil = (metric.answer, metric.foil) if metric.position == -1 else ("", "")
    elif isinstance(metric, LogProb) and isinstance(metric.answer, str):
        answer = metric.answer
    cases = {text: Case(text, donor, answer, foil)}
    if subject.model.family != "encoder-decoder":
        for case in uploaded()[1][:MOST_CASES]:
            cases.setdefault(case.clean, case)
    pairs = all(case.corrupted for case in cases.values())
    hows = ("zero", "mean", *["resample"] * pairs)
    return Trial(tuple(cases.values()), bool(answer), hows, n, sets_like(subject, LEAST_SETS)[1])


def sets_like(subject: Subject, n: int, seed: int = 0) -> tuple[list[tuple[Head, ...]], bool]:
    """(random sets in the place of the chosen one, whether they come from all layers).

    From the same layers where these have other heads enough for two such sets, since one alone is nothing to compare
    with; else from all layers of the site.
    raises   InputError where the model has too few other heads
    """
    draw = partial(ablation.random_sets, subject.model, subject.heads, seed=seed)
    try:
        if len(draw(LEAST_SETS)) == LEAST_SETS:
            return draw(n), False
    except InputError:  # as a whole layer has no other heads
        pass
    try:
        return draw(n, anywhere=True), True
    except InputError as error:
        raise InputError("The model has too few other heads to compare these with: take fewer.") from error


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
        try:
            check_upload(file)
            copy.write_bytes(file.getvalue())
            cases = tuple(read_cases(copy))
        except AttnvizError as error:
            st.session_state.pop(_CASES, None)
            say.problem(InputError(str(error).replace(copy.name, file.name)))
            return
    if len(cases) > MOST_SWEPT:
        say.problem(InputError(f"At most {MOST_SWEPT} prompts are read: the first {MOST_SWEPT} of {len(cases)}."))
    st.session_state[_CASES] = (file.name, cases[:MOST_SWEPT])
