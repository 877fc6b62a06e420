"""Tiny models with random weights, large enough to give patterns that are not flat, and the same every time."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 700,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LENGTH = 20


def _build(kind: str, **options: Any) -> Callable[..., Any]:
    def build(**more: Any) -> Any:
        config = getattr(transformers, _CONFIGS[kind])(**{**SIZES, **options, **more})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return getattr(transformers, kind)(config).eval()

    return build


_CONFIGS = {
    "LlamaForCausalLM": "LlamaConfig",
    "GPT2LMHeadModel": "GPT2Config",
    "BertModel": "BertConfig",
    "BertForMaskedLM": "BertConfig",
    "BertForSequenceClassification": "BertConfig",
    "Gemma2ForCausalLM": "Gemma2Config",
    "GptOssForCausalLM": "GptOssConfig",
    "MistralForCausalLM": "MistralConfig",
    "OPTForCausalLM": "OPTConfig",
    "BloomForCausalLM": "BloomConfig",
    "AlbertModel": "AlbertConfig",
}

_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}

grouped = _build("LlamaForCausalLM", num_key_value_heads=2)
multi_query = _build("LlamaForCausalLM", num_key_value_heads=1)
gpt2 = _build("GPT2LMHeadModel", n_inner=48)
gpt2_scaled = _build("GPT2LMHeadModel", n_inner=48, scale_attn_by_inverse_layer_idx=True)
bert = _build("BertModel")
bert_masked = _build("BertForMaskedLM")
bert_classes = _build("BertForSequenceClassification", num_labels=3)
# A low cap, a short window: on a text of LENGTH tokens, leaving either out shows.
soft_capped = _build(
    "Gemma2ForCausalLM",
    num_key_value_heads=2,
    head_dim=8,
    query_pre_attn_scalar=8,
    attn_logit_softcapping=0.7,
    sliding_window=4,
)
sinks = _build(
    "GptOssForCausalLM",
    num_key_value_heads=2,
    head_dim=8,
    num_local_experts=2,
    num_experts_per_tok=1,
    sliding_window=4,
    rope_parameters=_ROPE,
)
windowed = _build("MistralForCausalLM", num_key_value_heads=2, sliding_window=4)
opt = _build("OPTForCausalLM", ffn_dim=48, word_embed_proj_dim=32)
shared_layer = _build("AlbertModel", embedding_size=16)
bloom = _build("BloomForCausalLM", n_layer=2, n_head=4)

EXACT = {
    "grouped": grouped,
    "multi-query": multi_query,
    "gpt2": gpt2,
    "gpt2 scaled by layer": gpt2_scaled,
    "bert": bert,
    "bert with masked head": bert_masked,
    "soft-capped": soft_capped,
    "sinks": sinks,
    "windowed": windowed,
    "opt": opt,
    "shared layer": shared_layer,
}

# The projection that mixes the heads, by the end of its name; its input is the heads side by side.
PROJECTION = {
    "grouped": "self_attn.o_proj",
    "multi-query": "self_attn.o_proj",
    "gpt2": "attn.c_proj",
    "gpt2 scaled by layer": "attn.c_proj",
    "bert": "attention.output.dense",
    "bert with masked head": "attention.output.dense",
    "soft-capped": "self_attn.o_proj",
    "sinks": "self_attn.o_proj",
    "windowed": "self_attn.o_proj",
    "opt": "self_attn.out_proj",
}


def ids(length: int = LENGTH) -> list[int]:
    return [(11 * i * i + 5 * i + 3) % 96 + 3 for i in range(length)]


def main_output(outputs: Any) -> torch.Tensor:
    return outputs.logits if getattr(outputs, "logits", None) is not None else outputs.last_hidden_state


def plain_run(hf_model: Any, input_ids: list[int], **keywords: Any) -> Any:
    """The model as anybody would call it, on one text."""
    tensor = torch.tensor([input_ids])
    if "use_cache" in inspect.signature(hf_model.forward).parameters:
        keywords["use_cache"] = False
    with torch.no_grad():
        return hf_model(input_ids=tensor, attention_mask=torch.ones_like(tensor), **keywords)


def eager_copy(hf_model: Any) -> Any:
    """The same weights in a second model on transformers' own eager attention."""
    config = type(hf_model.config)(**hf_model.config.to_dict())
    copy = type(hf_model)._from_config(config, attn_implementation="eager")
    copy.load_state_dict(hf_model.state_dict())
    return copy.eval()


@contextmanager
def zeroed(hf_model: Any, projection: str, heads: list[tuple[int, int]]) -> Iterator[None]:
    """Set heads to zero where they enter the output projection: columns of its input, `d_head` a head."""
    found = [module for name, module in hf_model.named_modules() if name.endswith(projection)]
    n_heads = hf_model.config.num_attention_heads
    handles = []
    for layer, head in heads:

        def hook(module: Any, args: tuple[torch.Tensor], head: int = head) -> tuple[torch.Tensor]:
            changed = args[0].clone()
            d_head = changed.shape[-1] // n_heads
            changed[..., head * d_head : (head + 1) * d_head] = 0
            return (changed,)

        handles.append(found[layer].register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
