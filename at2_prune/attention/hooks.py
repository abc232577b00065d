"""Hooks into transformers. A listener gets the inputs of each attention layer. `original_positions` sets the positions
that attention masks use.

Only this module of at2-prune replaces functions of transformers. In transformers, each attention layer calls a
function that `AttentionInterface` finds by name. The function gets the query, the key and the value. Projections, q/k
norm, rotary embedding and the cache update are already done. If there is a listener, the functions of this module first
pass these inputs and the mask to the listener. Then they run the model's own kernel unchanged. The listener and the
positions are context variables. So each thread has its own listener and positions, even if several threads share a
model.

The functions are registered as `at2_sdpa` and `at2_eager`. But some kernels must keep their name. Flash attention loads
its implementation by name. Some model families test for the name of a kernel, for example to build other masks for
`sdpa`. In these cases, the function of this module is registered under the name of the kernel that it replaces.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..errors import ModelNotSupportedError

__all__ = [
    "AttentionListener",
    "enable_attention_reading",
    "listening",
    "model_eager_attention",
    "options_of",
    "original_positions",
    "rows_of",
]

PREFIX = "at2_"
EAGER_ROWS = 256
"""The maximum number of query rows in one call of a model's eager attention. This limits the memory for the weights."""


class AttentionListener(Protocol):
    """A function that is called for each layer in each forward pass. It gets the inputs of the layer's kernel."""

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
_enabling = threading.Lock()


@contextmanager
def listening(listener: AttentionListener) -> Iterator[None]:
    """Call `listener` for every attention layer that runs in this context, with the inputs of the layer's kernel."""
    if "torch._dynamo" in sys.modules:  # the model may be compiled, and the compiler must not trace the listener
        _stay_out_of_graphs()
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def original_positions(positions: torch.Tensor) -> Iterator[None]:
    """Build attention masks as if token `i` of the sequence had the position `positions[i]`.

    In this context, a pass can drop some tokens while the other tokens keep their position ids. The result is the same
    as if the dropped tokens were masked, but only the kept tokens cost time. transformers itself measures sliding
    windows and chunks by the index of a token, so dropped tokens would move the borders of windows and chunks. The
    masks in this context measure by position.

    Recurrent and convolutional layers (Mamba, Qwen3-Next, LFM2) run over masked tokens, but not over dropped tokens. In
    a model with such layers, dropped and masked tokens give different results; see `Compatibility.carries_state`.

    Args:
        positions: `(tokens,)` for one sequence, `(sequences, tokens)` for a batch. In a batch, the `n` padding tokens
            of a sequence have the positions 0 to `n - 1`, and `n` is added to the positions of the other tokens.
    """
    token = _positions.set(torch.atleast_2d(positions))
    try:
        yield
    finally:
        _positions.reset(token)


