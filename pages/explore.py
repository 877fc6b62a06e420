"""Explore: one text, one model, every head."""

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.figures.labels import head_words
from attnviz.ui import say, texts, views, work
from attnviz.ui.frame import model_facts, model_picker
from attnviz.ui.session import saved_trace, selection, show, take_notes

texts.first_text()
with st.sidebar:
    model_picker()
    facts = st.container(gap="small")

with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown("#### What does each head look at?")
    st.space("stretch")
    texts.example_picker()
    share_place = st.container(width="content")

model, trace = None, saved_trace()
if trace is None:
    texts.text_form()
    model = work.model_for(selection())
with facts:
    model_facts(model.info if model else trace.info)
if model:
    with facts:
        texts.chat_switch(model)
    texts.target_field(model)
    trace = work.trace_for(model, selection())

focus, problems = selection().fit(trace)
show(selection().at(focus))
with share_place:
    texts.share()
say.notes([*take_notes(), *problems])

try:
    views.site_picker(trace.info, focus.head.site)
    views.strip(trace, focus)
    grid_column, map_column = st.columns([2, 3], gap="medium")
    with grid_column:
        score = views.score_picker(selection().score)
        views.grid(work.scores_for(trace, selection(), focus), score, focus)
    with map_column:
        st.markdown(f"**Attention of {head_words(trace, focus.head)}**")
        views.attention_map(trace, focus)
        views.map_caption(trace, focus)
    views.outcome(model, trace, selection(), focus)
except AttnvizError as error:
    say.problem(error)
