"""Test on an untouched model whether a shared prefix, a padded batch and leaving tokens out are exact.

Nothing here asks `at2_prune.models.compatibility`, so the claims of that module can be
compared with these results.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from at2_prune.attention.hooks import enable_attention_reading, original_positions
from at2_prune.models.kv_cache import cache_options, output_cache

__all__ = ["Exactness", "eager_copy", "exactness", "is_batch_exact", "is_dropping_exact", "is_prefix_exact"]

LENGTH, PREFIX, SHORT = 90, 24, 27  # the prefix is longer than windows, and shorter than longrope's first range
LAST = 8
SAME = 5e-4  # logits are of the order of 1, and inexact ways differ by 0.05 or more


@dataclass(frozen=True)
class Exactness:
    """The ways to save work that give the numbers of plain passes."""

    prefix: bool
    """A prefix that runs once, with the rest of the text after it, equals one pass over the whole text."""
    batch: bool
    """Each sequence of a padded batch, and of a decoding step after it, equals the same sequence alone."""
    ablation: bool
    """Leaving tokens out, while the others keep their position ids, equals masking these tokens."""


def exactness(model: PreTrainedModel) -> Exactness:
    """Measure all three on copies of a model."""
    return Exactness(is_prefix_exact(model), is_batch_exact(model), is_dropping_exact(model))


def eager_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of a model that runs its family's own eager attention."""
    untouched = copy.deepcopy(model)
    untouched.set_attn_implementation("eager")
    return untouched


@torch.no_grad()
def is_prefix_exact(model: PreTrainedModel) -> bool:
    """Compare one eager pass without a cache or positions with a prefix's cache and the rest after it."""
    eager, ids = eager_copy(model), _tokens(LENGTH, 0)
    whole = eager(ids, use_cache=False, output_attentions=True)
    places, ones = torch.arange(LENGTH)[None], torch.ones_like(ids)
    prefix = eager(ids[:, :PREFIX], position_ids=places[:, :PREFIX], attention_mask=ones[:, :PREFIX], use_cache=True)
    options = {"attention_mask": ones, "use_cache": True, **cache_options(output_cache(prefix), eager)}
    try:
        rest = eager(ids[:, PREFIX:], position_ids=places[:, PREFIX:], **options, output_attentions=True)
    except RuntimeError:  # MiniMax takes the size of its mask from a layer that has no keys
        return False
    attention = all(map(_same, _last_weights(rest), _last_weights(whole)))
    return attention and _same(rest.logits[0, -LAST:], whole.logits[0, -LAST:])


@torch.no_grad()
def is_batch_exact(model: PreTrainedModel) -> bool:
    """Compare a padded batch in one pass, and a decoding step after its prompts, with each sequence alone."""
    model = copy.deepcopy(model)
    sequences = [_tokens(LENGTH, 1)[0], _tokens(SHORT, 2)[0]]
    alone = [model(ids[None], use_cache=False).logits[0] for ids in sequences]
    ids = torch.zeros(2, LENGTH, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, one in enumerate(sequences):
        ids[row, -len(one) :], mask[row, -len(one) :] = one, 1
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    batch = model(ids, attention_mask=mask, position_ids=places, use_cache=False).logits
    if not all(_same(row[-len(one) :], one) for row, one in zip(batch, alone, strict=True)):
        return False
    prompts = model(ids[:, :-1], attention_mask=mask[:, :-1], position_ids=places[:, :-1], use_cache=True)
    step = model(
        ids[:, -1:],
        attention_mask=mask,
        position_ids=places[:, -1:],
        use_cache=True,
        **cache_options(output_cache(prompts), model),
    )
    return all(_same(row[-1], one[-1]) for row, one in zip(step.logits, alone, strict=True))


@torch.no_grad()
def is_dropping_exact(model: PreTrainedModel) -> bool:
    """Compare masking tokens in a plain pass with leaving them out, where masks follow position ids."""
    model = copy.deepcopy(model)
    ids, places = _tokens(LENGTH, 3), torch.arange(LENGTH)[None]
    mask = torch.ones_like(ids)
    mask[0, 40:52] = mask[0, 70:79] = 0
    masked = model(ids, attention_mask=mask, position_ids=places, use_cache=False).logits[0, -LAST:]
    enable_attention_reading(model)
    kept = mask[0].bool()
    with original_positions(places[0, kept]):
        dropped = model(ids[:, kept], attention_mask=mask[:, kept], position_ids=places[:, kept], use_cache=False)
    return _same(dropped.logits[0, -LAST:], masked)


def _tokens(length: int, seed: int) -> torch.Tensor:
    return torch.randint(3, 120, (1, length), generator=torch.Generator().manual_seed(seed))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=SAME)


def _last_weights(output: Any) -> list[torch.Tensor]:
    """Return the attention from the last rows to the last keys by layer. A window may have dropped earlier keys."""
    return [
        weights[0, :, -LAST:, -LAST:]
        for weights in output.attentions
        if weights is not None and weights.shape[-2] > LAST  # a layer of linear attention gives its state, 8 x 8
    ]
