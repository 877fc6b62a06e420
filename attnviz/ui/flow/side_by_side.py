"""Methods: every method on one target as aligned bars, the yardsticks beside them, and how far all of them agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st
import torch

from attnviz.errors import InputError, Unsupported
from attnviz.export import about
from attnviz.figures.flow import agreement_map, bars
from attnviz.figures.labels import model_words, run_words
from attnviz.flow.columns import columns
from attnviz.flow.methods import METHODS
from attnviz.flow.mixing import Scores
from attnviz.flow.scoring import table
from attnviz.flow.yardsticks import Effects
from attnviz.ui import say
from attnviz.ui.export import export_bar
from attnviz.ui.flow import asking, finding, keeping
from attnviz.ui.flow.lines import agreement_lines, bars_lines
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.flow.target import Subject, goal_words, seen_until
from attnviz.ui.focus import Focus
from attnviz.ui.notebook.offering_flow import keep_flow
from attnviz.ui.session import selection
from attnviz.ui.theme import theme
from attnviz.view import Sinks

Columns = npt.NDArray[np.float64]  # [column]: the source's units first, then the text's
WITHOUT_WORDS = "without sinks"
_ASKED = "attnviz_flow_yardsticks"


def methods_view(subject: Subject, focus: Focus) -> None:
    """The bars, what is refused, and the table of agreement."""
    asking.sinks_switch(subject)
    without = asking.without_sinks(subject)
    plain = finding.found_for(subject, tuple(METHODS), Sinks())
    rows = {METHODS[name].title: joined(subject, scores) for name, scores in plain.scores.items()}
    again: list[str] = []
    if without is not None:
        other = finding.found_for(subject, asking.with_variant(without), without)
        again = [name for name, scores in other.scores.items() if differs(scores, plain.scores.get(name))]
        rows |= {f"{METHODS[name].title}, {WITHOUT_WORDS}": joined(subject, other.scores[name]) for name in again}
    effects, yardsticks = _effects(subject, _asked_for(subject))
    rows |= {asking.YARDSTICKS[how]: joined(subject, one) for how, one in effects.items()}
    shown = asking.Rows(tuple(plain.scores), without, tuple(again), yardsticks)
    if not rows:
        say.caption("No method can explain this here; the reasons stand below.")
    else:
        _bars(subject, focus, plain, rows, shown)
    _refused(plain.refused)
    if len(rows) > 1:
        _agreement(subject, rows, shown)


def differs(scores: Scores, plain: Scores | None) -> bool:
    """Whether taking sinks away changed anything: where they are special tokens, a method may give them nothing."""
    return plain is None or not (_equal(scores.text, plain.text) and _equal(scores.source, plain.source))


def _equal(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


def joined(subject: Subject, found: Scores | Effects) -> Columns:
    """[column]: by units, and as far as a causal model sees."""
    return columns(found, subject.units, subject.source_units, until=seen_until(subject))


def labels(subject: Subject) -> list[str]:
    """[column]."""
    source = subject.source_units
    return [*([] if source is None else source.labels), *subject.units.labels]


def _asked_for(subject: Subject) -> tuple[str, ...]:
    """The yardsticks that were asked for."""
    if subject.target is None:
        say.caption(subject.lacking)
        return ()
    if keeping.too_long(subject.trace):
        return ()
    of = (*subject.run, subject.target)
    asked = st.session_state.get(_ASKED, {})
    # Another target asks for nothing by itself: a yardstick takes seconds.
    hows: tuple[str, ...] = asked["hows"] if asked.get("of") == of else ()

    def chose(hows: tuple[str, ...]) -> None:
        st.session_state[_ASKED] = {"of": of, "hows": hows}

    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = "What really becomes of the outcome when one token is taken away: a run for each token, some seconds."
        asking.yardsticks_picker(hows, key="flow-yardsticks", use=chose, help=words)
        asking.stand_ins_box()
    return hows


def _effects(subject: Subject, hows: Sequence[str]) -> tuple[dict[str, Effects], dict[str, asking.Given]]:
    """What was measured by each yardstick, and its arguments; one that is refused says so and is left out."""
    effects, arguments, typed = {}, {}, asking.stand_ins()
    for how in hows:
        assert subject.model is not None
        try:
            given = typed.given(how, subject.model)
            effects[how] = finding.effects_for(subject, how, given)
        except (InputError, Unsupported) as error:
            say.problem(error)
            continue
        arguments[how] = given
    if effects:
        notes = [one.note for one in effects.values()]
        say.caption(*notes, "Each leaves the texts that the model knows in its own way.")
    return effects, arguments


def _bars(
    subject: Subject, focus: Focus, plain: finding.Found, rows: Mapping[str, Columns], shown: asking.Rows
) -> None:
    names, look, trace = labels(subject), theme(), subject.trace
    state = "the state of " * (subject.goal is not None) + goal_words(subject)
    what = f"the {plain.title}" if plain.title else state
    title = f"Where {what} comes from"

    def figure(theme: Any = look) -> Any:
        return bars(names, rows, theme=theme, title=title)

    st.markdown(f"**{say.plain(title)}**")
    show_figure(figure(), "flow-bars")
    unit = subject.view.unit
    say.caption(
        f"Explained: {what}, {run_words(trace)} of {model_words(trace.info)}.",
        "The similarity is that of the whole text's embedding, so the token that was chosen above changes nothing here."
        if plain.title and plain.query is None and subject.goal is not None
        else "",
        "Each row has its own scale, which stands at its left.",
        f"By {unit}: what its tokens have is added up." if unit != "token" else "",
        "Only gradient relevance and the yardsticks look at what is predicted. All other methods see where states come "
        "from, and say the same of every answer.",
        "Position alone knows nothing of the text: a method that looks like it has found little more.",
        "No method is the truth, and none is the effect of taking a token away: that is what the yardsticks measure.",
    )
    python = bars_lines(selection(), subject, shown)
    with st.container(horizontal=True):
        export_bar(
            "methods",
            figure,
            lambda: frame(subject, rows),
            python,
            about=about(trace, view=subject.view) | {"explained": what},
            key="flow-methods",
            caption="Each row is scaled to its own largest size. No method is the truth.",
        )
        keep_flow(
            subject,
            focus,
            lambda: plain,
            names=tuple(plain.scores),
            figure=lambda: figure("light"),
            lines=python,
            otherwise=keeping.too_long(trace),
        )


def frame(subject: Subject, rows: Mapping[str, Columns]) -> pd.DataFrame:
    """A row for each method and column: method, side, position (of the unit in its text), token, score."""
    n_source = 0 if subject.source_units is None else len(subject.source_units)
    names = labels(subject)
    return pd.DataFrame(
        [
            (name, "source" if i < n_source else "text", i - (n_source if i >= n_source else 0), names[i], value)
            for name, values in rows.items()
            for i, value in enumerate(values.tolist())
        ],
        columns=["method", "side", "position", "token", "score"],
    )


def _refused(refused: Mapping[str, str]) -> None:
    if refused:
        with st.expander(f"{len(refused)} not offered here"):
            for name, reason in refused.items():
                st.markdown(f"**{METHODS[name].title}**: {say.plain(reason)}")
    with st.expander("What each method does"):
        for method in METHODS.values():
            st.markdown(f"**{method.title}**: {say.plain(method.words)} *{say.plain(method.source)}*")


def _agreement(subject: Subject, rows: Mapping[str, Columns], shown: asking.Rows) -> None:
    found, look = table(rows, absolute=True), theme()
    st.markdown("**How far they agree on this text**")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        show_figure(agreement_map(found, theme=look), "flow-agreement")
    with right:
        st.dataframe(found, hide_index=True, key="flow-agreement-table", height=320, column_config=_COLUMNS)
    say.caption(
        f"Over the {found['n'].max()} {subject.view.unit}s that both have a number for: Spearman's rank correlation, "
        "and top3, the share of the three largest that both name. Sizes are compared, not signs.",
        "Two that agree may be wrong together; the yardsticks disagree with each other too.",
        "One text is one draw: for more, see the set of texts below.",
    )
    export_bar(
        "agreement",
        lambda: agreement_map(found, theme=look),
        lambda: found,
        agreement_lines(selection(), subject, shown),
        about=about(subject.trace, view=subject.view),
        key="flow-agreement",
    )


_COLUMNS = {
    **{name: st.column_config.TextColumn(width=105) for name in ("a", "b")},
    "spearman": st.column_config.NumberColumn(format="%.2f", width=72),
    "top3": st.column_config.NumberColumn(format="%.2f", width=48),
    "n": st.column_config.NumberColumn(width=34),
}
