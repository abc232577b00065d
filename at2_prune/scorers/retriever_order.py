"""Score sources by the retriever's ranking: its scores, or else the order in which it returned the passages."""

from __future__ import annotations

import torch

from .base import Scorer, Task

__all__ = ["RetrieverOrderScorer"]


class RetrieverOrderScorer(Scorer):
    """Scores sources by the retriever's scores, or else by the order of the passages.

    The order is used if any passage has no score. An earlier source then scores higher than a later source.
    """

    name = "retriever_order"
    reads_prompt = False

    def score(self, task: Task) -> torch.Tensor:
        known = [passage.score for passage in task.passages if passage.score is not None]
        if len(known) == len(task.passages):
            return torch.tensor([known[index] for index in task.prompt.source_passage], dtype=torch.float)
        return torch.arange(0, -len(task.prompt.sources), -1, dtype=torch.float)
