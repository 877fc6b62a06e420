"""The graph under a target: masses that conserve, the fewest edges of each step, all joined to the target."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from test_flow_rollout import random_patterns, random_stack

from attnviz.errors import InputError, ShapeError
from attnviz.flow.graph import Graph, trace_down
from attnviz.flow.mixing import Stack, Step, steps
from attnviz.flow.rollout import scores_of
from attnviz.units import Units

PLACE = ["start_level", "start", "end_level", "end", "layer", "site", "kind"]


def labels(n: int) -> list[str]:
    return [f"t{i}" for i in range(n)]


def by_loop(stack: list[Step], column: int, level: int) -> dict[tuple, float]:
    """Every edge with mass, one at a time: (start_level, start, end_level, end, layer, site, kind) -> mass."""
    made = Stack.of(stack)
    mass = {(level, column): 1.0}
    edges: dict[tuple, float] = {}
    for place in reversed(range(level)):
        step = made.steps[place]
        queries, keys = made.sides(step)
        below = made.text_level if step.site == "cross" else place
        for q, end in enumerate(range(queries.start, queries.stop)):
            here = mass.get((place + 1, end), 0.0)
            ways = [((below, key), "attention", float(step.weights[q, k])) for k, key in enumerate(range(*_of(keys)))]
            for (start_level, start), kind, share in [*ways, ((place, end), "kept", float(step.kept[q]))]:
                if here * share > 0:
                    edges[start_level, start, place + 1, end, step.layer, step.site, kind] = here * share
                    mass[start_level, start] = mass.get((start_level, start), 0.0) + here * share
    return edges


def _of(columns: slice) -> tuple[int, int]:
    return columns.start, columns.stop


def listed(graph: Graph) -> dict[tuple, float]:
    return dict(zip(graph.edges[PLACE].itertuples(index=False, name=None), graph.edges["mass"], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_all_edges_of_one_text_conserve_mass_and_end_in_rollout(seed: int) -> None:
    stack = list(steps(random_patterns(3, 2, 5, 5, seed=seed, causal=seed % 2 == 0)))
    graph = trace_down(stack, labels(5), -2, share=1)
    assert listed(graph) == pytest.approx(by_loop(stack, 3, 3))
    assert (graph.held, graph.n_edges_all, graph.target) == (pytest.approx(1), len(graph.edges), (3, 3))
    sums = graph.edges.groupby("end_level")["mass"].sum()
    assert sums.tolist() == pytest.approx([1, 1, 1])
    bottom = graph.edges[graph.edges["start_level"] == 0].groupby("start")["mass"].sum()
    expected = scores_of(stack, 3).text
    assert bottom.to_dict() == pytest.approx({i: float(x) for i, x in enumerate(expected) if x > 0})
    assert graph.levels == ("embeddings", "after layer 0", "after layer 1", "after layer 2")


@pytest.mark.parametrize(("level", "query", "column"), [(6, 2, 5), (None, -1, 6), (4, 0, 3), (3, 1, 4), (2, 1, 1)])
def test_all_edges_of_two_texts(level: int | None, query: int, column: int) -> None:
    stack = random_stack(5)
    graph = trace_down(stack, labels(7), query, share=1, level=level)
    assert listed(graph) == pytest.approx(by_loop(stack, column, level or 6))
    assert graph.target == (level or 6, column)
    assert graph.n_source == 3
    # What comes in from above goes out below, but at the embeddings: level 0 of the source, level 2 of the text.
    given = graph.edges.groupby(["start_level", "start"])["mass"].sum()
    handed = graph.edges.groupby(["end_level", "end"])["mass"].sum()
    for node, mass in given.items():
        assert isinstance(node, tuple)
        if node[0] > (0 if node[1] < 3 else 2):
            assert handed[node] == pytest.approx(mass), node


def test_a_source_column_above_the_encoder_has_no_edges() -> None:
    graph = trace_down(random_stack(5), labels(7), 0, share=1)
    above = graph.edges[graph.edges["end_level"] > 2]
    assert set(above["site"]) == {"decoder", "cross"}
    assert bool((above["end"] >= 3).all())
    crossing = above[above["site"] == "cross"]
    assert set(crossing[crossing["kind"] == "attention"]["start_level"]) == {2}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_each_step_keeps_the_smallest_set_that_holds_the_share(seed: int, share: float) -> None:
    stack = list(steps(random_patterns(3, 1, 3, 3, seed=seed), residual=0.4))
    everything = by_loop(stack, 2, 3)
    drawn = listed(trace_down(stack, labels(3), 2, share=share))
    reached = {(3, 2)}
    for level in (3, 2, 1):
        own = {place: mass for place, mass in everything.items() if place[2] == level}
        needed = share * sum(own.values()) - 1e-9
        fewest = next(
            n for n in range(1, len(own) + 1) if any(sum(s) >= needed for s in itertools.combinations(own.values(), n))
        )
        heaviest = sorted(own, key=lambda place: -own[place])[:fewest]
        assert sum(own[place] for place in heaviest) >= needed
        joined = {place for place in heaviest if (level, place[3]) in reached}
        assert {place for place in drawn if place[2] == level} == joined
        reached |= {(place[0], place[1]) for place in joined}


@pytest.mark.parametrize("most", [1, 7, 30])
def test_at_most_so_many_edges_and_all_joined_to_the_target(most: int) -> None:
    stack = random_stack(2)
    graph = trace_down(stack, labels(7), 3, share=0.9, most=most)
    assert 0 < len(graph.edges) <= most
    reached = {graph.target}
    for edge in graph.edges.itertuples():
        assert (edge.end_level, edge.end) in reached
        reached.add((edge.start_level, edge.start))
    total = sum(by_loop(stack, 6, 6).values())
    assert graph.held == pytest.approx(graph.edges["mass"].sum() / total)
    assert graph.n_edges_all == len(by_loop(stack, 6, 6))


def test_rows_without_anything_left_end_there() -> None:
    nothing = Step("decoder", 0, torch.zeros(2, 2), torch.zeros(2))
    graph = trace_down([nothing, Step("decoder", 1, torch.zeros(2, 2), torch.ones(2))], labels(2), 0, share=0.7)
    assert listed(graph) == {(1, 0, 2, 0, 1, "decoder", "kept"): 1.0}
    empty = trace_down([nothing], labels(2), 0)
    assert (len(empty.edges), empty.held, empty.n_edges_all) == (0, 0.0, 0)
    assert list(empty.edges) == list(graph.edges)


def test_words_are_the_sums_of_their_tokens_edges() -> None:
    stack = random_stack(7)
    source, text = Units("word", ("a", "b"), (0, 2, 3)), Units("word", ("c", "d"), (0, 1, 4))
    graph = trace_down(stack, ["a", "b", "c", "d"], 1, share=1, units=(source, text))
    column = [0, 0, 1, 2, 3, 3, 3]
    expected: dict[tuple, float] = {}
    for (low, start, high, end, *rest), mass in by_loop(stack, 4, 6).items():
        place = (low, column[start], high, column[end], *rest)
        expected[place] = expected.get(place, 0.0) + mass
    assert listed(graph) == pytest.approx(expected)
    assert (graph.target, graph.n_source, graph.columns) == ((6, 3), 2, ("a", "b", "c", "d"))
    alone = Units("sentence", ("all",), (0, 4))
    one = trace_down(steps(random_patterns(2, 1, 4, 4)), ["all"], 0, units=(alone,), share=1)
    assert one.edges["mass"].sum() == pytest.approx(2)
    assert set(zip(one.edges["start"], one.edges["end"], strict=True)) == {(0, 0)}


def test_a_pooled_embedding_is_all_top_states_in_equal_parts() -> None:
    stack = list(steps(random_patterns(2, 1, 4, 4, causal=False)))
    graph = trace_down(stack, labels(4), None, share=1)
    assert graph.target == (2, -1)
    top = graph.edges[graph.edges["end_level"] == 2].groupby("end")["mass"].sum()
    assert top.tolist() == pytest.approx([0.25] * 4)
    bottom = graph.edges[graph.edges["start_level"] == 0].groupby("start")["mass"].sum()
    assert bottom.tolist() == pytest.approx(scores_of(stack, None).text.tolist())


def test_a_graph_of_512_tokens_and_30_layers_stays_small_enough_to_draw() -> None:
    pattern = random_patterns(512, 512).float()
    stack = Stack.of([Step("decoder", n, 0.5 * pattern, torch.full((512,), 0.5)) for n in range(30)])
    graph = trace_down(stack, labels(512), -1)
    assert 30 < len(graph.edges) <= 20_000
    assert graph.edges.dtypes["mass"] == np.float64
    assert all(pd.api.types.is_integer_dtype(graph.edges[name]) for name in PLACE[:5])


def test_what_cannot_be_traced_is_refused() -> None:
    stack = random_stack(0)
    for share in (0, 1.01, float("nan"), True):
        with pytest.raises(InputError, match="share"):
            trace_down(stack, labels(7), 0, share=share)
    with pytest.raises(InputError, match="most"):
        trace_down(stack, labels(7), 0, most=0)
    with pytest.raises(ShapeError, match="7 labels"):
        trace_down(stack, labels(4), 0)
    with pytest.raises(ShapeError, match=r"\[3, 4\] tokens"):
        trace_down(stack, labels(2), 0, units=(Units("word", ("c",), (0, 4)),))
    with pytest.raises(InputError, match="from 0 to 2"):
        trace_down(stack, labels(7), 3, level=2)
