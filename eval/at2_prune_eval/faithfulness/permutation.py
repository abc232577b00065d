"""The permutation test: does it matter which sources the scores point at?

Jain and Wallace (2019, section 4.2.1) permute attention weights inside the model and see whether its output moves.
Scores outside the model are not part of it, but what is pruned by them is: the answer is written again from the top k,
and again from the top k after the scores were permuted among the sources. If permuted scores bring back the draft as
often, it did not matter where they pointed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from at2_prune.pruning.selection import top_k

__all__ = ["compare", "kept_sets", "permute", "random_rankings"]


def random_rankings(sources: int, count: int, generator: torch.Generator) -> list[list[int]]:
    """Rankings that every method's scores are permuted into: the same for all, so that luck is, too."""
    return [torch.randperm(sources, generator=generator).tolist() for _ in range(count)]


def permute(scores: Sequence[float], ranking: Sequence[int]) -> list[float]:
    """The same scores, given to the sources in the order of `ranking`, best first.

    Example:
        >>> permute([0.1, 0.7, 0.2], ranking=[2, 0, 1])
        [0.2, 0.1, 0.7]
    """
    permuted = [0.0] * len(scores)
    for source, score in zip(ranking, sorted(scores, reverse=True), strict=True):
        permuted[source] = score
    return permuted


def kept_sets(scores: Sequence[float], rankings: Sequence[Sequence[int]], k: int) -> list[tuple[int, ...]]:
    """The top k by the scores, then by the scores permuted into each ranking."""
    return [tuple(top_k(given, k)) for given in (scores, *(permute(scores, ranking) for ranking in rankings))]


def compare(kept: Sequence[tuple[int, ...]], outcomes: Sequence[dict[str, float]]) -> dict[str, Any]:
    """What `kept_sets` led to: with the scores, and the mean with permuted ones."""
    own, *permuted = outcomes
    means = {key: math.fsum(outcome[key] for outcome in permuted) / len(permuted) for key in own}
    return {"kept": list(kept[0]), "scores": own, "permuted": means}
