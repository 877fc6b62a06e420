"""Lines: the fewest edges that hold a share, against a sort of everything; and their figure."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import tiny
import torch

import attnviz
from attnviz import Head, Model, Trace
from attnviz.errors import HeadError, InputError
from attnviz.figures.lines import attention_lines
from attnviz.lines import Edges, strongest_edges
from attnviz.trace import Stored
from attnviz.view import Sinks, View

TEXT = "When Mary and John went to the store, John gave a drink to Mary. They left."
HIDDEN = View(sinks=Sinks("hide", ("first", "special", "punctuation")))
VIEWS = {
    "plain": View(),
    "hidden": HIDDEN,
    "renormalised": View(sinks=Sinks("renormalise", ("first", "special"))),
    "words": View("word", Sinks("hide")),
    "sentences": View("sentence"),
}
SHARES = (0.05, 0.5, 0.7, 0.93, 1.0)

Edge = tuple[int, int, int, float]


@pytest.fixture(scope="module")
def runs(smollm2: Model, minilm: Model) -> dict[str, tuple[Trace, tuple[Head, ...]]]:
    dates = attnviz.load_model("dates", device="cpu", dtype="float32")
    return {
        "smollm2": (smollm2.trace(TEXT), (Head(5, 1), Head(23, 3), Head(5, 0))),
        "minilm": (minilm.trace(TEXT), (Head(2, 11), Head(0, 4))),
        "dates": (dates.trace("March 3, 1999", "1999-03-03"), (Head(1, 0, "cross"), Head(0, 1, "cross"))),
    }


def everything(trace: Trace, heads: tuple[Head, ...], view: View, query: int | None = None) -> list[Edge]:
    """All edges above 0, the heaviest first, ties in the order of heads, queries and keys: one at a time."""
    found = []
    for place, head in enumerate(heads):
        seen = view.pattern(trace, head)
        for q, row in enumerate(seen.weights.tolist()):
            if query is None or q == seen.queries.at(query):
                found += [(place, q, k, weight) for k, weight in enumerate(row) if weight > 0]
    return sorted(found, key=lambda edge: -edge[3])


def listed(edges: Edges) -> list[Edge]:
    columns = (edges.head, edges.query, edges.key, edges.weight)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("name", ["smollm2", "minilm", "dates"])
def test_the_edges_are_the_first_of_a_full_sort_and_as_few_as_can_be(
    runs: dict[str, tuple[Trace, tuple[Head, ...]]], name: str, kind: str
) -> None:
    (trace, heads), view = runs[name], VIEWS[kind]
    oracle = everything(trace, heads, view)
    total = sum(edge[3] for edge in oracle)
    before = 0
    for share in SHARES:
        edges = strongest_edges(trace, heads, share=share, view=view)
        assert listed(edges) == oracle[: len(edges)]
        assert edges.total == pytest.approx(total, rel=1e-6)
        assert edges.n_all == len(oracle)
        held = sum(edge[3] for edge in oracle[: len(edges)])
        assert edges.held == pytest.approx(held / total, rel=1e-6)
        assert held >= (share - 1e-6) * total
        assert held - float(edges.weight[-1]) < share * total
        assert len(edges) >= before
        before = len(edges)


def test_one_query_gives_its_own_edges(runs: dict[str, tuple[Trace, tuple[Head, ...]]]) -> None:
    for trace, heads in runs.values():
        for view in (View(), VIEWS["words"]):
            at = view.axes(trace, heads[0].site)[0].at(4)
            edges = strongest_edges(trace, heads, query=4, share=1.0, view=view)
            oracle = everything(trace, heads, view, query=4)
            # One row alone is rounded otherwise than among others.
            drawn, wanted = ({edge[:3]: edge[3] for edge in some} for some in (listed(edges), oracle))
            assert drawn == pytest.approx({place: wanted[place] for place in drawn}, abs=1e-5)
            assert max((wanted[place] for place in wanted.keys() - drawn.keys()), default=0) < 1e-8
            assert edges.one == at
            assert set(edges.query.tolist()) == {at}
            assert edges.taken.shape == (len(heads), 1)
            assert edges.n_all == len(oracle)


@pytest.mark.parametrize("most", [1, 7, 100])
def test_no_more_than_the_most_are_kept_and_what_they_hold_is_said(smollm2: Model, most: int) -> None:
    trace = smollm2.trace("one two three " * 110)  # several chunks of rows, so that edges are let go many times
    heads = (Head(3, 2), Head(10, 7))
    edges = strongest_edges(trace, heads, share=1.0, most=most)
    oracle = everything(trace, heads, View())
    assert listed(edges) == oracle[:most]
    assert edges.held == pytest.approx(sum(edge[3] for edge in oracle[:most]) / edges.total, rel=1e-6)
    assert edges.held < 0.9


def uniform(length: int) -> Trace:
    """A trace of two heads that look at all keys alike."""
    trace = attnviz.wrap_model(tiny.EXACT["grouped"](num_hidden_layers=1)).trace(input_ids=tiny.ids(length))
    return dataclasses.replace(
        trace, attention={"decoder": {0: Stored(torch.full((1, 4, length, length), 1 / length))}}
    )


def test_ties_are_taken_in_the_order_of_heads_queries_and_keys() -> None:
    trace = uniform(8)
    edges = strongest_edges(trace, (Head(0, 2), Head(0, 1)), share=0.6, most=100)
    assert len(edges) == np.ceil(0.6 * 128)
    assert listed(edges) == [(i // 64, i // 8 % 8, i % 8, 0.125) for i in range(len(edges))]
    few = strongest_edges(trace, (Head(0, 2), Head(0, 1)), share=0.6, most=5)
    assert listed(few) == listed(edges)[:5]


def test_a_share_of_what_was_found_is_what_would_have_been_found(smollm2: Model) -> None:
    trace, heads = smollm2.trace(TEXT), (Head(5, 1), Head(6, 2))
    everything_kept = strongest_edges(trace, heads, share=1.0)
    for share in SHARES:
        assert listed(everything_kept.holding(share)) == listed(strongest_edges(trace, heads, share=share))


def test_all_attention_taken_away_leaves_no_edges(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT)
    view = View(sinks=Sinks("hide", (), tuple(range(len(trace.tokens)))))
    edges = strongest_edges(trace, [Head(0, 0)], view=view)
    assert (len(edges), edges.held, edges.total, edges.n_all) == (0, 0.0, 0.0, 0)
    np.testing.assert_allclose(edges.taken.numpy(), 1, atol=1e-5)
    assert edges.frame().empty
    assert "0 of 0 lines" in attention_lines(trace, edges).layout.title.subtitle.text


def test_the_frame_names_what_each_edge_joins(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT)
    edges = strongest_edges(trace, [Head(5, 1), Head(23, 3)])
    for row, (place, query, key, weight) in zip(edges.frame().itertuples(index=False), listed(edges), strict=True):
        head = edges.heads[place]
        assert tuple(row) == pytest.approx(
            (head.layer, head.head, query, trace.tokens[query].text, key, trace.tokens[key].text, weight)
        )
        assert trace.pattern(head.layer, head.head)[query, key] == pytest.approx(weight)


def test_progress_runs_to_the_end(minilm: Model) -> None:
    told: list[tuple[int, int]] = []
    heads = [Head(0, 0), Head(1, 0)]
    strongest_edges(minilm.trace(TEXT), heads, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("heads", "options", "error", "words"),
    [
        ([], {}, InputError, "0 heads"),
        ([Head(0, 99)], {}, HeadError, "99"),
        ([Head(0, 0)], {"share": 0.0}, InputError, "share"),
        ([Head(0, 0)], {"share": 1.01}, InputError, "share"),
        ([Head(0, 0)], {"most": 0}, InputError, "most=0"),
        ([Head(0, 0)], {"query": 999}, InputError, "query"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    minilm: Model, heads: list[Head], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        strongest_edges(minilm.trace(TEXT), heads, **options)


def test_heads_of_several_sites_have_no_common_columns(runs: dict[str, tuple[Trace, tuple[Head, ...]]]) -> None:
    with pytest.raises(HeadError, match="one site"):
        strongest_edges(runs["dates"][0], [Head(0, 0, "cross"), Head(0, 0, "encoder")])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_draws_every_edge_once(runs: dict[str, tuple[Trace, tuple[Head, ...]]], theme: Any) -> None:
    for trace, heads in runs.values():
        edges = strongest_edges(trace, heads, share=0.9)
        figure = attention_lines(trace, edges, theme=theme)
        drawn = []
        names = [f"L{head.layer}H{head.head}" for head in heads]
        for line in figure.data[:-1]:
            y = np.asarray(line.y).reshape(-1, 3)
            assert np.isnan(y[:, 2]).all()
            weights = np.asarray(line.customdata).reshape(-1, 3)[:, 0]
            drawn += [
                (names.index(line.name), int(q), int(k), float(w)) for (q, k, _), w in zip(y, weights, strict=True)
            ]
        assert sorted(drawn) == sorted(listed(edges))
        assert len(figure.data) <= 6 * len(heads) + 1
        # The strongest are the widest.
        strongest = max(figure.data[:-1], key=lambda line: max(line.customdata))
        assert strongest.line.width == max(line.line.width for line in figure.data[:-1])
        for axis, units in ((figure.layout.yaxis, edges.queries), (figure.layout.yaxis2, edges.keys)):
            assert axis.range[0] > axis.range[1]
            assert list(axis.tickvals) == list(range(len(units)))


def test_the_figure_says_which_run_and_shows_hostile_tokens_as_text(minilm: Model) -> None:
    trace = minilm.trace("<b>bold</b> <img src=x>")
    hostile = tuple(dataclasses.replace(token, text="<img src=x onerror=alert(1)>") for token in trace.tokens)
    trace = dataclasses.replace(trace, tokens=hostile, edit_titles=("zero <b>L0H0</b>",))
    figure = attention_lines(trace, strongest_edges(trace, [Head(0, 0), Head(1, 1)], query=2))
    title = f"{figure.layout.title.text} {figure.layout.title.subtitle.text}"
    assert "L0H0, L1H1" in title
    assert "edited run" in title
    assert "of query 2" in title
    shown = [title, *figure.layout.yaxis.ticktext, *figure.layout.yaxis2.ticktext]
    shown += [text for line in figure.data[:-1] for text in line.text]
    assert [re.findall(r"<[^>]*>?", text) for text in shown if "<" in text] == []
