"""Attention flow against networkx, on the same capacities and on whole numbers, and bottlenecks made by hand."""

import itertools

import networkx as nx
import pytest
import torch
from test_flow_rollout import random_patterns, random_stack

import attnviz
from attnviz import Sinks, View
from attnviz.errors import InputError, ShapeError
from attnviz.flow import maxflow
from attnviz.flow.maxflow import max_flow, max_flow_steps
from attnviz.flow.mixing import Stack, Step, steps

RESOLUTION = 5e-10


def as_networkx(stack: list[Step], level: int | None = None) -> nx.DiGraph:
    """Nodes are (column, how many steps of its own it has behind it); one edge at a time."""
    made = Stack.of(stack)
    graph = nx.DiGraph()
    graph.add_nodes_from((column, 0) for column in range(made.n_columns))
    at = dict.fromkeys(range(made.n_columns), 0)
    for step in made.steps[:level]:
        queries, keys = made.sides(step)
        below = dict(at)
        for q, column in enumerate(range(queries.start, queries.stop)):
            at[column] += 1
            shares = {(column, below[column]): float(step.kept[q])}
            for k, key in enumerate(range(keys.start, keys.stop)):
                node = key, below[key]
                shares[node] = shares.get(node, 0.0) + float(step.weights[q, k])
            for node, share in shares.items():
                if share > 0:
                    graph.add_edge((column, at[column]), node, capacity=share)
    graph.graph["top"] = at
    return graph


def by_networkx(stack: list[Step], query: int, level: int | None = None) -> list[float]:
    made, graph = Stack.of(stack), as_networkx(stack, level)
    column = query + (0 if level is not None and level <= made.text_level else made.n_source)
    source = column, graph.graph["top"][column]
    return [nx.maximum_flow_value(graph, source, (sink, 0)) for sink in range(made.n_columns)]


def some_stack(seed: int) -> tuple[list[Step], int]:
    """(steps, query): 2 to 5 layers, 2 to 6 tokens, causal or not, some shares zero, the residual different."""
    draw = torch.Generator().manual_seed(seed)
    layers, tokens = (int(torch.randint(low, high, (), generator=draw)) for low, high in ((2, 6), (2, 7)))
    patterns = random_patterns(layers, 1, tokens, tokens, seed=seed, causal=seed % 2 == 0)
    kept = torch.rand(patterns.shape, generator=draw) > (0.4 if seed % 3 == 0 else 0)
    query = int(torch.randint(0, tokens, (), generator=draw))
    return list(steps(patterns * kept, residual=(0.5, 0.1, 0.0)[seed % 3])), query


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_200_random_stacks_equal_networkx_and_the_minimum_cut(start: int) -> None:
    for seed in range(start, start + 50):
        stack, query = some_stack(seed)
        flows = max_flow_steps(stack, query).text.tolist()
        graph = as_networkx(stack)
        source = query, len(stack)
        for sink, flow in enumerate(flows):
            cut, (upper, _) = nx.minimum_cut(graph, source, (sink, 0))
            crossing = sum(a in upper and b not in upper for a, b in graph.edges)
            assert flow == pytest.approx(cut, abs=RESOLUTION * crossing + 1e-12), (seed, sink)
            assert flow == pytest.approx(nx.maximum_flow_value(graph, source, (sink, 0)), abs=1e-7), (seed, sink)


@pytest.mark.parametrize("seed", range(6))
def test_two_texts_equal_networkx_at_every_level(seed: int) -> None:
    stack = random_stack(seed)
    for level, query in ((None, 3), (5, 2), (4, 0), (3, 1), (2, 2), (1, 0)):
        scores = max_flow_steps(stack, query, level=level)
        assert scores.source is not None
        flows = [*scores.source.tolist(), *scores.text.tolist()]
        assert flows == pytest.approx(by_networkx(stack, query, level), abs=1e-7), level


