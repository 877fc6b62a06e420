"""All heads: every head's real pattern as a thumbnail, sorted, filtered, and one of them in detail."""

import streamlit as st

from attnviz import export
from attnviz.errors import AttnvizError
from attnviz.figures.gallery import head_gallery
from attnviz.figures.labels import head_words
from attnviz.ui import gallery, head_choice, python_lines, say, taking, views
from attnviz.ui.export import export_bar
from attnviz.ui.notebook.offering import keep_attention
from attnviz.ui.page import focus_on, open_page, traced
from attnviz.ui.session import selection, text_of
from attnviz.ui.theme import theme

opening = open_page("All heads at a glance", in_menu=True)
try:
    trace = traced(opening)
    focus = focus_on(opening, trace)
    site = focus.head.site
    views.site_picker(trace.info, site)
    found = gallery.overview_for(trace, focus)
    scores = gallery.all_scores(trace, focus, found)
    chosen = scores[selection().score]
    head_choice.controls(trace, focus, chosen)
    order = head_choice.order_of(trace, focus, found, chosen)
    thumbnails, detail = st.columns([3, 2], gap="medium")
    with thumbnails:
        gallery.pictures(trace, focus, found, chosen, order)
        now, look = selection(), theme()
        export_bar(
            "all heads",
            lambda: head_gallery(
                found,
                trace,
                site=site,
                view=focus.view,
                scale=now.scale,  # type: ignore[arg-type]
                palette=now.palette,  # type: ignore[arg-type]
                theme=look,
            ),
            lambda: gallery.table(found, scores),
            python_lines.gallery_lines(
                now, focus, text_of(now.text), text_of(now.other), side=gallery.side_of(trace, site)
            ),
            about=export.about(trace, view=focus.view),
            caption="Every head's attention on one text: a place to look closer, not a verdict.",
        )
    with detail:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Attention of {head_words(trace, focus.head)}**")
            if st.button("Open in Explore", icon=":material/visibility:", key="open-explore", type="tertiary"):
                st.switch_page("pages/explore.py")
        seen = views.attention_map(trace, focus, key="detail", max_height=340)
        with st.container(horizontal=True):
            taking.map_bar(trace, focus, seen)
            keep_attention("All heads", trace, focus)
        gallery.ranks(scores, focus.head)
        views.map_caption(trace, focus, seen)
except AttnvizError as error:
    say.problem(error)
