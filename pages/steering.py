"""Steering: bring the model's attention to what you mean, and see what comes of it."""

import streamlit as st

from attnviz.errors import AttnvizError, InputError
from attnviz.ui import say
from attnviz.ui.feedback import feedback_list, given
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.steering.asking import plan_now, subject_of
from attnviz.ui.steering.beside import beside
from attnviz.ui.views import site_picker

opening = open_page("What happens if it attends to what you mean?")
try:
    plan, _ = plan_now(), given()  # before focus_on says what of the address cannot be read
    trace = traced(opening)
    focus = focus_on(opening, trace)
    if opening.model is None:
        raise InputError("A saved trace comes without its model, so it cannot be steered. Choose the model.")
    site_picker(trace.info, focus.head.site)
    subject = subject_of(opening.model, trace, focus, plan)
    st.divider()
    beside(subject)
except AttnvizError as error:
    say.problem(error)
feedback_list()
