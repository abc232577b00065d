"""Average attention: attention mass of the draft's rows, averaged over layers and heads; AT2 before training."""

from __future__ import annotations

import torch

from ..attention.rows import DRAFT_ROWS, RowGroup
from .base import Task

__all__ = ["AverageAttentionScorer"]


class AverageAttentionScorer:
    """Scores sources by the mean over all heads (the baseline of AT2, section 4)."""

    name = "average_attention"
    row_groups: tuple[RowGroup, ...] = (DRAFT_ROWS,)
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        return task.draft.mass[DRAFT_ROWS].float().mean((0, 1)).cpu()
