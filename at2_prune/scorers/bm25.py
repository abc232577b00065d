"""Score sources by BM25."""

from __future__ import annotations

import torch

from ..errors import need_package
from .base import Scorer, Task

__all__ = ["BM25Scorer"]


class BM25Scorer(Scorer):
    """Scores sources by BM25 as in Lucene, with k1 = 1.5, b = 0.75 and English stop words. bm25s computes the scores.

    The corpus holds only the sources of the one question.

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
        if not question or not any(texts):  # bm25s fails if the question or all sources have no words
            return torch.zeros(len(texts))
        index = bm25s.BM25()
        index.index(texts, show_progress=False)
        return torch.from_numpy(index.get_scores(question)).float()
