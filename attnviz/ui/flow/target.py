"""What the Flow page explains: a token of the text, what is predicted there, and what that is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from attnviz.flow.target import Target
from attnviz.models import Model
from attnviz.settings import settings
from attnviz.text import visible
from attnviz.trace import KEPT_TOKENS, Trace
from attnviz.ui import say, work
from attnviz.ui.focus import Focus
from attnviz.ui.pickers import dropdown
from attnviz.ui.selection import Selection
from attnviz.ui.session import select, selection, show, text_of
from attnviz.ui.texts import other_field
from attnviz.ui.views import plain_strip
from attnviz.units import Units, units_of
from attnviz.view import View

_LIKELIEST = 10


@dataclass(frozen=True, eq=False)
class Subject:
    """One run and what of it is explained.

    name      of the model in the pool; with `run` it is the start of every cache key
    goal      position of the token in the trace's own text; None: all of a pooled embedding
    state     (position, level) of the state that a graph explains: at the levels of an encoder-decoder's source a
              position there, else `goal`; the level is the number of blocks it has passed, None: all
    target    the outcome; None where there is none to measure, for the reason `lacking`
    """

    name: str
    model: Model | None
    trace: Trace
    view: View
    goal: int | None
    state: tuple[int | None, int | None]
    target: Target | None
    lacking: str

    @property
    def run(self) -> tuple[object, ...]:
        """What tells this run from others: the model, its text and what its decoder reads."""
        ids = tuple(token.id for token in (*self.trace.source_tokens, *self.trace.tokens))
        opened = selection().text if self.model is None else ""  # two files may hold one text
        return (self.name, "flow", work.digest(repr(ids)), len(self.trace.source_tokens), opened)

    @property
    def aimed(self) -> tuple[object, ...]:
        """What tells this target from others, for the keys of caches, whose own size is not counted."""
        target = self.target
        if target is None:
            return ()
        return (target.query, target.answer, target.foil, work.digest(target.other or ""))

    @property
    def answer(self) -> int:
        """The token whose prediction is explained: the one that was chosen, or the likeliest."""
        assert self.goal is not None
        chosen = None if self.target is None else self.target.answer
        return chosen if isinstance(chosen, int) else int(self.trace.predictions(self.goal, 1).token_id[0])

    @property
    def units(self) -> Units:
        """The text as it is read: tokens, words or sentences."""
        return units_of(self.trace.tokens, self.trace.text, self.view.unit)

    @property
    def source_units(self) -> Units | None:
        """The source of an encoder-decoder likewise."""
        if not self.trace.source_tokens:
            return None
        return units_of(self.trace.source_tokens, self.trace.source_text, self.view.unit)


def subject_of(model: Model | None, trace: Trace, focus: Focus) -> Subject:
    """The Selection's target as far as this trace and model have it; what they lack is dropped and said once."""
    chosen, info = selection(), trace.info
    dropped: dict[str, Any] = {}
    problems = []
    n_levels = sum(len(trace.layers(site)) for site in info.sites)
    if chosen.level is not None and not 0 < chosen.level <= n_levels:
        problems.append(f"{info.name} has {n_levels} levels, so there is no level {chosen.level} to explain")
        dropped["level"] = None
    level = None if dropped else chosen.level
    at_source = level is not None and level <= source_levels(trace)
    tokens = trace.source_tokens if at_source else trace.tokens
    if chosen.goal is not None and chosen.goal >= len(tokens):
        problems.append(f"the text has {len(tokens)} tokens, so there is no token {chosen.goal} to explain")
        dropped["goal"] = None
    for name in ("answer", "foil"):
        value = getattr(chosen, name)
        if value is not None and (not info.has_vocabulary or (model is not None and value >= model.vocabulary)):
            problems.append(f"{info.name} predicts no token {value}")
            dropped[name] = None
    if dropped:
        chosen = replace(chosen, **dropped)
        show(chosen)
        say.notes(problems)
    chosen = _without_equal_foil(model, trace, chosen, at_source)
    query = chosen.goal
    if query is None and at_source:
        query = len(tokens) - 1
    goal = first_goal(trace) if at_source or query is None else query
    query = query if at_source else goal
    target, lacking = _outcome(model, trace, goal)
    name = chosen.model or settings().default_model
    return Subject(name, model, trace, focus.view, goal, (query, level), target, lacking)


def _without_equal_foil(model: Model | None, trace: Trace, chosen: Selection, at_source: bool) -> Selection:
    """The Selection without a foil that is the answer itself: a token is compared with another one."""
    if model is None or chosen.foil is None:
        return chosen
    goal = first_goal(trace) if at_source or chosen.goal is None else chosen.goal
    assert goal is not None
    answer = int(trace.predictions(goal, 1).token_id[0]) if chosen.answer is None else chosen.answer
    if answer != chosen.foil:
        return chosen
    show(replace(chosen, foil=None))
    say.caption(
        f"“{visible(trace.decode(answer)) or '␣'}” is what is explained, so it was not compared with itself: choose "
        "another token under Rather than."
    )
    return replace(chosen, foil=None)