def test_trying_heavy_edges_first_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    whole_flow = maxflow._Network.flow
    for seed, causal in itertools.product(range(4), (True, False)):
        patterns = (3 * random_patterns(4, 1, 12, 12, seed=seed, causal=causal).log()).softmax(-1)
        monkeypatch.setattr(maxflow, "_FEW_EDGES", 10**9)
        expected = max_flow(patterns)
        monkeypatch.setattr(maxflow, "_FEW_EDGES", 0)
        monkeypatch.setattr(maxflow, "_HEAVY", 2)
        monkeypatch.setattr(maxflow._Network, "flow", lambda self, sink: tried.append(sink) or whole_flow(self, sink))
        assert torch.equal(max_flow(patterns), expected)
        monkeypatch.undo()
    assert 8 * 12 < len(tried) < 2 * 8 * 12  # some sufficed and some did not


def test_a_bottleneck_by_hand() -> None:
    # Layer 1 sends all to token 1; it can hand on 0.3 to token 0 and keeps 0.7 for itself.
    first = torch.tensor([[1.0, 0.0], [0.3, 0.7]])
    second = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert max_flow(torch.stack([first, second])[:, None], residual=0.0).tolist() == pytest.approx([0.3, 0.7])
    # Two ways of 0.5 each lead to token 0, which the product of shares would halve.
    wide = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    split = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    assert max_flow(torch.stack([wide, split]), residual=0.0).tolist() == pytest.approx([1.0, 0.0, 0.0])
    # One after another: 0.5 kept at each of two layers, and the rest goes to token 0.
    assert max_flow(wide.expand(2, 3, 3), -1).tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_later_tokens_of_a_causal_stack_get_nothing() -> None:
    patterns = random_patterns(3, 2, 6, 6)
    flows = max_flow(patterns, 3)
    assert flows[4:].tolist() == [0.0, 0.0]
    torch.testing.assert_close(flows[:4], max_flow(patterns[..., :4, :4]))


def test_all_queries_at_once_are_one_flow_from_above_them() -> None:
    stack = list(steps(random_patterns(3, 2, 5, 5, causal=False)))
    graph = as_networkx(stack)
    for column in range(5):
        graph.add_edge("all", (column, 3), capacity=0.2)
    expected = [nx.maximum_flow_value(graph, "all", (sink, 0)) for sink in range(5)]
    assert max_flow_steps(stack, None).text.tolist() == pytest.approx(expected, abs=1e-7)


def test_a_trace_equals_its_patterns_and_words_are_sums(smollm2: attnviz.Model) -> None:
    trace = smollm2.trace("Understandably, they left the store.")
    flows = max_flow(trace)
    patterns = torch.stack([trace.pattern(layer) for layer in trace.layers()])
    torch.testing.assert_close(flows, max_flow(patterns), atol=1e-6, rtol=0)
    words = View("word").axes(trace)[0]
    torch.testing.assert_close(max_flow(trace, view=View("word")), words.sum(flows))
    hidden = max_flow(trace, view=View(sinks=Sinks("hide")))
    assert float(hidden[0]) < float(flows[0])
    assert bool((flows <= 1 + 1e-6).all())


def test_progress_counts_tokens_and_can_stop() -> None:
    seen: list[tuple[int, int]] = []
    max_flow_steps(steps(random_patterns(2, 1, 3, 3)), -1, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]

    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        max_flow_steps(steps(random_patterns(2, 1, 3, 3)), -1, progress=stop)


def test_wrong_positions_and_shapes_are_refused() -> None:
    patterns = random_patterns(2, 1, 3, 3)
    with pytest.raises(InputError, match="from 0 to 2"):
        max_flow(patterns, 3)
    with pytest.raises(ShapeError):
        max_flow(patterns[0, 0])
    with pytest.raises(InputError, match="from 1 to 2"):
        max_flow_steps(steps(patterns), 0, level=3)


def test_one_token_gets_all_there_is() -> None:
    patterns = torch.ones(3, 2, 1, 1)
    assert max_flow(patterns).tolist() == [1.0]
    assert max_flow_steps(list(steps(patterns, residual=0.5)), None).text.tolist() == [1.0]
