"""Drafts and scores with their cost, and the cost of ablations that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from at2_prune.attention.rows import RowGroup
from at2_prune.models.drafts import Draft
from at2_prune.models.language_model import LanguageModel
from at2_prune.pruning.loop import Scored

from .cost import Cost, metered

__all__ = ["CostlyDraft", "CostlyScored", "SharedAblations"]


@dataclass(frozen=True)
class CostlyDraft:
    """A draft and its cost."""

    draft: Draft
    cost: Cost
    reads: dict[str, Cost]
    """For each measure, the cost of reading it, on top of the cost of writing the draft."""

    def reading(self, groups: Sequence[RowGroup]) -> Cost:
        """Return the cost of reading these row groups, on top of the cost of writing the draft."""
        return sum((self.reads[measure] for measure in dict.fromkeys(group.measure for group in groups)), Cost())


@dataclass(frozen=True)
class CostlyScored(Scored):
    """Scores and their cost, on top of the cost of the draft."""

    cost: Cost = field(default_factory=Cost)


class SharedAblations:
    """Runs a method's ablations, and corrects the method's cost.

    An ablation from the cache takes no time now, but it is part of the method's cost.

    Args:
        language_model: the model that is measured.
        outcomes: a function that takes masks, `(ablations, sources)` bool, and returns the log-odds of each ablation
            and the cost of all.
    """

    def __init__(
        self, language_model: LanguageModel, outcomes: Callable[[torch.Tensor], tuple[torch.Tensor, Cost]]
    ) -> None:
        self._language_model = language_model
        self._outcomes = outcomes
        self._due = self._spent = Cost()

    def __call__(self, masks: torch.Tensor) -> torch.Tensor:
        with metered(self._language_model) as meter:
            outcomes, cost = self._outcomes(masks)
        self._spent += meter.cost
        self._due += cost
        return outcomes

    def correct(self, measured: Cost) -> Cost:
        """Return the cost of a method, corrected as if all its ablations had been run now."""
        return Cost(
            max(0.0, measured.seconds - self._spent.seconds) + self._due.seconds,
            max(0.0, measured.tokens - self._spent.tokens) + self._due.tokens,
            self._due.memory or measured.memory,
        )
