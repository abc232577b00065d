"""Random scores: the floor."""

from __future__ import annotations

import torch

from ..ablation import seeded_generator
from ..attention.rows import RowGroup
from .base import Task

__all__ = ["RandomScorer"]


class RandomScorer:
    """Scores uniform between 0 and 1, the same each time for one question and seed."""

    name = "random"
    row_groups: tuple[RowGroup, ...] = ()
    uses_draft = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, task: Task) -> torch.Tensor:
        return torch.rand(len(task.prompt.sources), generator=seeded_generator(self.seed, task.question))
