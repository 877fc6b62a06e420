"""Notebook: what was found, what would refute it, what was measured of it, and who else says so."""

import html

import streamlit as st

from attnviz.errors import AttnvizError, InputError, StoreError
from attnviz.ui import say
from attnviz.ui.notebook.carrying import export_buttons, import_form, report_buttons
from attnviz.ui.notebook.keeping import keep_what_is_shown
from attnviz.ui.notebook.labelling import agreement
from attnviz.ui.notebook.listing import findings_list, unreadable_opened
from attnviz.ui.notebook.opened import finding_view
from attnviz.ui.notebook.restoring import go
from attnviz.ui.notebook.shelf import by, messages, open_finding, opened, store
from attnviz.ui.page import from_the_front_door
from attnviz.ui.person import how_to_be_known, is_known, person_control
from attnviz.ui.session import page, selection, show, take_notes
from attnviz.ui.texts import first_text

go()
from_the_front_door()
page("Notebook")
show(selection())
first_text()
st.html(f'<h1 class="attnviz-title">{html.escape("What was found, and does it hold?")}</h1>')
with st.sidebar:
    person_control()
    if not is_known():
        say.caption(
            "You are a guest here: what you keep is yours until you leave.", f"To find it again, {how_to_be_known()}."
        )
say.notes(take_notes())
messages()
try:
    one = None
    if opened():
        try:
            one = store().get(opened(), by=by())
        except InputError as error:
            open_finding("")
            say.problem(error)
        except StoreError as error:
            unreadable_opened(opened(), error)
            st.stop()
    if one is not None:
        with st.container(key="notebook-finding"):
            finding_view(one)
    else:
        asked = findings_list()
        st.divider()
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            keep_what_is_shown()
            export_buttons(asked=asked)
            report_buttons(asked)
        agreement()
        import_form()
except AttnvizError as error:
    say.problem(error)
