"""Means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Estimate", "bootstrap_mean"]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean of the values with its percentile-bootstrap 95 % interval.

    Args:
        values: one per question; none gives NaN.

    Example:
        >>> print(bootstrap_mean([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]))
        0.625 [0.250, 0.875]
    """
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"))
    data = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(data), (resamples, len(data)), generator=generator)
    means = data[draws].mean(1).sort().values
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(data.mean().item(), low, high)
