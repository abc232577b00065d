"""Means and ratios with percentile-bootstrap intervals."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SEED",
    "Estimate",
    "bootstrap_difference",
    "bootstrap_mean",
    "bootstrap_pooled",
    "bootstrap_ratio",
]

RESAMPLES, SEED, LEVEL = 2000, 0, 0.95
"""The defaults of every interval: the number of resamples, the seed of the resamples, and the confidence level."""


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio of means, with a 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(values: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Estimate the mean of the values, with a percentile-bootstrap 95 % interval.

    Args:
        values: one value per question. If the list is empty, the estimate is NaN.
        resamples: the number of resamples.
        seed: the seed of the resamples.

    Example:
        >>> print(bootstrap_mean([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
        0.625 [0.250, 0.875]
    """
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"))
    data = torch.tensor(values, dtype=torch.float64)
    return _interval(data.mean().item(), _counts(len(data), resamples, seed) @ data / len(data))


def bootstrap_difference(values: Sequence[float], base: Sequence[float]) -> Estimate:
    """Estimate the mean of `values[i] - base[i]` over the questions, with a percentile-bootstrap 95 % interval.

    Args:
        values: one value per question.
        base: the values that are subtracted, for the same questions in the same order.

    Example:
        >>> print(bootstrap_difference([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]))
        0.250 [0.000, 0.750]
    """
    return bootstrap_mean([new - old for new, old in zip(values, base, strict=True)])


def bootstrap_pooled(groups: Sequence[Sequence[float]], resamples: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Estimate the mean of the values of all groups, with a percentile-bootstrap 95 % interval.

    Each resample draws as many values from a group as the group has.

    Args:
        groups: the values of each group. For example, a group holds one value for each question of one data set. Every
            value has the same weight. If no group holds a value, the estimate is NaN.
        resamples: the number of resamples.
        seed: the seed of the resamples. The first group that is not empty uses `seed`. The next such group uses
            `seed + 1`, and so on.

    Example:
        >>> print(bootstrap_pooled([[1.0, 1.0, 1.0], [0.0]]))
        0.750 [0.750, 0.750]
    """
    filled = [torch.tensor(values, dtype=torch.float64) for values in groups if len(values)]
    if not filled:
        return Estimate(float("nan"), float("nan"), float("nan"))
    count = sum(map(len, filled))
    sums = torch.stack([_counts(len(data), resamples, seed + i) @ data for i, data in enumerate(filled)])
    return _interval(torch.cat(filled).mean().item(), sums.sum(0) / count)


def bootstrap_ratio(
    numerators: Sequence[float], denominators: Sequence[float], resamples: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Estimate the ratio of two means over the same questions, with a percentile-bootstrap 95 % interval.

    A resample is left out if the mean of its denominators is not positive. The interval is valid only if such resamples
    are rare.

    Args:
        numerators: one value per question. If the list is empty, the estimate is NaN.
        denominators: one value per question. If their mean is not positive, the estimate is NaN.
        resamples: the number of resamples.
        seed: the seed of the resamples.

    Example:
        >>> print(bootstrap_ratio([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [1.0] * 8))
        0.625 [0.250, 0.875]
    """
    above, below = (torch.tensor(values, dtype=torch.float64) for values in (numerators, denominators))
    if not len(above) or below.mean() <= 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    counts = _counts(len(above), resamples, seed)
    tops, bottoms = counts @ above, counts @ below
    return _interval((above.mean() / below.mean()).item(), (tops / bottoms)[bottoms > 0])


@functools.lru_cache(maxsize=8)  # estimates from the same number of questions share their resamples
def _counts(count: int, resamples: int, seed: int) -> torch.Tensor:
    """Count how often each question occurs in each resample, `(resamples, questions)`."""
    draws = torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(seed))
    one = torch.ones((), dtype=torch.float64)
    return torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, draws, one.expand_as(draws))


def _interval(mean: float, resampled: torch.Tensor) -> Estimate:
    tail = round((1 - LEVEL) / 2, 9)
    low, high = resampled.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Estimate(mean, low, high)
