"""Runs forward passes over pieces of a sequence. Several continuations may share the keys and values of a piece."""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers.cache_utils import Cache

from .kv_cache import Prefix, cache_options, output_cache
from .language_model import LanguageModel
from .prompts import EncodedPrompt

__all__ = ["logits_of", "run_backbone", "run_prefix", "run_step", "run_tokens"]

WORTH_SHARING = 64
"""The minimum number of tokens of a prefix that is shared. It takes less time to run a shorter prefix again than to
share it."""


@torch.inference_mode()
def run_prefix(language_model: LanguageModel, prompt: EncodedPrompt) -> Prefix | None:
    """Run the tokens before a prompt's sources once, for all prompts that begin with these tokens.

    Returns:
        The prefix. It is None if there are fewer than `WORTH_SHARING` tokens, or if the model cannot share prefixes. It
        is also None on a GPU, because a pass over few tokens takes as long as a pass over many tokens there.
    """
    ids = prompt.ids[: prompt.sources[0][0]] if prompt.sources else []
    if len(ids) < WORTH_SHARING or language_model.batching_pays or not language_model.compatibility.shares_prefixes:
        return None
    positions = torch.arange(len(ids), device=language_model.device)
    return Prefix(ids, run_tokens(language_model, ids, None, positions, 0)[1])


def run_tokens(
    language_model: LanguageModel, ids: list[int], cache: Any, positions: torch.Tensor, rows: int
) -> tuple[torch.Tensor, Any]:
    """Run one forward pass over `ids`, which follow the tokens in `cache`.

    Args:
        language_model: the model.
        ids: the tokens to run, at least one.
        cache: keys and values of the earlier tokens, or None. The call may change the cache, so do not use it again.
        positions: the position ids of all tokens, in the cache and in `ids`, `(tokens,)`.
        rows: the number of rows at the end of `ids` whose logits are returned. With 0, a model with a backbone skips
            the output projection.

    Returns:
        The logits `(rows, vocabulary)`, and the cache after `ids`.
    """
    if rows == 0 and language_model.compatibility.has_backbone:
        return torch.empty(0), run_backbone(language_model, ids, cache, positions, 0)[1]
    options: dict[str, Any] = {"logits_to_keep": max(rows, 1)} if language_model.compatibility.keeps_logits else {}
    output = language_model.model(**_inputs(language_model.model, ids, cache, positions), **options)
    return output.logits[0, output.logits.shape[1] - rows :], output_cache(output)


def run_step(
    language_model: LanguageModel, ids: list[int], cache: Cache, lengths: list[int]
) -> tuple[torch.Tensor, Cache]:
    """Run one more token of every sequence in a batch.

    Args:
        language_model: the model.
        ids: one token for each sequence.
        cache: the cache of a padded batch, from `join_caches`. The call may change the cache, so do not use it again.
        lengths: the number of tokens of each sequence, without the new token.

    Returns:
        The logits `(sequences, vocabulary)`, and the cache after the new tokens.
    """
    device = language_model.device
    have = torch.tensor(lengths, device=device)[:, None]
    total = cache.get_seq_length() + 1
    options: dict[str, Any] = {"logits_to_keep": 1} if language_model.compatibility.keeps_logits else {}
    output = language_model.model(
        input_ids=torch.tensor(ids, device=device)[:, None],
        position_ids=have,
        attention_mask=(torch.arange(total, device=device) >= total - 1 - have).long(),
        use_cache=True,
        **cache_options(cache, language_model.model),
        **options,
    )
    return output.logits[:, -1], output_cache(output)


def run_backbone(
    language_model: LanguageModel, ids: list[int], cache: Any, positions: torch.Tensor, rows: int
) -> tuple[torch.Tensor, Any]:
    """Run one forward pass of the backbone alone, which is the layers without the output projection.

    The arguments are those of `run_tokens`. `logits_of` can compute the logits afterwards. The model's
    `Compatibility.has_backbone` must be true.

    Returns:
        The hidden states of the last layer for the last `rows` tokens, `(rows, width)`, and the cache after `ids`.
    """
    backbone = language_model.model.get_decoder()
    output = backbone(**_inputs(backbone, ids, cache, positions))
    states = output.last_hidden_state[0]
    return states[len(states) - rows :], output_cache(output)


def logits_of(language_model: LanguageModel, states: torch.Tensor) -> torch.Tensor:
    """Return the logits of hidden states from one or several calls of `run_backbone`.

    The output projection may be much larger than a layer, as it is in Gemma 3 270M. It takes nearly as long for few
    rows as for many rows, so the rows of several calls are computed together.

    A model may scale or cap its logits, so the model's own code computes the logits here. The model runs on one token,
    and a hook replaces the hidden states of this token by the given hidden states.

    Args:
        language_model: the model.
        states: the hidden states, `(rows, width)`.

    Returns:
        The logits, `(rows, vocabulary)`.
    """
    caller = threading.get_ident()

    def replace(module: Any, args: Any, output: Any) -> Any:
        if threading.get_ident() == caller:  # other threads may be running the same model
            output.last_hidden_state = states[None]
        return output

    backbone = language_model.model.get_decoder()
    hook = backbone.register_forward_hook(replace)
    try:
        with _as_written():
            token = torch.zeros(1, 1, dtype=torch.long, device=language_model.device)
            return language_model.model(input_ids=token, use_cache=False).logits[0]
    finally:
        hook.remove()


def _as_written() -> AbstractContextManager[Any]:
    """Return a context in which a compiled model runs without its graph.

    The graph would ignore hooks that are registered after the compilation.
    """
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _inputs(module: Any, ids: list[int], cache: Any, positions: torch.Tensor) -> dict[str, Any]:
    return {
        "input_ids": torch.tensor([ids], device=module.device),
        "position_ids": positions[None, -len(ids) :],
        "attention_mask": torch.ones(1, len(positions), dtype=torch.long, device=module.device),
        **cache_options(cache, module),
        "use_cache": True,
    }
