"""The Steering page's controls: the words, by what attention is brought to them, how much, and in which heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import streamlit as st

from attnviz.edits import Head
from attnviz.errors import InputError
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import drafts, say
from attnviz.ui.components.marker import marker
from attnviz.ui.focus import Focus
from attnviz.ui.head_choice import read_heads
from attnviz.ui.pickers import segments
from attnviz.ui.selection import STEERED
from attnviz.ui.session import act, select, selection
from attnviz.ui.steering import profiling
from attnviz.ui.steering.plan import MOST_BETA, Kind, Plan
from attnviz.ui.steering.subject import MOST_TOKENS, Subject, weights_of
from attnviz.units import Units
from attnviz.view import View

KIND_TITLES: dict[Kind, str] = {"steer": "Steer", "beta": "Add to scores", "alpha": "Mix in"}
KIND_WORDS: dict[Kind, str] = {
    "steer": "All words but the emphasised ones count for less, and so do ignored ones, twice where others are "
    "emphasised; then each row is scaled back to 1 (PASTA, Zhang et al. 2023, arXiv 2311.02262).",
    "beta": "The weights you give are added to the scores, before the softmax.",
    "alpha": "Each row becomes a share of its own pattern and, for the rest, the weights you give.",
}
_BRUSHES = {
    "steer": (("Emphasise", 1.0), ("Ignore", -1.0)),
    "external": (("Weight 1", 1.0), ("½", 0.5), ("¼", 0.25)),
}
STRENGTHS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001)
MOST_HEADS = 2_000  # an address has to hold them
_REFUSED = "attnviz_steering_refused"


def subject_of(model: Model, trace: Trace, focus: Focus, plan: Plan) -> Subject:
    """What is asked, after the controls that ask it.

    raises   InputError for a text that is too long, or heads that there are not
    """
    if max(len(trace.tokens), len(trace.source_tokens)) > MOST_TOKENS:
        raise InputError(
            f"The text has {max(len(trace.tokens), len(trace.source_tokens)):,} tokens; here at most {MOST_TOKENS} are "
            "run twice and written on. Shorten it."
        )
    chosen = selection()
    _kind_field(plan.kind)
    _, keys = trace.axes(focus.head.site)
    weights = weights_of(chosen, plan, len(keys))
    _words_field(trace, focus, weights, plan.kind)
    name = chosen.model or settings().default_model
    subject = Subject(name, model, trace, focus, chosen.chat, plan, weights, chosen.strength, None)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        _amount_field(plan)
    with right:
        heads = _heads_field(subject)
    return replace(subject, heads=heads)


def plan_now() -> Plan:
    return drafts.read(Plan, "plan")


def replan(**changes: Any) -> None:
    """Change parts of the plan, in a widget's callback."""
    act()
    drafts.keep("plan", plan_now().model_copy(update=changes))


def _kind_field(kind: Kind) -> None:
    titles = {name: KIND_TITLES[name] for name in get_args(Kind)}
    segments("How attention is brought there", titles, kind, key="steering-kind", use=lambda name: replan(kind=name))
    say.caption(KIND_WORDS[kind])


def _words_field(trace: Trace, focus: Focus, weights: Sequence[float], kind: Kind) -> None:
    site = trace.info.site(focus.head.site)
    _, keys = trace.axes(site)
    units = View("word").axes(trace, site)[1]
    text = trace.source_text if site in ("encoder", "cross") and trace.source_tokens else trace.text

    def painted(given: tuple[float, ...]) -> None:
        mark(units, given, kind)

    marker(
        units.labels,
        [weights[start] for start, _ in units.spans],
        key=f"steering-words-{'steer' if kind == 'steer' else 'external'}",
        brushes=_BRUSHES["steer" if kind == "steer" else "external"],
        spaced=spaced(units, keys, text),
        label="The text, word by word. Paint the words that attention is brought to.",
        idle="Nothing is marked. Choose a brush, then click words or drag over them.",
        on_mark=painted,
    )


