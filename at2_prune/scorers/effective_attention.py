"""Effective attention: the part of attention that can affect the heads' outputs, averaged over layers and heads."""

from __future__ import annotations

import torch

from ..attention.rows import RowGroup
from .base import Task

__all__ = ["EffectiveAttentionScorer"]

EFFECTIVE = RowGroup("draft", measure="effective")


class EffectiveAttentionScorer:
    """Scores sources by effective attention (Naim and Asher 2024, arXiv 2410.18541; `at2_prune.attention.measures`)."""

    name = "effective_attention"
    row_groups: tuple[RowGroup, ...] = (EFFECTIVE,)
    uses_draft = True

    def score(self, task: Task) -> torch.Tensor:
        task.need_draft()
        return task.draft.mass[EFFECTIVE].float().mean((0, 1)).cpu()
