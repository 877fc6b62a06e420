"""Arrays and labels in, Plotly figures out; never shown, never Streamlit."""

from attnviz.figures.attention import attention_map, head_grid

__all__ = ["attention_map", "head_grid"]
