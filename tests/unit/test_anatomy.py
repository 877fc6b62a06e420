"""Where heads write, found by structure: against transformers' own hidden states and plain hooks."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tiny as small
import torch
import transformers

import attnviz
from attnviz import Head
from attnviz.anatomy import Frozen
from attnviz.edits import ScaleHeads, ZeroHeads
from attnviz.errors import Unsupported
from attnviz.flow.run import Run, take_apart
from attnviz.watching import same, watching
from benchmarks import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types


def wrapped(mapping: str, model_type: str) -> attnviz.Model:
    return attnviz.wrap_model(tiny.build(mapping, model_type), name=model_type)


def apart(model: attnviz.Model, **options: Any) -> Run:
    ids = {name: row[0].tolist() for name, row in tiny.inputs(model.hf_model).items()}
    return take_apart(model, **ids, **options)


def near(got: torch.Tensor, expected: torch.Tensor, share: float = 1e-4) -> bool:
    return float((got - expected).abs().max()) <= share * float(expected.abs().max())


@pytest.mark.parametrize(("mapping", "model_type"), [("causal", "llama"), ("masked", "bert"), ("causal", "gpt_neox")])
def test_the_residual_stream_is_the_models_own_hidden_states(mapping: str, model_type: str) -> None:
    model = wrapped(mapping, model_type)
    run = apart(model)
    with torch.no_grad():
        states = model.hf_model(**tiny.inputs(model.hf_model), output_hidden_states=True).hidden_states
    for block, state in zip(run.blocks, states, strict=False):
        assert near(block.before, state[0])
    # The last of them has passed the norm before the output projection, where there is one.
    end = run.last if run.final is None else run.final.linear(run.last) + run.final.bias
    assert near(end, states[-1][0])


def test_what_a_block_writes_is_what_its_projection_gives() -> None:
    model = wrapped("causal", "llama")
    seen: list[torch.Tensor] = []
    hooks = [
        layer.self_attn.o_proj.register_forward_hook(lambda module, args, out: seen.append(out[0]))
        for layer in model.hf_model.model.layers
    ]
    run = apart(model)
    for hook in hooks:
        hook.remove()
    for block, given in zip(run.blocks, seen[-len(run.blocks) :], strict=True):
        assert torch.equal(block.written, given)


@pytest.mark.parametrize(
    ("mapping", "model_type", "order", "out_norm"),
    [
        ("causal", "gpt2", "before", False),
        ("causal", "gpt_neox", "beside", False),
        ("causal", "gemma2", "before", True),
        ("masked", "bert", "behind", False),
        ("seq2seq", "t5", "before", False),
        ("seq2seq", "bart", "behind", False),
    ],
)
def test_the_wiring_is_told_from_the_numbers(mapping: str, model_type: str, order: str, out_norm: bool) -> None:
    anatomy = wrapped(mapping, model_type).anatomy
    assert anatomy.reason == ""
    for wiring in anatomy.wirings:
        assert wiring.order == order
        assert (wiring.out_norm is not None) == out_norm
        assert (wiring.norm is not None) == (order == "behind")
        assert wiring.factor == 1.0
    assert (anatomy.final is None) == (order == "behind")
    sites = [wiring.place.site for wiring in anatomy.wirings if wiring.mlp is None]
    assert set(sites) == ({"decoder"} if mapping == "seq2seq" else set()), "the cross block comes between"


def test_a_factor_on_the_residual_branch_is_found() -> None:
    config = tiny.tiny_config(transformers.GraniteConfig, residual_multiplier=0.35)
    hf_model = transformers.GraniteForCausalLM(config).eval()
    tiny.stir(hf_model)
    run = apart(attnviz.wrap_model(hf_model))
    for block in run.blocks:
        assert block.factor == pytest.approx(0.35, abs=1e-4)
        assert block.mlp is not None
        assert near(block.before + block.written + block.mlp.written, block.mlp.after)
        assert near(block.heads().sum(1) + block.bias_part(), block.written)


def test_a_layer_that_is_used_twice_is_two_blocks() -> None:
    run = take_apart(attnviz.wrap_model(small.shared_layer()), input_ids=small.ids())
    first, second = run.blocks
    assert torch.equal(first.weight, second.weight)
    assert first.mlp is not None
    assert torch.equal(first.mlp.after, second.before)
    assert not torch.equal(first.written, second.written)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("bitnet", "no output projection reads the heads"), ("qwen3_next", "no output projection"), ("mpt", "view-only")],
)
def test_a_model_without_anatomy_says_why(model_type: str, reason: str) -> None:
    model = wrapped("causal", model_type)
    assert reason in model.anatomy.reason
    with pytest.raises(Unsupported, match=reason):
        apart(model)


def hooks_of(hf_model: Any) -> list[tuple[int, ...]]:
    return [(*module._forward_hooks, *module._forward_pre_hooks) for module in hf_model.modules()]


def test_a_run_leaves_no_hook_and_changes_no_result() -> None:
    model = wrapped("causal", "gemma2")
    inputs, hooks = tiny.inputs(model.hf_model), hooks_of(model.hf_model)
    with torch.no_grad():
        before = model.hf_model(**inputs).logits
    apart(model)
    with torch.no_grad():
        assert torch.equal(model.hf_model(**inputs).logits, before)
    assert hooks_of(model.hf_model) == hooks

    # Nor does one that fails on the way.
    failing = Meeting(threading.Barrier(2, timeout=0))
    with pytest.raises(threading.BrokenBarrierError):
        apart(model, edits=[failing])
    assert hooks_of(model.hf_model) == hooks


class Meeting(ScaleHeads):
    """An edit that changes nothing but waits inside the run for the other thread."""

    barrier: threading.Barrier

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__({Head(0, 0): 1.0})
        object.__setattr__(self, "barrier", barrier)

    def output(self, z: torch.Tensor, site: str, layer: int) -> torch.Tensor:
        self.barrier.wait()
        return z


def test_runs_of_two_threads_are_taken_apart_each_for_itself() -> None:
    model = attnviz.wrap_model(small.grouped())
    texts = [small.ids(), small.ids()[::-1]]
    alone = [take_apart(model, input_ids=ids) for ids in texts]
    meeting = Meeting(threading.Barrier(2, timeout=60))

    def work(ids: list[int]) -> Run:
        return take_apart(model, input_ids=ids, edits=[meeting])

    with ThreadPoolExecutor(2) as threads:
        got = list(threads.map(work, texts))
    for mine, run in zip(got, alone, strict=True):
        for block, expected in zip(mine.blocks, run.blocks, strict=True):
            assert torch.equal(block.written, expected.written)
            assert torch.equal(block.after, expected.after)
    assert not torch.equal(alone[0].blocks[0].written, alone[1].blocks[0].written)


def test_a_bfloat16_model_is_taken_apart_within_its_rounding() -> None:
    model = attnviz.wrap_model(small.grouped().bfloat16())
    run = take_apart(model, input_ids=small.ids())
    for block in run.blocks:
        assert block.before.dtype == torch.float32
        assert near(block.heads().sum(1) + block.bias_part(), block.written, 4e-2)
        assert torch.equal(block.weights(), block.attention.pattern()[0])


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_a_zeroed_head_writes_nothing_and_the_sums_hold(model_type: str) -> None:
    model = wrapped("causal", model_type)
    run = apart(model, edits=[ZeroHeads([Head(1, 2)]), ScaleHeads({Head(2, 1): -0.5})])
    clean = apart(model)
    for block, before in zip(run.blocks, clean.blocks, strict=True):
        assert near(block.heads().sum(1) + block.bias_part(), block.written)
        weights = block.weights()
        scale = torch.ones(block.n_heads)
        if block.layer == 1:
            assert not block.heads()[:, 2].any()
            assert block.heads()[:, 1].any()
            scale[2] = 0
        if block.layer == 2:
            scale[1] = -0.5
        assert near(weights, block.attention.pattern()[0] * scale[:, None, None])
        read = block.added(torch.einsum("hqk,hkd->qkd", weights, block.values()))
        assert near(read.sum(1) + block.bias_part(), block.written)
        assert torch.equal(block.written, before.written) == (block.layer == 0)


@pytest.mark.parametrize("centred", [False, True])
def test_a_frozen_norm_is_linear_in_its_parts(centred: bool) -> None:
    noise = torch.Generator().manual_seed(0)
    read = 3 + torch.randn(5, 16, generator=noise)
    norm = torch.nn.LayerNorm(16) if centred else torch.nn.RMSNorm(16)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(16, generator=noise))
        gave = norm(read)
    frozen = Frozen.of(norm, read, gave)
    assert frozen is not None
    assert frozen.centred is centred
    parts = torch.stack([read - 2, torch.full_like(read, 2)], dim=1)
    assert near(frozen.linear(parts).sum(1) + frozen.bias, gave)
    assert Frozen.of(norm, read, gave * read) is None


def test_hooks_can_be_called_with_and_without_keywords() -> None:
    """Which of the two a thread does is read off the module after the hook was, and may have changed by then."""
    linear, states = torch.nn.Linear(3, 2), torch.ones(1, 4, 3)
    gave = torch.zeros(1, 4, 2)
    with watching([linear]) as watch:
        (before,), (after,) = linear._forward_pre_hooks.values(), linear._forward_hooks.values()
        assert before(linear, (states,)) is None
        assert after(linear, (states,), gave) is None
        assert before(linear, (), {"input": states}) is None
        assert after(linear, (), {"input": states}, gave) is None
    assert [same(event.read, states) and same(event.gave, gave) for event in watch.events] == [True, True]
    assert watch.spans == [(linear, 0, 0), (linear, 1, 1)]


@pytest.mark.parametrize("side", ["register_forward_pre_hook", "register_forward_hook"])
def test_hooks_may_go_while_another_thread_is_about_to_call_them(side: str) -> None:
    model, ids = attnviz.wrap_model(small.grouped()), torch.tensor([small.ids(5)])
    module, hooks = model.hf_model.model.layers[0].self_attn.o_proj, hooks_of(model.hf_model)
    inside, gone, got = threading.Event(), threading.Event(), []

    def wait(*_: Any) -> None:
        """Stands before the watch's hooks: what is to be called has been read off the module by then."""
        inside.set()
        gone.wait(60)

    def work() -> None:
        try:
            with torch.no_grad():
                got.append(model.hf_model(input_ids=ids).logits)
        except BaseException as error:
            got.append(error)

    with torch.no_grad():
        expected = model.hf_model(input_ids=ids).logits
    gate = getattr(module, side)(wait)
    thread = threading.Thread(target=work)
    try:
        with watching(model.hf_model.modules()) as watch:
            thread.start()
            assert inside.wait(60)
    finally:
        gone.set()
        thread.join()
        gate.remove()
    assert isinstance(got[0], torch.Tensor), got[0]
    assert torch.equal(got[0], expected)
    assert watch.events == []  # another thread's are none of this one's
    assert hooks_of(model.hf_model) == hooks


