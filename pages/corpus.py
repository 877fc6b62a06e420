"""Corpus: every head on many texts, with intervals; the texts that stand apart; and what differs between corpora."""

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.settings import settings
from attnviz.ui import say, texts
from attnviz.ui.corpus.against import against
from attnviz.ui.corpus.looked import looked_at, sink_kinds
from attnviz.ui.corpus.result import result
from attnviz.ui.corpus.running import measuring
from attnviz.ui.corpus.subject import Subject, site_of
from attnviz.ui.corpus.texts import source_picker, texts_panel
from attnviz.ui.page import open_page
from attnviz.ui.session import selection, take_notes
from attnviz.ui.views import site_picker

opening = open_page("One text against many", text=False, chat=False)
if opening.model is None:
    say.caption("A saved trace comes without its model, so no other texts can be run. Choose a model.")
    st.stop()
try:
    with st.container(horizontal=True, vertical_alignment="center"):
        source = source_picker()
        st.space("stretch")
        with st.container(width="content"):
            texts.share()
    with opening.extras:
        sink_kinds()
    say.notes(take_notes())
    key = texts_panel(opening.model, source)
    site = site_of(opening.model, selection())
    site_picker(opening.model.info, site)
    name = selection().model or settings().default_model
    subject = measuring(Subject.of(name, opening.model, key, site, selection()))
    if subject.done:
        looked = looked_at(subject)
        result(looked)
        against(looked)
except AttnvizError as error:
    say.problem(error)
