"""Value-weighted contributions: they sum to what attention writes, and are what triple loops say."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import tiny as small
import torch
import transformers

import attnviz
from attnviz import Head
from attnviz.edits import ScaleHeads, ZeroHeads
from attnviz.errors import InputError, Unsupported
from attnviz.flow import contributions
from attnviz.flow.contributions import Reading
from attnviz.flow.run import Block, Run, take_apart
from benchmarks import architectures, tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types
MAPPINGS = dict.fromkeys(("bert", "roberta", "distilbert", "modernbert"), "masked")
MAPPINGS |= dict.fromkeys(("t5", "bart", "marian"), "seq2seq")
TEXT = "When Mary and John went to the store, John gave a drink to"


def apart(mapping: str, model_type: str) -> Run:
    model = attnviz.wrap_model(tiny.build(mapping, model_type), name=model_type)
    return take_apart(model, **{name: row[0].tolist() for name, row in tiny.inputs(model.hf_model).items()})


def near(got: torch.Tensor, expected: torch.Tensor, share: float = 1e-4) -> bool:
    return float((got - expected).abs().max()) <= share * float(expected.abs().max())


def summed(block: Block, *, norm: bool) -> torch.Tensor:
    """[query, d_model]: all that queries take from keys."""
    reading, total = Reading.of(block, norm=norm), torch.zeros_like(block.before)
    for queries, keys, weights in reading.cells():
        total[queries] += torch.einsum("hqk,hkd->qd", weights, reading.values[:, keys])
    return total


def check_sums(run: Run) -> None:
    assert run.blocks
    for block in run.blocks:
        assert near(summed(block, norm=False) + block.bias_part(), block.written)
        rest = block.behind(block.before + block.bias_part())
        rest = rest if block.norm is None else rest + block.norm.bias
        assert near(summed(block, norm=True) + rest, block.after)


@pytest.mark.parametrize("model_type", architectures.MOST_USED)
def test_contributions_and_bias_are_the_attention_output(model_type: str) -> None:
    check_sums(apart(MAPPINGS.get(model_type, "causal"), model_type))


def test_contributions_and_bias_are_the_attention_output_of_smollm2(smollm2: attnviz.Model) -> None:
    check_sums(take_apart(smollm2, TEXT))


def test_contributions_and_bias_are_the_attention_output_of_minilm(minilm: attnviz.Model) -> None:
    check_sums(take_apart(minilm, TEXT))


def test_contributions_and_bias_are_the_attention_output_of_dates() -> None:
    check_sums(take_apart(attnviz.load_model("dates"), "the 3rd of May 1998", "1998-05-03"))


def test_a_factor_on_what_attention_adds_is_counted_in() -> None:
    hf_model = transformers.GraniteForCausalLM(tiny.tiny_config(transformers.GraniteConfig, residual_multiplier=0.35))
    tiny.stir(hf_model)
    check_sums(take_apart(attnviz.wrap_model(hf_model), input_ids=small.ids(9)))


def test_contributions_are_those_of_the_edited_run() -> None:
    model = attnviz.wrap_model(small.grouped())
    run = take_apart(model, input_ids=small.ids(9), edits=[ZeroHeads([Head(0, 1)]), ScaleHeads({Head(1, 3): 0.5})])
    check_sums(run)
    assert not contributions.head_norms(run.blocks[0])[1].any()
    assert not contributions.proximities(run.blocks[0])[0][1].any()
    value = run.blocks[1].attention.value[0, 1].float() @ run.blocks[1].weight[3]
    expected = 0.5 * run.blocks[1].attention.pattern()[0, 3] * value.norm(dim=-1)
    assert near(contributions.head_norms(run.blocks[1])[3], expected)


def test_heads_that_are_not_their_pattern_times_values_have_no_parts() -> None:
    block = take_apart(attnviz.wrap_model(small.grouped()), input_ids=small.ids(9)).blocks[0]
    with pytest.raises(Unsupported, match="not their pattern times their values"):
        contributions.head_norms(replace(block, z=block.z.flip(0)))


def vectors(block: Block, query: int, key: int, head: int, *, norm: bool) -> torch.Tensor:
    """[d_model]: what one head takes from one key, the plain way."""
    value = block.attention.value[0, head // block.attention.group, key].float()
    part = block.attention.pattern()[0, head, query, key] * (value @ block.weight[head])
    for passed, factor in ((block.out, block.factor), (block.norm if norm else None, 1.0)):
        if passed is not None:
            part = part - part.mean() if passed.centred else part
            part = part * passed.gain * passed.scale[query]
        part = part * factor
    return part


def old(block: Block, query: int, *, norm: bool) -> torch.Tensor:
    state = block.before[query]
    if norm and block.norm is not None:
        state = (state - state.mean() if block.norm.centred else state) * block.norm.gain * block.norm.scale[query]
    return state


@pytest.fixture(scope="module", params=["grouped", "bert", "soft-capped"])
def two_layers(request: pytest.FixtureRequest) -> Run:
    """Norm before, norm behind, and norm between; the second has windows shorter than the text."""
    return take_apart(attnviz.wrap_model(small.EXACT[request.param]()), input_ids=small.ids(9))


def test_head_norms_are_those_of_a_triple_loop(two_layers: Run) -> None:
    for block in two_layers.blocks:
        got, expected = contributions.head_norms(block), torch.zeros(block.n_heads, 9, 9)
        for head, query, key in product(range(block.n_heads), range(9), range(9)):
            expected[head, query, key] = vectors(block, query, key, head, norm=False).norm()
        assert near(got, expected, 1e-5)


@pytest.mark.parametrize(("residual", "norm"), list(product((False, True), repeat=2)))
def test_norms_are_those_of_a_triple_loop(two_layers: Run, residual: bool, norm: bool) -> None:
    for block in two_layers.blocks:
        expected = torch.zeros(9, 9)
        for query, key in product(range(9), range(9)):
            part = sum(vectors(block, query, key, head, norm=norm) for head in range(block.n_heads))
            if residual and query == key:
                part = part + old(block, query, norm=norm)
            expected[query, key] = part.norm()
        assert near(contributions.norms(block, residual=residual, norm=norm), expected, 1e-5)


def test_the_norm_changes_nothing_where_it_stands_before_the_next_block() -> None:
    first = apart("causal", "llama").blocks[0]
    assert torch.equal(contributions.norms(first), contributions.norms(first, norm=True))
    behind = apart("masked", "bert").blocks[0]
    assert not near(contributions.norms(behind), contributions.norms(behind, norm=True), 1e-2)


@pytest.mark.parametrize("options", [{}, {"residual": False}, {"norm": False}], ids=str)
def test_steps_are_shares_in_the_proportion_of_the_lengths(options: dict[str, Any]) -> None:
    run = apart("seq2seq", "bart")
    flags = {"residual": True, "norm": True} | options
    for block, step in zip(run.blocks, contributions.steps(run, **options), strict=True):
        assert (step.site, step.layer) == (block.site, block.layer)
        torch.testing.assert_close(step.weights.sum(-1) + step.kept, torch.ones(len(step.kept)))
        lengths = contributions.norms(block, **flags)
        if not flags["residual"]:
            assert not step.kept.any()
            assert near(step.weights, lengths / lengths.sum(-1, keepdim=True), 1e-5)
        elif block.site == "cross":
            own = torch.stack([old(block, query, norm=flags["norm"]).norm() for query in range(len(lengths))])
            assert near(step.kept, own / (own + lengths.sum(-1)), 1e-5)
        else:
            assert near(step.matrix(), lengths / lengths.sum(-1, keepdim=True), 1e-5)


def test_own_share_is_how_far_each_part_reaches_along_the_sum() -> None:
    attention = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [5.0, 0.0], [0.0, 0.0]])
    old_state = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    got = contributions.own_share(attention, old_state)
    torch.testing.assert_close(got, torch.tensor([0.75, 0.5, 0.0, 1.0, 0.0]))


def test_an_edge_has_its_heads_the_largest_first(two_layers: Run) -> None:
    block = two_layers.blocks[1]
    table = contributions.edge_heads(block, -1, 6)
    assert list(table.columns) == ["head", "attention", "contribution", "proximity"]
    assert sorted(table["head"]) == list(range(block.n_heads))
    assert table["contribution"].is_monotonic_decreasing
    parts, _ = contributions.proximities(block)
    for row in table.itertuples():
        assert row.attention == pytest.approx(float(block.attention.pattern()[0, row.head, 8, 6]), rel=1e-5)
        expected = float(vectors(block, 8, 6, row.head, norm=False).norm())
        assert row.contribution == pytest.approx(expected, rel=1e-4)
        assert row.proximity == pytest.approx(float(parts[row.head, 8, 6]), rel=1e-4, abs=1e-7)
    with pytest.raises(InputError, match="key is a position from 0 to 8"):
        contributions.edge_heads(block, 0, 9)


def test_a_long_text_is_worked_on_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    run = take_apart(attnviz.wrap_model(small.windowed()), input_ids=small.ids())
    block = run.blocks[1]
    whole = [contributions.norms(block, residual=True), contributions.head_norms(block)]
    whole += [*contributions.proximities(block)]
    monkeypatch.setattr(contributions, "_WEIGHTS", 3 * block.n_heads * 20)
    monkeypatch.setattr(contributions, "_CELL", 2 * 2 * 32)
    monkeypatch.setattr(contributions, "_QUERIES", 2)
    cells = list(Reading.of(block, norm=True).cells())
    assert max(weights.shape[1] * weights.shape[2] for _, _, weights in cells) <= 4
    parts = [contributions.norms(block, residual=True), contributions.head_norms(block)]
    for a, b in zip(whole, [*parts, *contributions.proximities(block)], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
