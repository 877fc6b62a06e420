"""Compare: two texts, two models or two templates, and the same head in both."""

from dataclasses import replace

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.ui import say, texts
from attnviz.ui.comparison import forms, maps, views
from attnviz.ui.comparison.pair import paired
from attnviz.ui.page import focus_on, open_page
from attnviz.ui.views import site_picker

opening = open_page("What differs between two runs?", text=False)
if opening.model is None:
    say.caption("A saved trace comes without its model, so nothing new can be run. Choose a model to compare.")
    st.stop()
with st.container(horizontal=True, vertical_alignment="center"):
    mode = forms.mode_picker()
    st.space("stretch")
    with st.container(width="content"):
        texts.example_picker()
    opening = replace(opening, share=st.container(width="content"))

try:
    forms.form(mode)
    runs = forms.runs(mode, opening.model)
    if runs is None:
        st.stop()
    focus = focus_on(opening, runs[0].trace)
    pair = paired(runs, focus)
    seen = maps.patterns(pair)
    site_picker(pair.first.info, focus.head.site)
    views.texts(pair, focus)
    if pair.alike:
        narrow, wide = st.columns([2, 3], gap="medium")
    else:
        narrow, wide = st.container(), st.container()
    with narrow:
        views.heads(pair)
    with wide:
        maps.difference_view(pair, focus, seen)
    maps.both_maps(pair, focus, seen)
    views.predictions(pair)
except AttnvizError as error:
    say.problem(error)
