"""The views of the Explore page: strip, grid, map, predictions; each is given a trace and a fitted Selection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from attnviz.figures.labels import head_words, model_words, run_words
from attnviz.figures.palette import SEQUENTIAL
from attnviz.heads import Scores
from attnviz.info import ModelInfo
from attnviz.models import Model
from attnviz.text import visible
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.components import matrix, token_strip
from attnviz.ui.selection import SCORES, Focus, Selection
from attnviz.ui.session import select, text_of
from attnviz.ui.texts import other_field
from attnviz.ui.work import similarity_for

SCORE_TITLES = {
    "between": "Query to key",
    "sink": "First token",
    "entropy": "Entropy",
}
SITE_TITLES = {"encoder": "Encoder", "decoder": "Decoder", "cross": "Cross-attention"}
_SCORE_CAPTIONS = {
    "between": "Attention that the selected query pays to the selected key in each head, a share of 1.",
    "sink": "Mean attention that queries pay to the first token: often where heads rest, and then no finding.",
    "entropy": "Mean row entropy as a share of the most it could be: 0 looks at one key, 1 at all alike.",
}


def strip(trace: Trace, focus: Focus) -> None:
    """The text, each token tinted by the attention that the selected query pays to it in the selected head."""
    queries, keys = trace.axes(focus.head.site)
    weights = _row(trace, focus)
    if trace.info.family == "decoder" or focus.head.site == "decoder":
        weights[focus.query + 1 :] = np.nan
    apart = queries != keys
    if apart:
        _query_strip(queries, focus)
    token_strip(
        [token.text for token in keys],
        weights,
        key="strip",
        **_flow(keys),
        palettes=SEQUENTIAL,
        high=_round_up(float(np.nanmax(weights))),
        selected=None if apart else focus.query,
        target=focus.key,
        label=f"The text, token by token. Pick a token to make it the {'key' if apart else 'query'}.",
        picks="key" if apart else "query",
        on_pick=lambda index: select(**{"key" if apart else "query": index}),
    )


def _query_strip(queries: Sequence[Token], focus: Focus) -> None:
    """Queries that are not the keys: what the model wrote, untinted, to choose the query from."""
    token_strip(
        [token.text for token in queries],
        np.zeros(len(queries), np.float32),
        key="query-strip",
        **_flow(queries),
        palettes=SEQUENTIAL,
        high=1.0,
        selected=focus.query,
        target=None,
        label="What the decoder reads, token by token. Pick a token to make it the query.",
        value_name="",
        on_pick=lambda index: select(query=index),
    )


def _flow(tokens: Sequence[Token]) -> dict[str, Any]:
    """How tokens run as a text: their kinds, line breaks, and which stand apart from the one before."""
    return {
        "kinds": [_kind(token) for token in tokens],
        "breaks": ["↵" in token.text for token in tokens],
        "starts_word": [i == 0 or t.word is None or t.word != tokens[i - 1].word for i, t in enumerate(tokens)],
    }


def site_picker(info: ModelInfo, current: str | None) -> None:
    """Which attention of an encoder-decoder to look at."""
    if len(info.sites) > 1:
        st.session_state["site"] = current
        st.segmented_control(
            "Attention",
            info.sites,
            key="site",
            format_func=SITE_TITLES.__getitem__,
            on_change=lambda: select(site=st.session_state["site"] or current, layer=None, query=None, key=None),
        )


def score_picker(current: str) -> str:
    """What colours the grid of heads."""
    st.session_state["score"] = current
    st.segmented_control(
        "All heads, coloured by",
        SCORES,
        key="score",
        format_func=SCORE_TITLES.__getitem__,
        on_change=lambda: select(score=st.session_state["score"] or current),
    )
    return current


def grid(scores: Scores, score: str, focus: Focus) -> None:
    """Every head of the model, layers down and heads across, coloured by the chosen score."""
    high = _round_up(float(np.nanmax(scores))) if np.isfinite(scores).any() else 1.0
    matrix(
        scores,
        key="grid",
        row_labels=[str(i) for i in range(scores.shape[0])],
        col_labels=[str(i) for i in range(scores.shape[1])],
        row_axis="layer",
        col_axis="head",
        value_name=SCORE_TITLES[score].lower(),
        palettes=SEQUENTIAL,
        low=0.0,
        high=high,
        selected=(focus.head.layer, focus.head.head),
        label="All heads, layers down and heads across. Pick one to see its map.",
        cell="free",
        max_height=400,
        on_pick=lambda layer, head: select(layer=layer, head=head),
    )
    say.caption(_SCORE_CAPTIONS[score], "One text, one number: a place to look closer, not a verdict.")


def attention_map(trace: Trace, focus: Focus) -> None:
    """The selected head's pattern, query tokens down and key tokens across."""
    queries, keys = trace.axes(focus.head.site)
    pattern = trace.pattern(focus.head.layer, focus.head.head, focus.head.site).numpy()
    matrix(
        pattern,
        key="map",
        row_labels=[token.text for token in queries],
        col_labels=[token.text for token in keys],
        row_axis="query",
        col_axis="key",
        value_name="attention",
        palettes=SEQUENTIAL,
        low=0.0,
        high=1.0,
        scale="sqrt",
        selected=(focus.query, focus.key),
        label="The selected head's attention, queries down and keys across. Pick a cell to select its query and key.",
        max_height=400,
        on_pick=lambda query, key: select(query=query, key=key),
    )


