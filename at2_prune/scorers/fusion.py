"""Fusion: add the weighted scores of a retriever to the scores of an attention method."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch

from ..models.language_model import LanguageModel
from .base import Scorer, ScorerOptions, Task
from .dense import DenseScorer
from .scout import ScoutScorer

__all__ = ["WEIGHT", "FusionScorer", "standardised"]

WEIGHT = 0.3
"""The weight of the retriever's scores. The scores from attention have the weight 1. See docs/research.md, entry 4."""


class FusionScorer(Scorer):
    """Adds a retriever's weighted scores to the scores of another method.

    Both kinds of scores are first standardised over the question's sources. If every passage has a finite
    `Passage.score`, the values of `Passage.score` are the retriever's scores. Otherwise, `fallback` computes the
    retriever's scores.

    Args:
        attention: the scorer that reads attention, for example scout.
        fallback: the scorer to use if a passage has no finite score, for example `DenseScorer`.
        weight: the weight of the retriever's scores.

    Example:
        >>> standardised(torch.tensor([1.0, 2.0, 3.0]))
        tensor([-1.,  0.,  1.])
    """

    name = "fusion"

    def __init__(self, attention: Scorer, fallback: Scorer, weight: float = WEIGHT) -> None:
        self.attention = attention
        self.fallback = fallback
        self.weight = weight
        self.uses_draft = attention.uses_draft or fallback.uses_draft
        self.row_groups = tuple(dict.fromkeys([*attention.row_groups, *fallback.row_groups]))

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> FusionScorer:
        return cls(ScoutScorer.create("scout", options), DenseScorer(options.embedder))

    @property
    def reads_prompt(self) -> bool:  # type: ignore[override]
        """Return whether at least one of the two scorers reads the prompt."""
        return self.attention.reads_prompt or self.fallback.reads_prompt

    @property
    def layers(self) -> Collection[int] | None:  # type: ignore[override]
        """The layers that the attention scorer reads."""
        return self.attention.layers

    def check(self, model: str) -> None:
        for scorer in (self.attention, self.fallback):
            scorer.check(model)

    def open(self, language_model: LanguageModel) -> None:
        for scorer in (self.attention, self.fallback):
            scorer.open(language_model)

    def prepare(self, device: torch.device) -> None:
        for scorer in (self.attention, self.fallback):
            scorer.prepare(device)

    def score(self, task: Task) -> torch.Tensor:
        own = [passage.score for passage in task.passages]
        if all(score is not None and math.isfinite(score) for score in own):
            retrieved = torch.tensor([own[index] for index in task.prompt.source_passage], dtype=torch.float)
        else:
            retrieved = self.fallback.score(task).cpu().float()
        return standardised(self.attention.score(task).cpu().float()) + self.weight * standardised(retrieved)


def standardised(scores: torch.Tensor) -> torch.Tensor:
    """Subtract the mean from the scores, and divide by their standard deviation. Scores that are all equal become 0.

    Args:
        scores: `(sources,)`.
    """
    if len(scores) < 2:
        return torch.zeros_like(scores)
    return (scores - scores.mean()) / (scores.std() + 1e-9)
