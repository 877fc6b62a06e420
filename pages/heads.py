"""Heads: what each head does over many texts, and which heads do alike."""

from dataclasses import replace

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.ui import say
from attnviz.ui.heads import asking, finding
from attnviz.ui.heads.card import card, fires, go
from attnviz.ui.heads.families import families_view, scope
from attnviz.ui.heads.overview import heads_view
from attnviz.ui.page import open_page
from attnviz.ui.session import select, selection
from attnviz.ui.views import site_picker

go()
opening = open_page("What does each head do?", text=False, chat=False)
if opening.model is None:
    say.caption("A saved trace holds one text and comes without its model. Choose a model to look at many texts.")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    asking.controls()
    place = st.container(horizontal=True, width="content")
    st.space("stretch")
    opening = replace(opening, share=st.container(width="content"))

try:
    ask = asking.asked(opening, opening.model)
    families = selection().facet == "families"
    with place:
        site_picker(ask.model.info, ask.head.site)
        layer = scope(ask) if families else None
    asking.corpus_words(ask)
    if families:
        families_view(ask, layer)
    else:
        run, summary = finding.summarised(ask)
        left, right = st.columns([2, 3], gap="medium")
        with left:
            heads_view(ask, run, summary)
        with right:
            card(ask, summary)
            fires(ask, run)
except AttnvizError as error:
    say.problem(error)
    if selection().corpus:
        st.button("Read AttnViz's own texts", key="heads-back", on_click=lambda: select(corpus="", labelled=None))
