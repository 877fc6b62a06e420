"""Every head of the model by one measure, as a map to pick a head from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.corpus import Summary
from attnviz.errors import InputError, Unsupported
from attnviz.figures.heads import detector_map, parted, span
from attnviz.figures.labels import model_words
from attnviz.figures.palette import Theme
from attnviz.heads import DETECTORS, VARIANTS, Probed
from attnviz.ui import say
from attnviz.ui.export import export_bar
from attnviz.ui.head_map import Colours, head_matrix
from attnviz.ui.heads import finding
from attnviz.ui.heads.asking import Asked, titled
from attnviz.ui.heads.finding import Means
from attnviz.ui.heads.lines import detector_lines, probe_lines
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.notebook.offering import ALONE
from attnviz.ui.notebook.offering_corpus import Scored, keep_scored
from attnviz.ui.reading import palette_of
from attnviz.ui.selection import PROBES
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme

_ONE_SIDED = ("entropy", "position")  # even attention has the most there is: colours run from zero


def heads_view(ask: Asked, run: str, summary: Summary) -> None:
    """The map of the chosen detector, its caption, and the files to take along."""
    name = selection().detector
    ask = ask.at(name)
    if name in PROBES:
        _probe_view(ask, name)
        return
    found = finding.of_texts(summary, name)
    if ask.kind not in DETECTORS[name].sites:
        say.caption(f"{titled(name).title} makes no sense for cross-attention: its keys are another text.")
        return
    _map(
        ask,
        found,
        name,
        summary.frame,
        f"Mean over {summary.n:,} texts{_left(ask, run)}.",
        detector_lines(selection(), ask, parted=name not in _ONE_SIDED),
        run,
    )


def _probe_view(ask: Asked, name: str) -> None:
    try:
        found = finding.probed(ask)
    except (InputError, Unsupported) as error:
        say.problem(error)
        return
    if found.site != ask.site:
        say.caption(f"Random tokens are read by the {found.site} alone. Choose its attention above.")
        return
    if name == "copy" and found.reason:
        say.caption(f"There are no copy scores: {found.reason}")
        return
    n = len(found.scores[name])
    _map(
        ask,
        finding.of_samples(found, name),
        name,
        lambda: probe_frame(found),
        f"Mean over {n} samples of random tokens, each given twice.",
        probe_lines(selection(), ask, parted=name not in _ONE_SIDED),
    )


def _map(
    ask: Asked,
    found: Means,
    name: str,
    frame: Callable[[], pd.DataFrame],
    mean_words: str,
    python: str,
    run: str = "",
) -> None:
    """`run`: of the corpus; "" where random tokens were read."""
    values, chances = found.mean[ask.variant], found.chance[ask.variant]
    if not np.isfinite(values).any():
        say.caption(f"{titled(name).title}: no text has a row with a choice, so no head has a value. {ask.sink_words}")
        return
    chance = float(np.nanmean(chances))
    even = None if name in _ONE_SIDED else chance
    low, high = span(values, even)
    look = palette_of(selection().palette)
    if even is not None:
        look = {scheme: parted(scheme, low, even, high) for scheme in ("light", "dark")}
    known = titled(name)
    title = f"{known.title}{ask.site_words}, {ask.model.info.name}, {ask.about.name}"
    head_matrix(
        values,
        ask.head,
        key="heads-map",
        purpose="Pick one to see what it does.",
        value_name=known.title.lower(),
        colours=Colours(look, low, high),
        max_height=480,
        title=title,
        file_name=f"heads-{name}",
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    parting = "Blue heads are above that, orange heads below." if even is not None else ""
    caption = (
        f"{known.title}: {known.words}.",
        mean_words,
        ask.sink_words if name != "copy" else "It is read off what heads write, so the sink makes no difference.",
        f"Even attention scores {chance:.3f} here." if name != "copy" else "Tokens raised at random come to 0.",
        parting,
        f"Source: {known.source}.",
        "It says where heads look on such texts, not what that does: attention is not effect.",
    )
    say.caption(*caption)
    scheme, note = theme(), f"{mean_words} {ask.sink_words}"

    def figure(theme: Theme = scheme) -> go.Figure:
        return detector_map(values, chance=even, name=known.title.lower(), note=note, theme=theme, title=title)

    with st.container(horizontal=True):
        export_bar(
            f"heads {name}",
            figure,
            frame,
            python,
            about=facts(ask) | {"detector": name, "shown": VARIANTS[ask.variant]},
            key="heads-map",
            caption=" ".join(filter(None, caption)),
        )
        if run:
            scored = Scored(ask.model, ask.head, name, ask.variant, ask.about, run, ask.sinks)
            keep_scored("Heads", scored, figure=lambda: figure("light"), lines=python)
        else:
            keep_this(
                "Heads",
                heads=[ask.head],
                figure=lambda: figure("light"),
                lines=python,
                caption=f"{ALONE}it is of random tokens, and a finding measures texts. Plan induction on texts that "
                "repeat themselves.",
            )


def _left(ask: Asked, run: str) -> str:
    """How many texts were left out, and why."""
    left = finding.left_out(ask, run)
    words = ", ".join(f"{count:,} with {reason}" for reason, count in left.items())
    return f"; left out: {words}" if words else ""


def probe_frame(found: Probed) -> pd.DataFrame:
    """A row for each measurement on random tokens, as `Summary.frame` has them."""
    parts = []
    for name in found.scores:
        means = finding.of_samples(found, name)
        variant, layer, head = np.nonzero(np.isfinite(means.mean))
        parts.append(
            pd.DataFrame(
                {
                    "detector": name,
                    "variant": np.array(VARIANTS, dtype=object)[variant],
                    "layer": layer,
                    "head": head,
                    "mean": means.mean[variant, layer, head],
                    "low": means.low[variant, layer, head],
                    "high": means.high[variant, layer, head],
                    "chance": means.chance[variant, layer],
                    "texts": means.counted[variant, layer, head],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def facts(ask: Asked) -> dict[str, Any]:
    """What the numbers come from, for the head of a file."""
    info = ask.model.info
    return {
        "model": info.name,
        "model_words": model_words(info),
        "revision": info.revision,
        "dtype": info.dtype,
        "corpus": ask.about.name,
        "texts": ask.about.n,
        "site": ask.site,
        "sink_kinds": list(ask.sinks.kinds),
    }
