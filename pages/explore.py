"""Explore: one text, one model, every head."""

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.figures.labels import head_words
from attnviz.ui import say, taking, views, work
from attnviz.ui.notebook.offering import keep_attention
from attnviz.ui.outcome import outcome
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.session import selection

opening = open_page("What does each head look at?", in_menu=True)
try:
    trace = traced(opening)
    focus = focus_on(opening, trace)
    views.site_picker(trace.info, focus.head.site)
    views.strip(trace, focus)
    grid_column, map_column = st.columns([2, 3], gap="medium")
    with grid_column:
        score = views.score_picker(selection().score)
        scores = work.scores_for(trace, selection(), focus)
        views.grid(trace, scores, score, focus)
        taking.grid_bar(trace, focus, scores)
    with map_column:
        st.markdown(f"**Attention of {head_words(trace, focus.head)}**")
        seen = views.attention_map(trace, focus)
        views.map_caption(trace, focus, seen)
        with st.container(horizontal=True):
            taking.map_bar(trace, focus, seen)
            taking.row_bar(trace, focus)
            keep_attention("Explore", trace, focus)
    outcome(opening.model, trace, selection(), focus)
except AttnvizError as error:
    say.problem(error)
