"""Lines: attention between two columns of tokens, for any set of heads."""

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.figures.lines import heads_words
from attnviz.ui import lines, say, views, work
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.session import selection

opening = open_page("Which tokens look at which?")
try:
    trace = traced(opening)
    focus = focus_on(opening, trace)
    views.site_picker(trace.info, focus.head.site)
    chooser, picture = st.columns([2, 3], gap="medium")
    with chooser:
        views.score_picker(selection().score)
        lines.head_chooser(trace, focus, work.scores_for(trace, selection(), focus))
    with picture:
        st.markdown(f"**Attention of {heads_words(trace, focus.heads)}**")
        edges = lines.edges_of(trace, focus, lines.share_controls(focus))
        lines.picture(trace, focus, edges)
        lines.caption(trace, focus, edges)
        lines.take_along(trace, focus, edges)
except AttnvizError as error:
    say.problem(error)