@pytest.mark.parametrize("build", [small.grouped, small.gpt2], ids=["linear", "conv1d"])
def test_a_projection_is_the_models_own_and_not_a_copy_in_each_run(build: Any) -> None:
    model = attnviz.wrap_model(build())
    first, second = (take_apart(model, input_ids=small.ids(n)) for n in (5, 9))
    held = {x.untyped_storage().data_ptr() for x in model.hf_model.parameters()}
    for a, b in zip(first.blocks, second.blocks, strict=True):
        assert a.weight.untyped_storage().data_ptr() == b.weight.untyped_storage().data_ptr()
        assert a.weight.untyped_storage().data_ptr() in held
        assert not a.weight.requires_grad


def test_a_bfloat16_projection_is_made_float32_once_for_all_runs() -> None:
    model = attnviz.wrap_model(small.grouped().bfloat16())
    first, second = (take_apart(model, input_ids=small.ids(n)) for n in (5, 9))
    for a, b in zip(first.blocks, second.blocks, strict=True):
        assert a.weight.dtype == torch.float32
        assert a.weight.data_ptr() == b.weight.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_projection_whose_weights_changed_is_read_again(dtype: torch.dtype) -> None:
    model = attnviz.wrap_model(small.grouped().to(dtype))
    before = take_apart(model, input_ids=small.ids(5)).blocks[0].weight.clone()
    with torch.no_grad():
        model.hf_model.model.layers[0].self_attn.o_proj.weight.mul_(2)
    torch.testing.assert_close(take_apart(model, input_ids=small.ids(5)).blocks[0].weight, 2 * before)


def test_the_bytes_of_a_run_are_those_of_its_own_tensors() -> None:
    model = attnviz.wrap_model(small.grouped())
    short, long = (take_apart(model, input_ids=small.ids(n)) for n in (10, 20))
    assert long.nbytes == 2 * short.nbytes  # nothing in it is the model's
    kinds = 1 + 2 * 5  # what is embedded; of each layer: read and written by heads, behind them, fed, behind that
    states = kinds * 10 * 32 * 4
    assert short.trace.nbytes + 0.5 * states <= short.nbytes <= short.trace.nbytes + 1.5 * states
