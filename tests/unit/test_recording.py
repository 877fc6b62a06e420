"""Looking into somebody else's forward calls: equal to eager, and the model is left as it was."""

import copy
import gc
import threading
import weakref
from typing import Any

import pytest
import torch

import attnviz
from attnviz import Model
from attnviz.errors import InputError, Unsupported
from attnviz.returned import returned_attentions
from benchmarks.tiny import build

FAMILIES = [
    ("causal", "llama"),
    ("causal", "gpt2"),
    ("causal", "qwen3"),
    ("causal", "gemma2"),
    ("causal", "gpt_oss"),
    ("causal", "opt"),
    ("masked", "bert"),
    ("masked", "modernbert"),
    ("seq2seq", "bart"),
    ("seq2seq", "t5"),
]


def batch(hf_model: Any, side: str) -> dict[str, torch.Tensor]:
    """Two texts of 9 and 6 tokens, the shorter one padded; positions as a user would give them."""
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, (slice(None, 3) if side == "left" else slice(-3, None))] = 0
    given = {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}
    if hf_model.config.is_encoder_decoder:
        given["decoder_input_ids"] = ids[:, :5].flip(1)
    return given


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("mapping", "model_type"), FAMILIES)
def test_padded_batches_equal_eager_on_the_same_batch(mapping: str, model_type: str, side: str) -> None:
    hf_model = build(mapping, model_type).eval()
    plain = copy.deepcopy(hf_model)
    plain.set_attn_implementation("eager")
    given = batch(hf_model, side)
    before = hf_model.config._attn_implementation
    with torch.no_grad():
        expected = plain(**given, output_attentions=True)
        with attnviz.record(hf_model) as recording:
            hf_model(**given)
    assert hf_model.config._attn_implementation == before
    assert len(recording) == 2
    for row, trace in enumerate(recording.traces):
        for site in trace.info.sites:
            queries, keys = trace.axes(site)
            reference = returned_attentions(plain, expected, site)
            padded = given["attention_mask"][row] == 0 if site != "decoder" or trace.info.family == "decoder" else None
            for layer, weights in zip(trace.layers(site), reference, strict=True):
                real = slice(None) if padded is None or weights.shape[2] != len(padded) else ~padded
                pattern = trace.pattern(layer, site=site)
                assert pattern.shape[1:] == (len(queries), len(keys))
                # A query that is padding sees nothing: what a kernel writes there is its own affair.
                assert float((pattern - weights[row])[:, real].abs().max()) < 1e-4
        marked = [t.special for t in (trace.source_tokens or trace.tokens)]
        assert marked == (given["attention_mask"][row] == 0).tolist()


def test_a_cache_gives_a_trace_a_call_with_the_tokens_it_held(smollm2: Model) -> None:
    encoding = smollm2.tokenizer("The capital of France is", return_tensors="pt")
    with attnviz.record(smollm2.hf_model, smollm2.tokenizer) as recording:
        written = smollm2.hf_model.generate(**encoding, do_sample=False, max_new_tokens=4)[0]
    whole = smollm2.trace(input_ids=written[:-1])
    assert [len(call) for call in recording.calls] == [1, 1, 1, 1]
    for trace in recording.traces:
        keys = trace.axes()[1]
        assert [k.id for k in keys] == written[: len(keys)].tolist()
        last = trace.pattern(20)[:, -1]
        assert torch.allclose(last, whole.pattern(20)[:, len(keys) - 1, : len(keys)], atol=1e-5)


