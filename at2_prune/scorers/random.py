"""Score sources at random. Random scores are the baseline of every comparison."""

from __future__ import annotations

import torch

from ..ablation import seeded_generator
from .base import Scorer, ScorerOptions, Task

__all__ = ["RandomScorer"]


class RandomScorer(Scorer):
    """Draws scores uniformly between 0 and 1. The same question and seed always give the same scores."""

    name = "random"
    reads_prompt = False

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> RandomScorer:
        return cls(options.seed)

    def score(self, task: Task) -> torch.Tensor:
        return torch.rand(len(task.prompt.sources), generator=seeded_generator(self.seed, task.question))