def first_goal(trace: Trace) -> int | None:
    """What is explained to begin with: the first token that an encoder-decoder writes, else what is predicted last."""
    if not trace.info.has_vocabulary:
        return None
    return 0 if trace.info.family == "encoder-decoder" else len(trace.tokens) - 1


def source_levels(trace: Trace) -> int:
    """Levels of an encoder-decoder's source, which come first; 0 where there is one text."""
    return len(trace.layers("encoder")) if trace.info.family == "encoder-decoder" else 0


def _outcome(model: Model | None, trace: Trace, goal: int | None) -> tuple[Target | None, str]:
    chosen = selection()
    if model is None:
        return None, "A saved trace comes without its model, so only what attention alone says can be shown."
    if trace.info.has_vocabulary:
        assert goal is not None
        return Target(goal, chosen.answer, chosen.foil), ""
    if trace.embedding is None:
        return None, f"{trace.info.name} predicts a class, which cannot be explained here; attention alone can."
    other = text_of(chosen.other)
    if not other:
        return None, f"{trace.info.name} predicts no tokens. Type a second text: then its similarity is explained."
    return Target(other=other), ""


def seen_until(subject: Subject) -> int | None:
    """The goal, where the model is causal and nothing after it is seen; else None."""
    return None if subject.trace.info.family == "encoder" else subject.goal


def chooser(subject: Subject) -> None:
    """The text, to choose the token that is explained; and under it what is predicted there."""
    trace, units = subject.trace, subject.units
    pooled = not trace.info.has_vocabulary
    at_source = subject.state[1] is not None and subject.state[1] <= source_levels(trace)

    def pick(unit: int) -> None:
        level = {"level": None} if at_source else {}
        select(goal=units.edges[unit + 1] - 1, answer=None, foil=None, **level)

    plain_strip(
        units,
        trace.tokens,
        key="goal-strip",
        selected=None if subject.goal is None else units.at(subject.goal),
        selected_word=f"explained {units.unit}",
        label=f"The text. Pick a {units.unit} to explain {'its state' if pooled else 'what is predicted there'}.",
        link="flow",
        on_pick=pick,
    )
    if pooled and subject.goal is not None:
        st.button("Explain the whole text", key="flow-whole", on_click=lambda: select(goal=None))
    if pooled and subject.model is not None and trace.embedding is not None:
        other_field("Second text", "A text to compare with: its similarity is what is explained")
    elif subject.model is not None and not pooled:
        _predicted(subject)


def _predicted(subject: Subject) -> None:
    """The answer and the foil, out of the likeliest tokens and what really comes there."""
    trace, goal, chosen = subject.trace, subject.goal, selection()
    assert goal is not None
    table = trace.predictions(goal, k=min(KEPT_TOKENS, _vocabulary(subject)))
    shares = dict(zip(table["token_id"].tolist(), table["probability"].tolist(), strict=True))
    likely = list(shares)[:_LIKELIEST]
    filled = trace.info.family == "encoder"  # then what is predicted is the token that stands there itself
    place = goal if filled else goal + 1
    real = trace.tokens[place].id if place < len(trace.tokens) else None
    extra = [i for i in (real, chosen.answer, chosen.foil) if i is not None]
    options = list(dict.fromkeys([*likely, *extra]))

    def words(token: int | None) -> str:
        if token is None:
            return "Nothing: its log-probability"
        said = visible(trace.decode(token)) or "␣"
        share = f" · {shares[token]:.4f}" if token in shares else " · not among the likeliest"
        return f"{said}{share}" + (f" · {'stands here' if filled else 'comes next'}" if token == real else "")

    answer = likely[0] if chosen.answer is None else chosen.answer
    foils: list[int | None] = [None, *(i for i in options if i != answer)]

    def explain(token: int) -> None:
        foil = selection().foil
        select(answer=token, foil=None if foil == token else foil)

    left, right = st.columns(2, gap="medium")
    with left:
        dropdown(
            "Predicted here" if filled else "Predicted next",
            options,
            answer,
            key="flow-answer",
            use=explain,
            words=words,
            help="The token whose prediction is explained: the likeliest ten, and what the text really has there.",
        )
    with right:
        dropdown(
            "Rather than",
            foils,
            chosen.foil if chosen.foil in foils else None,
            key="flow-foil",
            use=lambda token: select(foil=token),
            words=words,
            help="With another token, what is explained is the difference of both logits.",
            placeholder="Nothing: its log-probability",
        )


def _vocabulary(subject: Subject) -> int:
    return subject.model.vocabulary if subject.model is not None else KEPT_TOKENS


def goal_words(subject: Subject) -> str:
    """What is explained, for captions and titles."""
    if subject.goal is None:
        return "the whole text's embedding"
    return f"token {subject.goal} “{subject.trace.tokens[subject.goal].text}”"


def state_words(subject: Subject) -> str:
    """The state that a graph explains, without its level."""
    query, level = subject.state
    if query is None:
        return "all tokens"
    at_source = level is not None and level <= source_levels(subject.trace)
    tokens = subject.trace.source_tokens if at_source else subject.trace.tokens
    return f"{'source ' * at_source}{query} “{tokens[query].text}”"
