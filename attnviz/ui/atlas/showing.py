"""The atlas on the page: a map of the model to pick a head from, and all that is known of that head."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import streamlit as st

from attnviz.corpus import Summary
from attnviz.edits import Head
from attnviz.figures.atlas import Known, atlas_frame, atlas_map, confidences, counts
from attnviz.figures.labels import model_words
from attnviz.heads import DETECTORS, VARIANTS
from attnviz.store import Brief
from attnviz.ui import say
from attnviz.ui.atlas.finding import MOST, Atlas, measure, run_of
from attnviz.ui.export import export_bar
from attnviz.ui.head_map import Colours, head_matrix
from attnviz.ui.heads import finding as of_heads
from attnviz.ui.heads.asking import Asked, titled
from attnviz.ui.heads.known import known_words
from attnviz.ui.heads.overview import heads_view
from attnviz.ui.notebook.listing import facts, status_badge
from attnviz.ui.notebook.restoring import go_to
from attnviz.ui.notebook.shelf import by, open_finding, store
from attnviz.ui.pickers import detector_picker, segments
from attnviz.ui.reading import palette_of
from attnviz.ui.session import act, select, selection, show
from attnviz.ui.theme import theme

Shown = Literal["findings", "confidence", "detector"]
_TITLES: dict[Shown, str] = {
    "findings": "Number of findings",
    "confidence": "Confidence",
    "detector": "Detector score",
}
_SHOWN, _MEASURE = "attnviz_atlas_shown", "attnviz_atlas_measure"
_LISTED = 20
_LINES = """from attnviz import load_model
from attnviz.figures.atlas import atlas_map, counts, known_of
from attnviz.store import open_store

