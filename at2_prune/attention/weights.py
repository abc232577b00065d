"""Computes the attention weights of some rows, as eager attention, sdpa and flash attention compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .hooks import model_eager_attention, options_of, rows_of

__all__ = [
    "LayerInputs",
    "allowed_keys",
    "eager_weights",
    "fused_sums",
    "kernel_weights",
    "scaled_logits",
    "softmax_weights",
]


class LayerInputs(NamedTuple):
    """The inputs of the attention kernel in one layer."""

    module: torch.nn.Module
    query: torch.Tensor
    """`(batch, heads, new tokens, head dim)`."""
    key: torch.Tensor
    """`(batch, key/value heads, keys, head dim)`."""
    value: torch.Tensor
    """`(batch, key/value heads, keys, value dim)`."""
    attention_mask: torch.Tensor | None
    options: dict[str, Any]
    """The scaling, the soft-cap, the window, and any other option that the model family passes to the kernel."""


def eager_weights(inputs: LayerInputs, item: int, rows: slice) -> torch.Tensor:
    """Return the attention weights `(heads, rows, keys)` of some rows, from the model's own eager function.

    The weights include the effect of soft-caps and sinks.
    """
    module, query, key, value, attention_mask, options = inputs
    one = slice(item, item + 1)
    mask = None if attention_mask is None else rows_of(attention_mask, rows, item)
    options = {**options_of(options, query.shape[2], rows, item), "dropout": 0.0}
    _, weights = model_eager_attention(module)(module, query[one, :, rows], key[one], value[one], mask, **options)
    return weights[0].float()


def kernel_weights(inputs: LayerInputs, item: int, rows: slice) -> torch.Tensor:
    """Return the attention weights `(heads, rows, keys)` of a few rows, as sdpa and flash attention use them."""
    _, query, key, _, attention_mask, options = inputs
    added = []
    if options.get("position_bias") is not None:
        added.append(rows_of(options["position_bias"], rows, item)[0])
    if attention_mask is not None and attention_mask.is_floating_point() and attention_mask.dim() == 4:
        added.append(rows_of(attention_mask, rows, item)[0])
    allowed = allowed_keys(inputs, item, rows)
    return softmax_weights(query[item, :, rows], key[item], allowed, options, added)


def fused_sums(inputs: LayerInputs, item: int, rows: slice, indicators: torch.Tensor) -> torch.Tensor:
    """Return the sums of attention weights over sets of keys, for many rows, from the fused kernel of sdpa.

    The output of attention is a weighted sum of values. Here, the value of a key is 1 if the key is in the set, and 0
    otherwise. So the output is the sum of the weights over the set. The fused kernel stores no matrix of rows x keys.
    The kernel runs in the model's precision, and takes about as long as the model's own attention.

    Args:
        inputs: the inputs of a layer that runs sdpa, without a position bias.
        item: the index of the sequence.
        rows: the rows.
        indicators: the values of the keys, `(parts, keys, head dim)`. Each set of keys has one column. The number of
            columns in one pass of the kernel is at most the head dimension. So the columns are divided into parts.

    Returns:
        The sums, `(heads, rows, parts x head dim)` float32.
    """
    module, query, key, _, attention_mask, options = inputs
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    first, stop = rows.start, key.shape[2]
    mask: torch.Tensor | None = None
    if attention_mask is None and causal and query.shape[2] == key.shape[2]:
        # The kernel is called with `is_causal=True`, so that it skips later keys. Its causal mask assumes that the
        # first row has position 0. So the earlier rows are run too.
        rows, stop = slice(0, rows.stop), rows.stop
    elif attention_mask is not None and attention_mask.is_floating_point() and attention_mask.dim() == 4:
        mask, causal = rows_of(attention_mask, rows, item).to(query.dtype), False
    else:
        mask, causal = allowed_keys(inputs, item, rows)[None], False
    q, k = query[item : item + 1, :, rows], key[item : item + 1, :, :stop]
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    sums = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, part[:stop].expand_as(k), mask, is_causal=causal, scale=options.get("scaling")
        )
        for part in indicators
    ]
    return torch.cat(sums, dim=-1)[0, :, first - rows.start :].float()


def softmax_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    allowed: torch.Tensor,
    options: dict[str, Any],
    added: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """Return the softmax of the attention logits of some rows of one sequence, `(heads, rows, keys)`.

    Args:
        query: the queries of the rows, `(heads, rows, head dim)`.
        key: the keys of the sequence, `(key/value heads, keys, head dim)`.
        allowed: `(heads or 1, rows or 1, keys)` bool, True where a row may attend to a key.
        options: the kernel's options. Scaling, soft-cap and sinks are used.
        added: biases that are added to the logits.
    """
    heads, count, width = query.shape
    scaling = options.get("scaling")
    scaled = query.float() * (width**-0.5 if scaling is None else scaling)
    # The kernels do not round the logits to 16 bits, so the logits are float32 here too.
    logits = scaled_logits(scaled, key.float(), options.get("softcap"))
    for bias in added:
        logits += bias
    logits.masked_fill_(~allowed, torch.finfo(logits.dtype).min)
    sinks = options.get("s_aux")
    if sinks is None:
        return logits.softmax(dim=-1)
    sink = sinks.reshape(-1, 1, 1).expand(heads, count, 1).float()
    return torch.cat([logits, sink], dim=-1).softmax(dim=-1)[..., :-1]


def scaled_logits(rows: torch.Tensor, keys: torch.Tensor, softcap: float | None = None) -> torch.Tensor:
    """Return the attention logits of scaled queries.

    Args:
        rows: the queries, multiplied by the layer's scaling, `(heads, rows, head dim)`.
        keys: the keys, `(key/value heads, keys, head dim)`. Several heads may share one key/value head.
        softcap: the soft-cap of the logits. It is None if the layer has no soft-cap.

    Returns:
        The logits, `(heads, rows, keys)`.
    """
    heads, count, width = rows.shape
    grouped = rows.reshape(keys.shape[0], -1, width)  # (key/value heads, heads of the group x rows, head dim)
    logits = (grouped @ keys.transpose(1, 2)).reshape(heads, count, -1)
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def allowed_keys(inputs: LayerInputs, item: int, rows: slice) -> torch.Tensor:
    """Return a mask of the keys that rows may attend to.

    The mask excludes later keys, keys outside the window, and padding.

    Returns:
        `(heads or 1, rows or 1, keys)` bool, True where a row may attend to a key.
    """
    module, query, key, _, attention_mask, options = inputs
    if attention_mask is not None and attention_mask.dim() == 4:
        mask = rows_of(attention_mask, rows, item)[0]
        return mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    keys = key.shape[2]
    allowed = torch.ones(1, 1, keys, dtype=torch.bool, device=key.device)
    causal = options.get("is_causal")
    if getattr(module, "is_causal", True) if causal is None else causal:
        at = torch.arange(keys, device=key.device) + query.shape[2] - keys  # positions relative to the first new token
        row = torch.arange(rows.start, rows.stop, device=key.device)[:, None]
        allowed = allowed & (at <= row)
        if options.get("sliding_window") is not None:
            allowed &= at > row - options["sliding_window"]
    if attention_mask is not None:  # the mask of flash attention: (batch, tokens so far), 0 for padding
        allowed = allowed & attention_mask[item, None, None, -keys:].bool()
    return allowed
