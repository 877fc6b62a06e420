"""Zeroing a head is zeroing its columns of the output projection's input: after the mix, heads are no longer apart."""

import pytest
import tiny
import torch

import attnviz
from attnviz import Head
from attnviz.edits import ScaleHeads, ZeroHeads

TEXT = "When Mary and John went to the store, John gave a drink to"
CASES = [
    ("smollm2", "self_attn.o_proj", [(0, 0)]),
    ("smollm2", "self_attn.o_proj", [(5, 4)]),
    ("smollm2", "self_attn.o_proj", [(23, 3)]),
    ("smollm2", "self_attn.o_proj", [(29, 8)]),
    ("smollm2", "self_attn.o_proj", [(12, 2), (12, 7)]),
    ("smollm2", "self_attn.o_proj", [(3, 1), (20, 6)]),
    ("minilm", "attention.output.dense", [(0, 0)]),
    ("minilm", "attention.output.dense", [(2, 7)]),
    ("minilm", "attention.output.dense", [(5, 11)]),
    ("minilm", "attention.output.dense", [(1, 3), (4, 9)]),
]


@pytest.mark.parametrize(("name", "projection", "heads"), CASES)
def test_zeroing_is_zeroing_the_projections_input(
    request: pytest.FixtureRequest, name: str, projection: str, heads: list[tuple[int, int]]
) -> None:
    model = request.getfixturevalue(name)
    plain = request.getfixturevalue(f"{name}_sdpa")
    clean = model.trace(TEXT)
    edited = model.trace(TEXT, edits=[ZeroHeads([Head(*head) for head in heads])])
    with tiny.zeroed(plain, projection, heads):
        expected = tiny.main_output(tiny.plain_run(plain, clean.input_ids))[0]
    if name == "minilm":
        expected = expected.mean(0)
    got, before = (t.logits if name == "smollm2" else t.embedding for t in (edited, clean))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert float((before - expected).abs().max()) > 1e-3, "the oracle must change the output, or it shows nothing"


@pytest.mark.parametrize("kind", tiny.PROJECTION)
@pytest.mark.parametrize("heads", [[(0, 0)], [(0, 3)], [(1, 2)], [(0, 1), (1, 3)]], ids=str)
def test_zeroing_is_zeroing_the_projections_input_in_every_kind_of_model(
    kind: str, heads: list[tuple[int, int]]
) -> None:
    plain = tiny.EXACT[kind]()
    model = attnviz.wrap_model(tiny.EXACT[kind](), name=kind)
    edited = model.trace(input_ids=tiny.ids(), edits=[ZeroHeads([Head(*head) for head in heads])])
    with tiny.zeroed(plain, tiny.PROJECTION[kind], heads):
        expected = tiny.main_output(tiny.plain_run(plain, tiny.ids()))[0]
    clean = tiny.main_output(tiny.plain_run(plain, tiny.ids()))[0]
    got = edited.embedding if edited.logits is None else edited.logits
    if edited.logits is None:
        expected, clean = expected.mean(0), clean.mean(0)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert float((clean - expected).abs().max()) > 1e-3


def test_zeroing_changes_the_layers_above_and_not_those_below(smollm2: attnviz.Model) -> None:
    clean = smollm2.trace(TEXT)
    edited = smollm2.trace(TEXT, edits=[ZeroHeads([Head(10, 0)])])
    for layer in range(11):
        assert torch.equal(clean.pattern(layer), edited.pattern(layer))
    for layer in range(11, 30):
        assert not torch.equal(clean.pattern(layer), edited.pattern(layer))


def test_scaling_by_zero_is_zeroing(smollm2: attnviz.Model) -> None:
    head = Head(23, 3)
    scaled = smollm2.trace(TEXT, edits=[ScaleHeads({head: 0.0})])
    assert torch.equal(scaled.logits, smollm2.trace(TEXT, edits=[ZeroHeads([head])]).logits)


def test_scaling_by_a_half_leaves_half_of_the_effect_on_the_layers_own_output() -> None:
    # One layer without a feed-forward part to speak of: the output before the final norm is linear in the head.
    hf_model = tiny.grouped(num_hidden_layers=1)
    model = attnviz.wrap_model(hf_model)
    seen = {}
    handle = hf_model.model.layers[0].self_attn.o_proj.register_forward_hook(
        lambda module, args, out: seen.__setitem__("out", out.clone())
    )
    outputs = []
    for scale in (1.0, 0.5, 0.0):
        model.trace(input_ids=tiny.ids(), edits=[ScaleHeads({Head(0, 2): scale})])
        outputs.append(seen["out"])
    handle.remove()
    torch.testing.assert_close(outputs[1], (outputs[0] + outputs[2]) / 2, atol=1e-5, rtol=0)
    assert not torch.allclose(outputs[0], outputs[2])


def test_edits_are_applied_in_the_order_given(minilm: attnviz.Model) -> None:
    twice = minilm.trace(TEXT, edits=[ScaleHeads({Head(2, 1): 0.5}), ScaleHeads({Head(2, 1): 4.0})])
    once = minilm.trace(TEXT, edits=[ScaleHeads({Head(2, 1): 2.0})])
    assert torch.equal(twice.embedding, once.embedding)


def test_edits_are_values_that_can_be_compared_hashed_and_titled() -> None:
    assert ZeroHeads([Head(1, 2)]) == ZeroHeads((Head(1, 2),))
    assert hash(ScaleHeads({Head(1, 2): 0.5})) == hash(ScaleHeads({Head(1, 2): 0.5}))
    assert ScaleHeads({Head(1, 2): 0.5}) != ScaleHeads({Head(1, 2): 0.25})
    assert "L1H2" in ZeroHeads([Head(1, 2)]).title
    assert "0.25" in ScaleHeads({Head(1, 2): 0.25}).title
    assert str(Head(23, 3)) == "L23H3"
    assert str(Head(1, 0, "cross")) == "cross L1H0"
