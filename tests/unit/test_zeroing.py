"""Value zeroing against really zeroing values in the model, one token and one layer at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from test_logits import neox, t5, taken_apart
from test_relevance import bart

from attnviz.edits import Head, ZeroHeads
from attnviz.errors import InputError, Unsupported
from attnviz.flow.mixing import Step
from attnviz.flow.zeroing import steps
from attnviz.models import Model

# By kind: the layer, the module that gives its values, and which of its columns they are.
VALUES: dict[str, tuple[str, str, slice]] = {
    "grouped": ("model.layers.{}", "self_attn.v_proj", slice(None)),
    "gpt2": ("transformer.h.{}", "attn.c_attn", slice(64, 96)),
    "soft-capped": ("model.layers.{}", "self_attn.v_proj", slice(None)),
    "bert": ("encoder.layer.{}", "attention.self.value", slice(None)),
    "bart encoder": ("model.encoder.layers.{}", "self_attn.v_proj", slice(None)),
    "opt": ("model.decoder.layers.{}", "self_attn.v_proj", slice(None)),
}
BUILDS: dict[str, Callable[[], Any]] = {
    "grouped": tiny.grouped,
    "gpt2": tiny.gpt2,
    "soft-capped": tiny.soft_capped,
    "bert": tiny.bert,
    "bart encoder": bart,
    "opt": tiny.opt,
}


@contextmanager
def without(module: Any, columns: slice, key: int | None) -> Iterator[None]:
    """One position of a module's output at zero; None: as it is."""

    def hook(module: Any, args: Any, gave: torch.Tensor) -> torch.Tensor:
        changed = gave.clone()
        if key is not None:
            changed[..., key, columns] = 0
        return changed

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def states_without(model: Model, at: Any, values: tuple[Any, slice], key: int | None) -> torch.Tensor:
    """What the module `at` gives when a key's values are zero: [position, d_model]."""
    caught: list[torch.Tensor] = []
    handle = at.register_forward_hook(
        lambda module, args, gave: caught.append((gave[0] if isinstance(gave, tuple) else gave).detach().view(-1, 32))
    )
    pair = {"decoder_input_ids": torch.tensor([tiny.ids(5)])} if model.family == "encoder-decoder" else {}
    try:
        with without(*values, key):
            tiny.plain_run(model.hf_model, tiny.ids(9), **pair)
    finally:
        handle.remove()
    return caught[0]


def turned(model: Model, at: Any, values: tuple[Any, slice], n_keys: int) -> torch.Tensor:
    """1 - cos of each position's state with and without each key's value."""
    clean = states_without(model, at, values, None).double()
    changed = [states_without(model, at, values, key).double() for key in range(n_keys)]
    return torch.stack([1 - torch.cosine_similarity(clean, one, dim=-1) for one in changed], dim=-1)


def rows_to_one(x: torch.Tensor) -> torch.Tensor:
    return x / x.sum(-1, keepdim=True)


@pytest.mark.parametrize("kind", VALUES)
def test_through_the_layer_equals_really_zeroing_values(kind: str) -> None:
    model, run = taken_apart(BUILDS[kind])
    path, name, columns = VALUES[kind]
    found = [step for step in steps(run, model, through="layer") if step.site == run.blocks[0].site]
    for step in found:
        layer = model.hf_model.get_submodule(path.format(step.layer))
        expected = rows_to_one(turned(model, layer, (layer.get_submodule(name), columns), 9))
        torch.testing.assert_close(step.weights, expected, atol=1e-4, rtol=0)
        assert step.kept.abs().max() == 0
        assert (expected > 0.02).sum() > 18  # there is something to be wrong about


@pytest.mark.parametrize(
    ("kind", "behind"),
    [("bert", "attention.output"), ("bart encoder", "self_attn_layer_norm")],
)
def test_behind_the_attention_block_equals_really_zeroing_values(kind: str, behind: str) -> None:
    model, run = taken_apart(BUILDS[kind])
    path, name, columns = VALUES[kind]
    step = next(steps(run, model))
    layer = model.hf_model.get_submodule(path.format(0))
    values = (layer.get_submodule(name), columns)
    expected = rows_to_one(turned(model, layer.get_submodule(behind), values, 9))
    torch.testing.assert_close(step.weights, expected, atol=1e-4, rtol=0)


