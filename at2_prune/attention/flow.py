"""Keeps the attention weights and the values of every layer during one forward pass over one prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from ..errors import ModelNotSupportedError
from .hooks import enable_attention_reading, listening
from .weights import LayerInputs, eager_weights, kernel_weights

__all__ = ["LayerFlow", "read_flow"]


class LayerFlow(NamedTuple):
    """The attention weights and the values of one layer."""

    module: torch.nn.Module
    """The attention module."""
    weights: torch.Tensor
    """The attention weights, `(heads, tokens, tokens)` float32."""
    values: torch.Tensor
    """The value of each token for each head, `(heads, tokens, width)`. If several heads share values, the values are
    repeated for each head."""


@contextmanager
def read_flow(model: PreTrainedModel) -> Iterator[list[LayerFlow]]:
    """Keep the attention weights and the values of every layer that runs in this context, in the order of the layers.

    Memory must hold the weights of all layers. Their number is layers x heads x tokens x tokens. The model must run one
    sequence without a cache.

    Raises:
        ModelNotSupportedError: the model's attention cannot be read, or the number of keys in a layer differs from the
            number of tokens.
    """
    enable_attention_reading(model)
    layers: list[LayerFlow] = []

    def keep(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        kernel: str,
        options: dict[str, Any],
    ) -> None:
        if key.shape[2] != query.shape[2]:
            raise ModelNotSupportedError(
                f"{type(module).__name__} attends to {key.shape[2]} keys in a pass over {query.shape[2]} tokens, so "
                "its keys and tokens do not correspond; use another model"
            )
        if kernel == "sdpa":  # sdpa takes its window from the mask, and has no soft-cap and no sinks
            options = {**options, "sliding_window": None, "softcap": None, "s_aux": None}
        inputs = LayerInputs(module, query, key, value, attention_mask, options)
        read = eager_weights if kernel == "eager" else kernel_weights
        with torch.no_grad():
            weights = read(inputs, 0, slice(0, query.shape[2]))
            shared = query.shape[1] // value.shape[1]
            layers.append(LayerFlow(module, weights, value[0].detach().repeat_interleave(shared, dim=0)))

    with listening(keep):
        yield layers