model = load_model({name!r})
info = model.info
findings = open_store().briefs(by="your name", model=info.name, limit={most})  # as you keep them: say your name
known = known_of(findings, site={site!r})
shape = (info.layers[{at!r}][-1] + 1, max(info.layer_heads[{at!r}]))
figure = atlas_map(counts(known, shape), told={{pair: one.labels for pair, one in known.items()}})"""


def atlas_map_view(ask: Asked, atlas: Atlas) -> None:
    """Every head of the site, coloured by what is said of it or, once that was measured, by what a detector scores."""
    titles = {name: title for name, title in _TITLES.items() if name != "detector" or atlas.summary is not None}
    shown: Shown = st.session_state.get(_SHOWN, "findings")
    shown = shown if shown in titles else "findings"
    segments("Coloured by", titles, shown, key="atlas-shown", use=_show)
    if shown == "detector" and atlas.summary is not None:
        _scored(ask, atlas.summary)
    else:
        _told(ask, atlas, shown)


def _scored(ask: Asked, summary: Summary) -> None:
    """The map of one detector, as the Heads page draws it."""
    names = {name: titled(name).title for name, one in DETECTORS.items() if ask.kind in one.sites}
    if selection().detector not in names:  # of another site or, chosen on that page, one that reads random tokens
        show(replace(selection(), detector=next(iter(names))))
    detector_picker("Measured by", names, selection().detector, key="atlas-detector")
    heads_view(ask, run_of(ask), summary)


def _told(ask: Asked, atlas: Atlas, shown: Shown) -> None:
    """The map of what findings say."""
    shape = _shape(ask)
    values = (counts if shown == "findings" else confidences)(atlas.known, shape)
    there = np.full(shape, np.nan, np.float32)
    for layer, n in zip(ask.model.info.layers[ask.site], ask.model.info.layer_heads[ask.site], strict=True):
        there[layer, :n] = values[layer, :n]
    high = 1.0 if shown == "confidence" else max(1.0, float(values.max(initial=0.0)))
    title = f"{_TITLES[shown]}, {ask.model.info.name}{ask.site_words}"
    head_matrix(
        there,
        ask.head,
        key="atlas-map",
        purpose="Pick one to see what is known of it.",
        value_name=_TITLES[shown].lower(),
        colours=Colours(palette_of(selection().palette), 0.0, high),
        max_height=480,
        title=title,
        file_name="atlas",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    caption = (
        f"How many findings name a head: {atlas.n} of this model that you may see{' at least' if atlas.cut else ''}."
        if shown == "findings"
        else "The largest confidence that somebody gave a finding of the head, refuted ones aside.",
        "A head without a colour is one that nobody wrote of yet; that says nothing of what it does.",
        "Findings of the same name but other weights stand here, too: each says which it was measured on.",
    )
    say.caption(*caption)
    look, table = theme(), atlas_frame(atlas.known, atlas.detected)
    told = {pair: one.labels for pair, one in atlas.known.items()}
    export_bar(
        f"atlas {ask.model.info.name}",
        lambda: atlas_map(there, told=told, name=_TITLES[shown].lower(), theme=look, title=title),
        lambda: table,
        _LINES.format(name=ask.name, site=ask.head.site, at=ask.site, most=MOST),
        about={"model": ask.model.info.name, "model_words": model_words(ask.model.info), "site": ask.site},
        key="atlas",
        caption=" ".join(caption),
    )


def _shape(ask: Asked) -> tuple[int, int]:
    info = ask.model.info
    return info.layers[ask.site][-1] + 1, max(info.layer_heads[ask.site])


def _show(shown: Shown) -> None:
    act()
    st.session_state[_SHOWN] = shown


def head_view(ask: Asked, atlas: Atlas) -> None:
    """What is known of the selected head: findings, labels, detectors, papers."""
    head = ask.head
    known = atlas.known.get((head.layer, head.head), Known())
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**What is known of L{head.layer}H{head.head}{say.plain(ask.site_words)}**", width="content")
        for page, icon in (("Explore", ":material/visibility:"), ("Heads", ":material/psychology:")):
            st.button(page, icon=icon, key=f"atlas-{page.lower()}", type="tertiary", on_click=_to, args=(page,))
    if known.labels:
        with st.container(horizontal=True, gap="small"):
            for label in known.labels[:8]:
                st.badge(say.plain(label), color="blue")
    if not known.findings:
        say.caption(
            "Nobody kept a finding of this head yet. Where a page shows something worth knowing of it, "
            "press “Keep this”.",
            "" if atlas.n else "No finding of this model is here at all: the map fills as people keep them.",
        )
    for one in known.findings[:_LISTED]:
        with st.container(border=True, key=f"atlas-finding-{one.id}"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                status_badge(one)
                st.space("stretch")
                st.button(
                    "Open it",
                    key=f"atlas-open-{one.id}",
                    icon=":material/book_2:",
                    type="tertiary",
                    on_click=_open,
                    args=(one.id,),
                )
            st.markdown(say.plain(one.claim))
            say.caption(facts(one))
            called = _called(one)
            if called:
                say.caption(called)
    if len(known.findings) > _LISTED:
        say.caption(f"And {len(known.findings) - _LISTED} more: search the Notebook for this head.")
    _detectors(ask, atlas, head)
    say.caption(f"What is written about it: {known_words(ask.model.info, ask.name, head)}")


def _called(one: Brief) -> str:
    """What others call a finding."""
    given = [f"{note.by}: {', '.join(note.labels) or 'none fits'}" for note in store().labels_of(one.id, by=by())]
    return f"It is called: {'; '.join(given)}." if given else ""


def _detectors(ask: Asked, atlas: Atlas, head: Head) -> None:
    """What the detectors measure of it, and the label that follows."""
    if atlas.summary is None or atlas.labelled is None:
        st.button(
            f"Measure what each head does on {ask.about.n:,} texts",
            key="atlas-measure",
            icon=":material/psychology:",
            on_click=_ask,
            args=(ask.name, ask.about.key),
        )
        say.caption("Detectors were not run yet on these texts. The result is kept, and the same as on the Heads page.")
        if st.session_state.get(_MEASURE) == (ask.name, ask.about.key):
            measure(ask)
            del st.session_state[_MEASURE]
            st.rerun()
        return
    rows = atlas.labelled.rows
    mine = rows[(rows["layer"] == head.layer) & (rows["head"] == head.head)]
    if not mine.empty:
        with_sink, without = (_label_words(str(mine[name].iloc[0])) for name in VARIANTS)
        st.markdown(f"By its detectors: **{without}**; with the sink in it: {with_sink}.")
    st.dataframe(_scores(atlas.summary, head, ask.variant), hide_index=True, key="atlas-detectors", height="content")
    say.caption(
        f"Means over {atlas.summary.n:,} texts with 95% intervals, and what even attention scores. {ask.sink_words}",
        "They say where the head looks on such texts, not what it is for.",
    )


def _scores(summary: Summary, head: Head, variant: int) -> pd.DataFrame:
    rows = []
    for name in DETECTORS:
        means, at = of_heads.of_texts(summary, name), (variant, head.layer, head.head)
        if np.isfinite(means.mean[at]):
            rows.append(
                {
                    "detector": titled(name).title,
                    "value": f"{means.mean[at]:.3f}",
                    "95% interval": f"{means.low[at]:.3f} to {means.high[at]:.3f}"
                    if np.isfinite(means.low[at])
                    else "",
                    "even": f"{means.chance[variant, head.layer]:.3f}",
                }
            )
    return pd.DataFrame(rows, columns=["detector", "value", "95% interval", "even"])


def _label_words(name: str) -> str:
    return titled(name).title.lower() if name in DETECTORS or name == "induction" else name


def _ask(name: str, texts: str) -> None:
    act()
    st.session_state[_MEASURE] = (name, texts)


def _to(page: str) -> None:
    act()
    go_to(page)


def _open(finding: str) -> None:
    open_finding(finding)
    go_to("Notebook")
