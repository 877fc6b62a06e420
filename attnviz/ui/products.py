"""The query-key product view: one query's score with every key, taken apart into dimensions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from attnviz.export import about
from attnviz.figures.labels import head_words, model_words, run_words
from attnviz.figures.palette import Theme
from attnviz.figures.products import product_map
from attnviz.findings import EdgeAt, HeadAt
from attnviz.products import Products, query_key
from attnviz.tokens import Token
from attnviz.trace import Trace
from attnviz.ui import say, views
from attnviz.ui.components import matrix
from attnviz.ui.export import export_bar
from attnviz.ui.focus import Focus
from attnviz.ui.head_map import signed
from attnviz.ui.notebook.keeping import keep_this
from attnviz.ui.pickers import dropdown
from attnviz.ui.python_lines import products_lines
from attnviz.ui.session import select, selection, text_of
from attnviz.ui.theme import theme

_MOST_KEYS = 512  # rows that can be told apart; the strongest ones are shown
_TOP = 12


def product_view(trace: Trace, focus: Focus) -> None:
    """Products of the selected head and query: the map, the keys it scores highest, and one key's dimensions."""
    _head_picker(trace, focus)
    views.strip(trace, focus)
    products = query_key(trace, focus.head, focus.query)
    keys = trace.axes(focus.head.site)[1]
    shown = _rows(products, focus.key)
    wide, narrow = st.columns([3, 2], gap="medium")
    with wide:
        st.markdown(f"**Query times key, {head_words(trace, focus.head)}**")
        _map(products, keys, shown, focus)
        _caption(trace, focus, products, len(shown))
        _take_along(trace, focus, products, shown)
    with narrow:
        _tables(products, keys, focus)


def _head_picker(trace: Trace, focus: Focus) -> None:
    """Layer and head, where there is no grid to pick them from."""
    head = focus.head
    layers = list(trace.layers(head.site))
    heads = range(trace.layer(head.layer, head.site).n_heads)
    with st.container(horizontal=True):
        dropdown("Layer", layers, head.layer, key="products-layer", use=lambda i: select(layer=i), width=140)
        dropdown("Head", heads, head.head, key="products-head", use=lambda i: select(head=i), width=140)


def _rows(products: Products, key: int) -> list[int]:
    """The keys to show, in the order of the text: those that are seen, the strongest if they are many, and `key`."""
    seen = products.visible.nonzero().flatten().tolist()
    if len(seen) > _MOST_KEYS:
        weights = products.weights
        seen = sorted(seen, key=lambda i: -float(weights[i]))[:_MOST_KEYS]
    return sorted({*seen, key})


def _map(products: Products, keys: tuple[Token, ...], shown: list[int], focus: Focus) -> None:
    values = products.products[shown].numpy()
    reach = float(np.abs(values).max()) or 1.0
    row = shown.index(focus.key)
    matrix(
        values,
        key="products",
        row_labels=[keys[i].text for i in shown],
        col_labels=[str(i) for i in range(values.shape[1])],
        row_axis="key",
        col_axis="dimension",
        value_name="product",
        **signed(reach)._asdict(),
        selected=(row, int(np.abs(values[row]).argmax())),
        label="Products of query and key, keys down and dimensions across. Pick a cell to select its key.",
        cell="free",
        max_height=420,
        title=f"Query times key, L{focus.head.layer}H{focus.head.head}, query {focus.query}",
        file_name=f"products-L{focus.head.layer}H{focus.head.head}",
        on_pick=lambda row, dimension: select(key=shown[row]),
    )


