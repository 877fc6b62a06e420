"""Highlights: mark the words that matter, then see which heads look there too."""

import streamlit as st

from attnviz.errors import AttnvizError, InputError
from attnviz.ui import say
from attnviz.ui.feedback import feedback_list, feedback_row
from attnviz.ui.highlights import asking, deleting, marking, results
from attnviz.ui.highlights.beside import beside, go
from attnviz.ui.highlights.study import complaint, study
from attnviz.ui.notebook.offering import keep_agreed
from attnviz.ui.page import open_page
from attnviz.ui.session import selection, show, take_notes
from attnviz.ui.views import site_picker

go()
opening = open_page("Which heads look where you look?", text=False, chat=False)
if opening.model is None:
    say.caption("A saved trace comes without its model. Choose a model to hold its heads against your marks.")
    st.stop()
now = study()
show(selection())
ask = asking.asked(opening, opening.model, now)
say.notes(take_notes())
if problem := complaint():
    say.problem(InputError(problem))

marking.text_form(now, apart=ask.apart)
passage = now.open
if passage is None:
    say.caption("Type a text above and press “Use this text”. Then mark its words, before you see what the model does.")
else:
    marking.marking(passage)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        asking.controls(now, opening.model)
        if ask.site is not None:
            site_picker(opening.model.info, ask.site, sites=("encoder", "cross"))
    if not passage.revealed:
        marking.reveal(passage)
lines = marking.texts_list(now)
if passage is not None and passage.revealed and not passage.markable:
    say.caption("Mark some words and leave others, so that there is something to agree with.")
if passage is None or not (passage.revealed and passage.markable):
    feedback_list()
    st.stop()

try:
    ranking, numbers = asking.ranked(ask)
    marking.say_roles(now, lines, numbers, now.held(numbers))
    head = results.chosen_head(ask, ranking)
    if now.at not in numbers or head is None:
        raise InputError("None of the marks of this text can be compared. Mark other words, or show sinks.")
    found = ranking.texts[numbers.index(now.at)]
    results.verdict(ranking)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        results.heads_map(ask, ranking, head)
    with right:
        beside(ask, ranking, passage, found, head)
        deleting.relied_on(ask, passage, found, head)
        feedback_row(ask.read(passage), model=ask.name, kind="explanation", key="highlights-feedback")
    made = deleting.of_best(ask, ranking, numbers)
    results.best(ask, ranking, numbers, made)
    results.tables(ask, ranking, numbers, made)
    keep_agreed(ask, ranking, numbers, head)
except AttnvizError as error:
    say.problem(error)
feedback_list()
