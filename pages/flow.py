"""Flow: where a prediction came from, by every known method, and how far each can be trusted."""

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.ui import say
from attnviz.ui.flow.graph_view import graph_view
from attnviz.ui.flow.side_by_side import methods_view
from attnviz.ui.flow.target import chooser, subject_of
from attnviz.ui.flow.texts import texts_view
from attnviz.ui.flow.writes import writes_view
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.selection import ASPECTS
from attnviz.ui.session import select, selection

_TITLES = {"graph": "Graph", "methods": "Methods side by side", "writes": "What writes it"}

opening = open_page("Where did this prediction come from?", in_menu=True)
try:
    trace = traced(opening)
    focus = focus_on(opening, trace)
    subject = subject_of(opening.model, trace, focus)
    chooser(subject)
    st.session_state["flow-aspect"] = selection().aspect
    st.segmented_control(
        "Shown",
        ASPECTS,
        key="flow-aspect",
        format_func=_TITLES.__getitem__,
        label_visibility="collapsed",
        on_change=lambda: select(aspect=st.session_state["flow-aspect"] or selection().aspect),
    )
    if selection().aspect != "graph" and selection().level is not None:
        say.caption("The state to explain was chosen for the graph alone. Here the last layer's state is explained.")
    if selection().aspect == "graph":
        graph_view(subject, focus)
    elif selection().aspect == "methods":
        methods_view(subject, focus)
        texts_view(subject)
    else:
        writes_view(subject, focus)
except AttnvizError as error:
    say.problem(error)
