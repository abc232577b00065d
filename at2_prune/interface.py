"""The one place this package hooks into transformers: attention and mask functions under our own names.

`AttentionInterface` hands every attention layer's query, key and value to a function chosen by name, after
projections, q/k norm, rotary embedding and the cache update. The functions registered here run the model's own
kernel unchanged and, when somebody is listening, pass query, key and mask on to the listener. No listener: a pure
pass-through. Listeners and position maps live in context variables, so threads that share a model do not see each
other's.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .errors import ModelNotSupportedError

__all__ = ["AttentionListener", "enable_attention_reading", "listening", "model_eager_attention", "original_positions"]

PREFIX = "at2_"
EAGER_ROWS = 256  # query rows handed to a model's eager attention at once: bounds its rows x keys weights


class AttentionListener(Protocol):
    """Called once a layer, with what the layer's own kernel received."""

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,  # (batch, heads, new tokens, head dim)
        key: torch.Tensor,  # (batch, key/value heads, keys, head dim)
        value: torch.Tensor,  # (batch, key/value heads, keys, value dim)
        attention_mask: torch.Tensor | None,
        kernel: str,
        options: dict[str, Any],
    ) -> None: ...


_listener: ContextVar[AttentionListener | None] = ContextVar("at2_prune_listener", default=None)
_positions: ContextVar[torch.Tensor | None] = ContextVar("at2_prune_positions", default=None)


@contextmanager
def listening(listener: AttentionListener) -> Iterator[None]:
    """Pass the attention inputs of every layer that runs in this context to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def original_positions(positions: torch.Tensor) -> Iterator[None]:
    """Build attention masks as if token `i` of the sequence stood at `positions[i]`.

    Dropping tokens from the input while keeping the others' position ids is the same computation as masking the
    dropped ones, at the cost of the kept ones only; sliding windows and chunks, which transformers measures by index,
    are the exception that this mends.
    """
    token = _positions.set(positions)
    try:
        yield
    finally:
        _positions.reset(token)


def model_eager_attention(module: torch.nn.Module) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The eager attention function of the file that defines `module`: the family's own reference."""
    function = getattr(sys.modules.get(type(module).__module__), "eager_attention_forward", None)
    if function is None:
        raise ModelNotSupportedError(
            f"{type(module).__name__} ({type(module).__module__}) has no eager_attention_forward, so its attention "
            "cannot be read; use a model whose transformers implementation has one."
        )
    return function


def _notify(module: torch.nn.Module, query: Any, key: Any, value: Any, mask: Any, kernel: str, options: dict) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(module, query, key, value, mask, kernel, options)


def _kernel_with_listener(kernel: str) -> Callable:
    def attention(module, query, key, value, attention_mask, **options):  # type: ignore[no-untyped-def]
        _notify(module, query, key, value, attention_mask, kernel, options)
        return ALL_ATTENTION_FUNCTIONS[kernel](module, query, key, value, attention_mask, **options)

    return attention


def _eager_with_listener(module, query, key, value, attention_mask, **options):  # type: ignore[no-untyped-def]
    """The model's own eager attention, block by block of query rows, so that no tokens x tokens weights exist."""
    _notify(module, query, key, value, attention_mask, "eager", options)
    eager = model_eager_attention(module)
    outputs = []
    for start in range(0, query.shape[2], EAGER_ROWS):
        rows = slice(start, start + EAGER_ROWS)
        mask = attention_mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., rows, :]
        outputs.append(eager(module, query[:, :, rows], key, value, mask, **options)[0])
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)), None


def _mask_with_positions(kernel: str) -> Callable:
    build = ALL_MASK_ATTENTION_FUNCTIONS[kernel]

    def mask(*args: Any, **options: Any) -> Any:
        positions = _positions.get()
        function = options.get("mask_function")
        if positions is None or function is None:
            return build(*args, **options)

        def at_original_positions(batch: Any, head: Any, query: Any, key: Any) -> Any:
            last = positions.shape[0] - 1
            return function(batch, head, positions[query.clamp(max=last)], positions[key.clamp(max=last)])

        local_size = options.get("local_size")
        if local_size is not None and int(positions[-1]) >= local_size:
            options["allow_is_causal_skip"] = False
        return build(*args, **{**options, "mask_function": at_original_positions})

    return mask


def enable_attention_reading(model: PreTrainedModel) -> None:
    """Let listeners see `model`'s attention; its outputs do not change. Idempotent.

    The kernel the model was loaded with stays in use (sdpa, flash attention, or the family's own eager attention
    where it supports nothing faster).

    Raises:
        ModelNotSupportedError: the model is not a decoder, does not go through `AttentionInterface`, or uses a kernel
            whose inputs cannot be read row by row (flex attention, paged attention).
    """
    config = model.config
    current = config._attn_implementation
    if current is not None and current.startswith(PREFIX):
        return
    name = f"{type(model).__name__} (model type {config.model_type!r})"
    if getattr(config, "is_encoder_decoder", False):
        raise ModelNotSupportedError(f"{name} is an encoder-decoder; at2-prune reads decoder-only language models.")
    if not model._can_set_attn_implementation():
        raise ModelNotSupportedError(
            f"{name} does not go through transformers' AttentionInterface, so its attention cannot be read while its "
            "own kernel runs; use another model family."
        )
    source = inspect.getsource(sys.modules[type(model).__module__])
    if re.search(r"""_attn_implementation\s*(==|in)[^\n]*["']sdpa["']""", source):
        raise ModelNotSupportedError(
            f"{name} treats the attention function called 'sdpa' unlike every other, so a function that listens would "
            "change its outputs; use another model family."
        )
    if not (current == "sdpa" or current == "eager" or (current or "").startswith("flash_attention")):
        raise ModelNotSupportedError(
            f"{name} runs attn_implementation={current!r}, whose attention cannot be read; load it with "
            "attn_implementation='sdpa' (or 'eager')."
        )
    registered = PREFIX + current
    if registered not in ALL_ATTENTION_FUNCTIONS.valid_keys():
        AttentionMaskInterface.register(registered, _mask_with_positions(current))
        AttentionInterface.register(
            registered, _eager_with_listener if current == "eager" else _kernel_with_listener(current)
        )
    model.set_attn_implementation(registered)
    if model.config._attn_implementation != registered:
        raise ModelNotSupportedError(f"{name} refused the attention function {registered!r}; use another model family.")
