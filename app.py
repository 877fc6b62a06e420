"""AttnViz in the browser: `streamlit run app.py`, or `make run`."""

import streamlit as st

from attnviz.ui.frame import frame

frame()
st.navigation([st.Page("pages/explore.py", title="Explore", icon=":material/visibility:", default=True)]).run()
