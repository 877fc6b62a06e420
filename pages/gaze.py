"""Gaze: how people read sentences, word by word, held against what a model attends to."""

import streamlit as st

from attnviz.errors import AttnvizError, InputError
from attnviz.ui import say
from attnviz.ui.gaze import played, results, upload
from attnviz.ui.gaze.asking import asked
from attnviz.ui.gaze.draft import complaint, gaze, readings_of
from attnviz.ui.notebook.offering_gaze import keep_read
from attnviz.ui.page import open_page
from attnviz.ui.session import selection, show, take_notes

played.go()
opening = open_page("Does the model look where people look?", text=False, chat=False)
if opening.model is None:
    say.caption("A saved trace comes without its model. Choose a model to hold it against how people read.")
    st.stop()
now = gaze()
show(selection())
say.notes(take_notes())
if problem := complaint():
    say.problem(InputError(problem))

upload.tables(now)
if not now.tables:
    st.stop()
try:
    ask = asked(opening, now, readings_of(now))
    with st.container():  # in which a bar may come and go, without what follows moving
        fit = played.overview(ask)
    st.divider()
    with st.container():
        played.beside(ask, played.sentence_picker(ask))
        keep_read(ask, key="gaze-sentence")
    st.divider()
    results.correlate(ask, fit)
except AttnvizError as error:
    say.problem(error)
