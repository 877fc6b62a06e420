"""A Plotly figure on the page, in its own colours: those that it has in a file."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st


def show_figure(figure: go.Figure, key: str, *, titled: bool = False) -> None:
    """Draw a figure across its column, on the page's own ground; `key` tells it from the page's others.

    titled   keep the title that it has in a file; on the page a heading and a caption say the same, and wrap
    """
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)")
    if not titled:
        figure.update_layout(title=None, margin_t=32)
    st.plotly_chart(figure, key=key, theme=None, config={"displaylogo": False})
