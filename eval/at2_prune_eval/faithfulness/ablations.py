"""Run the ablations on which methods are measured, and compute LDS from the outcomes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch

from at2_prune.ablation import random_masks
from at2_prune.models.prompts import EncodedPrompt

from ..loop.cached_loop import CachedLoop
from .ranks import spearman

__all__ = ["Ablator", "Mask", "held_out_masks", "lds", "log_probability", "mask_of"]

MIN_HELD_OUT = 8
"""The smallest number of different ablations for which LDS is computed. Fewer ablations give no useful rank
correlation."""

Mask = tuple[bool, ...]
"""One entry for each source: True if the source is kept."""


class Ablator:
    """Runs ablations of one prompt, and records which ablations were run and how many calls were made."""

    def __init__(self, loop: CachedLoop, prompt: EncodedPrompt, target: Sequence[int]) -> None:
        self._loop = loop
        self._prompt = prompt
        self._target = target
        self.seen: set[Mask] = set()
        self.calls = 0

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen.update(tuple(mask) for mask in masks.bool().tolist())
        return self._loop.outcomes(self._prompt, self._target, masks)[0]

    def log_odds(self, masks: Sequence[Mask]) -> dict[Mask, float]:
        """Measure the target's log-odds under each ablation, in one call."""
        return dict(zip(masks, self(torch.tensor(masks)).tolist(), strict=True))


def held_out_masks(sources: int, count: int, seen: Collection[Mask], generator: torch.Generator) -> list[Mask]:
    """Draw up to `count` random ablations that are not in `seen`. There are fewer if few such ablations exist."""
    drawn = [tuple(mask) for mask in random_masks(sources, 50 * count, generator).tolist()]
    return [mask for mask in drawn if mask not in seen][:count]


def mask_of(sources: int, chosen: Collection[int], keep: bool = True) -> Mask:
    """Return the mask that keeps only the chosen sources. With `keep=False`, the mask keeps all other sources.

    Example:
        >>> mask_of(3, [1]), mask_of(3, [1], keep=False)
        ((False, True, False), (True, False, True))
    """
    return tuple((index in chosen) == keep for index in range(sources))


def lds(scores: Sequence[float], masks: Sequence[Mask], log_odds: Mapping[Mask, float]) -> float | None:
    """Return LDS: Spearman's correlation, over ablations, of the log-odds and the sum of the kept sources' scores.

    Return None if there are fewer than 8 different masks.

    Example:
        >>> masks = [tuple(bool(bits >> i & 1) for i in range(3)) for bits in range(8)]
        >>> lds([1.0, 2.0, 4.0], masks, {mask: float(bits) for bits, mask in enumerate(masks)})
        1.0
    """
    if len(set(masks)) < MIN_HELD_OUT:
        return None
    predicted = [math.fsum(score for score, kept in zip(scores, mask, strict=True) if kept) for mask in masks]
    return spearman(predicted, [log_odds[mask] for mask in masks])


def log_probability(log_odds: float) -> float:
    """Return log p, computed from the log-odds log p - log(1 - p)."""
    return float(torch.nn.functional.logsigmoid(torch.tensor(log_odds, dtype=torch.float64)))
