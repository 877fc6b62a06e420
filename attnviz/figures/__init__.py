"""Arrays and labels in, Plotly figures out; never shown, never Streamlit."""

from attnviz.figures.attention import attention_map, attention_row, head_grid
from attnviz.figures.comparison import difference_map, divergence_grid
from attnviz.figures.flow import agreement_map, bars, sankey
from attnviz.figures.gallery import head_gallery
from attnviz.figures.generation import movement_map
from attnviz.figures.lines import attention_lines
from attnviz.figures.products import product_map

__all__ = [
    "agreement_map",
    "attention_lines",
    "attention_map",
    "attention_row",
    "bars",
    "difference_map",
    "divergence_grid",
    "head_gallery",
    "head_grid",
    "movement_map",
    "product_map",
    "sankey",
]
