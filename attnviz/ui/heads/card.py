"""The card of one head: what every detector says of it, its label, where it fires most, and what is written of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.corpus import Summary
from attnviz.errors import InputError, Unsupported
from attnviz.heads import DETECTORS, VARIANTS, Probed
from attnviz.heads.labels import NONE
from attnviz.ui import say
from attnviz.ui.components import token_strip
from attnviz.ui.head_map import round_up
from attnviz.ui.heads import finding
from attnviz.ui.heads.asking import Asked, titled
from attnviz.ui.heads.finding import Means
from attnviz.ui.heads.firing import Fired, fired
from attnviz.ui.heads.known import known_words
from attnviz.ui.reading import palette_of
from attnviz.ui.selection import PROBES
from attnviz.ui.session import select, selection, stores
from attnviz.ui.views import flow

_LABEL_CHARS = 40
_FEW = 20  # texts; intervals of fewer are too narrow
_WANTED, _GO = "attnviz_heads_probe", "attnviz_heads_go"


def card(ask: Asked, summary: Summary) -> None:
    """The selected head in numbers and in words."""
    head = ask.head
    st.markdown(f"**L{head.layer}H{head.head}{say.plain(ask.site_words)}**")
    probed, refused = _probes(ask)
    rows = {titled(name).title: finding.of_texts(summary, name) for name in DETECTORS}
    if probed is not None:
        there = [name for name in PROBES if np.isfinite(probed.scores[name]).any()]
        rows |= {titled(name).title: finding.of_samples(probed, name) for name in there}
    st.dataframe(_table(ask, rows), hide_index=True, key="heads-card", height="content")
    if probed is None and not refused:
        st.button(
            "Add induction, copying and position",
            icon=":material/casino:",
            key="heads-probe",
            type="tertiary",
            on_click=lambda: st.session_state[_WANTED].add(ask.name),
            help="Runs the model on random tokens, which takes some seconds.",
        )
    say.caption(
        "Means over texts, induction and the like over samples of random tokens, with 95% intervals: how far other "
        "texts of the kind would move them. Beside each is what even attention scores.",
        f"With {summary.n} texts they are a hint, and too narrow: with six they hold the truth nine times in ten."
        if 1 < summary.n < _FEW
        else "",
        refused,
    )
    _label(ask, summary, probed)
    say.caption(f"What is written about it: {known_words(ask.model.info, ask.name, head)}")
    say.caption("Its effect is measured on the Ablation page: where a head looks is not what it does.")


def _probes(ask: Asked) -> tuple[Probed | None, str]:
    """(what random tokens say of these heads, if somebody wanted it; why there is nothing)."""
    wanted = st.session_state.setdefault(_WANTED, set())
    before = finding.probed_before(ask)
    if before is not None or (ask.name not in wanted and selection().detector not in PROBES):
        return before, ""
    try:
        found = finding.probed(ask)
    except (InputError, Unsupported) as error:
        return None, str(error)
    if found.site != ask.site:
        return None, f"Random tokens are read by the {found.site} alone, so they say nothing of these heads."
    return found, ""


def _table(ask: Asked, rows: dict[str, Means]) -> pd.DataFrame:
    """A row for each measure: the mean with its interval and chance, without the sink and with it."""
    out = []
    for title, means in rows.items():
        row = {"measure": title}
        for variant in (1, 0):
            at = (variant, ask.head.layer, ask.head.head)
            value, low, high = (float(x[at]) for x in (means.mean, means.low, means.high))
            chance = float(means.chance[variant, ask.head.layer])
            interval = f" ({low:.3f} to {high:.3f})" if np.isfinite(low) else ""
            row[VARIANTS[variant]] = f"{value:.3f}{interval}" if np.isfinite(value) else "nothing to measure"
            row["chance" + " " * variant] = f"{chance:.3f}" if np.isfinite(chance) else ""
        out.append(row)
    return pd.DataFrame(out)


def _label(ask: Asked, summary: Summary, probed: Probed | None) -> None:
    """What the head does most above chance, with the sink and without it; and how far labels rest on it."""
    every = finding.labelled(summary, probed)
    mine = every.rows[(every.rows["layer"] == ask.head.layer) & (every.rows["head"] == ask.head.head)]
    if mine.empty:
        say.caption(
            "Too few texts for labels: a label has to lie above chance by its interval, which takes two or more."
        )
        return
    with_sink, without = (_label_words(str(mine[name].iloc[0])) for name in VARIANTS)
    say.caption(
        f"Its label without the sink: {without}. With the sink: {with_sink}.",
        f"Without the sink the label of {every.changed:.0%} of all heads is another one, or gone: a label that rests "
        "on the sink says little.",
        "A label is the detector farthest above chance, if it goes a quarter of the way to 1; it is the best of "
        f"{'five' if probed is None else 'six'} descriptions, not what the head is for.",
    )


def _label_words(label: str) -> str:
    return "nothing that stands out" if label == NONE else titled(label).title.lower()


def fires(ask: Asked, run: str) -> None:
    """The texts where the head does most of what the detector looks for, and two where it does its usual."""
    name = selection().detector
    ask, known = ask.at(name), titled(name)
    st.markdown(f"**Where it fires most: {say.plain(known.title.lower())}**")
    if name in PROBES:
        say.caption("This is measured on random tokens, so there is no text to open. Choose another measure.")
        return
    try:
        found = fired(ask, run, name)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    if not found.most:
        say.caption(f"No text has a row of {known.title.lower()} with a choice in this head.")
        return
    for rank, one in enumerate(found.most):
        _strip(ask, "fired", rank, one)
    most = {"entropy": "the highest entropy", "distance": "the largest distance"}.get(name, f"the most {known.words}")
    say.caption(
        f"The {len(found.most)} texts where L{ask.head.layer}H{ask.head.head} has {most}, of {ask.about.n:,}.",
        "Tinted is one row of each, of the framed token: the row farthest above what even attention would give it.",
        ask.sink_words,
        "The best of many texts show the head at its strongest, not what it mostly does.",
    )
    st.markdown("**What it mostly does**")
    for rank, one in enumerate(found.usual):
        _strip(ask, "usual", rank, one)
    say.caption(
        f"Texts nearest the median over texts, {found.median:.3f}, each by a row with the median of the text's rows.",
        "Half of all texts have less of it than these.",
    )


def _strip(ask: Asked, which: str, rank: int, one: Fired) -> None:
    keys, weights = one.row.keys, one.row.shown()[0].copy()
    own = ask.site != "cross"
    if ask.model.family == "decoder" or ask.site == "decoder":
        weights[one.query + 1 :] = np.nan
    key = int(np.nanargmax(weights)) if np.isfinite(weights).any() else None
    label = f", {one.item.label[:_LABEL_CHARS]}" if one.item.label else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        say.caption(
            f"Text {one.number}{label}: {one.value:.3f} over all rows, {one.at_query:.3f} at {one.query} “{one.token}”."
        )
        st.button(
            "Open in Explore",
            icon=":material/visibility:",
            key=f"heads-open-{which}-{rank}",
            type="tertiary",
            on_click=lambda: _open(ask, one, one.query, key),
        )
    token_strip(
        keys.labels,
        weights,
        key=f"heads-{which}-{rank}",
        **flow(keys, one.keys),
        palettes=palette_of(selection().palette),
        high=round_up(float(np.nanmax(weights, initial=0.0))),
        selected=one.query if own else None,
        target=key,
        label=f"Text {one.number}. Pick a token to open the text there.",
        unseen_word="faded: not seen or taken away",
        on_pick=lambda token: _open(ask, one, token if own else one.query),
    )


def _open(ask: Asked, one: Fired, query: int, key: int | None = None) -> None:
    """Make this text, head and query what all pages look at, read as it is here, and go to Explore."""
    put = stores().texts.put
    select(
        text=put(one.item.text),
        other=put(one.item.pair) if one.item.pair else "",
        chat=False,
        unit="token",
        sinks=ask.view.sinks.how,
        site=ask.head.site,
        layer=ask.head.layer,
        head=ask.head.head,
        query=query,
        key=key,
    )
    st.session_state[_GO] = True


def go() -> None:
    """To Explore, if a text was opened."""
    if st.session_state.pop(_GO, False):
        st.switch_page("pages/explore.py")
