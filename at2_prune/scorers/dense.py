"""Score sources by dense retrieval: the cosine similarity of sentence embeddings."""

from __future__ import annotations

import os

import torch

from ..encoders.embedder import Embedder
from .base import Scorer, ScorerOptions, Task

__all__ = ["DenseScorer"]


class DenseScorer(Scorer):
    """Scores sources by the cosine similarity of the source's embedding and the question's embedding.

    Args:
        embedder: the name of the embedder; see `Embedder`.
        batch_size: see `Embedder`.

    Raises:
        MissingExtraError: see `Embedder`.
        InputError: see `Embedder`.
    """

    name = "dense"
    reads_prompt = False

    def __init__(self, embedder: str | os.PathLike[str] | None = None, batch_size: int = 32) -> None:
        self._embedder = Embedder(embedder, batch_size)
        self.embedder = self._embedder.name
        self.batch_size = batch_size

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> DenseScorer:
        return cls(options.embedder)

    def check(self, model: str) -> None:
        self._embedder.check()

    def prepare(self, device: torch.device) -> None:
        self._embedder.load(device)

    def score(self, task: Task) -> torch.Tensor:
        if not task.titled_texts:
            return torch.zeros(0)
        self._embedder.load(task.language_model.device)
        return self._embedder.passages(task.titled_texts) @ self._embedder.question(task.question)
