"""Figures of attention flow: every edge and score is drawn as given, scaled as said, and a token is never markup."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from attnviz.errors import AttnvizError, InputError, ShapeError
from attnviz.figures.flow import MOST_SANKEY_EDGES, agreement_map, bars, held_words, sankey
from attnviz.flow.graph import Graph

HOSTILE = "<img src=x onerror=alert(1)> $a$"
NAMES = ["start_level", "start", "end_level", "end", "layer", "site", "kind", "mass"]


def graph(rows: list[tuple[object, ...]], **changes: Any) -> Graph:
    """Two tokens of a source and two of a text; one layer of each, then a cross step."""
    levels = ("embeddings", "source after layer 0", "after layer 0", "after layer 0 cross")
    options = {"columns": ("le", HOSTILE, "the", "cat"), "n_source": 2, "levels": levels, "target": (3, 3)}
    return Graph(**options | {"edges": pd.DataFrame(rows, columns=NAMES), "held": 0.705, "n_edges_all": 1200} | changes)


ROWS: list[tuple[object, ...]] = [
    (2, 3, 3, 3, 0, "cross", "kept", 0.6),
    (1, 1, 3, 3, 0, "cross", "attention", 0.4),
    (1, 2, 2, 3, 0, "decoder", "attention", 0.35),
    (1, 3, 2, 3, 0, "decoder", "kept", 0.25),
    (0, 0, 1, 1, 0, "encoder", "attention", 0.3),
    (0, 1, 1, 1, 0, "encoder", "kept", 0.1),
]


def markup(texts: list[str]) -> list[str]:
    """What Plotly would read as a tag or as TeX."""
    return [text for text in texts if re.search(r"<(?!/?br|/?extra)|\$", text)]


def test_sankey_draws_each_edge_once_between_its_nodes() -> None:
    figure = sankey(graph(ROWS))
    drawn = figure.data[0]
    says = list(drawn.node.customdata)
    assert len(says) == len(set(says)) == 7
    for row, (source, target, value, words) in zip(
        ROWS,
        zip(drawn.link.source, drawn.link.target, drawn.link.value, drawn.link.customdata, strict=True),
        strict=True,
    ):
        start_level, start, end_level, end, _, site, kind, mass = row
        levels = graph(ROWS).levels
        assert says[source].startswith(f"{levels[start_level]}, {'source ' if start < 2 else ''}{start % 2} ")  # type: ignore[index, operator]
        assert says[target].startswith(f"{levels[end_level]}, {'source ' if end < 2 else ''}{end % 2} ")  # type: ignore[index, operator]
        assert drawn.node.x[source] < drawn.node.x[target]
        assert value == mass
        assert ("kept" in words) == (kind == "kept")
        assert {"cross": "cross-attention", "decoder": "decoder self", "encoder": "encoder self"}[str(site)] in words
    assert len(set(drawn.link.color)) == 3
    assert 0 < min(drawn.node.x) < max(drawn.node.x) < 1
    assert 0 < min(drawn.node.y) < max(drawn.node.y) < 1


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_sankey_is_titled_by_its_target_and_what_it_holds(theme: Any) -> None:
    figure = sankey(graph(ROWS), theme=theme)
    assert figure.layout.title.text == "Flow into 1 'cat', after layer 0 cross"
    assert figure.layout.title.subtitle.text.startswith("6 of 1,200 edges, holding 70.5% of the mass")
    assert sankey(graph(ROWS), theme=theme, title="<b>Mine</b>").layout.title.text == "&lt;b&gt;Mine&lt;/b&gt;"


def test_the_target_is_marked() -> None:
    node = sankey(graph(ROWS)).data[0].node
    marked = [place for place, colour in enumerate(node.color) if list(node.color).count(colour) == 1]
    assert [node.customdata[place] for place in marked] == ["after layer 0 cross, 1 cat"]


def test_a_target_of_the_whole_text_is_marked_in_each_token_of_it() -> None:
    rows: list[tuple[object, ...]] = [(0, i, 1, i, 0, "encoder", "kept", 0.5) for i in range(2)]
    figure = sankey(graph(rows, columns=("a", "b"), n_source=0, levels=("embeddings", "after layer 0"), target=(1, -1)))
    assert figure.layout.title.text == "Flow into the whole text, after layer 0"
    colours = dict(zip(figure.data[0].node.customdata, figure.data[0].node.color, strict=True))
    assert colours["after layer 0, 0 a"] == colours["after layer 0, 1 b"] != colours["embeddings, 0 a"]


@pytest.mark.parametrize("name", ["flow", "reversed"])
def test_nodes_of_a_level_do_not_overlap(name: str) -> None:
    order = ROWS if name == "flow" else ROWS[::-1]
    figure = sankey(graph(order))
    node, link = figure.data[0].node, figure.data[0].link
    tall = [
        max(sum(v for v, at in zip(link.value, ends, strict=True) if at == i) for ends in (link.source, link.target))
        for i in range(len(node.x))
    ]
    for x in set(node.x):
        own = sorted((node.y[i], tall[i]) for i in range(len(node.x)) if node.x[i] == x)
        for (high, over), (low, below) in pairwise(own):
            assert low - high > 0.8 * (over + below) / 2
        assert own[0][0] - 0.8 * own[0][1] / 2 > 0
        assert own[-1][0] + 0.8 * own[-1][1] / 2 < 1


@pytest.mark.parametrize(("count", "words"), [(0, "Raise the share"), (MOST_SANKEY_EDGES + 1, "Lower the share")])
def test_sankey_refuses_too_few_and_too_many_edges(count: int, words: str) -> None:
    rows: list[tuple[object, ...]] = [(0, i, 1, i, 0, "decoder", "kept", 0.1) for i in range(count)]
    columns = tuple(str(i) for i in range(count + 1))
    with pytest.raises(InputError, match=words):
        sankey(graph(rows, columns=columns, n_source=0, levels=("embeddings", "after layer 0"), target=(1, 0)))


def test_bars_scale_each_method_to_its_own_largest_size() -> None:
    scores = {"rollout": torch.tensor([0.1, 0.2, 0.0]), "gradient": np.array([-4.0, np.nan, 2.0]), "none": [0.0] * 3}
    figure = bars(["a", "b", "c"], scores)
    assert [list(bar.x) for bar in figure.data] == [[0, 1, 2]] * 3
    np.testing.assert_allclose(figure.data[0].y, [0.5, 1, 0])
    np.testing.assert_allclose(figure.data[1].y, [-1, np.nan, 0.5])
    np.testing.assert_allclose(figure.data[2].y, [0, 0, 0])
    np.testing.assert_allclose(figure.data[1].customdata, [-4, np.nan, 2])
    assert [tuple(axis.range) for axis in (figure.layout.yaxis, figure.layout.yaxis2)] == [(0, 1.05), (-1.05, 1.05)]
    assert figure.layout.yaxis2.ticktext == ("-4", "0", "4")
    colours = figure.data[1].marker.color
    assert colours[0] != colours[2] == figure.data[0].marker.color[0]
    assert [note.text for note in figure.layout.annotations] == ["rollout", "gradient", "none"]
    assert len({axis.domain for axis in (figure.layout.yaxis, figure.layout.yaxis2, figure.layout.yaxis3)}) == 3
    assert "not between rows" in figure.layout.title.subtitle.text


def test_bars_take_as_many_methods_as_there_are() -> None:
    assert len(bars(["a"], {f"m{i}": [float(i)] for i in range(24)}).data) == 24


@pytest.mark.parametrize(
    ("methods", "error", "words"),
    [
        ({}, InputError, "No methods"),
        ({"x": [1.0]}, ShapeError, "x: one score for each of the 2 tokens"),
        ({"x": [[1.0, 2.0]]}, ShapeError, "got the shape"),
        ({"x": [1.0, np.inf]}, InputError, "x: finite"),
    ],
)
def test_bars_say_what_they_cannot_draw(methods: dict[str, Any], error: type[AttnvizError], words: str) -> None:
    with pytest.raises(error, match=words):
        bars(["a", "b"], methods)


def test_agreement_is_a_square_with_each_pair_on_both_sides() -> None:
    table = pd.DataFrame({"a": ["x", "x", "y"], "b": ["y", "z", "z"], "spearman": [0.5, -0.25, np.nan]})
    figure = agreement_map(table)
    square = figure.data[0]
    expected = [[np.nan, 0.5, -0.25], [0.5, np.nan, np.nan], [-0.25, np.nan, np.nan]]
    np.testing.assert_array_equal(np.array(square.z, float), expected)
    assert (square.zmin, square.zmax) == (-1, 1)
    assert list(square.text[0]) == ["", "0.50", "-0.25"]
    assert figure.layout.xaxis.ticktext == figure.layout.yaxis.ticktext == ("x", "y", "z")
    assert figure.layout.yaxis.autorange == "reversed"
    assert square.customdata[1][2] == "y and z"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "no column spearman"),
        (pd.DataFrame({"a": [], "b": [], "spearman": []}), "no rows"),
        (pd.DataFrame({"a": ["x", "y"], "b": ["y", "x"], "spearman": [0.1, 0.2]}), "comes twice"),
    ],
)
def test_agreement_says_what_it_cannot_draw(table: pd.DataFrame, words: str) -> None:
    with pytest.raises(InputError, match=words):
        agreement_map(table)


def test_hostile_labels_are_text_in_every_figure() -> None:
    flow = sankey(graph(ROWS, target=(1, 1))).data[0]
    texts = [*flow.node.label, *flow.node.customdata, *flow.link.customdata]
    texts.append(sankey(graph(ROWS, target=(1, 1))).layout.title.text)
    row = bars([HOSTILE, "b"], {HOSTILE: [1.0, 2.0]}, title=HOSTILE)
    texts += [*row.data[0].hovertext, *row.layout.xaxis.ticktext, row.layout.title.text]
    texts += [note.text for note in row.layout.annotations]
    square = agreement_map(pd.DataFrame({"a": [HOSTILE], "b": ["y"], "spearman": [0.3]}), title=HOSTILE)
    texts += [*np.ravel(square.data[0].customdata), *square.layout.xaxis.ticktext, square.layout.title.text]
    assert sum("img" in text for text in texts) >= 10
    assert markup(texts) == []


def test_held_words_count_the_edges() -> None:
    assert held_words(graph(ROWS, held=1.0)) == "6 of 1,200 edges, holding 100.0% of the mass"
