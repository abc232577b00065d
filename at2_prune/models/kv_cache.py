"""Handles key/value caches: shares a prefix, copies a cache, and joins several caches into one batch.

No other module changes the internals of transformers' caches.
"""

from __future__ import annotations

import copy
import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationMixin, PreTrainedModel, cache_utils
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from .prompts import EncodedPrompt

__all__ = ["Prefix", "cache_bytes", "cache_options", "fork_cache", "grows", "join_caches", "new_cache", "output_cache"]

CACHE_NAMES = ("cache", "past_key_values")
"""The names under which a forward pass may take and return a cache. The first name is new in transformers 5.24."""


@dataclass(frozen=True)
class Prefix:
    """The tokens that several prompts begin with, and the keys and values that the model computed for these tokens."""

    ids: list[int]
    cache: Any

    def fork_for(self, prompt: EncodedPrompt) -> Prefix | None:
        """Return a copy of the prefix for a prompt.

        The result is None if the prompt does not begin with the prefix, or if it has no tokens after the prefix.
        """
        if len(prompt) <= len(self.ids) or prompt.ids[: len(self.ids)] != self.ids:
            return None
        return Prefix(self.ids, fork_cache(self.cache))


def cache_options(cache: Any, module: torch.nn.Module | None = None) -> dict[str, Any]:
    """Return the keyword argument that passes a cache to a model.

    Args:
        cache: the keys and values of the earlier tokens.
        module: the model or the backbone whose forward pass takes the cache. `None` means that `generate` takes the
            cache. `generate` uses the same argument name for every model.
    """
    owner: Any = GenerationMixin if module is None else type(module)
    return {_cache_name(owner): cache}


def new_cache(model: PreTrainedModel) -> Cache:
    """Return an empty cache.

    If the model's `Compatibility.joins_caches` is true, the cache's layers grow by concatenation; see `grows`.
    """
    return DynamicCache(config=model.config)


def output_cache(output: Any) -> Any:
    """Return the cache that the output of a forward pass holds."""
    new, old = CACHE_NAMES
    return getattr(output, new) if hasattr(output, new) else getattr(output, old)


@functools.cache
def _cache_name(owner: type) -> str:
    """Return the name of the cache argument in the forward pass of a class.

    If the signature has no such argument, for example in a wrapper, return the name that `generate` uses.
    """
    method: Any = getattr(owner, "prepare_inputs_for_generation" if owner is GenerationMixin else "forward")
    named = [name for name in CACHE_NAMES if name in inspect.signature(method).parameters]
    if named:
        return named[0]
    return CACHE_NAMES[0] if owner is GenerationMixin else _cache_name(GenerationMixin)


def fork_cache(cache: Any) -> Any:
    """Return a copy of a cache. A forward pass that continues from the copy leaves the given cache unchanged.

    If all layers grow by concatenation, the copy and the given cache share the tensors of keys and values. Otherwise,
    these tensors are copied.
    """
    layers = getattr(cache, "layers", None)
    if not layers or not all(map(grows, layers)):
        return copy.deepcopy(cache)
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in layers]
    return twin


def join_caches(caches: list[Cache]) -> Cache:
    """Join several caches into one cache of a batch. Shorter sequences are padded on the left.

    Each given cache holds one sequence or a padded batch. The given caches must not be used again. A sliding layer
    holds only the last keys of each sequence. These keys are aligned at the right end, so distances between positions
    do not change.

    The model's `Compatibility.joins_caches` must be true.
    """
    joined: Any = caches[0]
    for index, layer in enumerate(joined.layers):
        alike: list[Any] = [cache.layers[index] for cache in caches]
        if not layer.is_initialized or _holds_nothing(layer):  # the layer uses the keys of another layer
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


def grows(layer: Any) -> bool:
    """Return whether a layer of a cache grows by concatenation.

    Such a layer makes new tensors and changes no old tensor. The result is also True for a layer that uses the keys of
    another layer, because it holds no tensors.
    """
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) or _holds_nothing(layer)


def _holds_nothing(layer: Any) -> bool:
    return type(layer) is getattr(cache_utils, "DummyLayer", None)  # some transformers versions lack this class


def cache_bytes(cache: Any) -> int:
    """Return the number of bytes of all keys and values in a cache."""
    held = [layer for layer in cache.layers if layer.is_initialized and not _holds_nothing(layer)]
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in held)
