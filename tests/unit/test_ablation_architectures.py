"""Sweeps of many tiny architectures, against eager runs with a head replaced and against whole runs with an edit."""

from typing import Any

import numpy as np
import pytest
import torch

import attnviz
from attnviz import Head, ablation
from attnviz.edits import Edit, MeanHeads, ResampleHeads
from attnviz.metrics import LogitDiff
from benchmarks import architectures, tiny

MORE = ("qwen2", "qwen3", "phi3", "olmo2", "gpt_neox", "opt", "gemma3_text", "zamba2", "granitemoe")
PAIRS = [p for p in architectures.SAMPLE if p[1] not in ("mpt", "deepseek_v4", "longformer", "squeezebert")]
PAIRS += [("causal", model_type) for model_type in MORE]
WHOLE = ("causal", "gemma4_text")


@pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types
@pytest.mark.parametrize("pair", [*PAIRS, WHOLE], ids="-".join)
def test_a_tiny_architecture_equals_its_eager_self_with_the_head_replaced(pair: tuple[str, str]) -> None:
    """By zero, mean and resampling, at once and in as little memory as it can be done in."""
    hf_model = tiny.build(*pair)
    if hf_model.config.is_encoder_decoder:
        hf_model.generation_config.decoder_start_token_id = 2
    oracle = architectures.Oracle(hf_model, tiny.inputs(hf_model))
    model = attnviz.wrap_model(hf_model)
    names = {module: name for name, module in hf_model.named_modules()}
    others = oracle.ids | {"input_ids": oracle.ids["input_ids"].flip(1)}
    donor = others["input_ids"][0].tolist()
    read = [oracle.ids, others]  # beside the texts of a mean a decoder reads what the model writes for them
    if "decoder_input_ids" in oracle.ids:
        end = oracle.model.generation_config.eos_token_id
        read = []
        for ids in (oracle.ids, others):
            said = oracle.model.generate(ids["input_ids"], max_new_tokens=64, do_sample=False)
            said = said[:, :-1] if said[0, -1] == end else said
            read.append(ids | {"decoder_input_ids": said})

    def instead(how: str, module: str, call: int, head: int) -> torch.Tensor | float:
        if how == "zero":
            return 0.0
        if how == "resample":
            return oracle.outputs_of(module, call, others)[:, head]
        return torch.cat([oracle.outputs_of(module, call, ids)[:, head] for ids in read]).mean(0)

    def outcome(logits: torch.Tensor) -> float:
        return float(logits[-1, 7] - logits[-1, 9])

    clean = outcome(oracle.logits)
    texts = [oracle.ids["input_ids"][0].tolist(), donor]
    for how, asked in (("zero", {}), ("mean", {"texts": texts}), ("resample", {"donor": donor})):
        given: dict[str, Any] = {**oracle.ids, **asked, "how": how}
        found, largest = ablation.sweep(model, None, LogitDiff(7, 9), **given), 0.0
        for module, places in model.layout.places.items():
            for call, place in enumerate(places):
                n_heads = int(np.isfinite(found.found[place.site][place.layer]).sum())
                for head in {place.layer % n_heads, n_heads - 1}:
                    new = instead(how, names[module], call, head)
                    effect = outcome(oracle.without_head(names[module], call, head, new)) - clean
                    assert found.found[place.site][place.layer, head] == pytest.approx(effect, abs=1e-4), how
                    largest = max(largest, abs(effect))
        assert largest > 1e-3
        assert found.noise < 1e-4
        assert found.complete
        assert ("whole run" in found.note) == (pair == WHOLE)
        row = ablation.sweep(model, None, LogitDiff(7, 9), **given, piece=1)
        little = ablation.sweep(model, None, LogitDiff(7, 9), **given, memory=row.budget + 10)
        assert little.budget <= row.budget + 10
        for site in model.info.sites:
            np.testing.assert_allclose(little.found[site], found.found[site], atol=1e-4)


def towards(kind: Any, step: float) -> Any:
    """The edit that takes heads a step of the way to what `kind` puts in their place."""
    new = kind.new
    return type("Towards", (kind,), {"new": lambda self, z, *at: z + step * (new(self, z, *at) - z)})


@pytest.mark.filterwarnings("ignore")  # transformers' own, of old model types
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "gpt_neox", "gemma3n_text", "gemma4_text"])
def test_a_tiny_architecture_equals_whole_runs_with_the_edit(model_type: str) -> None:
    """By mean and by resampling: a sweep against one measurement a head, an estimate against the slope on its way."""
    model = attnviz.wrap_model(tiny.build("causal", model_type).double())
    ids, donor, metric, step = list(range(3, 15)), list(range(40, 28, -1)), LogitDiff(7, 9), 1e-3

    def effect(edit: Edit) -> float:
        return model.measure(metric, input_ids=ids, edits=[edit])

    clean, layer = model.measure(metric, input_ids=ids), model.layout.layers["decoder"][-1]
    for how, kind, others in (
        ("mean", MeanHeads, {"texts": [donor, ids]}),
        ("resample", ResampleHeads, {"donor": donor}),
    ):
        given, asked = next(iter(others.values())), {"how": how, "input_ids": ids, **others}
        found = ablation.sweep(model, None, metric, **asked)
        guessed = ablation.screen(model, None, metric, **asked)
        n_heads = int(np.isfinite(found.effects[layer]).sum())
        for head in (Head(layer, 0), Head(layer, n_heads - 1)):
            exact = effect(kind([head], given)) - clean
            assert found.effects[layer, head.head] == pytest.approx(exact, abs=1e-5)
            assert abs(exact) > 1e-3
            forth, back = (effect(towards(kind, by)([head], given)) for by in (step, -step))
            assert guessed.effects[layer, head.head] == pytest.approx((forth - back) / (2 * step), abs=2e-3)


def test_the_sample_has_at_least_25_architectures() -> None:
    assert len(set(PAIRS)) >= 25
