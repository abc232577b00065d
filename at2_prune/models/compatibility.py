"""Holds all rules about model families. The rules say which ways of running a model give exact results.

Other modules ask a `Compatibility` object, or call the functions of this module. They do not read a model's config or
signature to decide how to run the model. There are three exceptions:

- `at2_prune.attention.hooks` checks the attention function that it replaces, and refuses encoder-decoders.
- `at2_prune.models.probe` and `at2_prune.models.probe_trial` read the config to choose the token sequences of a probe.
- `at2_prune.models.kv_cache` reads the signature to find the name of the cache argument.

A claim, such as `shares_prefixes`, says that two ways of running a model give the same numbers. Each claim rests on one
of three grounds:

- a property that the model or its config states, such as a rotary embedding that depends on the text's length;
- this project's tests, for the model types and the layer kinds that this module lists;
- a measurement on the model itself, for all other models; see `at2_prune.models.probe`.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from ..errors import ModelNotSupportedError
from .kv_cache import grows
from .probe import Claim, measure
from .probe_trial import Subject

__all__ = [
    "THOUGHTS",
    "Compatibility",
    "attention_shape",
    "check_causal",
    "check_class",
    "context_length",
    "layer_types",
    "loading_options",
    "output_projection",
]

THOUGHTS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
"""The markers with which reasoning models open and close their thoughts. The answer follows the closing marker."""

TESTED_TYPES = frozenset(
    {
        "cohere",
        "cohere2",
        "deepseek_v3",
        "gemma2",
        "gemma3",
        "gemma3_text",
        "gemma3n_text",
        "gemma4",
        "gemma4_text",
        "glm4_moe_lite",
        "gpt2",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "granitemoehybrid",
        "jamba",
        "kimi_linear",
        "lfm2",
        "llama",
        "llama4_text",
        "minicpm3",
        "mistral",
        "olmo2",
        "olmo3",
        "opt",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_5",
        "qwen3_5_text",
        "qwen3_moe",
        "qwen3_next",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
"""The model types for which the tests check all claims. They are the types in `FAMILIES` of `benchmarks/families.py`,
and the vision-language models that contain such a language model."""

ATTENTION_KINDS = frozenset({"attention", "full_attention", "sliding_attention", "chunked_attention"})
"""Layer kinds that pass only keys and values from token to token, in the tested model types."""

RECURRENT_KINDS = frozenset(
    {"linear_attention", "conv", "mamba", "mamba2", "recurrent", "hybrid", "hybrid_sliding", "gated_deltanet"}
)
"""Layer kinds that pass a state from token to token. A state cannot be shared, and no token can be removed from it."""


def context_length(config: PretrainedConfig) -> int | None:
    """Return the maximum number of tokens in prompt and answer together. It is None if the config does not give it."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def attention_shape(config: PretrainedConfig) -> tuple[int | None, int | None]:
    """Return the number of layers and of attention heads per layer. A number that the config does not give is None."""
    text = config.get_text_config()
    return getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)


def layer_types(config: PretrainedConfig) -> tuple[str, ...]:
    """Return the kind of each layer, such as `full_attention`. If the config does not give the kinds, return ()."""
    return tuple(getattr(config.get_text_config(), "layer_types", None) or ())


