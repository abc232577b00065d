"""A cross-encoder reranker: question and source read together."""

from __future__ import annotations

import os

import torch
from transformers import AutoModelForSequenceClassification

from ..attention.rows import RowGroup
from ..errors import InputError
from .base import Task
from .encoder import Encoder

__all__ = ["CrossEncoderScorer"]


class CrossEncoderScorer:
    """The relevance that a sequence classifier with one output gives to question and source.

    Args:
        model: Hub id or path, `cross-encoder/ms-marco-MiniLM-L6-v2` for instance.
        batch_size: pairs read at once.

    Raises:
        InputError: it cannot be loaded or has more than one output; raised when the first question is scored.
    """

    name = "cross_encoder"
    row_groups: tuple[RowGroup, ...] = ()
    uses_draft = False

    def __init__(self, model: str | os.PathLike[str], batch_size: int = 32) -> None:
        self.model = model
        self.batch_size = batch_size
        self._encoder: Encoder | None = None

    def prepare(self, device: torch.device) -> Encoder:
        """Load the reranker, if that has not been done."""
        if self._encoder is None:
            encoder = Encoder(AutoModelForSequenceClassification, self.model, device)
            if encoder.model.config.num_labels != 1:
                raise InputError(
                    f"{os.fspath(self.model)!r} classifies into {encoder.model.config.num_labels} labels; a reranker "
                    "has one output"
                )
            self._encoder = encoder
        return self._encoder

    def score(self, task: Task) -> torch.Tensor:
        encoder = self.prepare(task.language_model.device)
        texts = task.titled_texts
        scores = [torch.empty(0)]
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            scores.append(encoder([task.question] * len(batch), batch)[0].logits[:, 0].float().cpu())
        return torch.cat(scores)
