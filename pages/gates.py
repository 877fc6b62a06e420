"""Gates: teach the model from a few corrections, one number a head."""

import streamlit as st

from attnviz.errors import AttnvizError, InputError
from attnviz.ui import say
from attnviz.ui.feedback import given
from attnviz.ui.gates import examples, keeping, learning, results
from attnviz.ui.gates.asking import asked, settings_fields
from attnviz.ui.gates.course import complaint, course
from attnviz.ui.gates.trying import trying
from attnviz.ui.page import open_page
from attnviz.ui.session import selection, show, take_notes

opening = open_page("Can a few corrections teach it?", text=False, chat=False)
if opening.model is None:
    say.caption("A saved trace comes without its model. Choose a model to teach it.")
    st.stop()
now, _ = course(), given()  # before the notes say what of the address cannot be read
show(selection())
say.notes(take_notes())
if problem := complaint():
    say.problem(InputError(problem))

try:
    ask, wrong = asked(opening.model, now)
    examples.ways(opening.model, now)
    examples.table(now)
    examples.remarks(opening.model, now, wrong)
    if now.loaded:
        found = keeping.loaded(ask)
    else:
        settings_fields(now)
        found = learning.learned(ask) if now.rows else None
        if found is None and (before := learning.earlier(ask)) is not None:
            ask, found = before
    if found is not None:
        st.divider()
        if now.loaded:
            results.on_examples(ask, found)
            st.markdown("**On the examples that were held out when they were learned**")
        else:
            results.verdict(ask, found)
        results.before_after(found.held_out, learned=True, key="gates-held-out")
        left, right = st.columns(2, gap="medium")
        with left:
            results.curve(ask, found)
        with right:
            results.heads(ask, found)
        if not now.loaded:
            learning.seeds(ask, found)
        results.elsewhere(ask, found)
        trying(ask, found)
        keeping.keeping(ask, found)
except AttnvizError as error:
    say.problem(error)
