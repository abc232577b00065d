"""Fit coefficients by multinomial logistic regression, so that supporting sources get a high probability.

`recall_at` measures how well scores rank the supporting sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["Choice", "fit_choices", "recall_at"]


@dataclass(frozen=True)
class Choice:
    """One observation of the regression: several sources, some of which support the answer."""

    features: torch.Tensor
    """`(sources, features)`."""
    right: torch.Tensor
    """`(sources,)` bool, True for supporting sources."""
    weight: float = 1.0
    """The weight of this observation in the loss."""


def fit_choices(choices: Sequence[Choice], penalty: float, steps: int) -> torch.Tensor:
    """Return the coefficients `(features,)` that maximise the penalised mean log-probability of supporting sources."""
    longest = max(len(choice.right) for choice in choices)
    width = choices[0].features.shape[1]
    features = torch.zeros(len(choices), longest, width, dtype=torch.float64)
    there = torch.zeros(len(choices), longest, dtype=torch.bool)
    right = torch.zeros(len(choices), longest, dtype=torch.float64)
    for row, choice in enumerate(choices):
        count = len(choice.right)
        features[row, :count], there[row, :count] = choice.features.double(), True
        right[row, :count] = choice.right.double()
    scale = features[there].std(0)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    weight = torch.zeros(width, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=steps, line_search_fn="strong_wolfe")

    shares = torch.tensor([choice.weight for choice in choices], dtype=torch.float64)
    shares /= shares.sum()

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = (features @ (weight / scale)).masked_fill(~there, -torch.inf)
        log_p = scores.log_softmax(1).masked_fill(~there, 0.0)
        value = -(shares * (log_p * right).sum(1) / right.sum(1)).sum() + penalty * (weight**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return (weight.detach() / scale).float()


def recall_at(scores: torch.Tensor, gold: torch.Tensor, k: int) -> float:
    """Return the recall at k: the share of all supporting sources that are among the k sources with the highest scores.

    If scores are equal, the earlier source ranks higher.

    Args:
        scores: `(sources,)`.
        gold: `(sources,)` bool, True for supporting sources; at least one is supporting.
        k: at least 1.

    Example:
        >>> recall_at(torch.tensor([0.3, 0.9, 0.3]), torch.tensor([True, True, True]), 2)
        0.6666666865348816
    """
    best = scores.argsort(descending=True, stable=True)[:k]
    return float(gold[best].sum() / gold.sum())
