"""Which theme the page is in, for pictures that are made on the server."""

from __future__ import annotations

import streamlit as st

from attnviz.figures.palette import Theme


def theme() -> Theme:
    """The theme of this session's page; light where Streamlit does not know it yet."""
    return "dark" if st.context.theme.type == "dark" else "light"