def model_eager_attention(module: torch.nn.Module) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Return the eager attention function of a model family, from the file that defines the class of `module`.

    The eager attention function is the reference implementation of the family's attention.

    Raises:
        ModelNotSupportedError: the file has no eager attention function.
    """
    function = getattr(sys.modules.get(type(module).__module__), "eager_attention_forward", None)
    if function is None:
        raise ModelNotSupportedError(
            f"{type(module).__name__} ({type(module).__module__}) has no eager_attention_forward, so its attention "
            "cannot be read; use a model whose implementation in transformers has this function."
        )
    return function


def rows_of(tensor: torch.Tensor, rows: slice, item: int | None = None) -> torch.Tensor:
    """Return the part of a mask or bias that belongs to some rows.

    Args:
        tensor: the mask or bias, `(batch or 1, heads or 1, rows or 1, keys)`.
        rows: the rows.
        item: the index of a sequence. If it is given, the part belongs to this sequence of the batch only.
    """
    if item is not None and tensor.shape[0] > 1:
        tensor = tensor[item : item + 1]
    return tensor if tensor.shape[2] == 1 else tensor[:, :, rows]


def options_of(options: dict[str, Any], new: int, rows: slice, item: int | None = None) -> dict[str, Any]:
    """Return the options of a kernel for some of its rows.

    A tensor with an entry for each row is cut to the entries of `rows`.

    Args:
        options: the options of the kernel for the whole pass.
        new: the number of rows in the whole pass.
        rows: the rows to keep.
        item: the index of a sequence. If it is given, a tensor is also cut to this sequence of the batch.
    """
    return {
        name: rows_of(option, rows, item)
        if isinstance(option, torch.Tensor) and option.dim() == 4 and option.shape[2] == new
        else option
        for name, option in options.items()
    }


def _notify(module: torch.nn.Module, query: Any, key: Any, value: Any, mask: Any, kernel: str, options: dict) -> None:
    listener = _listener.get()
    if listener is not None:
        _call(listener, module, query, key, value, mask, kernel, options)


def _call(listener: AttentionListener, *inputs: Any) -> None:
    listener(*inputs)


@functools.cache
def _stay_out_of_graphs() -> None:
    """Keep `_call` out of compiled graphs. Only the first call in a process has an effect.

    It is not enough to disable compilation for the listener alone. A graph that contains `_call` stores the listener
    that was set at compilation. Later passes then call this old listener (seen with torch 2.13 and 2.14).
    """
    global _call
    _call = torch.compiler.disable(_call)


@dataclass(frozen=True)
class _ListeningKernel:
    kernel: str
    original: Callable[..., Any]

    def __call__(self, module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> Any:
        _notify(module, query, key, value, attention_mask, self.kernel, options)
        if _positions.get() is not None and "flash" in self.kernel:
            options.pop("position_ids", None)  # flash attention would start a new sequence at a gap in the ids
        return self.original(module, query, key, value, attention_mask, **options)


def _listening_eager(module, query, key, value, attention_mask, **options):  # type: ignore[no-untyped-def]
    """Run the model's own eager attention in blocks of query rows, so that no tokens x tokens matrix is in memory.

    With `output_attentions=True`, the caller wants the whole matrix, so all rows run at once.
    """
    _notify(module, query, key, value, attention_mask, "eager", options)
    eager = model_eager_attention(module)
    if query.shape[2] <= EAGER_ROWS or options.get("output_attentions"):
        return eager(module, query, key, value, attention_mask, **options)
    outputs = []
    for start in range(0, query.shape[2], EAGER_ROWS):
        rows = slice(start, start + EAGER_ROWS)
        mask = None if attention_mask is None else rows_of(attention_mask, rows)
        some = options_of(options, query.shape[2], rows)
        outputs.append(eager(module, query[:, :, rows], key, value, mask, **some)[0])
    return torch.cat(outputs, dim=1), None


@dataclass(frozen=True)
class _PositionedMask:
    kernel: str
    original: Callable[..., Any]

    def __call__(self, *args: Any, **options: Any) -> Any:
        positions = _positions.get()
        function = options.get("mask_function")
        if positions is None or function is None:
            return self.original(*args, **options)
        last = positions.shape[1] - 1
        window = options.get("local_size")
        if window is not None and int(positions[:, -1].max()) >= window:
            gaps = positions[:, -1] - positions[:, 0] > last
            if "flash" in self.kernel and bool(gaps.any()):
                raise ModelNotSupportedError(
                    f"{self.kernel} measures its window of {window} tokens by index, so tokens cannot be left out "
                    "while the other tokens keep their positions; load the model with attn_implementation='sdpa'"
                )
            options["allow_is_causal_skip"] = False

        def at_original_positions(batch: Any, head: Any, query: Any, key: Any) -> Any:
            at = [positions[batch, index.clamp(max=last)] for index in (query, key)]
            return function(batch, head, *at)

        return self.original(*args, **{**options, "mask_function": at_original_positions})


def enable_attention_reading(model: PreTrainedModel) -> None:
    """Prepare a model so that listeners are called for its attention layers. A second call changes nothing.

    The model's outputs do not change. The model keeps the kernel that it was loaded with: sdpa, flash attention, or the
    family's own eager attention. In a model for images or sound, only the language model inside it is prepared.

    Raises:
        ModelNotSupportedError: the model is not a decoder, or its attention does not go through `AttentionInterface`.
            The error is also raised for PEFT adapters with virtual tokens, and for kernels whose inputs cannot be read
            row by row (flex attention, paged attention).
    """
    with _enabling:
        _enable(model)


def _enable(model: PreTrainedModel) -> None:
    adapter: Any = getattr(model, "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise ModelNotSupportedError(
            f"a PEFT adapter of type {adapter.peft_type.value} adds tokens of its own to the prompt, so the positions "
            "of the passages in the prompt are unknown; use an adapter that adds no tokens, such as LoRA"
        )
    name = f"{type(model).__name__} (model type {model.config.model_type!r})"
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelNotSupportedError(f"{name} is an encoder-decoder; at2-prune reads decoder-only language models.")
    decoder = model.get_decoder()
    if not isinstance(decoder, PreTrainedModel):  # for some models, `get_decoder` returns the output projection
        decoder = model
    kernel = decoder.config._attn_implementation or "none"
    if kernel.startswith(PREFIX):
        return
    source = _attention_source(decoder)
    if not decoder._can_set_attn_implementation() or "ALL_ATTENTION_FUNCTIONS" not in source:
        raise ModelNotSupportedError(
            f"the attention of {name} does not go through transformers' AttentionInterface, so it cannot be read; use "
            "another model family."
        )
    flash = "flash" in kernel and not kernel.startswith("paged")
    if not flash and kernel not in ("sdpa", "eager"):
        raise ModelNotSupportedError(
            f"{name} runs attn_implementation={kernel!r}, whose attention cannot be read; load it with "
            f"attn_implementation={'sdpa' if decoder._supports_sdpa else 'eager'!r}."
        )
    sdpa = "load it with attn_implementation='sdpa', or " if decoder._supports_sdpa else ""
    by_name = re.search(rf"""_attn_implementation\s*(==|in)[^\n]*["']{re.escape(kernel)}["']""", source)
    if by_name and kernel == "eager":  # 'eager' is not in the registry, so no function can replace it
        raise ModelNotSupportedError(
            f"{name} treats the attention function 'eager' differently from all other functions, so reading its "
            f"attention would change the model's outputs; {sdpa}use another model family."
        )
    registered = kernel if flash or by_name else PREFIX + kernel
    _register(kernel, registered)
    if registered != kernel:
        decoder.set_attn_implementation(registered)
    if decoder.config._attn_implementation != registered:
        raise ModelNotSupportedError(f"{name} refused the attention function {registered!r}; use another model family.")


def _attention_source(decoder: PreTrainedModel) -> str:
    """Return the source code of the files that define the layers of a model."""
    layers = {type(module).__module__ for module in decoder.modules() if getattr(module, "layer_idx", None) is not None}
    files = [sys.modules[name] for name in sorted(layers | {type(decoder).__module__}) if name in sys.modules]
    return "\n".join(inspect.getsource(file) for file in files if getattr(file, "__file__", None))


def _register(kernel: str, name: str) -> None:
    """Register the listening version of `kernel` under `name` in transformers' registries."""
    mask = ALL_MASK_ATTENTION_FUNCTIONS[kernel]
    mask = mask.original if isinstance(mask, _PositionedMask) else mask
    attention = ALL_ATTENTION_FUNCTIONS.get(kernel)
    attention = attention.original if isinstance(attention, _ListeningKernel) else attention
    AttentionMaskInterface.register(name, _PositionedMask(kernel, mask))
    AttentionInterface.register(name, _listening_eager if attention is None else _ListeningKernel(kernel, attention))
