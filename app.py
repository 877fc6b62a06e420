"""AttnViz in the browser: `streamlit run app.py`, or `make run`."""

import streamlit as st

from attnviz.ui.frame import frame
from attnviz.ui.session import end_run

frame()
st.navigation(
    {
        "": [
            st.Page("pages/explore.py", title="Explore", icon=":material/visibility:", default=True),
            st.Page("pages/all_heads.py", title="All heads", icon=":material/apps:"),
            st.Page("pages/flow.py", title="Flow", icon=":material/account_tree:"),
            st.Page("pages/ablation.py", title="Ablation", icon=":material/content_cut:"),
        ],
        "More views": [
            st.Page("pages/lines.py", title="Lines", icon=":material/timeline:"),
            st.Page("pages/generation.py", title="Generation", icon=":material/edit_note:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare:"),
            st.Page("pages/bertviz_views.py", title="BertViz", icon=":material/hub:", url_path="bertviz"),
        ],
        "Many texts": [
            st.Page("pages/heads.py", title="Heads", icon=":material/psychology:"),
            st.Page("pages/corpus.py", title="Corpus", icon=":material/library_books:"),
        ],
        "You and the model": [
            st.Page("pages/highlights.py", title="Highlights", icon=":material/ink_highlighter:"),
            st.Page("pages/gaze.py", title="Gaze", icon=":material/menu_book:"),
            st.Page("pages/steering.py", title="Steering", icon=":material/explore_nearby:"),
            st.Page("pages/gates.py", title="Gates", icon=":material/tune:"),
        ],
        "Findings": [
            st.Page("pages/notebook.py", title="Notebook", icon=":material/book_2:"),
            st.Page("pages/atlas.py", title="Head atlas", icon=":material/map:"),
            st.Page("pages/about.py", title="About", icon=":material/info:"),
        ],
    },
    position="top",
).run()
end_run()
