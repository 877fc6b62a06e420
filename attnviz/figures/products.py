"""A query's score with every key, taken apart into dimensions, as a Plotly figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attnviz.errors import ShapeError
from attnviz.figures.drawing import INK, PAPER
from attnviz.figures.labels import head_words, model_words, plain, run_words
from attnviz.figures.palette import Theme, diverging_colorscale
from attnviz.products import Products
from attnviz.trace import Trace, checked_position

_MOST_TICKS = 60


def product_map(
    trace: Trace, products: Products, *, keys: Sequence[int] | None = None, theme: Theme = "light"
) -> go.Figure:
    """Keys down, dimensions across, query times key times scaling as colour; a row sums to the key's score.

    products   of `attnviz.products.query_key`, of this trace
    keys       positions to show; None for those that the query sees
    raises     ShapeError for products of another trace, InputError for a key that there is not
    A turn of queries and keys together changes every product and no weight, so a dimension has no meaning of its own.
    """
    queries, all_keys = trace.axes(products.head.site)
    if products.query >= len(queries) or len(products.visible) != len(all_keys):
        raise ShapeError(
            f"Expected products of this trace, of {len(all_keys)} keys; got query {products.query} of "
            f"{len(products.visible)} keys. Make them with products.query_key(trace, head, query)."
        )
    seen = products.visible.nonzero().flatten().tolist()
    shown = seen if keys is None else [checked_position(key, len(all_keys), "key") for key in keys]
    values = products.products[shown].numpy()
    reach = float(abs(values).max()) if values.size else 0.0
    step = -(-len(shown) // _MOST_TICKS) or 1
    figure = go.Figure(
        go.Heatmap(
            z=values,
            zmin=-(reach or 1.0),
            zmax=reach or 1.0,
            colorscale=diverging_colorscale(theme),
            colorbar={"title": "product"},
            customdata=[[plain(all_keys[i].text, 24)] * values.shape[1] for i in shown],
            hovertemplate="key %{customdata} · dimension %{x}<br>product %{z:.4f}<extra></extra>",
        )
    )
    rows = range(0, len(shown), step)
    query = queries[products.query].text
    title = f"Query times key, {head_words(trace, products.head)}, query {products.query} {query}, {run_words(trace)}"
    figure.update_layout(
        title={"text": plain(title), "subtitle": {"text": plain(model_words(trace.info))}},
        xaxis={"title": "dimension", "showgrid": False, "zeroline": False},
        yaxis={
            "title": "key",
            "tickvals": list(rows),
            "ticktext": [plain(all_keys[shown[i]].text, 16) for i in rows],
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
        },
        paper_bgcolor=PAPER[theme],
        plot_bgcolor=PAPER[theme],
        font={"color": INK[theme]},
        margin={"l": 110, "r": 20, "t": 90, "b": 60},
    )
    return figure