def test_before_a_norm_the_sum_itself_is_compared() -> None:
    model, run = taken_apart(tiny.grouped)
    step, block = next(steps(run, model)), run.blocks[0]
    parts = torch.einsum("hqk,hkd->qkd", block.weights(), block.values())
    expected = 1 - torch.cosine_similarity(block.after[:, None].double(), block.after[:, None] - parts.double(), dim=-1)
    torch.testing.assert_close(step.weights, rows_to_one(expected), atol=1e-6, rtol=0)


def test_a_layer_with_two_blocks_shares_one_row_between_text_and_source() -> None:
    model, run = taken_apart(bart)
    decoder = model.hf_model.model.decoder.layers[1]
    inside = [s for s in steps(run, model, through="layer") if s.layer == 1 and s.site != "encoder"]
    own = turned(model, decoder.self_attn_layer_norm, (decoder.self_attn.v_proj, slice(None)), 5)
    other = turned(model, decoder.encoder_attn_layer_norm, (decoder.encoder_attn.v_proj, slice(None)), 9)
    total = own.sum(-1, keepdim=True) + other.sum(-1, keepdim=True)
    assert [step.site for step in inside] == ["decoder", "cross"]
    torch.testing.assert_close(inside[1].kept[:, None] * inside[0].weights, own / total, atol=1e-4, rtol=0)
    torch.testing.assert_close(inside[1].weights, other / total, atol=1e-4, rtol=0)


@pytest.mark.parametrize("through", ["attention", "layer"])
@pytest.mark.parametrize("build", [tiny.grouped, tiny.sinks, neox, tiny.bert, bart, t5])
def test_shares_sum_to_one_and_stay_behind_the_mask(build: Callable[[], Any], through: Any) -> None:
    model, run = taken_apart(build)
    found: list[Step] = list(steps(run, model, through=through))
    assert [(s.site, s.layer) for s in found] == [(b.site, b.layer) for b in run.blocks]
    for step, block in zip(found, run.blocks, strict=True):
        torch.testing.assert_close(step.weights.sum(-1) + step.kept, torch.ones(len(step.kept), dtype=torch.float64))
        assert float(step.weights.min()) >= 0
        hidden = ~(block.attention.pattern()[0] > 0).any(0)
        assert step.weights[hidden].abs().sum() == 0


def test_beside_the_feed_forward_block_is_not_reached() -> None:
    model, run = taken_apart(neox)
    near, far = (list(steps(run, model, through=through)) for through in ("attention", "layer"))  # type: ignore[arg-type]
    layer = model.hf_model.gpt_neox.layers[0]
    qkv = layer.attention.query_key_value
    # Queries, keys and values of one head stand together.
    columns = torch.cat([torch.arange(24 * h + 16, 24 * h + 24) for h in range(4)])
    expected = rows_to_one(turned(model, layer, (qkv, columns), 9))  # type: ignore[arg-type]
    torch.testing.assert_close(far[0].weights, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(near[0].weights, far[0].weights, atol=1e-3)


def test_edited_heads_turn_nothing() -> None:
    model, run = taken_apart(tiny.grouped, (ZeroHeads([Head(0, head) for head in range(4)]),))
    first, second = steps(run, model)
    assert first.weights.abs().max() == 0
    assert first.kept.tolist() == [1.0] * 9
    assert second.kept.abs().max() == 0


def test_wrong_choices_are_refused() -> None:
    model, run = taken_apart(tiny.grouped)
    with pytest.raises(InputError, match="attention block or the layer"):
        next(steps(run, model, through="model"))  # type: ignore[arg-type]
    wirings = tuple(replace(wiring, mlp_path=()) for wiring in model.anatomy.wirings)
    model.__dict__["anatomy"] = replace(model.anatomy, wirings=wirings)
    assert len(list(steps(run, model))) == 2
    with pytest.raises(Unsupported, match="cannot be called by itself"):
        next(steps(run, model, through="layer"))