def map_caption(trace: Trace, focus: Focus) -> None:
    """Which run, head, axes and unit the map shows, and what it is not; from the trace itself."""
    head = focus.head
    queries, keys = trace.axes(focus.head.site)
    weight = float(_row(trace, focus)[focus.key])
    say.caption(
        f"{head_words(trace, head)}, {run_words(trace)} of {model_words(trace.info)}.",
        "Rows are queries, columns are keys; colour is attention after the softmax, a share of 1 in each row, on a "
        "square-root scale.",
        *["Each row is the step that reads its token and writes the next one."] * (head.site in ("decoder", "cross")),
        f"Selected: query {focus.query} “{queries[focus.query].text}” pays {weight:.4f} to key {focus.key} "
        f"“{keys[focus.key].text}”.",
        "It shows where the head looks, not what that does to the prediction.",
    )


def outcome(model: Model | None, trace: Trace, chosen: Selection, focus: Focus) -> None:
    """What the model makes of the text: its next token, or for a sentence encoder a similarity."""
    if trace.info.has_vocabulary:
        at_source = focus.head.site == "encoder"
        _predictions(
            trace,
            len(trace.tokens) - 1 if at_source else focus.query,
            "the last" if at_source else "the selected query",
        )
    elif model is not None and trace.embedding is not None:
        _similarity(model, trace, chosen)
    elif trace.class_logits is not None:
        _classes(model, trace)


def _predictions(trace: Trace, query: int, which: str) -> None:
    token = trace.tokens[query]
    decoder = trace.info.family != "encoder"
    where = "after" if decoder else "at"
    st.markdown(f"**{'Predicted next' if decoder else 'Predicted here'}**")
    table = trace.predictions(query, k=8)
    table["token"] = [visible(text) or "␣" for text in table["token"]]
    st.dataframe(
        table[["token", "probability", "logit"]],
        hide_index=True,
        column_config={
            "probability": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.4f"),
            "logit": st.column_config.NumberColumn(format="%.2f"),
        },
    )
    say.caption(
        f"What {trace.info.name} expects {where} token {query} “{token.text}”, {which}. "
        "Probabilities are the model's own, not calibrated."
    )


def _similarity(model: Model, trace: Trace, chosen: Selection) -> None:
    st.markdown("**Similarity**")
    other_field("Second text", "A text to compare with")
    other = text_of(chosen.other)
    if other:
        value = similarity_for(model, trace, other)
        st.metric("Cosine similarity", f"{value:.4f}")
        say.caption("Cosine of the two pooled embeddings, in [-1, 1]; the second text is never edited.")
    else:
        say.caption(
            f"{trace.info.name} predicts no tokens: it turns a text into a vector. Type a second text to compare."
        )


def _classes(model: Model | None, trace: Trace) -> None:
    assert trace.class_logits is not None
    st.markdown("**Predicted class**")
    labels = {} if model is None else model.hf_model.config.id2label
    shares = trace.class_logits.float().softmax(-1).tolist()
    st.dataframe({"class": [str(labels.get(i, i)) for i in range(len(shares))], "probability": shares}, hide_index=True)


def _kind(token: Token) -> str:
    return "special" if token.special else "template" if token.template else ""


def _row(trace: Trace, focus: Focus) -> np.ndarray:
    """The selected query's attention in the selected head, [key]."""
    queries = slice(focus.query, focus.query + 1)
    return trace.layer(focus.head.layer, focus.head.site).pattern(focus.head.head, queries)[0, 0, 0].cpu().numpy()


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, so that a colour scale ends on a round number; at most 1."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return min(1.0, next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999))
