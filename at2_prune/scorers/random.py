"""Random scores: the floor."""

from __future__ import annotations

import hashlib

import torch

from ..coefficients import RowGroup
from .base import Task

__all__ = ["RandomScorer", "seeded_generator"]


def seeded_generator(seed: int, question: str) -> torch.Generator:
    """A generator that is the same for a question whatever ran before it."""
    digest = hashlib.sha256(f"{seed} {question}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))


class RandomScorer:
    """Scores uniform between 0 and 1, the same each time for one question and seed."""

    name = "random"
    row_groups: tuple[RowGroup, ...] = ()
    uses_draft = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def score(self, task: Task) -> torch.Tensor:
        return torch.rand(len(task.prompt.sources), generator=seeded_generator(self.seed, task.question))
