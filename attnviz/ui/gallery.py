"""All heads: the thumbnails and what they are, and where the chosen head stands among all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import streamlit as st
import torch

from attnviz.edits import Head
from attnviz.figures.labels import model_words, run_words, sink_words, unit_words
from attnviz.heads import Scores, attention_between
from attnviz.overview import Overview, overview
from attnviz.settings import settings
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.components.gallery import Pair, gallery
from attnviz.ui.focus import Focus
from attnviz.ui.head_choice import choice
from attnviz.ui.jobs import Job
from attnviz.ui.python_lines import SIDE
from attnviz.ui.reading import palette_of
from attnviz.ui.selection import SAVED, SCORES
from attnviz.ui.session import select, selection
from attnviz.ui.titles import SCORE_TITLES
from attnviz.ui.views import score_caption
from attnviz.ui.work import digest, once

_PIXELS = 650_000  # of all thumbnails together: under 900 kB in what goes to the browser
_LEAST_SIDE = 16


def overview_for(trace: Trace, focus: Focus) -> Overview:
    """Thumbnails and scores of every head: kept for all sessions, waited for in view."""
    chosen, site, view = selection(), focus.head.site, focus.view
    name = chosen.model or settings().default_model
    saved = chosen.text if chosen.model == SAVED else ""  # files of one text may differ in model and edits
    key = (name, "overview", digest(trace.text), digest(trace.source_text), chosen.chat, saved, site, view)

    def compute(job: Job) -> Overview:
        job.report("looking at every head", 0.0)
        return overview(trace, site=site, view=view, side=side_of(trace, site), progress=job.step)

    return cast(Overview, once(key, "Looking at every head", compute))


def side_of(trace: Trace, site: str | None) -> int:
    """Pixels of a thumbnail's side: fewer for a model of many heads."""
    site = trace.info.site(site)
    return min(SIDE, max(_LEAST_SIDE, math.isqrt(_PIXELS // (trace.info.layers_of(site) * trace.info.heads_of(site)))))


def all_scores(trace: Trace, focus: Focus, found: Overview) -> dict[str, Scores]:
    """Every score of every head, by the names of SCORES."""
    between = attention_between(trace, focus.queries, focus.keys, site=focus.head.site, view=focus.view)
    return {name: between if name == "between" else found.scores[name] for name in SCORES}


def table(found: Overview, scores: dict[str, Scores]) -> pd.DataFrame:
    """A row for each head: layer, head, every score, and the share that the view took away."""
    frame = found.frame()
    frame.insert(2, "between", scores["between"][frame["layer"], frame["head"]])
    return frame


def pictures(trace: Trace, focus: Focus, found: Overview, scores: Scores, order: Sequence[Pair]) -> None:
    """The thumbnails, and what they are."""
    score = selection().score
    queries, keys = focus.view.axes(trace, focus.head.site)
    pooled = found.thumbnails.shape[2:] != (len(queries), len(keys))
    pixel = "largest attention of a block" if pooled else "attention"
    if not order:
        st.info(
            "No head passes these filters. Loosen them, or press “Show all heads” there.", icon=":material/filter_alt:"
        )
    gallery(
        found.thumbnails,
        scores,
        key="gallery",
        exists=found.exists,
        order=order,
        arranged="ranked" if choice().order == "ranked" else "layer",
        value_name=SCORE_TITLES[score].lower(),
        pixel_name=pixel,
        palettes=palette_of(selection().palette),
        scale=selection().scale,
        selected=(focus.head.layer, focus.head.head),
        label="Every head's attention as a small picture. Pick one to see its map.",
        title=f"{'Heads by ' + SCORE_TITLES[score].lower() if choice().order == 'ranked' else 'All heads'}, "
        f"{run_words(trace)}, {trace.info.name}",
        file_name="all-heads",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    caption(trace, focus, found, scores, len(order))


def caption(trace: Trace, focus: Focus, found: Overview, scores: Scores, shown: int) -> None:
    """Which run, what a thumbnail and the score are, and what they are not."""
    score, site, view = selection().score, focus.head.site, focus.view
    lowest = score in choice().lowest
    queries, keys = (len(units) for units in view.axes(trace, site))
    height, width = found.thumbnails.shape[2:]
    size = f"{queries} × {keys} {view.unit}s"
    if (height, width) != (queries, keys):
        size += f" in {height} × {width} pixels, each the largest weight of its block"
    hidden = bool(view.hidden(trace, site).any())
    nothing = found.exists.any() and not np.isfinite(scores).any()
    say.caption(
        f"{shown} of {int(found.exists.sum())} heads, {run_words(trace)} of {model_words(trace.info)}.",
        f"Each thumbnail is one head's attention on this text, queries down and keys across: {size}.",
        f"{SCORE_TITLES[score]}: {score_caption(score, focus)}",
        *[f"{'Lowest' if lowest else 'Highest'} first."] * (choice().order == "ranked"),
        *["The score reads the pattern before sinks are dealt with."] * (score == "sink" and view.sinks.active),
        *[f"There is no such score here: {_why_nothing(focus, score)}."] * bool(nothing),
        unit_words(view),
        sink_words(view, trace, site, torch.from_numpy(found.taken[found.exists])),
        *["Thumbnails draw keys that were taken away like keys without attention."] * hidden,
        "One text: a place to look closer, not a verdict.",
    )


def _why_nothing(focus: Focus, score: str) -> str:
    if score == "between":
        return "all the chosen keys are taken away as sinks"
    if focus.head.site == "cross" and score in ("previous", "distance"):
        return "queries and keys of cross-attention are two texts"
    return "no query has a choice of keys"


def ranks(scores: dict[str, Scores], head: Head) -> None:
    """The chosen head's scores, and where each stands among all heads."""
    rows = [
        {
            "score": SCORE_TITLES[name],
            "value": float(values[head.layer, head.head]),
            "rank": rank_words(values, head.layer, head.head),
        }
        for name, values in scores.items()
    ]
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, column_config={"value": st.column_config.NumberColumn(format="%.4f")}
    )


def rank_words(scores: Scores, layer: int, head: int) -> str:
    """Where a head stands among all that have this score, from the nearer end: "3rd lowest of 270"."""
    there, value = scores[np.isfinite(scores)], scores[layer, head]
    if not np.isfinite(value):
        return "no score"
    above, below = int((there > value).sum()), int((there < value).sum())
    place, end = (above, "highest") if above <= below else (below, "lowest")
    return f"{'' if not place else _ordinal(place + 1) + ' '}{end} of {there.size}"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
