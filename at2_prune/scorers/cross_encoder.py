"""A cross-encoder reranker, which reads question and source together."""

from __future__ import annotations

import os

import torch
from transformers import AutoModelForSequenceClassification

from ..errors import InputError
from .base import Scorer, ScorerOptions, Task
from .encoder import Encoder

__all__ = ["CrossEncoderScorer"]


class CrossEncoderScorer(Scorer):
    """Scores sources by the output of a sequence classifier that reads question and source together.

    Args:
        model: the reranker's Hub id or path, for example `cross-encoder/ms-marco-MiniLM-L6-v2`.
        batch_size: the number of pairs in a batch.

    Raises:
        InputError: the model cannot be loaded or has more than one output; raised by `prepare`, or when the first
            question is scored.
    """

    name = "cross_encoder"
    reads_prompt = False

    def __init__(self, model: str | os.PathLike[str], batch_size: int = 32) -> None:
        self.model = model
        self.batch_size = batch_size
        self._encoder: Encoder | None = None

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> CrossEncoderScorer:
        if options.cross_encoder is None:
            raise InputError("the method cross_encoder needs a reranker's Hub id or path")
        return cls(options.cross_encoder)

    def prepare(self, device: torch.device) -> None:
        self._load(device)

    def _load(self, device: torch.device) -> Encoder:
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
        encoder = self._load(task.language_model.device)
        texts = task.titled_texts
        scores = [torch.empty(0)]
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            scores.append(encoder([task.question] * len(batch), batch)[0].logits[:, 0].float().cpu())
        return torch.cat(scores)
