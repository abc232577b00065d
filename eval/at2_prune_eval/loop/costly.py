"""Classes for drafts and scores with their cost, and for the cost of ablations that several methods share."""

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
    """The cost of reading each measure, by the measure's name. This cost does not include `cost`, the cost of writing
    the draft."""

    def reading(self, groups: Sequence[RowGroup]) -> Cost:
        """Return the cost of reading these row groups, without the cost of writing the draft."""
        return sum((self.reads[measure] for measure in dict.fromkeys(group.measure for group in groups)), Cost())


@dataclass(frozen=True)
class CostlyScored(Scored):
    """Scores and their cost, without the cost of the draft."""

    cost: Cost = field(default_factory=Cost)


class SharedAblations:
    """Runs a method's ablations, and corrects the method's measured cost.

    An ablation that is taken from the cache takes no time now. Its cost still belongs to the cost of the method.

    Args:
        language_model: the model that is measured.
        outcomes: a function that takes masks, `(ablations, sources)` bool. It returns the log-odds of each ablation,
            and the cost of all ablations together.
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
        """Return the cost that the method would have had if all its ablations had been run now.

        Args:
            measured: the cost that was measured while the method ran.
        """
        return Cost(
            max(0.0, measured.seconds - self._spent.seconds) + self._due.seconds,
            max(0.0, measured.tokens - self._spent.tokens) + self._due.tokens,
            self._due.memory or measured.memory,
        )
