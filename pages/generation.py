"""Generation: a text that the model writes, step by step, and where a head looked at each."""

from dataclasses import replace

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.figures.labels import head_words
from attnviz.ui import say, texts
from attnviz.ui.feedback import prediction_row
from attnviz.ui.generation import forms, views
from attnviz.ui.page import open_page
from attnviz.ui.session import model_name, selection

opening = open_page("How does attention move as the model writes?", text=False)
trace = opening.saved
if opening.model is not None:
    wide, narrow = st.columns([8, 1], gap="small")
    with narrow, st.container(horizontal=True, gap="xsmall"):
        texts.example_picker()
        opening = replace(opening, share=st.container())
    with wide:
        forms.form()
    if forms.writes(opening.model.info):
        trace = forms.generated_for(opening.model, selection())

if trace is None or trace.prompt_length is None:
    forms.nothing_written(trace)
    st.stop()

try:
    written = forms.written_at(opening, trace)
    views.site_picker(trace, written.focus.head.site)
    views.scrub(written)
    views.strips(written)
    wide, narrow = st.columns([3, 2], gap="medium")
    with wide:
        st.markdown(f"**How {head_words(trace, written.focus.head)} moved**")
        views.movement_map(written)
        views.movement_caption(written)
        views.jump(written)
        views.take_along(written)
    with narrow:
        views.expected(written)
        if opening.model is not None and not selection().chat:
            prediction_row(
                opening.model,
                trace,
                written.focus.query,
                name=model_name(),
                which="of this step",
                key="generation-feedback",
            )
        views.every_head(written)
    views.every_step(written)
except AttnvizError as error:
    say.problem(error)
