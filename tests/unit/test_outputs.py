"""The likeliest tokens, found with and without all logits at once."""

import pytest
import torch
import transformers

import attnviz
from attnviz.outputs import TopK, separate_head

TEXT = "When Mary and John went to the store, John gave a drink to"


def tiny(config: transformers.PretrainedConfig) -> transformers.PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


SIZES = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_top_k_of_logits_is_that_of_a_loop() -> None:
    logits = torch.randn(150, 40, generator=torch.Generator().manual_seed(0))
    top = TopK.of(logits, 5)
    for i, row in enumerate(logits):
        assert top.logits[i].tolist() == sorted(row.tolist(), reverse=True)[:5]
        assert row[top.ids[i]].tolist() == top.logits[i].tolist()
        assert float(top.log_total[i]) == pytest.approx(float(row.exp().sum().log()), abs=1e-5)


def test_a_compact_trace_predicts_what_the_whole_one_does(smollm2: attnviz.Model) -> None:
    assert smollm2.separate_head
    whole, compact = smollm2.trace(TEXT), smollm2.trace(TEXT, compact=True)
    assert compact.raw_logits is None
    assert whole.logits is not None
    for position in range(len(whole.tokens)):
        a, b = whole.predictions(position, k=50), compact.predictions(position, k=50)
        assert a["token_id"].tolist() == b["token_id"].tolist()
        assert a["probability"].to_numpy() == pytest.approx(b["probability"].to_numpy(), abs=1e-6)
    for layer in (0, 29):
        assert torch.equal(whole.pattern(layer), compact.pattern(layer))


def test_edits_and_progress_reach_a_compact_trace(smollm2: attnviz.Model) -> None:
    edits = [attnviz.edits.ZeroHeads([attnviz.Head(23, 3)])]
    steps: list[tuple[int, int]] = []
    compact = smollm2.trace(TEXT, edits=edits, compact=True, progress=lambda done, total: steps.append((done, total)))
    whole = smollm2.trace(TEXT, edits=edits)
    assert compact.predictions(k=5)["token_id"].tolist() == whole.predictions(k=5)["token_id"].tolist()
    assert compact.predictions(k=1)["logit"][0] == pytest.approx(whole.predictions(k=1)["logit"][0], abs=1e-4)
    assert steps[-1] == (30, 30)


def test_a_head_that_does_more_than_project_is_not_taken_for_one_that_does_not() -> None:
    gemma = tiny(transformers.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, final_logit_softcapping=0.01))
    cohere = tiny(transformers.CohereConfig(**SIZES, logit_scale=0.5))
    llama = tiny(transformers.LlamaConfig(**SIZES))
    assert not separate_head(gemma, 60)
    assert not separate_head(cohere, 60)
    assert separate_head(llama, 60)


def test_models_without_a_separate_head_are_compact_all_the_same() -> None:
    model = attnviz.wrap_model(tiny(transformers.CohereConfig(**SIZES, logit_scale=0.5)))
    whole, compact = model.trace(input_ids=[3, 4, 5]), model.trace(input_ids=[3, 4, 5], compact=True)
    assert compact.raw_logits is None
    assert compact.predictions(k=9)["token_id"].tolist() == whole.predictions(k=9)["token_id"].tolist()


def test_encoders_and_encoder_decoders_keep_what_they_give(minilm: attnviz.Model) -> None:
    assert not minilm.separate_head
    assert minilm.trace("A text.", compact=True).embedding is not None
    dates = attnviz.load_model("dates", device="cpu")
    compact = dates.trace("12 May 1998", compact=True)
    assert compact.predictions(k=1)["token"][0] == dates.trace("12 May 1998").predictions(k=1)["token"][0]