def _take_along(trace: Trace, focus: Focus, products: Products, shown: list[int]) -> None:
    """The products as a file, as a table and as Python."""
    chosen, look = selection(), theme()
    as_seen = shown == products.visible.nonzero().flatten().tolist()

    def figure(scheme: Theme = look) -> go.Figure:
        return product_map(trace, products, keys=shown, theme=scheme)

    python = products_lines(
        chosen, focus, text_of(chosen.text), text_of(chosen.other), keys=None if as_seen else tuple(shown)
    )
    with st.container(horizontal=True):
        export_bar(
            "products",
            figure,
            lambda: _frame(products, trace.axes(focus.head.site)[1], shown),
            python,
            rows=len(shown) * products.products.shape[1],
            about=about(trace, head=focus.head) | {"query": products.query, "scaling": products.scaling},
            caption="A row sums to the score before the mask. A turn of queries and keys together changes every "
            "product and no weight: a dimension has no meaning of its own.",
        )
        keep_this(
            "BertViz",
            heads=[focus.head],
            edges=[EdgeAt(query=focus.query, key=focus.key, head=HeadAt.of(focus.head))],
            figure=lambda: figure("light"),
            lines=python,
            also_seen=[trace.text] if trace.text != text_of(chosen.text) else (),
        )


def _frame(products: Products, keys: tuple[Token, ...], shown: list[int]) -> pd.DataFrame:
    """A row for each key and dimension: the product, and the key's score and weight."""
    width = products.products.shape[1]
    return pd.DataFrame(
        {
            "key": np.repeat(shown, width),
            "key_text": np.repeat(np.array([keys[i].text for i in shown], dtype=object), width),
            "dimension": np.tile(np.arange(width), len(shown)),
            "product": products.products[shown].numpy().ravel(),
            "score": np.repeat(products.scores[shown].numpy(), width),
            "weight": np.repeat(products.weights[shown].numpy(), width),
        }
    )


def _tables(products: Products, keys: tuple[Token, ...], focus: Focus) -> None:
    strongest = products.weights.topk(min(_TOP, len(keys))).indices.tolist()
    listed = [i for i in strongest if products.visible[i]]
    st.markdown("**Keys of the largest weight**")
    st.dataframe(
        pd.DataFrame(
            {
                "key": listed,
                "token": [keys[i].text for i in listed],
                "score": products.scores[listed].tolist(),
                "weight": products.weights[listed].tolist(),
            }
        ),
        hide_index=True,
        key="products-keys",
        height=250,
        column_config={
            "score": st.column_config.NumberColumn(format="%.3f", help="The sum of the row's products"),
            "weight": st.column_config.NumberColumn(format="%.4f", help="Attention after the softmax"),
        },
    )
    row = products.products[focus.key]
    order = row.abs().argsort(descending=True)
    st.markdown(f"**Dimensions of key {focus.key}, {say.plain(keys[focus.key].text)}**")
    st.dataframe(
        pd.DataFrame(
            {
                "dimension": order.tolist(),
                "query": products.query_vector[order].tolist(),
                "key": products.key_vectors[focus.key][order].tolist(),
                "product": row[order].tolist(),
            }
        ),
        hide_index=True,
        key="products-dimensions",
        height=250,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in ("query", "key", "product")},
    )


def _caption(trace: Trace, focus: Focus, products: Products, n_shown: int) -> None:
    queries, keys = trace.axes(focus.head.site)
    n_seen = int(products.visible.sum())
    score, weight = float(products.scores[focus.key]), float(products.weights[focus.key])
    hidden = "" if products.visible[focus.key] else ", which it cannot see"
    say.caption(
        f"{head_words(trace, focus.head)}, {run_words(trace)} of {model_words(trace.info)}; query {focus.query} "
        f"“{queries[focus.query].text}”.",
        f"A cell is an element of the query times that of the key times {products.scaling:.4g}, the model's scaling; a "
        "row sums to the score before the mask.",
        *[f"The {n_shown:,} keys of the largest weight are shown, of {n_seen:,} that the query sees."]
        * (n_seen > _MOST_KEYS),
        f"Key {focus.key} “{keys[focus.key].text}”{hidden}: score {score:.3f}, weight {weight:.4f}.",
        products.why or "The softmax of the scores of the keys that it sees gives the weights.",
        "These are single tokens, whatever is chosen for units and sinks.",
        "Turning queries and keys together changes every product and no weight: a dimension has no meaning of its own.",
    )
