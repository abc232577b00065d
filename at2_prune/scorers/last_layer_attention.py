"""Last-layer attention: attention mass of the draft's rows in the last layer, averaged over its heads."""

from __future__ import annotations

import torch

from ..attention.rows import DRAFT_ROWS, RowGroup
from .base import Task

__all__ = ["LastLayerAttentionScorer"]


class LastLayerAttentionScorer:
    """Scores sources by the last layer that has attention."""

    name = "last_layer_attention"
    row_groups: tuple[RowGroup, ...] = (DRAFT_ROWS,)
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        return task.draft.mass[DRAFT_ROWS][-1].float().mean(0).cpu()
