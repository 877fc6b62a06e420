"""The plan of a finding, said before it is measured: what, on which texts, what is expected, what would refute it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import pandas as pd
import streamlit as st
from pydantic import ValidationError

from attnviz.errors import InputError
from attnviz.findings import DETECTED, KINDS, METRICS, Case, Finding, Measurement, Plan, planned
from attnviz.findings.cases import head_of
from attnviz.findings.judging import known_to
from attnviz.findings.lines import plain
from attnviz.findings.records import MOST_CONTROLS, Direction, How, Kind
from attnviz.flow import METHODS
from attnviz.heads import DETECTORS, VARIANTS
from attnviz.human import METRICS as AGREEMENTS
from attnviz.settings import settings
from attnviz.ui import say
from attnviz.ui.notebook.shelf import complained, heads_words, opened_as, save
from attnviz.ui.notebook.typed import cases_of_file, cases_of_lines, heads_of
from attnviz.ui.session import stores
from attnviz.ui.uploads import most_megabytes

KIND_TITLES: dict[Kind, str] = {
    "ablation": "Ablation: what removing the heads changes",
    "attention": "Attention between two words",
    "detector": "A detector's score",
    "agreement": "Agreement with marked words",
    "flow": "The share of a prediction that a method gives a word",
}
CONTROLS: dict[Kind, str] = {
    "ablation": "as many random heads, of the same layers where there are enough",
    "attention": "every other head of the site",
    "detector": "every other head of the site",
    "agreement": "the marks moved along the text, the best head each time",
    "flow": "every other word of the texts, or as many in a row as the key has",
}
NEEDS: dict[Kind, str] = {
    "ablation": "an answer, as it continues the text (“ Mary”), and a foil for a difference of logits; a donor for "
    "resampling, else one is proposed",
    "attention": "a key, a word of the text; the query is the last token where none is named",
    "detector": "nothing beside the text",
    "agreement": "marks, a weight from 0 to 1 for each word, so they come in a file",
    "flow": "a key, a word of the text; the answer is the likeliest token where none is named",
}
HOW_TITLES: dict[How, str] = {"resample": "Resampled from a donor", "mean": "By their mean", "zero": "By zero"}
_SHARED: dict[Kind, tuple[str, ...]] = {
    "ablation": ("answer", "foil"),
    "attention": ("query", "key"),
    "detector": (),
    "agreement": ("query",),
    "flow": ("key", "answer"),
}
_LEAST = 3  # texts, for an interval
_P = "notebook-plan-"
_FILE, _HELD = "attnviz_notebook_plan_file", "attnviz_notebook_plan"


def plan_shown(one: Finding) -> None:
    """The plan that there is."""
    plan = one.plan
    if plan is None:
        say.caption("Nothing is planned yet. A claim counts when it could have failed: say first what would refute it.")
        return
    asked = plan.measurement
    st.markdown(f"**{say.plain(measured_words(asked))}** is expected **{plan.direction} {plan.bound:g}**")
    if plan.refuted_by:
        st.markdown(f"Refuted by: {say.plain(plan.refuted_by)}")
    say.caption(
        f"Said {plan.stated:%d %B %Y at %H:%M} UTC, before it was measured, on {len(plan.cases)} "
        f"text{'s' * (len(plan.cases) != 1)}. Control: {controls_words(asked)}. It holds where the whole interval lies "
        f"{plan.direction} the bound and the mean beyond the control; no farther than the control refutes it.",
        "" if len(plan.cases) >= _LEAST else "Fewer than three texts have no interval, so nothing can come of it.",
        "One of the texts is one that the finding was seen on, so this measurement cannot count."
        if any(map(known_to(one), (case.text for case in plan.cases)))
        else "",
    )
    with st.expander(f"The {len(plan.cases)} text{'s' * (len(plan.cases) != 1)}"):
        st.dataframe(cases_frame(plan.cases), hide_index=True, key="notebook-plan-texts")


def measured_words(asked: Measurement) -> str:
    """What is measured, in a line."""
    heads = heads_words(asked.heads)
    what = f" ({asked.what})" if asked.what else ""
    how = f", {HOW_TITLES[asked.how].lower()}" if asked.kind == "ablation" else ""
    n = len(asked.references)
    over = f" over {n} reference text{'s' * (n != 1)}" if n else ""
    return f"{KIND_TITLES[asked.kind].partition(':')[0]}{what}{f' of {heads}' if heads else ''}{how}{over}"


def controls_words(asked: Measurement) -> str:
    """What it is compared with, in words."""
    return "as many random heads, of any layer" if asked.anywhere else CONTROLS[asked.kind]


def cases_frame(cases: Sequence[Case]) -> pd.DataFrame:
    """A row for each text, with the fields that any of them has."""
    table = pd.DataFrame([case.model_dump(mode="json") for case in cases])
    return table[[name for name in table if any(bool(value) for value in table[name])]]


def plan_form(one: Finding) -> None:
    """What is to be measured, typed; kept in the session until it is stated."""
    kind = cast(Kind, _pick("Measured", KINDS, "kind", words=KIND_TITLES.__getitem__))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        whats = _whats(kind)
        if whats:
            _pick("By", tuple(whats), f"what-{kind}", words=whats.__getitem__, width=300)
        if kind != "flow":
            start = ", ".join(map(str, one.heads if kind == "ablation" else one.heads[:1]))
            _start(f"{_P}heads-{kind}-{one.id}", start)
            st.text_input("Heads" if kind == "ablation" else "Head", key=f"{_P}heads-{kind}-{one.id}", width=240)
        if kind == "ablation":
            _pick("Heads are replaced", get_args(How), "how", words=HOW_TITLES.__getitem__, width=220)
        if kind in ("ablation", "agreement"):
            _start(f"{_P}controls", 20)
            st.number_input("Controls", 1, MOST_CONTROLS, key=f"{_P}controls", width=110)
            _start(f"{_P}seed", 0)
            st.number_input("Seed", 0, 999_999, key=f"{_P}seed", width=100)
    _start(f"{_P}texts", "")
    st.text_area(
        "Texts, one a line, other than the one it was seen on",
        key=f"{_P}texts",
        height=120,
        placeholder='Or JSON lines: {"text": "When Mary and John …", "donor": "", "answer": " Mary", "foil": " John"}',
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name in _SHARED[kind]:
            _start(f"{_P}{name}", "")
            st.text_input(f"{name.capitalize()}, of every line", key=f"{_P}{name}", width=190, max_chars=300)
        file = st.file_uploader(
            "Or a file of texts", type=["jsonl", "csv"], key=f"{_P}file", max_upload_size=most_megabytes()
        )
    _keep_file(file)
    say.caption(
        f"Each text needs {NEEDS[kind]}. A file has the fields text, target, donor, answer, foil, query, key "
        "and marks.",
        "Three texts give an interval, and fewer decide nothing; more make it narrow.",
        "The change is what the outcome is without the heads, minus what it is with them: below 0 where they help "
        "(of a loss, above 0)."
        if kind == "ablation"
        else "",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _pick("The mean is expected", get_args(Direction), "direction", width=170)
        _start(f"{_P}bound", 0.0)
        st.number_input("The bound", key=f"{_P}bound", step=0.1, format="%.4g", width=130)
        _start(f"{_P}refuted", "")
        st.text_input(
            "What would refute it, in your words",
            key=f"{_P}refuted",
            max_chars=2_000,
            placeholder="and what else would",
        )
    st.button("State this plan", key="notebook-state", type="primary", on_click=_state, args=(one, kind))
    if one.evidence:
        say.caption("Another plan starts afresh: what was measured before stays, and does not count for it.")


def _whats(kind: Kind) -> dict[str, str]:
    """What can be chosen for a kind, with its title."""
    if kind == "ablation":
        return {"": "What the texts name"} | {name: name for name in METRICS}
    if kind == "detector":
        names = {name: DETECTORS[name].title if name in DETECTORS else name.capitalize() for name in DETECTED}
        return names | {f"{name}, {VARIANTS[1]}": f"{title}, {VARIANTS[1]}" for name, title in names.items()}
    if kind == "agreement":
        return {name: name for name in AGREEMENTS}
    return {name: method.title for name, method in METHODS.items()} if kind == "flow" else {}


def _pick(title: str, options: Sequence[str], name: str, **looks: Any) -> str:
    _start(f"{_P}{name}", options[0])
    words = looks.pop("words", str)
    return str(st.selectbox(title, options, key=f"{_P}{name}", format_func=words, **looks))


def _start(key: str, value: object) -> None:
    """A first value; what a person typed stays, also over another page. It is put there on every run, since a browser
    may never hear of a run that was cut short by the next."""
    held: dict[str, Any] = st.session_state.setdefault(_HELD, {})
    st.session_state[key] = held[key] = st.session_state.get(key, held.get(key, value))


def _keep_file(file: Any) -> None:
    """The uploaded file's content, which callbacks read; one that is too large is not taken."""
    st.session_state[_FILE] = None
    if file is None:
        return
    if file.size > min(settings().upload_bytes, settings().text_store_bytes):
        say.problem(
            InputError(f"{file.name} has {file.size / 1e6:,.0f} MB, too much for the texts of a plan: split it.")
        )
        return
    st.session_state[_FILE] = (file.name, file.getvalue())


