"""Ablation: break any head, see what changes, and what of it may be believed."""

import streamlit as st

from attnviz.errors import AttnvizError, InputError
from attnviz.ui import say
from attnviz.ui.ablation.asking import subject_of
from attnviz.ui.ablation.background import again
from attnviz.ui.ablation.baking import baked
from attnviz.ui.ablation.believing import believing
from attnviz.ui.ablation.beside import beside
from attnviz.ui.ablation.chosen import set_of_heads
from attnviz.ui.ablation.many import MANY, many_prompts
from attnviz.ui.ablation.overview import against_attention, overview
from attnviz.ui.ablation.pruning import PRUNING, pruning
from attnviz.ui.ablation.running import SWEEP
from attnviz.ui.ablation.several_donors import several_donors
from attnviz.ui.feedback import feedback_row
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.session import selection, text_of
from attnviz.ui.views import site_picker

opening = open_page("What does each head do for this outcome?", in_menu=True)
try:
    trace = traced(opening)
    focus = focus_on(opening, trace)
    if opening.model is None:
        raise InputError("A saved trace comes without its model, so no head can be taken out. Choose the model.")
    subject = subject_of(opening.model, trace, focus)
    site_picker(trace.info, focus.head.site)
    known = overview(subject)
    st.divider()
    set_of_heads(subject, known)
    keep_this("Ablation", heads=subject.heads or (focus.head,))
    beside(subject, known)
    if known is not None and known.n_reached:
        st.divider()
        against_attention(subject, known)
    st.divider()
    many_prompts(subject)
    pruning(subject)
    baked(subject)
    feedback_row(text_of(selection().text), model=subject.name, kind="explanation", key="ablation-feedback")
    st.divider()
    believing(subject)  # last, with what follows it: whoever cancels it keeps the rest of the page
    several_donors(subject)
except AttnvizError as error:
    say.problem(error)
again(SWEEP, MANY, PRUNING)
