"""What a kind of model allows: the room for every rule about model families.

Other modules ask a `Compatibility`, or the functions here; none of them looks at a model's config or signature itself.
How attention is hooked is the one exception: `at2_prune.attention.hooks` checks the attention function itself.
"""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicCache

from .kv_cache import grows

__all__ = ["THOUGHTS", "Compatibility", "attention_shape", "context_length", "layer_types"]

THOUGHTS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),
)
"""How reasoning models open and close their thoughts; the answer follows the closing marker."""


def context_length(config: PretrainedConfig) -> int | None:
    """The tokens that a model can take, prompt and answer together; None if its config does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def attention_shape(config: PretrainedConfig) -> tuple[int | None, int | None]:
    """The number of layers and of attention heads a layer; None for what the config does not say."""
    text = config.get_text_config()
    return getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)


def layer_types(config: PretrainedConfig) -> tuple[str, ...]:
    """The kind of each layer, such as `full_attention` or `sliding_attention`; empty if the config does not say."""
    return tuple(getattr(config.get_text_config(), "layer_types", None) or ())


class Compatibility:
    """What one model allows.

    Args:
        model: a causal language model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._config: Any = model.config.get_text_config()
        takes = inspect.signature(model.forward).parameters
        self.keeps_logits = "logits_to_keep" in takes
        """Whether the output projection can be run for the last rows only."""
        self.takes_positions = "position_ids" in takes
        """Whether a forward pass takes position ids."""

    @cached_property
    def has_backbone(self) -> bool:
        """Whether the layers run without the output projection: some models call that projection their decoder."""
        backbone = self._model.get_decoder()
        return isinstance(backbone, PreTrainedModel) and backbone.get_output_embeddings() is None

    @cached_property
    def carries_state(self) -> bool:
        """Whether some layer passes a state over every token, masked or not: recurrent and convolution layers do."""
        kinds = layer_types(self._model.config)
        return bool(getattr(self._model, "_is_stateful", False)) or any("attention" not in kind for kind in kinds)

    @cached_property
    def rotates_by_length(self) -> bool:
        """Whether rotary embeddings depend on the text's length, so that a prefix's keys cannot be used again."""
        rope = getattr(self._config, "rope_parameters", None) or {}
        kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
        return any(kind.get("rope_type") in ("longrope", "dynamic") for kind in kinds)

    @cached_property
    def shares_prefixes(self) -> bool:
        """Whether a prefix that two sequences share can be computed once, and its keys and values used for both."""
        return not self.carries_state and not self.rotates_by_length

    @cached_property
    def pads_exactly(self) -> bool:
        """Whether a padded batch computes what each of its sequences would alone.

        It does not where positions count the padding, nor where rotary embeddings go by the longest sequence.
        """
        by_index = getattr(self._config, "attn_temperature_tuning", False)
        return self.takes_positions and not self.rotates_by_length and not by_index

    @cached_property
    def joins_caches(self) -> bool:
        """Whether the caches of several sequences can become the cache of a padded batch of them."""
        if not (self.shares_prefixes and self.pads_exactly):
            return False
        return all(map(grows, DynamicCache(config=self._config).layers))
