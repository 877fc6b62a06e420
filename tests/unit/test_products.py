"""The query-key products against the patterns of real and tiny models, and against a naive loop."""

import math

import pytest
import tiny
import torch
from transformers import T5Config, T5ForConditionalGeneration

import attnviz
from attnviz import Head, Model, Trace
from attnviz.errors import HeadError, InputError, Unsupported
from attnviz.products import query_key

TEXT = "When Mary and John went to the store, John gave a drink to"


@pytest.fixture(scope="module")
def dates() -> Model:
    return attnviz.load_model("dates")


def weights_of(scores: torch.Tensor, visible: torch.Tensor) -> list[float]:
    """The softmax of the visible scores, by hand."""
    shares = [math.exp(float(s - scores.max())) if seen else 0.0 for s, seen in zip(scores, visible, strict=True)]
    return [share / sum(shares) for share in shares]


def assert_products_give_the_pattern(trace: Trace, head: Head) -> None:
    pattern = trace.pattern(head.layer, head.head, head.site)
    for query in range(len(pattern)):
        found = query_key(trace, head, query)
        assert (found.exact, found.why) == (True, "")
        torch.testing.assert_close(found.weights, pattern[query], atol=1e-6, rtol=0)
        assert torch.equal(found.products.sum(-1), found.scores)
        by_hand = torch.tensor(weights_of(found.scores, found.visible))
        torch.testing.assert_close(by_hand, pattern[query], atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", [Head(0, 0), Head(12, 4), Head(23, 3), Head(29, 8)], ids=str)
def test_a_decoders_products_give_its_pattern(smollm2: Model, head: Head) -> None:
    assert_products_give_the_pattern(smollm2.trace(TEXT), head)


@pytest.mark.parametrize("head", [Head(0, 0), Head(3, 7), Head(5, 11)], ids=str)
def test_an_encoders_products_give_its_pattern(minilm: Model, head: Head) -> None:
    assert_products_give_the_pattern(minilm.trace(TEXT), head)


@pytest.mark.parametrize("site", ["encoder", "decoder", "cross"])
def test_an_encoder_decoders_products_give_its_patterns(dates: Model, site: str) -> None:
    trace = dates.trace("the 3rd of May 1998", "1998-05-03")
    for layer in trace.layers(site):
        assert_products_give_the_pattern(trace, Head(layer, 1, site))


def test_a_decoders_query_sees_no_later_key(smollm2: Model) -> None:
    found = query_key(smollm2.trace(TEXT), Head(7, 2), 4)
    assert found.visible.tolist() == [key <= 4 for key in range(len(found.visible))]
    assert found.scores.isfinite().all()


def test_the_products_are_those_of_a_naive_loop_and_heads_of_a_group_share_their_keys() -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids())
    layer = trace.layer(1)
    for head in range(4):
        found = query_key(trace, Head(1, head), 9)
        keys = layer.key[0, head // 2]
        assert torch.equal(found.key_vectors, keys)
        assert torch.equal(found.query_vector, layer.query[0, head, 9])
        for k in range(tiny.LENGTH):
            for d in range(keys.shape[1]):
                by_hand = float(layer.query[0, head, 9, d]) * float(keys[k, d]) / math.sqrt(keys.shape[1])
                assert float(found.products[k, d]) == pytest.approx(by_hand, rel=1e-5, abs=1e-6)


def test_the_scaling_is_the_calls_own() -> None:
    plain = query_key(attnviz.wrap_model(tiny.gpt2()).trace(input_ids=tiny.ids()), Head(1, 0), 5)
    halved = query_key(attnviz.wrap_model(tiny.gpt2_scaled()).trace(input_ids=tiny.ids()), Head(1, 0), 5)
    assert plain.scaling == pytest.approx(8**-0.5)
    assert halved.scaling == pytest.approx(8**-0.5 / 2)
    assert halved.exact


@pytest.mark.parametrize(
    ("build", "reason"), [(tiny.soft_capped, "soft-capped at 0.7"), (tiny.sinks, "a sink that takes part")]
)
def test_what_else_is_in_the_weights_is_said(build, reason: str) -> None:
    trace = attnviz.wrap_model(build()).trace(input_ids=tiny.ids())
    found = query_key(trace, Head(1, 2), -1)
    assert not found.exact
    assert reason in found.why
    difference = found.scores.masked_fill(~found.visible, -torch.inf).softmax(-1) - found.weights
    assert float(difference.abs().max()) > 1e-4


def test_a_sliding_window_is_in_what_is_visible() -> None:
    found = query_key(attnviz.wrap_model(tiny.windowed()).trace(input_ids=tiny.ids()), Head(0, 0), 10)
    assert found.visible.nonzero().flatten().tolist() == [7, 8, 9, 10]
    assert found.exact


def test_a_position_bias_is_said_and_makes_up_the_difference() -> None:
    config = T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        hf_model = T5ForConditionalGeneration(config).eval()
    for module in hf_model.modules():
        if getattr(module, "has_relative_attention_bias", False):
            module.relative_attention_bias.weight.data.mul_(20)
    trace = attnviz.wrap_model(hf_model).trace(input_ids=tiny.ids(8), decoder_input_ids=[0, 5, 9])
    found = query_key(trace, Head(0, 1, "encoder"), 3)
    assert found.scaling == 1.0
    assert not found.exact
    assert "a bias (of the positions" in found.why
    layer = trace.layer(0, "encoder")
    bias = layer.keywords.get("position_bias")
    added = layer.scores_mask(slice(1, 2), slice(3, 4))[0, 0, 0] if bias is None else bias[0, 1, 3]
    torch.testing.assert_close((found.scores + added).softmax(-1), found.weights, atol=1e-5, rtol=0)


def test_a_negative_query_counts_from_the_end_and_the_position_comes_back(smollm2: Model) -> None:
    trace = smollm2.trace(TEXT)
    assert query_key(trace, Head(2, 0), -1).query == len(trace.tokens) - 1


def test_what_a_trace_does_not_have_is_refused(smollm2: Model) -> None:
    trace = smollm2.trace("a b")
    for head in (Head(30, 0), Head(0, 9), Head(0, 0, "cross")):
        with pytest.raises(HeadError, match=r"has (layers|heads|attention)"):
            query_key(trace, head, 0)
    with pytest.raises(InputError, match="position from 0"):
        query_key(trace, Head(0, 0), len(trace.tokens))


def test_a_view_only_model_has_no_products() -> None:
    trace = attnviz.wrap_model(tiny.bloom(), name="bloom").trace(input_ids=tiny.ids())
    with pytest.raises(Unsupported, match="bloom gives its patterns only"):
        query_key(trace, Head(0, 0), 0)


def test_half_precision_is_taken_apart_in_float32() -> None:
    trace = attnviz.wrap_model(tiny.grouped().to(torch.bfloat16)).trace(input_ids=tiny.ids())
    found = query_key(trace, Head(0, 3), 12)
    assert found.products.dtype == found.query_vector.dtype == torch.float32
    assert found.exact
