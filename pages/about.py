"""About: what runs here, what it holds, who waits, and what the operator set."""

import streamlit as st

from attnviz.errors import AttnvizError
from attnviz.ui import about, say
from attnviz.ui.page import from_the_front_door
from attnviz.ui.person import person_control
from attnviz.ui.session import page, selection, show

from_the_front_door()
page("About this server")
show(selection())
st.html('<h1 class="attnviz-title">About this server</h1>')
with st.sidebar:
    person_control()
try:
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Work on models**")
        queues = about.queues()
        if queues:
            about.table(queues, key="about-lines")
        say.caption(
            "Of each model some work has a turn and the rest waits; long work gives way to short work at its steps."
            if queues
            else "Nobody has asked for work since the server started."
        )
        st.markdown("**Versions**")
        about.table(about.versions(), key="about-versions")
    with right:
        st.markdown("**Memory**")
        about.table(about.memory(), key="about-memory")
        say.caption(
            "A model counts its weights. The process also holds libraries, sessions and what a run needs meanwhile."
        )
        st.button("Look again", icon=":material/refresh:", key="about-again")
    st.markdown("**Settings**")
    about.table(about.set_by_operator(), key="about-settings")
    say.caption(
        f"Read when the server started, from the environment and {about.file_words()}; they are changed there. The "
        "address /_stcore/health answers ok while the server runs."
    )
except AttnvizError as error:
    say.problem(error)
