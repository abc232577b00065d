"""Forward passes over the pieces of a sequence, whose keys and values may be shared by what follows."""

from __future__ import annotations

import copy
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

if TYPE_CHECKING:
    from .language_model import LanguageModel
    from .prompts import EncodedPrompt

__all__ = [
    "Beginning",
    "begin",
    "bound_by_passes",
    "carries_state",
    "fork",
    "has_body",
    "join",
    "joins",
    "logits_of",
    "pads_exactly",
    "rotates_by_length",
    "run_body",
    "run_piece",
    "run_step",
    "shares_prefixes",
]

WORTH_SHARING = 64
"""Tokens; a beginning that is shorter is run again sooner than copied."""


@dataclass(frozen=True)
class Beginning:
    """Tokens that several prompts begin with, and the keys and values the model made of them."""

    ids: list[int]
    cache: Any

    def of(self, prompt: EncodedPrompt) -> Beginning | None:
        """A copy to go on from, for one prompt that begins so and goes on; None for any other."""
        if len(prompt) <= len(self.ids) or prompt.ids[: len(self.ids)] != self.ids:
            return None
        return Beginning(self.ids, fork(self.cache))


@torch.inference_mode()
def begin(language_model: LanguageModel, prompt: EncodedPrompt) -> Beginning | None:
    """What stands before a prompt's sources, run once for all prompts that differ in their sources only.

    Returns:
        None where that does not pay: on a GPU, where a pass over few tokens takes as long as over many, for few tokens,
        and for models whose beginnings cannot be shared.
    """
    ids = prompt.ids[: prompt.sources[0][0]] if prompt.sources else []
    if len(ids) < WORTH_SHARING or bound_by_passes(language_model) or not shares_prefixes(language_model.model):
        return None
    positions = torch.arange(len(ids), device=language_model.device)
    return Beginning(ids, run_piece(language_model, ids, None, positions, 0)[1])


def bound_by_passes(language_model: LanguageModel) -> bool:
    """Whether a pass over few tokens takes about as long as over many: on a GPU, where batches pay, padding and all."""
    return language_model.device.type != "cpu"


def pads_exactly(language_model: LanguageModel) -> bool:
    """Whether a padded batch computes what each of its sequences would alone.

    It does not where positions count the padding, nor where rotary embeddings go by the longest sequence.
    """
    model = language_model.model
    by_index = getattr(model.config.get_text_config(), "attn_temperature_tuning", False)
    return language_model.takes_positions and not rotates_by_length(model) and not by_index


def fork(cache: Any) -> Any:
    """A cache to go on from that leaves the given one as it is.

    Layers that grow by concatenation share keys and values with it, copying none.
    """
    layers = getattr(cache, "layers", None)
    if not layers or not all(map(_grows, layers)):
        return copy.deepcopy(cache)
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in layers]
    return twin


def joins(language_model: LanguageModel) -> bool:
    """Whether the caches of several sequences can become the cache of a padded batch of them, by `join`."""
    if not (shares_prefixes(language_model.model) and pads_exactly(language_model)):
        return False
    return all(map(_grows, DynamicCache(config=language_model.model.config.get_text_config()).layers))


def join(caches: list[Cache]) -> Cache:
    """One cache for the sequences of all, shorter ones padded on the left; where the model `joins`.

    The given ones, each of a sequence or of a padded batch, are used up. A sliding layer holds each sequence's last
    keys. They stand at the right end, so that distances stay what they are.
    """
    joined: Any = caches[0]
    for index, layer in enumerate(joined.layers):
        alike: list[Any] = [cache.layers[index] for cache in caches]
        if not layer.is_initialized:  # shares the keys of another layer
            continue
        length = max(one.get_seq_length() for one in alike)
        layer.keys, layer.values = (_padded([getattr(one, name) for one in alike]) for name in ("keys", "values"))
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = length
        for one in alike[1:]:
            one.reset()
    return joined


def _padded(tensors: list[torch.Tensor]) -> torch.Tensor:  # (sequences, heads, tokens, width) each
    longest = max(one.shape[2] for one in tensors)
    _, heads, _, width = tensors[0].shape
    batch = tensors[0].new_zeros(sum(map(len, tensors)), heads, longest, width)
    for rows, one in zip(batch.split([len(one) for one in tensors]), tensors, strict=True):
        rows[:, :, longest - one.shape[2] :] = one
    return batch


def _grows(layer: Any) -> bool:
    """Whether a cache's layer grows by concatenation, and so makes new tensors and changes none."""
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)


