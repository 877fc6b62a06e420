"""What the model makes of the text: its next token, a class, or for a sentence encoder a similarity."""

from __future__ import annotations

import streamlit as st

from attnviz.models import Model
from attnviz.settings import settings
from attnviz.text import visible
from attnviz.trace import Trace
from attnviz.ui import say
from attnviz.ui.feedback import prediction_row
from attnviz.ui.focus import Focus
from attnviz.ui.selection import Selection
from attnviz.ui.session import text_of
from attnviz.ui.texts import other_field
from attnviz.ui.work import similarity_for


def outcome(model: Model | None, trace: Trace, chosen: Selection, focus: Focus) -> None:
    """What the model makes of the text: its next token, or for a sentence encoder a similarity."""
    if trace.info.has_vocabulary:
        at_source = focus.head.site == "encoder"
        query = len(trace.tokens) - 1 if at_source else focus.query
        _predictions(trace, query, "the last" if at_source else "the selected query")
        if model is not None and not chosen.chat:  # what is said of a text is kept without its template
            name = chosen.model or settings().default_model
            prediction_row(model, trace, query, name=name, key="explore-feedback")
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
