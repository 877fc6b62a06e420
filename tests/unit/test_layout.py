"""What the self-check finds, and which models it does not call exact."""

import sys
from types import ModuleType
from typing import Any

import pytest
import tiny
import torch
import transformers
from transformers.models.llama import modeling_llama

import attnviz
from attnviz import Head, Model, recorded
from attnviz.edits import ZeroHeads
from attnviz.errors import InputError, Unsupported


@pytest.mark.parametrize("kind", tiny.EXACT)
def test_patterns_are_exact_on_a_text_longer_than_the_probe(kind: str) -> None:
    hf_model = tiny.EXACT[kind]()
    eager = tiny.plain_run(tiny.eager_copy(hf_model), tiny.ids(), output_attentions=True)
    model = attnviz.wrap_model(hf_model, name=kind)
    assert model.info.status == "exact"
    assert model.info.reason == ""
    assert model.layout.gap < 1e-5
    trace = model.trace(input_ids=tiny.ids())
    assert len(trace.layers()) == len(eager.attentions) == 2
    for layer, reference in zip(trace.layers(), eager.attentions, strict=True):
        torch.testing.assert_close(trace.pattern(layer), reference[0], atol=1e-5, rtol=0)
        for head in range(4):
            torch.testing.assert_close(trace.pattern(layer, head), reference[0, head], atol=1e-5, rtol=0)
    output = tiny.main_output(eager)[0]
    got = output if trace.logits is None else trace.logits
    torch.testing.assert_close(got, output, atol=1e-3, rtol=0)


