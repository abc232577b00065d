"""The permutation test: does it matter which source has which score?

Jain and Wallace (2019, section 4.2.1) permute attention weights inside the model, and observe whether the model's
output changes. Scores are not part of the model, but they decide which passages the model reads after pruning. The test
therefore writes two answers: from the top k sources by the scores, and from the top k after the scores were permuted
among the sources. If permuted scores give the draft as often as the method's scores, it does not matter which source
has which score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from at2_prune.pruning.selection import top_k

__all__ = ["compare", "kept_sets", "permute", "random_rankings"]


def random_rankings(sources: int, count: int, generator: torch.Generator) -> list[list[int]]:
    """Draw the random rankings of the permutation test. All methods use the same rankings, so chance is equal."""
    return [torch.randperm(sources, generator=generator).tolist() for _ in range(count)]


def permute(scores: Sequence[float], ranking: Sequence[int]) -> list[float]:
    """Return the same scores in another order, so that they rank the sources as `ranking` does, best first.

    Example:
        >>> permute([0.1, 0.7, 0.2], ranking=[2, 0, 1])
        [0.2, 0.1, 0.7]
    """
    permuted = [0.0] * len(scores)
    for source, score in zip(ranking, sorted(scores, reverse=True), strict=True):
        permuted[source] = score
    return permuted


def kept_sets(scores: Sequence[float], rankings: Sequence[Sequence[int]], k: int) -> list[tuple[int, ...]]:
    """Return the top k sources by the scores, and then the top k by the permuted scores for each ranking."""
    return [tuple(top_k(given, k)) for given in (scores, *(permute(scores, ranking) for ranking in rankings))]


def compare(kept: Sequence[tuple[int, ...]], outcomes: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the kept sources and the outcomes for the method's scores, and the mean outcomes for permuted scores.

    `kept` and `outcomes` have the order of `kept_sets`: the method's scores first.
    """
    own, *permuted = outcomes
    means = {key: math.fsum(outcome[key] for outcome in permuted) / len(permuted) for key in own}
    return {"kept": list(kept[0]), "scores": own, "permuted": means}
