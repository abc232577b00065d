"""Key/value caches: a shared prefix, copies to go on from, and several caches joined into one batch.

This is the only module that knows how transformers' caches are built.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from .prompts import EncodedPrompt

__all__ = ["Prefix", "cache_bytes", "fork_cache", "grows", "join_caches"]


@dataclass(frozen=True)
class Prefix:
    """The tokens that several prompts begin with, and the keys and values that the model made of them."""

    ids: list[int]
    cache: Any

    def fork_for(self, prompt: EncodedPrompt) -> Prefix | None:
        """A copy that `prompt` can go on from; None if the prompt does not begin with these tokens and go on."""
        if len(prompt) <= len(self.ids) or prompt.ids[: len(self.ids)] != self.ids:
            return None
        return Prefix(self.ids, fork_cache(self.cache))


def fork_cache(cache: Any) -> Any:
    """A cache to go on from that leaves the given one unchanged.

    Layers that grow by concatenation share keys and values with the given one, so nothing is copied.
    """
    layers = getattr(cache, "layers", None)
    if not layers or not all(map(grows, layers)):
        return copy.deepcopy(cache)
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in layers]
    return twin


def join_caches(caches: list[Cache]) -> Cache:
    """One cache for the sequences of all `caches`, shorter ones padded on the left.

    The given caches, each of one sequence or of a padded batch, are used up. A sliding layer holds each sequence's last
    keys. They stand at the right end, so that distances between positions do not change. Only models whose
    `Compatibility.joins_caches` is true may be given.
    """
    joined: Any = caches[0]
    for index, layer in enumerate(joined.layers):
        alike: list[Any] = [cache.layers[index] for cache in caches]
        if not layer.is_initialized:  # it shares the keys of another layer
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
    """Whether a cache's layer grows by concatenation, so that it makes new tensors and changes none."""
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)


def cache_bytes(cache: Any) -> int:
    """The bytes of all keys and values in a cache."""
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers if layer.is_initialized)
