"""The figure of products shows the numbers it was given, under a title of its own run."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from attnviz import Head, Model
from attnviz.figures.products import product_map
from attnviz.products import query_key


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_rows_sum_to_the_scores_of_the_keys_that_are_seen(smollm2: Model, theme: Any) -> None:
    trace = smollm2.trace("When Mary and John went to the store")
    products = query_key(trace, Head(23, 3), 4)
    figure = product_map(trace, products, theme=theme)
    (heatmap,) = figure.data
    np.testing.assert_allclose(np.sum(heatmap.z, axis=1), products.scores[:5].numpy(), atol=1e-4)
    assert heatmap.zmin == -heatmap.zmax
    assert list(figure.layout.yaxis.ticktext) == [token.text for token in trace.tokens[:5]]
    assert figure.layout.yaxis.autorange == "reversed"
    chosen = product_map(trace, products, keys=[3, 1]).data[0]
    np.testing.assert_array_equal(chosen.z, products.products[[3, 1]].numpy())


def test_hostile_tokens_are_text(minilm: Model) -> None:
    trace = minilm.trace("one two")
    hostile = tuple(dataclasses.replace(token, text="<img src=x onerror=alert(1)>") for token in trace.tokens)
    figure = product_map(dataclasses.replace(trace, tokens=hostile), query_key(trace, Head(0, 0), 1))
    shown = [figure.layout.title.text, *figure.layout.yaxis.ticktext, *np.ravel(figure.data[0].customdata)]
    assert [re.findall(r"<[^>]*>?", text) for text in shown if "<" in text] == []
    assert "query 1" in figure.layout.title.text
