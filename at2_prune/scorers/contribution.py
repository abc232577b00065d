"""Contribution weights: attention x value magnitude x alignment with the head output, averaged over all heads."""

from __future__ import annotations

import torch

from ..attention.rows import RowGroup
from .base import Task

__all__ = ["ContributionScorer"]

CONTRIBUTION = RowGroup("draft", measure="contribution")


class ContributionScorer:
    """Scores sources by what their tokens add to the heads' outputs; see `at2_prune.attention.measures`."""

    name = "contribution"
    row_groups: tuple[RowGroup, ...] = (CONTRIBUTION,)
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        return task.draft.mass[CONTRIBUTION].float().mean((0, 1)).cpu()