def test_a_training_step_is_untouched_and_recorded() -> None:
    hf_model, twin = (build("causal", "llama").train() for _ in range(2))
    ids = batch(hf_model, "right")["input_ids"]
    loss = twin(input_ids=ids, labels=ids).loss
    loss.backward()
    with attnviz.record(hf_model) as recording:
        recorded = hf_model(input_ids=ids, labels=ids).loss
        recorded.backward()
    assert hf_model.training
    assert all(module.training for module in hf_model.modules())
    assert torch.allclose(recorded, loss, atol=1e-6)
    for mine, theirs in zip(hf_model.parameters(), twin.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.allclose(mine.grad, theirs.grad, atol=1e-5)
    assert len(recording) == 2
    assert not recording[0].pattern(0).requires_grad


def test_labels_alone_give_the_decoder_its_tokens() -> None:
    hf_model = build("seq2seq", "t5").eval()
    hf_model.config.decoder_start_token_id = 3
    labels = torch.tensor([[7, 8, 9, -100]])
    with attnviz.record(hf_model) as recording:
        hf_model(input_ids=torch.tensor([[5, 6, 7]]), labels=labels)
    assert recording[0].input_ids == [3, 7, 8, 9]


def test_a_second_recorder_is_refused_and_the_first_goes_on() -> None:
    hf_model = build("causal", "llama").eval()
    with attnviz.record(hf_model) as recording:
        with pytest.raises(InputError, match="already"), attnviz.record(hf_model):
            pytest.fail("the second block ran")
        hf_model(input_ids=torch.tensor([[5, 6]]))
    assert len(recording) == 1
    with attnviz.record(hf_model) as again:
        hf_model(input_ids=torch.tensor([[5, 6]]))
    assert len(again) == 1


def state(hf_model: Any) -> tuple[str, int, int]:
    return hf_model.config._attn_implementation, len(hf_model._forward_hooks), len(hf_model._forward_pre_hooks)


def test_an_error_inside_the_block_leaves_the_model_as_it_was() -> None:
    hf_model = build("causal", "llama").eval()
    before = state(hf_model)
    with pytest.raises(ZeroDivisionError), attnviz.record(hf_model):
        raise ZeroDivisionError
    assert state(hf_model) == before


def test_a_forward_that_fails_is_not_recorded_and_the_next_one_is() -> None:
    hf_model = build("causal", "llama").eval()
    with attnviz.record(hf_model) as recording:
        with pytest.raises(IndexError):
            hf_model(input_ids=torch.tensor([[10**6]]))
        hf_model(input_ids=torch.tensor([[5, 6]]))
    assert [t.input_ids for t in recording.traces] == [[5, 6]]


def test_another_threads_calls_are_not_recorded() -> None:
    hf_model = build("causal", "llama").eval()
    with attnviz.record(hf_model) as recording:
        other = threading.Thread(target=lambda: hf_model(input_ids=torch.tensor([[5, 6]])))
        other.start()
        other.join()
    assert len(recording) == 0
    with pytest.raises(InputError, match="same thread"):
        _ = recording.traces


def test_a_recorded_trace_saves_loads_and_keeps_no_model(tmp_path: Any) -> None:
    hf_model = build("masked", "bert").eval()
    with attnviz.record(hf_model) as recording:
        hf_model(**batch(hf_model, "right"))
    trace, alive = recording[1], weakref.ref(hf_model)
    expected = trace.pattern(0)
    loaded = attnviz.load_trace(trace.save(tmp_path / "row.safetensors"))
    del hf_model, recording
    gc.collect()
    assert alive() is None
    assert torch.equal(loaded.pattern(0), expected)
    assert torch.equal(trace.pattern(0), expected)


def test_view_only_models_are_refused_with_what_to_do() -> None:
    hf_model = build("causal", "bloom").eval()
    with pytest.raises(Unsupported, match="wrap_model"), attnviz.record(hf_model):
        pytest.fail("the block ran")


def test_two_models_recorded_together_keep_apart() -> None:
    teacher, student = (build("causal", "llama").eval(), build("causal", "gpt2").eval())
    ids = torch.tensor([[5, 6, 7]])
    with attnviz.record(teacher) as first, attnviz.record(student) as second:
        teacher(input_ids=ids)
        student(input_ids=ids)
        teacher(input_ids=ids)
    assert [trace.info.model_type for trace in first.traces] == ["llama", "llama"]
    assert [trace.info.model_type for trace in second.traces] == ["gpt2"]


def test_a_trace_inside_the_block_is_whole_and_not_recorded_twice(smollm2: Model) -> None:
    expected = smollm2.trace("Hello there").pattern(3)
    with attnviz.record(smollm2.hf_model) as recording:
        inside = smollm2.trace("Hello there")
    assert torch.equal(inside.pattern(3), expected)
    assert len(recording) == 0


def test_keys_of_a_cache_that_was_rearranged_get_no_false_names() -> None:
    hf_model = build("causal", "llama").eval()
    with attnviz.record(hf_model) as recording, torch.no_grad():
        out = hf_model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]), use_cache=True)
        cache = out.past_key_values
        cache.reorder_cache(torch.tensor([1, 0]))
        hf_model(input_ids=torch.tensor([[11], [12]]), past_key_values=cache)
    for trace in recording.calls[1]:
        assert [key.text for key in trace.axes()[1]] == ["key 0", "key 1", "key 2", "key 3"]
        assert trace.pattern(0).shape[1:] == (1, 4)


def test_sliding_layers_that_hold_fewer_keys_are_left_out_of_a_cached_call() -> None:
    hf_model = build("causal", "gemma2").eval()
    window = hf_model.config.sliding_window
    length = 3 * window
    with attnviz.record(hf_model) as recording, torch.no_grad():
        out = hf_model(input_ids=torch.arange(5, 5 + length)[None], use_cache=True)
        hf_model(input_ids=torch.tensor([[7]]), past_key_values=out.past_key_values)
    trace = recording[1]
    keys = trace.axes()[1]
    assert 0 < len(trace.layers()) <= trace.info.n_layers
    assert all(trace.pattern(layer).shape[2] == len(keys) for layer in trace.layers())
    assert trace.row(0).shape[2] == len(keys)


def test_a_padded_row_pools_its_own_tokens_only(minilm: Model) -> None:
    texts = ["A cat.", "A much longer sentence about several cats."]
    encoding = minilm.tokenizer(texts, padding=True, return_tensors="pt")
    with attnviz.record(minilm.hf_model, minilm.tokenizer) as recording, torch.no_grad():
        minilm.hf_model(**encoding)
    for text, trace in zip(texts, recording.traces, strict=True):
        assert torch.allclose(trace.embedding, minilm.embed(text), atol=1e-5)


def test_a_recorded_step_lets_the_graph_go() -> None:
    hf_model = build("causal", "llama").train()
    ids = batch(hf_model, "right")["input_ids"]
    with attnviz.record(hf_model) as recording:
        hf_model(input_ids=ids, labels=ids)
    assert not recording[0].logits.requires_grad
    weight = weakref.ref(next(hf_model.parameters()))
    del hf_model
    gc.collect()
    assert weight() is None
    assert len(recording) == 2


def test_a_call_beyond_the_context_and_one_without_names_go_through() -> None:
    hf_model = build("causal", "llama").eval()
    long = torch.randint(5, 60, (1, hf_model.config.max_position_embeddings + 4))
    with attnviz.record(hf_model) as recording, torch.no_grad():
        plain = hf_model(input_ids=long, return_dict=False)
    assert isinstance(plain, tuple)
    assert recording[0].pattern(0).shape[1:] == (long.shape[1],) * 2
