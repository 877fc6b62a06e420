"""Methods: every method on one target as aligned bars, the yardsticks beside them, and how far all of them agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st
import torch

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
from attnviz.ui.flow import finding, keeping
from attnviz.ui.flow.lines import agreement_lines, bars_lines
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.flow.target import Subject, goal_words, seen_until
from attnviz.ui.session import selection
from attnviz.ui.theme import theme
from attnviz.view import Sinks

Columns = npt.NDArray[np.float64]  # [column]: the source's units first, then the text's
Chosen = tuple[Sinks | None, tuple[str, ...]]  # the sinks that are taken away, the yardsticks
_ASKED, _WITHOUT = "attnviz_flow_yardsticks", "attnviz_flow_without_sinks"
_WITHOUT_WORDS = "without sinks"


def methods_view(subject: Subject) -> None:
    """The bars, what is refused, and the table of agreement."""
    without = _without_sinks(subject)
    names = tuple(METHODS)
    plain = finding.found_for(subject, names, Sinks())
    rows = {METHODS[name].title: joined(subject, plain.scores[name]) for name in names if name in plain.scores}
    if without is not None:
        other = finding.found_for(subject, names, without)
        for name, scores in other.scores.items():
            if differs(scores, plain.scores.get(name)):
                rows[f"{METHODS[name].title}, {_WITHOUT_WORDS}"] = joined(subject, scores)
    hows = _asked_for(subject)
    rows |= {finding.YARDSTICKS[how]: joined(subject, one) for how, one in _effects(subject, hows).items()}
    if not rows:
        say.caption("No method can explain this here; the reasons stand below.")
    else:
        _bars(subject, plain, rows, (without, hows))
    _refused(plain.refused)
    if len(rows) > 1:
        _agreement(subject, rows, (without, hows))


def differs(scores: Scores, plain: Scores | None) -> bool:
    """Whether taking sinks away changed anything: parts and gradients know no such variant."""
    return plain is None or not torch.equal(scores.text, plain.text) or scores.source is not plain.source


def joined(subject: Subject, found: Scores | Effects) -> Columns:
    """[column]: by units, and as far as a causal model sees."""
    return columns(found, subject.units, subject.source_units, until=seen_until(subject))


def labels(subject: Subject) -> list[str]:
    """[column]."""
    source = subject.source_units
    return [*([] if source is None else source.labels), *subject.units.labels]


def _without_sinks(subject: Subject) -> Sinks | None:
    """What is taken away in the second variant; None where it is not wanted."""
    active = subject.view.sinks.active
    st.session_state["flow-without"] = active or st.session_state.get(_WITHOUT, False)

    def switched() -> None:
        st.session_state[_WITHOUT] = st.session_state["flow-without"]

    wanted = st.toggle(
        "Also without sinks",
        key="flow-without",
        disabled=active,
        on_change=switched,
        help="Each method once more with sinks taken out of every layer: the first token, or what the sidebar hides.",
    )
    if not wanted:
        return None
    return subject.view.sinks if active else Sinks("renormalise")


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
    st.session_state["flow-yardsticks"] = list(asked["hows"]) if asked.get("of") == of else []

    def chose() -> None:
        st.session_state[_ASKED] = {"of": of, "hows": tuple(st.session_state["flow-yardsticks"])}

    chosen = st.pills(
        "Yardsticks",
        tuple(finding.YARDSTICKS),
        key="flow-yardsticks",
        selection_mode="multi",
        format_func=finding.YARDSTICKS.__getitem__,
        on_change=chose,
        help="What really becomes of the outcome when one token is taken away: a run for each token, some seconds.",
    )
    return tuple(how for how in finding.YARDSTICKS if how in chosen)


def _effects(subject: Subject, hows: Sequence[str]) -> dict[str, Effects]:
    effects = {how: finding.effects_for(subject, how) for how in hows}
    if effects:
        notes = [one.note for one in effects.values()]
        say.caption(*notes, "Each leaves the texts that the model knows in its own way.")
    return effects


def _bars(subject: Subject, plain: finding.Found, rows: Mapping[str, Columns], chosen: Chosen) -> None:
    names, look, trace = labels(subject), theme(), subject.trace
    what = plain.title or f"the state of {goal_words(subject)}"
    title = f"Where {what} comes from"

    def figure(theme: Any = look) -> Any:
        return bars(names, rows, theme=theme, title=title)

    st.markdown(f"**{say.plain(title)}**")
    show_figure(figure(), "flow-bars")
    unit = subject.view.unit
    say.caption(
        f"{plain.title or goal_words(subject)}, {run_words(trace)} of {model_words(trace.info)}.",
        "Each row has its own scale, which stands at its left.",
        f"By {unit}: what its tokens have is added up." if unit != "token" else "",
        "Rollout, max-flow and the two baselines do not look at what is predicted, only at where states come from: "
        "they say the same of every answer.",
        "Position alone knows nothing of the text: a method that looks like it has found little more.",
        "No method is the truth, and none is the effect of taking a token away: that is what the yardsticks measure.",
    )
    export_bar(
        "methods",
        figure,
        lambda: frame(subject, rows),
        bars_lines(selection(), subject, *chosen),
        about=about(trace, view=subject.view) | {"explained": what},
        key="flow-methods",
        caption="Each row is scaled to its own largest size. No method is the truth.",
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


def _agreement(subject: Subject, rows: Mapping[str, Columns], chosen: Chosen) -> None:
    found, look = table(rows, absolute=True), theme()
    st.markdown("**How far they agree on this text**")
    left, right = st.columns([3, 2], gap="medium")
    with left:
        show_figure(agreement_map(found, theme=look), "flow-agreement")
    with right:
        st.dataframe(found, hide_index=True, key="flow-agreement-table", height=320, column_config=_NUMBERS)
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
        agreement_lines(selection(), subject, *chosen),
        about=about(subject.trace, view=subject.view),
        key="flow-agreement",
    )


_NUMBERS = {name: st.column_config.NumberColumn(format="%.2f") for name in ("spearman", "top3")}