def run_piece(
    language_model: LanguageModel, ids: list[int], cache: Any, positions: torch.Tensor, rows: int
) -> tuple[torch.Tensor, Any]:
    """One forward pass over `ids`, which follow what `cache` holds.

    Args:
        language_model: the model.
        ids: at least one token.
        cache: keys and values of the tokens before, or None; it is used up.
        positions: position ids of every token, cached ones included, `(tokens,)`.
        rows: logits are wanted for the last so many; with 0 the output layer is not run.

    Returns:
        Logits `(rows, vocabulary)` and the cache after `ids`.
    """
    if rows == 0 and has_body(language_model):
        return torch.empty(0), run_body(language_model, ids, cache, positions, 0)[1]
    options: dict[str, Any] = {"logits_to_keep": max(rows, 1)} if language_model.keeps_logits else {}
    output = language_model.model(**_inputs(language_model, ids, cache, positions), **options)
    return output.logits[0, output.logits.shape[1] - rows :], output.past_key_values


def run_step(
    language_model: LanguageModel, ids: list[int], cache: Cache, lengths: list[int]
) -> tuple[torch.Tensor, Cache]:
    """One token more of every sequence of a batch.

    Args:
        language_model: the model.
        ids: a token each.
        cache: of a padded batch, by `join`; it is used up.
        lengths: tokens of each sequence, the new one not among them.

    Returns:
        Logits `(sequences, vocabulary)` and the cache after the tokens.
    """
    device = language_model.device
    have = torch.tensor(lengths, device=device)[:, None]
    total = cache.get_seq_length() + 1
    options: dict[str, Any] = {"logits_to_keep": 1} if language_model.keeps_logits else {}
    output = language_model.model(
        input_ids=torch.tensor(ids, device=device)[:, None],
        position_ids=have,
        attention_mask=(torch.arange(total, device=device) >= total - 1 - have).long(),
        past_key_values=cache,
        use_cache=True,
        **options,
    )
    return output.logits[:, -1], output.past_key_values


def has_body(language_model: LanguageModel) -> bool:
    """Whether the layers can be run without the output layer: some models call that one their decoder, or both."""
    body = language_model.model.get_decoder()
    return isinstance(body, PreTrainedModel) and body.get_output_embeddings() is None


def run_body(
    language_model: LanguageModel, ids: list[int], cache: Any, positions: torch.Tensor, rows: int
) -> tuple[torch.Tensor, Any]:
    """`run_piece` without the output layer, where the model `has_body`: `logits_of` goes on from there.

    Returns:
        The last layer's hidden states of the last rows, `(rows, width)`, and the cache after `ids`.
    """
    output = language_model.model.get_decoder()(**_inputs(language_model, ids, cache, positions))
    states = output.last_hidden_state[0]
    return states[len(states) - rows :], output.past_key_values


def logits_of(language_model: LanguageModel, states: torch.Tensor) -> torch.Tensor:
    """What the model makes of hidden states that `run_body` returned, of one pass or of several.

    The output layer is much larger than the others and takes nearly as long for a few rows as for many. What a model
    does before and after it (scales, soft caps) is its own code: the model runs on one token, and these states take
    the place of those its body returns.

    Args:
        language_model: the model.
        states: `(rows, width)`.

    Returns:
        `(rows, vocabulary)`.
    """
    caller = threading.get_ident()

    def replace(module: Any, args: Any, output: Any) -> Any:
        if threading.get_ident() == caller:  # other threads may be running the same model
            output.last_hidden_state = states[None]
        return output

    body = language_model.model.get_decoder()
    hook = body.register_forward_hook(replace)
    try:
        with _as_written():
            token = torch.zeros(1, 1, dtype=torch.long, device=language_model.device)
            return language_model.model(input_ids=token, use_cache=False).logits[0]
    finally:
        hook.remove()


def _as_written() -> AbstractContextManager[Any]:
    """Code that was compiled runs uncompiled: a graph does not know of hooks that came later."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _inputs(language_model: LanguageModel, ids: list[int], cache: Any, positions: torch.Tensor) -> dict[str, Any]:
    return {
        "input_ids": torch.tensor([ids], device=language_model.device),
        "position_ids": positions[None, -len(ids) :],
        "attention_mask": torch.ones(1, len(positions), dtype=torch.long, device=language_model.device),
        "past_key_values": cache,
        "use_cache": True,
    }


def shares_prefixes(model: PreTrainedModel) -> bool:
    """Whether a beginning that two sequences share can be computed once, and its keys and values used for both."""
    return not carries_state(model) and not rotates_by_length(model)


def carries_state(model: PreTrainedModel) -> bool:
    """Whether some layer passes a state over every token, masked or not: recurrent and convolution layers do."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return bool(getattr(model, "_is_stateful", False)) or any("attention" not in kind for kind in kinds)


def rotates_by_length(model: PreTrainedModel) -> bool:
    """Whether rotary embeddings depend on how long the text gets, so that a prefix's keys cannot be used again."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return any(kind.get("rope_type") in ("longrope", "dynamic") for kind in kinds)
