"""Tiny random models of transformers' text model types, for `benchmarks.architectures`.

A tiny model is only worth checking if its attention does what the real one's does. So the sizes here are chosen to
exercise, not merely to run: windows, chunks and top-k indices are shorter than the input, soft caps are low enough to
bend the scores, value heads are narrower than query heads where the type allows it, hybrids have layers without
attention before, between and after those with it, and `stir` gives every weight a size that makes patterns peaked
(freshly initialised ones are so small that every pattern is uniform, and a wrong scale would go unseen).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

MAPPINGS: dict[str, tuple[Any, Any]] = {
    "causal": (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForCausalLM),
    "masked": (modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, transformers.AutoModelForMaskedLM),
    "seq2seq": (modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, transformers.AutoModelForSeq2SeqLM),
}
NAMES = ("input_ids", "decoder_input_ids")
SOURCE_LENGTH, TARGET_LENGTH = 20, 11  # unequal, longer than the library's own probe, and than every window below
N_LAYERS = 4

# By the name of the setting, whatever the model type; a setting that is None by default stays None (see _OPTIONAL).
SMALL: dict[str, Any] = {
    # width
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "embedding_size", "emb_dim"), 64),
    **dict.fromkeys(("model_dim", "attention_hidden_size", "lru_width", "entity_emb_size", "d_latents"), 64),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner"), 96),
    **dict.fromkeys(("dim_ff", "ffn_hidden_size", "feed_forward_size", "ffn_dim_size", "dff", "d_inner"), 96),
    **dict.fromkeys(("expert_ffn_hidden_size", "moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("shared_experts_intermediate_size", "moe_shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("shared_intermediate_size", "intermediate_size_mlp", "hidden_dim"), 48),
    # depth
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), N_LAYERS),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"), 3),
    **dict.fromkeys(("encoder_num_layers", "decoder_num_layers"), 3),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    # heads: grouped, and value heads of another width than query heads
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "n_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "attention_head_dim", "kv_channels"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "v_head_dim": 12,
    "rotary_dim": 8,
    # what hides keys, shorter than the input
    **dict.fromkeys(("sliding_window", "attention_window", "window_size", "attention_window_size"), 4),
    "local_attention": 6,
    "global_attn_every_n_layers": 2,
    "attention_chunk_size": 8,
    "index_topk": 6,
    "index_head_dim": 16,
    "index_n_heads": 2,
    # what bends the scores, hard enough to be seen
    "attn_logit_softcapping": 2.0,
    "attn_logit_softcap": 2.0,
    "query_pre_attn_scalar": 12,
    "attention_multiplier": 0.3,
    "key_multiplier": 0.7,
    "attention_out_multiplier": 0.8,
    "attention_in_multiplier": 1.2,
    "floor_scale": 4,
    # vocabulary and positions
    "vocab_size": 99,
    "vocab_size_per_layer_input": 99,
    "entity_vocab_size": 20,
    "hidden_size_per_layer_input": 16,
    "type_vocab_size": 2,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length"), 128),
    **dict.fromkeys(("max_seq_len", "model_max_length"), 128),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    # mixtures of experts
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts", "num_expert_group"), 1),
    "zero_expert_num": 2,
    # layers without attention
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_expand", "expand"), 2),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 8),
    "mamba_d_ssm": 128,
    "mamba_dt_rank": 4,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 16),
    **dict.fromkeys(("attn_layer_period", "attn_layer_offset", "layer_group_size"), 2),
    "num_kv_shared_layers": 2,
}
# Settings that mean another architecture when they are given at all.
_OPTIONAL = {"head_dim", "sliding_window", "q_lora_rank", "num_experts", "rotary_dim", "embedding_size", "n_inner"}
# Lists with one entry a layer: every kind in the default list comes again, in turn.
_BY_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types", "block_types")

DEFAULT = object()  # as an override: leave a setting at the type's own default
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_BERT = {
    "vocab_size": 99,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
}
_HYBRID = ["linear_attention", "full_attention", "linear_attention", "full_attention", "linear_attention"]
# What a type needs beyond the rules above; keys are model types, also those of sub-configurations.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_hidden_layers": 5, "layer_types": _HYBRID, "mlp_layer_types": ["dense"] + 4 * ["sparse"]},
    "bamba": {"num_hidden_layers": 5, "attn_layer_indices": [1, 3]},
    "blt": {
        "encoder_hash_byte_group_size": [3, 4],
        "encoder_hash_byte_group_vocab": 50,
        "max_position_embeddings": 128,
        "vocab_size": 260,
    },
    "blt_global_transformer": {"hidden_size": 128},
    "blt_local_encoder": {"hidden_size_global": 128, "vocab_size": 260},
    "blt_local_decoder": {"hidden_size_global": 128, "vocab_size": 260},
    "blt_patcher": {"vocab_size": 260},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "cwm": {"eos_token_id": [2, 3]},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 1.0, "rope_theta": 10000.0}},
    "dbrx_ffn": {"ffn_hidden_size": 64},
    "deepseek_v4": {
        "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
        "head_dim": 32,
        "num_key_value_heads": 1,
        "o_groups": 2,
        "o_lora_rank": 16,
    },
    "dots3_note_text": {
        "head_dim": 16,
        "per_layer_config": {
            str(n): {"num_attention_heads": 8, "num_key_value_heads": 8, "kv_lora_rank": 24} for n in (1, 3)
        },
        "rope_parameters": DEFAULT,
    },
    "encoder-decoder": {
        "encoder": {"model_type": "bert", **_BERT},
        "decoder": {"model_type": "bert", "is_decoder": True, "add_cross_attention": True, **_BERT},
        "pad_token_id": 0,
        "decoder_start_token_id": 1,
    },
    "esmc": {"num_key_value_heads": 4},
    "falcon": {"alibi": False, "new_decoder_architecture": False, "multi_query": True},
    "fsmt": {"src_vocab_size": 99, "tgt_vocab_size": 99},
    "funnel": {"block_sizes": [2, 2], "d_head": 16},
    "gemma3n_text": {"intermediate_size": 96, "activation_sparsity_pattern": [0.5, 0.0, 0.5, 0.0]},
    "gemma4_text": {"per_layer_config": {str(n): {"head_dim": 32} for n in (1, 3)}},
    "glm": {"eos_token_id": [2, 3]},
    "glm4": {"eos_token_id": [2, 3]},
    "gpt_neo": {"attention_types": [[["global", "local"], N_LAYERS // 2]]},
    "granitemoehybrid": {"num_hidden_layers": 5, "layer_types": _HYBRID},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "inkling2_text": {
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 1,
        "swa_head_dim": 16,
        "sliding_window_size": 4,
        "unpadded_vocab_size": 99,
    },
    "inkling_text": {
        "swa_num_attention_heads": 8,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 16,
        "sliding_window_size": 4,
        "logits_mup_width_multiplier": 1.0,
    },
    "jamba": {"num_hidden_layers": 5, "attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"num_hidden_layers": 5, "layer_types": _HYBRID, "mlp_layer_types": ["dense"] + 4 * ["sparse"]},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "full_attn_idxs": DEFAULT},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "phi4_multimodal_audio": {"ext_pw_out_channel": 64, "nemo_conv_channels": 32},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "hc_lowrank": 16,
    },
    "reformer": {
        "axial_pos_embds_dim": [16, 48],
        "axial_pos_shape": [8, 16],
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 16,
        "pronunciation_vocab_size": 50,
        "shape_embed_dim": 16,
        "shape_vocab_size": 50,
    },
    "vibevoice_acoustic_tokenizer_encoder": {"depths": [1, 1], "downsampling_ratios": [2], "num_filters": 8},
    "xlstm": {"chunk_size": DEFAULT},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 128, "attention_head_dim": 32, "n_mamba_heads": 2, "num_key_value_heads": 4},
    "zamba2": {"attention_hidden_size": 128, "attention_head_dim": 32, "num_key_value_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
}
# Pairs of a mapping that are no text models, or that no small settings make into one that runs on token ids alone.
UNBUILT: dict[tuple[str, str], str] = {
    ("causal", "blt"): "splits bytes into patches with a second model; no settings found that run at this size",
    ("causal", "dots3_note"): "vision and audio towers; its text model is dots3_note_text",
    ("causal", "gemma3n"): "its vision tower needs timm; its text model is gemma3n_text",
    ("causal", "gemma4_assistant"): "a draft model: reads another model's keys and values, not token ids",
    ("causal", "gemma4_unified_assistant"): "a draft model: reads another model's keys and values, not token ids",
    ("causal", "musicgen"): "audio codes; the auto class does not build it from its own configuration",
    ("causal", "musicgen_melody"): "audio codes; the auto class does not build it from its own configuration",
    ("seq2seq", "nemo_speechlm"): "reads audio, not token ids",
    ("seq2seq", "voxtral_realtime"): "reads audio, not token ids",
}
# Where float32 itself would be 1e-4 off: no layer norms, or (T5) scores that are not divided by the heads' width.
_GAIN = {"mobilebert": 0.95, **dict.fromkeys(("t5", "mt5", "umt5", "longt5", "switch_transformers", "pop2piano"), 1.0)}


def pairs() -> Iterator[tuple[str, str]]:
    """Every (mapping, model type) of the installed transformers."""
    for mapping, (names, _) in MAPPINGS.items():
        for model_type in names:
            yield mapping, model_type


def tiny_config(config_class: Any, **given: Any) -> Any:
    """A tiny configuration of a type, its sub-configurations too; `given` has the last word."""
    overrides = OVERRIDES.get(config_class.model_type, {})
    try:
        default = config_class()
    except (TypeError, ValueError):  # some types have no default of their own
        return config_class(**{**overrides, **given})
    known = default.to_dict()
    accepted = set(known) | set(inspect.signature(config_class.__init__).parameters)
    settings: dict[str, Any] = {}
    for name, value in SMALL.items():
        current = known.get(name)
        if name in accepted and not isinstance(current, list | dict) and not (current is None and name in _OPTIONAL):
            settings[name] = value
    if "qk_rope_head_dim" in known:  # latent attention: head_dim is derived, and keys are not grouped
        settings.pop("head_dim", None)
        settings["num_key_value_heads"] = settings.get("num_attention_heads", 4)
    for name in _BY_LAYER:
        if isinstance(known.get(name), list) and known[name]:
            kinds = list(dict.fromkeys(known[name]))
            settings[name] = [kinds[i % len(kinds)] for i in range(max(N_LAYERS, len(kinds)))]
            if len(kinds) > N_LAYERS and "num_hidden_layers" in known:
                settings["num_hidden_layers"] = len(kinds)
    for name in getattr(config_class, "sub_configs", None) or {}:
        part = getattr(default, name, None)
        if part is not None and name not in overrides:
            settings[name] = tiny_config(type(part)).to_dict()
    settings = {name: value for name, value in {**settings, **overrides, **given}.items() if value is not DEFAULT}
    return config_class(**settings)


def build(mapping: str, model_type: str, **options: Any) -> Any:
    """A tiny random model in evaluation mode, the same every time; `options` as for `from_config`."""
    torch.manual_seed(0)
    config_class = CONFIG_MAPPING[model_type]
    # A bert in the causal mapping is a decoder only if it is told so.
    decoder = {"is_decoder": True} if mapping == "causal" and hasattr(config_class, "is_decoder") else {}
    model = MAPPINGS[mapping][1].from_config(tiny_config(config_class, **decoder), **options).eval().float()
    stir(model, _GAIN.get(model_type, 1.5))
    return model


@torch.no_grad()
def stir(model: Any, gain: float = 1.5) -> None:
    """Give every weight a size that shows: matrices of some gain, and gains, biases and sinks off their defaults."""
    noise = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            drawn = torch.randn(parameter.shape, generator=noise)
            if parameter.dim() < 2:
                parameter.add_(0.2 * drawn)
            else:
                parameter.copy_(gain * drawn / parameter.shape[-1] ** 0.5)


def inputs(model: Any) -> dict[str, torch.Tensor]:
    """Token ids that are not special, of both sides for an encoder-decoder."""
    draw = torch.Generator().manual_seed(2)
    top = min(int(model.config.get_text_config().vocab_size), 99)
    made = {"input_ids": torch.randint(10, top, (1, SOURCE_LENGTH), generator=draw)}
    if getattr(model.config, "is_encoder_decoder", False):
        made["decoder_input_ids"] = torch.randint(10, top, (1, TARGET_LENGTH), generator=draw)
    return made
