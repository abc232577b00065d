"""Tiny random models of many families. Their attention is far from uniform; their windows are short."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from at2_prune.models.compatibility import loading_options

__all__ = ["FAMILIES", "PROBED", "Family", "build"]

WINDOW = 16
COMMON: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
EXPERTS: dict[str, Any] = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
MLA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
DELTA: dict[str, Any] = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
DEEPSEEK: dict[str, Any] = {
    **MLA,
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
}


@dataclass(frozen=True)
class Family:
    """The configuration of one family's tiny model, and the properties that are expected of it."""

    name: str
    config: str
    """The name of the configuration class in transformers."""
    options: dict[str, Any] = field(default_factory=dict)
    layers: tuple[int, ...] = (0, 1, 2, 3)
    """The layers that have attention."""
    sliding: tuple[int, ...] = ()
    """The layers that attend to `WINDOW` tokens only."""
    norm: float = 1.5
    """A factor on the weights of the q and k norms, so that attention is neither flat nor chaotic."""
    positions: bool = True
    """True if leaving tokens out, with the position ids of the others kept, gives the same as masking them."""
    cached: bool = True
    """True if the family's own passes give the same numbers, to 1e-5, with a cache and without one."""


FAMILIES: dict[str, Family] = {  # the families that the installed transformers has
    family.name: family
    for family in (
        Family("llama", "LlamaConfig"),
        Family("mistral", "MistralConfig", {"sliding_window": WINDOW}, sliding=(0, 1, 2, 3)),
        Family(
            "qwen2",
            "Qwen2Config",
            {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2},
            sliding=(2, 3),
        ),
        Family("qwen3", "Qwen3Config", {"head_dim": 16}),
        Family("qwen3-moe", "Qwen3MoeConfig", {"head_dim": 16, **EXPERTS}),
        Family("phi3", "Phi3Config", {"sliding_window": WINDOW}, sliding=(0, 1, 2, 3)),
        Family(
            "phi3-longrope",
            "Phi3Config",
            {
                "original_max_position_embeddings": 32,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "short_factor": [1.0, 1.1, 1.2, 1.3],
                    "long_factor": [2.0, 3.0, 4.0, 5.0],
                },
            },
        ),
        Family(
            "gemma2",
            "Gemma2Config",
            {
                "head_dim": 8,
                "query_pre_attn_scalar": 4,
                "sliding_window": WINDOW,
                "attn_logit_softcapping": 3.0,
                "layer_types": MIXED,
            },
            sliding=(0, 2),
        ),
        Family(
            "gemma3",
            "Gemma3TextConfig",
            {"head_dim": 8, "query_pre_attn_scalar": 4, "sliding_window": WINDOW, "layer_types": MIXED},
            sliding=(0, 2),
        ),
        Family("smollm3", "SmolLM3Config", {"no_rope_layers": [1, 0, 1, 0]}),
        Family("olmo2", "Olmo2Config"),
        Family("olmo3", "Olmo3Config", {"sliding_window": WINDOW, "layer_types": MIXED}, sliding=(0, 2)),
        Family("granite", "GraniteConfig", {"attention_multiplier": 0.7, "residual_multiplier": 0.5}),
        Family("cohere", "CohereConfig", {"use_qk_norm": True, "logit_scale": 1.0}),
        Family(
            "cohere2",
            "Cohere2Config",
            {"logit_scale": 1.0, "sliding_window": WINDOW, "layer_types": MIXED},
            sliding=(0, 2),
        ),
        Family("stablelm", "StableLmConfig", {"partial_rotary_factor": 0.5}),
        Family("starcoder2", "Starcoder2Config", {"sliding_window": WINDOW}, sliding=(0, 1, 2, 3)),
        Family("gpt2", "GPT2Config", {"n_positions": 256}),
        Family("gpt-neox", "GPTNeoXConfig"),
        Family("opt", "OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
        Family(
            "gpt-oss",
            "GptOssConfig",
            {
                "head_dim": 8,
                "sliding_window": WINDOW,
                "layer_types": MIXED,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
            },
            sliding=(0, 2),
        ),
        Family(
            "llama4",
            "Llama4TextConfig",
            {
                "head_dim": 8,
                "intermediate_size_mlp": 48,
                "attention_chunk_size": WINDOW,
                "num_local_experts": 2,
                "num_experts_per_tok": 1,
                "no_rope_layers": [1, 0, 1, 0],
                "floor_scale": 8,  # a small scale, so that the temperature changes in short texts too
            },
            positions=False,
        ),
        Family("deepseek-v3", "DeepseekV3Config", {**DEEPSEEK, "first_k_dense_replace": 2}),
        Family("minicpm3", "MiniCPM3Config", MLA),
        Family("glm4-moe-lite", "Glm4MoeLiteConfig", DEEPSEEK),
        Family(
            "gemma3n",
            "Gemma3nTextConfig",
            {
                "head_dim": 8,
                "intermediate_size": [48] * 4,
                "sliding_window": WINDOW,
                "layer_types": MIXED,
                "num_kv_shared_layers": 2,
                "vocab_size_per_layer_input": 128,
                "hidden_size_per_layer_input": 8,
                "laurel_rank": 4,
                "altup_num_inputs": 2,
                "activation_sparsity_pattern": [0.0] * 4,
            },
            sliding=(0, 2),
        ),
        Family(
            "gemma4",
            "Gemma4TextConfig",
            {
                "head_dim": 8,
                "global_head_dim": 8,
                "sliding_window": WINDOW,
                "layer_types": MIXED,
                "hidden_size_per_layer_input": 0,
                "num_kv_shared_layers": 0,
                "vocab_size_per_layer_input": 128,
            },
            sliding=(0, 2),
            norm=0.7,
        ),
        Family(
            "qwen3-next",
            "Qwen3NextConfig",
            {
                "head_dim": 8,
                **EXPERTS,
                "shared_expert_intermediate_size": 24,
                **DELTA,
                "layer_types": ["linear_attention", "full_attention"] * 2,
            },
            layers=(1, 3),
            positions=False,
        ),
        Family(
            "qwen3.5",
            "Qwen3_5TextConfig",
            {**DELTA, "head_dim": 8, "layer_types": ["linear_attention", "full_attention"] * 2},
            layers=(1, 3),
            positions=False,
        ),
        Family(
            "kimi-linear",
            "KimiLinearConfig",
            {
                **MLA,
                **EXPERTS,
                "layer_types": ["linear_attention", "full_attention"] * 2,
                "linear_head_dim": 8,
                "linear_num_heads": 2,
            },
            layers=(1, 3),
            positions=False,
        ),
        Family(
            "jamba",
            "JambaConfig",
            {
                "attn_layer_period": 2,
                "attn_layer_offset": 1,
                "num_experts": 2,
                "mamba_d_state": 8,
            },
            layers=(1, 3),
            positions=False,
        ),
        Family(
            "lfm2",
            "Lfm2Config",
            {"layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 8},
            layers=(1, 3),
            positions=False,
        ),
        Family(
            "granite-moe-hybrid",
            "GraniteMoeHybridConfig",
            {
                "layer_types": ["mamba", "attention"] * 2,
                "num_local_experts": 2,
                "shared_intermediate_size": 24,
                "mamba_n_heads": 8,
                "mamba_d_state": 8,
                "mamba_d_head": 8,
                "attention_multiplier": 0.7,
            },
            layers=(1, 3),
            positions=False,
        ),
    )
    if hasattr(transformers, family.config)
}


DECODER: dict[str, Any] = {  # the decoder of an encoder-decoder, used alone
    "is_encoder_decoder": False,
    "is_decoder": True,
    "decoder_layers": 4,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "init_std": 0.2,
    "forced_eos_token_id": None,
}
INDEXER: dict[str, Any] = {"index_topk": WINDOW, "index_n_heads": 2, "index_head_dim": 8, "first_k_dense_replace": 2}
PROBED: dict[str, Family] = {  # no table of this project lists these: the model itself is probed
    family.name: family
    for family in (
        Family(
            "minimax",
            "MiniMaxConfig",
            {
                "head_dim": 8,
                "layer_types": ["linear_attention", "full_attention"] * 2,
                "num_local_experts": 2,
                "num_experts_per_tok": 1,
                "block_size": WINDOW,
            },
            layers=(1, 3),
            positions=False,
        ),
        Family("deepseek-v32", "DeepseekV32Config", {**DEEPSEEK, **INDEXER}, positions=False, cached=False),
        Family("glm-moe-dsa", "GlmMoeDsaConfig", {**DEEPSEEK, **INDEXER}, positions=False, cached=False),
        Family(
            "moshi",
            "MoshiConfig",
            {"ffn_dim": 64, "head_dim": 8, "sliding_window": WINDOW},
            sliding=(0, 1, 2, 3),
            cached=False,
        ),
        Family("mixtral", "MixtralConfig", {"num_local_experts": 2, "num_experts_per_tok": 1}),
        Family(
            "nemotron-h",
            "NemotronHConfig",
            {
                "layers_block_type": ["mamba", "attention", "mlp", "attention"],
                "mamba_num_heads": 8,
                "mamba_head_dim": 8,
                "ssm_state_size": 8,
                "n_groups": 2,
                "head_dim": 8,
                "chunk_size": WINDOW,
            },
            layers=(1, 3),
            positions=False,
            cached=False,
        ),
        Family("bert", "BertConfig", {"is_decoder": True}),
        Family("ernie", "ErnieConfig", {"is_decoder": True}),
        Family("roc-bert", "RoCBertConfig", {"is_decoder": True}),
        *(
            Family(name, config, {"is_decoder": True}, cached=False)
            for name, config in (
                ("roberta", "RobertaConfig"),
                ("roberta-prelayernorm", "RobertaPreLayerNormConfig"),
                ("camembert", "CamembertConfig"),
                ("xlm-roberta", "XLMRobertaConfig"),
                ("xlm-roberta-xl", "XLMRobertaXLConfig"),
                ("data2vec-text", "Data2VecTextConfig"),
            )
        ),
        Family("bart", "BartConfig", DECODER, positions=False),
    )
    if hasattr(transformers, family.config)
}


def build(name: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Make a tiny model of a family, in evaluation mode and float32 on the CPU. Every call gives the same model."""
    family = (FAMILIES | PROBED)[name]
    config = getattr(transformers, family.config)(**{**COMMON, **family.options, **options})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, **loading_options(config))
    with torch.no_grad():  # norms, biases and sinks start as constants, which would hide a mix-up
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() == 1 and any(word in parameter_name for word in ("norm", "bias", "sinks")):
                parameter.add_(0.2 * torch.randn_like(parameter))
            if re.search(r"(q|k|query|key)_(layer)?norm", parameter_name):
                parameter.mul_(family.norm)
    return model.eval()
