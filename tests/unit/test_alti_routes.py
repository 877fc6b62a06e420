"""ALTI and information flow routes: against triple loops, as shares, and down from a prediction."""

from itertools import product

import pytest
import tiny as small
import torch

import attnviz
from attnviz import flow
from attnviz.errors import InputError
from attnviz.flow import alti, contributions, routes
from attnviz.flow.contributions import mlp_share, proximities
from attnviz.flow.mixing import Step
from attnviz.flow.rollout import scores_of
from attnviz.flow.run import Block, Run, take_apart
from benchmarks import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types
KINDS = [("causal", "llama"), ("masked", "bert"), ("seq2seq", "bart"), ("causal", "gpt_neox"), ("causal", "gemma2")]


def apart(mapping: str, model_type: str) -> Run:
    model = attnviz.wrap_model(tiny.build(mapping, model_type), name=model_type)
    return take_apart(model, **{name: row[0].tolist() for name, row in tiny.inputs(model.hf_model).items()})


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def run(request: pytest.FixtureRequest) -> Run:
    return apart(*request.param)


def plain_parts(block: Block) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """([query, head, key, d_model], old [query, d_model], rest [query, d_model]), every norm applied as it is read."""
    value = block.attention.value[0].float().repeat_interleave(block.attention.group, dim=0) @ block.weight
    parts = torch.einsum("hqk,hkd->qhkd", block.attention.pattern()[0], value)
    parts = block.behind(block.added(parts))
    rest = block.behind(block.bias_part()) + (0 if block.norm is None else block.norm.bias)
    return parts, block.behind(block.before), rest


def nearer(part: torch.Tensor, whole: torch.Tensor) -> float:
    return max(0.0, float(whole.abs().sum()) - float((whole - part).abs().sum()))


def test_the_parts_sum_to_the_new_state(run: Run) -> None:
    for block in run.blocks:
        parts, old, rest = plain_parts(block)
        total = parts.sum((1, 2)) + old + rest
        assert float((total - block.after).abs().max()) <= 1e-4 * float(block.after.abs().max())


def test_the_feed_forward_part_sums_to_what_leaves_the_layer(run: Run) -> None:
    met = [block for block in run.blocks if block.mlp is not None]
    assert met
    for block in met:
        fed = block.mlp
        total = fed.written + block.after
        total = total if fed.norm is None else fed.norm.linear(total) + fed.norm.bias
        assert float((total - fed.after).abs().max()) <= 1e-4 * float(fed.after.abs().max())


