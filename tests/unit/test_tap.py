"""The tap itself: what it leaves alone, what it tells, and what it refuses."""

import threading

import pytest
import tiny
import torch
from transformers import AttentionInterface, AttentionMaskInterface

import attnviz
from attnviz import Head, Model, tap
from attnviz.edits import Edit, ScaleHeads, ZeroHeads
from attnviz.errors import Cancelled, EditNotApplied
from attnviz.tap import Call, run


@pytest.mark.parametrize("kind", tiny.EXACT)
def test_a_wrapped_model_computes_what_it_computed_before(kind: str) -> None:
    hf_model = tiny.EXACT[kind]()
    before = tiny.main_output(tiny.plain_run(hf_model, tiny.ids()))
    attnviz.wrap_model(hf_model)
    assert torch.equal(tiny.main_output(tiny.plain_run(hf_model, tiny.ids())), before)


def test_the_embedded_models_compute_outside_a_call_what_plain_ones_compute(
    smollm2: Model, smollm2_sdpa: object
) -> None:
    ids = smollm2.trace("Nothing has changed.").input_ids
    assert torch.equal(tiny.plain_run(smollm2.hf_model, ids).logits, tiny.plain_run(smollm2_sdpa, ids).logits)


def test_generating_with_a_wrapped_model_gives_what_the_plain_one_gives(smollm2: Model, smollm2_sdpa: object) -> None:
    inputs = smollm2.tokenizer("The capital of France is", return_tensors="pt")
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 2}
    plain = smollm2_sdpa.generate(**inputs, **options)  # type: ignore[attr-defined]
    assert torch.equal(smollm2.hf_model.generate(**inputs, **options), plain)


@pytest.mark.parametrize("kind", [k for k in tiny.EXACT if k not in ("bert", "bert with masked head", "shared layer")])
def test_a_decoder_stays_causal(kind: str) -> None:
    model = attnviz.wrap_model(tiny.EXACT[kind]())
    ids = tiny.ids()
    other = [*ids[:-1], (ids[-1] + 1) % 90]
    first, second = model.trace(input_ids=ids), model.trace(input_ids=other)
    torch.testing.assert_close(first.logits[:-1], second.logits[:-1], atol=1e-5, rtol=0)
    assert not torch.allclose(first.logits[-1], second.logits[-1])
    for layer in first.layers():
        assert first.pattern(layer).triu(1).abs().max() == 0


@pytest.mark.parametrize("name", ["attnviz_sdpa", "attnviz_eager"])
def test_the_tap_is_registered_for_masks_as_well(name: str) -> None:
    for kind in ("grouped", "soft-capped"):
        attnviz.wrap_model(tiny.EXACT[kind]())
    assert name in AttentionInterface()
    assert name in AttentionMaskInterface()


def test_padding_outside_a_call_is_still_masked() -> None:
    hf_model = tiny.grouped()
    batch = torch.tensor([tiny.ids(), tiny.ids()])
    mask = torch.ones_like(batch)
    mask[1, :6] = 0
    with torch.no_grad():
        before = hf_model(input_ids=batch, attention_mask=mask, use_cache=False).logits
        attnviz.wrap_model(hf_model)
        assert torch.equal(hf_model(input_ids=batch, attention_mask=mask, use_cache=False).logits, before)
    assert not torch.allclose(before[0, -1], before[1, -1])


def test_wrapping_twice_is_wrapping_once() -> None:
    hf_model = tiny.grouped()
    first = attnviz.wrap_model(hf_model).trace(input_ids=tiny.ids())
    second_model = attnviz.wrap_model(hf_model)
    second = second_model.trace(input_ids=tiny.ids())
    assert torch.equal(first.logits, second.logits)
    assert all(torch.equal(first.pattern(layer), second.pattern(layer)) for layer in (0, 1))
    assert second_model.layout.kernel == "sdpa"
    edit = [ZeroHeads([Head(0, 0)])]
    assert torch.equal(
        second_model.trace(input_ids=tiny.ids(), edits=edit).logits,
        attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids(), edits=edit).logits,
    )


def test_a_model_on_eager_attention_stays_on_it() -> None:
    eager = tiny.eager_copy(tiny.grouped())
    before = tiny.plain_run(eager, tiny.ids()).logits
    model = attnviz.wrap_model(eager)
    assert model.info.kernel == "eager"
    assert torch.equal(model.trace(input_ids=tiny.ids()).logits[None], before)


def test_wrapping_takes_dropout_out() -> None:
    hf_model = tiny.bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5).train()
    model = attnviz.wrap_model(hf_model)
    first, second = (model.trace(input_ids=tiny.ids()) for _ in range(2))
    assert torch.equal(first.embedding, second.embedding)


