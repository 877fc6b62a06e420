"""The pieces of the Compare page around its maps: the aligned texts, which heads differ, and the predictions."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import torch

from attnviz.alignment import Alignment
from attnviz.edits import Head
from attnviz.figures.comparison import both_sink_words, divergence_grid
from attnviz.figures.labels import unit_words
from attnviz.heads import Scores
from attnviz.text import visible
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.comparison.lines import divergence_lines
from attnviz.ui.comparison.pair import Pair, divergence, facts, nearest
from attnviz.ui.export import export_bar
from attnviz.ui.focus import Focus
from attnviz.ui.head_map import head_matrix
from attnviz.ui.pickers import segments
from attnviz.ui.session import select, selection
from attnviz.ui.theme import theme
from attnviz.units import Units

_STYLE = (Path(__file__).resolve().parents[3] / "assets/compare/aligned.css").read_text("utf-8")
_MOST = 6  # heads that are named under the grid
_PREDICTED = 6  # tokens

Pick = Callable[[int, int], None]


def texts(pair: Pair, focus: Focus) -> None:
    """Both texts in one line: what they share once, what differs above one another."""
    st.html(f"<style>{_STYLE}</style>")
    queries, keys = pair.view.axes(pair.first, pair.head.site)
    other_queries, other_keys = pair.view.axes(pair.second, pair.other.site)
    marks = {"query": queries.at(focus.query), "key": keys.at(focus.key)}
    if pair.rows is pair.cols:
        _aligned(pair.rows, queries, other_queries, marks, "The two texts")
    else:
        say.caption("Keys: what is read.")
        _aligned(pair.cols, keys, other_keys, {"key": marks["key"]}, "The keys of both runs")
        say.caption("Queries: what the decoder reads.")
        _aligned(pair.rows, queries, other_queries, {"query": marks["query"]}, "The queries of both runs")
    rows, unit = pair.rows, pair.view.unit
    alone = [
        f"{len(units)} {'stands' if len(units) == 1 else 'stand'} only in the {where}"
        for units, where in ((rows.deleted, "first (above, orange)"), (rows.inserted, "second (below, blue)"))
        if units
    ]
    paired = f"{len(rows.pairs)} {unit}s correspond"
    if rows.changed:
        paired += f", {len(rows.changed)} of them changed (the first above the second)"
    say.caption(
        f"{'; '.join([paired, *alone])}. Solid outline: the selected query; dashed: the selected key.",
        *["Chosen sinks are the same positions of tokens in both texts."] * bool(pair.view.sinks.tokens),
    )


def _aligned(alignment: Alignment, first: Units, second: Units, marks: Mapping[str, int], name: str) -> None:
    def chip(tag: str, units: Units, unit: int, ours: bool) -> str:
        classes = [mark for mark, at in marks.items() if ours and at == unit] + (["both"] if tag == "span" else [])
        return f'<{tag} class="{" ".join(classes)}"><bdi>{html.escape(units.labels[unit])}</bdi></{tag}>'

    def apart(ours: Sequence[int], theirs: Sequence[int]) -> str:
        lines = (
            "".join(chip("del", first, i, True) for i in ours),
            "".join(chip("ins", second, j, False) for j in theirs),
        )
        rows = [f'<span class="line{"" if line else " none"}">{line}</span>' for line in lines]
        return f'<span class="apart">{"".join(rows)}</span>' if ours or theirs else ""

    pieces, at = [], (0, 0)
    for i, j in [*alignment.pairs, (len(first), len(second))]:
        pieces.append(apart(range(at[0], i), range(at[1], j)))
        if i < len(first):
            changed = (i, j) in alignment.changed
            pieces.append(apart([i], [j]) if changed else chip("span", first, i, True))
        at = (i + 1, j + 1)
    st.html(f'<div class="attnviz-aligned" role="group" aria-label="{name}, aligned">{"".join(pieces)}</div>')


def heads(pair: Pair) -> None:
    """How much every head differs; where heads have no like, how near every head comes to the selected one."""
    if pair.alike:
        scores = divergence(pair)
        st.markdown("**How much each head differs**")
        _grid("divergence", scores, pair.head, _pick_both)
        _named(scores, "Differ most", pair.head, _pick_both)
        _grid_caption(pair, scores, f"the same head of both runs, mean over the {len(pair.rows.pairs)} aligned queries")
        _grid_export(pair, scores, None, "divergence")
        return
    left, right = st.columns(2, gap="medium")
    for place, which, side, pick in ((left, "first", pair.turned, _pick_first), (right, "second", pair, _pick_second)):
        number = f"L{side.head.layer}H{side.head.head}"
        with place:
            scores = nearest(side)
            st.markdown(f"**Heads of {say.plain(side.second.info.name)}, against {number} of the other**")
            name = "divergence" if side is pair else f"divergence-{which}"
            _grid(name, scores, side.other, pick)
            _named(scores, "Most alike", side.other, pick, key=which, least=True)
            _grid_caption(pair, scores, f"each head and {number} of the other model: the smallest look most alike here")
            _grid_export(side, scores, side.head, name)


def _grid(key: str, scores: Scores, head: Head, pick: Pick) -> None:
    head_matrix(
        scores,
        head,
        key=key,
        value_name="divergence",
        purpose="The number is how much a head differs. Pick one to see its maps.",
        title="Jensen-Shannon divergence of every head, nats",
        file_name=key,
        on_pick=pick,
    )


def _pick_both(layer: int, head: int) -> None:
    select(layer=layer, head=head, other_layer=None, other_head=None)


def _pick_first(layer: int, head: int) -> None:
    select(layer=layer, head=head)


def _pick_second(layer: int, head: int) -> None:
    select(other_layer=layer, other_head=head)


def _named(scores: Scores, title: str, current: Head, pick: Pick, *, key: str = "both", least: bool = False) -> None:
    """The heads at the end of the list, to be picked by name."""
    order = np.argsort(scores if least else -scores, axis=None)[: min(_MOST, int(np.isfinite(scores).sum()))]
    places = [divmod(int(at), scores.shape[1]) for at in order]
    found = {Head(*place): float(scores[place]) for place in places}
    plain = Head(current.layer, current.head)

    def use(head: Head | None) -> None:
        head = head or plain
        pick(head.layer, head.head)

    segments(
        title,
        found,
        plain if plain in found else None,
        key=f"named-{key}",
        use=use,
        words=lambda head: f"{head} {found[head]:.3f}",
        apart=True,
        wrap=True,
    )


def _grid_caption(pair: Pair, scores: Scores, what: str) -> None:
    known = scores[np.isfinite(scores)]
    if not known.size:
        say.caption("No row has more than one key to choose from, so no head can be compared. Read by tokens instead.")
        return
    say.caption(
        f"Jensen-Shannon divergence in nats of {what}: 0 alike, {math.log(2):.3f} nothing shared. "
        f"The median over heads is {np.median(known):.3f}, the largest {known.max():.3f}.",
        unit_words(pair.view),
        *both_sink_words(pair.view, (pair.first, pair.head.site, None), (pair.second, pair.other.site, None)),
        "One pair of runs is one pair, not a verdict; in early layers heads differ by the words themselves.",
    )


def _grid_export(pair: Pair, scores: Scores, head: Head | None, name: str) -> None:
    layers, heads = np.indices(scores.shape)
    chosen, look = selection(), theme()
    export_bar(
        name,
        lambda: divergence_grid(
            scores,
            pair.first,
            pair.second,
            head=head,
            site=pair.head.site,
            other_site=pair.other.site,
            view=pair.view,
            palette=chosen.palette,
            theme=look,
        ),
        lambda: pd.DataFrame({"layer": layers.ravel(), "head": heads.ravel(), "divergence_nats": scores.ravel()}),
        divergence_lines(pair, head, chosen),
        about=facts(pair, head, None),
    )


def predictions(pair: Pair) -> None:
    """What both runs expect after their last token, since a difference in attention is no effect."""
    st.markdown("**What the models make of it**")
    for place, which, trace in zip(
        st.columns(2, gap="medium"), ("First", "Second"), (pair.first, pair.second), strict=True
    ):
        with place:
            _outcome(which, trace)
    first, second = pair.first.embedding, pair.second.embedding
    if first is not None and second is not None and pair.runs[0].name == pair.runs[1].name:
        similar = float(torch.cosine_similarity(first.float(), second.float(), dim=0))
        st.metric("Cosine similarity of the two embeddings", f"{similar:.4f}")


def _outcome(which: str, trace: Trace) -> None:
    name = trace.info.name
    if trace.info.has_vocabulary:
        table = trace.predictions(-1, k=_PREDICTED)
        table["token"] = [visible(text) or "␣" for text in table["token"]]
        st.dataframe(table[["token", "probability"]], hide_index=True, column_config=_PROBABILITY)
        where = "at" if trace.info.family == "encoder" else "after"
        say.caption(f"{which}: what {name} expects {where} its last token “{trace.tokens[-1].text}”.")
    elif trace.class_logits is not None:
        shares = trace.class_logits.float().softmax(-1).tolist()
        st.dataframe({"class": range(len(shares)), "probability": shares}, hide_index=True, column_config=_PROBABILITY)
        say.caption(f"{which}: the classes of {name}, by number.")
    else:
        say.caption(f"{which}: {name} predicts no tokens; it turns a text into a vector.")


_PROBABILITY: dict[str, Any] = {
    "probability": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.4f"),
}
