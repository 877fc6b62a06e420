"""Head atlas: one model's layers and heads, and what is known of each."""

from dataclasses import replace

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.ui import say
from attnviz.ui.atlas.finding import atlas_of
from attnviz.ui.atlas.showing import atlas_map_view, head_view
from attnviz.ui.heads import asking
from attnviz.ui.notebook.restoring import go
from attnviz.ui.notebook.shelf import messages
from attnviz.ui.page import open_page
from attnviz.ui.views import site_picker

go()
opening = open_page("What is known of each head?", text=False, chat=False)
messages()
if opening.model is None:
    say.caption("A saved trace holds one text and comes without its model. Choose a model to see what is known of it.")
    st.stop()
try:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        place = st.container(width="content")
        st.space("stretch")
        opening = replace(opening, share=st.container(width="content"))
    ask = asking.asked(opening, opening.model)
    with place:
        site_picker(ask.model.info, ask.head.site)
    atlas = atlas_of(ask)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        atlas_map_view(ask, atlas)
    with right:
        head_view(ask, atlas)
except AttnvizError as error:
    say.problem(error)
