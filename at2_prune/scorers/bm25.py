"""BM25 scores of a question's sources."""

from __future__ import annotations

import torch

from ..errors import need_package
from .base import Scorer, Task

__all__ = ["BM25Scorer"]


class BM25Scorer(Scorer):
    """Scores sources by Lucene's BM25 (k1 = 1.5, b = 0.75, English stop words), which bm25s computes.

    The corpus consists of the question's sources only.

    Raises:
        MissingExtraError: bm25s is not installed.
    """

    name = "bm25"
    reads_prompt = False

    def __init__(self) -> None:
        need_package("bm25s", "eval", "The method bm25")

    def score(self, task: Task) -> torch.Tensor:
        import bm25s

        question, *texts = bm25s.tokenize([task.question, *task.titled_texts], return_ids=False, show_progress=False)
        if not question or not any(texts):  # bm25s fails without words in the question or in the sources
            return torch.zeros(len(texts))
        index = bm25s.BM25()
        index.index(texts, show_progress=False)
        return torch.from_numpy(index.get_scores(question)).float()