def loading_options(config: PretrainedConfig) -> dict[str, Any]:
    """Return the options that `from_pretrained` needs for a model with this config.

    Some models, such as Gemma 2, have a soft-cap on attention logits. For these models, this function chooses eager
    attention, unless the installed sdpa kernel takes a soft-cap. Up to transformers 5.20, the sdpa kernel ignores the
    soft-cap without an error. Later versions of transformers choose eager attention themselves.
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    takes_cap = "softcap" in inspect.signature(sdpa_attention_forward).parameters
    return {"attn_implementation": "eager"} if capped and not takes_cap else {}


def check_causal(config: PretrainedConfig) -> None:
    """Raise `ModelNotSupportedError` if a model with this config cannot write text.

    transformers can load an encoder, such as BERT, as a causal model. But an encoder's tokens attend to later tokens,
    unless the config sets `is_decoder`. The config of an encoder-decoder, such as BART, is accepted here, because the
    decoder alone can write text.
    """
    # An encoder that can also be a decoder, such as BERT, has both `add_cross_attention` and `is_decoder`.
    if (
        hasattr(config, "add_cross_attention")
        and getattr(config, "is_decoder", None) is False
        and not getattr(config, "is_encoder_decoder", False)
    ):
        raise ModelNotSupportedError(
            f"a model of type {config.model_type!r} is an encoder, which cannot write an answer; {_INSTEAD}"
        )


def check_class(config: PretrainedConfig) -> None:
    """Raise `ModelNotSupportedError` if no class for causal language models belongs to this config.

    The class may come from transformers, or from code that comes with the model.
    """
    own = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if own or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    what = "an encoder-decoder" if getattr(config, "is_encoder_decoder", False) else "no causal language model"
    raise ModelNotSupportedError(f"a model of type {config.model_type!r} is {what}; {_INSTEAD}")


_INSTEAD = "at2-prune needs a decoder-only language model, such as Qwen/Qwen3-0.6B"


class Compatibility:
    """Tells which shortcuts give exact results with a model.

    Shortcuts are shared prefixes, padded batches, joined caches and dropped tokens.

    When a claim about an untested model is first used, the claim is measured: the model runs on short random sequences.
    The result is stored for the model, so no claim is measured twice. A claim that cannot be measured counts as false.
    The model then runs without the shortcut, which is slower but exact.

    Args:
        model: a causal language model in evaluation mode.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._config: Any = model.config.get_text_config()
        takes = inspect.signature(model.forward).parameters
        self.keeps_logits = "logits_to_keep" in takes
        """True if the output projection can be run for the last rows only."""
        self.takes_positions = "position_ids" in takes
        """True if a forward pass takes position ids."""

    def measure(self) -> None:
        """Decide every property that may need a probe. Later calls then spend no time on a probe."""
        for claim in ("shares_prefixes", "pads_exactly", "joins_caches", "carries_state"):
            getattr(self, claim)

    @cached_property
    def has_backbone(self) -> bool:
        """Return whether the layers can be run without the output projection.

        The result is False for a model class whose `get_decoder` returns a module that includes the output projection.
        """
        backbone = self._model.get_decoder()
        return isinstance(backbone, PreTrainedModel) and backbone.get_output_embeddings() is None

    @cached_property
    def is_tested(self) -> bool:
        """Return whether the tests of this project check the claims for this type of model and its kinds of layers."""
        types = {self._model.config.model_type, self._config.model_type}
        # A class that comes with a model (trust_remote_code) may use the name of a tested type.
        own_class = type(self._model).__module__.startswith("transformers.models.")
        bidirectional = getattr(self._config, "use_bidirectional_attention", None) in (True, "all")
        # Layers that share the keys of another layer are tested for Gemma 3n only.
        shares_keys = (
            bool(getattr(self._config, "num_kv_shared_layers", 0)) and self._config.model_type != "gemma3n_text"
        )
        kinds = set(layer_types(self._model.config))
        return (
            own_class
            and types <= TESTED_TYPES
            and kinds <= ATTENTION_KINDS | RECURRENT_KINDS
            # A config of a tested type may have these settings, but no test covers them.
            and not (bidirectional or shares_keys)
        )

    @cached_property
    def carries_state(self) -> bool:
        """Return whether a pass with masked tokens and a pass without these tokens give different results.

        In both passes, the other tokens keep their position ids.

        The results differ in a model with recurrent or convolution layers, because such a layer passes a state over
        masked tokens too. They also differ if attention depends on the number of earlier tokens instead of position
        ids.
        """
        if self._is_recurrent or self._counts_tokens:
            return True
        return not (self.is_tested or self._measured("drops_exactly"))

    @cached_property
    def rotates_by_length(self) -> bool:
        """Return whether rotary embeddings depend on the text's length. If so, a prefix's keys cannot be reused."""
        rope = getattr(self._config, "rope_parameters", None) or {}
        kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
        return any(kind.get("rope_type") in ("longrope", "dynamic") for kind in kinds)

    @cached_property
    def shares_prefixes(self) -> bool:
        """Return whether a prefix's keys and values can be computed once for all sequences that begin with it."""
        if self._is_recurrent or self.rotates_by_length:
            return False
        return self.is_tested or self._measured("shares_prefixes")

    @cached_property
    def pads_exactly(self) -> bool:
        """Return whether a batch that is padded on the left gives the same results as each sequence alone.

        The results differ if attention counts the padding as tokens, if rotary embeddings depend on the longest
        sequence, or if a forward pass takes no position ids.
        """
        if not self.takes_positions or self.rotates_by_length or self._counts_tokens:
            return False
        return self.is_tested or self._measured("pads_exactly")

    @cached_property
    def joins_caches(self) -> bool:
        """Return whether the caches of several sequences can be joined into the cache of one padded batch."""
        if not (self.shares_prefixes and self.pads_exactly):
            return False
        if not all(map(grows, DynamicCache(config=self._config).layers)):
            return False
        return self.is_tested or self._measured("joins_caches")

    @property
    def _is_recurrent(self) -> bool:
        stateful = bool(getattr(self._model, "_is_stateful", False))  # transformers sets this attribute
        return stateful or not RECURRENT_KINDS.isdisjoint(layer_types(self._model.config))

    @property
    def _counts_tokens(self) -> bool:
        """Return whether attention depends on a token's index in the padded sequence.

        This is so in Llama 4, where the temperature of attention depends on the index.
        """
        return bool(getattr(self._config, "attn_temperature_tuning", False))

    def _measured(self, claim: Claim) -> bool:
        backbone = self._model.get_decoder() if self.has_backbone else None
        return measure(Subject(self._model, self.keeps_logits, self.takes_positions, backbone), claim)


def output_projection(attention: torch.nn.Module) -> torch.nn.Module:
    """Return the output projection of an attention layer. It maps the joined outputs of the heads to the model's width.

    Raises:
        ModelNotSupportedError: the layer has no output projection under a known name.
    """
    for name in ("o_proj", "out_proj", "c_proj", "dense", "wo"):
        module = getattr(attention, name, None)
        if isinstance(module, torch.nn.Module):
            return module
    raise ModelNotSupportedError(
        f"this method needs the output projection of {type(attention).__name__}, but no module in it has the name of "
        "an output projection; use another method"
    )