def test_alti_is_that_of_a_triple_loop(run: Run) -> None:
    for block, step in zip(run.blocks[-2:], list(alti.steps(run))[-2:], strict=True):
        parts, old, _ = plain_parts(block)
        n_queries, _, n_keys = parts.shape[:3]
        shares = torch.zeros(n_queries, n_keys + 1)
        for query, key in product(range(n_queries), range(n_keys)):
            part = parts[query, :, key].sum(0)
            part = part + old[query] if block.site != "cross" and query == key else part
            shares[query, key] = nearer(part, block.after[query])
        if block.site == "cross":
            shares[:, -1] = torch.tensor([nearer(old[query], block.after[query]) for query in range(n_queries)])
        assert (shares.sum(-1) > 0).all()
        shares /= shares.sum(-1, keepdim=True)
        got = torch.cat([step.weights, step.kept[:, None]], 1)
        if block.site != "cross":
            got = torch.cat([step.matrix(), torch.zeros(n_queries, 1)], 1)
        torch.testing.assert_close(got, shares, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", [alti.steps, contributions.steps], ids=["alti", "contributions"])
def test_what_a_token_has_from_itself_is_split_between_attention_and_what_it_kept(run: Run, method) -> None:
    for block, step in zip(run.blocks, method(run), strict=True):
        if block.site != "cross":
            parts, old, _ = plain_parts(block)
            places = torch.arange(len(old))
            own = contributions.own_share(parts[places, :, places].sum(1), old)
            assert float(own.max()) > 0
            torch.testing.assert_close(step.weights.diagonal(), own * step.matrix().diagonal(), atol=1e-5, rtol=0)


def test_proximities_are_those_of_a_triple_loop(run: Run) -> None:
    block = run.blocks[-1]
    parts, old, _ = plain_parts(block)
    n_queries, n_heads, n_keys = parts.shape[:3]
    found, kept = proximities(block)
    for query in range(n_queries):
        whole = block.after[query]
        own = nearer(old[query], whole)
        each = torch.tensor([[nearer(parts[query, h, k], whole) for k in range(n_keys)] for h in range(n_heads)])
        torch.testing.assert_close(found[:, query], each / (each.sum() + own), atol=1e-5, rtol=0)
        assert float(kept[query]) == pytest.approx(own / (float(each.sum()) + own), abs=1e-5)


def test_a_feed_forward_share_is_that_of_a_loop() -> None:
    for mapping, model_type in KINDS[:2]:
        block = apart(mapping, model_type).blocks[0]
        fed, got = block.mlp, mlp_share(block)
        assert fed is not None
        for query in range(len(got)):
            written, stream = fed.written[query], block.after[query]
            if fed.norm is not None:
                written, stream = ((x - x.mean()) * fed.norm.gain * fed.norm.scale[query] for x in (written, stream))
            own, other = nearer(written, fed.after[query]), nearer(stream, fed.after[query])
            assert float(got[query]) == pytest.approx(own / (own + other), abs=1e-5)


def test_a_block_with_no_feed_forward_behind_it_has_no_such_share() -> None:
    block = next(block for block in apart("seq2seq", "bart").blocks if block.site == "decoder")
    assert not mlp_share(block).any()


@pytest.mark.parametrize("method", [alti.steps, routes.steps], ids=["alti", "routes"])
def test_steps_are_shares_and_see_nothing_that_is_hidden(run: Run, method) -> None:
    for block, step in zip(run.blocks, method(run), strict=True):
        assert isinstance(step, Step)
        assert (step.site, step.layer) == (block.site, block.layer)
        torch.testing.assert_close(step.weights.sum(-1) + step.kept, torch.ones(len(step.kept)))
        hidden = ~(block.attention.pattern()[0] > 0).any(0)
        assert not step.weights[hidden].any()


@pytest.mark.parametrize("method", [alti.steps, routes.steps], ids=["alti", "routes"])
def test_a_query_that_nothing_leads_nearer_to_keeps_its_state(monkeypatch: pytest.MonkeyPatch, method) -> None:
    run = take_apart(attnviz.wrap_model(small.grouped()), input_ids=small.ids(5))
    block = run.blocks[0]
    # A new state that every part only leads away from.
    object.__setattr__(block, "after", torch.zeros_like(block.after))
    step = next(iter(method(run)))
    assert torch.equal(step.kept, torch.ones(5))
    assert not step.weights.any()


def test_routes_are_those_of_a_loop_over_all_edges(run: Run) -> None:
    threshold = 0.02
    got = routes.information_flow_routes(run, -2, threshold=threshold)
    mass = {("text", len(run.last) - 2): 1.0}
    expected: dict[tuple, float] = {}
    across = any(block.site == "cross" for block in run.blocks)
    for place, block in reversed(list(enumerate(run.blocks))):
        upper = "source" if across and block.site == "encoder" else "text"
        lower = "source" if across and block.site != "decoder" else "text"
        parts, kept = proximities(block)
        below = {node: value for node, value in mass.items() if node[0] != upper}
        for (_, query), value in [(node, value) for node, value in mass.items() if node[0] == upper]:
            fed = float(mlp_share(block)[query])
            through = fed * value if fed >= threshold else 0.0
            past = (1 - fed) * value if 1 - fed >= threshold else 0.0
            if through:
                expected[place, "mlp", query, query, -1] = through
            if block.mlp is not None and block.mlp.beside:
                below[upper, query] = below.get((upper, query), 0.0) + through
            else:
                past += through
            if kept[query] >= threshold:
                expected[place, "kept", query, query, -1] = past * float(kept[query])
                below[upper, query] = below.get((upper, query), 0.0) + past * float(kept[query])
            for key in range(parts.shape[2]):
                if parts[:, query, key].sum() >= threshold:
                    for head in range(block.n_heads):
                        part = past * float(parts[head, query, key])
                        if part > 0:
                            expected[place, "attention", key, query, head] = part
                            below[lower, key] = below.get((lower, key), 0.0) + part
        mass = below
    columns = ["place", "kind", "start", "end", "head"]
    found = {tuple(row[:5]): row[5] for row in got.edges[[*columns, "mass"]].itertuples(index=False)}
    assert set(found) == set(expected)
    assert found == pytest.approx(expected, abs=1e-6)
    assert got.held == pytest.approx(sum(mass.values()), abs=1e-6)
    assert got.query == len(run.last) - 2


def test_all_edges_hold_all_of_the_mass(run: Run) -> None:
    for query in (-1, None):
        got = routes.information_flow_routes(run, query, share=1.0)
        assert got.held == pytest.approx(1, abs=1e-5)
        blocks = got.edges[got.edges.kind != "mlp"].groupby("place")["mass"].sum()
        assert len(blocks) == len(run.blocks)
        if not any(block.site == "cross" for block in run.blocks):
            beside = [block.mlp is not None and block.mlp.beside for block in run.blocks]
            assert all(blocks[i] == pytest.approx(1, abs=1e-5) for i in range(len(blocks)) if not beside[i])


def test_a_share_lists_the_fewest_edges_of_each_block_that_hold_it(run: Run) -> None:
    share, everything = 0.6, routes.information_flow_routes(run, -1, share=1.0).edges
    some = routes.information_flow_routes(run, -1, share=share).edges
    for place in range(len(run.blocks)):
        pairs = [
            edges[(edges.place == place) & (edges.kind != "mlp")].groupby(["kind", "start", "end"])["mass"].sum()
            for edges in (everything, some)
        ]
        masses, kept = (sorted(x.tolist(), reverse=True) for x in pairs)
        total = sum(masses)
        assert sum(kept) >= share * total * (1 - 1e-6)
        assert sum(kept[:-1]) < share * total
        assert kept == pytest.approx(masses[: len(kept)], abs=1e-9)


def test_what_is_kept_holds_the_share_exactly_once_reached() -> None:
    got = routes.fewest(torch.tensor([0.1, 0.5, 0.0, 0.3, 0.1]), 0.8)
    assert got.tolist() == [False, True, False, True, False]
    assert routes.fewest(torch.tensor([0.5, 0.0, 0.5]), 1.0).tolist() == [True, False, True]


def test_steps_of_routes_are_the_masses_of_routes_with_every_edge() -> None:
    run = apart("causal", "gpt_neox")
    mass = torch.zeros(len(run.last), dtype=torch.float64)
    mass[-1] = 1
    for step in reversed(list(routes.steps(run))):
        mass = mass @ step.matrix().double()
    edges = routes.information_flow_routes(run, -1, share=1.0).edges
    bottom = edges[edges.place == 0].groupby("start")["mass"].sum()
    torch.testing.assert_close(torch.tensor(bottom.to_numpy()), mass, atol=1e-6, rtol=0)


@pytest.mark.parametrize("feed_forward", [True, False])
@pytest.mark.parametrize("threshold", [0.02, 0.05])
def test_steps_above_a_threshold_are_the_routes_above_it(run: Run, threshold: float, feed_forward: bool) -> None:
    options = {"threshold": threshold, "feed_forward": feed_forward}
    got = flow.information_flow_routes(run, -2, **options)
    down = scores_of(routes.steps(run, **options), -2)
    total = down.text.sum() + (0 if down.source is None else down.source.sum())
    assert float(total) == pytest.approx(got.held, abs=1e-6)
    assert got.held < 1
    assert (got.edges.kind == "mlp").any() == feed_forward


def test_steps_above_a_threshold_leave_out_what_is_below_it(run: Run) -> None:
    for plain, kept in zip(
        routes.steps(run, feed_forward=False), routes.steps(run, threshold=0.1, feed_forward=False), strict=True
    ):
        torch.testing.assert_close(kept.weights, torch.where(plain.weights >= 0.1, plain.weights, 0))
        torch.testing.assert_close(kept.kept, torch.where(plain.kept >= 0.1, plain.kept, 0))
        assert float(kept.weights.sum()) < float(plain.weights.sum())


def test_steps_of_a_share_keep_the_fewest_edges_of_each_query_that_hold_it(run: Run) -> None:
    for plain, kept in zip(
        routes.steps(run, feed_forward=False), routes.steps(run, share=0.6, feed_forward=False), strict=True
    ):
        for query in range(len(plain.kept)):
            every, some = (torch.cat([s.weights[query], s.kept[query, None]]) for s in (plain, kept))
            left = sorted(some[some > 0].tolist(), reverse=True)
            assert left == pytest.approx(sorted(every.tolist(), reverse=True)[: len(left)])
            assert sum(left) >= 0.6 - 1e-6
            assert sum(left[:-1]) < 0.6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.1, "share": 0.5}, "give one of them"),
        ({"threshold": 1.5}, "threshold is a number from 0 to 1"),
        ({"share": -0.1}, "share is a number from 0 to 1"),
        ({"share": True}, "share is a number from 0 to 1"),
        ({"query": 9}, "query is a position from 0 to 4"),
    ],
)
def test_routes_that_cannot_be_are_refused(options: dict, said: str) -> None:
    run = take_apart(attnviz.wrap_model(small.grouped()), input_ids=small.ids(5))
    with pytest.raises(InputError, match=said):
        routes.information_flow_routes(run, **options)
    if "query" not in options:
        with pytest.raises(InputError, match=said):
            next(routes.steps(run, **options))