def naive(trace: attnviz.Trace, layer: int, *, scale: float, cap: float = 0.0, window: int = 0) -> torch.Tensor:
    """Attention by the textbook: dot products, what a query may see, exponentials, shares."""
    held: Any = trace.layer(layer)
    query, key = held.query[0].double(), held.key[0].double()
    n_heads, length, _ = query.shape
    out = torch.zeros(n_heads, length, length, dtype=torch.float64)
    for head in range(n_heads):
        for q in range(length):
            first = max(0, q - window + 1) if window else 0
            scores = [float(query[head, q] @ key[head * len(key) // n_heads, k]) * scale for k in range(first, q + 1)]
            shares = torch.tensor(scores, dtype=torch.float64)
            shares = cap * torch.tanh(shares / cap) if cap else shares
            sink = torch.zeros(0, dtype=torch.float64)
            if getattr(held.module, "sinks", None) is not None:
                sink = held.module.sinks[head : head + 1].double()
            out[head, q, first : q + 1] = torch.cat([shares, sink]).softmax(0)[: len(shares)]
    return out.float()


@pytest.mark.parametrize(
    ("kind", "layer", "options"),
    [
        ("grouped", 0, {}),
        ("multi-query", 1, {}),
        ("gpt2", 1, {}),
        ("soft-capped", 0, {"cap": 0.7, "window": 4}),
        ("soft-capped", 1, {"cap": 0.7}),
        ("sinks", 0, {"window": 4}),
        ("sinks", 1, {}),
        ("windowed", 0, {"window": 4}),
    ],
)
def test_patterns_equal_a_naive_loop(kind: str, layer: int, options: dict[str, Any]) -> None:
    trace = attnviz.wrap_model(tiny.EXACT[kind]()).trace(input_ids=tiny.ids())
    expected = naive(trace, layer, scale=8**-0.5, **options)
    torch.testing.assert_close(trace.pattern(layer), expected, atol=1e-5, rtol=0)


def test_soft_capping_shows_in_the_patterns() -> None:
    trace = attnviz.wrap_model(tiny.soft_capped()).trace(input_ids=tiny.ids())
    assert not torch.allclose(trace.pattern(1), naive(trace, 1, scale=8**-0.5), atol=1e-2)


def test_sinks_take_their_share_of_every_row() -> None:
    trace = attnviz.wrap_model(tiny.sinks()).trace(input_ids=tiny.ids())
    for layer in (0, 1):
        sums = trace.pattern(layer).sum(-1)
        assert float(sums.max()) < 1
        assert float(sums.min()) >= 0


def test_a_sliding_window_hides_what_lies_before_it() -> None:
    trace = attnviz.wrap_model(tiny.windowed()).trace(input_ids=tiny.ids())
    pattern = trace.pattern(0)
    before = torch.ones(tiny.LENGTH, tiny.LENGTH).tril(-4).bool()
    assert float(pattern[:, before].abs().max()) == 0
    assert float(pattern[:, ~before.triu(-3) & ~before].max()) > 0
    torch.testing.assert_close(pattern.sum(-1), torch.ones(4, tiny.LENGTH), atol=1e-5, rtol=0)
    seen = trace.layer(0).visible()[0, 0].sum(-1).tolist()
    assert seen == [min(q + 1, 4) for q in range(tiny.LENGTH)]


def test_the_info_tells_heads_groups_and_family() -> None:
    found = {kind: attnviz.wrap_model(build()).info for kind, build in tiny.EXACT.items()}
    assert {kind: info.n_kv_heads for kind, info in found.items() if info.n_kv_heads != 4} == {
        "grouped": 2,
        "multi-query": 1,
        "soft-capped": 2,
        "sinks": 2,
        "windowed": 2,
    }
    encoders = {"bert", "bert with masked head", "shared layer"}
    assert {kind for kind, info in found.items() if info.sites == ("encoder",)} == encoders
    assert {kind for kind, info in found.items() if info.sites == ("decoder",)} == set(found) - encoders
    assert {(info.n_layers, info.n_heads, info.d_head) for info in found.values()} == {(2, 4, 8)}
    assert {kind for kind, info in found.items() if not info.has_vocabulary} == {"bert", "shared layer"}
    assert {kind for kind, info in found.items() if info.kernel == "eager"} == {"soft-capped", "sinks"}


def test_the_embedded_models_are_exact(smollm2: Model, minilm: Model) -> None:
    assert (smollm2.info.n_layers, smollm2.info.n_heads, smollm2.info.n_kv_heads) == (30, 9, 3)
    assert (minilm.info.n_layers, minilm.info.n_heads, minilm.info.max_tokens) == (6, 12, 512)
    for model in (smollm2, minilm):
        assert model.info.status == "exact"
        assert model.layout.gap < 1e-5


def test_bloom_can_be_seen_but_not_edited() -> None:
    hf_model = tiny.bloom()
    eager = tiny.plain_run(hf_model, tiny.ids(), output_attentions=True)
    model = attnviz.wrap_model(hf_model, name="bloom")
    assert model.info.status == "view-only"
    assert len(model.info.reason.split()) > 5
    trace = model.trace(input_ids=tiny.ids())
    for layer, reference in enumerate(eager.attentions):
        assert torch.equal(trace.pattern(layer), reference[0])
        assert torch.equal(trace.pattern(layer, 3), reference[0, 3])
    assert torch.equal(trace.logits, eager.logits[0])
    trace.pattern(0).zero_()
    assert torch.equal(trace.pattern(0), eager.attentions[0][0])
    with pytest.raises(Unsupported, match=r"bloom is view-only.*AttentionInterface"):
        model.trace(input_ids=tiny.ids(), edits=[ZeroHeads([Head(0, 0)])])


def masquerade(monkeypatch: pytest.MonkeyPatch, hf_model: Any, eager: Any, layers: tuple[int, ...] = (0, 1)) -> None:
    """Give attention modules a modelling file of their own, in which the eager function is `eager`."""
    file = ModuleType("odd_modelling")
    file.eager_attention_forward = eager  # type: ignore[attr-defined]
    file.ALL_ATTENTION_FUNCTIONS = modeling_llama.ALL_ATTENTION_FUNCTIONS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_modelling", file)
    odd = type("OddAttention", (modeling_llama.LlamaAttention,), {"__module__": "odd_modelling"})
    for layer in layers:
        hf_model.model.layers[layer].self_attn.__class__ = odd


def test_a_model_whose_attention_would_be_read_wrongly_is_not_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    def flatter(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, dropout: float = 0.0
    ) -> Any:
        return modeling_llama.eager_attention_forward(module, query, key, value, attention_mask, scaling / 2, dropout)

    hf_model = tiny.grouped()
    reference = tiny.plain_run(tiny.eager_copy(hf_model), tiny.ids(), output_attentions=True)
    masquerade(monkeypatch, hf_model, flatter)
    model = attnviz.wrap_model(hf_model)
    assert model.info.status == "view-only"
    assert "eager attention" in model.info.reason
    trace = model.trace(input_ids=tiny.ids())
    for layer in (0, 1):
        torch.testing.assert_close(trace.pattern(layer), reference.attentions[layer][0], atol=1e-6, rtol=0)


def test_rows_that_sum_to_more_than_one_are_not_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, dropout: float = 0.0
    ) -> Any:
        z, weights = modeling_llama.eager_attention_forward(module, query, key, value, attention_mask, scaling, dropout)
        return z, weights * 2

    hf_model = tiny.grouped()
    masquerade(monkeypatch, hf_model, doubled)
    info = attnviz.wrap_model(hf_model).info
    assert info.status == "view-only"
    assert "more than 1" in info.reason


def test_the_real_eager_function_under_another_name_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model = tiny.grouped()
    masquerade(monkeypatch, hf_model, modeling_llama.eager_attention_forward)
    assert attnviz.wrap_model(hf_model).info.status == "exact"


def test_a_layer_whose_attention_passes_the_tap_by_makes_the_model_view_only() -> None:
    hf_model = tiny.grouped()

    class PassingBy(modeling_llama.LlamaAttention):
        def forward(self, *args: Any, **keywords: Any) -> Any:
            before, self.config = self.config, transformers.LlamaConfig()
            self.config._attn_implementation = "eager"
            try:
                return super().forward(*args, **keywords)
            finally:
                self.config = before

    hf_model.model.layers[1].self_attn.__class__ = PassingBy
    model = attnviz.wrap_model(hf_model)
    assert model.info.status == "view-only"
    assert "2 layers returned attentions" in model.info.reason


def test_a_model_that_an_edit_does_not_reach_is_view_only() -> None:
    hf_model = tiny.grouped()
    hf_model.model.layers[0].self_attn.o_proj.weight.data.zero_()
    model = attnviz.wrap_model(hf_model)
    assert model.info.status == "view-only"
    assert "does not change its output" in model.info.reason


def test_a_model_without_attention_is_refused_by_name() -> None:
    config = transformers.MambaConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(Unsupported, match="MambaForCausalLM"):
        attnviz.wrap_model(transformers.MambaForCausalLM(config))


def test_a_model_that_returns_no_attentions_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model = tiny.grouped()
    plain = hf_model.forward

    def silent(input_ids: torch.Tensor, output_attentions: bool = False, use_cache: bool = False) -> Any:
        outputs = plain(input_ids=input_ids, use_cache=use_cache)
        outputs.attentions = None
        return outputs

    monkeypatch.setattr(hf_model, "forward", silent)
    with pytest.raises(Unsupported, match="LlamaForCausalLM"):
        attnviz.wrap_model(hf_model)


def test_something_that_is_no_transformers_model_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="Linear"):
        attnviz.wrap_model(torch.nn.Linear(2, 2))


def test_a_model_put_back_into_training_mode_is_refused() -> None:
    model = attnviz.wrap_model(tiny.bert())
    model.hf_model.train()
    with pytest.raises(InputError, match="training mode"):
        model.trace(input_ids=tiny.ids())


@pytest.mark.parametrize("kind", ["grouped", "gpt2", "bert", "sinks", "soft-capped", "windowed"])
@pytest.mark.parametrize("rows", [1, 37, 128, 299])
def test_chunks_of_query_rows_make_the_same_pattern(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = attnviz.wrap_model(tiny.EXACT[kind]()).trace(input_ids=tiny.ids(300))
    monkeypatch.setattr(recorded, "_CHUNK_ROWS", 1_000)
    whole = [(trace.pattern(layer), trace.pattern(layer, 2)) for layer in (0, 1)]
    monkeypatch.setattr(recorded, "_CHUNK_ROWS", rows)
    for layer, (expected, of_head) in enumerate(whole):
        torch.testing.assert_close(trace.pattern(layer), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(trace.pattern(layer, 2), of_head, atol=1e-6, rtol=0)
        some = trace.layer(layer).pattern(queries=slice(250, 290))[0]
        torch.testing.assert_close(some, expected[:, 250:290], atol=1e-6, rtol=0)


def test_the_chunks_are_as_small_as_they_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = attnviz.wrap_model(tiny.grouped()).trace(input_ids=tiny.ids(300))
    held: Any = trace.layer(0)
    seen = []

    def eager(module: Any, query: torch.Tensor, *args: Any, **keywords: Any) -> Any:
        seen.append(query.shape[2])
        return modeling_llama.eager_attention_forward(module, query, *args, **keywords)

    object.__setattr__(held, "eager", eager)
    trace.pattern(0)
    assert seen == [256, 44]


@pytest.mark.parametrize("kind", ["grouped", "bert", "sinks", "windowed"])
def test_patterns_of_a_bfloat16_model_are_float32_arithmetic_on_its_queries_and_keys(kind: str) -> None:
    model = attnviz.wrap_model(tiny.EXACT[kind]().to(torch.bfloat16))
    assert model.info.dtype == "bfloat16"
    assert model.info.status == "exact"
    trace = model.trace(input_ids=tiny.ids())
    held: Any = trace.layer(1)
    assert held.query.dtype == torch.bfloat16
    assert trace.pattern(1).dtype == torch.float32
    torch.testing.assert_close(trace.pattern(1).sum(-1) <= 1 + 1e-5, torch.ones(4, tiny.LENGTH, dtype=torch.bool))
    if kind == "bert":
        expected = (held.query[0].float() @ held.key[0].float().mT * 8**-0.5).softmax(-1)
    else:
        expected = naive(trace, 1, scale=8**-0.5, window=4 if kind == "windowed" else 0)
    torch.testing.assert_close(trace.pattern(1), expected, atol=1e-5, rtol=0)


def test_edits_of_a_half_precision_model_stay_in_its_dtype() -> None:
    model = attnviz.wrap_model(tiny.grouped().to(torch.bfloat16))
    clean = model.trace(input_ids=tiny.ids())
    edited = model.trace(input_ids=tiny.ids(), edits=[ZeroHeads([Head(0, 0)])])
    assert edited.logits.dtype == torch.bfloat16
    assert not torch.equal(clean.logits, edited.logits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["smollm2", "minilm", "dates"])
def test_half_precision_is_exact_and_patterns_are_float32_from_its_own_q_and_k(name: str, dtype: str) -> None:
    model = attnviz.load_model(name, dtype=dtype)
    assert (model.info.status, model.info.dtype) == ("exact", dtype)
    trace = model.trace("the 3rd of May 1998")
    site = model.info.sites[0]
    for layer in trace.layers(site):
        recorded = trace.layer(layer, site)
        scores = recorded.query.float() @ recorded.key.float().repeat_interleave(recorded.group, 1).mT
        scores = scores * recorded.keywords["scaling"]
        if recorded.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        pattern = trace.pattern(layer, site=site)
        assert pattern.dtype == torch.float32
        assert torch.allclose(pattern, scores.softmax(-1)[0], atol=1e-6)