def _state(one: Finding, kind: Kind) -> None:
    """For callbacks: make this the finding's plan."""
    state = st.session_state
    with complained():
        given = state.get(_FILE)
        shared = {name: str(state.get(f"{_P}{name}", "")) for name in _SHARED[kind]}
        typed = str(state.get(f"{_P}texts", ""))
        cases = cases_of_lines(typed, shared) if given is None else cases_of_file(given[1], given[0])
        heads = () if kind == "flow" else heads_of(str(state.get(f"{_P}heads-{kind}-{one.id}", "")))
        model = stores().models.get(opened_as(one))
        if model is not None:  # else it is said when they are measured
            for head in heads:
                head_of(model, head)
        try:
            plan = Plan(
                measurement=Measurement(
                    kind=kind,
                    what=str(state.get(f"{_P}what-{kind}", "")),
                    heads=heads,
                    how=state.get(f"{_P}how", "resample"),
                    n_controls=int(state.get(f"{_P}controls", 20)),
                    seed=int(state.get(f"{_P}seed", 0)),
                ),
                cases=cases,
                direction=state.get(f"{_P}direction", "above"),
                bound=float(state.get(f"{_P}bound", 0.0)),
                refuted_by=str(state.get(f"{_P}refuted", "")),
            )
        except ValidationError as error:
            raise InputError(f"This is no plan yet: {plain(error)}") from error
        save(planned(one, plan), one, "The plan is stated. Now measure it.")
