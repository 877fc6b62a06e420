"""Every head of the model by what its absence changes: estimated, exact, and one against the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.ablation import Screened, Sweep
from attnviz.edits import Head
from attnviz.errors import InputError, Unsupported
from attnviz.figures.ablation import ONE_TEXT, attention_scatter, effect_map, effects, estimate_scatter, noise_words
from attnviz.figures.labels import model_words
from attnviz.heads import attention_between
from attnviz.ui import say
from attnviz.ui.ablation import finding, lines
from attnviz.ui.ablation.running import sweeping
from attnviz.ui.ablation.subject import ONE, PLURAL, Subject
from attnviz.ui.components import matrix
from attnviz.ui.export import export_bar
from attnviz.ui.flow.showing import show_figure
from attnviz.ui.head_map import signed
from attnviz.ui.pickers import segments
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_SHOWN = "attnviz_ablation_shown"
OFF = "Zero leaves what the model met in training, so effects may be the zero's and not the head's. "


def overview(subject: Subject) -> Sweep | None:
    """The grid of effects, and beside it the estimate against the exact effect; gives the sweep so far."""
    try:
        guess, refused = finding.screened(subject), ""
    except Unsupported as error:
        guess, refused = None, str(error)
    known = sweeping(subject, by_estimate(subject, guess) if guess is not None else ())
    there = known if known is not None and known.n_reached else None
    shown = _which(guess, there)
    if shown is None:
        say.caption(refused, "Nothing is measured yet.")
        return None
    left, right = st.columns([3, 2], gap="medium")
    with left:
        _grid(subject, shown)
    with right:
        if guess is not None and there is not None:
            _agreement(subject, guess, there)
        else:
            say.caption(refused or f"Measure every {ONE[subject.parts]} to see how far the estimate holds.")
    return known


def by_estimate(subject: Subject, guess: Screened) -> list[Head]:
    """One head of each unit, those of the largest estimates first."""

    def size(unit: tuple[Head, ...]) -> float:
        head = unit[0]
        return abs(float(guess.found[subject.model.info.site(head.site)][head.layer, head.head // len(unit)]))

    return [unit[0] for unit in sorted(subject.units, key=size, reverse=True)]


def _which(guess: Screened | None, known: Sweep | None) -> Sweep | None:
    """The sweep that is drawn: the exact one where there is any, unless the estimate is wanted."""
    if guess is None or known is None:
        return known or guess
    titles = {"exact": f"Exact: {known.n_reached:,} of {known.n_units:,}", "estimate": "Estimate"}
    current = st.session_state.get(_SHOWN, "exact")

    def use(name: str) -> None:
        st.session_state[_SHOWN] = name

    segments("Shown", titles, current, key="ablation-shown", use=use, label_visibility="collapsed")
    return guess if current == "estimate" else known


def _grid(subject: Subject, shown: Sweep) -> None:
    values, info = effects(shown, subject.site), subject.model.info
    most = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    title = shown.title[:1].upper() + shown.title[1:]
    st.markdown(f"**{say.plain(title)}**")
    chosen = {(head.layer, head.head) for head in subject.heads}

    def toggle(layer: int, column: int) -> None:
        pairs, cell = selection().heads, subject.heads_of(layer, column)
        kept = tuple(pair for pair in pairs if pair not in cell)
        whole = len(pairs) - len(kept) == len(cell)
        select(heads=kept if whole else (*kept, *cell), layer=layer, head=cell[0][1])

    focus = subject.focus.head
    here = (i for i in range(values.shape[1]) if (focus.layer, focus.head) in subject.heads_of(focus.layer, i))
    matrix(
        values,
        key="ablation-grid",
        row_labels=[str(i) for i in range(values.shape[0])],
        col_labels=["all"] if subject.parts == "layer" else [str(i) for i in range(values.shape[1])],
        row_axis="layer",
        col_axis={"head": "head", "group": "key/value group", "layer": "heads"}[subject.parts],
        value_name="effect",
        **signed(most)._asdict(),
        selected=(focus.layer, next(here)),
        label=f"All {PLURAL[subject.parts]}, layers down. Pick one to put its heads into the set, or to take them out.",
        cell="free",
        max_height=460,
        title=f"{title}, {info.name}",
        file_name="ablation",
        on_pick=toggle,
    )
    words = caption_of(subject, shown)
    say.caption(
        f"Heads in the set: {len(chosen)}. Click a {ONE[subject.parts]} to put it in, or take it out."
        if chosen
        else f"Click {PLURAL[subject.parts]} into a set.",
        *words,
    )
    scheme, site = theme(), subject.site
    export_bar(
        "ablation",
        lambda: effect_map(shown, site=site, theme=scheme),
        shown.frame,
        lines.effect_lines(selection(), subject, estimate=isinstance(shown, Screened)),
        about=facts(subject, shown),
        key="ablation-grid",
        caption=" ".join(words),
    )


def caption_of(subject: Subject, shown: Sweep) -> list[str]:
    """What effects are and are not, for captions."""
    direction = f"Blue: the outcome is larger without the {ONE[subject.parts]}. Orange: it is smaller."
    words = [
        f"Clean run: {shown.metric} is {shown.baseline:.4f}. Each cell is edited minus clean. {direction}",
        noise_words(shown),
        shown.note,
        OFF if subject.how == "zero" else "",
        ONE_TEXT,
        "A small effect is no proof either: later heads may make up for what is missing.",
    ]
    return [word for word in words if word]


def facts(subject: Subject, shown: Sweep) -> dict[str, Any]:
    """Which run and question, for the head of a file."""
    info = subject.model.info
    return {
        "model": info.name,
        "model_words": model_words(info),
        "text": subject.trace.source_text or subject.trace.text,
        "metric": shown.metric,
        "how": shown.how,
        "units": shown.units,
        "donor": subject.donor,
        "reference_texts": len(subject.texts),
        "baseline": shown.baseline,
        "noise": None if np.isnan(shown.noise) else shown.noise,
        "what": shown.title,
    }


def _agreement(subject: Subject, guess: Screened, known: Sweep) -> None:
    st.markdown("**Estimate against exact**")
    scheme, site = theme(), subject.site

    def figure() -> Any:
        return estimate_scatter(guess, known, site=site, theme=scheme)

    try:
        drawn = figure()
    except InputError as error:
        say.caption(str(error))
        return
    show_figure(drawn, "ablation-estimate")
    exact, first = effects(known, site), guess.found[site]
    there = np.isfinite(exact) & np.isfinite(first)
    far = min(10, int(there.sum()) // 3)  # of all of them both would name the same
    tops = [set(np.argsort(np.abs(v[there]))[::-1][:far].tolist()) for v in (exact, first)]
    say.caption(
        f"Of the {far} strongest {PLURAL[subject.parts]} by the exact effect{so_far(known)}, "
        f"{len(tops[0] & tops[1])} are among the {far} strongest estimates."
        if far
        else "",
        "On the dotted line both agree.",
        "An estimate is the first term of a series: it fails where an effect bends, so trust the exact one.",
    )
    export_bar(
        "estimate against exact",
        figure,
        lambda: merged(guess, known),
        lines.estimate_lines(selection(), subject),
        about=facts(subject, known),
        key="ablation-estimate",
    )


def so_far(known: Sweep) -> str:
    """Which units a sentence is about, where the sweep has not reached all."""
    return "" if known.complete else f", of the {known.n_reached:,} measured so far,"


def merged(guess: Screened, known: Sweep) -> pd.DataFrame:
    """A row for each unit that was measured: its effect, and its estimate as `effect_estimate`."""
    exact = known.frame()
    return exact.merge(guess.frame(), on=[name for name in exact if name != "effect"], suffixes=("", "_estimate"))


def against_attention(subject: Subject, known: Sweep) -> None:
    """Every head's attention between the selected query and key, against the size of its effect."""
    st.markdown("**Attention against effect**")
    if known.units != "head":
        say.caption("A head has attention, a group or a layer has not: take out heads one by one to compare.")
        return
    focus, scheme, site = subject.focus, theme(), subject.site
    queries, keys = subject.trace.axes(focus.head.site)
    attention = attention_between(subject.trace, focus.queries, focus.keys, site=focus.head.site, view=focus.view)
    between = f"“{queries[focus.query].text}” to “{keys[focus.key].text}”"

    def figure() -> Any:
        return attention_scatter(attention, known, site=site, between=between, theme=scheme)

    try:
        drawn = figure()
    except InputError as error:
        say.caption(str(error))
        return
    show_figure(drawn, "ablation-attention")
    found = effects(known, site)
    there = np.isfinite(attention) & np.isfinite(found)
    layer, head = (int(i) for i in np.unravel_index(np.nanargmax(np.where(there, attention, -1)), attention.shape))
    change = "nothing measurable" if found[layer, head] == 0 else f"{found[layer, head]:+.4f}"
    say.caption(
        f"Each dot is a head. Across: attention of query {focus.query} {between} of key {focus.key}, selected on "
        "Explore. Up: how far the outcome moves without the head, either way.",
        "Weighted by value norm, as the sidebar says." if focus.view.sinks.how == "value-norm" else "",
        f"The head that looks there most{so_far(known)} is L{layer}H{head} ({attention[layer, head]:.2f}); without it: "
        f"{change}.",
        "Attention is what a head reads, not what comes of it: expect heads in every corner.",
    )

    def frame() -> Any:
        table = known.frame()
        table = table[table["site"] == site]
        pairs = zip(table["layer"], table["head"], strict=True)
        return table.assign(attention=[float(attention[pair]) for pair in pairs])

    export_bar(
        "attention against effect",
        figure,
        frame,
        lines.attention_lines(selection(), subject, between),
        about=facts(subject, known) | {"between": between},
        key="ablation-attention",
    )