def spaced(units: Units, tokens: Sequence[Token], text: str) -> list[bool]:
    """[unit]: whether there is room behind it in the text; special tokens stand apart."""
    out = []
    for (_, stop), (after, _) in zip(units.spans, [*units.spans[1:], (len(tokens), 0)], strict=True):
        if after == len(tokens) or tokens[stop - 1].special or tokens[after].special:
            out.append(True)
            continue
        last, first = tokens[stop - 1].span, tokens[after].span
        between = text[max(last[1] - 1, last[0]) : first[0] + 1]
        out.append(any(map(str.isspace, between)))
    return out


def mark(units: Units, given: Sequence[float], kind: Kind) -> None:
    """Keep what was painted, word by word, as positions of tokens."""

    def positions(weight: float) -> tuple[int, ...]:
        return tuple(i for span, one in zip(units.spans, given, strict=True) if one == weight for i in range(*span))

    if kind == "steer":
        select(emphasised=positions(1.0), ignored=positions(-1.0))
        return
    select(emphasised=positions(1.0))
    replan(text=selection().text, half=positions(0.5), quarter=positions(0.25))


def _amount_field(plan: Plan) -> None:
    if plan.kind == "steer":
        strength = selection().strength
        options = sorted({*STRENGTHS, strength}, reverse=True)
        st.session_state["steering-strength"] = strength
        st.select_slider(
            "Strength: what the other keys still weigh",
            options,
            key="steering-strength",
            format_func=lambda value: "1: no change" if value == 1 else f"{value:g}",
            on_change=lambda: select(strength=st.session_state["steering-strength"]),
            help="Their weight before the row is scaled back to 1, in parts of what it was. The scale is logarithmic; "
            "to the right is stronger.",
        )
        return
    title, most, words = {
        "beta": ("Beta: what a weight of 1 adds to a score, in nats", MOST_BETA, "0 changes nothing."),
        "alpha": ("Alpha: the share that a head's own pattern keeps", 1.0, "1 changes nothing."),
    }[plan.kind]
    key = f"steering-{plan.kind}"
    st.session_state[key] = getattr(plan, plan.kind)

    def moved() -> None:
        replan(**{plan.kind: st.session_state[key]})

    st.slider(title, 0.0, most, step=most / 20, key=key, on_change=moved, help=words)


def _heads_field(subject: Subject) -> tuple[Head, ...] | None:
    """The heads that are steered; None for all."""
    chosen, head = selection(), subject.focus.head
    titles = {"all": "All heads", "layer": "One layer", "heads": "Chosen", "profiled": "Profiled"}
    if subject.model.family != "decoder":
        del titles["profiled"]
    where = chosen.steered if chosen.steered in titles else STEERED[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        segments("In which heads", titles, where, key="steering-where", use=lambda name: select(steered=name))
        if where == "layer":
            layers = subject.model.info.layers[subject.site]
            st.session_state["steering-layer"] = head.layer
            st.number_input(
                "Layer",
                layers[0],
                layers[-1],
                key="steering-layer",
                width=120,
                on_change=lambda: select(layer=int(st.session_state["steering-layer"]), head=None),
            )
        elif where == "heads":
            _set_field(subject)
        elif where == "profiled":
            profiling.best_field(subject.plan)
    if _REFUSED in st.session_state:
        say.problem(InputError(st.session_state.pop(_REFUSED)))
    if where == "layer":
        return tuple(one for one in subject.steered if one.layer == head.layer)
    if where == "heads":
        return subject.focus.heads
    return profiling.profiled(subject) if where == "profiled" else None


def _set_field(subject: Subject) -> None:
    heads = [(one.layer, one.head) for one in subject.focus.heads]
    st.session_state["steering-heads"] = ", ".join(f"L{layer}H{head}" for layer, head in heads)

    def typed() -> None:
        act()
        site = subject.focus.head.site
        try:
            found = read_heads(str(st.session_state["steering-heads"]), subject.model.info, site) or set()
            if len(found) > MOST_HEADS:
                raise InputError(f"At most {MOST_HEADS:,} heads can be chosen; these are {len(found):,}.")
        except InputError as error:
            st.session_state[_REFUSED] = str(error)
            return
        select(heads=tuple(sorted(found)))

    st.text_input("Heads", key="steering-heads", placeholder="L5, L7H2, L10-12", on_change=typed, width=320)
