"""Checkpoints of many kinds, saved to a folder and opened by its path, without a Hub."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import attnviz
from benchmarks.tiny import build, tiny_config

KINDS = [
    ("causal", "llama", "exact"),
    ("causal", "gpt2", "exact"),
    ("causal", "jamba", "exact"),
    ("causal", "bloom", "view-only"),
    ("causal", "falcon", "view-only"),
    ("masked", "bert", "exact"),
    ("masked", "albert", "exact"),
    ("masked", "flaubert", "view-only"),
    ("seq2seq", "bart", "exact"),
    ("seq2seq", "t5", "exact"),
    ("seq2seq", "marian", "exact"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize(("mapping", "model_type", "status"), KINDS)
def test_a_saved_model_opens_as_the_class_it_was(tmp_path: Path, mapping: str, model_type: str, status: str) -> None:
    saved = build(mapping, model_type)
    saved.save_pretrained(tmp_path)
    model = attnviz.load_model(tmp_path)
    assert type(model.hf_model) is type(saved)
    assert model.info.status == status
    given = {"decoder_input_ids": [2, 7, 8]} if model.info.family == "encoder-decoder" else {}
    trace = model.trace(input_ids=[5, 6, 7, 8], **given)
    for site in model.info.sites:
        queries, keys = trace.axes(site)
        layer = trace.layers(site)[0]
        assert trace.pattern(layer, site=site).shape[1:] == (len(queries), len(keys))


@pytest.mark.parametrize("model_type", ["gemma3", "llava", "qwen3_vl", "mistral3"])
def test_a_multimodal_checkpoint_is_read_as_its_text_model(tmp_path: Path, model_type: str) -> None:
    torch.manual_seed(0)
    saved = AutoModelForImageTextToText.from_config(tiny_config(CONFIG_MAPPING[model_type])).eval()
    saved.save_pretrained(tmp_path)
    model = attnviz.load_model(tmp_path)
    assert (model.info.status, model.info.sites) == ("exact", ("decoder",))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = saved(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    assert torch.allclose(model.trace(input_ids=ids).logits, expected, atol=1e-4)