def test_an_edit_in_a_call_whose_forward_runs_in_another_thread_is_refused() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    call = Call(places=model.layout.places, edits=[ZeroHeads([Head(1, 2)])])
    worker = threading.Thread(target=tiny.plain_run, args=(model.hf_model, tiny.ids()))

    def elsewhere() -> None:
        with run(call):
            worker.start()
            worker.join()

    with pytest.raises(EditNotApplied, match="L1H2"):
        elsewhere()
    assert call.recorded == []


def test_a_call_in_which_no_forward_ran_refuses_its_edits() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    with pytest.raises(EditNotApplied), run(Call(places=model.layout.places, edits=[ScaleHeads({Head(0, 0): 1.0})])):
        pass


def test_a_call_for_another_model_refuses_its_edits() -> None:
    one, other = (attnviz.wrap_model(tiny.grouped()) for _ in range(2))
    call = Call(places=one.layout.places, edits=[ZeroHeads([Head(0, 0)])])
    with pytest.raises(EditNotApplied), run(call):
        tiny.plain_run(other.hf_model, tiny.ids())


class Failing(Edit):
    title = "fails"  # type: ignore[assignment]
    heads = (Head(1, 0),)

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        raise ZeroDivisionError("an edit of the user's own")


def test_after_an_error_in_a_run_the_next_one_is_clean() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    clean = model.trace(input_ids=tiny.ids())
    with pytest.raises(ZeroDivisionError):
        model.trace(input_ids=tiny.ids(), edits=[ZeroHeads([Head(0, 0)]), Failing()])
    assert tap._CALL.get() is None
    assert torch.equal(tiny.plain_run(model.hf_model, tiny.ids()).logits[0], clean.logits)
    assert torch.equal(model.trace(input_ids=tiny.ids()).logits, clean.logits)


def test_a_run_can_be_cancelled_and_the_next_one_is_clean(smollm2: Model) -> None:
    clean = smollm2.trace("One, two, three")
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done == 3:
            raise Cancelled("The reader has seen enough of this one.")

    with pytest.raises(Cancelled):
        smollm2.trace("One, two, three", edits=[ZeroHeads([Head(0, 0)])], progress=stop)
    assert seen == [1, 2, 3], "nothing above the third layer was run"
    assert tap._CALL.get() is None
    assert torch.equal(smollm2.trace("One, two, three").logits, clean.logits)


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_progress_counts_the_layers(request: pytest.FixtureRequest, name: str) -> None:
    model = request.getfixturevalue(name)
    seen: list[tuple[int, int]] = []
    model.trace("One, two, three", progress=lambda done, total: seen.append((done, total)))
    n = model.info.n_layers
    assert seen == [(i, n) for i in range(1, n + 1)]


def test_progress_counts_the_layers_of_a_model_that_shares_one() -> None:
    model = attnviz.wrap_model(tiny.shared_layer(num_hidden_layers=4))
    seen: list[tuple[int, int]] = []
    trace = model.trace(input_ids=tiny.ids(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 4) for i in range(1, 5)]
    assert trace.layers() == (0, 1, 2, 3)


def test_an_edit_of_one_layer_leaves_the_others_that_share_its_module_alone() -> None:
    model = attnviz.wrap_model(tiny.shared_layer(num_hidden_layers=3))
    touched = []

    class Spy(ZeroHeads):
        def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
            touched.append(layer)
            return super().output(z, site, layer)

    clean = model.trace(input_ids=tiny.ids())
    edited = model.trace(input_ids=tiny.ids(), edits=[Spy([Head(1, 0)])])
    assert touched == [1]
    assert torch.equal(clean.pattern(1), edited.pattern(1))
    assert not torch.equal(clean.pattern(2), edited.pattern(2))


def test_an_edit_leaves_the_head_outputs_it_was_given_untouched() -> None:
    z = torch.randn(1, 5, 4, 8)
    kept = z.clone()
    for edit in (ZeroHeads([Head(0, 1)]), ScaleHeads({Head(0, 1): 3.0})):
        assert not torch.equal(edit.output(z, "decoder", 0), kept)
        assert torch.equal(z, kept)


def test_a_call_that_keeps_nothing_holds_nothing() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    with run(Call(places=model.layout.places, keep=False)) as call:
        tiny.plain_run(model.hf_model, tiny.ids())
    assert call.recorded == []


def test_a_trace_leaves_no_gradient_behind_and_can_be_differentiated_later() -> None:
    model = attnviz.wrap_model(tiny.grouped())
    trace = model.trace(input_ids=tiny.ids())
    assert all(p.grad is None for p in model.hf_model.parameters())
    query = trace.layer(0).query  # type: ignore[attr-defined]
    assert not query.is_inference()
    assert not query.requires_grad
